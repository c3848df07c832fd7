"""The page on the Chinese note quotes it whole, and what it points to exists."""

import json
import re

import pytest
from scripts import ROOT

PAGE = (ROOT / "docs" / "zh" / "note.md").read_text(encoding="utf-8")
NOTE = (ROOT / "tests" / "data" / "note_zh.txt").read_text(encoding="utf-8")
QUOTED = "".join(re.findall(r"^> ?(.*)$", PAGE, re.MULTILINE))
SAID = re.sub(r"^(?:>.*|#.*)$", "", PAGE, flags=re.MULTILINE)


def bare(text):
    return re.sub(r"\s", "", text)


def test_every_sentence_of_the_note_is_quoted_in_its_order():
    assert bare(QUOTED) == bare(NOTE)


def notebook(number):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


SECTIONS = re.findall(r"(?<!\d)(\d\d)(?:\]\([^)]*\))? (?:第 ([\d、]+) 节)", SAID)


@pytest.mark.parametrize(("number", "sections"), SECTIONS)
def test_the_sections_that_it_names_exist(number, sections):
    headings = "\n".join("".join(c["source"]) for c in notebook(number))
    for section in sections.split("、"):
        assert re.search(rf"^## {section}\. ", headings, re.MULTILINE)


def test_it_names_many():
    assert len(SECTIONS) >= 20


SHOWN = {
    "03": ["−0.72", "2.47"], "04": ["3.34"], "07": ["0.7%", "14", "402,234", "8.0", "12.7"],
    "08": ["94", "17"],
}  # fmt: skip


@pytest.mark.parametrize("number", SHOWN)
def test_its_numbers_are_those_of_the_notebooks(number):
    shown = json.dumps([c.get("outputs") for c in notebook(number)], ensure_ascii=False)
    for text in SHOWN[number]:
        assert text in SAID
        assert re.search(rf"(?<![\d.]){re.escape(text.replace('−', '-'))}(?!\d)", shown)
