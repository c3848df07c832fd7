"""What reading equal rows once saves in review world: `python3 course.py bench sharing`.

The loop as it is beside the same loop reading every row of its batch, on the same responses: runs
of 60 iterations of seed 3, in turn, CPU seconds on one thread. Both do the same sums in another
order, so in float32 they part company after a while, as runs on two processors do.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from report import load, ratio
from torch import Tensor

import rlhf_lab.rollout
from rlhf_lab import PPOConfig, Trainer, World, load_world
from rlhf_lab.collapse import distinct_rows

Rows = Callable[[Tensor], tuple[Tensor, Tensor]]
ETAS = 0.0, 0.1, 0.3, 1.0
SEED = 3


def every_row(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """As if all rows differed."""
    return tokens, torch.arange(len(tokens))


def seconds(task: World, config: PPOConfig, rows: Rows) -> float:
    """CPU seconds of a run whose loop finds the rows that it reads by `rows`."""
    rlhf_lab.rollout.distinct_rows = rows
    trainer = Trainer(task, config)
    start = time.process_time()
    for _ in range(config.iterations):
        trainer.step()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = load_world()
    print("| | every row | equal rows once | times faster |\n|---|---|---|---|")
    for dtype in ("float64", "float32"):
        for eta in ETAS:
            config = PPOConfig(eta=eta, seed=SEED, dtype=dtype, iterations=args.iterations)
            alone, shared = [], []
            for _ in range(args.rounds):
                alone.append(seconds(world, config, every_row))
                shared.append(seconds(world, config, distinct_rows))
            times = " | ".join(f"{statistics.median(x):.2f} s" for x in (alone, shared))
            print(f"| {dtype}, η = {eta:g} | {times} | {ratio(alone, shared)} |", flush=True)
    print(load())


if __name__ == "__main__":
    main()
