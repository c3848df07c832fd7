"""What students read, in their language: English as the code has it, or a translation of it.

A notebook says `set_language("zh")` in its first cell; RLHF_LAB_LANGUAGE=zh says it for a process.
A language is a folder of `locale`, with the catalogues that `course.py translate` compiles.
Exceptions and the documentation of functions stay English, as those of Python and torch do.

References:
    GNU gettext: English sentences are the keys, so that code reads without a catalogue.
"""

import gettext
import json
import os
import unicodedata
from pathlib import Path

_CATALOGUES = Path(__file__).parent / "locale"
LANGUAGES = ("en", *sorted(path.name for path in _CATALOGUES.glob("[a-z]*")))
_language, _catalogue = "en", gettext.NullTranslations()


def set_language(language: str) -> None:
    """Speak this language from now on: one of `LANGUAGES`.

    Raises:
        ValueError: there are no catalogues for it.
    """
    global _language, _catalogue
    if language not in LANGUAGES:
        raise ValueError(
            f"the language (set_language, RLHF_LAB_LANGUAGE) must be one of {LANGUAGES}, "
            f"got {language!r}"
        )
    catalogue = gettext.NullTranslations()
    if language != "en":
        catalogue = gettext.translation("rlhf_lab", _CATALOGUES, [language])
    _language, _catalogue = language, catalogue


def language() -> str:
    """The language that is spoken now."""
    return _language


def tr(message: str, **values: object) -> str:
    """The message in the language that is spoken now, with its {placeholders} filled in.

    Without values nothing is filled in, and braces stay what they are. What has no translation
    comes back in English.

    >>> tr("{n} of {total} values differ.", n=3, total=12)
    '3 of 12 values differ.'
    """
    said = _catalogue.gettext(message) if message else ""  # gettext("") is the catalogue's header
    return said.format(**values) if values else said


def columns(text: str) -> int:
    """The width of a text on the screen, where a Chinese character is as wide as two letters.

    >>> columns("KL 散度")
    7
    """
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def page_words() -> dict[str, str]:
    """For the parts drawn by the page: each English message of `ui/front` and its translation."""
    if _language == "en":
        return {}
    words: dict[str, str] = json.loads(
        (_CATALOGUES / _language / "page.json").read_text(encoding="utf-8")
    )
    return words


set_language(os.environ.get("RLHF_LAB_LANGUAGE") or "en")
