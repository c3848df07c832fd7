"""Notebook 11: the GPT-2 in training under each leash, from a file of results in this folder.

`leash_runs.csv` holds three seeds of each leash at one η, measured exactly as they train. Nothing
but the place of the KL differs between them. To make the file again, which takes minutes, run in
the folder of the course

    python -m rlhf_lab.lessons.leash_runs
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab.config import GroupConfig
from rlhf_lab.config import Leash as Place
from rlhf_lab.group_trainer import GroupTrainer
from rlhf_lab.lessons.rows import read_rows, write_rows
from rlhf_lab.world import World, WorldTables, load_world

SHIPPED = Path(__file__).with_name("leash_runs.csv")
ETA = 0.13
"""Between the two cliffs: here π* still holds, and the leash in the loss has torn."""
PLACES: tuple[Place, ...] = ("reward", "k3_ratio", "k3")
SEEDS = (0, 1, 2)
LAST, EVERY = 400, 20
"""The last iteration, and how far apart the measurements are."""
PROMPT = "food"


class Record(NamedTuple):
    """One policy on its way, exact, for the prompt that it is trained on."""

    place: Place
    seed: int
    iteration: int
    score: float
    gold: float
    kl: float
    """KL(π ‖ π_SFT), nats."""
    salad: float
    """How often the policy says a review of `salad`."""


def config(place: Place, seed: int) -> GroupConfig:
    """RLOO, but for the place of the KL: one gradient step per rollout, so every ratio is 1."""
    return GroupConfig(
        eta=ETA, leash=place, level="token", how="sum", batch_size=256, seed=seed, iterations=LAST,
        dtype="float64",  # so that a run agrees between machines
    )  # fmt: skip


def start(world: World, settings: GroupConfig) -> GroupTrainer:
    """A trainer that sees one prompt only, so that one set of exact tables tells all."""
    prompts = world.prompt(PROMPT).unsqueeze(0)
    task = World(world.sft, world.reward_trunk, world.reward_head, prompts)
    return GroupTrainer(task, settings)


def salad(tables: WorldTables) -> Tensor:
    """The reviews that readers dislike and that score more than 2, (N,), 0 or 1.

    No review that they like scores as much. It is what the leash in the loss comes to rest at.
    """
    return ((tables.golds < 0) & (tables.scores > 2)).double()


def follow(
    world: World, settings: GroupConfig, last: int = LAST, every: int = EVERY
) -> Iterator[Record]:
    """Train on one prompt, and measure before the first update and after every few.

    Args:
        world: from `load_world()`.
        settings: of the run.
        last: the last iteration.
        every: measure after so many.
    """
    tables, trainer = world.tables(PROMPT), start(world, settings)
    for n in range(0, last + 1, every):
        while trainer.iteration < n:
            trainer.step()
        with torch.no_grad():
            logprobs = world.logprobs(trainer.policy, PROMPT)
        p = logprobs.exp()
        numbers = (p @ tables.scores, p @ tables.golds, p @ (logprobs - tables.ref_logprobs))
        yield Record(
            settings.leash, settings.seed, n,
            *(x.item() for x in (*numbers, p @ salad(tables))),
        )  # fmt: skip


def read_records(file: str | Path = SHIPPED) -> list[Record]:
    """The records of a file, in its order.

    Raises:
        ValueError: it does not hold such records.
    """
    return read_rows(file, Record, (str, int, int, float, float, float, float))


def of(records: Sequence[Record], place: Place, seed: int) -> list[Record]:
    """The records of one run."""
    return [r for r in records if (r.place, r.seed) == (place, seed)]


def main(file: str | Path = SHIPPED) -> None:
    """Make the file: all places, all seeds."""
    world = load_world()
    runs = [config(place, seed) for place in PLACES for seed in SEEDS]
    write_rows(file, Record, (record for run in runs for record in follow(world, run)))


if __name__ == "__main__":
    main()
