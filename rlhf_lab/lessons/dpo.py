"""Notebook 12: DPO on all pairs and on few, in a table and with the GPT-2; where leashes rest."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from rlhf_lab import exact, plots
from rlhf_lab.adam import Adam
from rlhf_lab.dpo import dpo_loss, implicit_reward
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import RESPONSE_LENGTH, WORDS
from rlhf_lab.lessons.dialects import Setting
from rlhf_lab.lessons.paths import Point, point
from rlhf_lab.masking import masked_sum, response_mask
from rlhf_lab.preferences import Comparisons
from rlhf_lab.progress import doing
from rlhf_lab.rollout import response_states
from rlhf_lab.translation import tr
from rlhf_lab.world import World, WorldTables


class Small(NamedTuple):
    """Some responses as a language of their own, small enough for all pairs."""

    numbers: Tensor
    """Their numbers among all responses, (K,)."""
    ref_logprobs: Tensor
    """log π_SFT, normalised over these K."""
    scores: Tensor
    golds: Tensor


def most_frequent(tables: WorldTables, k: int) -> Small:
    """The k responses that π_SFT says most often.

    Args:
        tables: the exact tables of a prompt.
        k: how many; 300 make 90,000 pairs.
    """
    numbers = tables.ref_logprobs.topk(k).indices
    ref = tables.ref_logprobs[numbers].log_softmax(dim=0)
    return Small(numbers, ref, tables.scores[numbers], tables.golds[numbers])


def recovered_scores(logprobs: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    """The scores whose optimum a policy is, with mean 0 under π_ref, (N,).

    β·log(π/π_ref) is such a score, but its zero depends on the policy; the mean under π_ref fixes
    it.

    Args:
        logprobs: log π(y), (N,).
        ref_logprobs: log π_ref(y), (N,).
        beta: β > 0, the η for which π shall be the optimum.
    """
    scores = implicit_reward(logprobs, ref_logprobs, beta)
    return scores - ref_logprobs.exp() @ scores


def off(logprobs: Tensor, other: Tensor) -> float:
    """Total variation of two policies: the share of probability that is elsewhere."""
    return 0.5 * (logprobs.exp() - other.exp()).abs().sum().item()


def kl(logprobs: Tensor, ref_logprobs: Tensor) -> float:
    """KL(π ‖ π_ref) in nats."""
    return exact.evaluate(logprobs, ref_logprobs, logprobs.exp(), logprobs.exp()).kl.item()


class Moment(NamedTuple):
    """The GPT-2 after some steps of DPO, measured over every response to the prompt."""

    at: Point
    """Its `pressure` is the number of steps."""
    chosen: float
    """Mean of log π − log π_SFT over the preferred responses of all pairs, nats."""
    rejected: float
    """The same over the others."""


def train(
    world: World,
    prompt: str,
    pairs: Comparisons,
    beta: float,
    stops: Iterable[int],
    *,
    batch: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
) -> list[Moment]:
    """DPO with π_SFT's own GPT-2, in float64: draws some of the pairs at each step of Adam.

    Args:
        world: its π_SFT is the reference, and a copy of it is trained.
        prompt: what all pairs answer.
        pairs: numbers of responses, as in `world.tables`.
        beta: β of `dpo_loss`.
        stops: numbers of steps after which to measure, increasing.
        batch: pairs per step.
        lr: of Adam.
        seed: of the drawing.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = copy.deepcopy(world.sft).double().requires_grad_(True)
    optimizer = Adam(policy.parameters(), lr=lr, eps=1e-5)
    responses = exact.enumerate_responses(len(WORDS), RESPONSE_LENGTH)
    tables, moments, step = world.tables(prompt), [], 0
    for stop in stops:
        while step < stop:
            doing("DPO, step {step}", step=step + 1)
            rows = torch.randint(len(pairs.chosen), (batch,), generator=generator)
            ids = torch.cat([pairs.chosen[rows], pairs.rejected[rows]])
            ours = _response_logprobs(world, policy, prompt, responses[ids])
            chosen, rejected = ours.split(batch)
            ref_chosen, ref_rejected = tables.ref_logprobs[ids].split(batch)
            dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta).backward()
            optimizer.step()
            step += 1
        with torch.no_grad():
            logprobs = world.logprobs(policy, prompt)
        moments.append(Moment(point(tables, step, logprobs), *log_ratios(tables, logprobs, pairs)))
    return moments


