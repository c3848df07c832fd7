"""Minutes are honest: stated ones are near an estimate, the same everywhere, and at most 75."""

import json
import re

import pytest
from scripts import ROOT, load

from rlhf_lab.exercises import EXERCISES

times = load("tools/times.py")
LESSONS = sorted(times.NOTEBOOKS.glob("[0-9]*.ipynb"))
TEACHING = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
by_stem = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": [text]}


def code(text, outputs=(), **metadata):
    return {
        "cell_type": "code", "metadata": metadata, "source": [text], "outputs": list(outputs)
    }  # fmt: skip


def estimate(tmp_path, *cells):
    path = tmp_path / "00_test.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return times.estimate(path)


@by_stem
def test_stated_minutes_are_near_the_estimate(path):
    """Readers take up to two fifths longer: the estimate knows nothing of second thoughts."""
    total = times.estimate(path).total
    assert total - 1 <= times.stated(path) <= 1.4 * total
    assert times.stated(path) <= 75


@by_stem
def test_the_plan_for_teachers_has_the_same_minutes(path):
    plan = re.search(rf"^### {path.stem[:2]} .*?(?=^##)", TEACHING, re.M | re.S)[0]
    assert int(re.search(r"\((\d+) minutes", plan)[1]) == times.stated(path)
    assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, re.M))) == times.stated(path)


def test_an_exercise_has_the_same_minutes_in_its_notebook():
    headings = {}
    for path in LESSONS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            found = re.findall(r"### Exercise: (\w+) \((\d+) minutes\)", times.source(cell))
            headings |= {name: int(minutes) for name, minutes in found}
    assert headings == {name: exercise.minutes for name, exercise in EXERCISES.items()}


def test_an_exercise_for_the_curious_is_known_as_one():
    aside = set()
    for path in LESSONS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        kept = times.for_everybody(cells)
        for cell in cells:
            if cell not in kept:
                aside |= set(re.findall(r"### Exercise: (\w+) \(", times.source(cell)))
    assert aside == {name for name, exercise in EXERCISES.items() if exercise.curious}


def test_prose_code_and_outputs_are_read(tmp_path):
    assert estimate(tmp_path, markdown("word " * times.WORDS)) == (1, 0)
    assert estimate(tmp_path, markdown("[word](https://long.example) " * times.WORDS)) == (1, 0)
    assert estimate(tmp_path, code("x = 1\n\n" * 15)) == (1, 0)
    printed = {"output_type": "stream", "text": ["a line\n"] * 30}
    picture = {"output_type": "display_data", "data": {"image/png": "…"}}
    hidden = code("x = 1\n" * 15, [printed, picture], jupyter={"source_hidden": True})
    assert estimate(tmp_path, hidden) == (50 / 60, 0)


def test_guesses_exercises_and_knobs_are_done(tmp_path):
    cells = [
        markdown("### Exercise: measure (5 minutes)"),
        code("def measure(p):\n    ...", tags=["exercise"]),
        code("check(measure)"),
        code('guess = Prediction("00_guess", "How many?", low=0, high=1)\nguess'),
        code("guess.reveal(1)"),
        code("Knobs(draw)"),
    ]
    assert estimate(tmp_path, *cells).doing == 5 + 1 + 2


@pytest.mark.parametrize(
    "curious", ["### For the curious: more", "### More\n\n*For the curious: 3 minutes.* More."]
)
def test_what_is_for_the_curious_is_left_out(curious, tmp_path):
    words = markdown("word " * times.WORDS)
    for heading, minutes in (("### Next", 2), ("## 2. Next", 2), ("#### Below", 1)):
        cells = [words, markdown(curious), words, markdown(heading), words]
        assert round(estimate(tmp_path, *cells).reading) == minutes


def test_a_notebook_without_minutes_is_named(tmp_path):
    path = tmp_path / "00_test.ipynb"
    path.write_text(json.dumps({"cells": [markdown("# Title")]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"00_test\.ipynb does not state"):
        times.stated(path)
