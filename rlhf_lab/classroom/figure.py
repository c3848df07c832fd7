"""One question's guesses of a class as a figure."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlhf_lab import plots
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.translation import columns, tr

MOST_BARS = 12
"""More different answers than that no figure can show."""


def guesses_figure(name: str, kept: Sequence[dict[str, Any]]) -> Figure:
    """What a class guessed: a bar for each choice, or a histogram of numbers, and the answer.

    All choices are there in the order of the question, also those that nobody chose. Files in
    several languages add up, since they hold the index of the choice.

    Args:
        name: of the question.
        kept: what `read_guesses` gives of it, one entry for each student, at least one. The answer
            is that of `lessons.answers`, or what most of them hold as such.
    """
    words = [k for k in kept if "choices" in k or isinstance(k["guess"], str)]
    numbers = [k for k in kept if "choices" not in k and not isinstance(k["guess"], str)]
    figure, (ax,) = plots.new_figure(7, 3)
    if len(words) > len(numbers):
        drawn = _draw_choices(ax, name, words)
    else:
        drawn = _draw_numbers(ax, numbers)
    left_out = tr("; {n} of another kind not drawn", n=len(kept) - drawn)
    left_out = left_out if drawn < len(kept) else ""
    question = Counter(k["question"] for k in kept if "question" in k).most_common(1)
    asked = _label(question[0][0] if question else name, 300)
    title = textwrap.fill(asked, 85 * max(len(asked), 1) // max(columns(asked), 1))
    guesses = tr("1 guess" if drawn == 1 else "{n} guesses", n=drawn)
    title = f"{title}\n{guesses}{left_out}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def _draw_choices(ax: Axes, name: str, kept: Sequence[dict[str, Any]]) -> int:
    """A bar for each choice; returns how many guesses could be drawn."""
    asked = Counter(tuple(k["choices"]) for k in kept if "choices" in k).most_common(1)
    old = Counter(k["guess"] for k in kept if "choices" not in k).most_common(MOST_BARS)
    choices = list(asked[0][0] if asked else (guess for guess, _ in old))

    def counted(key: str) -> Counter[int]:
        found = [
            k[key] if "choices" in k else choices.index(k[key])
            for k in kept
            if (len(k["choices"]) == len(choices) if "choices" in k else k.get(key) in choices)
            and key in k
        ]
        return Counter(found)

    counts, results = counted("guess"), counted("result").most_common(1)
    drawn, choices = counts.total(), choices[:MOST_BARS]
    right = ANSWERS[name].right if asked and name in ANSWERS else None
    if right is None and results:
        right = results[0][0]
    rows = range(len(choices))
    bars = ax.barh(rows, [counts[row] for row in rows], color=plots.SKY, edgecolor="black")
    labels = ["✓ " * (row == right) + _label(choices[row]) for row in rows]
    ax.set_yticks(rows, labels)
    ax.invert_yaxis()
    if right is not None and right < len(choices):
        bars[right].set(color=plots.GREEN, hatch="//", edgecolor="black")
        ax.get_yticklabels()[right].set_fontweight("bold")
    ax.set(xlabel="students", xlim=(0, 1.15 * max(counts.values(), default=1)))
    for row in rows:
        ax.annotate(
            str(counts[row]), (counts[row], row), xytext=(4, 0), textcoords="offset points",
            va="center",
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn


def _draw_numbers(ax: Axes, kept: Sequence[dict[str, Any]]) -> int:
    """A histogram over the allowed range; returns how many guesses were drawn."""
    guesses = [float(k["guess"]) for k in kept]
    limits = Counter((k["low"], k["high"]) for k in kept if "low" in k).most_common(1)
    low, high = limits[0][0] if limits else (min(guesses), max(guesses))
    inside = [guess for guess in guesses if low <= guess <= high]
    ax.hist(inside, bins=20, range=(low, high), color=plots.SKY, edgecolor="white")
    results = Counter(float(k["result"]) for k in kept if isinstance(k.get("result"), int | float))
    if results:
        result = results.most_common(1)[0][0]
        ax.axvline(result, color=plots.RED, linestyle="--", label=tr("the answer: {x:g}", x=result))
        ax.legend(frameon=False)
    ax.set(xlabel="guess", ylabel="students", xlim=(low, high) if low < high else None)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return len(inside)


def _label(text: str, most: int = 60) -> str:
    """Words as a line of a figure, whatever a student's file holds."""
    line = " ".join(text[:1000].encode(errors="replace").decode().split())[:most]
    return line.replace("$", r"\$")  # matplotlib would read a formula between two
