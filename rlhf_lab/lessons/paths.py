"""Paths through policy space, each point exact: the optimum as η falls, and PPO as it trains."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.report import optimum_at
from rlhf_lab.trainer import Trainer
from rlhf_lab.world import World, WorldTables, response_text


class Point(NamedTuple):
    """One policy on a path, for one prompt."""

    pressure: float
    """What changes along the path: η, n of best-of-n, or iterations of training."""
    score: float
    gold: float
    kl: float
    """KL(π ‖ π_SFT), nats."""
    says: str
    """Its most probable response."""

    @property
    def distance(self) -> float:
        """√KL(π ‖ π_SFT); rounding can leave a KL of 0 just below 0."""
        return math.sqrt(max(self.kl, 0.0))


def point(tables: WorldTables, pressure: float, logprobs: Tensor) -> Point:
    """Measure one policy.

    Args:
        tables: of the prompt.
        pressure: where on its path the policy lies.
        logprobs: log π(y), (N,).
    """
    e = exact.evaluate(logprobs, *tables[1:])
    says = response_text(int(logprobs.argmax()))
    return Point(pressure, e.score.item(), e.gold.item(), e.kl.item(), says)


def optimum_path(tables: WorldTables, etas: Sequence[float]) -> list[Point]:
    """The exact optimum π* at each η, β = 0."""
    return [point(tables, eta, optimum_at(tables, eta, 0.0)) for eta in etas]


def training_path(
    trainer: Trainer, world: World, prompt: str, iterations: Sequence[int]
) -> list[Point]:
    """Train on, and measure the policy exactly for one prompt after some of the iterations.

    Args:
        trainer: left at the last of `iterations`; it trains on all its prompts.
        world: gives the exact tables.
        prompt: the one to measure.
        iterations: numbers of finished iterations, rising, none already passed.
    """
    points = []
    for n in iterations:
        while trainer.iteration < n:
            trainer.step()
        with torch.no_grad():
            logprobs = world.logprobs(trainer.policy, prompt)
        points.append(point(world.tables(prompt), n, logprobs))
    return points
