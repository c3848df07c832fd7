"""nbgrader's sources: every exercise once, no solution, and points for one's own work only."""

import json
import re

import pytest
from scripts import ROOT

from rlhf_lab import kl
from rlhf_lab.classroom import nbgrader
from rlhf_lab.classroom.__main__ import main
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.exercises.exercise import Choice


@pytest.fixture(scope="module")
def sources():
    files = nbgrader.files("1.2")
    return {
        name.split("/")[1]: json.loads(content)["cells"]
        for name, content in files.items()
        if name.endswith(".ipynb")
    }


def test_every_exercise_is_written_once_and_tested_once(sources):
    marks = [cell["metadata"]["nbgrader"] | {"source": cell["source"]} for cells in sources.values()
             for cell in cells if "nbgrader" in cell["metadata"]]  # fmt: skip
    assert sorted(m["grade_id"] for m in marks if m["solution"]) == sorted(
        f"write-{name}" for name in EXERCISES
    )
    tests = {m["grade_id"].removeprefix("check-"): m for m in marks if m["grade"]}
    assert set(tests) == set(EXERCISES)
    for name, exercise in EXERCISES.items():
        assert tests[name]["points"] == (1 if isinstance(exercise, Choice) else 2)
        assert tests[name]["locked"]
        assert f'require_right("{name}", {name})' in tests[name]["source"]
    assert len({m["grade_id"] for m in marks}) == len(marks)
    total = sum(m["points"] for m in tests.values())
    assert f"{total} points in all" in nbgrader.files("1.2")["README.md"].decode()


def test_without_nbgraders_marks_it_is_the_courses_notebook(sources):
    for name, cells in sources.items():
        course = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
        plain = [re.sub(r"\n### BEGIN.*?### END \w+( TESTS)?", "", "".join(c["source"]), flags=re.S)
                 for c in cells]  # fmt: skip
        assert plain == ["".join(cell["source"]) for cell in course]
        tags = [cell["metadata"].get("tags", []) for cell in cells if cell.get("outputs")]
        assert all("keep-output" in of_one for of_one in tags)


def test_points_are_for_what_is_right_and_ones_own():
    def k1(logprobs, ref_logprobs):
        return logprobs - ref_logprobs

    name = "negative_k1"
    exercise = EXERCISES[name]
    nbgrader.require_right(name, exercise.answer)
    with pytest.raises(AssertionError, match="Not done yet"):
        nbgrader.require_right(name, None)
    with pytest.raises(AssertionError, match="k1"):
        nbgrader.require_right("k3", k1)
    with pytest.raises(AssertionError, match="package itself"):
        nbgrader.require_right("k3", kl.k3)


def test_the_command_writes_a_folder_that_nbgrader_can_take(tmp_path, capsys):
    assert main(["handout", "--nbgrader", str(tmp_path / "class")]) == 0
    assert "its README.md says what next" in capsys.readouterr().out
    assert (tmp_path / "class" / "source" / "04_the_leash" / "04_the_leash.ipynb").exists()
    assert "get_config()" in (tmp_path / "class" / "nbgrader_config.py").read_text("utf-8")
