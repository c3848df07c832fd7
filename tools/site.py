"""Build the site: every notebook and page of the docs, with live parts, for any browser, offline.

It reads notebooks/ and docs/ as they are, and writes build/site/, ready for a web server, a USB
stick or a double click on index.html; other languages are in folders of that site. Nothing is
executed and nothing is fetched.
"""

import ast
import base64
import html
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

from rlhf_lab import load_world, loop_drawing
from rlhf_lab.translation import LANGUAGES, page_words, set_language, tr

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
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
    r"^\| \[(\w+)\]\(notebooks/(?:\w+/)?\1\.ipynb\) \| (.+?) \|.*\| (\d+).*\|$", re.MULTILINE
)
"""A row of README's table of notebooks: name, what one can do afterwards, minutes."""
ROW = re.compile(r"^\| ([a-z ,]+) \| ((?:`\w+/?`\s*)+) \| (.+) \|$", re.MULTILINE)
"""A row of README's table of modules: name, modules, what they hold."""
ALIVE = re.compile(r'"(?:Explorer|Cockpit)\(')
"""An output of a notebook that lives on its page."""
UP = re.compile(r"(\]\()\.\./([^)\s]*)")
"""A link out of the folder of a language."""
FONT = re.compile(r"url\((fonts/[\w.-]+)\)")
FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
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


class Edition:
    """The site in one language: where its sources are laid out, and where its pages go."""

    def __init__(self, language: str) -> None:
        self.language = language
        within = "" if language == "en" else language
        self.source, self.site = ROOT / "build" / "site-source" / language, SITE / within

    def build(self) -> int:
        """Lay out the sources and call Sphinx; returns its exit code."""
        set_language(self.language)
        shutil.rmtree(self.source, ignore_errors=True)
        for name in ("conf.py", "reader.py", "bigrams.py"):
            _copy(ROOT / "site" / name, self.source / name)
        shutil.copytree(ROOT / "site" / "templates", self.source / "templates")
        own = self._docs()
        self._front_page(own)
        for notebook in (ROOT / "notebooks").glob("*.ipynb"):
            self._place(notebook, f"notebooks/{notebook.name}")
        _reference(self.source)
        _static(self.source)
        still = self.file(ROOT / "docs" / "explorer.png")
        _copy(still, self.source / "_static" / "explorer.png")
        options = ["-W", "--keep-going", "-q", "-b", "html"]
        options += ["-A", f"own={' '.join(own)}"]
        return subprocess.call(
            [sys.executable, "-m", "sphinx", *options, str(self.source), str(self.site)],
            env={**os.environ, "RLHF_LAB_LANGUAGE": self.language},
        )

    def file(self, english: Path) -> Path:
        """A file of the project in this language; the English one where there is no other."""
        if english.name == "README.md":
            there = english.with_name(f"README.{self.language}.md")
        else:
            there = english.parent / self.language / english.name
        return there if there.exists() else english

    def _place(self, english: Path, name: str) -> None:
        """Lay out a file of the project, with its links as the site has them."""
        file = self.file(english)
        text = _read(file)
        if file != english:
            text = UP.sub(lambda link: link[1] + link[2].replace(f"{self.language}/", ""), text)
        if file.suffix == ".md":
            text = OUTSIDE.sub(r"\1", text)
        _write(self.source / name, text)

    def _docs(self) -> list[str]:
        """All pages of the docs; returns those that exist in this language only."""
        for name in DOCS:
            self._place(ROOT / "docs" / f"{name}.md", f"docs/{name}.md")
        here = {path.stem for path in (ROOT / "docs" / self.language).glob("*.md")}
        own = sorted(here - set(DOCS))
        for name in own:
            self._place(ROOT / "docs" / f"{name}.md", f"docs/{name}.md")
        return [f"docs/{name}" for name in own]

    def _front_page(self, own: list[str]) -> None:
        """index.md with a card for each notebook of README's table, and all of them in the menu."""
        rows = NOTEBOOK.findall(_read(self.file(ROOT / "README.md")))
        cards, menu = [], []
        for name, able, minutes in rows:
            title = _title(self.file(ROOT / "notebooks" / f"{name}.ipynb"))
            menu.append(f"{title} <notebooks/{name}>")
            said = html.escape(re.sub(r"[`\\]", "", able))
            file, page = ROOT / "notebooks" / f"{name}.ipynb", f"notebooks/{name}.html"
            below = tr("{n} minutes", n=minutes) + _icons(file)
            cards.append(
                f'<li><a href="{page}"><b>{html.escape(title)}</b>'
                f"<span>{said}</span><small>{below}</small></a>{_play(file, page)}</li>"
            )
        text = _read(self.file(ROOT / "site" / "index.md"))
        cards.insert(0, '<ul class="course-map rlhf-front">')
        text = text.replace("{{cards}}", "".join([*cards, "</ul>"]))
        minutes = [int(row[2]) for row in rows]
        text = text.replace("{{minutes}}", str(minutes[0]))
        text = text.replace("{{hours}}", str(round(sum(minutes) / 60)))
        text = text.replace("{{menu}}", "\n".join(menu)).replace("{{own}}", "\n".join(own))
        _write(self.source / "index.md", text)

    def single_page(self) -> str:
        """The front page's collapse and the explorer in one file, with everything inside."""
        static = self.source / "_static"
        page = _read(self.file(ROOT / "site" / "single.html"))
        page = page.replace('lang="en"', f'lang="{tr("en")}"')
        styles = "".join(_read(static / name) for name in ("front.css", "page.css"))
        scripts = "".join(f"<script>{_read(static / name)}</script>\n" for name in SCRIPTS)
        return page.replace("{{styles}}", styles).replace("{{scripts}}", scripts)


