"""What a teacher projects and prints: nothing is cut off, all is large, and the PDFs are whole."""

import re

import chromium
import pytest

from rlhf_lab.classroom import concept, materials, slides, two_pages

PAGES = {**slides.files(), **two_pages.files()}
CUT = """[...document.querySelectorAll("section")].map((s, i) => [i + 1,
  s.scrollHeight - s.clientHeight, s.scrollWidth - s.clientWidth])
  .filter(x => x[1] > 1 || x[2] > 1)"""
SMALLEST = """Math.min(...[...document.querySelectorAll("section *")]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize)))"""


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_or_too_small(page, name, tmp_path):
    file = tmp_path / name
    file.write_bytes(PAGES[name])
    page.goto(file.as_uri())
    assert page.evaluate(CUT) == []
    assert page.evaluate(SMALLEST) >= (28 if name.startswith("slides") else 10)


@pytest.mark.parametrize(
    ("name", "wide", "high"), [("slides-01-02.html", 1440, 810), ("two-pages.html", 595, 842)]
)
def test_a_pdf_has_a_page_for_each_section(name, wide, high):
    """In points: 1920 × 1080 px are 1440 × 810, and A4 is 595 × 842."""
    printed = materials.pdf(PAGES[name], chromium.find())
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert len(sizes) == PAGES[name].count(b"<section>")
    assert all(abs(float(w) - wide) < 2 and abs(float(h) - high) < 2 for w, h in sizes)


def test_the_concept_test_prints_on_four_pages_at_most():
    printed = materials.pdf(concept.files()["concept-test.html"], chromium.find())
    assert 1 <= len(re.findall(rb"/MediaBox", printed)) <= 4
