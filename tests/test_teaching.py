"""A teacher's week, as docs/teaching.md tells it: every command in it does what it says."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
from scripts import ROOT, course
from test_solved import solve, tagged

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.__main__ import main

PAGE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
ELSEWHERE = {
    "lab": "tests/browser/servers.py",
    "cockpit": "tests/browser/servers.py",
    "test": ".ci/run",
}
"""Commands that start a server or are CI itself, and who runs them."""


def commands() -> list[list[str]]:
    """All that the page tells to type to course.py, as words."""
    return [found.split() for found in re.findall(r"python3 course\.py ([\w ./-]+)", PAGE)]


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """The folder above the course after the teacher's week, with one student who did 05."""
    above = tmp_path_factory.mktemp("week")
    (above / "course-folder").mkdir()
    student = above / "handed-in" / "Anna"
    student.mkdir(parents=True)
    notebook = nbformat.read(ROOT / "notebooks" / "05_measuring_kl.ipynb", as_version=4)
    for cell in tagged(notebook):
        solve(cell)
    nbformat.write(notebook, student / "05_measuring_kl.ipynb")
    asked = questions.predictions("05", questions.notebooks()["05_measuring_kl"])[0]
    guesses = {asked.name: {"question": asked.text, "low": asked.low, "high": asked.high,
                            "guess": asked.low}}  # fmt: skip
    (student / "predictions.json").write_text(json.dumps(guesses), encoding="utf-8")
    return above


def test_the_fenced_commands_of_the_week_run_in_their_order(week, monkeypatch, capsys):
    part = PAGE[PAGE.index("## A week before") : PAGE.index("## Before the first class")]
    fenced = "\n".join(re.findall(r"```\n(.*?)```", part, re.DOTALL))
    monkeypatch.chdir(week / "course-folder")
    monkeypatch.setattr("rlhf_lab.classroom.materials.find_browser", lambda: None)
    ran = []
    for line in filter(None, fenced.splitlines()):
        words = line.removeprefix("python3 course.py ").split()
        if words[0] in course.CLASSROOM:
            assert main(words) == 0, (line, capsys.readouterr().err)
            ran.append(words[0])
        elif words[0] == "doctor":
            done = subprocess.run(
                [sys.executable, *course.TASKS["doctor"][0]], cwd=ROOT, capture_output=True
            )
            assert done.returncode in (0, 1), done.stderr
    assert ran == ["materials", "key", "handout", "report", "grade"]
    assert {path.name for path in week.iterdir()} == {
        "course-folder", "handed-in", "materials", "answer-key.html", "course", "course.zip",
        "handed-in-predictions.html", "handed-in-grades.csv", "handed-in-summary.csv",
    }  # fmt: skip
    assert re.search(r"^Anna: (\d+) of \1 right$", capsys.readouterr().out, re.MULTILINE)


def test_every_command_of_the_page_exists_and_is_run_by_a_test():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for words in commands():
        assert words[0] in course.TASKS, words
        if words[0] in ELSEWHERE:
            runner = (ROOT / ELSEWHERE[words[0]]).read_text(encoding="utf-8")
            assert words[0] in runner
        else:
            assert f'"{words[0]}"' in tests, words
    assert ["handout", "--nbgrader", "../class"] in commands()
