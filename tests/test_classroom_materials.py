"""Slides and the two pages say what the notebooks say, and no answer stands before its guess."""

import html
import re

import pytest
from scripts import ROOT

from rlhf_lab.classroom import materials, questions, slides, two_pages
from rlhf_lab.classroom.__main__ import main
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.lessons.museum.invariants import INVARIANTS

LESSONS = {n: b for n, b in questions.notebooks().items() if n[:2].isdigit()}


def sections(page: bytes) -> list[str]:
    return re.findall(r"<section>(.*?)</section>", page.decode(), re.DOTALL)


@pytest.fixture(scope="module")
def shown():
    """The slides of each notebook, by its number."""
    found = {}
    for page in slides.files().values():
        for section in sections(page):
            number = re.search(r'<p class="place">(\d\d), ', section)[1]
            found.setdefault(number, []).append(section)
    return found


def test_every_lesson_has_its_guesses_one_figure_and_the_last_question(shown):
    assert sorted(shown) == sorted(name[:2] for name in LESSONS)
    for name, notebook in LESSONS.items():
        first, *rest = shown[name[:2]]
        asked = questions.predictions(name, notebook)
        assert "<h1>" in first
        guesses = [section for section in rest if "Guess first" in section]
        assert len(guesses) == len(asked)
        figures = [section for section in rest if "The figure to remember" in section]
        assert len(figures) == 1
        assert re.search(r'<img alt="[^"]{30,}" src="data:image', figures[0])
        assert any("Before you go" in section for section in rest)
        assert rest.index(figures[0]) > rest.index(guesses[-1]) if guesses else True


def test_a_guess_has_its_choices_and_not_its_reason(shown):
    for name, notebook in LESSONS.items():
        text = "".join(shown[name[:2]])
        for question in questions.predictions(name, notebook):
            assert html.escape(question.text) in text
            for choice in question.choices:
                assert f"<li>{html.escape(choice)}</li>" in text
            if reason := ANSWERS.get(question.name):
                assert html.escape(reason.reason) not in text


def test_the_classes_are_those_of_the_plan():
    plan = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    row = re.search(r"^\| 4 × 90 minutes \| (.+?) \|", plan, re.MULTILINE)[1]
    planned = {tuple(part.split(", ")) for part in row.split(" · ")}
    assert planned <= set(slides.CLASSES)
    assert sorted(n for numbers in slides.CLASSES for n in numbers) == [n[:2] for n in LESSONS]


def test_the_two_pages_have_every_invariant_of_the_museum():
    assert list(two_pages.INVARIANTS) == [invariant.name for invariant in INVARIANTS]
    front, back = sections(two_pages.files()["two-pages.html"])
    assert len(two_pages.FORMULAS) == 5
    assert "J(π) = E<sub>y∼π</sub>[r(x, y)] − η·KL(π ‖ π<sub>SFT</sub>)" in front
    assert '<img alt="' in back


def test_without_results_there_is_no_map(tmp_path):
    from rlhf_lab.classroom.copies import cleared

    (tmp_path / "notebooks").mkdir()
    name = next(name for name in LESSONS if name.startswith("07"))
    (tmp_path / "notebooks" / f"{name}.ipynb").write_bytes(cleared(LESSONS[name]))
    with pytest.raises(ValueError, match="has no results: run python3"):
        two_pages.files(tmp_path)


def test_the_command_writes_one_folder_and_says_when_there_are_no_pdfs(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(materials, "find_browser", lambda: None)
    assert main(["materials", str(tmp_path / "m")]) == 0
    assert "No PDFs" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert {"two-pages.html", "slides-01-02.html", "concept-test.html"} <= names
    assert not any(name.endswith(".pdf") for name in names)
    assert main(["materials", str(tmp_path / "m")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_browser_that_prints_nothing_is_named(tmp_path):
    with pytest.raises(OSError, match="printed nothing"):
        materials.pdf(b"<p>", str(tmp_path / "no-such-browser"))
