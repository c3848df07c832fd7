"""Notebook 11: where RLOO and GRPO come to rest, exactly, and the figures of that."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, plots
from rlhf_lab.binary_groups import binary_rest, binary_slope
from rlhf_lab.config import Leash as Place
from rlhf_lab.flow import Leash, natural_step
from rlhf_lab.gradients import policy_gradient
from rlhf_lab.group_updates import Rule, Shared, dead_share, expected_weights
from rlhf_lab.groups import leave_one_out, shaped_scores
from rlhf_lab.lessons.leash_runs import Record, of
from rlhf_lab.lessons.paths import Point, point
from rlhf_lab.progress import doing
from rlhf_lab.report import optimum_at
from rlhf_lab.translation import tr
from rlhf_lab.world import World, WorldTables

NAMES: dict[Place, str] = {
    "reward": "in the reward",
    "k3_ratio": "in the loss, k3·ratio",
    "k3": "in the loss, k3",
}
STYLES: dict[Place, tuple[str, str]] = {
    "reward": (plots.BLACK, "-"),
    "k3_ratio": (plots.ORANGE, "--"),
    "k3": (plots.PINK, ":"),
}
"""A colour and a line style for each place of the KL."""
MARKS: dict[Place, tuple[str, float]] = {
    "reward": ("o", 1.06),
    "k3_ratio": ("s", 1.0),
    "k3": ("^", 0.94),
}
"""The shape of a run's mark, and the factor by which it stands beside its η, to be seen."""


def rloo_advantages(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    eta: float,
    group_size: int,
) -> Tensor:
    """RLOO's advantage with the leash in it, one number per response, (B,).

    R = r − η·Σ_t k1, then R minus the mean R of the other G − 1 in its group.

    Args:
        scores: r of each response, (B,); G rows in a row belong to one prompt.
        logprobs, ref_logprobs: of the sampled tokens, (B, T).
        mask: (B, T), bool or 0/1.
        eta: η ≥ 0.
        group_size: G.
    """
    rewards = shaped_scores(scores, logprobs, ref_logprobs, mask, eta)
    return leave_one_out(rewards, group_size)


Pull = Literal["reward", "k3_ratio", "k3"]


def kl_pull(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, place: Pull) -> Tensor:
    """What the KL multiplies −η·∇log π of each token by, on a fresh rollout, (B, T).

    With d = log π − log π_ref of a token:

    "reward"    Σ of d over this token and all later ones
    "k3_ratio"  d
    "k3"        1 − e^−d

    Args:
        logprobs, ref_logprobs: of the sampled tokens, (B, T).
        mask: (B, T), bool or 0/1; the pull is 0 off it.
        place: where the KL stands.
    """
    d = torch.where(mask.bool(), (logprobs - ref_logprobs).detach(), 0.0)
    if place == "reward":
        return d.flip(1).cumsum(1).flip(1) * mask
    return d if place == "k3_ratio" else -torch.expm1(-d)


