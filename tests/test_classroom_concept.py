"""The concept test says the same on every medium, and its sheet gives nothing away."""

import html
import io
import re
import warnings
import xml.etree.ElementTree as ET
import zipfile

import pytest
import scripts

from rlhf_lab.classroom import concept
from rlhf_lab.translation import LANGUAGES, set_language

with warnings.catch_warnings():  # it asks for the locale in a way that Python wants to drop
    warnings.simplefilter("ignore", DeprecationWarning)
    from pygiftparser import parser

TEST = concept.questions()


def moodle(text: str) -> str:
    """GIFT's own rule, which the parser leaves to the reader: a backslash makes a sign a letter."""
    return plain(re.sub(r"\\([~=#{}:\\])", r"\1", text))


def plain(markup: str) -> str:
    """The text of a piece of HTML, with `code` as in the source and straight quotes."""
    text = re.sub(r"</?code>", "`", markup)
    text = html.unescape(html.unescape(re.sub(r"</?\w+>", "", text)))
    return text.translate(str.maketrans("“”‘’", "\"\"''")).strip()


def test_moodles_format_reads_back_as_the_test():
    found = parser.parseFile(io.StringIO(concept.gift(TEST)))
    assert len(found) == len(TEST)
    for read, question in zip(found, TEST, strict=True):
        assert read.valid
        assert moodle(read.text) == question.text
        answers = read.answers.answers
        assert tuple(moodle(answer.answer) for answer in answers) == question.answers
        right = [i for i, answer in enumerate(answers) if answer.fraction == 100]
        assert right == [concept.LETTERS.index(question.right)]
        assert moodle(read.generalFeedback) == question.why


def test_canvas_package_reads_back_as_the_test():
    package = zipfile.ZipFile(io.BytesIO(concept.qti(TEST)))
    assert package.testzip() is None
    manifest = ET.fromstring(package.read("imsmanifest.xml"))
    named = {file.get("href") for file in manifest.iterfind(".//{*}file")}
    assert named - {None} <= set(package.namelist())
    items = next(
        tree.findall(".//{*}item")
        for tree in (ET.fromstring(package.read(name)) for name in named)
        if tree.findall(".//{*}item")
    )
    assert len(items) == len(TEST)
    for item, question in zip(items, TEST, strict=True):
        assert plain(item.findtext("./{*}presentation/{*}material/{*}mattext")) == question.text
        labels = item.findall(".//{*}response_label")
        assert tuple(plain(x.findtext(".//{*}mattext")) for x in labels) == question.answers
        right = item.findtext(".//{*}varequal")
        assert [x.get("ident") for x in labels].index(right) == "abcd".index(question.right)
        assert plain(item.findtext(".//{*}itemfeedback//{*}mattext")) == question.why


def test_the_sheet_has_every_question_and_no_key():
    sheet = concept.sheet(TEST).decode()
    for question in TEST:
        assert concept._html(question.text) in sheet
        assert all(f"<li>{concept._html(answer)}</li>" in sheet for answer in question.answers)
        assert concept._html(question.why) not in sheet
    assert 'class="answer"' not in sheet
    assert "<b>" not in sheet


def test_the_key_gives_the_right_answer_and_why():
    key = concept.key(TEST).decode()
    for question in TEST:
        answer = question.answers["abcd".index(question.right)]
        assert f"<b>({question.right}) {concept._html(answer)}</b>" in key
        assert concept._html(question.why) in key


def test_each_notebook_named_is_one_of_the_course():
    names = {path.name[:2] for path in (scripts.ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert {question.notebook for question in TEST} <= names
    letters = [question.right for question in TEST]
    assert max(letters.count(letter) for letter in "abcd") <= len(TEST) / 2, "guessable"


def test_the_page_in_docs_is_up_to_date():
    tool = scripts.load("tools/concept_test.py")
    for language in LANGUAGES:
        set_language(language)
        page = tool.page().read_text(encoding="utf-8")
        assert tool.up_to_date(page) == page
    set_language("en")
    with pytest.raises(ValueError, match="lost its marks"):
        tool.up_to_date(page.replace("<!--", "<!-"))


@pytest.mark.parametrize(
    "entry",
    [
        'text = "x"',
        'text = "x"\nanswers = ["a", "b", "c", "c"]\nright = "a"\nwhy = ""\nnotebook = "00"',
        'text = "x"\nanswers = ["a", "b", "c", "d"]\nright = "e"\nwhy = ""\nnotebook = "00"',
    ],
)
def test_a_damaged_source_is_named(entry, tmp_path):
    source = tmp_path / "test.toml"
    source.write_text(f"[[questions]]\n{entry}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="question 1 needs"):
        concept.questions(source)
