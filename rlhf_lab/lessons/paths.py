"""Paths of policies, measured exactly: the optimum as η falls, and PPO while it trains."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.grids.ensemble import Ensemble
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
        tables: the exact tables of the prompt.
        pressure: η, n or iterations at this point of the path.
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
    """Continue training, and measure the policy exactly for one prompt after some iterations.

    Args:
        trainer: trains on all its prompts, up to the last of `iterations`.
        world: gives the exact tables.
        prompt: the prompt for which the policy is measured.
        iterations: after which iterations to measure; increasing, none before the present one.
    """
    points = []
    for n in iterations:
        while trainer.iteration < n:
            trainer.step()
        with torch.no_grad():
            logprobs = world.logprobs(trainer.policy, prompt)
        points.append(point(world.tables(prompt), n, logprobs))
    return points


def training_paths(
    runs: Ensemble, world: World, prompt: str, iterations: Sequence[int]
) -> dict[float, list[Point]]:
    """As `training_path` for several runs that train side by side, one for each η.

    Args:
        runs: new, with a different η for each.
        world: gives the exact tables.
        prompt: the prompt for which the policies are measured.
        iterations: after which iterations to measure; increasing.

    Returns:
        {η: its path}.
    """
    paths: dict[float, list[Point]] = {config.eta: [] for config in runs.configs}
    for n in iterations:
        while runs.iteration < n:
            runs.step()
        for run, points in enumerate(paths.values()):
            if run in runs.errors:
                raise runs.errors[run]
            with torch.no_grad():
                logprobs = world.logprobs(runs.policy(run), prompt)
            points.append(point(world.tables(prompt), n, logprobs))
    return paths
