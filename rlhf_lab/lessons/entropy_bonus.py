"""Notebook 07: β beside whitened advantages, in short runs of PPO and with two answers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_lab import plots
from rlhf_lab.config import PPOConfig
from rlhf_lab.report import Metrics, metrics, policy_logprobs
from rlhf_lab.rollout import Rollout
from rlhf_lab.trainer import Trainer
from rlhf_lab.translation import tr
from rlhf_lab.world import World

STYLES = (
    (plots.PINK, "-"),
    (plots.BLACK, "--"),
    (plots.ORANGE, "-."),
    (plots.SKY, ":"),
)
"""A colour and a line style for each curve of a figure."""
STEP = 0.05
"""Length of a time step in `two_answers`."""


class Run(NamedTuple):
    """The end of a short PPO run: exact numbers, the mean over both prompts."""

    eta: float
    beta: float
    metrics: Metrics
    spreads: tuple[float, ...]
    """Standard deviation σ_A of the advantages in each batch, from the first iteration on."""


def ppo_runs(world: World, plans: Mapping[tuple[float, float], int], seed: int = 3) -> list[Run]:
    """Train once for each (η, β) and evaluate each policy over all responses.

    Args:
        world: from `load_world()`.
        plans: {(η, β): iterations}.
        seed: the seed of every run.
    """
    return [_run(world, pair, n, seed) for pair, n in plans.items()]


def _run(world: World, pair: tuple[float, float], n: int, seed: int) -> Run:
    eta, beta = pair
    trainer = Trainer(world, PPOConfig(eta=eta, beta=beta, seed=seed, dtype="float64"))
    spreads = []
    for _ in range(n):
        trainer.step()
        if trainer.rollout is not None:
            spreads.append(advantage_spread(trainer.rollout))
    trained = metrics(world, policy_logprobs(world, trainer.policy))
    return Run(eta, beta, trained, tuple(spreads))


def advantage_spread(rollout: Rollout) -> float:
    """σ_A, the standard deviation of a batch's advantages before they are whitened."""
    advantages = (rollout.returns - rollout.values)[rollout.mask]
    return advantages.std().item()


def forces_figure(
    penalty: Mapping[str, Sequence[float]], bonus: Mapping[str, Sequence[float]], most: float
) -> Figure:
    """Entropy of the first word, step by step, under the KL penalty and under the bonus alone.

    Args:
        penalty, bonus: {where the policy started: its entropies}.
        most: the entropy of the uniform policy, a grey line.
    """
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    curves(
        left, penalty, title="−KL(π ‖ π_SFT) alone: home", xlabel="steps",
        ylabel="H of the first word, nats",
    )  # fmt: skip
    curves(
        right, bonus, title="+H alone: to the uniform policy", xlabel="steps",
        ylabel="H of the first word, nats",
    )  # fmt: skip
    for ax in (left, right):
        ax.set_ylim(1.0, 2.8)
        ax.axhline(most, color="0.7", linewidth=0.8)
        plots.name_ends(ax)
    return figure


def curves(
    ax: Axes, lines: Mapping[str, Sequence[float]], title: str, xlabel: str, ylabel: str
) -> None:
    """Several named curves over the number of steps, each in its own colour and style."""
    for (name, values), (colour, style) in zip(lines.items(), STYLES, strict=False):
        ax.plot(values, color=colour, linestyle=style, label=name)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)


def two_steps_figure(
    start: Metrics, rests: Sequence[tuple[str, Metrics]], runs: Sequence[tuple[str, Metrics]]
) -> Figure:
    """Entropy and gold score of π*, of the other rest points, step by step, and of PPO's runs.

    Args:
        start: π_SFT.
        rests: (name, numbers) of π* and of what each step away from it leads to.
        runs: (name, numbers) of policies that PPO has trained. A dotted arrow leads there from the
            last rest point: no step explains the difference.
    """
    figure, (ax,) = plots.new_figure(8, 4)
    ax.plot(start.entropy, start.gold, "s", color="0.4", markerfacecolor="none", markersize=7)
    ax.annotate("π_SFT", (start.entropy, start.gold), (-30, -22), textcoords="offset points",
                color="0.4", fontweight="bold")  # fmt: skip
    x, y = ([getattr(m, name) for _, m in rests] for name in ("entropy", "gold"))
    for k in range(len(rests) - 1):
        ax.annotate(
            "", (x[k + 1], y[k + 1]), (x[k], y[k]),
            arrowprops={"arrowstyle": "-|>", "color": plots.PINK, "lw": 2,
                        "shrinkA": 9, "shrinkB": 9},
        )  # fmt: skip
    for _, m in runs:
        ax.annotate(
            "", (m.entropy, m.gold), (x[-1], y[-1]),
            arrowprops={"arrowstyle": "-|>", "color": plots.BLACK, "linestyle": ":",
                        "shrinkA": 5, "shrinkB": 7},
        )  # fmt: skip
        ax.annotate("not explained", ((m.entropy + x[-1]) / 2, (m.gold + y[-1]) / 2), (8, 8),
                    textcoords="offset points", color="0.4")  # fmt: skip
    groups = (rests, plots.PINK, "o", (9, 4)), (runs, plots.BLACK, "D", (-8, 10))
    for points, colour, marker, offset in groups:
        for name, m in points:
            ax.plot(m.entropy, m.gold, marker, color=colour, markersize=9, zorder=3)
            ax.annotate(name, (m.entropy, m.gold), offset, textcoords="offset points",
                        color=plots.WORDS.get(colour, colour), fontweight="bold")  # fmt: skip
    ax.set(xlim=(0, 12), ylim=(-2, 3), xlabel="H, nats", ylabel="gold score",
           title="two steps from π* towards PPO")  # fmt: skip
    plots.dislike(ax)
    return figure


