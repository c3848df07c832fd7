"""What `check` answers: the same words as plain text and as HTML, and the table of differences."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Choice, Exercise
from rlhf_lab.exercises.observe import TOLERANCE, Observation, Trial, close, spoken
from rlhf_lab.language import WORDS
from rlhf_lab.translation import columns, tr

WIDTH = 88
_SHOWN = 6  # rows of the table of differences
_SIGNS = {
    "right": ("✔", "--jp-success-color1", "#2e7d32"),
    "not done yet": ("○", "--jp-border-color1", "#757575"),
}
# JupyterLab would break its rows.
_TABLE = "margin: 4px 0; font-size: 85%; white-space: pre; overflow-x: auto"
_NOT_YET = ("✘", "--jp-warn-color1", "#b26a00")


class Verdict(NamedTuple):
    """The answer of `check`; the notebook shows its text."""

    status: str
    """"right", "not done yet", "mistake" (one that has a name) or "wrong" (any other)."""
    text: str
    mistake: str = ""
    """Name of the mistake: a known one of the exercise, or a general slip."""

    def __repr__(self) -> str:
        return "\n".join(_wrapped(line) for line in self.text.splitlines())

    def _repr_html_(self) -> str:
        """The text with a sign and a colour: neither of them says more than the words."""
        sign, colour, fallback = _SIGNS.get(self.status, _NOT_YET)
        style = (
            f"border-left: 5px solid var({colour}, {fallback}); padding: 2px 0 2px 12px; "
            "max-width: 75ch; overflow-wrap: break-word; "
            "font-family: var(--jp-content-font-family, sans-serif)"
        )
        mark = (
            f'<span aria-hidden="true" style="color: var({colour}, {fallback}); '
            f'font-weight: bold">{sign}</span> '
        )
        return f'<div style="{style}">{mark}{"".join(_blocks(self.text))}</div>'


def _wrapped(line: str) -> str:
    # Lines that begin with spaces are rows of a table, or code.
    width = WIDTH * len(line) // max(columns(line), 1)
    return line if line.startswith("  ") else textwrap.fill(line, width) or line


def _blocks(text: str) -> list[str]:
    blocks: list[str] = []
    for line in text.splitlines():
        shown = html.escape(line)
        if not line.startswith("  "):
            shown = re.sub(r"(?<!\S)\*(\w+)\*(?!\w)", r"<em>\1</em>", shown)
            blocks.append(f"<span>{shown}</span><br>")
        elif blocks and blocks[-1].startswith("<pre"):
            blocks[-1] = blocks[-1].removesuffix("</pre>") + f"\n{shown}</pre>"
        else:
            blocks.append(f'<pre style="{_TABLE}">{shown}</pre>')
    return blocks


def section(exercise: Exercise | Choice) -> str:
    """Where it is explained: a notebook, and a heading of its edition in the reader's language."""
    notebook, colon, heading = exercise.section.partition(": ")
    return f"{notebook}{colon}{tr(heading)}"


def difference(t: Trial) -> str:
    """The difference between an attempt and the reference, as a sentence or a small table."""
    got, expected = t.got, t.expected
    if kind := _without_numbers(t):
        error = (got.error or expected.error.split(":")[0]).partition("\n")[0]
        return tr(_WITHOUT_NUMBERS[kind], error=error, line=got.line)
    shapes = [tuple(x.shape) for x in got.numbers], [tuple(x.shape) for x in expected.numbers]
    if shapes[0] != shapes[1]:
        one = len(got.numbers) == len(expected.numbers) == 1
        says = "the shape is {got}, expected {expected}."
        says = says if one else "the shapes are {got}, expected {expected}."
        return tr(says, got=_list(shapes[0]), expected=_list(shapes[1]))
    if not close(got.numbers, expected.numbers):
        return _table(t, "value", got.numbers, expected.numbers)
    if not close(got.gradients, expected.gradients):
        return _table(t, "gradient", got.gradients, expected.gradients)
    return tr("the numbers are right.")