def main(args: list[str]) -> int:
    shutil.rmtree(SITE, ignore_errors=True)
    for language in LANGUAGES:
        edition = Edition(language)
        if code := edition.build():
            return code
        name = "rlhf_lab.html" if language == "en" else f"rlhf_lab.{language}.html"
        _write(SITE.parent / name, edition.single_page())
    shutil.rmtree(SITE / "jupyter_execute", ignore_errors=True)  # beside each edition, MyST-NB's
    (SITE / ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with _
    page = SITE / "index.html"
    print(f"The site is in {SITE}, and one page to mail is beside it. Open {page.as_uri()}")
    if "--open" in args:
        webbrowser.open(page.as_uri())
    return 0


def _title(notebook: Path) -> str:
    """The heading of a notebook, short, behind its number."""
    first = json.loads(_read(notebook))["cells"][0]["source"]
    heading = re.split("[:：] ?", "".join(first).splitlines()[0].removeprefix("# "))
    words = heading[-1].capitalize() if notebook.stem.startswith("00") else heading[0]
    return f"{notebook.stem[:2]} · {words}" if notebook.stem[0].isdigit() else words


def _play(notebook: Path, page: str) -> str:
    """A link to what can be moved in the notebook at once, if there is something."""
    if not ALIVE.search(_read(notebook)):
        return ""
    return f'<a class="play" href="{page}#play">▶ {tr("play")}</a>'


def _icons(notebook: Path) -> str:
    """What its drawing of the loop shows in colour, small; π for all of it."""
    sources = ("".join(cell["source"]) for cell in json.loads(_read(notebook))["cells"])
    call = re.search(r"^Loop\((.+)\)$", next(s for s in sources if "Loop(" in s), re.MULTILINE)
    lit = ast.literal_eval(f"({call[1]},)")[1:] if call else ()
    if notebook.stem == "cockpit":
        lit = ("cockpit",)
    icon = runpy.run_path(str(ROOT / "site" / "icons.py"))["icon"]
    draw = '<svg width="36" height="36" viewBox="-1.1 -1.1 2.2 2.2" aria-hidden="true">{}</svg>'
    return "".join(draw.format(icon(part)) for part in lit or ["π"])


def _reference(source: Path) -> None:
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
        _write(source / "api" / f"{page}.md", "\n".join(parts))
        pages.append(page)
    tree = "\n".join(pages)
    _write(
        source / "api" / "index.md",
        "# The package, in reading order\n\nIn a hurry, read `masking`, `kl`, `rewards`, `ppo`, "
        f"`exact` and `trainer`: that is the course.\n\n```{{toctree}}\n{tree}\n```\n",
    )


def _static(source: Path) -> None:
    """What the live parts need: the same drawing code as in the notebooks, and the engine."""
    static = source / "_static"
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
    for name, narrow in loop_drawing.FILES.items():
        # In an <img> a drawing sees no style of the page, so it gets the page's fonts, too.
        fonts = "".join(FACE.findall(_read(static / "page.css")))
        drawing = loop_drawing.draw(narrow=narrow)
        _write(static / name, drawing.replace("<style>", f"<style>{fonts}", 1))
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
