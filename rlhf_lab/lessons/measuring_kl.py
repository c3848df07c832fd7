"""Notebook 05: estimates of KL(π ‖ π_ref) beside its exact value, with bias and spread."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, plots
from rlhf_lab.exact import Tables
from rlhf_lab.kl import k1, k2, k3
from rlhf_lab.translation import tr
from rlhf_lab.world import WorldTables

Estimator = Callable[[Tensor, Tensor], Tensor]
ESTIMATORS: dict[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3}
_STYLES = {
    "k1": (plots.ORANGE, "-", "o"), "k2": (plots.PINK, "--", "s"), "k3": (plots.SKY, ":", "^"),
}  # fmt: skip
_LEFT, _RIGHT = -3.0, 8.0  # nats shown by `strips`; values outside are drawn at the edge


class Spread(NamedTuple):
    """The exact mean and standard deviation of an estimator, in nats per response."""

    mean: float
    std: float


def policy_at(tables: WorldTables, eta: float, beta: float = 0.0) -> list[Tensor]:
    """The optimum for (η, β) as T tables of log π: a policy at a distance that we can choose."""
    return _optimum(tables.tree, tables.scores, eta, beta)


def _optimum(tree: Tables, scores: Tensor, eta: float, beta: float) -> list[Tensor]:
    by_depth = exact.unflatten(scores, tree[0].shape[1], len(tree))
    return exact.soft_values(tree, by_depth, eta, beta).logprobs


def tempered(policy: Tables, temperature: float) -> list[Tensor]:
    """The policy that one samples from if the logits are divided by a temperature."""
    return [(table / temperature).log_softmax(dim=1) for table in policy]


def without_end(policy: Tables, n: int) -> list[Tensor]:
    """The policy that one samples from if `<eos>` is forbidden before n words are said."""
    return [
        table.index_fill(1, torch.tensor(0), -torch.inf).log_softmax(dim=1) if t < n else table
        for t, table in enumerate(policy)
    ]


def along(policy: Tables, ref: Tables, estimator: Estimator) -> Tensor:
    """For every response, the sum of the estimator over its tokens, (N,)."""
    return exact.sequence_logprobs(
        [estimator(log_p, log_ref) for log_p, log_ref in zip(policy, ref, strict=True)]
    )


def spread(policy: Tables, values: Tensor) -> Spread:
    """Exact mean and standard deviation under π of one value per response, (N,)."""
    p = exact.sequence_logprobs(policy).exp()
    mean = p @ values
    return Spread(mean.item(), (p @ (values - mean).square()).sqrt().item())


def draw(policy: Tables, n: int, generator: torch.Generator) -> Tensor:
    """The numbers of `n` responses sampled from π, (n,), by inverting its distribution."""
    return _drawn(_cdf(policy), n, generator)


def _cdf(policy: Tables) -> Tensor:
    return exact.sequence_logprobs(policy).exp().cumsum(0)


def _drawn(cdf: Tensor, n: int, generator: torch.Generator) -> Tensor:
    uniforms = torch.rand(n, generator=generator, dtype=torch.float64)
    return torch.searchsorted(cdf, uniforms * cdf[-1], right=True).clamp(max=len(cdf) - 1)


def bias_and_spread(
    tables: WorldTables, etas: Sequence[float], n: int, seed: int
) -> dict[str, list[tuple[float, Spread, float]]]:
    """For each estimator and each π*_η: the true KL, the exact mean and std, and a mean of n."""
    rows: dict[str, list[tuple[float, Spread, float]]] = {name: [] for name in ESTIMATORS}
    generator = torch.Generator().manual_seed(seed)
    for eta in etas:
        policy = policy_at(tables, eta)
        chosen = draw(policy, n, generator)
        true_kl = spread(policy, along(policy, tables.tree, k1)).mean
        for name, estimator in ESTIMATORS.items():
            values = along(policy, tables.tree, estimator)
            rows[name].append((true_kl, spread(policy, values), values[chosen].mean().item()))
    return rows


def bias_and_spread_figure(rows: Mapping[str, Sequence[tuple[float, Spread, float]]]) -> Figure:
    """The figure to remember: each estimator's mean and spread against the true KL."""
    figure, (left, right) = plots.new_figure(9, 3.8, columns=2)
    for name, points in rows.items():
        colour, style, marker = _STYLES[name]
        x = [true_kl for true_kl, _, _ in points]
        line: dict[str, Any] = {"color": colour, "linestyle": style, "lw": 2.2, "label": name}
        left.plot(x, [exactly.mean / true_kl for true_kl, exactly, _ in points], **line)
        right.plot(x, [exactly.std for _, exactly, _ in points], **line)
        left.plot(x, [mean / true_kl for true_kl, _, mean in points], linestyle="none", label="_",
                  marker=marker, color=colour, markersize=7, markeredgecolor="white")  # fmt: skip
    for ax in (left, right):
        ax.set(xscale="log", xlabel="true KL(π ‖ π_SFT), nats")
        ax.set_xticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
        ax.minorticks_off()
    left.set(title="bias: the mean of the estimate", ylabel="estimate / truth", ylim=(0, 2.4))
    right.set(title="spread: the noise of one review", ylabel="standard deviation, nats")
    right.set(yscale="log", ylim=(3e-3, 1e6))
    plots.powers(right.yaxis)
    lowest, at = min((mean / true_kl, true_kl) for true_kl, _, mean in rows["k3"])
    left.annotate(
        tr("k3 of a batch: too low"), (at, lowest), (0.03, 0.3),
        color=plots.WORDS.get(plots.SKY, plots.SKY), arrowprops={"arrowstyle": "->", "shrinkB": 6},
    )  # fmt: skip
    plots.name_ends(left)
    plots.name_ends(right)
    return figure


