"""What the notebooks ask, read from their cells: predictions, tasks, questions, with answers."""

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_lab.classroom.copies import Notebook, read
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.translation import language, tr

COURSE = Path(__file__).resolve().parents[2]
"""The folder of course.py, if the package runs from there."""
_DETAILS = re.compile(r"<details><summary>.*?</summary>(.*?)</details>", re.DOTALL)
_TASK = re.compile(r"\*\*Find|^Find |\b[Ff]ind four places")
_HEAD = re.compile(r"(?:#+ .*|\*\*[^*]*\*\*)\s*")
"""A heading, or the bold words that stand for one."""
_ENGLISH = "english"
"""In the metadata of a notebook in another language: the English text of its Markdown cells."""


class Question(NamedTuple):
    """A prediction of the course."""

    name: str
    notebook: str
    text: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    right: int | float | None = None
    """The index of the right choice, or the number; None if the notebook has not been run."""
    reason: str = ""


class Part(NamedTuple):
    """Markdown for a teacher: a question of a notebook, and its answer."""

    question: str
    answer: str


def notebooks(course: Path = COURSE) -> dict[str, Notebook]:
    """The notebooks of the course by their names, in order, in the language that is spoken.

    Raises:
        ValueError: there are none, because the package was installed alone; or one is damaged.
    """
    folder = course / "notebooks"
    found = {path.stem: read(path) for path in sorted(folder.glob("*.ipynb"))}
    if not found:
        raise ValueError(
            f"{course} holds no notebooks: run this as python3 course.py, in the course"
        )
    if language() == "en":
        return found
    return {
        name: _translated(n, folder / language() / f"{name}.ipynb") for name, n in found.items()
    }


def _translated(english: Notebook, path: Path) -> Notebook:
    if not path.exists():
        raise ValueError(f"{path} is missing: run python3 course.py translate, in the course")
    notebook = read(path)
    notebook["metadata"][_ENGLISH] = [text for _, text in texts(english)]
    return notebook


def texts(notebook: Notebook) -> list[tuple[str, str]]:
    """Each Markdown cell in English, by which its parts are found, and as students read it.

    Both have the same lines: an edition is translated line by line.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    shown = ["".join(cell["source"]) for cell in cells]
    return list(zip(notebook["metadata"].get(_ENGLISH, shown), shown, strict=True))


def lines(notebook: Notebook, english: re.Pattern[str]) -> list[str]:
    """The lines, as students read them, whose English holds the pattern."""
    return [
        line
        for cell in texts(notebook)
        for original, line in zip(*(text.split("\n") for text in cell), strict=True)
        if english.search(original)
    ]


def predictions(name: str, notebook: Notebook) -> list[Question]:
    """The predictions of a notebook, with those answers that its outputs or the package hold."""
    said = "\n".join(_said(cell) for cell in notebook["cells"])
    found = []
    for cell in notebook["cells"]:
        for call in _calls(cell, "Prediction"):
            asked = [ast.literal_eval(argument) for argument in call.args]
            kept = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            choices = tuple(kept.pop("choices", ()))
            question = Question(asked[0], name, asked[1], choices, **kept)
            found.append(question._replace(**_answer(question, said)))
    return found


def _answer(question: Question, said: str) -> dict[str, Any]:
    """The right answer and its reason; a computed answer stands behind the question's reveal."""
    kept = ANSWERS.get(question.name)
    right: int | float | None = kept.right if kept else None
    printed = re.search(re.escape(question.text) + " → (.+)", said)
    if right is None and printed is not None:
        answer = printed[1].strip()
        if question.choices:
            right = question.choices.index(answer) if answer in question.choices else None
        else:
            right = float(answer.replace("−", "-"))
    return {"right": right, "reason": tr(kept.reason) if kept else ""}


def _said(cell: dict[str, Any]) -> str:
    outputs = cell.get("outputs", [])
    return "\n".join("".join(o.get("data", {}).get("text/plain", "")) for o in outputs)


def _calls(cell: dict[str, Any], function: str) -> list[ast.Call]:
    if cell["cell_type"] != "code" or function not in (source := "".join(cell["source"])):
        return []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == function]


def tasks(notebook: Notebook) -> list[str]:
    """The paragraphs that send students to look for something with sliders and knobs."""
    return lines(notebook, _TASK)


def parts(notebook: Notebook, heading: str) -> list[Part]:
    """The questions under "Before you start", or the "Exit question", with folded answers.

    Args:
        notebook: in any language.
        heading: in English.
    """
    for english, shown in texts(notebook):
        if heading in english:
            line = english[: english.index(heading)].count("\n")
            text = "\n".join(shown.split("\n")[line:])
            pieces = _DETAILS.split(_HEAD.sub("", text, count=1))
            return [
                Part(question.strip(), answer.strip())
                for question, answer in zip(pieces[::2], pieces[1::2], strict=False)
            ]
    return []
