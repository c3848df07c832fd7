"""A file of results: one line for each run that has ended, whole, whoever else is writing.

The columns are the settings of `PPOConfig` and the numbers of an `Outcome`.
"""

import csv
import dataclasses
import math
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from rlhf_lab.config import PPOConfig
from rlhf_lab.files import locked, write_whole


class Outcome(NamedTuple):
    """Where a run ended: exact numbers of the policy, averaged over prompts, and its last batch."""

    config: PPOConfig
    score: float
    gold: float
    kl: float
    entropy: float
    regret: float
    """J* − J(π) ≥ 0; where η = β = 0, J* is the highest score."""
    distinct: int
    top_share: float

    @property
    def row(self) -> list[str]:
        """As text, in the order of `COLUMNS`; every float comes back from it bit for bit."""
        return [str(value) for value in (*dataclasses.asdict(self.config).values(), *self[1:])]

    @classmethod
    def from_row(cls, row: Sequence[str]) -> Self:
        """The inverse of `row`.

        Raises:
            ValueError: a value is missing, is none that a run can have, or there are too many.
        """
        if len(row) != len(COLUMNS):
            raise ValueError(f"it has {len(row)} columns instead of {len(COLUMNS)}")
        values: dict[str, Any] = {}
        for (name, kind), text in zip(COLUMNS.items(), row, strict=True):
            try:
                values[name] = None if text == "None" and name == "kl_target" else kind(text)
            except ValueError as error:
                raise ValueError(f"{name} is {text!r}") from error
            if kind is float and not math.isfinite(values[name] or 0.0):
                raise ValueError(f"{name} is {text!r}")
        numbers = [values.pop(name) for name in cls._fields[1:]]
        return cls(PPOConfig.from_dict(values), *numbers)


def _plain(kind: Any) -> type:
    """int, float or str for the type of a field, which may be `float | None` or a `Literal`."""
    plain = [t for t in (int, float) if t is kind or t in typing.get_args(kind)]
    return plain[0] if plain else str


_SETTINGS = typing.get_type_hints(PPOConfig)
COLUMNS = {
    name: _plain(kind)
    for name, kind in (_SETTINGS | typing.get_type_hints(Outcome)).items()
    if name != "config"
}
"""The columns of a results file, settings first, and what each holds: int, float or str."""


def read_outcomes(file: str | Path) -> list[Outcome]:
    """The results of a sweep so far, one for each run. The file is not changed.

    A last line without its end was cut off, as by a copy that broke off, and is left out.

    Raises:
        ValueError: it is not a file of such results.
    """
    file = Path(file)
    outcomes: dict[PPOConfig, Outcome] = {}
    for number, line in enumerate(_lines(file)[0][1:], start=2):
        try:
            (row,) = csv.reader([line])
            outcome = Outcome.from_row(row)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file}, line {number} is no result of a sweep: {error}") from error
        outcomes.setdefault(outcome.config, outcome)
    return list(outcomes.values())


def add_outcomes(file: str | Path, outcomes: Iterable[Outcome], *, over: bool = False) -> None:
    """Write results into a file beside those that it holds, whole or not at all.

    Args:
        file: of results, or a new one.
        outcomes: to be written.
        over: replace those that the file holds already, instead of leaving them.

    Raises:
        ValueError: it is not a file of such results.
        OSError: it cannot be written.
    """
    file, n = Path(file), len(_SETTINGS)
    with locked(file, wait=60):
        (head, *lines), rest = _lines(file)
        rows = {tuple(line.split(",")[:n]): line for line in lines}
        for outcome in outcomes:
            settings, new = tuple(outcome.row[:n]), ",".join(outcome.row)
            rows[settings] = new if over else rows.get(settings, new)
            # What was cut off stays behind everything else until its run has been done again.
            if new.startswith(rest) or settings == tuple(rest.split(",")[:n]):
                rest = ""
        content = "\n".join([head, *rows.values()]) + "\n" + rest
        if not file.exists() or content.encode() != file.read_bytes():
            write_whole(file, content.encode())


def _lines(file: Path) -> tuple[list[str], str]:
    """The lines of a results file, its head first, and what stands behind the last whole one."""
    head = ",".join(COLUMNS)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except ValueError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}); name another file") from error
    *lines, rest = text.split("\n")
    if lines[:1] != [head] and not (head.startswith(text) and not lines):
        raise ValueError(
            f"{file} does not hold results of this version's sweeps: its first line names other "
            "columns; move it away, or name another file"
        )
    return (lines, rest) if lines else ([head], "")
