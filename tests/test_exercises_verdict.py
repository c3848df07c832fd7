"""What a verdict shows, what it adds after several tries, and what it remembers."""

import ast
import re

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from scripts import ROOT

import rlhf_lab.exercises as exercises
from rlhf_lab.exercises import EXERCISES, check, hints
from rlhf_lab.exercises.cells import Cells, assigned, watch
from rlhf_lab.exercises.exercise import Choice, Exercise
from rlhf_lab.exercises.verdict import WIDTH, Verdict

FUNCTIONS = [e for e in EXERCISES.values() if isinstance(e, Exercise)]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(exercises, "_done", set())
    monkeypatch.setattr(exercises, "_unnamed", exercises.Counter())
    monkeypatch.setattr(exercises, "_cells", None)


def test_text_is_wrapped_at_word_ends_and_tables_are_not():
    verdict = Verdict("wrong", "word " * 40 + "\n  a table " + 100 * "=")
    lines = repr(verdict).splitlines()
    assert max(len(line) for line in lines[:-1]) <= WIDTH
    assert lines[-1] == "  a table " + 100 * "="
    assert " ".join(repr(verdict).split()) == " ".join(verdict.text.split())


@pytest.mark.parametrize(
    ("status", "sign"), [("right", "✔"), ("not done yet", "○"), ("mistake", "✘"), ("wrong", "✘")]
)
def test_html_has_a_sign_a_colour_and_the_same_words(status, sign):
    verdict = Verdict(status, "Not yet: a < b & c.\n  1  2\n  3  4\nHint: think.")
    page = verdict._repr_html_()
    assert f">{sign}<" in page
    assert re.search(r"border-left: 5px solid var\(--jp-[\w-]+, #\w{6}\)", page)
    assert page.count("<pre") == 1
    words = re.sub(r"<[^>]+>", " ", page).replace("&lt;", "<").replace("&amp;", "&")
    assert words.split() == [sign, *verdict.text.split()]


def test_html_stresses_a_word_between_stars_and_leaves_products_alone():
    page = Verdict("wrong", "It is *the* token, not 2*x*y.\n  a *row*")._repr_html_()
    assert "It is <em>the</em> token, not 2*x*y." in page
    assert "a *row*" in page


def test_html_runs_nothing_that_a_student_wrote():
    def terminal_reward(scores, mask):
        raise ValueError("<script>alert(1)</script>")

    page = check(terminal_reward)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_table_names_output_review_and_token():
    def returns_to_go(rewards, mask, gamma):
        return EXERCISES["returns_to_go"].reference(rewards, mask, gamma) + torch.eye(3, 5) * 0.77

    text = check(returns_to_go).text
    assert "review 1, token 1" in text

    def measure(logprobs, ref_logprobs, scores, golds):
        p = logprobs.exp()
        return p @ scores, p @ golds, p @ (ref_logprobs - logprobs), -(p @ logprobs)

    text = check(measure).text
    assert re.search(r"^  kl +-", text, re.M)
    assert "Your `kl` has the wrong sign" in text


def test_the_review_that_differs_is_shown_in_words():
    text = check(lambda responses, eos_id: responses != eos_id, "response_mask").text
    assert "review 0 of the input: very good <eos> fresh fresh" in text


def test_an_exception_shows_the_students_own_line():
    def terminal_reward(scores, mask):
        rewards = torch.zeros(mask.shape)
        return rewards.view(7, 7, 7)  # this line

    text = check(terminal_reward).text
    assert "return rewards.view(7, 7, 7)  # this line" in text


def test_right_ones_are_counted_by_notebook_and_once():
    mean = EXERCISES["terminal_reward"].reference
    for _ in range(2):
        text = check(mean, "terminal_reward").text
        assert text.endswith("1 of 4 exercises of this notebook are done.")
    assert "2 of 4" in check("b", "shorter_reviews").text
    check(lambda scores, mask: 2 * mean(scores, mask), "terminal_reward")
    assert "1 of 4" in check("b", "shorter_reviews").text


