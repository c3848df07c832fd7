"""Notebook 12: the GPT-2 in a long DPO on few pairs, from a file of results in this folder.

`long_dpo.csv` holds one run, measured exactly. To make the file again, which takes minutes, run in
the folder of the course

    python -m rlhf_lab.lessons.long_dpo
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from rlhf_lab.lessons.dpo import train
from rlhf_lab.lessons.paths import Point
from rlhf_lab.lessons.rows import read_rows, write_rows
from rlhf_lab.preferences import sampled_comparisons
from rlhf_lab.world import World, load_world

SHIPPED = Path(__file__).with_name("long_dpo.csv")
PAIRS, BETA, PROMPT = 2_000, 0.3, "food"
STOPS = (0, 100, 200, 400, 800, 1_600, 3_200)
"""Numbers of steps after which the policy is measured; each step draws 128 of the pairs."""


def follow(world: World, stops: Sequence[int] = STOPS) -> list[Point]:
    """Train on the pairs of the notebook's knob, and measure on the way.

    Args:
        world: from `load_world()`.
        stops: numbers of steps, increasing.
    """
    _, ref, scores, _ = world.tables(PROMPT)
    pairs = sampled_comparisons(ref, scores, PAIRS, torch.Generator().manual_seed(0))
    return [moment.at for moment in train(world, PROMPT, pairs, BETA, stops)]


def read_run(file: str | Path = SHIPPED) -> list[Point]:
    """The run of a file; each point's `pressure` is the number of steps.

    Raises:
        ValueError: it does not hold such a run.
    """
    return read_rows(file, Point, (int, float, float, float, str))


def main(file: str | Path = SHIPPED) -> None:
    """Make the file."""
    run = follow(load_world())
    write_rows(file, Point, (at._replace(pressure=int(at.pressure)) for at in run))


if __name__ == "__main__":
    main()
