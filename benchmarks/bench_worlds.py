"""Where the gold score turns in worlds built from other seeds: `python3 course.py bench worlds`.

Prints the first table of docs/worlds.md. Each world takes 10 to 20 seconds to build. Nothing is
sampled after that: every number is exact. `--seeds 0 1` asks for some worlds only. `--ppo` prints
the two other tables: runs of PPO in our world, 2 to 4 minutes.
"""

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from rlhf_lab import PPOConfig, World, build_world, exact, load_world
from rlhf_lab.grids.ensemble import Ensemble
from rlhf_lab.language import PROMPTS
from rlhf_lab.lessons.paths import Point, optimum_path
from rlhf_lab.world import SEED, WorldTables, response_text

SEEDS = range(12)
ETAS = [1, 0.5, 0.3, 0.2, 0.15, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.045, 0.04, 0.035, 0.03]
ETAS += [0.025, 0.02, 0.015, 0.01, 0.0075, 0.005]
HEAD = (
    "| seed | prompt | correlation | E[gold] is highest at η | with | below its start from η | "
    "highest score | its gold |",
    "|---|---|---|---|---|---|---|---|",
)


class Turn(NamedTuple):
    """How the gold score fares while η falls, for one prompt of one world."""

    correlation: float
    """Of score and gold score under π_SFT."""
    peak: Point
    """The optimum of the list with the highest E[gold]."""
    lost: float | None
    """The largest η below the peak's at which E[gold] is less than π_SFT's; None: at none."""
    winner: str
    """The review with the highest score: what is left as η goes to 0."""
    winner_gold: float


def turn(tables: WorldTables, etas: Sequence[float] = ETAS) -> Turn:
    """Follow the optimum down a list of η, all > 0 and falling."""
    path = optimum_path(tables, etas)
    peak = max(path, key=lambda at: at.gold)
    p, score, gold = tables.ref_logprobs.exp(), tables.scores, tables.golds
    home = (p @ gold).item()
    lost = (at.pressure for at in path if at.pressure < peak.pressure and at.gold < home)
    r, g = score - p @ score, gold - home
    correlation = (p @ (r * g)).item() / math.sqrt((p @ r.square()) * (p @ g.square()))
    best = score.argmax()
    return Turn(correlation, peak, next(lost, None), response_text(best), gold[best].item())


def rows(seed: int, world: World) -> list[str]:
    """The table's rows for one world."""
    lines = []
    for prompt in PROMPTS:
        at = turn(world.tables(prompt))
        lost = "none" if at.lost is None else f"{at.lost:g}"
        lines.append(
            f"| {seed} | {prompt} | {at.correlation:.2f} | {at.peak.pressure:g} | "
            f"{at.peak.gold:.2f} | {lost} | {at.winner} | {at.winner_gold:.1f} |"
        )
    return lines


def loose_runs(world: World) -> None:
    """Print what eight runs without η and β say of food, on their way to 150 iterations."""
    tables = world.tables("food")
    runs = Ensemble(world, [PPOConfig(eta=0, seed=seed, dtype="float64") for seed in range(8)])
    stops = (30, 60, 100, 150)
    said: list[list[str]] = [[] for _ in range(8)]
    for stop in stops:
        while runs.iteration < stop:
            runs.step()
        for seed, row in enumerate(said):
            with torch.no_grad():
                logprobs = world.logprobs(runs.policy(seed), "food")
            best = int(logprobs.argmax())
            share, gold = logprobs[best].exp(), tables.golds[best]
            row.append(f"{response_text(best)} ({share:.0%}, {gold:+.1f})")
    print("\n| seed | after " + " | ".join(f"{stop}" for stop in stops) + " iterations |")
    print("|---" * (len(stops) + 1) + "|")
    for seed, row in enumerate(said):
        print(f"| {seed} | " + " | ".join(row) + " |")


def leashed_runs(world: World) -> None:
    """Print how far five runs each with three η are from their optimum for food, in nats."""
    _, ref, scores, _ = world.tables("food")
    pairs = [(eta, seed) for eta in (1.0, 0.3, 0.1) for seed in range(5)]
    runs = Ensemble(world, [PPOConfig(eta=eta, seed=s, dtype="float64") for eta, s in pairs])
    print("\n| η | iterations | KL(π ‖ π*) of seeds 0 to 4 | KL(π ‖ π_SFT), π* has | regret |")
    print("|---|---|---|---|---|", flush=True)
    for stop in (30, 60):
        while runs.iteration < stop:
            runs.step()
        for eta in (1.0, 0.3, 0.1):
            best = exact.optimum(ref, scores, eta).logprobs
            with torch.no_grad():
                ends = [
                    world.logprobs(runs.policy(k), "food")
                    for k, pair in enumerate(pairs)
                    if pair[0] == eta
                ]
            nats, kls = (
                [exact.evaluate(end, other, scores, scores).kl.item() for end in ends]
                for other in (best, ref)
            )
            target = exact.evaluate(best, ref, scores, scores).kl
            columns = [" ".join(f"{x:.2f}" for x in row) for row in (nats, kls)]
            regret = " ".join(f"{eta * x:.3f}" for x in nats)
            print(f"| {eta:g} | {stop} | {columns[0]} | {columns[1]}, {target:.2f} | {regret} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--ppo", action="store_true", help="the tables of runs instead")
    asked = parser.parse_args()
    if asked.ppo:
        torch.set_num_threads(1)
        leashed_runs(load_world())
        loose_runs(load_world())
        return
    print(*HEAD, sep="\n", flush=True)
    for seed in asked.seeds:
        world = load_world() if seed == SEED else build_world(seed)
        print(*rows(seed, world), sep="\n", flush=True)


if __name__ == "__main__":
    main()
