"""Figures: each function draws on given axes and returns the artists.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart; every line has a
style of its own, too. No function uses pyplot's global state, so any thread can draw figures.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


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


def score_and_gold(
    ax: Axes, x: Sequence[float], score: Sequence[float], gold: Sequence[float], xlabel: str
) -> list[Artist]:
    """The score of the reward model, and the gold score of a careful reader."""
    lines = ax.plot(x, score, color=BLUE, linestyle="-", label="reward model's score")
    lines += ax.plot(x, gold, color=RED, linestyle="--", label="gold score")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlabel=xlabel, ylabel="mean score")
    ax.legend(frameon=False)
    return list(lines)


def distinct(ax: Axes, x: Sequence[float], counts: Sequence[int], batch: int) -> list[Artist]:
    """The number of different responses in a batch."""
    lines = ax.plot(x, counts, color=GREEN, linestyle="-")
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
    colours = ListedColormap(REGION_COLOURS[: len(names)])
    ax.pcolormesh(*edges, regions, cmap=colours, vmin=-0.5, vmax=len(names) - 0.5)
    ax.axvline(1, color="white", linewidth=2)
    ax.axhline(1, color="white", linewidth=2)
    for index, name in enumerate(names):
        if (regions == index).mean() > 0.02:  # else its name would cover its neighbours
            row, column = _deepest(regions == index)
            ax.text(column + 0.5, row + 0.5, name, ha="center", va="center", weight="bold")
    for axis, values in ((ax.xaxis, etas), (ax.yaxis, betas)):
        shown = [x for x in (0, 0.03, 0.1, 0.3, 1, 3, 10) if x in values]
        axis.set_ticks([place(values, x) for x in shown], [f"{x:g}" for x in shown])
    ax.set(xlabel="η, weight of the KL penalty", ylabel="β, weight of the entropy bonus")


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
