"""Notebook 08: ties under exact gradients, luck in many runs, PPO's clip, and a late rescue."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import plots
from rlhf_lab.adam import Adam
from rlhf_lab.config import PPOConfig
from rlhf_lab.entropies import entropy
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.lessons.entropy_bonus import advantage_spread
from rlhf_lab.report import said
from rlhf_lab.trainer import Trainer
from rlhf_lab.translation import tr
from rlhf_lab.world import World, response_text

SUBSTEPS = 200
"""Number of integration steps between two times of `flow`."""


def flow(
    start: Tensor, force: Callable[[Tensor], Tensor], times: Sequence[float]
) -> dict[float, Tensor]:
    """Integrate dθ/dt = force(log π), π = softmax(θ), and return the logits θ at some times.

    The steps grow with t (the midpoint rule in log(1 + t)), because ties break ever more slowly.

    Args:
        start: π at time 0, (K,); θ = log π there.
        force: of log π, (K,) -> (K,).
        times: increasing, > 0.
    """
    theta, now = start.log(), 0.0
    found = {now: theta}
    for time in times:
        ends = math.log1p(now), math.log1p(time)
        grid = torch.linspace(*ends, SUBSTEPS + 1, dtype=torch.float64).expm1()
        for a, b in itertools.pairwise(grid):
            middle = theta + (b - a) / 2 * force(theta.log_softmax(0))
            theta = theta + (b - a) * force(middle.log_softmax(0))
        now, found[time] = time, theta
    return found


def race(
    beta: float = 0.0,
    scores: tuple[float, float] = (1.0, 1.0),
    start: float = 0.5,
    batch: int = 8,
    lr: float = 1.0,
    steps: int = 400,
    baseline: float = 0.0,
) -> Tensor:
    """Sampled policy gradient on two answers, A and B, in 400 runs: π(A) over time, (steps, 400).

    With *shares*, how often each answer was said in a batch, and *mean*, the batch's mean score,
    a logit moves by lr·(push + β·pull):

        push = shares·(scores − baseline·mean) − (1 − baseline)·π·mean
        pull = −π·(log π + H)

    For scores of 1 and no baseline the push is shares − π.

    Args:
        beta: β of the entropy bonus.
        scores: of A and of B.
        start: π(A) at the start.
        batch: answers that are drawn for each update.
        lr: step size.
        steps: number of updates.
        baseline: 1 subtracts the mean score of the batch, 0 subtracts nothing.
    """
    generator, path = torch.Generator().manual_seed(0), []
    theta = torch.tensor([start, 1 - start], dtype=torch.float64).log().repeat(400, 1)
    for _ in range(steps):
        logprobs = theta.log_softmax(1)
        p = logprobs.exp()
        path.append(p[:, 0])
        said_a = torch.rand(400, batch, generator=generator, dtype=torch.float64) < p[:, :1]
        shares = torch.stack([said_a.double().mean(1), (~said_a).double().mean(1)], dim=1)
        mean = (shares * torch.tensor(scores)).sum(1, keepdim=True)
        push = shares * (torch.tensor(scores) - baseline * mean) - (1 - baseline) * p * mean
        pull = p * ((p * logprobs).sum(1, keepdim=True) - logprobs)
        theta = theta + lr * (push + beta * pull)
    return torch.stack(path)


def fate_figure(paths: Tensor) -> Figure:
    """Many runs with two equal answers, one run per row, and a histogram of their ends.

    Args:
        paths: π(A) over time, (steps, runs).
    """
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    # One update in four, in 15 colours: nobody sees more, and noise is not to be compressed.
    rows = paths.flip(0)[::4].flip(0)[:, paths[-1].argsort()].T.numpy()
    ends = (plots.ORANGE, "#9a9aa2", plots.BLUE)
    left.imshow(
        rows, cmap=LinearSegmentedColormap.from_list("fates", ends, N=15), vmin=0, vmax=1,
        aspect="auto", origin="lower", interpolation="none", extent=(0, len(paths), 0, len(rows)),
    )  # fmt: skip
    for height, answer in ((0.93, tr("A alone")), (0.07, tr("B alone"))):
        left.text(0.97, height, answer, transform=left.transAxes, ha="right", va="center",
                  weight="bold", bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip
    left.set(title="π(A): grey is ½", xlabel="update", ylabel="run, sorted by its end")
    right.hist(paths[-1].numpy(), bins=20, range=(0, 1), color=plots.SKY, edgecolor="white")
    right.set(title=tr("where all {n} end", n=paths.shape[1]), xlabel="π(A)", ylabel="runs")
    return figure


def collapsed(paths: Tensor) -> float:
    """Share of the runs that end with a probability above 0.9 for one of the two answers."""
    last = paths[-1]
    return ((last > 0.9) | (last < 0.1)).double().mean().item()


def fates_figure(several: dict[str, Tensor]) -> Figure:
    """Histograms of the ends of all runs, side by side: {title: paths}."""
    figure, axes = plots.new_figure(9, 2.6, columns=len(several))
    for ax, (title, paths) in zip(axes, several.items(), strict=True):
        ax.hist(paths[-1].numpy(), bins=20, range=(0, 1), color=plots.SKY, edgecolor="white")
        ax.set(title=title, xlabel="π(A)", ylim=(0, paths.shape[1] / 2))
    axes[0].set_ylabel("runs")
    return figure


def clipped_entropy(
    low: float, high: float, *, iterations: int = 100, runs: int = 60, seed: int = 0
) -> list[float]:
    """Mean entropy of PPO on rewards that mean nothing, before and after each iteration.

    There are sixteen answers; at first the k-th has a probability ∝ 1/k. Each iteration draws 64
    answers, gives each a random advantage ±1, and takes 8 steps of size 2 on the clipped surrogate.

    Args:
        low: below the ratio 1 − low no answer is pushed down; inf does not clip.
        high: above the ratio 1 + high no answer is pushed up; inf does not clip.
        iterations: length of a run.
        runs: number of independent runs.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    start = 1 / torch.arange(1, 17, dtype=torch.float64)
    logits = (start / start.sum()).log().repeat(runs, 1)
    entropies = [entropy(logits).mean().item()]
    for _ in range(iterations):
        uniforms = torch.rand(runs, 64, generator=generator, dtype=torch.float64)
        said = torch.searchsorted(logits.softmax(1).cumsum(1), uniforms).clamp(max=15)
        up = torch.randint(0, 2, said.shape, generator=generator).double()
        good = torch.zeros_like(logits).scatter_add_(1, said, up) / 64
        bad = torch.zeros_like(logits).scatter_add_(1, said, 1 - up) / 64
        old = logits.log_softmax(1)
        for _ in range(8):
            logprobs = logits.log_softmax(1)
            ratio = (logprobs - old).exp()
            pull = ratio * (good * (ratio <= 1 + high) - bad * (ratio >= 1 - low))
            logits = logits + 2.0 * (pull - logprobs.exp() * pull.sum(1, keepdim=True))
        entropies.append(entropy(logits).mean().item())
    return entropies


