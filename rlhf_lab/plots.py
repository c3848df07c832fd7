"""Figures: each function draws on given axes and returns the artists.

A colour means the same everywhere: BLUE the reward model, GREEN and RED a gold score above and
below 0, ORANGE the leash (η, KL), PINK variety (β, H, word salad), YELLOW π*, BLACK what has no
meaning of its own. Colour-blind readers can tell them apart; every line has its own style, too.
No function uses pyplot's global state, so any thread can draw figures.
"""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as MarkerPath
from matplotlib.ticker import NullFormatter

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#1a1a1c", "#a87200", "#3d95cc", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
ON_COLOUR = "#10141f"
"""For text on a coloured cell: it stays dark where the page is dark."""
WAYS = ((BLACK, "-"), (ORANGE, "--"), (PINK, "-."), (SKY, ":"))
"""Colours and styles for lines without a meaning of their own."""
STAR: dict[str, Any] = {
    "marker": "*", "linestyle": "none", "color": YELLOW, "markeredgecolor": BLACK, "markersize": 16,
    "zorder": 3,
}  # fmt: skip
"""π*, and nothing else."""
WORDS = {ORANGE: "#835a00", GREEN: "#007a5a", RED: "#b54800", PINK: "#93457a", SKY: BLUE}
"""The same colours for text, which needs more contrast."""


def new_figure(
    width: float, height: float, columns: int = 1, margins: dict[str, float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, outside pyplot.

    Args:
        width, height: in inches.
        columns: number of axes.
        margins: as in `Figure.subplots_adjust`; then the axes never move, as a live figure needs.
            None fits the axes to their labels.
    """
    figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    if margins:
        figure.subplots_adjust(**margins)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def number(x: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number for readers: with a real minus sign, without −0.00; a dash for NaN.

    >>> number(-1.234), number(-0.001), number(1.25, 1, sign=True), number(float("nan"))
    ('−1.23', '0.00', '+1.2', '–')
    """
    return "–" if x != x else f"{x:{'+' if sign else ''}z.{digits}f}".replace("-", "−")


def powers(axis: Axis) -> None:
    """Plain numbers at the ticks of a logarithmic axis: 0.01, 1, 100, and from 10⁴ on powers."""
    axis.set(major_formatter=lambda x, _: _power(x), minor_formatter=NullFormatter())


def _power(x: float) -> str:
    """A power of ten in large letters.

    >>> [_power(x) for x in (0.01, 100, 1e6)]
    ['0.01', '100', '10⁶']
    """
    exponent = round(np.log10(x))
    if -4 < exponent < 4:
        return f"{x:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def score_and_gold(
    ax: Axes, x: Sequence[float], score: Sequence[float], gold: Sequence[float], xlabel: str
) -> list[Artist]:
    """The score of the reward model, and the gold score of careful readers, named on the curves."""
    lines = ax.plot(x, score, color=BLUE, linestyle="-", linewidth=2.2, label="reward model")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    lines += gold_curve(ax, x, gold)
    ax.set(xlabel=xlabel, ylabel="mean score")
    name_ends(ax)
    return list(lines)


def gold_curve(ax: Axes, x: Sequence[float], gold: Sequence[float]) -> list[Line2D]:
    """A gold score: teal and solid from 0 up, vermilion and dashed below, a face at its end."""
    xs, y = np.asarray(x, dtype=float), np.asarray(gold, dtype=float)
    cross = np.flatnonzero(y[:-1] * y[1:] < 0)
    share = y[cross] / (y[cross] - y[cross + 1])
    at = np.insert(xs, cross + 1, xs[cross] + share * (xs[cross + 1] - xs[cross]))
    y = np.insert(y, cross + 1, 0.0)
    style: dict[str, Any] = {"linewidth": 2.2}
    lines = ax.plot(at, np.where(y >= 0, y, np.nan), color=GREEN, **style)
    lines += ax.plot(at, np.where(y <= 0, y, np.nan), color=RED, linestyle="--", **style)
    lines[int(y[-1] < 0)].set(label="careful readers", gid="face")
    face(ax, xs[-1], y[-1], y[-1])
    return list(lines)


def face(ax: Axes, x: float, y: float, gold: float, size: float = 17) -> None:
    """Careful readers at (x, y): the mouth is the gold score."""
    mood = float(np.clip(gold / 2.4, -1, 1))
    colour, tint = (RED, "#fadfcd") if gold <= -0.005 else (GREEN, "#cdebdf")
    mouth = MarkerPath(
        [(-0.48, -0.36 + 0.12 * mood), (0, -0.36 - 0.44 * mood), (0.48, -0.36 + 0.12 * mood)],
        [MarkerPath.MOVETO, MarkerPath.CURVE3, MarkerPath.CURVE3],
    )
    eyes = [MarkerPath.circle((side * 0.34, 0.16), 0.1) for side in (-1, 1)]
    shape = MarkerPath.make_compound_path(MarkerPath.circle(), *eyes, mouth)
    common: dict[str, Any] = {"markersize": size, "zorder": 4, "clip_on": False}
    ax.plot(x, y, "o", color=tint, **common)
    ax.plot(x, y, marker=shape, mfc="none", mec=colour, mew=1.4, **common)


def dislike(ax: Axes) -> None:
    """The part of an axis of gold scores where careful readers dislike what they read."""
    low, high = ax.get_ylim()
    if low < 0:
        ax.axhspan(low, 0, color="#fadfcd", alpha=0.6, linewidth=0, zorder=0)
        ax.set_ylim(low, high)


def name_ends(ax: Axes, size: float = 9.5) -> None:
    """Write each line's label at its right end, in its colour, and keep the labels apart.

    Call it last: later changes of the limits would move the ends.
    """
    ax.autoscale_view()
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ends = []
    for line in lines:
        points = np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float)
        end = points[np.isfinite(points).all(axis=1)][-1]
        ends.append(ax.transAxes.inverted().transform(ax.transData.transform(end)))
    least = 1.3 * size / (0.7 * 72 * ax.figure.bbox.height / ax.figure.dpi)  # of the axes' height
    order = sorted(range(len(lines)), key=lambda k: ends[k][1])
    heights = _apart([min(max(ends[k][1], 0.0), 1.0) for k in order], least)
    for k, height in zip(order, heights, strict=True):
        colour = str(lines[k].get_color())
        ax.annotate(
            str(lines[k].get_label()), (min(ends[k][0], 1.0), height), xycoords="axes fraction",
            xytext=(12 if lines[k].get_gid() == "face" else 6, 0), textcoords="offset points",
            color=WORDS.get(colour, colour), fontsize=size, fontweight="bold", va="center",
        )  # fmt: skip


