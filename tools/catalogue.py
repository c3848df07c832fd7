"""The package's own messages in another language: sentences, labels of figures, words of the page.

    python tools/catalogue.py update zh   bring rlhf_lab.po up to date with the English
    python tools/catalogue.py write zh    compile it: rlhf_lab.mo for Python, page.json for the page
    python tools/catalogue.py check zh    name what is new, changed or left over; exit code 1

A message is what `tr` is called with, and what code hands to it as data: see `DATA`. The headings
to which exercises send their readers come from the catalogues of the notebooks.
"""

import ast
import dataclasses
import functools
import json
import re
import struct
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import po
from babel.messages.catalog import Catalog

from rlhf_lab import doctor
from rlhf_lab.classroom import concept, key, two_pages
from rlhf_lab.config import PPOConfig
from rlhf_lab.exercises import EXERCISES, slips, verdict
from rlhf_lab.exercises.exercise import Choice, Exercise
from rlhf_lab.exercises.observe import Trial, argument_names, observe
from rlhf_lab.files import write_whole
from rlhf_lab.language import WORDS
from rlhf_lab.lessons import dialects
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.lessons.museum.exhibits import EXHIBITS
from rlhf_lab.lessons.museum.figures import PANELS
from rlhf_lab.lessons.museum.invariants import INVARIANTS
from rlhf_lab.loop_drawing import PARTS, STEPS
from rlhf_lab.ui.cockpit_panels import QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rlhf_lab"
TOOLS = (ROOT / "tools" / "site.py", ROOT / "site" / "reader.py")
"""Those that write for readers."""
SCRIPTS = (PACKAGE / "ui" / "front", ROOT / "site")
"""Where the page's parts are."""
SPEAKERS = {
    "tr": (0,), "doing": (0,), "_range": (0,), "_ok": (0,), "_note": (0,), "_problem": (0,),
    "answer": (1,),
    "_say": (0,), "say": (0,), "_text": (2,),
    "Fact": (1, 2), "Slip": (1, 2), "_table": (0,), "_block": (0,), "page": (0,),
    "document": (0,), "element": (1,), "Question": (1,),
    "_slide": (1,), "_package": (2,), "partial": (3,),
    "set_title": (0,), "set_xlabel": (0,), "set_ylabel": (0,), "suptitle": (0,), "annotate": (0,),
    "text": (2,),
}  # fmt: skip
"""Functions, and which of their arguments are messages."""
LABELS = {"title", "xlabel", "ylabel", "label", "help", "description"}
"""Arguments that are messages, whatever function has them."""
_WORD = re.compile(r"[^\W\d_]{2}")
_CALL = re.compile(r"""(?<![\w.])tr\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
Found = Iterator[tuple[str, str]]
"""Messages, each with the place where it is."""


def template() -> Catalog:
    """All messages, each with the files in which it stands."""
    catalogue = po.empty()
    for message, where in (*_in_python(), *_in_scripts(), *_in_data()):
        if _WORD.search(re.sub(r"\{[^{}]*\}", "", message)):
            catalogue.add(message, locations=[(where, None)])
    return catalogue


def _in_python() -> Found:
    for path in (*sorted(PACKAGE.rglob("*.py")), *TOOLS):
        where = path.relative_to(ROOT).as_posix()
        yield from ((message, where) for message in Module(path.read_text("utf-8")).messages())


def _in_scripts() -> Found:
    for path in sorted(path for folder in SCRIPTS for path in folder.rglob("*.js")):
        for literal in _CALL.findall(path.read_text(encoding="utf-8")):
            yield ast.literal_eval(literal), path.relative_to(ROOT).as_posix()


def _in_data() -> Found:
    for where, messages in DATA.items():
        yield from ((message, f"rlhf_lab/{where}") for message in messages())


class Module:
    """A source file, of which the strings are followed to the functions that say them."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)

    def messages(self) -> Iterator[str]:
        """All constants that reach one of SPEAKERS or LABELS, in order."""
        yield from (text for scope, node in self._spoken() for text in self._constants(scope, node))

    def unknown(self) -> list[str]:
        """What `tr` is called with and no constant is: data, which `DATA` must list."""
        calls = [
            (scope, call.args[-1 if _maps(call) else 0])
            for scope, call in self._calls()
            if _name(call) == "tr" or _maps(call)
        ]
        return [ast.unparse(node) for scope, node in calls if not [*self._constants(scope, node)]]

    def keywords(self, function: str) -> Iterator[tuple[str, list[str]]]:
        """The names with which a function is called, each with the constants that it gets."""
        for scope, call in self._calls():
            for word in call.keywords if _name(call) == function else ():
                if word.arg and word.arg != "start":
                    yield word.arg, [*self._constants(scope, word.value)]

    def _calls(self) -> Iterator[tuple[ast.AST, ast.Call]]:
        waiting: list[tuple[ast.AST, ast.AST]] = [(self.tree, self.tree)]
        while waiting:
            scope, node = waiting.pop(0)
            if isinstance(node, ast.Call):
                yield scope, node
            inside = node if isinstance(node, ast.FunctionDef) else scope
            waiting[:0] = [(inside, child) for child in ast.iter_child_nodes(node)]

    def _spoken(self) -> Iterator[tuple[ast.AST, ast.expr]]:
        for scope, call in self._calls():
            places = (1,) if _maps(call) else SPEAKERS.get(_name(call), ())
            yield from ((scope, call.args[i]) for i in places if i < len(call.args))
            for word in call.keywords:
                if word.arg in LABELS and _name(call) != "tr":
                    yield scope, word.value

    def _constants(
        self, scope: ast.AST, node: ast.expr | None, above: frozenset[str] = frozenset()
    ) -> Iterator[str]:
        parts: list[ast.expr] = []
        match node:
            case ast.Constant(str(text)):
                yield text
            case ast.Name("__doc__"):
                yield ast.get_docstring(self.tree, clean=False) or ""
            case ast.Name(name) if name not in above:
                above, scope, parts = above | {name}, *self._assigned(scope, name)
            case ast.IfExp(body=one, orelse=other):
                parts = [one, other]
            case ast.Subscript(value=table):
                parts = [table]
            case ast.BoolOp(values=parts) | ast.Dict(values=parts):
                pass
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                pass
        yield from (text for part in parts for text in self._constants(scope, part, above))

    def _assigned(self, scope: ast.AST, name: str) -> tuple[ast.AST, list[ast.expr]]:
        """What a name may hold, in its function or else in the module."""
        values = [*_values(scope, name)]
        return (scope, values) if values else (self.tree, [*_values(self.tree, name)])


def _values(block: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(block):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else (node.target,):
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                yield from (v for t, v in pairs if isinstance(t, ast.Name) and t.id == name)


def _maps(call: ast.Call) -> bool:
    """Is it `map(tr, …)`?"""
    return _name(call) == "map" and ast.unparse(call.args[0]) == "tr"


def _name(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _exercises() -> Iterator[str]:
    for exercise in EXERCISES.values():
        for mistake in exercise.mistakes:
            yield from (mistake.diagnosis, mistake.hint)
        if isinstance(exercise, Choice):
            yield exercise.reason
        else:
            yield from (case.name for case in exercise.cases)
            yield from (name for name in argument_names(exercise) if " " in name)


def _slips() -> Iterator[str]:
    for table in (slips._OF_MASK, slips._OF_TENSOR, slips._OF_NUMBER):
        yield from (text for _, says, hint, _ in table for text in (says, hint))
    for exercise in EXERCISES.values():
        if isinstance(exercise, Exercise):
            for case in exercise.cases:
                seen = observe(exercise, exercise.reference, case)
                names = slips.sizes(Trial(exercise, case, seen, seen))
                yield from (name for name in names if name.startswith("the "))


def _concept_test() -> Iterator[str]:
    for question in tomllib.loads(concept.SOURCE.read_text("utf-8"))["questions"]:
        yield from (question["text"], *question["answers"], question["why"])


def _two_pages() -> Iterator[str]:
    tables = (two_pages.NOTATION, two_pages.FORMULAS, two_pages.DASHBOARD)
    yield from (text for table in tables for row in table for text in row)
    yield from (text for row in two_pages.INVARIANTS.items() for text in row)


def _findings() -> Iterator[str]:
    yield from ("ok", "note", "problem", "fonts")
    yield from (name for name in doctor.CHECKS if name not in doctor.PACKAGES)


def _dialects() -> Iterator[str]:
    cells = [*dialects.ROWS.values(), *(cell for dialect in dialects.DIALECTS for cell in dialect)]
    for setting in dialects.SETTINGS:
        cells += [setting.name, setting.estimator, setting.divided_by]
    yield from (cell for cell in cells if re.search("[a-z]{3}", re.sub("`[^`]*`", "", cell)))


def _knobs() -> Iterator[str]:
    """The names of knobs, and the words at which they can stand; reviews are no words of ours."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "Knobs(" in source:
                module = Module(source)
                for name, words in module.keywords("Knobs"):
                    yield name.replace("_", " ")
                    yield from (text for text in words if set(text.split()) - {*WORDS, "."})


DATA: dict[str, Callable[[], Iterable[str]]] = {
    "exercises": _exercises,
    "exercises/slips.py": _slips,
    "exercises/verdict.py": lambda: (*verdict._BATCH, *verdict._PLACES, "element"),
    "lessons/museum/exhibits.py": lambda: (exhibit.name for exhibit in EXHIBITS.values()),
    "lessons/museum/figures.py": lambda: (label for label, _ in PANELS.values()),
    "lessons/museum/invariants.py": lambda: (invariant.name for invariant in INVARIANTS),
    "lessons/dialects.py": _dialects,
    "loop_drawing.py": lambda: (*PARTS, *(words for words, _ in STEPS.values()), "π moves"),
    "ui/cockpit_panels.py": lambda: (title for title, _ in QUANTITIES.values()),
    "ui/knobs.py": _knobs,
    "lessons/answers.py": lambda: (answer.reason for answer in ANSWERS.values()),
    "config.py": lambda: (f.metadata["help"] for f in dataclasses.fields(PPOConfig)),
    "doctor.py": _findings,
    "classroom/concept_test.toml": _concept_test,
    "classroom/two_pages.py": _two_pages,
    "classroom/key.py": lambda: key.FOUND.values(),
}
"""What reaches `tr` as data, by the file that holds it."""


def headings(language: str) -> Iterator[tuple[str, str]]:
    """The headings to which exercises send their readers, and how they are translated there."""
    for section in dict.fromkeys(exercise.section for exercise in EXERCISES.values()):
        notebook, heading = section.split(": ", 1)
        catalogue = _read(ROOT / "notebooks" / language / f"{notebook}.po", language)
        yield heading, po.said(catalogue, heading)


@functools.cache
def _read(path: Path, language: str) -> Catalog:
    return po.read(path, language)


def folder(language: str) -> Path:
    """Where a language's files are."""
    return PACKAGE / "locale" / language


def source(language: str) -> Path:
    """Its catalogue."""
    return folder(language) / "LC_MESSAGES" / "rlhf_lab.po"


def compiled(language: str) -> dict[Path, bytes]:
    """The files that are made from a catalogue; the same bytes on every machine."""
    catalogue = po.read(source(language), language)
    pairs = {str(m.id): po.said(catalogue, str(m.id)) for m in catalogue if m.id}
    page = {
        str(message.id): pairs[str(message.id)]
        for message in catalogue
        if any(where.endswith(".js") for where, _ in message.locations)
    }
    pairs |= dict(headings(language))
    words = {english: text for english, text in sorted(page.items()) if text != english}
    page_json = json.dumps(words, indent=1, ensure_ascii=False) + "\n"
    return {
        source(language).with_suffix(".mo"): _machine_readable(pairs),
        folder(language) / "page.json": page_json.encode(),
    }


def _machine_readable(pairs: dict[str, str]) -> bytes:
    """A .mo file of what differs from English; Babel would write the date and its version into it.

    References:
        GNU gettext manual, "The Format of GNU MO Files".
    """
    known = {"": "Content-Type: text/plain; charset=UTF-8\n"}
    known |= {english: text for english, text in pairs.items() if text != english}
    rows = sorted((english.encode(), text.encode()) for english, text in known.items())
    n, start = len(rows), 28
    text, tables = b"", [list[int](), list[int]()]
    for table, column in zip(tables, zip(*rows, strict=True), strict=True):
        for word in column:
            table += [len(word), start + 16 * n + len(text)]
            text += word + b"\0"
    head = (0x950412DE, 0, n, start, start + 8 * n, 0, 0)
    return struct.pack(f"<{7 + 4 * n}I", *head, *tables[0], *tables[1]) + text


def problems(language: str) -> Iterator[str]:
    """What keeps the catalogue from being a true translation, line by line."""
    catalogue = po.read(source(language), language)
    yield from po.problems(source(language).name, catalogue, template())
    yield from po.Style(language).problems(source(language).name, catalogue)
    for path, content in compiled(language).items():
        if not path.exists() or path.read_bytes() != content:
            yield f"{path.name} is out of date: run python3 course.py translate"


def main(command: str, language: str) -> int:
    """Do what the module's first lines say; returns the exit code."""
    if command == "check":
        found = list(problems(language))
        print(*found, sep="\n", end="\n" if found else "")
        return bool(found)
    if command == "update":
        po.update(source(language), language, template())
    else:
        for path, content in compiled(language).items():
            write_whole(path, content)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
