"""Slides for each class, made from the notebooks: the loop, what to guess, what to remember."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mistune

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.copies import Notebook
from rlhf_lab.classroom.page import document
from rlhf_lab.classroom.questions import Question, lines, texts
from rlhf_lab.translation import tr

CLASSES = (
    ("00",), ("01", "02"), ("03", "04"), ("05", "06"), ("07", "08"), ("09",), ("10",), ("11",),
    ("12",),
)  # fmt: skip
"""The notebooks of each class, by their numbers: in pairs where the teacher's plan has them so."""
REMEMBER = "remember"
"""The tag of the cell whose figure a class should keep in mind."""
_LONG = 300  # letters of Markdown; a longer paragraph would not be read from the last row
_ASKS = re.compile(r"\*\*(?:Predict|Commit a guess)[.:]?\*\*(?:(?: first| about [^:]*):)?\s*(\w?)")
"""The words that ask for a guess, and the letter behind them: the slide says so itself."""
_BOLD = re.compile(r"\*\*[^*]+\*\*(?:[^，。：？*]*：)?\s*")
"""Bold words of another language, up to a colon behind them."""
_SEE = re.compile(r"\*\*You will see")
_markdown = mistune.create_markdown(escape=True)
_STYLE = """\
:root { --u: min(100vw / 1920, 100vh / 1080); }
html { scroll-snap-type: y mandatory; background: #fff; color: #1a1a1c; }
body { margin: 0; font: calc(40 * var(--u))/1.4 system-ui, "Noto Sans", sans-serif; }
section { position: relative; box-sizing: border-box; height: 100vh; overflow: hidden;
  padding: calc(72 * var(--u)) calc(112 * var(--u)); display: flex; flex-direction: column;
  justify-content: center; gap: calc(36 * var(--u)); scroll-snap-align: start;
  break-after: page; }
h1, h2 { font-family: Georgia, "Noto Serif", serif; font-weight: 650; margin: 0; }
h1 { font-size: calc(104 * var(--u)); line-height: 1.15; }
h2 { font-size: calc(68 * var(--u)); line-height: 1.25; }
p, ul, ol { margin: 0; }
ol { list-style: upper-alpha; font-size: calc(56 * var(--u)); padding-left: 1.5em; }
li { padding: .1em 0; }
.kind { color: #835a00; font-weight: 650; }
.context { color: #5a5a60; }
.line { display: flex; align-items: center; gap: 1em; font-size: calc(60 * var(--u)); }
.line i { flex: 1; height: calc(8 * var(--u)); background: #84848a; }
.place { position: absolute; right: calc(112 * var(--u)); bottom: calc(28 * var(--u));
  color: #5a5a60; font-size: calc(28 * var(--u)); }
img { width: 100%; height: 100%; object-fit: contain; }
figure { margin: 0; flex: 1 1 0; min-height: 0; text-align: center; }
@page { size: 1920px 1080px; margin: 0; }
@media print { :root { --u: 1px; } section { height: 1080px; width: 1920px; } }
"""


def files(course: Path = questions.COURSE) -> dict[str, bytes]:
    """The slides of every class, by the names of the files.

    Raises:
        ValueError: the course's notebooks are not there, or have no results.
    """
    notebooks = questions.notebooks(course)
    return {f"slides-{'-'.join(numbers)}.html": _page(numbers, notebooks) for numbers in CLASSES}


def _page(numbers: Sequence[str], notebooks: dict[str, Notebook]) -> bytes:
    here = {name: notebook for name, notebook in notebooks.items() if name[:2] in numbers}
    slides = [
        slide.replace("</section>", f'<p class="place">{name[:2]}, {i}</p></section>')
        for name, notebook in here.items()
        for i, slide in enumerate(_lesson(name, notebook), 1)
    ]
    both = numbers[0] if len(numbers) == 1 else tr("{a} and {b}", a=numbers[0], b=numbers[1])
    return document(tr("Slides for {numbers}", numbers=both), _STYLE, "\n".join(slides))


