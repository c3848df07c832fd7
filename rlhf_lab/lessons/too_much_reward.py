"""Notebook 03: exact score and gold score under growing optimisation pressure."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, plots
from rlhf_lab.best_of_n import best_of_each_n
from rlhf_lab.lessons.paths import Point, point
from rlhf_lab.progress import doing
from rlhf_lab.translation import tr
from rlhf_lab.world import WorldTables


def best_of_n_path(tables: WorldTables, ns: Sequence[int]) -> list[Point]:
    """Best-of-n at each n."""
    policies = best_of_each_n(tables.ref_logprobs, tables.scores, ns)
    path = []
    for n, logprobs in zip(ns, policies, strict=True):
        doing("best of {n}", n=n)
        path.append(point(tables, n, logprobs))
    return path


def gold_peak(ref_logprobs: Tensor, scores: Tensor, golds: Tensor, etas: Sequence[float]) -> float:
    """The η of a list for which the optimum of the *score* has the highest E[gold].

    Args:
        ref_logprobs: log π_ref(y), (N,).
        scores: the scores that the optimum maximises, (N,).
        golds: the gold scores that judge it, (N,).
        etas: the values to try, each > 0.
    """

    def gold(eta: float) -> float:
        policy = exact.optimum(ref_logprobs, scores, eta).logprobs
        return exact.evaluate(policy, ref_logprobs, scores, golds).gold.item()

    return max(etas, key=gold)


def mark_pressure(ax: Axes, points: Sequence[Point], chosen: Sequence[float], name: str) -> None:
    """Write η or n beside the gold score of some points of a path, "η = 0.1".

    The label is to the left of a rising curve and to the right of a falling one, on white paper.

    Args:
        ax: where the path is drawn.
        points: the path.
        chosen: the pressures to mark.
        name: "η" or "n".
    """
    peak = max(points, key=lambda at: at.gold)
    for at in points:
        if at.pressure in chosen:
            offset, side = ((-5, 4), "right") if at.distance < peak.distance else ((6, 4), "left")
            if at.gold < -1.5:  # at the end of the curve, where its own name stands on the right
                offset, side = (-14, -4), "right"
            colour = plots.RED if at.gold < 0 else plots.GREEN
            ax.plot(at.distance, at.gold, "o", color=colour, markersize=5)
            ax.annotate(
                f"{name} = {at.pressure:g}", (at.distance, at.gold),
                offset, textcoords="offset points", ha=side, fontsize=9,
            )  # fmt: skip


def draw_turn(ax: Axes, prompt: str, points: Sequence[Point], marked: Sequence[float]) -> None:
    """E[score] and E[gold] against √KL for the optima of one prompt, with labels for some η.

    Args:
        ax: where to draw.
        prompt: the prompt, for the title.
        points: the optima in the order of falling η.
        marked: the values of η to write beside the curve.
    """
    x = [at.distance for at in points]
    score, gold = [at.score for at in points], [at.gold for at in points]
    plots.score_and_gold(ax, x, score, gold, xlabel="√KL(π* ‖ π_SFT), √nats")
    mark_pressure(ax, points, marked, "η")
    peak = max(points, key=lambda at: at.gold)
    ax.annotate(
        tr("careful readers"), (peak.distance, peak.gold), (-6, 1), textcoords="offset points",
        ha="right", color=plots.WORDS[plots.GREEN], fontsize=8.5, fontweight="bold",
    )  # fmt: skip
    ax.set_title(tr("“{prompt}”: the optimum as η falls", prompt=prompt))


def gold_by_distance(ax: Axes, paths: dict[str, Sequence[Point]]) -> None:
    """E[gold] over √KL(π ‖ π_SFT), one line per path.

    Args:
        ax: where to draw.
        paths: at most three, {name in the legend: path}.
    """
    _lines(ax, paths, lambda at: at.gold)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlabel="√KL(π ‖ π_SFT), √nats", ylabel="E[gold score]")
    plots.dislike(ax)


class PressureKnobs:
    """The drawing function behind the knobs of notebook 03: best-of-n beside the optimum π*.

    Args:
        paths: for each prompt, the optimum's path and best-of-n's.
    """

    def __init__(self, paths: dict[str, tuple[Sequence[Point], Sequence[Point]]]) -> None:
        self.paths = paths

    def draw(self, prompt: str, eta: float, n: float) -> tuple[Figure, str]:
        """E[score] and E[gold] over √KL with both policies marked, and their numbers in words."""
        margins = {"left": 0.08, "right": 0.98, "bottom": 0.16, "top": 0.9, "wspace": 0.2}
        figure, (left, right) = plots.new_figure(9, 3.3, columns=2, margins=margins)
        best, drawn = self.paths[prompt]
        paths = {"optimum π*": best, "best-of-n": drawn}
        _lines(left, paths, lambda at: at.score)
        left.set(xlabel="√KL(π ‖ π_SFT), √nats", ylabel="E[score]", title="what is optimised")
        gold_by_distance(right, paths)
        right.set_title("what a careful reader thinks")
        here = _at(best, eta), _at(drawn, n)
        for at, colour, marker in zip(here, (plots.BLACK, plots.SKY), "os", strict=True):
            for ax, value in ((left, at.score), (right, at.gold)):
                ax.plot(at.distance, value, marker, color=colour, markersize=10)
        names = tr("optimum at η = {eta:g}", eta=eta), tr("best of {n:g}", n=n)
        return figure, " · ".join(map(_words, names, here))

    def panel(self, ax: Axes, prompt: str, eta: float, n: float) -> None:
        """The picture of the gold score for one position of the knobs, with both E[score] above."""
        best, drawn = self.paths[prompt]
        gold_by_distance(ax, {"optimum π*": best, "best-of-n": drawn})
        for path, value, colour, marker in (
            (best, eta, plots.BLACK, "o"), (drawn, n, plots.SKY, "s"),
        ):  # fmt: skip
            at = _at(path, value)
            ax.plot(at.distance, at.gold, marker, color=colour, markersize=10)
        scores = _at(best, eta).score, _at(drawn, n).score
        ax.set_title(
            tr("η = {eta:g} and best of {n:g}\nE[score] {first:.2f} and {second:.2f}",
               eta=eta, n=n, first=scores[0], second=scores[1])
        )  # fmt: skip


_STYLES = ((plots.BLACK, "-", ""), (plots.SKY, "--", ""), (plots.ORANGE, ":", "."))


def _lines(ax: Axes, paths: dict[str, Sequence[Point]], value: Callable[[Point], float]) -> None:
    for (name, points), (colour, style, marker) in zip(paths.items(), _STYLES, strict=False):
        x, y = [at.distance for at in points], [value(at) for at in points]
        ax.plot(x, y, color=colour, linestyle=style, marker=marker, label=name)
    ax.legend(frameon=False)


def _at(points: Sequence[Point], pressure: float) -> Point:
    return next(at for at in points if at.pressure == pressure)


def _words(name: str, at: Point) -> str:
    return tr(
        "{name}: E[score] {score:.2f}, E[gold] {gold:.2f}, KL {kl:.2f} nats, mostly “{says}”",
        name=name, score=at.score, gold=at.gold, kl=at.kl, says=at.says,
    )  # fmt: skip
