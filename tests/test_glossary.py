"""docs/glossary.md is true: each word is defined where it is first used, and no letter is missing.

What counts is the prose from the first numbered section of a notebook on. What stands before it
(title, what you will see, questions on earlier notebooks) announces words and defines none. Code,
links and displayed equations are not prose.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε",
    "eta": "η", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ",
}  # fmt: skip
OPERATORS = "Σ"
"""Signs that are no symbols of the course."""


class Cell(NamedTuple):
    """A text of a lesson: the number of the notebook, the cell's name, its Markdown."""

    notebook: str
    name: str
    text: str


class Term(NamedTuple):
    """A row of the table."""

    term: str
    notebook: str
    cell: str


def lesson_texts(path):
    """The Markdown cells from the first numbered section on."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [(c["id"], "".join(c["source"])) for c in cells if c["cell_type"] == "markdown"]
    begin = next(at for at, (_, text) in enumerate(texts) if re.search(r"^## 1\. ", text, re.M))
    return [Cell(path.stem[:2], name, text) for name, text in texts[begin:]]


TEXTS = [cell for path in LESSONS for cell in lesson_texts(path)]
TERMS = [Term(*row) for row in re.findall(
    r"^\| ([^|]+?) \|[^|]*\|[^|]+\| (\d\d) \| `([\w-]+)` \|$", GLOSSARY, re.M
)]  # fmt: skip
LETTERS = re.findall(r"^\| ([α-ω]) \|[^|]+\| (\d\d) \|$", GLOSSARY, re.M)


def prose(text):
    """Without code, links and equations; marks of emphasis stay."""
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|\$\$.*?\$\$", " ", text, flags=re.S)
    return text.replace("\\*", "")


def pattern(term):
    return rf"(?<![\w-]){re.escape(term)}(?:e?s)?(?![\w-])"


def uses(term, text):
    return re.search(pattern(term), prose(text).replace("*", ""), re.I) is not None


def defines(term, text):
    """The word is emphasised, something "is called" so, or its long form follows in italics.

    Or it begins a row of a table, which explains it.
    """
    bare, marked = re.escape(term), prose(text)
    emphasised = rf"\*[^*\n]*{pattern(term)}[^*\n]*\*"
    called = rf"called [^.:]{{0,20}}\**{bare}"
    spelled_out = rf"{bare}\** \(\*[^*]+\*"
    row = rf"^\| {bare} \|"
    ways = f"{emphasised}|{called}|{spelled_out}|{row}"
    return re.search(ways, marked, re.I | re.M) is not None


def first_use(term, texts):
    return next((cell for cell in texts if uses(term, cell.text)), None)


def letters(text):
    """The small Greek letters of a text, written as they are or in LaTeX."""
    spelled = re.findall(rf"\\({'|'.join(GREEK)})(?![a-z])", text)
    return {*re.findall("[α-ωΣ]", text), *(GREEK[name] for name in spelled)}


def test_the_tables_are_read():
    assert len(TERMS) == len({row.term for row in TERMS}) > 60
    assert len(re.findall(r"^\| [^|]+ \|[^|]*\|[^|]+\| \d\d \| ", GLOSSARY, re.M)) == len(TERMS)


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row.term)
def test_a_word_is_defined_where_it_is_first_used(row):
    first = first_use(row.term, TEXTS)
    assert first is not None
    assert (first.notebook, first.name) == (row.notebook, row.cell)
    assert defines(row.term, first.text)


def test_words_stand_in_the_order_of_the_course():
    at = [(cell.notebook, cell.name) for cell in TEXTS]
    places = [at.index((row.notebook, row.cell)) for row in TERMS]
    assert places == sorted(places)


def test_no_letter_is_missing_and_none_is_too_early():
    found = {}
    for path in LESSONS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for letter in letters("".join(cell["source"])) - set(OPERATORS):
                    found.setdefault(letter, path.stem[:2])
    assert found == dict(LETTERS)


@pytest.mark.parametrize(
    ("text", "is_defined"),
    [
        ("This is called a **nat**.", True),
        ("This is called the nat, as you know.", True),
        ("**GAE** (*generalised advantage estimation*) and the nat.", False),
        ("A nat is a nat.", False),
        ("The *nat* is a unit.", True),
        ("| word | unit |\n| --- | --- |\n| nat | of logarithms |", True),
        ("| unit | how many nats | a nat |", False),
    ],
)
def test_a_definition_is_recognised(text, is_defined):
    assert defines("nat", text) == is_defined


def test_a_word_that_comes_too_early_is_found():
    texts = [Cell("00", "a", "Two nats."), Cell("00", "b", "It is called a **nat**.")]
    assert first_use("nat", texts).name == "a"
    assert (
        first_use("nat", [Cell("00", "a", "`nat` [word](nat.html) natural"), *texts[1:]]).name
        == "b"
    )
