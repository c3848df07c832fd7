"""What Sphinx does not know of our notebooks: alt texts, widgets without a kernel, MathML.

Docstrings are read as what they are, too: plain text with equations.

MyST-NB takes the name of a figure's file for its alt text, and drops widgets. So notebooks are read
here: figures become small files with the alt texts that `show` has kept, and where a widget stood
stands an element that page.js brings to life, with the widget's own still picture in it.
"""

import ast
import base64
import hashlib
import html
import io
import re
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from latex2mathml.converter import convert
from PIL import Image

from rlhf_lab.translation import tr

FIGURES = "figures"
"""Folder of the figures, below _static."""
ALIVE = {"Explorer": "explorer", "Cockpit": "cockpit"}
PLAY = {"explorer": "Play first: the explorer", "cockpit": "Play first: the cockpit"}
NEEDS_PYTHON = "These sliders need Python: open the notebook in JupyterLab."
_ADDRESS = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")
_WITHOUT_KERNEL = re.compile(
    r" ?\(They are also for readers without a \*kernel\*[^)]*\)"
    r"|（这些数字也是给没有\*内核\*的读者看的[^）]*）"
)
"""What notebook 00 says to readers whose sliders may not move: here they do."""
_static = Path()


def read_notebook(text: str) -> nbformat.NotebookNode:
    """An .ipynb as MyST-NB wants it, with outputs that a page without a kernel can show."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _WITHOUT_KERNEL.sub("", cell.source)
        if "keep-output" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-input")  # of a drawing it only says what is lit
        elif cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.setdefault("tags", []).append("hide-input")
        for output in cell.get("outputs", []):
            if "data" in output:
                _show(output, cell.source)
    return notebook


def _show(output: nbformat.NotebookNode, source: str) -> None:
    """Put into text/html what the page shall show of an output."""
    data, shown = output.data, output.data.get("text/plain", "")
    still = _figure(data.pop("image/png"), output.metadata) if "image/png" in data else ""
    call = re.fullmatch(r"(\w+)\(.*\)", shown, re.DOTALL)
    if call and call[1] in ALIVE:
        data["text/html"] = _alive(ALIVE[call[1]], shown, source, still)
    elif call and call[1] == "Knobs":
        data["text/html"] = f'<p class="needs-python">{tr(NEEDS_PYTHON)}</p>'
    elif "rlhf-drawing" in data.get("text/html", ""):
        data["text/html"] = _ADDRESS.sub(_drawing, data["text/html"])
    elif still:
        data["text/html"] = still
    elif shown.startswith((f"{tr('Predict.')} ", f"{tr('Answer.')} ")):
        data["text/html"] = _guess(shown, data["text/html"])
    data.pop("application/vnd.jupyter.widget-view+json", None)
    data.pop("text/latex", None)


def _drawing(found: re.Match[str]) -> str:
    """The address of an SVG that a notebook holds as text: as a file, it is loaded when needed."""
    text = base64.b64decode(found[1])
    name = f"{hashlib.sha256(text).hexdigest()[:16]}.svg"
    (_static / FIGURES).mkdir(parents=True, exist_ok=True)
    (_static / FIGURES / name).write_bytes(text)
    return f"../_static/{FIGURES}/{name}"


def _figure(png: str, metadata: dict[str, Any]) -> str:
    """The figure as a file of a third of the size, pixel for pixel the same."""
    about = metadata.get("image/png", {})
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    width = about.get("width", picture.width // 2)
    name = f"{hashlib.sha256(png.encode()).hexdigest()[:16]}.webp"
    file = _static / FIGURES / name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file, lossless=True)
    size = f'width="{width}" height="{round(width * picture.height / picture.width)}"'
    alt = html.escape(about.get("alt", ""))
    return (
        f'<img class="figure" src="../_static/{FIGURES}/{name}" {size} loading="lazy" alt="{alt}">'
    )


def _alive(kind: str, shown: str, source: str, still: str) -> str:
    """The element for a widget, with the settings that its repr and its cell name."""
    call = ast.parse(shown, mode="eval").body
    assert isinstance(call, ast.Call)
    settings = {node.arg: ast.literal_eval(node.value) for node in call.keywords}
    if seed := re.search(r"seed=(\d+)", source):
        settings["seed"] = seed[1]
    if "policy=" in source:  # notebook 08 hands over a policy that has collapsed
        settings["start"] = "collapsed"
    data = "".join(f' data-{name}="{html.escape(str(value))}"' for name, value in settings.items())
    return f'<div class="rlhf-live" data-kind="{kind}"{data}>{still}</div>'


def _guess(shown: str, static: str) -> str:
    """A question and its answer, which finds the question again by its words."""
    if shown.startswith(answer := f"{tr('Answer.')} "):
        question = shown.removeprefix(answer).split(" → ", 1)[0]
        return f'<div class="rlhf-answer" data-question="{html.escape(question)}">{static}</div>'
    question, *options = shown.removeprefix(f"{tr('Predict.')} ").split("\n- ")
    limits = tr("a number from {low} to {high}", low="LOW", high="HIGH")
    pattern = re.escape(limits).replace("LOW", r"(\S+)").replace("HIGH", r"(\S+)")
    number = re.fullmatch(pattern, options[0])
    limits = f' data-low="{number[1]}" data-high="{number[2]}"' if number else ""
    return f'<div class="rlhf-guess" data-question="{html.escape(question)}"{limits}>{static}</div>'


def _math(display: str) -> Any:
    def visit(self: Any, node: nodes.Element) -> None:
        self.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit


SECTIONS = ("Args:", "Returns:", "Raises:", "References:", "Notes:", "Yields:")


def plain_docstring(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Our docstrings are plain text: an indented equation stays as it is, and | is no markup."""
    equation = section = False
    for i, line in enumerate(lines):
        section = line.strip() in SECTIONS or (section and (not line or line.startswith(" ")))
        indented = line.startswith("    ") and not section
        if indented and not equation and not lines[i - 1]:
            lines[i - 1] = "\n::\n"
            equation = True
        equation = equation and (indented or not line)
        if not equation and not line.startswith(">>>"):
            pieces = line.split("`")
            pieces[::2] = [piece.replace("|", r"\|") for piece in pieces[::2]]
            lines[i] = "`".join(pieces)
    lines[:] = "\n".join(lines).split("\n")


def styles_of_its_own(
    app: Any, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Live parts get the width of the window, and the front page has no menu at its side."""
    if 'class="rlhf-live"' in context.get("body", ""):
        app.add_css_file("live.css", priority=900)
        context["body"] = _arrival(context["body"])
    if page == "index":
        app.add_css_file("index.css", priority=901)


def _arrival(body: str) -> str:
    """A link under the title to the first live part of a notebook, for those who came to play."""
    first = re.search(r'<div class="rlhf-live" data-kind="(explorer|cockpit)"', body)
    if not first or "</h1>" not in body:
        return body
    body = body.replace(first[0], f'{first[0]} id="play"', 1)
    link = f'<p class="arrive"><a href="#play">{tr(PLAY[first[1]])} ↓</a></p>'
    return body.replace("</h1>", f"</h1>{link}", 1)


def level_captions(
    app: Any, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Captions of the menu are headings, and screen readers need the level of a heading."""
    menu = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = menu.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def setup(app: Any) -> dict[str, bool]:
    global _static
    _static = Path(app.srcdir) / "_static"
    inline, block = _math("inline"), _math("block")
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon
    app.connect("html-page-context", styles_of_its_own)
    app.connect("html-page-context", level_captions, priority=900)  # after Furo has made the menu
    return {"parallel_read_safe": False}