def wait(p: float, beta: float = 0.1, back: float = 0.1) -> float:
    """Time until the bonus alone brings an answer back from probability p, one of two answers.

    Its log-odds x obey dx/dt = −2·β·p·(1 − p)·x. A step dx takes the time dx / (dx/dt), so the
    whole time is the integral of 1 / (−2·β·p·(1 − p)·x) over x.

    Args:
        p: probability at the start, below `back`.
        beta: β > 0.
        back: probability at which the clock stops, below ½.
    """
    start, end = (math.log(q / (1 - q)) for q in (p, back))
    x = torch.linspace(start, end, 200_001, dtype=torch.float64)
    q = x.sigmoid()
    return torch.trapezoid(1 / (-2 * beta * q * (1 - q) * x), x).item()


def revive(p: float, beta: float, rule: str, *, lr: float, steps: int, eps: float = 1e-8) -> float:
    """Probability to which the bonus alone brings an answer from p, one of two, in some steps.

    Exact gradient ascent on β·H in the two logits. The same gradient, three kinds of step:

    - "plain": lr times the gradient, −β·π(a)·(log π(a) + H);
    - "natural": the same without the factor π(a);
    - "adam": Adam's, in which a gradient far above `eps` moves its logit by about lr, however
      small it is, and one far below `eps` by next to nothing.

    Args:
        p: probability at the start, in (0, 1).
        beta: β > 0.
        rule: "plain", "natural" or "adam".
        lr: step size.
        steps: number of steps.
        eps: Adam's ε.
    """
    theta = torch.tensor([p, 1 - p], dtype=torch.float64).log().requires_grad_(True)
    adam = Adam([theta], lr=lr, eps=eps)
    for _ in range(steps):
        logprobs = theta.detach().log_softmax(0)
        push = -beta * (logprobs + entropy(theta.detach()))
        if rule != "natural":
            push = push * logprobs.exp()
        if rule == "adam":
            theta.grad = -push
            adam.step()
        else:
            theta.data += lr * push
    return theta.softmax(0)[0].item()


