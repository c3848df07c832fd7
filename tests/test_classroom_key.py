"""The answer key has every prediction, task and question, with the answers that are true today."""

import html
import re

import pytest
from scripts import ROOT

from rlhf_lab.classroom import key, questions
from rlhf_lab.classroom.__main__ import main
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.exercises.exercise import Choice
from rlhf_lab.lessons.answers import ANSWERS

NOTEBOOKS = questions.notebooks(ROOT)
LESSONS = [name for name in NOTEBOOKS if name[0].isdigit()]
PAGE = html.unescape(key.key(ROOT).decode())


def outputs(name: str) -> str:
    """What a notebook has printed, with one space for many."""
    said = [o.get("text", "") for cell in NOTEBOOKS[name]["cells"] for o in cell.get("outputs", [])]
    return " ".join("".join(map("".join, said)).split())


def test_every_prediction_has_its_question_and_reason():
    names = [
        q.name for n, notebook in NOTEBOOKS.items() for q in questions.predictions(n, notebook)
    ]
    assert sorted(names) == sorted(ANSWERS)
    assert "run it" not in PAGE, "the notebooks' outputs hold all answers that cells compute"
    for name in names:
        assert f"<code>{name}</code>" in PAGE
        assert ANSWERS[name].reason in PAGE


def test_an_answer_that_a_cell_computes_is_that_of_its_output():
    def notebook(printed: str, **question):
        words = ", ".join(f"{name}={value!r}" for name, value in question.items())
        source = f"Prediction('t', 'How many?', {words})"
        asked = {"cell_type": "code", "source": source}
        shown = {"cell_type": "code", "source": "x.reveal(y)",
                 "outputs": [{"data": {"text/plain": printed}}]}  # fmt: skip
        return {"cells": [asked, shown] if printed else [asked]}

    def right(printed, **question):
        (found,) = questions.predictions("t", notebook(printed, **question))
        return found.right

    assert right("Answer. How many? → −2.5", low=-5, high=5) == -2.5
    assert right("Answer. How many? → two", choices=["one", "two"]) == 1
    assert right("Answer. How many? → three", choices=["one", "two"]) is None
    assert right("", low=0, high=1) is None


@pytest.mark.parametrize("name", LESSONS)
def test_exit_questions_and_the_questions_before_have_their_answers(name):
    (last,) = questions.parts(NOTEBOOKS[name], "Exit question")
    assert last.question
    assert last.answer
    assert "<details" not in last.question + last.answer
    before = questions.parts(NOTEBOOKS[name], "Before you start")
    assert bool(before) == (name != "00_start_here")
    assert all(part.question and part.answer for part in before)


@pytest.mark.parametrize("name", LESSONS)
def test_every_task_with_sliders_has_an_answer(name):
    assert len(questions.tasks(NOTEBOOKS[name])) == (name[:2] in key.FOUND)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("00_start_here", ["η 0.01 β 0 collapse", "η 0.1 β 0 useful", "η 5 β 0 frozen",
                           "η 0 β 0.5 word salad"]),
        ("03_too_much_of_a_good_reward", ["food : best E[gold] 2.36 for π* (η 0.08)",
                                          "2.64 for best-of-n (n 128)", "(η 0.06)", "(n 256)"]),
        ("05_measuring_kl", ["true KL 2.67 k1 2.64 k2 2.11 k3 1.92"]),
        ("06_compute_rewards", ["but +0.71", "but -0.71", "but -0.26"]),
        ("07_entropy_bonus", ["up to β = 0.1", "word salad 57%"]),
    ],
)  # fmt: skip
def test_what_is_found_with_sliders_is_what_the_notebook_prints(name, printed):
    for text in printed:
        assert text in outputs(name)


def test_letters_of_questions_are_there():
    for exercise in EXERCISES.values():
        if isinstance(exercise, Choice):
            at = PAGE.index(f"<code>{exercise.name}</code>")
            assert f"{exercise.answer}. " in PAGE[at : at + 200]


def test_the_page_loads_nothing():
    assert "<script" not in PAGE
    assert not re.findall(r"<(?:img|link|iframe)", PAGE)
    assert "<details" not in PAGE


def test_the_command_writes_the_file_that_is_named(tmp_path, capsys):
    assert main(["key", str(tmp_path / "k.html")]) == 0
    assert (tmp_path / "k.html").read_bytes() == key.key()
    assert str(tmp_path / "k.html") in capsys.readouterr().out
