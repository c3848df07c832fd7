"""Write what README and docs say about numbers of exercises, mistakes and notebooks.

`course.py format` runs it, and `course.py check` with --check, which changes no file and ends with
exit code 1 where one is out of date.
"""

import re
import sys
from pathlib import Path

from rlhf_lab.exercises import EXERCISES

ROOT = Path(__file__).resolve().parent.parent
TABLE = "docs/mistakes.md"
ROW = re.compile(r"^(\| (\d+) \|.*\| )[^|]*( \|)$", re.MULTILINE)
"""A row of the table; its number, and around its last column."""


def last_column(table: str) -> str:
    """The table of mistakes with its last column written anew."""
    rows: dict[int, list[str]] = {int(number): [] for _, number, _ in ROW.findall(table)}
    for exercise in EXERCISES.values():
        for mistake in exercise.mistakes:
            if mistake.row not in rows:
                raise ValueError(f"{TABLE} lacks row {mistake.row}, for {mistake.name!r}")
            rows[mistake.row].append(f"`{exercise.name}`: {mistake.name}")
    if empty := [row for row, names in rows.items() if not names]:
        raise ValueError(f"no exercise knows a mistake of rows {empty} of {TABLE}")
    return ROW.sub(lambda row: row[1] + "; ".join(rows[int(row[2])]) + row[3], table)


def sentences(root: Path) -> list[tuple[str, str, int]]:
    """File, pattern of a number in it, and what the number must be."""
    rows = len(ROW.findall((root / TABLE).read_text(encoding="utf-8")))
    notebooks = len(list((root / "notebooks").glob("*.ipynb")))
    return [
        ("README.md", r"\d+(?=\s+exercises\b)", len(EXERCISES)),
        (
            "README.md",
            r"\d+(?=\s+wrong\s+answers\b)",
            sum(len(e.mistakes) for e in EXERCISES.values()),
        ),
        ("README.md", r"\d+(?=\s+mistakes\]\(docs/mistakes\.md\))", rows),
        ("README.md", r"\d+(?=\s+Jupyter\s+notebooks\b)", notebooks),
        ("docs/performance.md", r"(?<=all )\d+(?=\s+notebooks,)", notebooks),
        (TABLE, r"(?<=^# )\d+(?= mistakes)", rows),
    ]


def up_to_date(root: Path) -> dict[Path, str]:
    """The files as they should be.

    Raises:
        ValueError: a sentence is no longer there, or table and exercises do not fit together.
    """
    texts = {name: (root / name).read_text(encoding="utf-8") for name, _, _ in sentences(root)}
    texts[TABLE] = last_column(texts[TABLE])
    for name, pattern, number in sentences(root):
        texts[name], found = re.subn(pattern, str(number), texts[name])
        if not found:
            raise ValueError(f"{name} has no number {pattern}; change tools/counts.py with it")
    return {root / name: text for name, text in texts.items()}


def main(args: list[str], root: Path = ROOT) -> int:
    """Write what has changed, or with --check only name it; returns the exit code."""
    try:
        wanted = up_to_date(root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if args == ["--check"]:
            print(f"{path.name} is out of date: run python3 course.py format", file=sys.stderr)
        else:
            path.write_text(wanted[path], encoding="utf-8", newline="\n")
    return 1 if args == ["--check"] and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
