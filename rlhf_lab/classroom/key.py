"""A page of answers for teachers, written from the notebooks and the package's own answers."""

from pathlib import Path

import mistune

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.copies import Notebook
from rlhf_lab.classroom.page import element, page
from rlhf_lab.classroom.questions import Question
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.exercises.exercise import Choice
from rlhf_lab.translation import tr

FOUND = {
    "00": "Collapse: η = 0.01, β = 0. Useful: η = 0.1, β = 0. Frozen: η = 5. Word salad: η = 0, "
    "β = 0.5.",
    "01": "The exact critic, γ = 1 and λ = 0. From there λ = 0.5 does more harm: every token is "
    "then charged with a part of what came after it.",
    "02": "More comparisons and fewer wrong labels bring the error down at both ends. Over all "
    "responses an error of one standard deviation remains, and the unit shrinks with wrong labels.",
    "03": "(a) η = 0.08 and n = 128, with E[gold] 2.36 and 2.64. (b) η = 0.06 and n = 4,096: "
    "scores 1.85 and 1.87, gold 2.10 and 0.70. (c) “staff”: η = 0.06 and n = 256; η = 0.035 and "
    "n = 8,192.",
    "04": "“food”: η = 0.2 spends 1.89 nats. J* is half way at η = 0.4 (0.995, between 0.16 and "
    "1.80).",
    "05": "Sharper: η = 2. Wrong and sure: η = 0.1, 1,024 reviews, batch 4 (k3 says 1.92, not "
    "2.67). All miss: temperature 0.7 at η = 1.",
    "06": "Home 0.7 from 0.4, 0.51 and 0.6, home 0.9 from 0.2 to 0.8: there the word that is said "
    "too often is charged more. Home 0.5 never: there it is always the rare word.",
    "07": "β = 0.1. At β = 0.125 more than half of what π* says is word salad, each piece too rare "
    "for a bar.",
    "11": "G = 8 and η = 0.5: a gap of 2.5, at which GRPO rests at log-odds 4.90 and RLOO at 5.00. "
    "Only RLOO follows the gap, only GRPO follows G.",
    "12": "95%: the log-odds of 0.95 are 2.9. At 100% there is no lowest point: the loss falls on "
    "and on.",
}
"""What students find with sliders and knobs, by the number of the notebook."""
_markdown = mistune.create_markdown(escape=True)


def key(course: Path = questions.COURSE) -> bytes:
    """The page as an HTML file.

    Raises:
        ValueError: the course's notebooks are not there.
    """
    parts = [element("p", "For teachers. Students should not see it before the class.", "note")]
    for name, notebook in questions.notebooks(course).items():
        parts += [element("h2", name), *_notebook(name, notebook)]
    return page("Answer key", parts)


def _notebook(name: str, notebook: Notebook) -> list[str]:
    found = []
    before = questions.parts(notebook, "Before you start")
    found += _block("Before you start", [(part.question, part.answer) for part in before])
    asked = [_prediction(question) for question in questions.predictions(name, notebook)]
    found += _block("Predictions", asked)
    tasks = questions.tasks(notebook)
    found += _block("Find", [(task, tr(FOUND.get(name[:2], ""))) for task in tasks])
    choices = [e for e in EXERCISES.values() if isinstance(e, Choice)]
    here = [e for e in choices if e.section.startswith(f"{name}:")]
    found += _block(
        "Questions with letters", [(f"`{e.name}`", f"{e.answer}. {tr(e.reason)}") for e in here]
    )
    last = questions.parts(notebook, "Exit question")
    return found + _block("Exit question", [(part.question, part.answer) for part in last])


def _prediction(question: Question) -> tuple[str, str]:
    """A question and its answer as Markdown; a star of π* would start a slanted word."""
    if question.right is None:
        answer = tr("(computed in the notebook: run it)")
    elif question.choices:
        answer = question.choices[int(question.right)]
    else:
        answer = _number(question.right)
    low, high = _number(question.low), _number(question.high)
    limits = tr("a number from {low} to {high}", low=low, high=high)
    options = " / ".join(question.choices) or limits
    asked = f"{question.text} ({options}; `{question.name}`)"
    right = tr("→ {answer}. {reason}", answer=answer, reason=question.reason)
    return asked.replace("*", r"\*"), right.replace("*", r"\*")


def _number(x: float) -> str:
    return f"{x:g}".replace("-", "−")


def _block(heading: str, pairs: list[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    parts = [f'{_markdown(q)}<div class="answer">{_markdown(a)}</div>' for q, a in pairs]
    return [f"<section>{element('h3', heading)}{''.join(parts)}</section>"]
