"""Notebook 12: the GPT-2 in a long DPO on few pairs, from a file of results in this folder.

`long_dpo.csv` holds one run, measured exactly. To make the file again, which takes minutes, run in
the folder of the course

    python -m rlhf_lab.lessons.long_dpo
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from rlhf_lab.files import write_whole
from rlhf_lab.lessons.dpo import train
from rlhf_lab.lessons.paths import Point
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
    with Path(file).open(encoding="utf-8", newline="") as lines:
        head, *rows = list(csv.reader(lines)) or [[]]
    if head != list(Point._fields):
        raise ValueError(f"{file} holds no such run: its first line names other columns")
    kinds = (int, float, float, float, str)
    try:
        return [Point(*(k(x) for k, x in zip(kinds, row, strict=True))) for row in rows]
    except ValueError as error:
        raise ValueError(f"{file} holds a line that is no point of a run: {error}") from error


def write_run(run: Iterable[Point], file: str | Path = SHIPPED) -> None:
    """Write a run, whole or not at all; every float comes back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Point._fields)
    writer.writerows([f"{at.pressure:.0f}", *map(repr, at[1:4]), at.says] for at in run)
    write_whole(file, text.getvalue().encode())


def main(file: str | Path = SHIPPED) -> None:
    """Make the file."""
    write_run(follow(load_world()), file)


if __name__ == "__main__":
    main()
