"""Time review world and its exact numbers: `bench_ppo.py --world`. One torch thread."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from rlhf_lab import PPOConfig, Trainer, World, build_world, exact, language, load_world, world

EVERY, ONE = language.PROMPTS, language.PROMPTS[0]


def seconds(work: Callable[[], object], n: int) -> list[float]:
    """Seconds of `n` calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def fresh_tables(course: World) -> None:
    """The tables of all prompts, nothing kept from before: what the first question costs."""
    world._responses.cache_clear()
    twin = course.to(torch.device("cpu"), torch.float32)
    for prompt in EVERY:
        twin.tables(prompt)


def optima(course: World) -> None:
    """One point (η, β) of the frontier: π* over all responses to all prompts."""
    for prompt in EVERY:
        tables = course.tables(prompt)
        exact.optimum(tables.ref_logprobs, tables.scores, 0.3, 0.1)


def import_seconds(module: str, n: int) -> list[float]:
    """Seconds that `import module` takes in a new Python, the interpreter's own start left out."""
    code = f"from time import perf_counter as t; a = t(); import {module}; print(t() - a)"
    return [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(n)
    ]


def report() -> None:
    torch.set_num_threads(1)
    course = load_world()
    trainer = Trainer(course, PPOConfig())
    for _ in range(3):
        trainer.step()

    @torch.no_grad()
    def evaluate() -> None:
        course.evaluate(trainer.policy, ONE)

    rows: list[tuple[str, list[float], float | None]] = [
        ("tables of all prompts, from nothing", seconds(lambda: fresh_tables(course), 3), 3.0)
    ]
    optima(course)  # makes the tables
    n = sum(len(course.tables(prompt).scores) for prompt in EVERY)
    rows += [
        (f"optimum π* at one (η, β), {n:,} responses", seconds(lambda: optima(course), 30), 0.01),
        ("exact evaluation of a policy, one prompt", seconds(evaluate, 15), 0.15),
        (f"PPO iteration, batch {trainer.config.batch_size}", seconds(trainer.step, 60), None),
        ("build_world", seconds(build_world, 1), 15.0),
        ("import torch", import_seconds("torch", 5), None),
        ("import rlhf_lab, torch included", import_seconds("rlhf_lab", 5), None),
    ]
    print(f"\n{'':45s}{'median':>10s}{'min':>10s}{'at most':>10s}   ms")
    for name, times, aim in rows:
        numbers = [statistics.median(times), min(times)] + ([aim] if aim else [])
        print(f"{name:45s}" + "".join(f"{1e3 * number:10,.1f}" for number in numbers))
