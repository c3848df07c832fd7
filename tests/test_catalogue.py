"""Every sentence of the package is in its catalogue, and what is compiled is what it holds."""

import ast
import gettext
import io
import re

import pytest
from scripts import ROOT, load

from rlhf_lab.exercises import EXERCISES

catalogue = load("tools/catalogue.py")
edition = load("tools/edition.py")
po = catalogue.po
LANGUAGES = sorted(path.name for path in (ROOT / "rlhf_lab" / "locale").glob("[a-z]*"))
by_language = pytest.mark.parametrize("language", LANGUAGES)
MODULES = sorted(path for path in catalogue.PACKAGE.rglob("*.py") if path.stem != "translation")
MOST_CALLS = 250
"""Of `tr`: what is data or a label is translated where all of it passes."""
SAYS_DATA = {
    "__main__.py", "classroom/__main__.py", "classroom/concept.py", "classroom/key.py",
    "classroom/page.py", "classroom/questions.py", "classroom/sandbox.py", "classroom/slides.py",
    "classroom/two_pages.py", "command_line.py", "doctor.py", "exercises/__init__.py",
    "exercises/checker.py", "exercises/facts.py", "exercises/observe.py", "exercises/slips.py",
    "exercises/verdict.py", "labels.py", "lessons/dialects.py", "lessons/entropy_bonus.py",
    "lessons/museum/exhibits.py",
    "lessons/museum/figures.py", "lessons/museum/invariants.py", "lessons/score_at_the_end.py",
    "loop_drawing.py", "progress.py", "ui/explorer_still.py", "ui/knobs.py", "ui/predict.py",
}  # fmt: skip
"""Modules in which `tr` is called with data: `SPEAKERS`, `LABELS` and `DATA` must find it."""


def parsed(source):
    return catalogue.Module(source)


@pytest.fixture(scope="module")
def template():
    return catalogue.template()


def test_what_is_said_as_data_is_known():
    """A new `tr(name)` needs somebody to think of where the name comes from."""
    found = {
        path.relative_to(catalogue.PACKAGE).as_posix()
        for path in MODULES
        if parsed(path.read_text(encoding="utf-8")).unknown()
    }
    assert found == SAYS_DATA


def test_there_are_few_calls():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    said = [call for call in calls if getattr(call.func, "id", "") == "tr"]
    assert 100 < len(said) <= MOST_CALLS


def test_every_call_of_a_script_says_a_constant():
    for folder in catalogue.SCRIPTS:
        for path in folder.rglob("*.js"):
            text = path.read_text(encoding="utf-8")
            calls = re.findall(r"(?<![\w.])(?<!function )tr\((?!\))", text)
            assert len(calls) == len(catalogue._CALL.findall(text)), path.name


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("tr('a b', x=1)", ["a b"]),
        ("def f():\n says = 'one'\n if x: says = 'two'\n return tr(says)", ["one", "two"]),
        ("def f():\n said = 'mine'\n tr(said)\ndef g():\n said = 'not mine'", ["mine"]),
        ("T = {1: 'one', 2: 'two'}\ndef f(n): return tr(T[n])", ["one", "two"]),
        (
            "def f():\n says = says or 'one'\n says = says if x else 'two'\n tr(says)",
            ["one", "two"],
        ),
        ("a, b = 'one', 'two'\ntr(b)", ["two"]),
        ("ax.set(xlabel='steps', ylim=(0, 1))", ["steps"]),
        ("ax.text(0, 1, 'here')", ["here"]),
        ("tr('a', label='no message')", ["a"]),
        ("Fact('name', 'says', 'hint', {'x': 'value'})", ["says", "hint"]),
        ("p.add_argument('--x', help='what it is')", ["what it is"]),
        ('"""Title."""\nParser(description=__doc__)', ["Title."]),
        ("tr(thing.name)", []),
    ],
)
def test_messages_are_found(source, messages):
    assert [*parsed(source).messages()] == messages


def test_the_template_has_each_kind(template):
    """A kind that nobody collects any more is missed here first."""
    for message in (
        "Not yet. On {case}: {difference}",  # composed
        "reviews of 4, 2 and 1 tokens",  # a case
        "Which is the last token that the policy chose?",  # a hint
        "{it} has the wrong sign everywhere.",  # a slip
        "You did not use the mask: the padding counts.",  # a slip in a table
        "the number of reviews",  # a count of a case
        "Your index is the number of places itself: one too large.",  # an error
        "✓ Committed",
        "torch threads",  # a finding's name
        "cpu works; the course needs no GPU",
        "train a policy with PPO in review world",
        "λ of GAE",  # a setting
        "iteration",  # a label
    ):
        assert template.get(message) is not None, message
    assert template.get("score on the last column") is None, "names of mistakes are data"


