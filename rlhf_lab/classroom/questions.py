"""What the notebooks ask, read from their cells: predictions, tasks, questions, with answers."""

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_lab.classroom.copies import Notebook, read
from rlhf_lab.lessons.answers import ANSWERS

COURSE = Path(__file__).resolve().parents[2]
"""The folder of course.py, if the package runs from there."""
_DETAILS = re.compile(r"<details><summary>.*?</summary>(.*?)</details>", re.DOTALL)
_TASK = re.compile(r"^(?=.*(?:\*\*Find|^Find |\b[Ff]ind four places)).*$", re.MULTILINE)


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
    """The notebooks of the course by their names, in order.

    Raises:
        ValueError: there are none, because the package was installed alone; or one is damaged.
    """
    found = {path.stem: read(path) for path in sorted((course / "notebooks").glob("*.ipynb"))}
    if not found:
        raise ValueError(
            f"{course} holds no notebooks: run this as python3 course.py, in the course"
        )
    return found


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
    return {"right": right, "reason": kept.reason if kept else ""}


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
    return [text for cell in _texts(notebook) for text in _TASK.findall(cell)]


def parts(notebook: Notebook, heading: str) -> list[Part]:
    """The questions under "Before you start", or the "Exit question", with folded answers."""
    for text in _texts(notebook):
        if heading in text:
            text = text[text.index(heading) :].removeprefix(heading).lstrip("#*. \n")
            pieces = _DETAILS.split(text)
            return [
                Part(question.strip(), answer.strip())
                for question, answer in zip(pieces[::2], pieces[1::2], strict=False)
            ]
    return []


def _texts(notebook: Notebook) -> list[str]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return ["".join(cell["source"]) for cell in cells]
