"""A parser of command lines that explains itself in the reader's language."""

import argparse
import typing
from collections.abc import Callable
from typing import Any

from rlhf_lab.translation import tr


class Parser(argparse.ArgumentParser):
    """As `argparse` has it; what `help` and `description` say in English is translated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Translated, **settings)


class _Translated(argparse.HelpFormatter):
    def add_text(self, text: str | None) -> None:
        super().add_text(text if text is None else tr(text))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return tr(action.help) if action.help else None


def list_of(kind: type[float]) -> Callable[[str], list[float]]:
    """A parser of numbers with commas between them."""

    def parse(text: str) -> list[float]:
        return [kind(part) for part in text.split(",")]

    parse.__name__ = f"list of {kind.__name__}"  # argparse names it when it refuses a value
    return parse


def value_type(annotation: object) -> type:
    """The plain type to parse an option with: float for `float | None`, str for a `Literal`."""
    plain = [t for t in (int, float, str) if t is annotation or t in typing.get_args(annotation)]
    return plain[0] if plain else str
