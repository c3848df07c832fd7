"""Build the site: every notebook and page of the docs, with live parts, for any browser, offline.

It reads notebooks/ and docs/ as they are, and writes build/site/, ready for a web server, a USB
stick or a double click on index.html. Nothing is executed and nothing is fetched.
"""

import base64
import html
import json
import re
import runpy
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

from rlhf_lab import load_world, loop_drawing
from rlhf_lab.translation import page_words

ROOT = Path(__file__).resolve().parent.parent
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
DOCS = (
    "teaching",
    "exercises",
    "mistakes",
    "checkers",
    "own_task",
    "bridge",
    "claims",
    "concept_test",
    "glossary",
    "worlds",
    "performance",
)
OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((\.\./)*[A-Za-z_./-]*?(README|CONTRIBUTING|benchmarks|deploy)[^)]*\)"
)
"""Links to files that are not in the site; their words stay."""
NOTEBOOK = re.compile(
    r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\) \| (.+?) \|.*\| (\d+).*\|$", re.MULTILINE
)
"""A row of README's table of notebooks: name, what one can do afterwards, minutes."""
ROW = re.compile(r"^\| ([a-z ,]+) \| ((?:`\w+/?`\s*)+) \| (.+) \|$", re.MULTILINE)
"""A row of README's table of modules: name, modules, what they hold."""
FONT = re.compile(r"url\((fonts/[\w.-]+)\)")
SCRIPTS = (
    "messages.js", "parts.js", "optimum.js", "explorer.js", "cockpit.js",
    "data.js", "engine.js", "run.js", "collapse.js", "page.js",
)  # fmt: skip
MODULE = """## {0}

```{{eval-rst}}
.. automodule:: rlhf_lab.{0}
   :members:
```
"""


def main(args: list[str]) -> int:
    shutil.rmtree(SOURCE, ignore_errors=True)
    for name in ("conf.py", "reader.py"):
        _copy(ROOT / "site" / name, SOURCE / name)
    _front_page()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        _copy(notebook, SOURCE / "notebooks" / notebook.name)
    for name in DOCS:
        text = _read(ROOT / "docs" / f"{name}.md")
        _write(SOURCE / "docs" / f"{name}.md", OUTSIDE.sub(r"\1", text))
    _reference()
    _static()
    options = ["-W", "--keep-going", "-q", "-b", "html"]
    code = subprocess.call([sys.executable, "-m", "sphinx", *options, str(SOURCE), str(SITE)])
    if code:
        return code
    _write(SITE.parent / "rlhf_lab.html", _single_page())
    (SITE / ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with _
    page = SITE / "index.html"
    print(f"The site is in {SITE}, and one page to mail is beside it. Open {page.as_uri()}")
    if "--open" in args:
        webbrowser.open(page.as_uri())
    return 0


def _front_page() -> None:
    """index.md with a card for each notebook of README's table, and all of them in the menu."""
    rows = NOTEBOOK.findall(_read(ROOT / "README.md"))
    cards, menu = [], []
    for name, able, minutes in rows:
        title = _title(ROOT / "notebooks" / f"{name}.ipynb")
        menu.append(f"{title} <notebooks/{name}>")
        said = html.escape(re.sub(r"[`\\]", "", able))
        cards.append(
            f'<li><a href="notebooks/{name}.html"><b>{html.escape(title)}</b>{said}'
            f"<small>{minutes} minutes</small></a></li>"
        )
    text = _read(ROOT / "site" / "index.md")
    text = text.replace("{{cards}}", f'<ul class="course-map">{"".join(cards)}</ul>')
    _write(SOURCE / "index.md", text.replace("{{menu}}", "\n".join(menu)))


def _title(notebook: Path) -> str:
    """The heading of a notebook, short, behind its number."""
    first = json.loads(_read(notebook))["cells"][0]["source"]
    heading = "".join(first).splitlines()[0].removeprefix("# ")
    words = {"00": "Start here"}.get(notebook.stem[:2]) or heading.split(":")[0]
    return f"{notebook.stem[:2]} · {words}" if notebook.stem[0].isdigit() else words


def _reference() -> None:
    """One page of the API for each word of README's table, modules in reading order."""
    readme = _read(ROOT / "README.md")
    pages = []
    for name, modules, holds in ROW.findall(readme):
        page = name.replace(", ", "_").replace(" ", "_")
        names = re.findall(r"`(\w+)`", modules)
        if not names:
            continue  # a folder, for which nobody reads an API
        parts = [f"# {name.capitalize()}\n\n{holds[0].upper()}{holds[1:]}.\n"]
        parts += [MODULE.format(module) for module in names]
        _write(SOURCE / "api" / f"{page}.md", "\n".join(parts))
        pages.append(page)
    tree = "\n".join(pages)
    _write(
        SOURCE / "api" / "index.md",
        "# The package, in reading order\n\nIn a hurry, read `masking`, `kl`, `rewards`, `ppo`, "
        f"`exact` and `trainer`: that is the course.\n\n```{{toctree}}\n{tree}\n```\n",
    )


def _static() -> None:
    """What the live parts need: the same drawing code as in the notebooks, and the engine."""
    static = SOURCE / "_static"
    front = ROOT / "rlhf_lab" / "ui" / "front"
    for file in [
        *front.glob("*.js"),
        *front.glob("*.css"),
        *(ROOT / "site").glob("*.js"),
        *(ROOT / "site").glob("*.css"),
    ]:
        _copy(file, static / file.name)
    _write(static / "page.css", _with_fonts(_read(static / "page.css")))
    _copy(ROOT / "site" / "engine" / "engine.js", static / "engine.js")
    _copy(ROOT / "docs" / "explorer.png", static / "explorer.png")
    for name, narrow in loop_drawing.FILES.items():
        _write(static / name, loop_drawing.draw(narrow=narrow))
    export = runpy.run_path(str(ROOT / "site" / "export.py"))
    _write(static / "data.js", export["script"](load_world()))
    words = json.dumps(page_words(), ensure_ascii=False)
    _write(static / "messages.js", f"globalThis.RLHF_MESSAGES = {words};\n")


def _with_fonts(style: str) -> str:
    """Fonts inside the style itself: a page opened from a file may not load them in Firefox."""

    def inside(found: re.Match[str]) -> str:
        data = base64.b64encode((ROOT / "site" / found[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{data})"

    return FONT.sub(inside, style)


def _single_page() -> str:
    """The front page's collapse and the explorer in one file, with everything inside."""
    static = SOURCE / "_static"
    page = _read(ROOT / "site" / "single.html")
    styles = "".join(_read(static / name) for name in ("front.css", "page.css"))
    scripts = "".join(f"<script>{_read(static / name)}</script>\n" for name in SCRIPTS)
    return page.replace("{{styles}}", styles).replace("{{scripts}}", scripts)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
