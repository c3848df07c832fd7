"""Prediction boxes keep the first guess, survive a restart, and add up to a class."""

import json
import multiprocessing
import threading

import pytest
import torch

from rlhf_lab import plots
from rlhf_lab.files import locked
from rlhf_lab.ui.predict import FILE, Prediction, class_figure, read_guesses


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
    assert "guessed <b>4</b>" in number.reveal(7.5).text.value
    assert "Answer: <b>7.5</b>" in number.text.value
    assert read_guesses(tmp_path / FILE) == {"t_number": {"guess": 4, "result": 7.5}}


def test_a_result_may_be_a_tensor(number, tmp_path):
    number.commit(3)
    number.reveal(torch.tensor(7.5))
    assert read_guesses(tmp_path / FILE) == {"t_number": {"guess": 3, "result": 7.5}}


def test_the_first_guess_counts(choice):
    choice.commit("up")
    with pytest.raises(ValueError, match="committed 'up' already"):
        choice.commit("down")
    assert choice.guess == "up"


def test_the_first_guess_counts_in_another_notebook_too(choice, tmp_path):
    other = Prediction("t_choice", "Up or down?", choices=["up", "down"], folder=tmp_path)
    choice.commit("up")
    with pytest.raises(ValueError, match="committed 'up' already"):
        other.commit("down")
    assert choice.guess == other.guess == "up"


def test_a_restart_keeps_it(number, tmp_path):
    number.commit(3)
    again = Prediction("t_number", "How many?", low=0, high=10, folder=tmp_path)
    assert (again.guess, again.control.disabled, again.control.value) == (3, True, "3")


def test_without_a_guess_the_result_is_shown_and_nothing_written(choice, tmp_path):
    assert "did not commit" in choice.reveal("up").text.value
    assert choice.control.disabled
    choice.control.value = "down"
    choice.button.click()  # a click may have waited behind a running cell
    assert "did not commit" in choice.text.value
    assert not (tmp_path / FILE).exists()


def test_a_button_without_an_answer_says_so(number, choice):
    for box in (number, choice):
        box.button.click()
        assert "Answer first" in box.text.value
        assert box.guess is None


def test_what_is_no_number_is_named(number):
    number.control.value = "2,5"
    number.button.click()
    assert "is not a number; write it as 2.5" in number.text.value
    number.control.value = " 2.5"
    number.button.click()
    assert number.guess == 2.5


def test_a_question_that_was_reworded_keeps_the_old_guess(choice, tmp_path):
    choice.commit("up")
    again = Prediction("t_choice", "Up or not?", choices=["yes", "no"], folder=tmp_path)
    assert (again.guess, again.control.disabled) == ("up", True)
    assert "guessed <b>up</b>" in again.text.value


def test_guesses_outside_are_refused(number, choice):
    with pytest.raises(ValueError, match="11 is not between 0 and 10"):
        number.commit(11)
    with pytest.raises(ValueError, match=r"choose one of \('up', 'down'\)"):
        choice.commit("left")


@pytest.mark.parametrize("limit", [0, 10])
def test_the_limits_are_answers_too(number, limit):
    number.commit(limit)
    assert number.guess == limit


def test_the_output_does_not_depend_on_the_guess(number):
    before = repr(number)
    number.commit(3)
    assert repr(number) == before


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


def class_files(tmp_path, name, guesses, result):
    files = []
    for student, guess in enumerate(guesses):
        files.append(tmp_path / f"{student}.json")
        files[-1].write_text(json.dumps({name: {"guess": guess, "result": result}}), "utf-8")
    return files


def test_a_class_of_numbers(tmp_path):
    (ax,) = class_figure("n", class_files(tmp_path, "n", [1, 2, 2, 9], 5)).axes
    assert sum(bar.get_height() for bar in ax.patches) == 4
    assert ax.lines[0].get_xdata()[0] == 5
    assert ax.get_title() == "n: 4 guesses; it is 5"


def test_a_class_of_choices(tmp_path):
    (ax,) = class_figure("c", class_files(tmp_path, "c", ["up", "down", "up"], "up")).axes
    bars = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.patches, strict=True))
    assert {answer: bar.get_width() for answer, bar in bars.items()} == {"down": 1, "up": 2}


def test_a_guess_waits_until_another_notebook_has_written_its_own(number, tmp_path):
    with locked(tmp_path / FILE, wait=0):
        waiting = threading.Thread(target=number.commit, args=(3,))
        waiting.start()
        waiting.join(0.3)
        assert number.guess is None
    waiting.join()
    assert number.guess == 3


def test_a_question_that_nobody_answered(tmp_path):
    with pytest.raises(ValueError, match="none of the 1 files holds a guess for 'x'"):
        class_figure("x", class_files(tmp_path, "c", ["up"], "up"))


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
    assert read_guesses(tmp_path / FILE) == {f"q{n}": {"guess": n} for n in range(50)}


@pytest.mark.parametrize(
    "entry",
    [
        '{"guess": null}', '{"guess": [1]}', '{"guess": {}}', '"my guess"', '["guess"]', "1",
        '{"guess": true}', '{"guess": NaN}', '{"guess": Infinity}', '{"guess": 1e400}',
        '{"result": 1}', '{"guess": 1, "more": 2}', '{"guess": 1, "result": null}',
        "[" * 100_000, '{"guess": "' + "x" * 2_000_000 + '"}', f'{{"guess": {"9" * 400}}}',
    ],
)  # fmt: skip
def test_a_file_that_no_box_has_written_is_named_and_left_alone(tmp_path, entry):
    file = tmp_path / FILE
    file.write_text(f'{{"t_number": {entry}}}', "utf-8")
    for use in (
        lambda: read_guesses(file),
        lambda: class_figure("t_number", [file]),
        lambda: Prediction("t_number", "How many?", low=0, high=10, folder=tmp_path),
    ):
        with pytest.raises(ValueError, match=r"predictions\.json holds no predictions"):
            use()
    assert file.read_text("utf-8") == f'{{"t_number": {entry}}}'


@pytest.mark.parametrize(
    "answer", [r"$\frac{$", "\ud800", "<script>", "x" * 9_999, r"$\sqrt{2}$" * 50, "", "\n" * 99]
)
def test_no_answer_of_a_student_can_spoil_the_figure(tmp_path, answer):
    answers = [answer, "up", "up"]
    plots.png(class_figure("c", class_files(tmp_path, "c", answers, answer)))


def test_the_result_of_one_student_is_not_the_truth(tmp_path):
    files = class_files(tmp_path, "n", [1, 2, 9], 5)
    lie = json.loads(files[0].read_text()) | {"n": {"guess": 1, "result": 999}}
    files[0].write_text(json.dumps(lie))
    (ax,) = class_figure("n", files).axes
    assert "it is 5" in ax.get_title()


def test_a_word_among_numbers_is_counted_and_not_drawn(tmp_path):
    (ax,) = class_figure("n", class_files(tmp_path, "n", ["abc", 1, 2], 2)).axes
    assert "3 guesses; it is 2; 1 of another kind not drawn" in ax.get_title()
    assert sum(bar.get_height() for bar in ax.patches) == 2
