"""Notebook 06: what the four KL modes do, as numbers on a review and as forces on a policy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, gradients, plots
from rlhf_lab._checks import takes, unchecked
from rlhf_lab.exact import Tables
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.gradients import Penalty
from rlhf_lab.kl import KLMode, exact_kl, kl_penalty
from rlhf_lab.progress import doing
from rlhf_lab.rewards import AdaptiveKLController, Rewards
from rlhf_lab.rollout import response_states
from rlhf_lab.translation import tr
from rlhf_lab.tree import score_tables
from rlhf_lab.world import World, policy_tables

STYLES = {
    "kl": (plots.ORANGE, "-"), "abs": (plots.BLACK, "--"), "mse": (plots.PINK, "-."),
    "full": (plots.SKY, ":"), "k3": (plots.RED, (0, (1, 1, 4, 1))),
}  # fmt: skip
"""Colour and line style of each mode."""


class ShortReviews(NamedTuple):
    """Review world cut down to reviews of at most three words: 2,380 of them, float64."""

    ref: list[Tensor]
    """log π_SFT(word | prefix), 3 tables."""
    scores: list[Tensor]
    """The reward model's score of each review, as tables."""


def short_reviews(world: World, prompt: str, depth: int = 3) -> ShortReviews:
    """A tree small enough for thousands of exact gradients in a few seconds."""
    tokens = world.prompt(prompt)
    with torch.no_grad():
        scores = score_tables(world.reward_trunk, world.reward_head, tokens, depth)
        return ShortReviews(
            policy_tables(world.sft, tokens, depth), [table.double() for table in scores]
        )


@torch.no_grad()
def read(model: GPT2, tokens: Tensor, length: int) -> Tensor:
    """log π of every word at each of the last `length` positions: (B, P + T) -> (B, T, V)."""
    return model.logits(response_states(model, tokens, length)).double().log_softmax(dim=-1)


@takes(policy="logprobs tables", ref="logprobs tables")
def tree_kl(policy: Tables, ref: Tables) -> float:
    """KL(π ‖ π_ref) by the chain rule: Σ over prefixes of d(s)·KL(π(·|s) ‖ π_ref(·|s))."""
    visits = unchecked(gradients.visitation)(policy)
    parts = [d @ unchecked(exact_kl)(p, q) for d, p, q in zip(visits, policy, ref, strict=True)]
    return torch.stack(parts).sum().item()


class Flow(NamedTuple):
    """What `flow` returns."""

    measured: list[float]
    """One number before each step, and one at the end."""
    policy: list[Tensor]
    """The policy after the last step."""


@takes(start="logprobs tables", ref="logprobs tables", scores="scores ends or None")
def flow(
    start: Tables,
    ref: Tables,
    mode: Penalty,
    measure: Callable[[Tables], float],
    *,
    scores: Tables | None = None,
    eta: float = 1.0,
    steps: int = 2000,
    lr: float = 1.0,
) -> Flow:
    """Follow PPO's mean update with the penalty in the reward: exact, no sampling, no clipping.

    Args:
        start: the first policy, T tables of log π.
        ref: π_ref.
        mode: the mode of the penalty.
        measure: the number to write down before each step.
        scores: r of each response as tables; None for r = 0.
        eta: η.
        steps: number of steps.
        lr: size of a step on the logits.
    """
    logits, measured = [table.clone() for table in start], list[float]()
    for step in range(steps + 1):
        doing("step {n} of {steps}, penalty {mode}", n=step, steps=steps, mode=mode)
        policy = [table.log_softmax(dim=1) for table in logits]
        measured.append(measure(policy))
        if step == steps:
            break
        down = gradients.kl_reward_gradient(policy, ref, mode)  # raises if the flow runs off
        up = [torch.zeros_like(table) for table in policy]
        if scores is not None:
            up = unchecked(gradients.policy_gradient)(policy, up, scores)
        logits = [z + lr * (u - eta * d) for z, u, d in zip(logits, up, down, strict=True)]
    return Flow(measured, policy)


def two_tokens(p: float) -> list[Tensor]:
    """A language of two one-word responses, π = (p, 1 − p)."""
    return [torch.tensor([[p, 1 - p]], dtype=torch.float64).log()]


def first_probability(policy: Tables) -> float:
    """p of `two_tokens`."""
    return policy[0][0, 0].exp().item()


def joined(tables: Tables) -> Tensor:
    """All numbers of a list of tables in one vector."""
    return torch.cat([table.reshape(-1) for table in tables])


class Aim(NamedTuple):
    """A gradient compared with the gradient that was wanted."""

    length: float
    """Its length divided by that of the wanted gradient."""
    cosine: float
    """Of the angle between the two: 1 same direction, −1 opposite; 0 also for a gradient of 0."""


def aim(gradient: Tables, wanted: Tensor) -> Aim:
    """Compare the length and the direction of a gradient with the wanted one.

    Args:
        gradient: as tables.
        wanted: all numbers of the wanted gradient in one vector, as from `joined`.
    """
    g = joined(gradient)
    length = (g.norm() / wanted.norm()).item()
    return Aim(length, torch.cosine_similarity(g, wanted, 0).item() if length > 1e-9 else 0.0)