def _lesson(name: str, notebook: Notebook) -> list[str]:
    """What it is about, each guess before it is answered, the figure, and the last question."""
    title = re.search(r"^# (.+)$", texts(notebook)[0][1], re.MULTILINE)
    opening = f"<h1>{html.escape(title[1] if title else name)}</h1>"
    if see := lines(notebook, _SEE):
        points = re.sub(r"^\*\*[^*]*\*\*[:：]?", "", see[0]).strip(" .。").split(" · ")
        opening += f"<ul>{''.join(f'<li>{_inline(point)}</li>' for point in points)}</ul>"
    slides = [_slide(opening + picture(notebook, "keep-output"))]
    for question in questions.predictions(name, notebook):
        slides.append(_slide(_guess(question, _before(notebook, question.name)), "Guess first"))
    slides.append(_slide(picture(notebook, REMEMBER), "The figure to remember"))
    last = questions.parts(notebook, "Exit question")
    slides += [_slide(f"<h2>{_inline(part.question)}</h2>", "Before you go") for part in last]
    return slides


def _slide(inside: str, kind: str = "") -> str:
    head = f'<p class="kind">{tr(kind)}</p>' if kind else ""
    return f"<section>{head}{inside}</section>"


def _guess(question: Question, before: str) -> str:
    """A question with its choices, below what one must know to understand it."""
    context = f'<div class="context">{_markdown(before)}</div>' if before else ""
    text = f"{context}<h2>{html.escape(question.text)}</h2>"
    if question.choices:
        return text + f"<ol>{''.join(f'<li>{html.escape(c)}</li>' for c in question.choices)}</ol>"
    low, high = (f"{x:g}".replace("-", "−") for x in (question.low, question.high))
    return f'{text}<p class="line">{low}<i></i>{high}</p>'


def _before(notebook: Notebook, name: str) -> str:
    """The paragraph above a prediction, if it is short enough and needs no formula."""
    above, markdown = ("", ""), iter(texts(notebook))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            above = next(markdown)
        elif f'"{name}"' in "".join(cell["source"]):
            break
    english, text = (part.strip().split("\n\n")[-1] for part in above)
    text = _without_request(english, text).strip()
    return text if len(text) <= _LONG and not re.match(r"[-|>$#]", text) else ""


def _without_request(english: str, text: str) -> str:
    """A paragraph without the words that ask for a guess, found by where they are in English."""
    if text == english:
        return _ASKS.sub(lambda found: found[1].upper(), text)
    for request in _ASKS.finditer(english):
        bold = [*_BOLD.finditer(text)][english[: request.start()].count("**") // 2 :]
        text = text.replace(bold[0][0], "") if bold else text
    return text


def _inline(text: str) -> str:
    return str(_markdown(text)).strip().removeprefix("<p>").removesuffix("</p>")


def picture(notebook: Notebook, tag: str) -> str:
    """The first picture that a tagged cell has put out: drawn where it is, else its PNG."""
    outputs = [
        (output["data"], output.get("metadata", {}))
        for cell in notebook["cells"]
        if tag in cell["metadata"].get("tags", [])
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    for data, about in outputs:
        drawn = re.search(
            r'<img [^>]*alt="([^"]*)"[^>]*src="(data:[^"]*)"', _text(data, "text/html")
        )
        if drawn:
            return f'<figure><img alt="{drawn[1]}" src="{drawn[2]}"></figure>'
        if png := _text(data, "image/png").replace("\n", ""):
            alt = html.escape(str(about.get("image/png", {}).get("alt", "")))
            return f'<figure><img alt="{alt}" src="data:image/png;base64,{png}"></figure>'
    return ""


def _text(data: dict[str, Any], kind: str) -> str:
    return "".join(data.get(kind, ""))