def _response_logprobs(world: World, policy: GPT2, prompt: str, responses: Tensor) -> Tensor:
    """log π of whole responses, (B, T) -> (B,)."""
    tokens = torch.cat([world.prompt(prompt).expand(len(responses), 1), responses], dim=1)
    hidden = response_states(policy, tokens, RESPONSE_LENGTH)
    mask = response_mask(responses, world.eos_id)
    return masked_sum(policy.logprobs(hidden, responses), mask, dim=1)


def log_ratios(tables: WorldTables, logprobs: Tensor, pairs: Comparisons) -> tuple[float, float]:
    """Mean log-ratio to π_SFT of the preferred responses, and of the others."""
    ratio = logprobs - tables.ref_logprobs
    chosen, rejected = (pairs.weights @ ratio[ids] for ids in (pairs.chosen, pairs.rejected))
    return chosen.item(), rejected.item()


class NeverLost(NamedTuple):
    """The responses that won each pair they stand in."""

    responses: int
    """How many."""
    share: float
    """Their probability under a policy."""


def never_lost(logprobs: Tensor, pairs: Comparisons) -> NeverLost:
    """The responses that won at least one pair and lost none, and how often a policy says them."""
    winners = torch.zeros(len(logprobs), dtype=torch.bool)
    winners[pairs.chosen] = True
    winners[pairs.rejected] = False
    return NeverLost(int(winners.sum()), logprobs.exp()[winners].sum().item())


def speed_figure(kls: dict[str, Sequence[float]], every: int, ceiling: float) -> Figure:
    """KL(π ‖ π_SFT) while DPO trains on labels without noise: {name: KL after every … steps}.

    Args:
        kls: at most three.
        every: steps between two numbers.
        ceiling: KL of a policy that says the best response only.
    """
    figure, (ax,) = plots.new_figure(7, 3.4)
    for (name, path), (colour, style) in zip(kls.items(), plots.WAYS, strict=False):
        steps = [every * (i + 1) for i in range(len(path))]
        ax.plot(steps, path, color=colour, linestyle=style, label=name)
    ax.axhline(ceiling, color=plots.BLACK, linewidth=0.8)
    ax.annotate("says the best review only", (every, ceiling), (0, -12), textcoords="offset points")
    ax.set(
        xscale="log", xlabel="steps of Adam", ylabel="KL(π ‖ π_SFT), nats",
        title="labels without noise",
    )  # fmt: skip
    ticks = [30, 100, 300, 1000, 3000]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_xticks([], minor=True)
    plots.name_ends(ax)
    return figure


def loss_of_a_pair(wins: float, beta_margin: Tensor) -> Tensor:
    """DPO's mean loss of one pair with many labels, at several values of β·margin.

    −w·log σ(β·margin) − (1 − w)·log σ(−β·margin). It is lowest at the log-odds log(w/(1 − w)), and
    has no lowest point for w = 1.

    Args:
        wins: w, the share of labels in which the better response wins.
        beta_margin: any shape.
    """
    return -wins * F.logsigmoid(beta_margin) - (1 - wins) * F.logsigmoid(-beta_margin)


def pair_figure(shares: Sequence[float], margins: dict[str, float] | None = None) -> Figure:
    """`loss_of_a_pair` for several w, with a dot at the lowest point.

    Args:
        shares: at most four values of w.
        margins: as in `plots.new_figure`.
    """
    figure, (ax,) = plots.new_figure(6.5, 3.2, margins=margins)
    x = torch.linspace(-2, 7, 181, dtype=torch.float64)
    for wins, (colour, style) in zip(shares, plots.WAYS, strict=False):
        label = tr("wins {wins:.0%}", wins=wins)
        ax.plot(x, loss_of_a_pair(wins, x), color=colour, linestyle=style, label=label)
        if wins < 1:
            lowest = torch.tensor(wins, dtype=torch.float64).logit()
            ax.plot(lowest, loss_of_a_pair(wins, lowest), "o", color=colour, markersize=8)
    ax.set(xlabel="β·margin", ylabel="mean loss of the pair", ylim=(-0.15, 2.6), title="one pair")
    plots.name_ends(ax)
    return figure


