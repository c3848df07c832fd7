"""`tr` speaks the language that was set, and English where a catalogue says nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from rlhf_lab import translation
from rlhf_lab.translation import language, page_words, set_language, tr

N_OF = "{n} of {total} values differ."


@pytest.fixture(autouse=True)
def swabian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A language of two sentences, and English again at the end."""
    catalogue = Catalog(locale="de")
    catalogue.add(N_OF, "Von {total} Werten sind {n} anders.")
    catalogue.add("wide", "broit")
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "rlhf_lab.mo").open("wb") as file:
        write_mo(file, catalogue)
    (tmp_path / "de" / "page.json").write_text(json.dumps({"play": "los"}), encoding="utf-8")
    monkeypatch.setattr(translation, "_CATALOGUES", tmp_path)
    monkeypatch.setattr(translation, "LANGUAGES", ("en", "de"))
    yield
    set_language("en")


def test_a_sentence_is_said_in_the_language_that_was_set_last() -> None:
    assert tr(N_OF, n=3, total=12) == "3 of 12 values differ."
    set_language("de")
    assert tr(N_OF, n=3, total=12) == "Von 12 Werten sind 3 anders."
    assert language() == "de"
    set_language("en")
    assert tr("wide") == "wide"


def test_what_has_no_translation_is_said_in_english() -> None:
    set_language("de")
    assert tr("narrow, {x:.1f}", x=2) == "narrow, 2.0"


def test_an_empty_text_stays_empty() -> None:
    set_language("de")
    assert tr("") == ""


def test_braces_stay_where_nothing_is_filled_in() -> None:
    assert tr(r"\mathrm{KL}") == r"\mathrm{KL}"


def test_the_page_gets_its_own_words() -> None:
    assert page_words() == {}
    set_language("de")
    assert page_words() == {"play": "los"}


def test_a_language_without_catalogues_is_refused_and_changes_nothing() -> None:
    set_language("de")
    with pytest.raises(ValueError, match=r"must be one of \('en', 'de'\), got 'fr'"):
        set_language("fr")
    assert language() == "de"


@pytest.mark.parametrize(("said", "code"), [("en", 0), ("", 0), ("xx", 1)])
def test_a_variable_sets_the_language_of_a_process(said: str, code: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import rlhf_lab.translation"],
        env={**os.environ, "RLHF_LAB_LANGUAGE": said},
        capture_output=True,
        text=True,
    )
    assert run.returncode == code
    assert ("RLHF_LAB_LANGUAGE" in run.stderr) == bool(code)