def test_to_look_at_a_wrong_answer_afterwards_undoes_nothing():
    """Who has chosen rightly may read why the others are wrong; a function is as it stands now."""
    check("b", "shorter_reviews")
    assert check("a", "shorter_reviews").status == "mistake"
    mean = EXERCISES["terminal_reward"].reference
    assert "2 of 4" in check(mean, "terminal_reward").text


def test_what_is_for_the_curious_is_counted_apart():
    assert "1 of 2 exercises for the curious are done." in check("b", "sampled_entropy").text
    entropy = EXERCISES["token_entropy"].reference
    assert "1 of 3 exercises of this notebook are done." in check(entropy, "token_entropy").text


def test_help_grows_with_failures_that_have_no_name():
    def strange(scores, mask):
        return (scores[:, None] * 3.3).sin() * mask.cumsum(1)

    texts = [check(strange, "terminal_reward").text for _ in range(5)]
    assert [len(set(texts[:2])), "One hint more" in texts[2]] == [1, True]
    assert "scatter" in texts[2]
    assert f"    rewards = scores.new_zeros({hints.BLANK})" in texts[3]
    assert 'solution("terminal_reward")' in texts[4]
    check(EXERCISES["terminal_reward"].reference, "terminal_reward")
    assert check(strange, "terminal_reward").text == texts[0]


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda e: e.name)
def test_a_version_with_blanks_is_python_and_has_blanks(exercise):
    code = hints.with_blanks(exercise)
    assert code.startswith(f"def {exercise.name}(")
    assert hints.BLANK in code
    assert '"""' not in code
    ast.parse(code)
    assert hints.words(exercise)


@pytest.mark.parametrize("answer", ["(c)", "C", " c ", "c)", "c."])
def test_letters_may_be_dressed(answer):
    question = next(e for e in EXERCISES.values() if isinstance(e, Choice) and e.answer == "c")
    assert check(answer, question.name).status == "right"


def test_a_value_stands_for_its_letter():
    assert check(0.125, "smallest_beta").text.startswith("Right. 0.125 is answer c.")
    assert check(0.5, "smallest_beta").text.startswith("Not yet. 0.5 is answer d.")
    assert "Write one of these letters in quotes" in check(0.3, "smallest_beta").text


def test_a_cell_that_failed_is_not_judged_by_what_it_set_before(monkeypatch):
    shell = InteractiveShell()
    cells = Cells(shell)
    monkeypatch.setattr(exercises, "_cells", cells)
    shell.run_cell("shorter_reviews = 'b'")
    assert check("b", "shorter_reviews").status == "right"
    broken_cells = (("shorter_reviews = c", "NameError"), ("shorter_reviews = (", "SyntaxError"))
    for broken, error in broken_cells:
        shell.run_cell(broken)
        verdict = check("b", "shorter_reviews")
        assert verdict.status == "not done yet"
        assert f"has stopped with {error}" in verdict.text
    shell.run_cell("shorter_reviews = 'b'\n1 / 0")
    assert cells.failure("shorter_reviews") in ("", "ZeroDivisionError")
    shell.run_cell("def shorter_reviews(): ...\n1 / 0")
    assert cells.failure("shorter_reviews") == ""  # the function is new, whatever came after
    shell.run_cell("shorter_reviews = 'b'")
    assert check("b", "shorter_reviews").status == "right"


def test_outside_a_notebook_nothing_is_watched():
    assert watch() is None
    assert assigned("x = 1\ndef f(): ...\nfor y in (): z = 2") == {"x", "f"}
    assert assigned("def f(:\n    x = 1\ny = (") == {"f", "y"}


def test_a_heading_that_is_a_question_gets_no_full_stop():
    text = check("b", "late_beta").text
    assert "Read again: 08_mode_collapse: Too late?" in text
    assert "?." not in text


def test_the_ratios_of_a_reason_are_those_that_the_notebook_prints():
    path = ROOT / "notebooks" / "09_the_ppo_loop.ipynb"
    (printed,) = re.findall(r"dropout +: ratios ([\d.]+ to [\d.]+),", path.read_text("utf-8"))
    assert f"from {printed}." in " ".join(check("c", "dropout_ratio").text.split())