def four_modes_figure(
    two: Mapping[str, Sequence[float]], short: Mapping[str, Sequence[float]]
) -> Figure:
    """The figure to remember: r = 0, four modes; only one of them brings the policy home."""
    figure, (left, right) = plots.new_figure(9, 3.8, columns=2)
    for ax, runs in ((left, two), (right, short)):
        for mode, y in runs.items():
            colour, style = STYLES[mode]
            ax.plot(y, color=colour, linestyle=style, linewidth=2.2, label=mode)
        ax.set_xlabel("update")
    left.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
    left.set(title="two words: home is p = 0.5", ylabel="p of the first word", ylim=(0.45, 1.03))
    right.set(title="reviews of up to three words: home is KL = 0", yscale="log")
    right.set_ylabel("KL(π ‖ π_SFT), nats")
    plots.powers(right.yaxis)
    for ax in (left, right):
        plots.name_ends(ax)
    return figure


def draw_two_words(mode: KLMode, home: float, begin: float) -> tuple[Figure, str]:
    """The drawing function behind the knobs of section 3: p over 150 updates, with r = 0.

    Args:
        mode: of the penalty in the reward.
        home: p under π_SFT.
        begin: p at the start.

    Returns:
        The figure; what it shows in words, with what each word is charged at the start.
    """
    start, fair = two_tokens(begin), two_tokens(home)
    path = flow(start, fair, mode, first_probability, steps=150).measured
    charged = unchecked(kl_penalty)(start[0], fair[0], mode).expand(1, 2)[0].tolist()
    margins = {"left": 0.1, "right": 0.92, "bottom": 0.17, "top": 0.9}
    figure, (ax,) = plots.new_figure(6.5, 3.0, margins=margins)
    colour, style = STYLES[mode]
    ax.axhline(home, color="0.6", linewidth=0.9, zorder=0)
    ax.plot(path, color=colour, linestyle=style, linewidth=2.2, label=mode)
    ax.set(xlabel="update", ylabel="p of the first word", ylim=(-0.03, 1.03))
    ax.set_title("home is the grey line")
    plots.name_ends(ax)
    return figure, tr(
        "{mode}, home {home:g}: the two words are charged {first:+.2f} and {second:+.2f} at the "
        "start; p {begin:g} → {end:.3f}",
        mode=mode, home=home, first=charged[0], second=charged[1], begin=begin, end=path[-1],
    )  # fmt: skip


def reward_strip(ax: Axes, words: Sequence[str], shaped: Rewards, score: float) -> None:
    """The reward of each word of one review: the penalty as a bar, the score on top of the last.

    Args:
        ax: where to draw.
        words: the words of the review.
        shaped: `compute_rewards` of this review alone, (1, T).
        score: the reward model's score of the review.
    """
    n = len(words)
    penalty = shaped.non_score_rewards[0, :n].tolist()
    ax.bar(range(n), penalty, width=0.6, color=plots.ORANGE, hatch="//", edgecolor="white",
           label="−η · penalty")  # fmt: skip
    ax.bar(n - 1, score, width=0.25, color=plots.BLUE, label="score")
    ax.plot(range(n), shaped.rewards[0, :n].tolist(), linestyle="none", marker="D",
            color=plots.BLACK, label="reward of the word")  # fmt: skip
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xticks(range(n), words)
    ax.set(ylim=(-4.6, 3.2), xlim=(-0.6, n - 0.4), ylabel="reward, units of the score")


def strips_figure(
    strips: Mapping[str, tuple[Sequence[str], Rewards, float]], width: float = 9
) -> Figure:
    """`reward_strip` for one or several reviews or modes side by side."""
    # With fixed margins there is no layout engine, which takes half of the time and moves axes.
    margins = {"left": 0.65 / width, "right": 0.99, "bottom": 0.1, "top": 0.9, "wspace": 0.25}
    figure, axes = plots.new_figure(width, 3.0, columns=len(strips), margins=margins)
    for ax, (title, strip) in zip(axes, strips.items(), strict=True):
        reward_strip(ax, *strip)
        ax.set_title(title, fontsize=11)
    axes[-1].legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def follow(
    controller: AdaptiveKLController, reviews: ShortReviews, scale: float, updates: int, batch: int
) -> list[tuple[float, float]]:
    """(η, KL) before each update of a controller whose policy is always at π*_η.

    Args:
        controller: changed in place.
        reviews: the world in which π* is computed exactly.
        scale: factor for the scores.
        updates: number of updates.
        batch: responses per update.
    """
    ref = exact.sequence_logprobs(reviews.ref)
    scores, path = scale * exact.flatten(reviews.scores), list[tuple[float, float]]()
    for _ in range(updates):
        best = exact.optimum(ref, scores, controller.value).logprobs
        kl = (best.exp() @ (best - ref)).item()
        path.append((controller.value, kl))
        controller.update(kl, batch)
    return path


def controller_figure(paths: Mapping[str, Sequence[tuple[float, float]]], target: float) -> Figure:
    """η and KL of several controllers, update by update."""
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    styles: list[dict[str, Any]] = [
        {"color": plots.ORANGE, "linestyle": "-"}, {"color": plots.BLACK, "linestyle": "--"},
        {"color": plots.PINK, "linestyle": ":"},
    ]  # fmt: skip
    for (name, path), style in zip(paths.items(), styles, strict=False):
        left.plot([eta for eta, _ in path], linewidth=2.2, label=name, **style)
        right.plot([kl for _, kl in path], linewidth=2.2, **style)
    right.axhline(target, color="0.6", linewidth=0.9, zorder=0)
    left.set(title="η", xlabel="update", ylabel="η", yscale="log")
    plots.powers(left.yaxis)
    right.set(title="the distance that results", xlabel="update", ylabel="KL(π* ‖ π_SFT), nats")
    plots.name_ends(left)
    return figure
