"""The exact numbers behind the explorer: π* at every (η, β), for each prompt and each score.

All 402,234 responses in float64 take 3 ms here, so a slider never waits for them.
"""

import functools
import heapq
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.collapse import effective_responses
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.progress import doing
from rlhf_lab.report import Metrics
from rlhf_lab.world import World, response_text

_DECADE = (10, 11, 12.5, 14, 16, 18, 20, 22.5, 25, 27.5, 30, 35, 40, 45, 50, 55, 60, 70, 80, 90)
_LOGARITHMIC = [round(x * 10.0**k, 6) for k in (-3, -2, -1, 0) for x in _DECADE]
ETA_POSITIONS = (0.0, *(x for x in _LOGARITHMIC if x <= 10))
"""The positions of the slider for η: 0, then twenty steps per factor of ten."""
BETA_POSITIONS = (0.0, *(x for x in _LOGARITHMIC if x <= 2))
"""The positions of the slider for β."""
ETAS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The values of η on the coarse grid of the function `landscape`."""
BETAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The values of β on that grid."""
SCORES = ("reward model", "gold")
"""What r can be: the reward model's score, or the score of a careful reader."""
REGIONS = ("collapse", "useful", "frozen", "word salad")
KINDS = (*REGIONS, "one good answer")
"""What the explorer calls them: a collapse that careful readers like has a name of its own."""
ROWS = 7
"""How many responses are shown."""
_SQUARINGS = 7
DRAWS = 2**_SQUARINGS
"""Draws in which different responses are counted; a power of 2, to compute (1 − p)^DRAWS fast."""


class Point(NamedTuple):
    """The optimum at one (η, β) for one prompt."""

    metrics: Metrics
    region: str


class Response(NamedTuple):
    """One response; `compared` is its probability under the policy to compare with."""

    text: str
    probability: float
    compared: float
    score: float
    gold: float


class ExplorerState(NamedTuple):
    """Everything that the explorer shows about one optimum."""

    prompt: str
    score: str
    """Which score is maximised, one of `SCORES`."""
    eta: float
    beta: float
    metrics: Metrics
    region: str
    distinct: float
    """Expected number of different responses in `DRAWS` draws, Σ_y 1 − (1 − π*(y))^DRAWS."""
    responses: list[Response]
    """The most probable first."""


def region(point: Metrics, reference: Metrics) -> str:
    """The kind of an optimum; we chose the borders, the numbers are exact.

    - frozen: KL(π ‖ π_SFT) < 0.2 nats, so it is nearly untrained. Otherwise
    - collapse: exp H < 2, so it varies less than two equally likely responses do;
    - if careful readers dislike it (gold < 0): word salad if it is more random than π_SFT, and
      collapse if it is less random;
    - useful: all others.
    """
    if point.kl < 0.2:
        return "frozen"
    if effective_responses(point.entropy) < 2:
        return "collapse"
    if point.gold >= 0:
        return "useful"
    return "word salad" if point.entropy > reference.entropy else "collapse"


def kind(point: Point) -> str:
    """The region, but "one good answer" for a collapse on something that readers like."""
    liked = point.region == "collapse" and point.metrics.gold >= 0
    return "one good answer" if liked else point.region


class ComparedPolicy(NamedTuple):
    """A policy to compare π* with, for one prompt."""

    name: str
    logprobs: Tensor
    """log π(y), (N,)."""
    metrics: Metrics


def compared_policy(
    world: World, prompt: str, policy: GPT2 | None = None, name: str = "π_SFT"
) -> ComparedPolicy:
    """The exact numbers of a policy, or of π_SFT if `policy` is None."""
    _, ref_logprobs, scores, golds = world.tables(prompt)
    logprobs = ref_logprobs if policy is None else world.logprobs(policy, prompt).detach()
    numbers = exact.evaluate(logprobs, ref_logprobs, scores, golds)
    return ComparedPolicy(name, logprobs, Metrics(*(x.item() for x in numbers)))


