"""The explorer as a still picture, for readers without a kernel: the same parts, by matplotlib."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_lab import plots
from rlhf_lab.labels import LabelledFigure
from rlhf_lab.plots import number
from rlhf_lab.translation import tr
from rlhf_lab.ui.charts import Chart, chart
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    ETA_POSITIONS,
    KINDS,
    ROWS,
    ExplorerState,
    Point,
    compared_policy,
    kind,
    optima,
)
from rlhf_lab.world import World

PANELS = ("responses", "frontier", "map")
_WIDTHS = {"responses": 5.1, "frontier": 2.9, "map": 3.1}  # inches
_BOTTOM, _TOP, _HIGH = 0.55, 0.95, 4.0
_INK, _SOFT = "#1a1a1c", "#5a5a60"
_SCORE, _LIKED, _BAD = plots.BLUE, plots.GREEN, plots.RED


def check_panels(names: Sequence[str]) -> None:
    """Raise a ValueError unless `names` is a list of one or several panels."""
    if isinstance(names, str) or not names or not set(names) <= set(PANELS):
        raise ValueError(f"panels must be some of {PANELS}, got {names!r}")


def optimum_figure(
    world: World,
    prompt: str,
    eta: float,
    beta: float,
    score: str = "reward model",
    panels: Sequence[str] = PANELS,
) -> Figure:
    """The explorer's picture at one (η, β).

    Args:
        world, prompt, score, panels: as in `Explorer`.
        eta, beta: any values ≥ 0, also between the positions of the sliders.

    Raises:
        ValueError: there is no such prompt, score or panel, or η or β is negative.
    """
    check_panels(panels)
    sft = compared_policy(world, prompt)
    state = optima(world, prompt, score).state(eta, beta, sft.logprobs)
    found = chart(world, prompt, score)
    chosen = [name for name in PANELS if name in panels]
    width = sum(_WIDTHS[name] for name in chosen)
    figure = LabelledFigure(figsize=(width, _HIGH))
    x = 0.0
    for name in chosen:
        left = 2.1 if name == "responses" else 0.55
        place = (x + left, _BOTTOM, _WIDTHS[name] - left - 0.12, _HIGH - _BOTTOM - _TOP)
        ax = figure.add_axes(
            (place[0] / width, place[1] / _HIGH, place[2] / width, place[3] / _HIGH)
        )
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=10.5, colors=_SOFT)
        _DRAW[name](ax, state, found)
        x += _WIDTHS[name]
    _headline(figure, state)
    return figure


def alt(state: ExplorerState) -> str:
    """One sentence that says what the picture shows, for those who cannot see it."""
    score, gold, kl, _ = state.metrics
    first = state.responses[0]
    return tr(
        "At η = {eta:g}, β = {beta:g} π* says “{text}” in {p:.0%} of its reviews of {prompt}: "
        "E[score] {score}, E[gold] {gold}, {kl} nats from π_SFT; {kind}.",
        eta=state.eta, beta=state.beta, text=first.text, p=first.probability, prompt=state.prompt,
        score=number(score), gold=number(gold), kl=number(kl), kind=tr(_kind(state)),
    )  # fmt: skip


def share(p: float) -> str:
    """A probability in at most five characters, as the page writes it.

    >>> share(0.307), share(0.0042), share(3e-7)
    ('31%', '0.4%', '10⁻⁷')
    """
    if p >= 0.0005 or p == 0:
        return f"{p:.0%}" if p >= 0.0995 or p == 0 else f"{p:.1%}"
    return "10⁻" + str(round(-math.log10(p))).translate(_RAISED)


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _kind(state: ExplorerState) -> str:
    return kind(Point(state.metrics, state.region))


def _headline(figure: Figure, state: ExplorerState) -> None:
    """What it says most, as the largest text, and both judges' numbers beside it."""
    width = figure.get_figwidth()
    y = 1 - 0.33 / _HIGH
    figure.text(
        0.12 / width, y, f"“{state.responses[0].text}”", fontsize=19, family="serif", va="center",
        color=_INK,
    )  # fmt: skip
    here = f"η = {state.eta:g}, β = {state.beta:g}: {tr(_kind(state))}"
    figure.text(
        0.12 / width, 1 - 0.68 / _HIGH, here, fontsize=10.5, va="center", color=_SOFT,
    )  # fmt: skip
    score, gold = state.metrics[:2]
    says = (
        ("reward model", score, _SCORE),
        ("careful readers", gold, _BAD if gold < 0 else _LIKED),
    )
    for k, (who, value, colour) in enumerate(reversed(says)):
        x = 1 - (0.75 + 1.25 * k) / width
        figure.text(
            x, y, number(value, sign=True), fontsize=17, weight="bold", color=colour, ha="center",
            va="center",
        )  # fmt: skip
        figure.text(x, 1 - 0.64 / _HIGH, who, fontsize=10.5, color=_SOFT, ha="center", va="center")


