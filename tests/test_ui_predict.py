"""Prediction boxes keep the first guess, survive a restart, and add up to a class."""

import json
import multiprocessing
import re
import threading
import time

import pytest
import torch

from rlhf_lab.files import locked
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.ui.predict import FILE, Prediction, read_guesses

NUMBER = {"question": "How many?", "low": 0, "high": 10}
CHOICE = {"question": "Up or down?", "choices": ["up", "down"]}


@pytest.fixture
def number(tmp_path):
    return Prediction("t_number", "How many?", low=0, high=10, folder=tmp_path)


@pytest.fixture
def choice(tmp_path):
    return Prediction("t_choice", "Up or down?", choices=["up", "down"], folder=tmp_path)


def test_a_guess_is_committed_by_the_button_and_shown_beside_the_result(number, tmp_path):
    number.control.value = "4"
    number.button.click()
    assert number.guess == 4
    assert number.control.disabled
    assert "Committed" in number.button.description
    strip = number.reveal(7.5).value
    assert "answer <b>7.5</b>" in strip
    assert "your guess <b>4</b>" in strip
    assert "guessed <b>4</b>" in number.text.value
    assert read_guesses(tmp_path / FILE) == {"t_number": NUMBER | {"guess": 4, "result": 7.5}}


def test_a_choice_is_kept_as_its_index(choice, tmp_path):
    choice.commit("down")
    assert read_guesses(tmp_path / FILE) == {"t_choice": CHOICE | {"guess": 1}}
    strip = choice.reveal("up").value
    assert read_guesses(tmp_path / FILE) == {"t_choice": CHOICE | {"guess": 1, "result": 0}}
    assert "✓ up <small>answer</small>" in strip
    assert "○ down <small>your guess</small>" in strip


def test_a_right_guess_has_both_marks_on_one_choice(choice):
    choice.commit("up")
    strip = choice.reveal("up").value
    assert "✓ up <small>answer and your guess</small>" in strip
    assert "○" not in strip


@pytest.mark.parametrize(("low", "high", "answer"), [(-2, 3, -2.5), (0, 1, 7.0), (0, 1, 0.5)])
def test_no_mark_leaves_the_line(tmp_path, low, high, answer):
    box = Prediction("t", "?", low=low, high=high, folder=tmp_path)
    box.commit(high)
    for left in re.findall(r"left: (.+?)%", box.reveal(answer).value):
        assert 0 <= float(left) <= 100


def test_enter_commits_what_is_sent_after_it(number):
    enter(number)
    number.control.value = "4"  # pages send what was typed after the key
    assert number.guess == 4


def test_enter_commits_what_had_been_sent_before_it(number):
    number.control.value = "4"
    assert number.guess is None
    enter(number)
    wait_until(lambda: number.guess == 4)


def test_enter_on_nothing_says_so(number):
    enter(number)
    wait_until(lambda: "Answer first" in number.text.value)
    number.control.value = "4"
    assert number.guess is None  # the key was for the answer before


def enter(box):
    box.control._handle_custom_msg({"event": "submit"}, [])


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_old_error_goes_when_the_answer_changes(number):
    number.control.value = "many"
    number.button.click()
    assert "“many” is not a number" in number.text.value
    number.control.value = "5"
    assert number.text.value == ""


@pytest.mark.parametrize(
    ("typed", "low", "high", "guess"),
    [
        ("2,5", 0, 10, 2.5), (" 2.5 ", 0, 10, 2.5), ("−3", -5, 5, -3), ("-3", -5, 5, -3),
        ("60%", 0, 100, 60), ("60 %", 0, 100, 60), ("60,5%", 50, 100, 60.5), ("60%", 0, 1, 0.6),
        ("60％", 0, 100, 60), ("６０", 0, 100, 60), ("1e1", 0, 100, 10), ("0.6", 0, 1, 0.6),
    ],
)  # fmt: skip
def test_what_is_a_number(tmp_path, typed, low, high, guess):
    box = Prediction("t", "?", low=low, high=high, folder=tmp_path)
    box.control.value = typed
    box.button.click()
    assert box.guess == pytest.approx(guess), box.text.value


