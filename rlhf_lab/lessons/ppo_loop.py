"""Notebook 09: the pieces of the PPO loop put together, and a run's path on the landscape."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import plots
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.kl import exact_kl
from rlhf_lab.language import PROMPTS
from rlhf_lab.masking import masked_whiten
from rlhf_lab.ppo import Advantages, gae, policy_loss, returns_to_go
from rlhf_lab.report import Metrics, metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.rewards import compute_rewards
from rlhf_lab.trainer import StepStats, Trainer
from rlhf_lab.translation import tr
from rlhf_lab.world import World

FRONTIER = tuple(300 / 1.25**k for k in range(40))  # from η = 300, which is π_SFT, to 0.05
"""The values of η whose optima `landscape_figure` draws, from frozen to loose."""


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, lam: float = 0.95
) -> Advantages:
    """Whitened advantages for the policy, and returns for the critic that are **not** whitened.

    A = `gae`(rewards, values),  advantages = (A − mean) / std,  returns = A + values

    Whitening is for the policy, whose steps should not depend on the scale of the score. The
    critic predicts rewards, so its target stays in their units.

    Args:
        rewards, values, mask: (B, T), as in `rlhf_lab.ppo.gae`.
        lam: λ of GAE; γ is 1.
    """
    estimate = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return Advantages(masked_whiten(estimate.advantages, mask), estimate.returns)


def word_logprobs(policy: Tensor, responses: Tensor) -> Tensor:
    """log π of responses, for a policy that chooses each word without looking at the others.

    Args:
        policy: one row of logits per position, (T, V).
        responses: (B, T).

    Returns:
        (B, T), differentiable.

    >>> word_logprobs(torch.zeros(2, 4), torch.tensor([[1, 0]])).exp()
    tensor([[0.2500, 0.2500]])
    """
    logprobs = policy.log_softmax(dim=1).expand(len(responses), *policy.shape)  # (B, T, V)
    return logprobs.gather(2, responses.unsqueeze(2)).squeeze(2)


def ppo_update(
    policy: Tensor,
    ref: Tensor,
    responses: Tensor,
    mask: Tensor,
    scores: Tensor,
    eta: float,
    clip: float,
    lr: float,
    epochs: int,
) -> Tensor:
    """One iteration of PPO on one rollout, for a policy of `word_logprobs`, without a critic.

    The rollout does not change: π_old, the rewards and the advantages are computed once. Only π
    moves, `epochs` times, by plain gradient descent on the clipped loss.

    Args:
        policy: logits of the policy that wrote the rollout, (T, V).
        ref: logits of π_ref, (T, V).
        responses, mask: the rollout, (B, T).
        scores: the scores of its responses, (B,).
        eta: η of the KL penalty in the reward.
        clip: half-width of the band around ratio 1.
        lr: step size.
        epochs: number of gradient steps.

    Returns:
        The new logits, (T, V), detached.
    """
    old_logprobs, ref_logprobs = (word_logprobs(x, responses) for x in (policy, ref))
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = word_logprobs(policy, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        policy = policy - lr * torch.autograd.grad(loss, policy)[0]
    return policy.detach()


class Run(NamedTuple):
    """A training run with exact measurements at some of its iterations."""

    eta: float
    history: list[StepStats]
    path: list[tuple[int, Metrics]]
    """(iteration, exact numbers after it); the first is π_SFT."""
    best: Metrics
    """Exact numbers of the optimum at this η."""
    moved: Sequence[float] = ()
    """KL(π_old ‖ π) of each iteration, from before its first gradient step to after its last."""

    def regret(self, point: Metrics) -> float:
        """J* − J at a point, for β = 0."""
        return (self.best.score - self.eta * self.best.kl) - (point.score - self.eta * point.kl)


def exact_run(
    world: World, trainer: Trainer, at: Sequence[int], *, every_step: bool = False
) -> Run:
    """Train from π_SFT to the last iteration of `at`, and measure the policy at each of them.

    Args:
        world: the world of the trainer.
        trainer: a fresh one.
        at: iterations at which to measure, increasing.
        every_step: also measure how far each iteration moves the policy, which takes longer.
    """
    eta, old = trainer.eta, {word: world.tables(word).ref_logprobs for word in PROMPTS}
    path, moved = [(0, metrics(world, old))], list[float]()
    while trainer.iteration < at[-1]:
        trainer.step()
        if every_step or trainer.iteration in at:
            new = _all_logprobs(world, trainer.policy)
            if every_step:
                kls = [exact_kl(old[word], new[word]) for word in PROMPTS]
                moved.append(torch.stack(kls).mean().item())
            if trainer.iteration in at:
                path.append((trainer.iteration, metrics(world, new)))
            old = new
    best = metrics(world, optimum_logprobs(world, eta, 0.0))
    return Run(eta, trainer.history, path, best, moved)


def _all_logprobs(world: World, policy: GPT2) -> dict[str, Tensor]:
    """log π of every response; float32 is twice as fast and right to five decimals."""
    return policy_logprobs(world, copy.deepcopy(policy).float())


def landscape_figure(world: World, runs: Sequence[Run]) -> Figure:
    """(KL, E[score]) of each run, under the frontier that no policy can cross.

    The straight line is E[score] = J* + η·KL. It touches the frontier at π*, and the vertical
    distance from a policy up to it is the policy's regret.
    """
    optima = [metrics(world, optimum_logprobs(world, eta, 0.0)) for eta in FRONTIER]
    figure, axes = plots.new_figure(9, 4.2, columns=len(runs))
    for ax, run in zip(axes, runs, strict=True):
        last = run.path[-1][1]
        ax.set(xlim=(-0.2, max(1.0, 1.6 * last.kl)), ylim=(-0.15, max(1.0, 1.25 * last.score)))
        _path(ax, run, optima)
        _zoom(ax, run, optima)
        ax.set_xlabel("KL(π ‖ π_SFT), nats")
        title = tr("η = {eta:g}: regret {regret:.2f}", eta=run.eta, regret=run.regret(last))
        ax.set_title(title, fontsize=11)
    axes[0].set_ylabel("E[score]")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def _path(ax: Axes, run: Run, optima: Sequence[Metrics]) -> None:
    """The frontier, one run, the tangent of slope η, and the regret as a vertical bar."""
    ax.plot([m.kl for m in optima], [m.score for m in optima], color=plots.BLACK,
            label="frontier: best score at each KL")  # fmt: skip
    j = run.best.score - run.eta * run.best.kl
    ax.axline((0, j), slope=run.eta, color=plots.ORANGE, linestyle="--", linewidth=1.2,
              label="J* + η·KL, slope η")  # fmt: skip
    points = [m for _, m in run.path]
    ax.plot([m.kl for m in points], [m.score for m in points], "o-", color=plots.BLUE,
            markersize=4, label="PPO")  # fmt: skip
    ax.plot(run.best.kl, run.best.score, label="π*, optimum", **plots.STAR)
    last = points[-1]
    ax.plot([last.kl] * 2, [last.score, j + run.eta * last.kl], color=plots.BLACK, linewidth=3,
            zorder=5, label="regret")  # fmt: skip


def _zoom(ax: Axes, run: Run, optima: Sequence[Metrics]) -> None:
    """The end of the run once more, so large that the regret can be seen."""
    inset = ax.inset_axes((0.5, 0.06, 0.47, 0.42))
    _path(inset, run, optima)
    last, regret = run.path[-1][1], run.regret(run.path[-1][1])
    wide = max(1.6 * abs(last.kl - run.best.kl), 0.06 * (ax.get_xlim()[1] - ax.get_xlim()[0]))
    inset.set(xlim=(last.kl - wide, last.kl + wide), xticks=[], yticks=[],
              ylim=(last.score - 0.7 * regret, last.score + 1.7 * regret))  # fmt: skip
    inset.text(last.kl + 0.12 * wide, last.score + 0.25 * regret, f"{regret:.2f}", fontsize=9)
    inset.spines[:].set(visible=True, color="0.6")
    ax.indicate_inset_zoom(inset, edgecolor="0.4")


def two_kls_figure(history: Sequence[StepStats], moved: Sequence[float]) -> Figure:
    """The distance of one update from π_old, beside the distance of all updates from π_SFT.

    Args:
        history: the records of the trainer.
        moved: KL(π_old ‖ π) of each iteration.
    """
    figure, (left, right) = plots.new_figure(9, 2.9, columns=2)
    x = [s.iteration for s in history]
    left.plot(x, [s.kl for s in history], color=plots.ORANGE, label="from π_SFT: what η penalises")
    left.plot(x, moved, color=plots.BLACK, linestyle="--", label="from π_old: what the clip limits")
    left.set(xlabel="iteration", ylabel="nats per response", title="two KLs")
    left.legend(frameon=False, fontsize=9)
    right.plot(x, [s.score for s in history], color=plots.BLUE)
    right.set(xlabel="iteration", ylabel="mean score", title="progress")
    return figure


def clip_figure(clip: float = 0.2) -> Figure:
    """The loss of one token against its ratio, for a good and for a bad token."""
    figure, axes = plots.new_figure(9, 2.9, columns=2)
    ratios = torch.linspace(0.4, 1.8, 141, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    for ax, sign in zip(axes, (1.0, -1.0), strict=True):
        losses = [
            policy_loss(one * r.log(), 0 * one, sign * one, one, clip=clip).loss.item()
            for r in ratios
        ]
        ax.axvspan(1 - clip, 1 + clip, color="0.96", zorder=0)
        ax.plot(ratios, -sign * ratios, color="0.6", linestyle=":", label="−A·ratio, not clipped")
        ax.plot(ratios, losses, color=plots.BLACK, linewidth=2, label="PPO's loss")
        ax.set(
            title=tr("A = +1, good: more of it") if sign > 0 else tr("A = −1, bad: less of it"),
            xlabel="ratio π / π_old",
            ylabel="loss",
        )
        ax.legend(frameon=False, fontsize=9)
    return figure