def draw_pair(wins: float) -> tuple[Figure, str]:
    """The drawing function behind the knob of section 4: how often the better response wins."""
    figure = pair_figure([wins], {"left": 0.1, "right": 0.84, "bottom": 0.16, "top": 0.9})
    if wins == 1:
        return figure, tr("It wins 100%: there is no lowest point, the loss falls on and on")
    lowest = torch.tensor(wins, dtype=torch.float64).logit()
    return figure, tr(
        "It wins {wins:.0%}: the lowest point is at β·margin {at:.1f}, with loss {loss:.2f}",
        wins=wins, at=lowest.item(), loss=loss_of_a_pair(wins, lowest).item(),
    )  # fmt: skip


def falling_figure(moments: Sequence[Moment]) -> Figure:
    """Mean log-ratio of chosen and rejected responses, and their difference, over the steps."""
    figure, (ax,) = plots.new_figure(7, 3.4)
    steps = [moment.at.pressure for moment in moments]
    chosen = [moment.chosen for moment in moments]
    rejected = [moment.rejected for moment in moments]
    margin = [a - b for a, b in zip(chosen, rejected, strict=True)]
    ax.plot(steps, margin, color=plots.BLACK, linestyle="-", label="margin: chosen − rejected")
    ax.plot(steps, chosen, color=plots.GREEN, linestyle="--", label="chosen")
    ax.plot(steps, rejected, color=plots.RED, linestyle=":", label="rejected")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(
        xlabel="steps of DPO", ylabel="mean of log π − log π_SFT, nats",
        title="the margin rises, and both fall",
    )  # fmt: skip
    plots.name_ends(ax)
    return figure


def gold_roads(ax: Axes, optima: Sequence[Point], paths: dict[str, Sequence[Point]]) -> None:
    """E[gold] against KL(π ‖ π_SFT): the optima as η falls, and at most three paths of training.

    Args:
        ax: where to draw.
        optima: in the order of falling η.
        paths: {name in the legend: points in the order of steps}; a larger mark ends each.
    """
    ax.plot(
        [at.kl for at in optima], [at.gold for at in optima], color=plots.BLACK, label="optimum π*"
    )
    styles = ((plots.ORANGE, ":", "o"), (plots.SKY, "--", "s"), (plots.PINK, "-.", "^"))
    for (name, points), (colour, style, marker) in zip(paths.items(), styles, strict=False):
        x, y = [at.kl for at in points], [at.gold for at in points]
        ax.plot(x, y, color=colour, linestyle=style, marker=marker, markersize=4, label=name)
        ax.plot(x[-1], y[-1], marker, color=colour, markersize=9)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlabel="KL(π ‖ π_SFT), nats", ylabel="E[gold score]")
    plots.dislike(ax)
    ax.legend(frameon=False, loc="lower left")


class EarlyKnobs:
    """The drawing function behind the knobs of section 7: how many pairs, and when to stop.

    Args:
        optima: the exact optima, in the order of falling η.
        paths: for each number of pairs, the policies of a training by their steps.
    """

    def __init__(self, optima: Sequence[Point], paths: dict[int, Sequence[Point]]) -> None:
        self.optima, self.paths = optima, paths

    def draw(self, pairs: float, steps: float) -> tuple[Figure, str]:
        """The way of one training with one of its policies marked, and its numbers in words."""
        margins = {"left": 0.1, "right": 0.98, "bottom": 0.15, "top": 0.9}
        figure, (ax,) = plots.new_figure(7, 3.6, margins=margins)
        path = self.paths[int(pairs)]
        gold_roads(ax, self.optima, {tr("{pairs:,.0f} pairs", pairs=pairs): path})
        ax.set_title(
            tr(
                "DPO on {pairs:,.0f} noisy pairs, stopped after {steps:g} steps",
                pairs=pairs, steps=steps,
            )
        )  # fmt: skip
        at = next(at for at in path if at.pressure == steps)
        plots.face(ax, at.kl, at.gold, at.gold)
        return figure, tr(
            "{pairs:,.0f} pairs, {steps:g} steps: E[gold] {gold:.2f}, KL {kl:.2f} nats, "
            "mostly “{says}”",
            pairs=pairs, steps=steps, gold=at.gold, kl=at.kl, says=at.says,
        )  # fmt: skip