class Optima:
    """π*(y) ∝ π_SFT(y)^(η/τ)·exp(r(y)/τ), τ = η + β, for one prompt and one r, at any (η, β).

    `exact.optimum` and `exact.evaluate` compute the same in more steps.

    Args:
        world: from `load_world()`.
        prompt: "food" or "staff".
        score: r, one of `SCORES`.

    Raises:
        ValueError: there is no such prompt or score.
    """

    def __init__(self, world: World, prompt: str, score: str) -> None:
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}")
        self.prompt, self.score = prompt, score
        _, self._ref, *self._scores = world.tables(prompt)  # not copied: kernels share their memory
        self._r = self._scores[SCORES.index(score)]
        self._contenders = contenders(self._ref, self._r, ROWS)
        self._points: dict[tuple[float, float], Point] = {}
        self.reference = compared_policy(world, prompt).metrics

    def point(self, eta: float, beta: float) -> Point:
        """The numbers of π* and the name of its region; computed once for each (η, β)."""
        if (eta, beta) not in self._points:
            self._points[eta, beta] = self._solve(eta, beta)[1]
        return self._points[eta, beta]

    def state(self, eta: float, beta: float, compared_logprobs: Tensor) -> ExplorerState:
        """Everything to show about π*.

        Args:
            eta, beta: η, β ≥ 0.
            compared_logprobs: of the policy to compare with, (N,).
        """
        p, (metrics, name) = self._solve(eta, beta)
        missed = 1 - p
        for part in missed.split(2**16):  # small enough for the cache, where it takes half the time
            for _ in range(_SQUARINGS):  # (1 − p)^DRAWS
                part.mul_(part)
        best = self._contenders[p[self._contenders].argsort(descending=True, stable=True)[:ROWS]]
        best = best[p[best] > 0]
        scores = [column[best] for column in self._scores]
        numbers = torch.stack([p[best], compared_logprobs[best].exp(), *scores], dim=1).tolist()
        responses = [
            Response(response_text(i), *row) for i, row in zip(best.tolist(), numbers, strict=True)
        ]
        distinct = len(p) - missed.sum().item()
        return ExplorerState(self.prompt, self.score, eta, beta, metrics, name, distinct, responses)

    def regions(self) -> np.ndarray:
        """Index into `REGIONS` at every pair of slider positions, (len(betas), len(etas))."""
        kinds = self.kinds()
        return np.where(kinds < len(REGIONS), kinds, REGIONS.index("collapse"))

    def kinds(self) -> np.ndarray:
        """Index into `KINDS` at every pair of slider positions, (len(betas), len(etas)).

        A square of four steps whose corners agree counts as one kind; any other square is
        divided. That takes one second instead of five.
        """
        grid = np.full((len(BETA_POSITIONS), len(ETA_POSITIONS)), -1)
        self._fill(grid, (0, len(BETA_POSITIONS) - 1), (0, len(ETA_POSITIONS) - 1))
        return grid

    def _fill(self, grid: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        for j, i in itertools.product(rows, columns):
            if grid[j, i] < 0:
                doing("map of “{prompt}”: {done:.0%}", prompt=self.prompt, done=(grid >= 0).mean())
                grid[j, i] = KINDS.index(kind(self.point(ETA_POSITIONS[i], BETA_POSITIONS[j])))
        corners = {grid[j, i] for j in rows for i in columns}
        block = grid[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
        if len(corners) == 1 and max(block.shape) <= 5:
            block[block < 0] = corners.pop()
        elif (block < 0).any():
            for quarter in itertools.product(_halves(rows), _halves(columns)):
                self._fill(grid, *quarter)

    def _solve(self, eta: float, beta: float) -> tuple[Tensor, Point]:
        """π*, (N,), and its numbers: one exp and a few products over all N."""
        tau = eta + beta
        if min(eta, beta) < 0 or not math.isfinite(tau):
            raise ValueError(f"η and β must be finite and at least 0, got {eta} and {beta}")
        top = 0.0
        if tau:
            # The most probable response is a contender, so the highest logit is among theirs.
            best = self._contenders
            top = (eta * self._ref[best] + self._r[best]).max().item()
            p = (self._ref * (eta / tau)).add_(self._r, alpha=1 / tau).sub_(top / tau).exp_()
        else:  # in the limit all probability is on the highest score
            p = torch.zeros_like(self._r)
            p[self._r.argmax()] = 1.0
        z = p.sum().item()
        ref, score, gold = ((x @ p).item() / z for x in (self._ref, *self._scores))
        reward = (score, gold)[SCORES.index(self.score)]
        entropy = math.log(z) - (eta * ref + reward - top) / tau if tau else 0.0
        metrics = Metrics(score, gold, -entropy - ref, entropy)
        return p.div_(z), Point(metrics, region(metrics, self.reference))


def contenders(ref_logprobs: Tensor, scores: Tensor, k: int) -> Tensor:
    """The responses that can be among the k most probable at some (η, β), about a hundred.

    At any η and β, π* grows with log π_ref and with r. So a response cannot be among them if k
    others are at least as high in both.

    Args:
        ref_logprobs, scores: (N,).
        k: number of responses to show.

    >>> ref, r = torch.tensor([0.0, -1.0, -2.0, -3.0]), torch.tensor([1.0, 0.0, 2.0, 0.5])
    >>> contenders(ref, r, k=1)
    tensor([0, 2])
    """
    order = np.lexsort((-scores.numpy(), -ref_logprobs.numpy()))
    best: list[float] = []  # a heap: the k highest scores so far
    kept: list[int] = []
    for index, score in zip(order.tolist(), scores[order].tolist(), strict=True):
        if len(best) < k:
            heapq.heappush(best, score)
        elif score > best[0]:
            heapq.heapreplace(best, score)
        else:
            continue
        kept.append(index)
    return torch.tensor(kept)


def _halves(ends: tuple[int, int]) -> Sequence[tuple[int, int]]:
    first, last = ends
    middle = (first + last) // 2
    return [(first, middle), (middle, last)] if first < middle else [ends]


@functools.cache
def optima(world: World, prompt: str, score: str = "reward model") -> Optima:
    """`Optima`; all callers share one object."""
    return Optima(world, prompt, score)


@functools.cache
def landscape(
    world: World, prompt: str, score: str = "reward model"
) -> dict[tuple[float, float], Point]:
    """The optimum at every pair of `ETAS` and `BETAS`; takes half a second once."""
    source = optima(world, prompt, score)
    return {(eta, beta): source.point(eta, beta) for eta in ETAS for beta in BETAS}