def _apart(heights: list[float], least: float) -> list[float]:
    """Rising numbers, moved as little as needed until neighbours are `least` apart."""
    moved = heights[:]
    for _ in range(100):
        for k in range(1, len(moved)):
            close = least - (moved[k] - moved[k - 1])
            if close > 1e-9:
                moved[k - 1], moved[k] = moved[k - 1] - close / 2, moved[k] + close / 2
    return moved


def distinct(ax: Axes, x: Sequence[float], counts: Sequence[int], batch: int) -> list[Artist]:
    """The number of different responses in a batch."""
    lines = ax.plot(x, counts, color=PINK, linestyle="-", linewidth=2.2)
    ax.set(xlabel="iteration", ylabel=f"different responses of {batch}", ylim=(0, None))
    return list(lines)


def region_map(
    ax: Axes,
    etas: Sequence[float],
    betas: Sequence[float],
    regions: np.ndarray,
    names: Sequence[str],
) -> None:
    """The region of the optimum at each (η, β), on logarithmic axes with room for 0.

    Args:
        ax: where to draw; `place` gives the coordinates of a pair on it.
        etas, betas: the values of the grid: 0, then values with a constant ratio.
        regions: index into `names` for each pair, (len(betas), len(etas)).
        names: of the regions.
    """
    edges = [np.array([-2, *range(1, len(values) + 1)]) for values in (etas, betas)]
    _areas(ax, edges[0], edges[1], regions)
    ax.axvline(1, color="white", linewidth=2)
    ax.axhline(1, color="white", linewidth=2)
    for index, name in enumerate(names):
        if (regions == index).mean() > 0.02:  # else its name would cover its neighbours
            row, column = _deepest(regions == index)
            at = column + 0.5, row + 0.5
            ax.text(*at, name, ha="center", va="center", weight="bold", size=10.5)
    for axis, values in ((ax.xaxis, etas), (ax.yaxis, betas)):
        shown = [x for x in (0, 0.03, 0.1, 0.3, 1, 3, 10) if x in values]
        axis.set_ticks([place(values, x) for x in shown], [f"{x:g}" for x in shown])
    ax.set(xlabel="η, weight of the KL penalty", ylabel="β, weight of the entropy bonus")


def _areas(ax: Axes, x: np.ndarray, y: np.ndarray, regions: np.ndarray) -> None:
    """Each run of equal cells of a row as one rectangle: a few, where a mesh has thousands."""
    for row, kinds in enumerate(regions):
        starts = [0, *(np.flatnonzero(np.diff(kinds)) + 1)]
        spans = [(x[a], x[b] - x[a]) for a, b in itertools.pairwise([*starts, len(kinds)])]
        colours = [REGION_COLOURS[kinds[a]] for a in starts]
        # The edge covers the seam that would show between two rows.
        ax.broken_barh(
            spans, (y[row], y[row + 1] - y[row]), color=colours, linewidth=0.6, zorder=0.5
        )
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def place(values: Sequence[float], x: float) -> float:
    """The coordinate of x ≥ 0 on an axis of `region_map` whose grid has these values."""
    if x <= 0:
        return -0.5
    return 0.5 + float(np.interp(np.log(x), np.log(values[1:]), range(1, len(values))))


def _deepest(inside: np.ndarray) -> tuple[int, int]:
    """The cell of a region that is farthest from its border: row and column."""
    left = inside
    while left.any():
        last = left
        grown = np.pad(left, 1)
        left = left & grown[2:, 1:-1] & grown[:-2, 1:-1] & grown[1:-1, 2:] & grown[1:-1, :-2]
    cells = np.argwhere(last)
    row, column = cells[np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin()]
    return int(row), int(column)


REGION_COLOURS = ("#FADFCD", "#CDEBDF", "#E4E5E8", "#F2DFEB", "#CDEBDF")
"""For the kinds of optimum, pale enough to write on: those of front.css."""
