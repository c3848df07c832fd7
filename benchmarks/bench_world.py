"""Time review world, its exact numbers and the import: `python3 course.py bench world`."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import new_kernel
import report
import torch

from rlhf_lab import PPOConfig, Trainer, World, build_world, exact, language, load_world, world

EVERY, ONE = language.PROMPTS, language.PROMPTS[0]
KERNELS = 5  # new processes for each of their numbers


def seconds(work: Callable[[], object], n: int) -> list[float]:
    """Seconds of `n` calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def fresh_tables(course: World) -> None:
    """Compute the tables of all prompts without any cache, as the first question does."""
    world._responses.cache_clear()
    twin = course.to(torch.device("cpu"), torch.float32)
    for prompt in EVERY:
        twin.tables(prompt)


def optima(course: World) -> None:
    """Compute π* at one (η, β), over all responses to all prompts."""
    for prompt in EVERY:
        tables = course.tables(prompt)
        exact.optimum(tables.ref_logprobs, tables.scores, 0.3, 0.1)


def import_seconds(module: str) -> float:
    """Seconds of `import module` in a new Python, without the start of the interpreter."""
    code = f"from time import perf_counter as t; a = t(); import {module}; print(t() - a)"
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )


def in_new_kernels(folder: str) -> None:
    """Print what notebooks wait for without tables on disk, and with them in an empty folder."""

    def run(*command: str, cache: str) -> bytes:
        environ = {**os.environ, "RLHF_LAB_CACHE": cache}
        return subprocess.run(
            [sys.executable, *command], env=environ, capture_output=True, check=True
        ).stdout

    run("-c", "from rlhf_lab.world import keep_tables; keep_tables()", cache=folder)
    script = str(Path(new_kernel.__file__))
    for part, (_, aim) in new_kernel.PARTS.items():
        for where, cache in (("computed", ""), ("mapped", folder)):
            numbers = [float(run(script, part, cache=cache)) for _ in range(KERNELS)]
            wanted = f"   aim: at most {aim:,g}" if cache else ""
            name = f"{part} ({where})"
            print(f"{name:45s}{report.spread(numbers, '9,.1f')}{wanted}", flush=True)


def row(name: str, times: list[float], aim: float | None = None) -> None:
    """Print times in ms, and the aim if there is one."""
    wanted = f"   aim: at most {1e3 * aim:,g}" if aim else ""
    print(f"{name:45s}{report.spread([1e3 * s for s in times], '9,.1f')}{wanted}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{report.load()} at the start; one torch thread, ms")
    course = load_world()
    trainer = Trainer(course, PPOConfig())
    for _ in range(3):
        trainer.step()

    @torch.no_grad()
    def evaluate() -> None:
        course.evaluate(trainer.policy, ONE)

    row("tables of all prompts, from nothing", seconds(lambda: fresh_tables(course), 5), 3.0)
    with tempfile.TemporaryDirectory() as folder:
        in_new_kernels(folder)
    optima(course)  # makes the tables
    n = sum(len(course.tables(prompt).scores) for prompt in EVERY)
    row(f"optimum π* at one (η, β), {n:,} responses", seconds(lambda: optima(course), 30), 0.01)
    row("exact evaluation of a policy, one prompt", seconds(evaluate, 15), 0.15)
    row(f"PPO iteration, batch {trainer.config.batch_size}", seconds(trainer.step, 60))
    row("build_world", seconds(build_world, 2), 15.0)
    imports = [(import_seconds("torch"), import_seconds("rlhf_lab")) for _ in range(8)]
    torchs, ours = (list(times) for times in zip(*imports, strict=True))
    row("import torch", torchs)
    row("import rlhf_lab, torch included", ours)
    print(f"{'import rlhf_lab / import torch':45s}{report.ratio(ours, torchs)}   aim: at most 1.3")
    print(f"{report.load()} at the end")


if __name__ == "__main__":
    main()