_WITHOUT_NUMBERS = {
    "line": "your function stopped with {error}, in your line\n    {line}",
    "error": "your function stopped with {error}.",
    "silent": "your function returned nothing.",
    "refusal": "your function should refuse this input with a {error}.",
}


def _without_numbers(t: Trial) -> str:
    """Why one of the two has no numbers; "" where both have."""
    if t.got.error:
        return "line" if t.got.line else "error"
    return "silent" if t.got.silent else "refusal" if t.expected.error else ""


_ONE = {
    "value": "your value is {got:.4g}, expected {expected:.4g}.",
    "gradient": "your gradient is {got:.4g}, expected {expected:.4g}.",
}
_SOME = {
    "value": "{n} of {total} values differ.",
    "gradient": "{n} of {total} gradients differ.",
}


def _table(t: Trial, what: str, got: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    rows = [
        (part, index, a[index].item(), b[index].item())
        for part, (a, b) in enumerate(zip(got, expected, strict=True))
        for index in _apart(a, b)
    ]
    total = sum(x.numel() for x in got)
    if total == 1:
        return tr(_ONE[what], got=rows[0][2], expected=rows[0][3])
    names = [name_of(t, what, part, index) for part, index, _, _ in rows[:_SHOWN]]
    width = max(7, *map(columns, names))
    lines = [tr(_SOME[what], n=len(rows), total=total)]
    lines.append(" ".join([f"  {'':{width}}", _padded(tr("yours")), _padded(tr("expected"))]))
    lines += [
        f"  {name}{' ' * (width - columns(name))} {a:10.4g} {b:10.4g}"
        for name, (_, _, a, b) in zip(names, rows, strict=False)
    ]
    more = ["  …"] if len(rows) > _SHOWN else []
    return "\n".join([*lines, *more, *_as_words(t, what, *rows[0][:2])])


def _padded(head: str) -> str:
    return " " * (10 - columns(head)) + head


def _apart(a: Tensor, b: Tensor) -> list[tuple[int, ...]]:
    apart = ~torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    return [tuple(index) for index in apart.nonzero().tolist()]


def name_of(t: Trial, what: str, part: int, index: tuple[int, ...]) -> str:
    """The words for one number of an output, such as "kl" or "returns, review 0, token 2"."""
    if what == "gradient":
        name = tr("by {name}", name=spoken(list(t.arguments)[t.case.gradient[part]]))
    else:
        name = t.exercise.outputs[part] if t.exercise.outputs else ""
    axes = zip(_axes(t, what, part), index, strict=True)
    return ", ".join(filter(None, [name, *(f"{tr(axis)} {i}" for axis, i in axes)]))


def _axes(t: Trial, what: str, part: int) -> list[str]:
    """What the dimensions of an output count."""
    shape = tuple((t.got.gradients if what == "gradient" else t.got.numbers)[part].shape)
    mask = t.mask
    if mask is None and "responses" in t.arguments:
        mask = t.arguments["responses"]
    batch = () if mask is None else tuple(mask.shape)
    if batch and shape[:2] == batch:
        return [*_BATCH[: len(shape)]]
    if batch and len(shape) == 1 and shape[0] == batch[0]:
        return [_BATCH[0]]
    return ["element"] if len(shape) == 1 else [*_PLACES[: len(shape)]]


_BATCH = ("review", "token", "word")
_PLACES = ("row", "column", "place", "place")


def _as_words(t: Trial, what: str, part: int, index: tuple[int, ...]) -> list[str]:
    """The review of the first difference in words, where an input is text."""
    tokens = t.arguments.get("responses")
    if _axes(t, what, part)[:1] != [_BATCH[0]]:
        return []
    if not isinstance(tokens, Tensor) or tokens.max() >= len(WORDS):
        return []
    words = " ".join(WORDS[i] for i in tokens[index[0]].tolist())
    return ["  " + tr("review {n} of the input: {words}", n=index[0], words=words)]


def _list(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or tr("none")


def shape_of(o: Observation) -> list[tuple[int, ...]]:
    """The shapes of all outputs."""
    return [tuple(x.shape) for x in o.numbers]
