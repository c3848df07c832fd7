"""Catalogues of translations: read, brought up to date, checked and written, the same way for all.

A catalogue is a gettext .po file. The English text is the key, so that a translation whose English
has changed is never shown: `update` marks it "fuzzy" and puts the old text above it.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

HERE = Path(__file__).resolve().parent
HEADER = """msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=utf-8\\n"

"""
KEPT = re.compile(
    r"\{[^{}]*\}|%\(\w+\)\w"  # a placeholder, also one of argparse
    r"|`[^`]*`"
    r"|\$\$?[^$]*\$\$?"
    r"|\]\([^)]*\)"
    r"|</?\w+"
    r"|(?<![\d.,])\d+(?:[.,]\d+)*"
)
"""What no translation changes: placeholders, code, formulas, links, tags, numbers."""


def empty(language: str | None = None) -> Catalog:
    return Catalog(locale=language, charset="utf-8")


def read(path: Path, language: str) -> Catalog:
    """The catalogue, an empty one if there is no file."""
    if not path.exists():
        return empty(language)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def update(path: Path, language: str, template: Catalog) -> None:
    """New messages come in empty, changed ones "fuzzy" beside the old text, the others go."""
    catalogue = read(path, language)
    catalogue.update(template, update_header_comment=False)
    catalogue.obsolete.clear()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(HEADER.format(language=language).encode())
        write_po(file, catalogue, width=98, omit_header=True, include_previous=True)


def said(catalogue: Catalog, message: str) -> str:
    """The translation; English where there is none or where it is out of date."""
    entry = catalogue.get(message)
    if entry is None or entry.fuzzy or not isinstance(entry.string, str):
        return message
    return entry.string or message


def problems(name: str, catalogue: Catalog, template: Catalog) -> Iterator[str]:
    """What keeps a catalogue from being a true translation of the English text as it is now."""
    for wanted in template:
        if wanted.id:
            where = f"{name}: {', '.join(at for at, _ in wanted.locations)}: {wanted.id[:70]!r}"
            yield from (f"{where} {what}" for what in _wrong(catalogue.get(wanted.id)))
    for message in catalogue:
        if message.id and template.get(message.id) is None:
            yield f"{name}: {message.id[:70]!r} is no longer in the English text"


def _wrong(message: Message | None) -> Iterator[str]:
    if message is None or not message.string:
        yield "is not translated"
    elif message.fuzzy:
        yield "has changed: compare its translation with the new text, then remove 'fuzzy'"
    else:
        before, after = kept(message.id), kept(message.string)
        if before != after:
            lost, new = _without(before, after), _without(after, before)
            yield f"must keep numbers, code and markup: {lost} became {new}"


def kept(text: str) -> list[str]:
    """These parts of a text, sorted, without words in formulas and in placeholders."""
    found = (re.sub(r"\\text\{[^}]*\}|'[^']*'", "", part) for part in KEPT.findall(text))
    return sorted(found)


def _without(these: list[str], those: list[str]) -> list[str]:
    return list((Counter(these) - Counter(those)).elements())


class Style:
    """Terms and habits of a language, from `style_LANGUAGE.toml` beside this file.

    `terms` maps an English pattern to the forms, one of which its translation must hold; `never`
    maps a pattern that no translation may hold to the reason.
    """

    def __init__(self, language: str) -> None:
        path = HERE / f"style_{language}.toml"
        rules = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.terms = [
            (re.compile(rf"\b(?:{word})\b", re.IGNORECASE), forms)
            for word, forms in rules.get("terms", {}).items()
        ]
        self.never = [(re.compile(bad), why) for bad, why in rules.get("never", {}).items()]

    def problems(self, name: str, catalogue: Iterable[Message]) -> Iterator[str]:
        for message in catalogue:
            if message.id and isinstance(message.string, str) and message.string:
                where = f"{name}: {message.string[:50]!r}"
                yield from (f"{where} {what}" for what in self._wrong(message.id, message.string))

    def _wrong(self, english: str, text: str) -> Iterator[str]:
        names = set(text.split(" | "))  # cells of a table that stay as they are
        english = " | ".join(cell for cell in english.split(" | ") if cell not in names)
        spoken = re.sub(r"`[^`]*`|\$\$?[^$]*\$\$?|\{[^{}]*\}|<[^>]*>|\]\([^)]*\)", "", english)
        for word, forms in self.terms:
            if word.search(spoken) and not any(form in text for form in forms):
                yield f"translates {word.pattern!r} with none of {forms}"
        for bad, why in self.never:
            if found := bad.search(re.sub(r"`[^`]*`|\$\$?[^$]*\$\$?", "`", text)):
                yield f"has {found[0]!r}: {why}"
        for bold in _not_bold(text):
            yield f"is not bold at **{bold}**: put the punctuation outside (CommonMark)"


def _not_bold(text: str) -> Iterator[str]:
    """What stands between ** and **, and stays so: at a letter, no punctuation may be inside."""
    parts = text.split("**")
    for before, bold, after in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
        opens = before[-1:].isalnum() and not bold[:1].isalnum()
        closes = after[:1].isalnum() and not bold[-1:].isalnum()
        if bold and (opens or closes):
            yield bold