def three_logs(tables: WorldTables) -> dict[str, list[tuple[float, float]]]:
    """Means of k1 and of e^−k1 in five batches of 256 reviews, for each of three trainers.

    A samples from its own policy, which is near π_SFT. B forbids the end of a review before the
    fifth word, and C samples at temperature 0.7.
    """
    near, far, middle = (policy_at(tables, eta) for eta in (5, 0.2, 1))
    trainers = {
        "A": (near, near), "B": (far, without_end(far, 4)), "C": (middle, tempered(middle, 0.7))
    }  # fmt: skip
    generator, logs = torch.Generator().manual_seed(0), {}
    for name, (policy, sampler) in trainers.items():
        values = along(policy, tables.tree, k1)
        batches = [values[draw(sampler, 256, generator)] for _ in range(5)]
        logs[name] = [(x.mean().item(), (-x).exp().mean().item()) for x in batches]
    return logs


def strips(
    ax: Axes,
    values: Mapping[str, Tensor],
    true_kl: float,
    limits: tuple[float, float] = (_LEFT, _RIGHT),
) -> None:
    """One strip per estimator: a dot for each sample, and the mean with ± 2 standard errors.

    Args:
        ax: where to draw.
        values: for each of "k1", "k2", "k3" one number per sampled response, in nats.
        true_kl: drawn as a vertical line.
        limits: nats at both ends of the axis; values outside are drawn there.
    """
    left, right = limits
    ax.axvline(true_kl, color=plots.BLACK, linewidth=1.4, zorder=1)
    for row, (name, x) in enumerate(values.items()):
        colour, _, marker = _STYLES[name]
        heights = row + 0.26 * torch.linspace(-1, 1, len(x)).mul(37).sin()  # spread for the eye
        ax.plot(x.clamp(left, right), heights, linestyle="none", marker=".", markersize=4,
                alpha=0.35, color=colour, rasterized=True)  # fmt: skip
        error = 2 * x.std().item() / math.sqrt(len(x))
        ax.errorbar(
            min(x.mean().item(), right), row, xerr=error, color=plots.BLACK, marker=marker,
            markersize=6, markerfacecolor="white", markeredgewidth=1.6, capsize=5, zorder=3,
        )  # fmt: skip
    margin = (right - left) / 36
    ax.set(xlim=(left - margin, right + margin), ylim=(len(values) - 0.5, -0.5))
    ax.set(
        xlabel=tr("nats per review ({most:g}: or more)", most=right),
        yticks=range(len(values)),
        yticklabels=list(values),
    )


