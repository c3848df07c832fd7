"""Natural answers to the exercises, as students write them, and what is wrong with each."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One answer that somebody wrote."""

    exercise: str
    says: str
    """What its author did."""
    attempt: Callable[..., Any]
    accepts: tuple[str, ...] = ()
    """The diagnoses that are true of it; empty where the answer is right."""