class EqualScores(World):
    """A world in which every response has the score 1: there is nothing to prefer."""

    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        return torch.ones(len(responses), dtype=torch.float64, device=responses.device)


class EqualRun(NamedTuple):
    """The end of a run in which every response had the same score."""

    entropy: float
    """H(π) after training, over all responses to the prompt, nats."""
    says: str
    """Its likeliest response."""
    share: float
    """The probability of that response."""
    spread: float
    """Standard deviation of the last rollout's advantages before they were whitened."""


def equal_runs(
    world: World, prompt: str, seeds: Sequence[int], iterations: int, lam: float = 0.95
) -> list[EqualRun]:
    """PPO with its critic and whitened advantages where all responses score 1, η = β = 0.

    Args:
        world: π_SFT and the prompts; its reward model is not asked.
        prompt: for which the policies are measured.
        seeds: of the runs.
        iterations: of each run.
        lam: λ of GAE.
    """
    task = EqualScores(world.sft, world.reward_trunk, world.reward_head, world.prompts)
    ends = []
    for seed in seeds:
        trainer = Trainer(task, PPOConfig(eta=0, seed=seed, lam=lam, dtype="float64"))
        for _ in range(iterations):
            trainer.step()
        spread = advantage_spread(trainer.rollout) if trainer.rollout else math.nan
        with torch.no_grad():
            logprobs = world.logprobs(trainer.policy, prompt)
        best, h = logprobs.argmax(), -(logprobs.exp() @ logprobs).item()
        share = logprobs[best].exp().item()
        ends.append(EqualRun(h, response_text(int(best)), share, spread))
    return ends


class Rescue(NamedTuple):
    """Batch means of one iteration of a run that starts from a collapsed policy."""

    gold: float
    entropy: float
    """Mean of −log π(y), nats per review."""
    distinct: int
    """Different reviews of 128."""
    says: str
    """The most frequent review, with its count."""


def rescue(
    world: World, policy: GPT2, eta: float, beta: float, iterations: int, seed: int = 3
) -> list[Rescue]:
    """PPO from a given policy with other η and β; π_SFT stays the reference.

    Args:
        world: from `load_world()`.
        policy: the policy to start from; it is not changed.
        eta, beta: η and β from the first iteration on.
        iterations: number of iterations.
        seed: the seed of the run.
    """
    trainer = Trainer(world, PPOConfig(eta=eta, beta=beta, seed=seed, dtype="float64"))
    trainer.policy.load_state_dict(policy.state_dict())
    found = []
    for _ in range(iterations):
        stats, rollout = trainer.step(), trainer.rollout
        if rollout is not None:
            gold = world.gold(rollout.tokens, rollout.responses).mean().item()
            found.append(Rescue(gold, stats.entropy, stats.distinct, said(rollout, 1)))
    return found


def rescue_figure(rescues: dict[str, list[Rescue]]) -> Figure:
    """Gold score and entropy after η or β was changed: {name: iterations}."""
    figure, (left, right) = plots.new_figure(9, 3.2, columns=2)
    for name, run in rescues.items():
        colour, style = (plots.ORANGE, "-") if "η" in name else (plots.PINK, "--")
        left.plot([at.gold for at in run], color=colour, linestyle=style, label=name)
        right.plot([at.entropy for at in run], color=colour, linestyle=style, label=name)
    left.set(title="do readers like it again?", xlabel="iteration after the change",
             ylabel="mean gold score")  # fmt: skip
    right.set(title="is it varied again?", xlabel="iteration after the change",
              ylabel="entropy, nats per review")  # fmt: skip
    plots.dislike(left)
    for ax in (left, right):
        plots.name_ends(ax)
    return figure