class Draw(NamedTuple):
    """A batch of reviews sampled from q = π at a temperature, and scored with π."""

    values: dict[str, Tensor]
    """k1, k2, k3 of each review."""
    inverse_ratio: float
    """Mean of e^−d over them."""
    true_kl: float


def sampled(tables: WorldTables, eta: float, n: int, temperature: float, seed: int = 0) -> Draw:
    """Sample n reviews from π*_η at a temperature, and measure KL(π ‖ π_SFT) three ways."""
    changes = sum(x._version for x in (*tables.tree, tables.scores))  # in place, by the student
    cdf, everywhere, true_kl = _all_reviews(
        (*tables.tree,), tables.scores, eta, temperature, changes
    )
    chosen = _drawn(cdf, n, torch.Generator().manual_seed(seed))
    values = {name: x[chosen] for name, x in everywhere.items()}
    return Draw(values, (-values["k1"]).exp().mean().item(), true_kl)


@functools.lru_cache(maxsize=1)
def _all_reviews(
    tree: tuple[Tensor, ...], scores: Tensor, eta: float, temperature: float, changes: int
) -> tuple[Tensor, dict[str, Tensor], float]:
    """What all batches of `sampled` share: the running sums of q, each estimator, the true KL."""
    policy = _optimum(tree, scores, eta, 0.0)
    values = {name: along(policy, tree, estimator) for name, estimator in ESTIMATORS.items()}
    return _cdf(tempered(policy, temperature)), values, spread(policy, values["k1"]).mean


def said(drawn: Draw) -> str:
    """The numbers of `sampled` in one sentence."""
    means = ", ".join(f"{name} {x.mean().item():.2f}" for name, x in drawn.values.items())
    below = (drawn.values["k1"] < 0).double().mean().item()
    return tr(
        "True KL(π ‖ π_SFT) {kl:.2f} nats; sampled means {means}; {below:.0%} of k1 below 0; "
        "mean of exp(−k1) {ratio:.2f} (near π_SFT it should be 1).",
        kl=drawn.true_kl, means=means, below=below, ratio=drawn.inverse_ratio,
    )  # fmt: skip


def sample_knob(tables: WorldTables) -> Callable[..., tuple[Figure, str]]:
    """The drawing function of the knobs; it takes η, n, a temperature and the number of a batch."""

    def draw(eta: float, n: float, temperature: float, batch: float) -> tuple[Figure, str]:
        drawn = sampled(tables, eta, int(n), temperature, seed=int(batch))
        return strips_figure({"": drawn}), said(drawn)

    return draw


def strips_figure(
    draws: Mapping[str, Draw], limits: Sequence[tuple[float, float]] | None = None
) -> Figure:
    """`strips` of one or several batches side by side, each with its title and its own limits."""
    limits = limits or [(_LEFT, _RIGHT)] * len(draws)
    # With fixed margins there is no layout engine, which takes half of the time and moves axes.
    margins = {"left": 0.05, "right": 0.99, "bottom": 0.17, "top": 0.9, "wspace": 0.15}
    figure, axes = plots.new_figure(9, 3.0, columns=len(draws), margins=margins)
    for ax, (title, drawn), ends in zip(axes, draws.items(), limits, strict=True):
        strips(ax, drawn.values, drawn.true_kl, ends)
        ax.set_title(title, fontsize=11)
    return figure
