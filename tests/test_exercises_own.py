"""The example of docs/exercises.md runs as it stands there, and answers what the page says."""

import re
from pathlib import Path

import pytest

import rlhf_lab.exercises as exercises

PAGE = (Path(__file__).parent.parent / "docs" / "exercises.md").read_text("utf-8")
SOURCE = re.search(r"```python\n(.+?)```", PAGE, re.S)[1]


@pytest.fixture
def example(tmp_path, monkeypatch):
    monkeypatch.setattr(exercises, "EXERCISES", dict(exercises.EXERCISES))
    path = tmp_path / "own.py"
    path.write_text(SOURCE, encoding="utf-8")
    names = {}
    exec(compile(SOURCE, str(path), "exec"), names)
    return names


def test_the_example_answers_what_the_page_says(example):
    verdict = example["check"](lambda r, m: -example["advantage"](r, m), "advantage")
    shown = re.search(r"```text\n(.+?)```", PAGE, re.S)[1].splitlines()
    for line in shown:
        assert line == "..." or line in str(verdict)


def test_the_example_knows_its_own_mistake_and_its_own_solution(example):
    exercise = exercises.EXERCISES["advantage"]
    assert exercises.check(exercise.mistakes[0].wrong, "advantage").mistake == (
        "a mean for each review"
    )
    assert exercises.check(exercise.reference, "advantage").status == "right"
    forgot = exercises.check(lambda rewards, mask: rewards - rewards.mean(), "advantage")
    assert forgot.mistake