def rest_points(tables: WorldTables, etas: Sequence[float]) -> dict[str, list[Point]]:
    """Where each kind of leash comes to rest: {"reward", "k3_ratio", "k3": a point for each η}.

    Args:
        tables: the exact tables of a prompt.
        etas: each > 0.
    """
    scores = exact.unflatten(tables.scores, len(WORDS), RESPONSE_LENGTH)

    def in_loss(eta: float, estimator: exact.LossEstimator) -> Tensor:
        tree = exact.loss_kl_fixed_point(tables.tree, scores, eta, estimator).logprobs
        return exact.sequence_logprobs(tree)

    kinds: dict[str, Callable[[float], Tensor]] = {
        "reward": lambda eta: exact.optimum(tables.ref_logprobs, tables.scores, eta).logprobs,
        "k3_ratio": lambda eta: in_loss(eta, "k3_ratio"),
        "k3": lambda eta: in_loss(eta, "k3"),
    }
    return {name: [point(tables, eta, rest(eta)) for eta in etas] for name, rest in kinds.items()}


class DialectKnobs:
    """The drawing function behind the card of dialects: a setting, a number, and where it rests.

    Args:
        rests: from `rest_points`.
        settings: what can be chosen.
    """

    def __init__(self, rests: dict[str, Sequence[Point]], settings: Iterable[Setting]) -> None:
        self.rests = rests
        self.settings = {setting.name: setting for setting in settings}

    def draw(self, setting: str, coefficient: float) -> tuple[Figure, str]:
        """Gold score at rest against η, the chosen setting marked, and the card in words."""
        margins = {"left": 0.1, "right": 0.98, "bottom": 0.25, "top": 0.9}
        figure, (ax,) = plots.new_figure(7, 3.7, margins=margins)
        chosen = self.settings[setting]
        self.panel(ax, chosen, coefficient)
        labels = ax.get_legend_handles_labels()
        figure.legend(*labels, loc="lower center", ncols=3, frameon=False, fontsize=9.5)
        return figure, chosen.card(coefficient)

    def panel(self, ax: Axes, chosen: Setting, eta: float) -> None:
        """The three curves, thin but for the one on which the setting rests."""
        for (kind, points), (colour, style, name) in zip(self.rests.items(), _kinds(), strict=True):
            width = 2.5 if kind == chosen.rests_on else 0.9
            x, y = [at.pressure for at in points], [at.gold for at in points]
            ax.plot(x, y, color=colour, linestyle=style, linewidth=width, label=name)
            for at in points:
                if kind == chosen.rests_on and at.pressure == eta:
                    ax.plot(eta, at.gold, "o", color=colour, markersize=10)
        ax.set(
            xscale="log", xlabel="η (the leash gets longer to the right)",
            ylabel="E[gold score] at rest", title=chosen.name,
        )  # fmt: skip
        ax.invert_xaxis()
        ticks = [0.05, 0.1, 0.2, 0.5, 1]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        plots.dislike(ax)


def _kinds() -> tuple[tuple[str, str, str], ...]:
    """Colour, line style and name of each kind of leash."""
    return (
        (plots.BLACK, "-", tr("k1 in the reward: π*")),
        (plots.ORANGE, "--", tr("k3 · ratio in the loss")),
        (plots.PINK, ":", tr("k3 in the loss")),
    )
