"""An edition is the English course in other words: the same code, the same numbers."""

import ast
import html
import re
import shutil
from collections import Counter

import nbformat
import pytest
from scripts import ROOT, load

edition = load("tools/edition.py")
words, po = edition.words, edition.po
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LANGUAGES = sorted(path.name for path in (ROOT / "rlhf_lab" / "locale").glob("[a-z]*"))
by_stem = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
by_language = pytest.mark.parametrize("language", LANGUAGES)


class _Blank(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        values = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        return ast.Constant(repr(sorted(ast.dump(self.generic_visit(part)) for part in values)))


def bare(source):
    """A syntax tree without words; the values within a string may stand in another order."""
    return ast.dump(_Blank().visit(ast.parse(source)))


def cells(path):
    return nbformat.read(path, as_version=4).cells


def replaced(cell, translate):
    replace = words.markdown if cell.cell_type == "markdown" else words.code
    return replace(cell.source, translate)


@by_stem
def test_what_is_not_translated_stays_byte_for_byte(path):
    for cell in cells(path):
        assert replaced(cell, lambda message: message) == cell.source


@by_stem
def test_words_change_and_code_does_not(path):
    for cell in cells(path):
        text = replaced(cell, lambda message: f"译：{message} “好”")
        if cell.cell_type == "code":
            assert bare(text) == bare(cell.source)


@by_language
@by_stem
def test_an_edition_has_the_same_code(path, language):
    there = cells(path.parent / language / path.name)
    assert [c.id for c in there] == [c.id for c in cells(path)]
    for ours, theirs in zip(cells(path), there, strict=True):
        assert ours.metadata == theirs.metadata
        if ours.cell_type == "code":
            assert bare(ours.source) == bare(theirs.source)


def numbers(cell):
    """All numbers that a reader sees below a cell."""
    seen = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        drawn = re.sub(r'base64,[^"]*|<style.*?</style>', "", data.get("text/html", ""), flags=re.S)
        seen += [output.get("text", ""), data.get("text/plain", "")]
        seen += [html.unescape(re.sub(r"<[^>]*>", " ", drawn))]
    return Counter(re.findall(r"[\d⁰¹²³⁴-⁹]+(?:[.,]\d+)*", "\n".join(seen)))


@by_language
@by_stem
def test_an_edition_shows_the_same_numbers(path, language):
    for ours, theirs in zip(cells(path), cells(path.parent / language / path.name), strict=True):
        assert numbers(ours) == numbers(theirs), ours.id


@by_language
def test_an_edition_is_up_to_date(language):
    assert list(edition.problems(language)) == []


@pytest.fixture
def course(tmp_path):
    """A course of one notebook and its pages, translated whole; gives a function that edits it."""
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("zh"))
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "site").mkdir()
    for name in ("index.md", "single.html"):
        shutil.copy(ROOT / "site" / name, tmp_path / "site")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell(
            "# The leash\n\nIt costs **3 nats**, see [02](02.ipynb).", id="a"
        ),
        nbformat.v4.new_code_cell(
            '# Prints a sum.\nprint(f"the sum is {1 + 1:.1f} today")', id="b"
        ),
    ]
    nbformat.write(notebook, tmp_path / "notebooks" / "01.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notebooks" / "02.ipynb")
    for source in edition.sources("de", tmp_path):
        po.update(source.catalogue, "de", source.template())
        translate(source, lambda message: f"ä {message}")
        source.write()
    return tmp_path


def translate(source, say):
    catalogue = po.read(source.catalogue, "de")
    for message in catalogue:
        if message.id:
            message.string = say(message.id)
    with source.catalogue.open("wb") as file:
        po.write_po(file, catalogue, width=98, omit_header=True)


def the_notebook(course):
    return edition.Source("01", "de", course)


def edit(course, old, new):
    path = course / "notebooks" / "01.ipynb"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_whole_translation_has_no_problems(course):
    assert list(edition.problems("de", course)) == []
    text, code = cells(the_notebook(course).target)
    assert text.source == "# ä The leash\n\nä It costs **3 nats**, see [02](02.ipynb)."
    assert code.source == '# ä Prints a sum.\nprint(f"ä the sum is {1 + 1:.1f} today")'


def test_an_edited_line_is_named_and_appears_in_english(course):
    edit(course, "It costs", "It always costs")
    named = [line for line in edition.problems("de", course) if line.startswith("01")]
    assert any("markdown/a" in line and "is not translated" in line for line in named)
    assert any("is no longer in the English text" in line for line in named)
    assert any("is out of date" in line for line in named)

    source = the_notebook(course)
    po.update(source.catalogue, "de", source.template())
    assert "#| msgid " in source.catalogue.read_text(encoding="utf-8")  # the old text, to compare
    source.write()
    assert "It always costs **3 nats**" in cells(source.target)[0].source
    (named,) = edition.problems("de", course)
    assert "has changed" in named


