"""Pictures of one optimum: its responses, the frontier it lies on, its place on the map.

A panel draws all that stands still when it is made. `show` moves the rest, a few marks, which the
browser draws for the explorer (see `explorer_marks.marks`).
"""

import math
from collections.abc import Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlhf_lab import plots
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    ETA_POSITIONS,
    REGIONS,
    ROWS,
    ComparedPolicy,
    ExplorerState,
    Optima,
)

_HEIGHT, _BOTTOM, _TOP = 3.8, 0.58, 0.36  # inches


class ExplorerPanel(Protocol):
    """One picture of an `ExplorerState`."""

    left: float
    """Inches for labels on the left."""
    width: float
    """Inches between left and right."""
    right: float
    """Inches for labels on the right."""
    moving: list[Line2D]
    """The marks in drawing order; they have no data before the first `show`."""

    def __init__(self, ax: Axes, optima: Optima, compared: ComparedPolicy) -> None: ...

    def show(self, state: ExplorerState) -> None:
        """Move the marks to their places for `state`."""


class Responses:
    """The most probable responses, for still figures.

    The live explorer shows an HTML table instead (`explorer_words.table`): text is slow to draw.
    """

    left, width, right = 2.3, 3.1, 0.1

    def __init__(self, ax: Axes, optima: Optima, compared: ComparedPolicy) -> None:
        ax.set_title(f"“{optima.prompt}”: what π* says most", fontsize=11)
        self.moving: list[Line2D] = []
        self._ax = ax

    def show(self, state: ExplorerState) -> None:
        rows = state.responses
        plots.top_responses(
            self._ax,
            [response.text for response in rows],
            [response.probability for response in rows],
            [response.gold for response in rows],
            [response.compared for response in rows],
            rows=ROWS,
        )


_LINES = (("E[score]", "-", plots.BLUE), ("E[gold]", "--", plots.RED))


class Frontier:
    """E[score] and E[gold] against KL(π* ‖ π_SFT): lines for β = 0, marks for the present π*."""

    left, width, right = 0.5, 2.1, 0.35

    def __init__(self, ax: Axes, optima: Optima, compared: ComparedPolicy) -> None:
        curve = [optima.point(eta, 0.0).metrics for eta in ETA_POSITIONS]
        corners = [optima.point(0.0, beta).metrics for beta in BETA_POSITIONS[1::46]] + curve
        farthest = max(m.kl for m in corners)
        values = [x for m in corners for x in (m.score, m.gold)]
        ax.set(xlim=(-0.1, 1.04 * _root(farthest)), ylim=(min(values) - 0.3, max(values) + 0.4))
        ticks = [n * n for n in range(int(_root(farthest)) + 1)]
        ax.set_xticks([_root(x) for x in ticks], [str(x) for x in ticks])
        ax.set_xlabel("KL(π* ‖ π_SFT), nats (root scale)")
        goal = "gold" if optima.score == "gold" else "reward model’s"
        ax.set_title(f"maximising the {goal} score", fontsize=11)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        kl = [_root(m.kl) for m in curve]
        for i, (name, style, color) in enumerate(_LINES):
            ax.plot(kl, [m[i] for m in curve], style, color=color, linewidth=1.8)
            _label(ax, name, kl[0], curve[0][i], color)
        x = _root(compared.metrics.kl)
        ax.plot([x, x], compared.metrics[:2], "x", color=plots.BLACK, linestyle="none")
        ax.annotate(
            compared.name, (x, min(compared.metrics[:2])), (5, -14), textcoords="offset points"
        )
        (self._gap,) = ax.plot([], [], ":", color="0.35", linewidth=1.2)
        (self._score,) = ax.plot([], [], "o", color=plots.BLUE, markersize=9)
        (self._gold,) = ax.plot([], [], "D", color=plots.RED, markersize=8)
        self.moving: list[Line2D] = [self._gap, self._score, self._gold]

    def show(self, state: ExplorerState) -> None:
        x, (score, gold, _, _) = _root(state.metrics.kl), state.metrics
        self._gap.set_data([x, x], [score, gold])
        self._score.set_data([x], [score])
        self._gold.set_data([x], [gold])


class Map:
    """What π* is like at each (η, β), with the present pair marked."""

    left, width, right = 0.7, 2.45, 0.1

    def __init__(self, ax: Axes, optima: Optima, compared: ComparedPolicy) -> None:
        plots.region_map(ax, ETA_POSITIONS, BETA_POSITIONS, optima.regions(), REGIONS)
        ax.set_title("what π* is like at each (η, β)", fontsize=11)
        self.moving: list[Line2D] = list(
            ax.plot([], [], "o", color="white", markersize=15, fillstyle="none", markeredgewidth=5,
                    clip_on=False)
            + ax.plot([], [], "o", color=plots.BLACK, markersize=15, fillstyle="none",
                      markeredgewidth=2.2, clip_on=False)
        )  # fmt: skip

    def show(self, state: ExplorerState) -> None:
        x, y = plots.place(ETA_POSITIONS, state.eta), plots.place(BETA_POSITIONS, state.beta)
        for mark in self.moving:
            mark.set(data=([x], [y]))


PANELS: dict[str, type[ExplorerPanel]] = {"responses": Responses, "frontier": Frontier, "map": Map}


def _label(ax: Axes, text: str, x: float, y: float, color: str) -> None:
    """Name a line at its end: to the right of it if there is room, else above."""
    room = ax.get_xlim()[1] - x > 1.2
    offset, ha, va = ((9, 0), "left", "center") if room else ((0, 7), "right", "bottom")
    ax.annotate(
        text, (x, y), offset, textcoords="offset points", ha=ha, va=va, color=color, weight="bold"
    )


def check_panels(names: Sequence[str]) -> None:
    """Raise a ValueError unless `names` is a list of one or several panels."""
    if isinstance(names, str) or not names or not set(names) <= set(PANELS):
        raise ValueError(f"panels must be some of {tuple(PANELS)}, got {names!r}")


def new_panels(
    optima: Optima, names: Sequence[str], compared: ComparedPolicy
) -> tuple[Figure, list[ExplorerPanel]]:
    """A figure with the named panels side by side.

    Args:
        optima: the optima to show.
        names: keys of `PANELS`, from left to right.
        compared: the policy to compare with.

    Raises:
        ValueError: `names` is empty, or a name is not in `PANELS`.
    """
    check_panels(names)
    kinds = [PANELS[name] for name in names]
    width = sum(kind.left + kind.width + kind.right for kind in kinds)
    figure = Figure(figsize=(width, _HEIGHT))
    FigureCanvasAgg(figure)
    panels, x = [], 0.0
    for kind in kinds:
        height = _HEIGHT - _BOTTOM - _TOP
        box = ((x + kind.left) / width, _BOTTOM / _HEIGHT, kind.width / width, height / _HEIGHT)
        ax = figure.add_axes(box)
        ax.spines[["top", "right"]].set_visible(False)
        panels.append(kind(ax, optima, compared))
        x += kind.left + kind.width + kind.right
    return figure, panels


def _root(kl: float) -> float:
    return math.sqrt(max(kl, 0.0))
