"""The panels of the cockpit's figure: curves, the exact landscape, the regret."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rlhf_lab import plots
from rlhf_lab.report import Metrics
from rlhf_lab.translation import tr

QUANTITIES = {
    "score": ("E[score]", plots.BLUE),
    "gold": ("E[gold score]", plots.GREEN),
    "kl": ("KL(π ‖ π_SFT), nats", plots.ORANGE),
    "entropy": ("H(π), nats", plots.PINK),
}
_PARENT: dict[str, Any] = {"color": "0.5", "linestyle": (0, (4, 2)), "linewidth": 1.3}
_EXACT: dict[str, Any] = {
    "color": plots.BLACK, "linestyle": "none", "marker": "D", "fillstyle": "none", "markersize": 5.5
}  # fmt: skip
_OPTIMUM: dict[str, Any] = {"color": plots.BLACK, "linestyle": (0, (1, 1.2)), "linewidth": 1.8}
_MOVE: dict[str, Any] = {"color": plots.BLACK, "linestyle": "-.", "linewidth": 1.1}
_BAD: dict[str, Any] = {"color": plots.RED, "linestyle": (0, (3, 1.2))}
_LABELLED_MOVES = 6


class View(NamedTuple):
    """All numbers that the figure shows."""

    seen: Sequence[Metrics]
    """Batch estimates after 0, 1, … updates."""
    exact: Mapping[int, Metrics]
    """Exact values by number of updates."""
    parent: Sequence[Metrics]
    """Batch estimates of the run that this one was forked from; empty without a fork."""
    moves: Sequence[tuple[int, str]]
    """For each move of a slider: the updates before it, and a text such as "η 0.3"."""
    optimum: Metrics
    """The numbers of π* at the present (η, β)."""
    regret: float | None
    """J* − J of the last batch."""
    exact_regret: float
    """J* − J of the last exact evaluation."""


class CockpitPanel(Protocol):
    """One axes of the figure."""

    ax: Axes
    moving: list[Artist]
    handles: list[Line2D]
    """What it adds to the legend."""

    def limits(self, view: View) -> tuple[float, ...]:
        """The limits that the axes need; when they change, the axes are drawn again."""

    def set_limits(self, *limits: float) -> None: ...

    def update(self, view: View) -> None:
        """Put the moving artists in place."""


class Curve:
    """One quantity against the number of updates."""

    def __init__(self, ax: Axes, quantity: str, frontier: Sequence[Metrics], labels: bool) -> None:
        title, colour = QUANTITIES[quantity]
        self.ax, self.index = ax, Metrics._fields.index(quantity)
        # Score and gold have a range of their own; KL and H start at 0 and may grow.
        self.signed, self.gold = quantity in ("score", "gold"), quantity == "gold"
        values = [m[self.index] for m in frontier]
        self.usual = (min(values), max(values)) if self.signed else (0.0, 5.0)
        ax.set_title(title, fontsize=10.5, loc="left", weight="bold")
        ax.grid(color="0.92", linewidth=0.8)
        (self.marks,) = ax.plot([], [], transform=ax.get_xaxis_transform(), **_MOVE)
        (self.parent,) = ax.plot([], [], **_PARENT)
        self.optimum = ax.axhline(0, **_OPTIMUM)
        (self.batch,) = ax.plot([], [], color=colour, linewidth=1.8)
        (self.bad,) = ax.plot([], [], linewidth=1.8, **_BAD)
        (self.exact,) = ax.plot([], [], **_EXACT)
        self.texts = [
            ax.text(0, 0.03, "", transform=ax.get_xaxis_transform(), fontsize=9, rotation=90,
                    ha="right", va="bottom")
            for _ in range(_LABELLED_MOVES * labels)
        ]  # fmt: skip
        self.moving: list[Artist] = [
            self.marks, self.parent, self.optimum, self.batch, self.bad, self.exact, *self.texts
        ]  # fmt: skip
        self.handles: list[Line2D] = []

    def limits(self, view: View) -> tuple[float, ...]:
        shown = (*view.seen, *view.exact.values(), *view.parent, view.optimum)
        values = _finite(*(m[self.index] for m in shown), *self.usual)
        low, high = min(values) if self.signed else 0.0, max(values)
        step = 0.5 if high - low < 4.5 else 1.0 if high - low < 10 else 5.0
        longest = max(len(view.seen), len(view.parent), *view.exact)
        updates = 50 * 2 ** max(0, math.ceil(math.log2(max(longest, 1) / 50)))
        below = step * math.floor(low / step - 0.1 * self.signed)
        return float(updates), below, step * math.ceil(high / step + 0.1)

    def set_limits(self, *limits: float) -> None:
        self.ax.set_xlim(-0.01 * limits[0], limits[0])
        self.ax.set_ylim(*limits[1:])

    def update(self, view: View) -> None:
        seen = [m[self.index] for m in view.seen]
        _put(self.batch, range(len(seen)), _side(seen, 1) if self.gold else seen)
        _put(self.bad, range(len(seen) * self.gold), _side(seen[: len(seen) * self.gold], -1))
        _put(self.parent, range(len(view.parent)), [m[self.index] for m in view.parent])
        _put(self.exact, list(view.exact), [m[self.index] for m in view.exact.values()])
        self.optimum.set_ydata([view.optimum[self.index]] * 2)
        x = [k for k, _ in view.moves]
        _put(self.marks, np.repeat(x, 3), [0.0, 1.0, math.nan] * len(x))
        recent = [*view.moves[-_LABELLED_MOVES:], *[(0, "")] * _LABELLED_MOVES]
        for text, (k, move) in zip(self.texts, recent, strict=False):
            text.set_x(k)
            text.set_text(move)


class Landscape:
    """The run as a path under the exact frontier; x is KL(π ‖ π_SFT), y is score and gold."""

    def __init__(self, ax: Axes, frontier: Sequence[Metrics]) -> None:
        self.ax = ax
        kl, score, gold = ([getattr(m, name) for m in frontier] for name in ("kl", "score", "gold"))
        self.usual = (min(score + gold), max(score + gold))
        _square_root(ax.set_xscale)
        ticks = (0, 0.5, 2, 5, 10, 20, 30)
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.plot(kl, score, color=plots.BLUE, linewidth=3, alpha=0.35)
        ax.plot(kl, _side(gold, 1), color=plots.GREEN, linewidth=3, alpha=0.35)
        ax.plot(kl, _side(gold, -1), linewidth=3, alpha=0.35, **_BAD)
        zero = next(i for i, g in enumerate(gold) if g > 0)  # from the largest KL on
        for x, y, across, text, colour in (
            (max(kl), max(score) + 0.22, "right", tr("the most score a KL allows"), plots.BLUE),
            (1.25 * kl[zero - 1], gold[zero - 1] + 0.05, "left", "its gold score", plots.RED),
        ):
            ax.text(x, y, text, color=colour, ha=across, va="bottom", fontsize=9)
        ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        ax.set_title("the way over the exact landscape", fontsize=10.5, loc="left", weight="bold")
        ax.set_xlabel("KL(π ‖ π_SFT), nats (square-root scale)", fontsize=9.5)
        self.parents = [ax.plot([], [], **_PARENT)[0] for _ in range(2)]
        self.paths = [ax.plot([], [], color=c, linewidth=1.0)[0] for c in (plots.BLUE, plots.GREEN)]
        (self.bad,) = ax.plot([], [], linewidth=1.0, **_BAD)
        self.exact = [ax.plot([], [], **_EXACT)[0] for _ in range(2)]
        self.heads = [
            ax.plot([], [], marker, color=c, markersize=9, markeredgecolor="white", label=name)[0]
            for c, marker, name in (
                (plots.BLUE, "o", tr("last batch: score")),
                (plots.GREEN, "^", tr("its gold score")),
            )
        ]
        (self.optimum,) = ax.plot(
            [], [], "*", color=plots.YELLOW, markersize=17, markeredgecolor=plots.BLACK,
            label="π*",
        )  # fmt: skip
        self.moving: list[Artist] = [
            *self.parents, *self.paths, self.bad, *self.exact, *self.heads, self.optimum
        ]  # fmt: skip
        self.handles = [*self.heads, self.optimum]

    def limits(self, view: View) -> tuple[float, ...]:
        kl = max(_finite(*(m.kl for m in (*view.seen, *view.parent)), view.optimum.kl, 36.0))
        shown = (*view.seen, *view.parent, *view.exact.values())
        golds = _finite(*(m.gold for m in shown), *self.usual)
        low, high = 0.5 * math.floor(min(golds) / 0.5), 0.5 * math.ceil(max(golds) / 0.5)
        return float(12 * math.ceil(kl / 12)), low, high

    def set_limits(self, *limits: float) -> None:
        self.ax.set_xlim(0, limits[0])
        self.ax.set_ylim(limits[1] - 0.1, limits[2] + 0.3)

    def update(self, view: View) -> None:
        for index, quantity in enumerate(("score", "gold")):
            for line, points in (
                (self.parents[index], view.parent),
                (self.paths[index], view.seen),
                (self.heads[index], view.seen[-1:]),
                (self.exact[index], list(view.exact.values())),
            ):
                # An estimate of a small KL may be negative.
                x = [max(m.kl, 0.0) for m in points]
                _put(line, x, [getattr(m, quantity) for m in points])
        x, gold = [max(m.kl, 0.0) for m in view.seen], [m.gold for m in view.seen]
        _put(self.paths[1], x, _side(gold, 1))
        _put(self.bad, x, _side(gold, -1))
        _put(self.optimum, [view.optimum.kl], [view.optimum.score])


class Gauge:
    """J* − J(π): how far the objective is below its optimum."""

    def __init__(self, ax: Axes) -> None:
        self.ax = ax
        _square_root(ax.set_xscale)
        ax.set(yticks=[], ylim=(-0.5, 0.5))
        ax.spines[["left"]].set_visible(False)
        ax.set_title("regret J* − J(π)", fontsize=10.5, loc="left", weight="bold")
        (self.bar,) = ax.barh([0], [0], height=0.62, color=plots.SKY)
        (self.exact,) = ax.plot([], [], **_EXACT | {"markersize": 9, "markeredgewidth": 1.8})
        self.text = ax.text(1, 1.15, "", transform=ax.transAxes, ha="right", fontsize=10)
        self.moving: list[Artist] = [self.bar, self.exact, self.text]
        self.handles: list[Line2D] = []

    def limits(self, view: View) -> tuple[float, ...]:
        largest = max(_finite(view.regret or 0.0, view.exact_regret, 2.0))
        return (4.0 ** math.ceil(math.log(largest, 4)),)

    def set_limits(self, *limits: float) -> None:
        self.ax.set_xlim(0, limits[0])
        ticks = [x * limits[0] for x in (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)]
        self.ax.set_xticks(ticks, [f"{x:g}" for x in ticks])

    def update(self, view: View) -> None:
        self.bar.set_width(max(view.regret or 0.0, 0.0))
        _put(self.exact, [max(view.exact_regret, 0.0)], [0.0])
        words = tr("exact {regret}", regret=plots.number(view.exact_regret))
        if view.regret is not None:
            last = tr("last batch {regret}", regret=plots.number(view.regret))
            words = f"{last}   {words}"
        self.text.set_text(words)


def legend(forked: bool) -> list[Line2D]:
    """What the styles mean, the same in every panel; with a parent's where there is one."""
    lines = [
        Line2D([], [], color=plots.BLUE, linewidth=1.8, label="batch estimate"),
        Line2D([], [], **_EXACT, label="exact"),
        Line2D([], [], **_OPTIMUM, label="exact optimum π* for this η and β"),
        Line2D([], [], **_MOVE, label="a slider moved"),
    ]
    if forked:
        lines.insert(3, Line2D([], [], **_PARENT, label="parent of a fork"))
    return lines


def _finite(*values: float) -> list[float]:
    """The finite values: a policy that has diverged must not spoil the limits."""
    return [x for x in values if math.isfinite(x)]


def _put(line: Line2D, x: Any, y: Any) -> None:
    line.set_data(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    line.set_visible(len(x) > 0)  # drawing takes time even for an empty line


def _side(gold: Sequence[float], sign: int) -> np.ndarray:
    """A curve of the gold score where readers like it (1) or dislike it (−1), NaN elsewhere."""
    y = sign * np.asarray(gold, dtype=float)
    return np.where((y >= 0) | (np.r_[y[1:], -1] >= 0), sign * y, math.nan)


def _square_root(set_scale: Any) -> None:
    """Give small values room while large ones stay on the picture."""
    set_scale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
