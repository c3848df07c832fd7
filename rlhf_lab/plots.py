"""Figures: one function each, drawing on given axes and returning the artists.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every line also has a style
of its own. Nothing here touches pyplot's global state, so figures can be drawn from any thread.
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
        margins: as in `Figure.subplots_adjust`: the axes stay where they are whatever is drawn,
            as a live figure needs. None fits them to their labels.
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


def score_and_gold(
    ax: Axes, x: Sequence[float], score: Sequence[float], gold: Sequence[float], xlabel: str
) -> list[Artist]:
    """What the reward model says beside what a careful reader says."""
    lines = ax.plot(x, score, color=BLUE, linestyle="-", label="reward model's score")
    lines += ax.plot(x, gold, color=RED, linestyle="--", label="gold score")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlabel=xlabel, ylabel="mean score")
    ax.legend(frameon=False)
    return list(lines)


def distinct(ax: Axes, x: Sequence[float], counts: Sequence[int], batch: int) -> list[Artist]:
    """How many different responses a batch holds."""
    lines = ax.plot(x, counts, color=GREEN, linestyle="-")
    ax.set(xlabel="iteration", ylabel=f"different responses of {batch}", ylim=(0, None))
    return list(lines)


def top_responses(
    ax: Axes,
    texts: Sequence[str],
    probabilities: Sequence[float],
    golds: Sequence[float],
    ref_probabilities: Sequence[float],
    rows: int,
) -> list[Artist]:
    """The most probable responses as bars; hatched where the gold score is negative.

    Args:
        ax: where to draw.
        texts: the responses, most probable first.
        probabilities: under the policy.
        golds: their gold scores.
        ref_probabilities: under π_SFT, drawn as a mark on each bar.
        rows: how many bars there is room for.
    """
    y = np.arange(len(texts))
    colours = [RED if gold < 0 else SKY for gold in golds]
    bars = ax.barh(y, probabilities, color=colours, edgecolor="white", height=0.7)
    for bar, gold in zip(bars, golds, strict=True):
        bar.set_hatch("///" if gold < 0 else "")
    (ghost,) = ax.plot(
        ref_probabilities, y, linestyle="none", marker="|", markersize=14, markeredgewidth=2,
        color=BLACK, label="under π_SFT",
    )  # fmt: skip
    for row, (p, gold) in enumerate(zip(probabilities, golds, strict=True)):
        share = f"{p:.0%}" if p >= 0.005 else "< 1%"
        text = f"{share}   gold {gold:+.1f}".replace("-", "−")
        ax.text(max(p, ref_probabilities[row]) + 0.02, row, text, va="center", fontsize=9)
    ax.set(yticks=y, yticklabels=texts, xlim=(0, 1.4), xlabel="probability")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_ylim(rows - 0.5, -0.5)
    ax.legend(frameon=False, loc="lower right", fontsize=9)
    return [*bars, ghost]


def region_map(
    ax: Axes,
    etas: Sequence[float],
    betas: Sequence[float],
    regions: np.ndarray,
    names: Sequence[str],
    here: tuple[int, int],
) -> Artist:
    """What the optimum is like at each (η, β), with the present pair marked.

    Args:
        ax: where to draw.
        etas, betas: the values of the grid.
        regions: index into `names` for each pair, (len(betas), len(etas)).
        names: of the regions.
        here: the present pair as (column, row).
    """
    ax.pcolormesh(
        regions, cmap=ListedColormap(_REGION_COLOURS[: len(names)]), vmin=-0.5,
        vmax=len(names) - 0.5, edgecolors="white", linewidth=0.8,
    )  # fmt: skip
    for index, name in enumerate(names):
        cells = np.argwhere(regions == index)
        if len(cells):
            row, column = cells[np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin()] + 0.5
            ax.text(
                float(column), float(row), name, ha="center", va="center", fontsize=9, weight="bold"
            )
    (mark,) = ax.plot(here[0] + 0.5, here[1] + 0.5, "o", markersize=13, fillstyle="none",
                      color=BLACK, markeredgewidth=2.5)  # fmt: skip
    ax.set_xticks(np.arange(len(etas)) + 0.5, [f"{eta:g}" for eta in etas], fontsize=8)
    ax.set_yticks(np.arange(len(betas)) + 0.5, [f"{beta:g}" for beta in betas], fontsize=8)
    ax.set(xlabel="η, weight of the KL penalty", ylabel="β, weight of the entropy bonus")
    return mark


_REGION_COLOURS = ["#F3B08A", "#A8DCC5", "#C9C9C9", "#E3C1D4"]