def test_exercises_send_readers_to_headings_that_the_notebooks_have():
    """Their translation is that of the notebook, so that a reader finds it."""
    for name in {exercise.section.split(":")[0] for exercise in EXERCISES.values()}:
        messages = edition.Source(name, "zh").template()
        for exercise in EXERCISES.values():
            if exercise.section.startswith(f"{name}:"):
                assert messages.get(exercise.section.split(": ", 1)[1]), exercise.section


@by_language
def test_the_catalogue_is_complete_and_compiled(language, template):
    there = po.read(catalogue.source(language), language)
    assert {m.id for m in there if m.id} == {m.id for m in template if m.id}
    for path, content in catalogue.compiled(language).items():
        assert path.read_bytes() == content, f"{path.name}: run python3 course.py translate"


@by_language
def test_the_translation_is_true_and_up_to_date(language):
    assert list(catalogue.problems(language)) == []


def test_python_reads_what_is_compiled():
    pairs = {"a {n}": "甲 {n}", "same": "same", "b": "乙"}
    read = gettext.GNUTranslations(io.BytesIO(catalogue._machine_readable(pairs)))
    assert [read.gettext(word) for word in ("a {n}", "same", "b", "c")] == [
        "甲 {n}",
        "same",
        "乙",
        "c",
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package of two messages in a folder of its own, translated whole."""
    package = tmp_path / "rlhf_lab"
    (package / "ui" / "front").mkdir(parents=True)
    (package / "a.py").write_text("x = tr('{n} of 3 rows', n=n)", encoding="utf-8")
    (package / "ui" / "front" / "a.js").write_text('tr("play \\"{x}\\"", { x })', encoding="utf-8")
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "PACKAGE", package)
    monkeypatch.setattr(catalogue, "SCRIPTS", (package / "ui" / "front",))
    monkeypatch.setattr(catalogue, "TOOLS", ())
    monkeypatch.setattr(catalogue, "DATA", {})
    monkeypatch.setattr(catalogue, "headings", lambda language: iter(()))
    assert catalogue.main("update", "de") == 0
    say({"{n} of 3 rows": "{n} von 3 Zeilen", 'play "{x}"': "„{x}“ abspielen"})
    assert catalogue.main("write", "de") == 0
    return package


def say(words):
    path = catalogue.source("de")
    there = po.read(path, "de")
    for english, text in words.items():
        there.get(english).string = text
    with path.open("wb") as file:
        po.write_po(file, there, omit_header=True)


def test_a_whole_catalogue_has_no_problem_and_the_page_gets_its_words(project, capsys):
    assert catalogue.main("check", "de") == 0
    assert capsys.readouterr().out == ""
    page = project / "locale" / "de" / "page.json"
    assert page.read_text(encoding="utf-8") == '{\n "play \\"{x}\\"": "„{x}“ abspielen"\n}\n'
    assert spoken()["{n} of 3 rows"] == "{n} von 3 Zeilen"


def test_a_changed_sentence_is_named_and_said_in_english(project, capsys):
    (project / "a.py").write_text("x = tr('{n} of 4 rows', n=n)", encoding="utf-8")
    assert catalogue.main("check", "de") == 1
    assert "'{n} of 4 rows' is not translated" in capsys.readouterr().out
    catalogue.main("update", "de")
    assert "#, fuzzy" in catalogue.source("de").read_text(encoding="utf-8")
    catalogue.main("write", "de")
    assert "{n} of 4 rows" not in spoken()
    assert catalogue.main("check", "de") == 1
    assert "has changed" in capsys.readouterr().out


def spoken():
    """What Python reads of the compiled catalogue."""
    machine = catalogue.source("de").with_suffix(".mo").read_bytes()
    return gettext.GNUTranslations(io.BytesIO(machine))._catalog


@pytest.mark.parametrize("wrong", ["{m} von 3 Zeilen", "{n} von 30 Zeilen", "drei Zeilen"])
def test_a_lost_value_or_number_is_named(project, capsys, wrong):
    say({"{n} of 3 rows": wrong})
    catalogue.main("write", "de")
    assert catalogue.main("check", "de") == 1
    assert "must keep numbers" in capsys.readouterr().out


def test_what_is_not_compiled_is_named(project, capsys):
    say({"{n} of 3 rows": "{n} Zeilen von 3"})
    assert catalogue.main("check", "de") == 1
    assert "rlhf_lab.mo is out of date" in capsys.readouterr().out
