"""Results that a notebook reads from a file: rows of named tuples, as CSV in this folder."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from rlhf_lab.files import write_whole

Row = TypeVar("Row", bound=NamedTuple)


def read_rows(file: str | Path, row: type[Row], kinds: Sequence[type]) -> list[Row]:
    """The rows of a file, in its order.

    Args:
        file: its first line names the fields of `row`.
        row: the named tuple that a line becomes.
        kinds: what each field holds: str, int or float.

    Raises:
        ValueError: it does not hold such rows.
    """
    with Path(file).open(encoding="utf-8", newline="") as lines:
        head, *found = list(csv.reader(lines)) or [[]]
    if head != list(row._fields):
        raise ValueError(f"{file} holds no such rows: its first line names other columns")
    try:
        return [row(*(k(x) for k, x in zip(kinds, line, strict=True))) for line in found]
    except ValueError as error:
        raise ValueError(f"{file} holds a line that is no such row: {error}") from error


def write_rows(file: str | Path, row: type[Row], rows: Iterable[Row]) -> None:
    """Write rows, whole or not at all; every float comes back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(row._fields)
    writer.writerows([repr(x) if isinstance(x, float) else x for x in line] for line in rows)
    write_whole(file, text.getvalue().encode())
