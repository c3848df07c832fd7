"""A grid of runs: in processes on this machine, in anybody's `Executor`, or as one batch on a GPU.

Results are added to a CSV file as they come. A sweep that was killed goes on where it stopped: what
the file already holds is not run again. Several sweeps may add to one file at the same time.
"""

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.grids.ensemble import Ensemble, shared_settings
from rlhf_lab.grids.results import Outcome, add_outcomes, read_outcomes
from rlhf_lab.grids.workers import in_executor, in_processes
from rlhf_lab.report import metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.trainer import NonFiniteError, StepStats, Trainer
from rlhf_lab.world import World, load_world


class Failure(NamedTuple):
    """A run that did not finish; it is tried again when the sweep is."""

    config: PPOConfig
    error: str


def grid(
    etas: Sequence[float], betas: Sequence[float], seeds: Sequence[int], **settings: Any
) -> list[PPOConfig]:
    """Every combination, seeds fastest; `settings` are shared by all runs.

    >>> [(c.eta, c.seed) for c in grid([0.1, 0.3], [0.0], [0, 1], iterations=50)]
    [(0.1, 0), (0.1, 1), (0.3, 0), (0.3, 1)]
    """
    return [
        PPOConfig(eta=eta, beta=beta, seed=seed, **settings)
        for eta, beta, seed in itertools.product(etas, betas, seeds)
    ]


def run_group(
    configs: Sequence[PPOConfig], load: Callable[[], World] = load_world
) -> list[Outcome | Failure]:
    """Do one run alone, several as one batch; a sweep calls this in its workers.

    Args:
        configs: of the runs.
        load: makes the world, once per process; a function that workers can import.
    """
    return [run_one(configs[0], load)] if len(configs) == 1 else run_together(configs, load)


def run_one(config: PPOConfig, load: Callable[[], World] = load_world) -> Outcome:
    """One whole run, measured exactly at its end."""
    world = _once(load)
    trainer = Trainer(world, config)
    for _ in range(config.iterations):
        stats = trainer.step()
    return _measured(world, config, trainer.policy.cpu(), trainer.eta, stats)


def run_together(
    configs: Sequence[PPOConfig], load: Callable[[], World] = load_world
) -> list[Outcome | Failure]:
    """As `run_one` for each of many, trained as one `Ensemble`."""
    world = _once(load)
    ensemble = Ensemble(world, configs)
    for _ in range(ensemble.config.iterations):
        results = ensemble.step()
    ends: list[Outcome | Failure] = []
    for run, (config, last) in enumerate(zip(configs, results, strict=True)):
        if isinstance(last, NonFiniteError):
            ends.append(_failure(config, last))
        else:
            eta = ensemble.controllers[run].value
            ends.append(_measured(world, config, ensemble.policy(run).cpu(), eta, last))
    return ends


def _measured(
    world: World, config: PPOConfig, policy: GPT2, eta: float, last: StepStats
) -> Outcome:
    """Exact numbers of a trained policy, at the η that its run ended with."""
    trained = metrics(world, policy_logprobs(world, policy.float()))
    best = metrics(world, optimum_logprobs(world, eta, config.beta))
    gap = [m.objective(eta, config.beta) for m in (best, trained)]
    return Outcome(config, *trained, gap[0] - gap[1], last.distinct, last.top_share)


def sweep(
    configs: Iterable[PPOConfig],
    file: str | Path,
    *,
    executor: Executor | None = None,
    run: Callable[[Sequence[PPOConfig]], list[Outcome | Failure]] = run_group,
    together: int = 1,
) -> Generator[Outcome | Failure, None, None]:
    """Run what `file` does not hold yet, and yield each run as it ends.

    If you stop iterating, the call waits for the runs that are under way and drops their results;
    a later sweep does those runs again. In a script the call must stand under
    `if __name__ == "__main__":`, because the processes import the script.

    Args:
        configs: of the runs; see `grid`.
        file: a CSV file; each run adds its line as soon as it ends.
        executor: where to run them, such as `dask_client.get_executor()`. None starts one process
            per core, each with one torch thread, and replaces processes that are killed.
        run: does a group of runs and returns an outcome or a failure for each; for another world
            `functools.partial(run_group, load=…)`. The workers must be able to import it.
        together: the number of runs in a group, which is trained as one batch: much faster on a
            GPU and for small batches, and equal up to rounding.

    Raises:
        ValueError: `file` is not a file of such results, or `together` is less than 1.
        OSError: `file` cannot be written; nothing has been run.
    """
    if together < 1:
        raise ValueError(f"together must be at least 1, one run at a time; got {together}")
    file = Path(file)
    done = {outcome.config for outcome in read_outcomes(file)}
    todo = [config for config in dict.fromkeys(configs) if config not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    add_outcomes(file, [])
    groups = _groups(todo, together)
    pairs = in_executor(executor, run, groups) if executor else in_processes(run, groups)
    for group, results in pairs:
        if isinstance(results, Exception):
            results = [_failure(config, results) for config in group]
        add_outcomes(file, [result for result in results if isinstance(result, Outcome)])
        yield from results


def _groups(todo: list[PPOConfig], size: int) -> list[tuple[PPOConfig, ...]]:
    """At most `size` at a time, and only such as may be trained together."""
    groups: list[tuple[PPOConfig, ...]] = []
    for _, alike in itertools.groupby(todo, shared_settings):
        same = tuple(alike)
        groups += [same[start : start + size] for start in range(0, len(same), size)]
    return groups


def _failure(config: PPOConfig, error: Exception) -> Failure:
    return Failure(config, f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=1)
def _once(load: Callable[[], World]) -> World:
    return load()
