"""A class in nbgrader, end to end: what the teacher writes, hands out, collects, grades, exports.

Four students are made up: all right, half of it, an endless loop, and one who binds the package's
own functions to the names. `python3 course.py class-test` runs this where nbgrader is installed.
"""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from test_solved import exercise_name, solve, tagged

from rlhf_lab.classroom.nbgrader import FUNCTION, LETTER
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.exercises.exercise import Choice

LESSON = "05_measuring_kl"
SECONDS = 60
"""For a cell: an endless loop costs the test that much twice."""


def tool(folder, *arguments):
    """Run nbgrader in a folder, as if its environment were activated."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for alembic
    env = {**os.environ, "PATH": found}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def attempt(release, student):
    """The notebook that a student hands in."""
    notebook = nbformat.read(release, as_version=4)
    cells = tagged(notebook)
    for number, cell in enumerate(cells):
        name = exercise_name(cell)
        function = not isinstance(EXERCISES[name], Choice)
        if student == "copier" and function:
            cell.source = (
                f'from rlhf_lab.exercises import EXERCISES\n{name} = EXERCISES["{name}"].reference'
            )
        elif student == "loop" and number == 0:
            cell.source = f"def {name}(*given):\n    while True:\n        pass"
        elif student in ("right", "loop") or (student == "half" and number < len(cells) // 2):
            solve(cell)
    return notebook


def worth(names):
    return sum(LETTER if isinstance(EXERCISES[n], Choice) else FUNCTION for n in names)


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """The teacher's folder after all four have been graded."""
    folder = tmp_path_factory.mktemp("school") / "class"
    write = [sys.executable, "-m", "rlhf_lab.classroom", "handout", "--nbgrader", str(folder)]
    subprocess.run(write, check=True, timeout=120)
    config = folder / "nbgrader_config.py"
    config.write_text(re.sub(r"timeout = \d+", f"timeout = {SECONDS}", config.read_text("utf-8")))
    made = tool(folder, "generate_assignment", LESSON)
    assert made.returncode == 0, made.stderr
    release = folder / "release" / LESSON / f"{LESSON}.ipynb"
    for student in ("right", "half", "loop", "copier"):
        place = folder / "submitted" / student / LESSON
        place.mkdir(parents=True)
        nbformat.write(attempt(release, student), place / release.name)
    graded = tool(folder, "autograde", LESSON)
    assert graded.returncode == 0, graded.stderr
    return folder


def test_students_get_the_courses_notebook_and_no_solution(school):
    release = nbformat.read(school / "release" / LESSON / f"{LESSON}.ipynb", as_version=4)
    course = Path(__file__).resolve().parents[2] / "notebooks" / f"{LESSON}.ipynb"
    for given, ours in zip(release.cells, nbformat.read(course, 4).cells, strict=True):
        assert given.source.rstrip() == ours.source.rstrip()
        assert not given.get("outputs") or "keep-output" in given.metadata.tags


def test_points_are_as_expected(school):
    done = tool(school, "export", "--to", "grades.csv")
    assert done.returncode == 0, done.stderr
    with (school / "grades.csv").open(encoding="utf-8") as file:
        points = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    course = Path(__file__).resolve().parents[2] / "notebooks" / f"{LESSON}.ipynb"
    names = [exercise_name(cell) for cell in tagged(nbformat.read(course, as_version=4))]
    assert points == {
        "right": worth(names),
        "half": worth(names[: len(names) // 2]),
        "loop": worth(names[1:]),
        "copier": 0,
    }


def test_everybody_gets_feedback(school):
    done = tool(school, "generate_feedback", LESSON)
    assert done.returncode == 0, done.stderr
    pages = {path.parts[-3]: path for path in (school / "feedback").rglob("*.html")}
    assert set(pages) == {"right", "half", "loop", "copier"}
    assert "function of the package itself" in pages["copier"].read_text(encoding="utf-8")
