"""The page of a class: all choices, whole numbers, the right one marked, and nothing that harms."""

import json
import re

import pytest
from scripts import ROOT

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.__main__ import main
from rlhf_lab.classroom.report import report

TURN = {
    q.name: q
    for name, notebook in questions.notebooks(ROOT).items()
    for q in questions.predictions(name, notebook)
}


@pytest.fixture
def collect(tmp_path):
    """A class of which each student holds these guesses; gives the page as text."""

    def make(*students) -> str:
        for number, kept in enumerate(students):
            folder = tmp_path / "class" / f"s{number}"
            folder.mkdir(parents=True)
            text = kept if isinstance(kept, str) else json.dumps(kept)
            (folder / "predictions.json").write_text(text, encoding="utf-8")
        return report(tmp_path / "class").page.decode()

    return make


def alts(page: str) -> list[str]:
    return re.findall(r'<img alt="([^"]*)"', page)


def choice(name: str, guess: int, **other) -> dict:
    question = TURN[name]
    return {
        name: {"question": question.text, "choices": [*question.choices], "guess": guess} | other
    }


def test_every_choice_has_its_count_and_the_right_one_is_marked(collect):
    page = collect(choice("03_peak", 0), choice("03_peak", 2), choice("03_peak", 0, result=0))
    (said,) = alts(page)
    one, two, three = TURN["03_peak"].choices
    assert said.endswith(f"{one}: 2; {two}: 0; {three}: 1 (the answer).")
    assert "3 of 3 students" in page
    assert "<h2>03_too_much_of_a_good_reward</h2>" in page


def test_old_files_and_other_languages_add_up(collect):
    old = {"03_peak": {"guess": TURN["03_peak"].choices[1]}}
    chinese = choice("03_peak", 1)
    chinese["03_peak"]["choices"] = ["甲", "乙", "丙"]
    (said,) = alts(collect(old, chinese))
    assert f"{TURN['03_peak'].choices[1]}: 2;" in said


def test_a_guess_at_another_version_is_counted_apart(collect):
    page = collect(choice("03_peak", 1), {"03_peak": {"guess": "something else"}})
    assert "1 of 2 guesses answer another version of the question." in page
    assert len(alts(page)) == 1


def test_numbers_lie_on_the_allowed_range(collect):
    number = {"question": "?", "low": 1, "high": 128}
    page = collect(
        {"00_different": number | {"guess": 4, "result": 7}}, {"00_different": {"guess": 100}},
        {"00_different": {"guess": 500}}, {"00_different": {"guess": "many"}},
    )  # fmt: skip
    (said,) = alts(page)
    assert "2 guesses from 4 to 100, median 52; the answer is " in said
    assert "2 of 4 guesses answer another version" in page


def test_nothing_that_a_student_writes_is_code_of_the_page(collect):
    evil = "<script>alert(1)</script><img src=//evil.example>"
    own = {"question": evil, "choices": [evil, r"$\frac{$"], "guess": 0}
    page = collect(
        {"00_reader": {"guess": evil}, evil: own, "x" * 9999: {**own, "question": "y" * 9999}},
        {"00_reader": {"guess": "a\ud800"}, "03_peak": {"guess": 0}},
        {evil: {**own, "choices": [evil, "b", "c"]}},
    )
    assert "1 of 2 guesses" in page
    assert "<script" not in page
    assert "evil.example" not in re.sub(r"&lt;.*?&gt;", "", page)
    assert re.findall(r"<img (?!alt)", page) == []
    assert all(source.startswith("data:image/png;base64,")
               for source in re.findall(r'src="([^"]*)"', page))  # fmt: skip
    assert "default-src 'none'" in page
    assert max(map(len, alts(page))) < 2000


def test_a_damaged_file_is_named_to_the_teacher_and_the_class_goes_on(collect, tmp_path):
    (tmp_path / "class" / "<script>x").mkdir(parents=True)
    page = collect(choice("03_peak", 1), '{"a":', "[" * 10**5)
    said = report(tmp_path / "class").left_out
    assert "s1, predictions.json: no file of predictions" in said
    assert "<script>x: no predictions" in said
    assert "1 of 4 students" in page
    assert not re.search(r"s1\b|script", page), "no student is named on a page for the class"


def test_questions_of_the_teacher_come_last(collect):
    own = {"t_own": {"question": "Up?", "choices": ["yes", "no"], "guess": 1, "result": 0}}
    page = collect(own | choice("03_peak", 1))
    assert page.index("03_too_much") < page.index("Other questions")
    assert alts(page)[1] == "Up? yes: 0 (the answer); no: 1."


def test_the_command_writes_one_file_beside_the_folder(tmp_path, capsys):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "Anna.json").write_text(json.dumps(choice("03_peak", 1)), "utf-8")
    assert main(["report", str(tmp_path / "class")]) == 0
    assert "written:" in capsys.readouterr().out
    assert (tmp_path / "class-predictions.html").read_bytes().startswith(b"<!doctype html>")
    assert len(list((tmp_path / "class").iterdir())) == 1


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_nobody_guessed_is_a_line_and_status_2(tmp_path, capsys, content):
    (tmp_path / "class" / "Anna").mkdir(parents=True)
    if content is not None:
        (tmp_path / "class" / "Anna" / "predictions.json").write_text(content, encoding="utf-8")
    assert main(["report", str(tmp_path / "class")]) == 2
    assert "holds no predictions" in capsys.readouterr().err
