"""Estimate how long each notebook takes, beside the minutes that it states.

A student reads all prose and all code that is in sight, looks at every output, guesses, plays with
what moves, and does every exercise in the minutes of its heading. A section that is marked *For the
curious* is left out, from its cell to the next heading of the same level.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WORDS = 120
"""Words of prose read in a minute: it is a second language, and each sentence is new."""
CODE, LINE, PICTURE, EQUATION = 4, 1, 20, 20
"""Seconds for a line of code, a printed line, a picture, a displayed equation."""
GUESS = 1
"""Minutes for a prediction."""
LIVE = {"Knobs(": 2, "Explorer(": 3, "Cockpit(": 5}
"""Minutes for what moves, where it stands in sight."""
QUESTIONS = {"## Before you start": 2, "**Exit question.**": 1}
"""Minutes for thinking about the questions under such a heading."""
WORK = re.compile(r"^##+ (?:Exercise: \w+|Your turn) \((\d+) minutes\)$", re.MULTILINE)
CURIOUS = re.compile(r"^#+ (?:For the curious|.*\n+\*For the curious)", re.MULTILINE)
"""In the heading, or at the start of the text below it."""
MEANT_TO_BE_WRITTEN = re.compile(r"^(check|solution)\(|^my_\w+ = |\.reveal\(", re.MULTILINE)
"""Code that is no reading: a student runs it, or fills it in."""

Cell = dict[str, Any]


class Time(NamedTuple):
    """Minutes of one notebook."""

    reading: float
    doing: float

    @property
    def total(self) -> float:
        """Reading and doing."""
        return self.reading + self.doing


def source(cell: Cell) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def for_everybody(cells: list[Cell]) -> list[Cell]:
    """The cells that are not below a heading *For the curious*."""
    kept, depth = [], 0  # depth: of the curious heading that is open, 0 for none
    for cell in cells:
        found = re.search(r"^(#+) ", source(cell), re.MULTILINE)
        if found and cell["cell_type"] == "markdown" and (not depth or len(found[1]) <= depth):
            depth = len(found[1]) if CURIOUS.search(source(cell)) else 0
        if not depth:
            kept.append(cell)
    return kept


def reading_seconds(cell: Cell) -> float:
    """Prose and equations, or code in sight and outputs."""
    text = source(cell)
    if cell["cell_type"] == "markdown":
        prose, equations = re.subn(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
        words = re.sub(r"\]\([^)]*\)|</?[a-z]+>", " ", prose).split()
        return 60 * len([w for w in words if re.search(r"\w", w)]) / WORDS + EQUATION * equations
    seconds = 0.0
    for output in cell["outputs"]:
        picture = "image/png" in output.get("data", {})
        seconds += PICTURE if picture else LINE * len("".join(output.get("text", "")).splitlines())
    metadata = cell["metadata"]
    hidden = metadata.get("jupyter", {}).get("source_hidden") or "exercise" in metadata.get(
        "tags", []
    )
    if not (hidden or "Prediction(" in text or MEANT_TO_BE_WRITTEN.search(text)):
        seconds += CODE * len([line for line in text.splitlines() if line.strip()])
    return seconds


def doing_minutes(cell: Cell) -> float:
    """Exercises and questions, or guesses and what moves."""
    text = source(cell)
    if cell["cell_type"] == "markdown":
        asked = sum(minutes for words, minutes in QUESTIONS.items() if words in text)
        return asked + sum(int(minutes) for minutes in WORK.findall(text))
    if cell["metadata"].get("jupyter", {}).get("source_hidden"):
        return 0
    live = sum(minutes for call, minutes in LIVE.items() if call in text)
    return live + GUESS * text.count("Prediction(")


def estimate(path: Path) -> Time:
    """What a notebook takes, from its file with outputs."""
    cells = for_everybody(json.loads(path.read_text(encoding="utf-8"))["cells"])
    return Time(sum(map(reading_seconds, cells)) / 60, sum(map(doing_minutes, cells)))


def stated(path: Path) -> int:
    """The minutes that a notebook states in its first cell."""
    first = source(json.loads(path.read_text(encoding="utf-8"))["cells"][0])
    found = re.search(r"\*\*(\d+) minutes", first)
    if found is None:
        raise ValueError(f"{path.name} does not state its **N minutes** in its first cell")
    return int(found[1])


if __name__ == "__main__":
    print("notebook                      reading  doing  both  stated")
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        time = estimate(path)
        numbers = f"{time.reading:7.0f} {time.doing:6.0f} {time.total:5.0f} {stated(path):7}"
        print(f"{path.stem:29} {numbers}")