@pytest.mark.parametrize(
    ("typed", "low", "high", "message"),
    [
        ("60%", 1, 128, "this is no share: write a number from 1 to 128"),
        ("10%", -1, 1, "this is no share"),
        ("", 0, 1, "Answer first"), ("2,5,1", 0, 9, "is not a number; write it as 2.5 or −3"),
        ("%", 0, 100, "is not a number"), ("nan", 0, 1, "nan is not between 0 and 1"),
        ("1e999", 0, 1, "inf is not between"), ("<b>", 0, 1, "&lt;b&gt;"),
        ("-3", 0, 1, "−3 is not between 0 and 1"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named(tmp_path, typed, low, high, message):
    box = Prediction("t", "?", low=low, high=high, folder=tmp_path)
    box.control.value = typed
    box.button.click()
    assert message in box.text.value
    assert box.guess is None


def test_the_answer_lies_in_the_table(tmp_path):
    box = Prediction("06_home", "Which?", choices=["all", "three", "two", "kl"], folder=tmp_path)
    assert "✓ kl" in box.reveal().value


@pytest.mark.parametrize("name", ["t_unknown", "05_spread"])
def test_an_answer_that_nobody_knows(tmp_path, name):
    box = Prediction(name, "Which?", choices=["k1", "k2"], folder=tmp_path)
    with pytest.raises(ValueError, match="needs the result"):
        box.reveal()


def test_a_number_or_another_word_is_no_answer_of_a_choice(number, choice):
    with pytest.raises(ValueError, match="'left' is none of the choices of 't_choice'"):
        choice.reveal("left")
    with pytest.raises(ValueError, match="needs the result"):
        number.reveal()


def test_every_answer_has_one_sentence_of_reason():
    for name, (right, reason) in ANSWERS.items():
        assert re.fullmatch(r"(\d\d|cockpit)_\w+", name)
        assert right is None or right >= 0
        assert re.fullmatch(r"[A-ZΑ-Ωπ“].{30,}\.", reason), name


def test_a_result_may_be_a_tensor(number, tmp_path):
    number.commit(3)
    number.reveal(torch.tensor(7.5))
    assert read_guesses(tmp_path / FILE) == {"t_number": NUMBER | {"guess": 3, "result": 7.5}}


def test_the_first_guess_counts(choice):
    choice.commit("up")
    with pytest.raises(ValueError, match="committed “up” already"):
        choice.commit("down")
    assert choice.guess == "up"


def test_the_first_guess_counts_in_another_notebook_too(choice, tmp_path):
    other = Prediction("t_choice", "Up or down?", choices=["up", "down"], folder=tmp_path)
    choice.commit("up")
    with pytest.raises(ValueError, match="committed “up” already"):
        other.commit("down")
    assert choice.guess == other.guess == "up"


def test_a_restart_keeps_it(number, tmp_path):
    number.commit(3)
    again = Prediction("t_number", "How many?", low=0, high=10, folder=tmp_path)
    assert (again.guess, again.control.disabled, again.control.value) == (3, True, "3")


def test_without_a_guess_the_result_is_shown_and_nothing_written(choice, tmp_path):
    assert "did not commit" in choice.reveal("up").value
    assert choice.control.disabled
    choice.control.value = "down"
    choice.button.click()  # a click may have waited behind a running cell
    assert "there is no guess" in choice.text.value
    assert not (tmp_path / FILE).exists()


def test_a_button_without_an_answer_says_so(number, choice):
    for box in (number, choice):
        box.button.click()
        assert "Answer first" in box.text.value
        assert box.guess is None


@pytest.mark.parametrize("old", [True, False])
def test_a_question_that_was_reworded_keeps_the_old_guess(tmp_path, old):
    kept = {"guess": "up"} if old else {"question": "?", "choices": ["up"], "guess": 0}
    (tmp_path / FILE).write_text(json.dumps({"t_choice": kept}), "utf-8")
    again = Prediction("t_choice", "Up or not?", choices=["yes", "no"], folder=tmp_path)
    assert (again.guess, again.control.disabled) == ("up", True)
    assert "guessed <b>up</b>" in again.text.value
    assert "the question has changed since" in again.reveal("yes").value
    assert read_guesses(tmp_path / FILE)["t_choice"]["guess"] == kept["guess"]


def test_a_guess_in_another_language_is_the_same_choice(choice, tmp_path):
    choice.commit("down")
    again = Prediction("t_choice", "上还是下？", choices=["上", "下"], folder=tmp_path)
    assert (again.guess, again.control.value) == ("下", "下")
    assert "○ 下" in again.reveal("上").value
    assert read_guesses(tmp_path / FILE)["t_choice"] == CHOICE | {"guess": 1, "result": 0}


@pytest.mark.parametrize(
    ("kept", "result"), [({"guess": "up"}, "up"), ({"guess": "up", "result": "down"}, "up")]
)
def test_an_old_file_is_read_and_goes_on(choice, tmp_path, kept, result):
    (tmp_path / FILE).write_text(json.dumps({"t_choice": kept, "x": {"guess": 2.5}}), "utf-8")
    again = Prediction("t_choice", "Up or down?", choices=["up", "down"], folder=tmp_path)
    assert again.guess == "up"
    again.reveal(result)
    assert read_guesses(tmp_path / FILE) == {
        "t_choice": {"guess": "up", "result": "up"},
        "x": {"guess": 2.5},
    }


def test_a_number_that_has_become_a_choice_is_kept(number, tmp_path):
    number.commit(3)
    again = Prediction("t_number", "How many?", choices=["few", "many"], folder=tmp_path)
    again.reveal("few")
    assert read_guesses(tmp_path / FILE) == {"t_number": NUMBER | {"guess": 3}}


def test_guesses_outside_are_refused(number, choice):
    with pytest.raises(ValueError, match="11 is not between 0 and 10"):
        number.commit(11)
    with pytest.raises(ValueError, match=r"choose one of \('up', 'down'\)"):
        choice.commit("left")


@pytest.mark.parametrize("limit", [0, 10])
def test_the_limits_are_answers_too(number, limit):
    number.commit(limit)
    assert number.guess == limit


def static(widget):
    shown = widget._repr_mimebundle_()
    return shown["text/plain"], shown["text/html"]


@pytest.mark.parametrize(
    ("box", "guesses", "answer"), [("number", (3, 4), 7), ("choice", ("up", "down"), "up")]
)
def test_what_is_kept_in_a_notebook_does_not_depend_on_the_guess(
    request, tmp_path, box, guesses, answer
):
    """nbval compares it, and readers have another guess."""
    box = request.getfixturevalue(box)
    shown = []
    for guess in (None, *guesses):
        (tmp_path / FILE).unlink(missing_ok=True)
        if guess is not None:
            again = {"low": box.low, "high": box.high, "choices": box.choices}
            box = Prediction(box.name, box.question, folder=tmp_path, **again)
            box.commit(guess)
        before = static(box)
        shown.append((before, static(box.reveal(answer)), static(box)))
    assert shown[0] == shown[1] == shown[2]


def test_a_reader_without_a_kernel_sees_question_choices_and_answer(choice, number):
    for text in static(choice):
        assert "Up or down?" in text
        assert text.rindex("up") < text.rindex("down")
        assert "Answer" not in text
    for text in static(choice.reveal("down")):
        assert "Answer. Up or down? → down" in re.sub("</?[bp]>", "", text)
    assert "Answer: down" in static(choice)[0]
    assert "a number from 0 to 10" in static(number)[0]
    # GitHub keeps neither styles nor drawings.
    assert not re.search("style|svg|class|<!--", static(choice)[1] + static(number.reveal(3))[1])


@pytest.mark.parametrize("text", ["{", "[1]", '{"t_number": 3}', '{"t_number": {}}'])
def test_a_damaged_file_is_named_and_left_alone(number, tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    number.control.value = "4"
    number.button.click()
    assert "holds no predictions" in number.text.value
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


def test_limits_or_choices(tmp_path):
    for options in ({}, {"low": 1}, {"low": 0, "high": 1, "choices": ["a"]}):
        with pytest.raises(ValueError, match="needs either low and high or choices"):
            Prediction("t", "?", folder=tmp_path, **options)


def test_a_guess_waits_until_another_notebook_has_written_its_own(number, tmp_path):
    with locked(tmp_path / FILE, wait=0):
        waiting = threading.Thread(target=number.commit, args=(3,))
        waiting.start()
        waiting.join(0.3)
        assert number.guess is None
    waiting.join()
    assert number.guess == 3


def commit_many(folder, first):
    for n in range(first, first + 25):
        Prediction(f"q{n}", "?", low=0, high=100, folder=folder).commit(n)


@pytest.mark.slow
def test_two_notebooks_that_commit_at_the_same_time_lose_no_guess(tmp_path):
    context = multiprocessing.get_context("spawn")
    notebooks = [context.Process(target=commit_many, args=(tmp_path, first)) for first in (0, 25)]
    for notebook in notebooks:
        notebook.start()
    for notebook in notebooks:
        notebook.join()
        assert notebook.exitcode == 0
    kept = read_guesses(tmp_path / FILE)
    assert {name: entry["guess"] for name, entry in kept.items()} == {f"q{n}": n for n in range(50)}


@pytest.mark.parametrize(
    "entry",
    [
        '{"guess": null}', '{"guess": [1]}', '{"guess": {}}', '"my guess"', '["guess"]', "1",
        '{"guess": true}', '{"guess": NaN}', '{"guess": Infinity}', '{"guess": 1e400}',
        '{"guess": 1e13}', '{"result": 1}', '{"guess": 1, "more": 2}',
        '{"guess": 1, "result": null}',
        '{"question": "?", "guess": 1}', '{"question": 1, "low": 0, "high": 1, "guess": 1}',
        '{"question": "?", "low": 0, "high": 1, "guess": 2}',
        '{"question": "?", "low": 0, "high": 1, "guess": "up"}',
        '{"question": "?", "low": 0, "high": NaN, "guess": 0}',
        '{"question": "?", "choices": ["up"], "guess": 1}',
        '{"question": "?", "choices": ["up"], "guess": -1}',
        '{"question": "?", "choices": ["up"], "guess": true}',
        '{"question": "?", "choices": ["up"], "guess": "up"}',
        '{"question": "?", "choices": ["up"], "guess": 0, "result": 1}',
        '{"question": "?", "choices": "up", "guess": 0}', '{"choices": ["up"], "guess": 0}',
        '{"question": "?", "choices": [1], "guess": 0}',
        "[" * 100_000, '{"guess": "' + "x" * 2_000_000 + '"}', f'{{"guess": {"9" * 400}}}',
    ],
)  # fmt: skip
def test_a_file_that_no_box_has_written_is_named_and_left_alone(tmp_path, entry):
    file = tmp_path / FILE
    file.write_text(f'{{"t_number": {entry}}}', "utf-8")
    for use in (
        lambda: read_guesses(file),
        lambda: Prediction("t_number", "How many?", low=0, high=10, folder=tmp_path),
    ):
        with pytest.raises(ValueError, match=r"predictions\.json holds no predictions"):
            use()
    assert file.read_text("utf-8") == f'{{"t_number": {entry}}}'
