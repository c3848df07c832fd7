"""A class's guesses as a figure, whatever the students' files hold."""

import json

import pytest

from rlhf_lab import plots
from rlhf_lab.classroom.figure import guesses_figure
from rlhf_lab.ui.predict import read_guesses

NUMBER = {"question": "How many?", "low": 0, "high": 10}
CHOICE = {"question": "Up or down?", "choices": ["up", "down"]}


def class_figure(name, files):
    return guesses_figure(name, [read_guesses(file)[name] for file in files])


def class_files(tmp_path, name, guesses, result):
    files = []
    for student, guess in enumerate(guesses):
        files.append(tmp_path / f"{student}.json")
        files[-1].write_text(json.dumps({name: {"guess": guess, "result": result}}), "utf-8")
    return files


def new_files(tmp_path, name, entries):
    files = []
    for student, entry in enumerate(entries):
        files.append(tmp_path / f"{student}.json")
        files[-1].write_text(json.dumps({name: entry}), "utf-8")
    return files


def words(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_a_class_of_numbers(tmp_path):
    entries = [NUMBER | {"guess": guess, "result": 5} for guess in (1, 2, 2, 9)]
    figure = class_figure("n", new_files(tmp_path, "n", entries))
    (ax,) = figure.axes
    assert sum(bar.get_height() for bar in ax.patches) == 4
    assert ax.get_xlim() == (0, 10)
    assert ax.lines[0].get_xdata()[0] == 5
    assert figure.get_suptitle() == "How many?\n4 guesses"
    assert ax.get_legend().get_texts()[0].get_text() == "the answer: 5"
    assert all(tick == round(tick) for tick in ax.get_yticks())


def test_a_class_of_choices(tmp_path):
    three = {"question": "Where?", "choices": ["up", "down", "away"]}
    entries = [three | {"guess": guess, "result": 1} for guess in (0, 0, 1)]
    figure = class_figure("c", new_files(tmp_path, "c", entries))
    (ax,) = figure.axes
    assert words(ax) == ["up", "✓ down", "away"]
    assert [bar.get_width() for bar in ax.patches] == [2, 1, 0]
    assert [text.get_text() for text in ax.texts] == ["2", "1", "0"]
    assert figure.get_suptitle() == "Where?\n3 guesses"
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_a_class_in_two_languages_and_with_old_files_adds_up(tmp_path):
    entries = [CHOICE | {"guess": 1}, CHOICE | {"guess": 0}, {"guess": "down"}]
    entries += [{"question": "?", "choices": ["上", "下"], "guess": 1}]
    (ax,) = class_figure("c", new_files(tmp_path, "c", entries)).axes
    assert words(ax) == ["up", "down"]
    assert [bar.get_width() for bar in ax.patches] == [1, 3]


def test_the_right_choice_is_that_of_the_table_not_of_the_students(tmp_path):
    four = {"question": "Which?", "choices": ["all", "three", "two", "kl"]}
    entries = [four | {"guess": 0, "result": 0}] * 3
    (ax,) = class_figure("06_home", new_files(tmp_path, "06_home", entries)).axes
    assert words(ax) == ["all", "three", "two", "✓ kl"]


def test_old_files_alone_are_a_class_too(tmp_path):
    (ax,) = class_figure("c", class_files(tmp_path, "c", ["up", "down", "up"], "up")).axes
    bars = dict(zip(words(ax), ax.patches, strict=True))
    assert {answer: bar.get_width() for answer, bar in bars.items()} == {"down": 1, "✓ up": 2}


@pytest.mark.parametrize(
    "answer", [r"$\frac{$", "\ud800", "<script>", "x" * 9_999, r"$\sqrt{2}$" * 50, "", "\n" * 99]
)
def test_no_answer_of_a_student_can_spoil_the_figure(tmp_path, answer):
    answers = [answer, "up", "up"]
    plots.png(class_figure("c", class_files(tmp_path, "c", answers, answer)))
    entries = [{"question": answer, "choices": [answer, "up"] * 20, "guess": 30, "result": 1}]
    plots.png(class_figure("c", new_files(tmp_path, "c", entries)))


@pytest.mark.parametrize(
    "entry",
    [
        {"guess": 1e12}, {"guess": 0}, NUMBER | {"guess": 3, "result": 1e12},
        {"question": "?", "low": -1e12, "high": 1e12, "guess": 0},
        {"question": "?", "low": 0, "high": 0, "guess": 0},
        {"question": "?", "low": 0, "high": 1e-320, "guess": 0},
    ],
)  # fmt: skip
def test_no_number_of_a_student_can_spoil_the_figure(tmp_path, entry):
    plots.png(class_figure("n", new_files(tmp_path, "n", [entry])))


def test_the_result_of_one_student_is_not_the_truth(tmp_path):
    files = class_files(tmp_path, "n", [1, 2, 9], 5)
    lie = json.loads(files[0].read_text()) | {"n": {"guess": 1, "result": 999}}
    files[0].write_text(json.dumps(lie))
    (ax,) = class_figure("n", files).axes
    assert ax.lines[0].get_xdata()[0] == 5


def test_a_word_among_numbers_is_counted_and_not_drawn(tmp_path):
    figure = class_figure("n", class_files(tmp_path, "n", ["abc", 1, 2], 2))
    (ax,) = figure.axes
    assert figure.get_suptitle() == "n\n2 guesses; 1 of another kind not drawn"
    assert sum(bar.get_height() for bar in ax.patches) == 2
