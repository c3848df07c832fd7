"""The course in another language: English notebooks and pages, with every text from a catalogue.

    python tools/edition.py update zh [NAME …]   bring the .po files up to date with the English
    python tools/edition.py write zh [NAME …]    write notebooks and pages; print those to be run
    python tools/edition.py check zh             name what is new, changed or left over; exit code 1

A notebook keeps its outputs as long as its code stays the same. What has no translation, or one of
an older text, appears in English.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import po
import words
from babel.messages.catalog import Catalog

from rlhf_lab.files import write_whole

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    Path(name).stem: name
    for name in (
        "README.md",
        *(
            f"docs/{name}.md"
            for name in ("teaching", "glossary", "mistakes", "exercises", "own_task")
        ),
        "site/index.md",
        "site/single.html",
    )
}
"""What students and teachers read; the other pages are for developers and stay English."""
_LINK = re.compile(r'(\]\(|(?:src|srcset|href)=")([^)"#:\s]*)(#[^)"\s]*)?([)"])')
_CODE = re.compile(r"(```.*?```|`[^`]*`)", re.DOTALL)


class Source:
    """One English file and its edition.

    Args:
        name: of a notebook ("04_the_leash") or a page ("teaching").
        language: of the edition.
        root: of the project.
    """

    def __init__(self, name: str, language: str, root: Path = ROOT) -> None:
        self.name, self.language, self.root = name, language, root
        self.is_page = name in PAGES
        self.english = root / PAGES.get(name, f"notebooks/{name}.ipynb")
        folder = self.english.parent / language
        self.target = folder / self.english.name
        if name == "README":  # beside the English one, where readers find it
            folder, self.target = root / "docs" / language, root / f"README.{language}.md"
        self.catalogue = folder / f"{name}.po"

    def template(self) -> Catalog:
        """All messages, in order, each with the cell where it stands first."""
        catalogue = po.empty()
        for where, text, replace in self._parts():

            def note(message: str, where: str = where) -> str:
                catalogue.add(message, locations=[(where, None)])
                return message

            replace(text, note)
        return catalogue

    def _parts(self) -> Iterator[tuple[str, str, Callable[[str, words.Translate], str]]]:
        if self.is_page:
            yield "page", self.english.read_text(encoding="utf-8"), _page
        else:
            for cell in self._notebook()["cells"]:
                kind = cell["cell_type"]
                replace = words.markdown if kind == "markdown" else words.code
                yield f"{kind}/{cell['id']}", cell["source"], replace

    def _notebook(self) -> nbformat.NotebookNode:
        return nbformat.read(self.english, as_version=4)

    def edition(self) -> str:
        """The text of the file in the other language; a notebook's without outputs."""
        catalogue = po.read(self.catalogue, self.language)
        parts = [
            (text, replace(text, lambda message: po.said(catalogue, message)))
            for _, text, replace in self._parts()
        ]
        if self.is_page:
            return self._with_links(*parts[0])
        notebook = self._notebook()
        for cell, (before, after) in zip(notebook.cells, parts, strict=True):
            cell.source = after
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            else:
                cell.source = self._with_links(before, after)
        return nbformat.writes(notebook) + "\n"

    def write(self) -> bool:
        """Write the edition; True if it is a notebook whose code must run again."""
        text = self.edition()
        if not self.is_page:
            text, fresh = _with_outputs(text, self.target)
        if not self.target.exists() or self.target.read_text(encoding="utf-8") != text:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.target, text.encode())
        return not self.is_page and not fresh

    def is_written(self) -> bool:
        """Does the file hold what `write` would write, outputs aside?"""
        if not self.target.exists():
            return False
        return _sources(self.target.read_text(encoding="utf-8")) == _sources(self.edition())

    def _with_links(self, before: str, after: str) -> str:
        """The translated text with links as they must be where the edition lies."""
        anchors = dict(zip(_slugs(before), _slugs(after), strict=True))

        def moved(link: re.Match[str]) -> str:
            start, path, anchor, end = link.groups()
            goal = Path(os.path.normpath(self.english.parent / path))
            if not path:
                return f"{start}#{anchors.get(anchor[1:], anchor[1:])}{end}" if anchor else link[0]
            if not goal.exists() or goal == self.english:  # that one leads back to English
                return link[0]
            goal = _edition_of(goal, self.language, self.root)
            path = Path(os.path.relpath(goal, self.target.parent)).as_posix()
            return f"{start}{path}{anchor or ''}{end}"

        parts = _CODE.split(after)
        parts[::2] = [_LINK.sub(moved, part) for part in parts[::2]]
        return "".join(parts)


def _page(text: str, translate: words.Translate) -> str:
    settings = re.match(r"(?:---\n.*?\n---\n)?", text, re.DOTALL)[0]  # type: ignore[index]
    return settings + words.markdown(text.removeprefix(settings), translate, wrapped=True)


def _slugs(text: str) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def _edition_of(goal: Path, language: str, root: Path) -> Path:
    """Where the same file is in the other language; the file itself if nowhere."""
    names = {source.english: source.target for source in sources(language, root)}
    there = goal.parent / language / goal.name
    return names.get(goal, there if there.exists() else goal)


def _with_outputs(text: str, target: Path) -> tuple[str, bool]:
    """A notebook with the outputs that it had, and whether they are those of its code."""
    if not target.exists():
        return text, False
    new, old = nbformat.reads(text, as_version=4), nbformat.read(target, as_version=4)
    before = [(c.id, c.source) for c in old.cells if c.cell_type == "code"]
    if before != [(c.id, c.source) for c in new.cells if c.cell_type == "code"]:
        return text, False
    ran = {c.id: c for c in old.cells if c.cell_type == "code"}
    for cell in new.cells:
        if cell.cell_type == "code":
            cell.outputs = ran[cell.id].outputs
            cell.execution_count = ran[cell.id].execution_count
    fresh = all(c.execution_count for c in ran.values())
    return nbformat.writes(new) + "\n", fresh


def sources(language: str, root: Path = ROOT) -> list[Source]:
    """All that is translated: notebooks, then pages."""
    names = [path.stem for path in sorted((root / "notebooks").glob("*.ipynb"))]
    return [Source(name, language, root) for name in (*names, *PAGES)]


def problems(language: str, root: Path = ROOT) -> Iterator[str]:
    """What keeps the edition from being a true translation, line by line."""
    style = po.Style(language)
    for source in sources(language, root):
        name, catalogue = source.catalogue.name, po.read(source.catalogue, language)
        yield from po.problems(name, catalogue, source.template())
        yield from style.problems(name, catalogue)
        if not source.is_written():
            yield f"{source.target.name} is out of date: run python3 course.py translate"


def _sources(text: str) -> object:
    """A page, or what a notebook holds besides outputs."""
    if not text.startswith("{"):
        return text
    return [
        (c["id"], c["cell_type"], c["source"], c["metadata"]) for c in json.loads(text)["cells"]
    ]


def main(command: str, language: str, *names: str) -> int:
    """Do what the module's first lines say; returns the exit code."""
    if command == "check":
        found = list(problems(language))
        print(*found, sep="\n", end="\n" if found else "")
        return bool(found)
    for source in sources(language):
        if names and source.name not in names:
            continue
        if command == "update":
            po.update(source.catalogue, language, source.template())
        elif source.write():
            print(source.target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
