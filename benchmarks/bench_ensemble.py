"""Time E runs of review world, together (`grids.ensemble`) and one by one, on one torch thread.

    python3 course.py bench ensemble [--device cuda] [--batches 8,128] [--runs 8,64]

Both do the same iterations on the same device, in turn: a round is one iteration of each. The
ratio is taken round by round, so that a busy moment of the machine affects both.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.grids.ensemble import Ensemble

WARM_UP = 3  # iterations that are not counted


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()  # its last step reads numbers from the device, so all work is done then
    return time.perf_counter() - start


def measure(batch: int, runs: int, rounds: int, device: str) -> list[tuple[float, float]]:
    """Seconds of an iteration of all runs, (one by one, together), for each round."""
    world = load_world()
    configs = [
        PPOConfig(eta=0.3 + seed / runs, seed=seed, batch_size=batch, device=device)
        for seed in range(runs)
    ]
    trainers, ensemble = [Trainer(world, config) for config in configs], Ensemble(world, configs)

    def one_by_one() -> None:
        for trainer in trainers:
            trainer.step()

    for _ in range(WARM_UP):
        one_by_one()
        ensemble.step()
    return [(seconds(one_by_one), seconds(ensemble.step)) for _ in range(rounds)]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=numbers, default=[8, 16, 32, 128])
    parser.add_argument("--runs", type=numbers, default=[8, 16, 64])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {arguments.device}; ms per iteration, medians")
    print(f"{'batch':>6}{'runs':>6}{'one by one':>12}{'together':>10}{'ratio':>7}  quartiles")
    for batch in arguments.batches:
        for runs in arguments.runs:
            pairs = measure(batch, runs, arguments.rounds, arguments.device)
            single, together = (1e3 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
            low, ratio, high = statistics.quantiles([a / b for a, b in pairs], n=4)
            times = f"{single:12.1f}{together:10.1f}"
            print(f"{batch:6}{runs:6}{times}{ratio:7.2f}  {low:.2f}…{high:.2f}", flush=True)


if __name__ == "__main__":
    main()