def small_tree() -> tuple[list[Tensor], Tensor]:
    """A policy with 40 responses and a graded score for each: log π tables, and r, (40,)."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tree = [normal(3**t, 4).log_softmax(1) for t in range(3)]
    return tree, normal(40)


def joined(tables: Sequence[Tensor]) -> Tensor:
    """The numbers of some tables as one vector."""
    return torch.cat([table.flatten() for table in tables])


def groups_figure(group_size: int, eta: float, gap: float) -> tuple[Figure, str]:
    """Push of the score and pull of the leash on the better of two answers; for `Knobs`.

    Args:
        group_size: G.
        eta: η > 0.
        gap: between the two scores.
    """
    G = int(group_size)
    grpo = binary_rest(G, eta, gap=gap)
    rloo = binary_rest(G, eta, gap=gap, rule="leave_one_out")
    x = np.linspace(0, 40, 201)
    push = [binary_slope(1 / (1 + math.exp(u)), G, 1e-4 / gap) for u in x]
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    left.plot(x, push, color=plots.BLUE, label="push, GRPO")
    left.plot(x, np.full_like(x, gap), color=plots.SKY, linestyle=":", label="push, RLOO")
    left.plot(x, eta * x, color=plots.ORANGE, linestyle="--", label="pull of the leash, η·x")
    for at in (grpo, rloo):
        if at <= 40:
            left.plot(at, eta * at, "o", color=plots.BLACK, markersize=7)
    left.set(title="where they cross, training rests", xlabel="x, log-odds of the better answer",
             ylabel="change of x", ylim=(0, 1.4 * max(*push, min(gap, 10))))  # fmt: skip
    left.legend(frameon=False, loc="center right")
    _slopes(right, G)
    p = torch.tensor([0.99, 0.01], dtype=torch.float64).log()
    dead = dead_share(p, torch.tensor([0.0, 1.0]), G).item()
    return figure, tr(
        "G = {G}, η = {eta:g}, gap {gap:g}: GRPO rests at log-odds {grpo:.2f}, RLOO at {rloo:.2f}. "
        "A prompt that is solved once in a hundred: {dead:.0%} of its groups are dead.",
        G=G, eta=eta, gap=gap, grpo=grpo, rloo=rloo, dead=dead,
    )  # fmt: skip


def _slopes(ax: Axes, group_size: int) -> None:
    p = np.logspace(-3, math.log10(0.5), 60)
    most = (group_size - 1) / math.sqrt(group_size)
    ax.plot(p, 1 / np.sqrt(p * (1 - p)), color="0.6", linestyle="-.", label="G → ∞")
    ax.plot(
        p, [binary_slope(q, group_size) for q in p], color=plots.BLUE, label=f"G = {group_size}"
    )
    ax.axhline(most, color=plots.BLACK, linestyle=":", label="(G − 1)/√G")
    ax.set(title="weight of a prompt that is solved with p", xlabel="p", ylabel="f_G(p)",
           xscale="log", yscale="log", ylim=(0.5, 40))  # fmt: skip
    plots.powers(ax.xaxis)
    plots.powers(ax.yaxis)
    ax.legend(frameon=False)


def rest_logprobs(tables: WorldTables, eta: float, place: Place) -> Tensor:
    """log π of every response where training comes to rest, with the KL in this place, (N,)."""
    if place == "reward":
        return optimum_at(tables, eta, 0.0)
    fixed = exact.loss_kl_fixed_point(tables.tree, _ends(tables), eta, place)
    return exact.sequence_logprobs(fixed.logprobs)


def rest(tables: WorldTables, eta: float, place: Place) -> Point:
    """Where training comes to rest, measured."""
    doing("rest at η = {eta:.2g}", eta=eta)
    return point(tables, eta, rest_logprobs(tables, eta, place))


def follow_exactly(
    tables: WorldTables,
    eta: float,
    leash: Leash,
    times: Sequence[int],
    policy: Sequence[Tensor] | None = None,
) -> list[Point]:
    """The exact natural gradient, in steps of 1, measured at some times.

    Args:
        tables: of the prompt.
        eta: η, at most 1, so that the steps follow the flow.
        leash: "reward" or "loss".
        times: when to measure, increasing.
        policy: where it starts, T tables of log π; None: at π_SFT.
    """
    ends, now, found = _ends(tables), 0, []
    policy = list(tables.tree if policy is None else policy)
    for time in times:
        while now < time:
            doing("time {now:g} of {end:g}", now=now, end=times[-1])
            policy = natural_step(policy, tables.tree, ends, eta, leash)
            now += 1
        found.append(point(tables, time, exact.sequence_logprobs(policy)))
    return found


def _ends(tables: WorldTables) -> list[Tensor]:
    return exact.unflatten(tables.scores, tables.tree[0].shape[1], len(tables.tree))


def says_at_rest(
    world: World, prompt: str, places: Sequence[Place] = ("reward", "k3_ratio")
) -> Callable[[float], tuple[Figure, str]]:
    """The function that draws what the policy says at rest, one panel for each place; for `Knobs`.

    Args:
        world: from `load_world()`.
        prompt: the prompt.
        places: of the KL.
    """
    tables = world.tables(prompt)

    def draw(eta: float) -> tuple[Figure, str]:
        figure, axes = plots.new_figure(10.5, 2.6, columns=len(places))
        words = []
        for ax, place in zip(axes, places, strict=True):
            logprobs = rest_logprobs(tables, eta, place)
            _likeliest(ax, world, tables, logprobs)
            here = point(tables, eta, logprobs)
            name = tr("KL {place}", place=tr(NAMES[place]))
            ax.set_title(name, fontsize=11)
            gold = plots.number(here.gold, 2, sign=True)
            words.append(
                tr("{name}: gold {gold}, KL {kl:.1f} nats", name=name, gold=gold, kl=here.kl)
            )
        return figure, tr("At rest, η = {eta:g}. {each}.", eta=eta, each="; ".join(words))

    return draw


def _likeliest(ax: Axes, world: World, tables: WorldTables, logprobs: Tensor) -> None:
    """The four most probable responses; a bar is hatched where the gold score is negative.

    A tick is how often π_SFT says it.
    """
    for row, (_, p, index) in enumerate(top := world.top(logprobs, 4)):
        gold, ref = tables.golds[index].item(), tables.ref_logprobs[index].exp().item()
        colour, hatch = (plots.RED, "///") if gold < 0 else (plots.GREEN, "")
        ax.barh(row, p, edgecolor="white", height=0.7, color=colour, hatch=hatch)
        ax.plot(ref, row, "|", color=plots.BLACK, markersize=14, markeredgewidth=2)
        liked = plots.number(gold, 1, sign=True)
        share = tr("{p}   gold {gold}", p=f"{p:.0%}", gold=liked)
        ax.text(max(p, ref) + 0.02, row, share, va="center")
    ax.set_yticks(range(len(top)), [text for text, _, _ in top])
    ax.set(xlim=(0, 1.4), ylim=(3.5, -0.5), xticks=[0, 0.5, 1])
    ax.spines["bottom"].set_bounds(0, 1)  # no probability is larger; the rest is for words
    ax.set_xlabel("probability; the tick is π_SFT's")


def rests_figure(
    curves: Mapping[Place, Sequence[Point]], eta: float, records: Sequence[Record] = ()
) -> Figure:
    """Gold score and KL at rest against η, one curve for each place of the KL.

    Args:
        curves: rest points, by place.
        eta: marked by a grey line.
        records: of sampled runs at this η; where each of them ends is a mark.
    """
    ends = {(r.place, r.seed): r for r in sorted(records, key=lambda r: r.iteration)}
    figure, axes = plots.new_figure(9, 3.6, columns=2)
    for ax, name in zip(axes, ("gold", "kl"), strict=True):
        for place, points in curves.items():
            colour, style = STYLES[place]
            etas = [p.pressure for p in points]
            ax.plot(etas, [getattr(p, name) for p in points], color=colour, linestyle=style,
                    label=NAMES[place])  # fmt: skip
        ax.axvline(eta, color="0.7", linewidth=0.8, zorder=0)
        for end in ends.values():
            shape, beside = MARKS[end.place]
            ax.plot(beside * eta, getattr(end, name), shape, color=STYLES[end.place][0],
                    markersize=7, markeredgecolor="white", zorder=3)  # fmt: skip
        ax.set(xscale="log", xlabel="η (the leash gets longer to the right)")
        ax.invert_xaxis()
        ax.set_xticks([1, 0.3, 0.1, 0.04], ["1", "0.3", "0.1", "0.04"])
        ax.minorticks_off()
    axes[0].set(title="what careful readers think, at rest", ylabel="gold score")
    axes[1].set(title="distance from π_SFT, at rest", ylabel="KL(π ‖ π_SFT), nats")
    axes[0].axhline(0, color="0.85", linewidth=0.8, zorder=0)
    plots.dislike(axes[0])
    axes[1].text(eta, axes[1].get_ylim()[1], f" η = {eta:g}", color="0.4", va="top")
    axes[1].legend(frameon=False)
    return figure


def arrival_figure(
    flows: Mapping[Place, Sequence[Point]],
    records: Sequence[Record],
    rests: Mapping[Place, Point],
) -> Figure:
    """The gold score on the way: exact flow, and sampled runs of the GPT-2.

    Args:
        flows: by place, the exact natural flow.
        records: of the sampled runs; those of the places in `flows` are drawn.
        rests: where each place comes to rest, as grey lines.
    """
    figure, (left, right) = plots.new_figure(9, 3.4, columns=2)
    for place, points in flows.items():
        colour, style = STYLES[place]
        left.plot([p.pressure for p in points], [p.gold for p in points], color=colour,
                  linestyle=style, label=NAMES[place])  # fmt: skip
        for seed in sorted({r.seed for r in records}):
            run = of(records, place, seed)
            right.plot([r.iteration for r in run], [r.gold for r in run], color=colour,
                       linestyle=style, linewidth=1)  # fmt: skip
    for ax in (left, right):
        for place in flows:
            ax.axhline(rests[place].gold, color="0.75", linewidth=0.8, zorder=0)
        ax.set(ylim=(-2.2, 3.2), ylabel="gold score")
        plots.dislike(ax)
    for place in flows:
        ax, name = (left, "π*") if place == "reward" else (right, tr("rest point, KL in the loss"))
        ax.text(1, rests[place].gold + 0.06, name, color="0.4", va="bottom")
    left.set(title="exact flow: everything moves", xlabel="steps of the natural gradient")
    right.set(title="sampled runs of the GPT-2, three seeds each", xlabel="updates of 256 reviews")
    left.legend(frameon=False, loc="center right")
    return figure


class Lengths(NamedTuple):
    """127 responses in which the first word decides right or wrong, and the rest only length."""

    tree: list[Tensor]
    right: Tensor
    """1 where the first word is the right one, (127,): the score."""
    wrong: Tensor
    """1 where it is the wrong one, (127,)."""
    tokens: Tensor
    """Length of each response, (127,)."""


def lengths_world() -> Lengths:
    """Three tokens (end, right word, wrong word), at most six of them."""
    first, later = (
        torch.tensor([[0.2, 0.4, 0.4]]).double(),
        torch.tensor([0.3, 0.35, 0.35]).double(),
    )
    tree = [first.log(), *(later.log().expand(2**t, 3) for t in range(1, 6))]
    responses = exact.enumerate_responses(3, 6)
    ended = responses == 0
    tokens = torch.where(ended.any(1), ended.int().argmax(1) + 1, 6).double()
    head = responses[:, 0]
    return Lengths(tree, (head == 1).double(), (head == 2).double(), tokens)


def end_pushes(how: Shared, rule: Rule = "none", group_size: int = 8) -> tuple[float, float]:
    """The mean push on the logit of <eos>, in right and in wrong answers, over the whole gradient.

    Positive is towards shorter. The score does not ask for it: length is worth nothing here.

    Args:
        how: "response", "batch" (one group is the batch), or "sum" for a constant denominator.
        rule: of the advantage.
        group_size: G.
    """
    world = lengths_world()
    joint = exact.sequence_logprobs(world.tree)
    w = expected_weights(joint, world.right, group_size, rule, how=how, lengths=world.tokens)
    unpaid = [torch.zeros_like(table) for table in world.tree]
    update = policy_gradient(world.tree, unpaid, exact.unflatten(w, 3, 6))
    ends = [table[:, 0] for table in update[1:]]  # the first half of each depth is the right branch
    right = sum(end[: len(end) // 2].sum() for end in ends)
    wrong = sum(end[len(end) // 2 :].sum() for end in ends)
    norm = joined(update).norm()
    return float(right / norm), float(wrong / norm)


class Answers(NamedTuple):
    """A policy of `lengths_world`, measured."""

    solved: float
    """P(right answer)."""
    right: float
    """Mean length of right answers, tokens."""
    wrong: float
    """Mean length of wrong answers, tokens."""


def length_path(how: Shared, steps: int = 400, every: int = 10) -> list[Answers]:
    """What answers are like along exact gradient ascent.

    Args:
        how: "response" or "sum".
        steps: of size ½; where responses are divided by their length, times E[length], so that
            both denominators move at the same pace.
        every: measured after so many.
    """
    world, found = lengths_world(), []
    tree = list(world.tree)
    unpaid = [torch.zeros_like(table) for table in tree]
    for step in range(steps + 1):
        joint = exact.sequence_logprobs(tree)
        p = joint.exp()
        if step % every == 0:
            right, wrong = p * world.right, p * world.wrong
            lengths = (x @ world.tokens / x.sum() for x in (right, wrong))
            found.append(Answers(right.sum().item(), *(x.item() for x in lengths)))
        w = expected_weights(joint, world.right, 8, how=how, lengths=world.tokens)
        pace = 0.5 if how == "sum" else 0.5 * float(p @ world.tokens)
        update = policy_gradient(tree, unpaid, exact.unflatten(w, 3, 6))
        tree = [(x + pace * y).log_softmax(1) for x, y in zip(tree, update, strict=True)]
    return found


def lengths_figure(paths: Mapping[str, Sequence[Answers]], every: int = 10) -> Figure:
    """Length of right and of wrong answers over the steps, one panel for each denominator."""
    figure, axes = plots.new_figure(9, 3, columns=len(paths))
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        steps = every * np.arange(len(path))
        ax.plot(steps, [x.right for x in path], color=plots.GREEN, label="right answers")
        ax.plot(steps, [x.wrong for x in path], color=plots.RED, linestyle="--",
                label="wrong answers")  # fmt: skip
        ax.set(title=name, xlabel="steps", ylim=(3.0, 4.6))
    axes[0].set_ylabel("mean length, tokens")
    for ax in axes:
        plots.name_ends(ax)
    return figure


class Drawn(NamedTuple):
    """A batch of reviews by a policy on its way, (B, T) each but for the scores."""

    logprobs: Tensor
    ref_logprobs: Tensor
    mask: Tensor
    entropies: Tensor
    """H of the policy at each token."""
    scores: Tensor
    """(B,)."""


def drawn(tables: WorldTables, n: int = 32, eta: float = 0.5, seed: int = 0) -> Drawn:
    """Reviews by π* at some η, token by token.

    Args:
        tables: of the prompt.
        n: how many.
        eta: of the policy.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = exact.soft_values(tables.tree, _ends(tables), eta).logprobs
    V, T = policy[0].shape[1], len(policy)
    prefix, alive = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
    columns, scores = [], torch.zeros(n, dtype=torch.float64)
    for t, (table, ref, ends) in enumerate(zip(policy, tables.tree, _ends(tables), strict=True)):
        rows = table[prefix]
        token = torch.multinomial(rows.exp(), 1, generator=generator).squeeze(1)
        columns.append((rows.gather(1, token[:, None])[:, 0], ref[prefix, token], alive,
                        -(rows.exp() * rows).sum(1)))  # fmt: skip
        last = alive & ((token == 0) | (t == T - 1))
        column = token if t == T - 1 else torch.zeros_like(token)
        scores = torch.where(last, ends[prefix, column], scores)
        alive = alive & (token != 0)
        prefix = torch.where(alive & (t < T - 1), prefix * (V - 1) + token - 1, 0)
    logprobs, ref_logprobs, mask, entropies = (
        torch.stack(x, 1) for x in zip(*columns, strict=True)
    )
    return Drawn(logprobs, ref_logprobs, mask, entropies, scores)
