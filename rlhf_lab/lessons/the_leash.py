"""Notebook 04: rewards of whole responses, a budget of nats, gradient steps, the frontier."""

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, gradients, plots
from rlhf_lab.exact import Tables
from rlhf_lab.lessons.paths import Point
from rlhf_lab.masking import masked_sum
from rlhf_lab.translation import tr


def total_reward(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
) -> Tensor:
    """r(x, y) − η·(log π(y|x) − log π_ref(y|x)) of each sampled response, (B,).

    Args:
        scores: (B,).
        logprobs: log π of the sampled tokens, (B, T).
        ref_logprobs: log π_ref of the same tokens, (B, T).
        mask: the tokens that the policy chose, (B, T).
        eta: η ≥ 0.
    """
    return scores - eta * masked_sum(logprobs - ref_logprobs, mask, dim=1)


def eta_for_budget(
    ref_logprobs: Tensor, scores: Tensor, etas: Sequence[float], budget: float
) -> float:
    """The η whose optimum scores highest among those of a list with KL(π* ‖ π_ref) ≤ `budget`.

    Args:
        ref_logprobs: log π_ref(y), (N,).
        scores: r(y), (N,).
        etas: the values to choose from, each > 0.
        budget: nats per response.

    Raises:
        ValueError: at every η the optimum costs more than the budget.
    """

    def kl(eta: float) -> float:
        policy = exact.optimum(ref_logprobs, scores, eta).logprobs
        return exact.evaluate(policy, ref_logprobs, scores, scores).kl.item()

    affordable = [eta for eta in etas if kl(eta) <= budget]
    if not affordable:
        raise ValueError(f"no η of {list(etas)} stays within {budget} nats; add a larger one")
    return min(affordable)  # both score and KL of the optimum fall as η rises


def natural_step(logprobs: Tables, scores: Tables, size: float) -> list[Tensor]:
    """A natural-gradient step on E[r]: each token's logit moves by its advantage.

    The ordinary gradient in a token's logit is d(s)·π(a|s)·A(s, a): how often the prefix is
    visited, how probable the token is, and the advantage. Dividing by the first two is the
    natural gradient of a table of logits.

    Args:
        logprobs: T tables of log π(token | prefix).
        scores: r of each response as tables, see `exact.unflatten`.
        size: of the step.
    """
    steps = []
    for ordinary, visits, table in zip(
        _gradient(logprobs, scores), gradients.visitation(logprobs), logprobs, strict=True
    ):
        advantage = ordinary / (visits.unsqueeze(1) * table.exp())
        steps.append((table + size * advantage).log_softmax(dim=1))
    return steps


def ordinary_step(logprobs: Tables, scores: Tables, size: float) -> list[Tensor]:
    """A step along the ordinary gradient in the logits; arguments as in `natural_step`."""
    pairs = zip(logprobs, _gradient(logprobs, scores), strict=True)
    return [(table + size * gradient).log_softmax(dim=1) for table, gradient in pairs]


def walk(
    step: Callable[[Tables, Tables, float], list[Tensor]],
    logprobs: Tables,
    scores: Tables,
    size: float,
    steps: int,
) -> list[Tensor]:
    """Take some steps from a policy; returns log π(y), (N,), at the start and after each."""
    seen = [exact.sequence_logprobs(logprobs)]
    for _ in range(steps):
        logprobs = step(logprobs, scores, size)
        seen.append(exact.sequence_logprobs(logprobs))
    return seen


def frontier(ax: Axes, optima: Sequence[Point], label: str = "optimum π*") -> None:
    """E[score] against KL(π ‖ π_SFT) for the optima; no policy lies above this line.

    Args:
        ax: where to draw.
        optima: in the order of falling η.
        label: text for the legend.
    """
    x, y = [at.kl for at in optima], [at.score for at in optima]
    ax.plot(x, y, color=plots.BLACK, linestyle="-", label=label)
    ax.set(xlabel="KL(π ‖ π_SFT), nats", ylabel="E[score]")


