"""One page with all predictions of a class: what was asked, what was guessed, and what is right."""

from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rlhf_lab import plots
from rlhf_lab.classroom import questions
from rlhf_lab.classroom.figure import guesses_figure
from rlhf_lab.classroom.handed_in import Student, find, plain
from rlhf_lab.classroom.page import element, page, picture
from rlhf_lab.classroom.questions import Question
from rlhf_lab.translation import tr
from rlhf_lab.ui.predict import read_guesses

MOST_OWN, MOST_CHOICES = 40, 12
"""Questions that are not the course's, and choices of one of them."""
Entry = dict[str, Any]


class Report(NamedTuple):
    """A class's guesses."""

    page: bytes
    """An HTML file."""
    left_out: list[str]
    """A line on each file that could not be read, and the like."""


def report(folder: Path, course: Path = questions.COURSE) -> Report:
    """The page of a class.

    Args:
        folder: for each student a folder with a predictions.json, or one file STUDENT.json.
        course: whose notebooks hold the questions.

    Raises:
        ValueError: nobody has guessed anything; says what there is.
        OSError: the folder cannot be read.
    """
    students, left_out = find(folder, ".json")
    guesses = {s.name: kept for s in students if (kept := _read(s, left_out))}
    if not guesses:
        raise ValueError("\n".join([*left_out, f"{folder} holds no predictions of a class"]))
    notebooks = questions.notebooks(course)
    asked = [q for name, n in notebooks.items() for q in questions.predictions(name, n)]
    # No name of a student is on the page, so that a class may see it.
    text = "{n} of {total} students have guessed something."
    parts = [element("p", tr(text, n=len(guesses), total=len(students)))]
    known, last = {question.name for question in asked}, ""
    asked += _own({name: kept for name, kept in _all(guesses) if name not in known})
    for question in asked:
        entries = [kept[question.name] for kept in guesses.values() if question.name in kept]
        if entries and question.notebook != last:
            parts.append(element("h2", last := question.notebook))
        parts += _section(question, entries) if entries else []
    title = tr("Predictions: {folder}", folder=plain(folder.resolve().name))
    return Report(page(title, parts), left_out)


def _read(student: Student, left_out: list[str]) -> dict[str, Entry]:
    """All guesses of a student; where a question is in two files, the first one counts."""
    found: dict[str, Entry] = {}
    for path in student.files:
        if "predictions" in path.name or len(student.files) == 1:
            try:
                found = read_guesses(path) | found
            except (ValueError, OSError):
                left_out.append(f"{student.name}, {plain(path.name)}: no file of predictions")
    if not student.files:
        left_out.append(f"{student.name}: no predictions")
    return found


def _all(guesses: dict[str, dict[str, Entry]]) -> list[tuple[str, Entry]]:
    return [pair for kept in guesses.values() for pair in kept.items()]


def _own(kept: dict[str, Entry]) -> list[Question]:
    """Questions that a teacher has added; they are known from the students' files alone."""
    found = []
    for name, entry in sorted(kept.items())[:MOST_OWN]:
        choices = tuple(plain(choice, 60) for choice in entry.get("choices", ())[:MOST_CHOICES])
        if "question" in entry:
            limits = {key: entry[key] for key in ("low", "high") if key in entry}
            text = plain(entry["question"], 300)
            found.append(Question(name, "Other questions", text, choices, **limits))
    return found


def _section(question: Question, entries: list[Entry]) -> list[str]:
    """The figure of a question, its numbers as words, and how many guesses fit no more."""
    counted = [entry for kept in entries if (entry := _entry(question, kept)) is not None]
    parts = []
    if counted:
        figure = guesses_figure(question.name, counted)
        parts.append(picture(plots.png(figure), _words(question, counted)))
    if len(counted) < len(entries):
        few, name = len(entries) - len(counted), plain(question.name)
        text = "{name}: {n} of {total} guesses answer another version of the question."
        note = tr(text, name=name, n=few, total=len(entries))
        parts.append(element("p", note, "note"))
    return parts


def _entry(question: Question, kept: Entry) -> Entry | None:
    """A guess as one of the question as it is now, or None; old files hold the words alone."""
    guess, right = kept["guess"], question.right
    entry: Entry = {"question": question.text, "guess": guess}
    if question.choices:
        entry["choices"] = [*question.choices]
        if isinstance(guess, str):
            if guess not in question.choices:
                return None
            entry["guess"] = question.choices.index(guess)
        elif len(kept.get("choices", ())) != len(question.choices):
            return None
        right = kept.get("result") if right is None and "choices" in kept else right
    else:
        if "choices" in kept or isinstance(guess, str) or not _within(question, guess):
            return None
        entry |= {"low": question.low, "high": question.high}
        right = kept.get("result") if right is None else right
    return entry if right is None else entry | {"result": right}


def _within(question: Question, guess: float) -> bool:
    return question.low <= guess <= question.high


def _words(question: Question, entries: list[Entry]) -> str:
    """What the figure shows, for those who cannot see it."""
    guesses = [entry["guess"] for entry in entries]
    results = Counter(entry["result"] for entry in entries if "result" in entry).most_common(1)
    right = results[0][0] if results else None
    if question.choices:
        counts = Counter(guesses)
        said = [f"{text}: {counts[i]}" + tr(" (the answer)") * (i == right)
                for i, text in enumerate(question.choices)]  # fmt: skip
        return f"{question.text} {'; '.join(said)}."
    text = "{n} guesses from {low:g} to {high:g}, median {middle:g}."
    if right is not None:
        text = "{n} guesses from {low:g} to {high:g}, median {middle:g}; the answer is {right:g}."
    numbers = {"low": min(guesses), "high": max(guesses), "middle": median(guesses)}
    return f"{question.text} {tr(text, n=len(guesses), right=right, **numbers)}"