def _responses(ax: Axes, state: ExplorerState, _: Chart) -> None:
    """The likeliest responses; the bar is hatched where the gold score is negative."""
    rows = state.responses
    y = np.arange(len(rows))
    bars = ax.barh(y, [row.probability for row in rows], height=0.62, edgecolor="white")
    most = max(row.probability for row in rows)
    for bar, row in zip(bars, rows, strict=True):
        bar.set_facecolor(_BAD if row.gold < 0 else _LIKED)
        bar.set_hatch("///" if row.gold < 0 else "")
        right = max(row.probability, min(row.compared, most)) + 0.02 * most
        gold = number(row.gold, 1, sign=True)
        text = tr("{p}   gold {gold}", p=share(row.probability), gold=gold)
        ax.text(right, bar.get_y() + 0.31, text, va="center", fontsize=10.5, color=_INK)
    ax.plot(
        [min(row.compared, 1.25 * most) for row in rows], y, "|", color=_INK, markersize=15,
        markeredgewidth=2.5,
    )  # fmt: skip
    ax.set(xlim=(0, 1.65 * most), ylim=(ROWS - 0.5, -0.5), xticks=[])
    ax.set_yticks(y, [row.text for row in rows], fontsize=10.5, family="serif", color=_INK)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("probability; the tick is π_SFT's", fontsize=10.5, color=_SOFT)


def _frontier(ax: Axes, state: ExplorerState, found: Chart) -> None:
    """Both scores over the distance that π* goes at β = 0, and where it is now."""
    points = [found.reference, *reversed(found.curve)]
    roots = np.sqrt([max(m.kl, 0.0) for m in points])
    x = np.linspace(0, roots[-1], 600)  # so fine that the curve changes its colour close to zero
    gold = np.interp(x, roots, [m.gold for m in points])
    ax.axhline(0, color="0.8", linewidth=0.9, zorder=0)
    ax.plot(roots, [m.score for m in points], color=_SCORE, linewidth=2.2)
    ax.plot(x, np.where(gold >= 0, gold, np.nan), color=_LIKED, linewidth=2.2)
    ax.plot(x, np.where(gold <= 0, gold, np.nan), "--", color=_BAD, linewidth=2.2)
    here = math.sqrt(max(state.metrics.kl, 0.0))
    score, now, _, _ = state.metrics
    ax.plot([here, here], [score, now], ":", color=_INK, linewidth=1.2)
    ax.plot([here], [score], "o", color=_SCORE, markersize=8, markeredgecolor="white")
    ax.plot(
        [here], [now], "D", color=_BAD if now < 0 else _LIKED, markersize=8, markeredgecolor="white"
    )
    top, low = points[-1].score, gold[-1]
    readers = _BAD if low < 0 else _LIKED
    names = (("E[score]", top, _SCORE, top >= low), ("E[gold]", low, readers, top < low))
    for text, y, colour, up in names:
        # The lower line is named above itself, too, where there is no room below.
        offset = 5 if up or y < -1.5 else -13
        ax.annotate(
            text, (x[-1], y), (0, offset), textcoords="offset points", ha="right", color=colour,
            weight="bold", fontsize=10.5,
        )  # fmt: skip
    kl = [v for v in (0, 1, 4, 9, 16, 25) if v <= x[-1] ** 2 * 1.05]
    ax.set_xticks(np.sqrt(kl), [str(v) for v in kl])
    ax.set(ylim=(-2.4, 3.1))
    ax.set_xlabel("KL(π* ‖ π_SFT), nats", fontsize=10.5, color=_SOFT)


def _map(ax: Axes, state: ExplorerState, found: Chart) -> None:
    """What π* is like at each (η, β), with a ring at the present pair."""
    plots.region_map(ax, ETA_POSITIONS, BETA_POSITIONS, found.kinds, KINDS)
    x, y = plots.place(ETA_POSITIONS, state.eta), plots.place(BETA_POSITIONS, state.beta)
    for colour, width in (("white", 5), (_INK, 2.2)):
        ax.plot(
            [x], [y], "o", color=colour, markersize=14, fillstyle="none", markeredgewidth=width,
            clip_on=False,
        )  # fmt: skip
    ax.set_xlabel("η, price of a nat from π_SFT", fontsize=10.5, color=_SOFT)
    ax.set_ylabel("β, bonus for entropy", fontsize=10.5, color=_SOFT)


_DRAW = {"responses": _responses, "frontier": _frontier, "map": _map}