@pytest.mark.parametrize(
    ("old", "new"),
    [("3 nats", "4 nats"), ("{1 + 1:.1f}", "{1 + 1:.2f}"), ("](02.ipynb)", "](03.ipynb)")],
)
def test_a_translation_that_loses_a_number_or_a_link_is_named(course, old, new):
    source = the_notebook(course)
    translate(source, lambda message: message.replace(old, new))
    named = list(po.problems("01.po", po.read(source.catalogue, "de"), source.template()))
    assert len(named) == 1
    assert "must keep" in named[0]


def test_words_within_a_formula_may_change_and_the_rest_may_not():
    english = r"$$r = 0 \text{ for } t < T$$"
    assert po.kept(english) == po.kept(r"$$r = 0 \text{，当 } t < T$$")
    assert po.kept(english) != po.kept(r"$$r = 1 \text{，当 } t < T$$")


def test_outputs_stay_until_the_code_changes(course):
    source = the_notebook(course)
    assert source.write()  # it never ran
    ran = nbformat.read(source.target, as_version=4)
    ran.cells[1].outputs = [nbformat.v4.new_output("stream", text="ä the sum is 2.0 today")]
    ran.cells[1].execution_count = 1
    nbformat.write(ran, source.target)
    edit(course, "# The leash", "# The long leash")
    assert not source.write()
    assert cells(source.target)[1].outputs == ran.cells[1].outputs
    edit(course, "1 + 1", "1 + 2")
    assert source.write()
    assert cells(source.target)[1].outputs == []


def test_links_lead_to_the_same_edition(course):
    page = (course / "docs" / "teaching.md").read_text(encoding="utf-8")
    page += (
        "\n## Last\n\n[home](../README.md), [run](performance.md), [below](#last), `[x](y.md)`\n"
    )
    (course / "docs" / "teaching.md").write_text(page, encoding="utf-8")
    source = edition.Source("teaching", "de", course)
    po.update(source.catalogue, "de", source.template())
    translate(source, lambda message: message.replace("Last", "Zuletzt"))
    last = source.edition().splitlines()[-1]
    assert (
        last
        == "[home](../../README.de.md), [run](../performance.md), [below](#zuletzt), `[x](y.md)`"
    )


def test_lines_of_a_paragraph_are_one_message_and_comments_in_listings_are_messages():
    page = (
        "A line\nand another.\n\n- An item\n  of two lines\n- b\n\n```\nrun it   # the comment\n```"
    )
    seen = []
    words.markdown(page, lambda message: seen.append(message) or message, wrapped=True)
    assert seen == ["A line and another.", "An item of two lines", "the comment"]


def test_a_link_to_another_edition_is_a_message_since_each_edition_leads_elsewhere():
    link = '<p><a href="zh/index.html" lang="zh">中文版</a></p>'
    assert words.markdown(link, lambda message: message.upper()) == link.upper()
    assert words.markdown("<p>\n42\n</p>", str.upper) == "<p>\n42\n</p>"


def test_keys_and_words_of_the_toy_language_are_no_messages():
    code = 'encode("very great . <eos>"); paths["natural_gradient"]; open("a"); x = "two words"'
    seen = []
    words.code(code, lambda message: seen.append(message) or message)
    assert seen == ["two words"]


def test_a_long_text_goes_over_several_lines():
    text = "长" * 120
    source = words.code('say = "a long text"', lambda _: text)
    assert max(map(len, source.splitlines())) <= 100
    assert ast.literal_eval(ast.parse(source).body[0].value) == text


STYLE = [
    ("the reward model", "打分模型", "reward model"),
    ("a dog", "这是您的狗", "您"),
    ("a dog", "一只狗,两只猫。", "full-width"),
    ("a dog", "狗的η 是 3", "space"),
    ("a dog", "**真。**她", "CommonMark"),
    ("a dog", "她**“真”**，", "CommonMark"),
]


@pytest.mark.parametrize(("english", "chinese", "named"), STYLE)
def test_terms_and_habits_are_held(english, chinese, named):
    catalogue = po.empty("zh")
    catalogue.add(english, chinese)
    (problem,) = po.Style("zh").problems("x.po", catalogue)
    assert named in problem


def test_good_chinese_passes():
    catalogue = po.empty("zh")
    catalogue.add(
        "the reward model: **3 nats**", "奖励模型：**3 nat**，**η = 0.3** 时（见笔记本 03）"
    )
    assert list(po.Style("zh").problems("x.po", catalogue)) == []


def test_a_cell_of_a_table_that_stays_english_needs_no_terms():
    row, stays = "| 1 | the leash | the reward model |", "| 1 | 缰绳 | the reward model |"
    catalogue = po.empty("zh")
    catalogue.add(row, stays)
    assert list(po.Style("zh").problems("x.po", catalogue)) == []
    catalogue = po.empty("zh")
    catalogue.add(row, "| 1 | 缰绳 | a reward model |")
    (problem,) = po.Style("zh").problems("x.po", catalogue)
    assert "reward models?" in problem