def two_answers(
    beta: float, gap: float, whitened: bool, steps: int = 2400, start: float = 0.5
) -> list[float]:
    """Probability of the better of two answers under the natural gradient, step by step.

    dx/dt = gap/σ − β·x,  x = log π(better) − log π(worse),  σ = gap·√(π(better)·π(worse))

    with σ = 1 if the advantages are not whitened.

    Args:
        beta: β ≥ 0.
        gap: score of the better answer minus that of the worse, > 0.
        whitened: are the advantages divided by their standard deviation?
        steps: of size `STEP` in time; no step changes x by more than 1.
        start: probability of the better answer at first, in (0, 1).
    """
    x, path = math.log(start / (1 - start)), []
    for _ in range(steps + 1):
        p = 1 / (1 + math.exp(-x))
        path.append(p)
        spread = gap * math.sqrt(p * (1 - p)) if whitened else 1.0
        slope = gap / spread - beta * x
        x = min(x + max(-1.0, min(STEP * slope, 1.0)), 30.0)
    return path


def rest_points(beta: float) -> tuple[float, float] | None:
    """π(better answer) where push and pull are even, whitened: the one that holds, and the other.

    There u = x/2 > 0 solves cosh(u)/u = β. The left side falls to its minimum at u* and rises from
    there. So there are no solutions below the critical β, and two above it. At the smaller u the
    pull outgrows the push, and training comes back to it; at the larger one the push outgrows the
    pull, and training leaves it.

    Args:
        beta: β, in (0, 1e6).

    Returns:
        (the stable one, the unstable one), or None below the critical β.
    """
    turn = _root(lambda u: u * math.tanh(u) - 1, 1.0, 1.5)

    def spare(u: float) -> float:
        return beta * u - math.cosh(u)

    if spare(turn) <= 0:
        return None
    ends = _root(spare, 0.0, turn), _root(lambda u: -spare(u), turn, 20.0)
    low, high = (1 / (1 + math.exp(-2 * u)) for u in ends)
    return low, high


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f changes from below 0 to above, by bisection."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return high


def force_figure(beta: float, gap: float, advantages: str, p0: float = 0.5) -> tuple[Figure, str]:
    """The push of the score and the pull of β on two answers, and the result; for `Knobs`.

    Args:
        beta: β, > 0.
        gap: between the two scores, > 0.
        advantages: "whitened" or "as they are".
        p0: π(better answer) at the start.
    """
    whitened = advantages == "whitened"
    x = torch.linspace(0, 8, 400, dtype=torch.float64)
    push = 1 / (x.sigmoid() * (-x).sigmoid()).sqrt() if whitened else torch.full_like(x, gap)
    path = two_answers(beta, gap, whitened, start=p0)
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    left.plot(x, push, color=plots.BLUE, label="push of the score, gap/σ")
    left.plot(x, beta * x, color=plots.PINK, linestyle="--", label="pull of the bonus, β·x")
    if whitened and (rests := rest_points(beta)):
        for p, face in zip(rests, (plots.BLACK, "white"), strict=True):
            odds = math.log(p / (1 - p))
            left.plot(odds, beta * odds, "o", color=plots.BLACK, markerfacecolor=face, zorder=3)
    title = tr("● holds, ○ lets go") if whitened else tr("where they cross, training rests")
    left.set(title=title, xlim=(0, 8), xlabel="x, log-odds of the better answer",
             ylabel="change of x per unit of time", ylim=(0, 16))  # fmt: skip
    left.legend(frameon=False)
    right.plot(STEP * np.arange(len(path)), path, color=plots.BLACK)
    title = tr("β = {beta:g}, gap {gap:g}, {advantages}, from {p0:g}", beta=beta, gap=gap,
               advantages=tr(advantages), p0=p0)  # fmt: skip
    right.set(title=title, xlabel="time", ylabel="π(better answer)", ylim=(0.45, 1.02))
    return figure, tr(
        "β = {beta:g}, gap {gap:g}, from {p0:g}: the better answer ends at {end:.3f}.",
        beta=beta, gap=gap, p0=p0, end=path[-1],
    )  # fmt: skip


def critical_figure(betas: Sequence[float]) -> Figure:
    """π(better answer) over time at a few β, whitened, from ½: below 1.509 the other dies."""
    figure, axes = plots.new_figure(9, 2.8, columns=len(betas))
    for ax, beta in zip(axes, betas, strict=True):
        path = two_answers(beta, 1.0, whitened=True, steps=800)
        ax.plot(STEP * np.arange(len(path)), path, color=plots.BLACK)
        title = tr("β = {beta:g}: ends at {end:.3f}", beta=beta, end=path[-1])
        ax.set(title=title, xlabel="time", ylim=(0.45, 1.02))
    axes[0].set_ylabel("π(better answer)")
    return figure