def tangent(ax: Axes, optima: Sequence[Point], eta: float) -> tuple[float, Point]:
    """The frontier, π* at one η, and the line of slope η through it; returns (J*, π*)."""
    here = next(at for at in optima if at.pressure == eta)
    value = here.score - eta * here.kl
    end = max(at.kl for at in optima)
    frontier(ax, optima)
    label = tr("slope η = {eta:g}", eta=eta)
    ax.plot([0, end], [value, value + eta * end], "--", color=plots.ORANGE, label=label)
    ax.plot(here.kl, here.score, **plots.STAR)
    ax.plot(0, value, "s", color=plots.ORANGE, markersize=7, clip_on=False)
    lowest, highest = optima[0].score, optima[-1].score
    ax.set(
        xlim=(0, end), ylim=(lowest - 0.1, highest + 0.35), title=f"η = {eta:g}, J* = {value:.2f}"
    )
    ax.legend(frameon=False, loc="lower right")
    return value, here


class LeashKnobs:
    """The drawing function behind the knobs of notebook 04: the optimum of each η.

    Args:
        optima: for each prompt, the optima in the order of falling η.
    """

    def __init__(self, optima: dict[str, Sequence[Point]]) -> None:
        self.optima = optima

    def draw(self, prompt: str, eta: float) -> tuple[Figure, str]:
        """The tangent at π*_η, and its numbers in words."""
        margins = {"left": 0.1, "right": 0.98, "bottom": 0.15, "top": 0.91}
        figure, (ax,) = plots.new_figure(7, 3.8, margins=margins)
        value, here = tangent(ax, self.optima[prompt], eta)
        return figure, tr(
            "“{prompt}”, η = {eta:g}: E[score] {score:.2f} − η · KL {kl:.2f} nats "
            "= J* {value:.2f}. E[gold] {gold:.2f}, mostly “{says}”",
            prompt=prompt, eta=eta, score=here.score, kl=here.kl, value=value, gold=here.gold,
            says=here.says,
        )  # fmt: skip


def roads(ax: Axes, paths: dict[str, Sequence[Point]]) -> None:
    """Paths of training below the frontier; a larger mark shows the end of each.

    Args:
        ax: axes with the frontier.
        paths: at most four, {name in the legend: path}.
    """
    for (name, points), (colour, style, marker) in zip(paths.items(), _ROADS, strict=False):
        x, y = [at.kl for at in points], [at.score for at in points]
        ax.plot(x, y, color=colour, linestyle=style, marker=marker, markersize=4, label=name)
        ax.plot(x[-1], y[-1], marker, color=colour, markersize=7)
    ax.legend(frameon=False, loc="lower right")


def stars(ax: Axes, optima: Sequence[Point], paths: Mapping[float, Sequence[Point]]) -> None:
    """For each η, a star at its optimum with an edge in the colour of its road, and the regret.

    The regret is a thick vertical bar from the end of the road up to the line J* + η·KL, on which
    every policy would be as good as the optimum: π* lies on that line, and the bar is J* − J long.

    Args:
        ax: axes with the frontier, and the roads in the same order.
        optima: the frontier.
        paths: at most four, {η: path}.
    """
    for (eta, points), (colour, _, _) in zip(paths.items(), _ROADS, strict=False):
        star = next(at for at in optima if at.pressure == eta)
        end, value = points[-1], star.score - eta * star.kl
        ax.plot(
            [end.kl] * 2,
            [end.score, value + eta * end.kl],
            color=plots.BLACK,
            linewidth=3,
            zorder=4,
        )
        ends = torch.tensor([star.kl, end.kl]).sort().values + torch.tensor([-0.2, 0.2])
        ax.plot(ends, value + eta * ends, color=colour, linewidth=2)
        ax.plot(star.kl, star.score, **plots.STAR | {"markeredgecolor": colour})
        ax.annotate(
            f"π*, η = {eta:g}", (star.kl, star.score),
            (-4, 9), textcoords="offset points", ha="right", color=plots.WORDS[colour],
        )  # fmt: skip


_ROADS = (
    (plots.ORANGE, "--", "^"),
    (plots.SKY, "-.", "s"),
    (plots.PINK, ":", "o"),
    (plots.RED, "--", "D"),
)


def _gradient(logprobs: Tables, scores: Tables) -> list[Tensor]:
    unpaid = [torch.zeros_like(table) for table in logprobs]
    return gradients.policy_gradient(logprobs, unpaid, list(scores))
