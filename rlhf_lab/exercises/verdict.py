"""What `check` answers: the same words as plain text and as HTML, and the table of differences."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.observe import TOLERANCE, Observation, Trial, close
from rlhf_lab.language import WORDS

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
    return line if line.startswith("  ") else textwrap.fill(line, WIDTH) or line


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


def difference(t: Trial) -> str:
    """The difference between an attempt and the reference, as a sentence or a small table."""
    got, expected = t.got, t.expected
    if got.error:
        where = f", in your line\n    {got.line}" if got.line else "."
        return f"your function stopped with {got.error.splitlines()[0]}{where}"
    if got.silent:
        return "your function returned nothing."
    if expected.error:
        return f"your function should refuse this input with a {expected.error.split(':')[0]}."
    shapes = [tuple(x.shape) for x in got.numbers], [tuple(x.shape) for x in expected.numbers]
    if shapes[0] != shapes[1]:
        return f"{_results(t)} {_list(shapes[0])}, expected {_list(shapes[1])}."
    if not close(got.numbers, expected.numbers):
        return _table(t, "value", got.numbers, expected.numbers)
    if not close(got.gradients, expected.gradients):
        return _table(t, "gradient", got.gradients, expected.gradients)
    return "the numbers are right."


def _results(t: Trial) -> str:
    one = len(t.got.numbers) == len(t.expected.numbers) == 1
    return "the shape is" if one else "the shapes are"


def _table(t: Trial, what: str, got: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    rows = [
        (name_of(t, what, part, index), a[index].item(), b[index].item())
        for part, (a, b) in enumerate(zip(got, expected, strict=True))
        for index in _apart(a, b)
    ]
    total = sum(x.numel() for x in got)
    if total == 1:
        return f"your {what} is {rows[0][1]:.4g}, expected {rows[0][2]:.4g}."
    width = max(7, *(len(name) for name, _, _ in rows[:_SHOWN]))
    lines = [f"{len(rows)} of {total} {what}s differ."]
    lines.append(f"  {'':{width}} {'yours':>10} {'expected':>10}")
    lines += [f"  {name:{width}} {a:10.4g} {b:10.4g}" for name, a, b in rows[:_SHOWN]]
    return "\n".join([*lines, *(["  …"] if len(rows) > _SHOWN else []), *_as_words(t, rows[0][0])])


def _apart(a: Tensor, b: Tensor) -> list[tuple[int, ...]]:
    apart = ~torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    return [tuple(index) for index in apart.nonzero().tolist()]


def name_of(t: Trial, what: str, part: int, index: tuple[int, ...]) -> str:
    """The words for one number of an output, such as "kl" or "returns, review 0, token 2"."""
    if what == "gradient":
        name = f"by {list(t.arguments)[t.case.gradient[part]]}"
        shape = t.got.gradients[part].shape
    else:
        name = t.exercise.outputs[part] if t.exercise.outputs else ""
        shape = t.got.numbers[part].shape
    axes = _axes(t, tuple(shape))
    return ", ".join(filter(None, [name, *(f"{x} {i}" for x, i in zip(axes, index, strict=True))]))


def _axes(t: Trial, shape: tuple[int, ...]) -> list[str]:
    """What the dimensions of an output count."""
    mask = t.mask
    if mask is None and "responses" in t.arguments:
        mask = t.arguments["responses"]
    batch = () if mask is None else tuple(mask.shape)
    if batch and shape[:2] == batch:
        return ["review", "token", "word"][: len(shape)]
    if batch and len(shape) == 1 and shape[0] == batch[0]:
        return ["review"]
    return ["element"] if len(shape) == 1 else ["row", "column", "place", "place"][: len(shape)]


def _as_words(t: Trial, name: str) -> list[str]:
    """The review of the first difference in words, where an input is text."""
    found = [part for part in name.split(", ") if part.startswith("review ")]
    tokens = t.arguments.get("responses")
    if not found or not isinstance(tokens, Tensor) or tokens.max() >= len(WORDS):
        return []
    row = tokens[int(found[0].split()[1])].tolist()
    return [f"  {found[0]} of the input: {' '.join(WORDS[i] for i in row)}"]


def _list(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def shape_of(o: Observation) -> list[tuple[int, ...]]:
    """The shapes of all outputs."""
    return [tuple(x.shape) for x in o.numbers]
