"""Natural answers to the exercises, as students write them, and what is wrong with each."""

import importlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One answer that somebody wrote."""

    exercise: str
    says: str
    """What its author did."""
    attempt: Callable[..., Any]
    accepts: tuple[str, ...] = ()
    """The diagnoses that are true of it; empty where the answer is right."""


def judged(
    package: str, diagnoses: Mapping[str, tuple[str, ...]], right_after_all: Collection[str]
) -> list[Answer]:
    """The answers of a package's modules, with the diagnoses that are true of them."""
    found = []
    folder = Path(str(importlib.import_module(package).__file__)).parent
    for path in sorted(folder.glob("nb*.py")):
        module = importlib.import_module(f"{package}.{path.stem}")
        for exercise, kind, attempt, says in module.ANSWERS:
            name = attempt.__name__
            right = kind == "right" or name in right_after_all
            found.append(
                Answer(exercise, says, attempt, () if right else diagnoses.get(name, ("?",)))
            )
    return found
