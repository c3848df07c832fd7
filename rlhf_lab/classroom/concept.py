"""The concept test, from one source: as a page of the docs, on paper, for Moodle and for Canvas."""

import html
import io
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from rlhf_lab.classroom.page import element, page
from rlhf_lab.translation import tr

SOURCE = Path(__file__).with_name("concept_test.toml")
LETTERS = "abcd"
TITLE = "What do you know about the reward in PPO?"
BEFORE = (
    "{count} questions, fifteen minutes, no computer. Choose one answer each. If you do not know, "
    "leave it empty: the test shows what the course did, and gives no marks."
)


class Question(NamedTuple):
    """A question with four answers."""

    text: str
    """The beginning of a sentence that each answer ends; `code` is its only markup."""
    answers: tuple[str, str, str, str]
    right: str
    """The letter of the right one."""
    why: str
    notebook: str
    """The number of the notebook that teaches it."""


def questions(source: Path = SOURCE) -> list[Question]:
    """All questions, in the order of the course and in the language that is spoken.

    Raises:
        ValueError: the file has lost its form; names the question.
    """
    found = []
    for number, entry in enumerate(tomllib.loads(source.read_text("utf-8"))["questions"], 1):
        if sorted(entry) != sorted(Question._fields):
            raise ValueError(f"question {number} needs {', '.join(Question._fields)}")
        question = Question(**{**entry, "answers": tuple(entry["answers"])})
        if len(set(question.answers)) != len(LETTERS) or question.right not in LETTERS:
            raise ValueError(f"question {number} needs four different answers and one of {LETTERS}")
        found.append(_translated(question))
    return found


def _translated(question: Question) -> Question:
    a, b, c, d = map(tr, question.answers)
    return question._replace(text=tr(question.text), answers=(a, b, c, d), why=tr(question.why))


def files() -> dict[str, bytes]:
    """What a teacher gives out or uploads, by the names of the files."""
    test = questions()
    return {
        "concept-test.html": sheet(test),
        "concept-test-key.html": key(test),
        "concept-test-moodle.gift.txt": gift(test).encode(),
        "concept-test-canvas.zip": qti(test),
    }


def markdown(test: list[Question]) -> str:
    """Questions, and the key in a table below them."""
    lines = []
    for number, question in enumerate(test, 1):
        pairs = zip(LETTERS, question.answers, strict=True)
        answers = " ".join(f"({letter}) {text}" for letter, text in pairs)
        lines.append(f"{number}. {_starred(question.text)}\n   {_starred(answers)}")
    head = tr("| | right | because | notebook |") + "\n|---|---|---|---|"
    rows = (
        f"| {number} | {q.right} | {_starred(q.why)} | {q.notebook} |"
        for number, q in enumerate(test, 1)
    )
    return "\n".join([*lines, "", f"## {tr('Key')}", "", head, *rows])


def sheet(test: list[Question]) -> bytes:
    """The page to be printed, without a hint of the key."""
    parts = [element("p", tr(BEFORE, count=len(test))), "<ol>"]
    for question in test:
        answers = "".join(f"<li>{_html(answer)}</li>" for answer in question.answers)
        parts.append(f'<li>{_html(question.text)}<ol class="letters">{answers}</ol></li>')
    return page(TITLE, [*parts, "</ol>"])


def key(test: list[Question]) -> bytes:
    """The page for the teacher: what is right, and why."""
    parts = [element("p", "For teachers. Give it out after the second test only.", "note"), "<ol>"]
    for question in test:
        right = question.answers[LETTERS.index(question.right)]
        parts.append(
            f"<li>{_html(question.text)} <b>({question.right}) {_html(right)}</b>."
            f'<div class="answer">{_html(question.why)} '
            f"{tr('Notebook {number}.', number=question.notebook)}</div></li>"
        )
    return page(tr("{title} Key", title=tr(TITLE)), [*parts, "</ol>"])


def gift(test: list[Question]) -> str:
    """Moodle's GIFT format: https://docs.moodle.org/en/GIFT_format."""
    blocks = []
    for number, question in enumerate(test, 1):
        marks = ("=" if letter == question.right else "~" for letter in LETTERS)
        pairs = zip(marks, question.answers, strict=True)
        answers = "".join(f"\t{mark}{_escaped(answer)}\n" for mark, answer in pairs)
        why = f"\t####{_escaped(question.why)}\n"
        blocks.append(
            f"::Reward {number:02}::[html]{_escaped(question.text)} {{\n{answers}{why}}}\n"
        )
    return "\n".join(blocks)


def qti(test: list[Question]) -> bytes:
    """A QTI 1.2 package, which Canvas imports as a quiz."""
    from text2qti.config import Config
    from text2qti.qti import QTI
    from text2qti.quiz import Quiz

    lines = [f"Quiz title: {tr(TITLE)}", "shuffle answers: false", ""]
    for number, question in enumerate(test, 1):
        lines += [f"{number}. {_literal(question.text)}", f"... {_literal(question.why)}"]
        for letter, answer in zip(LETTERS, question.answers, strict=True):
            mark = "*" if letter == question.right else ""
            lines.append(f"{mark}{letter}) {_literal(answer)}")
        lines.append("")
    stream = io.BytesIO()
    QTI(Quiz("\n".join(lines), config=Config())).write(stream)
    return stream.getvalue()


def _html(text: str) -> str:
    return re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(text, quote=False))


def _escaped(text: str) -> str:
    """HTML in which GIFT's own signs are letters."""
    return re.sub(r"([\\~=#{}:])", r"\\\1", _html(text))


def _starred(text: str) -> str:
    """Markdown in which the star of π* begins no slanted word."""
    return re.sub(r"\*(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\*", text)


def _literal(text: str) -> str:
    """Markdown in which all signs outside of `code` are letters."""
    parts = re.split(r"(`.+?`)", text)
    return "".join(
        x if x[:1] == "`" else re.sub(r"([\\*_$])", r"\\\1", html.escape(x, quote=False))
        for x in parts
    )
