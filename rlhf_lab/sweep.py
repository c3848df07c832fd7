"""A grid of runs wherever there are cores: processes on this machine, or anybody's `Executor`.

Results are appended to a CSV file as they come. A sweep that was killed goes on where it stopped:
what the file already holds is not run again.
"""

import csv
import dataclasses
import functools
import io
import itertools
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, Self

from rlhf_lab.config import PPOConfig
from rlhf_lab.report import metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.train import Trainer
from rlhf_lab.world import World, load_world


class Outcome(NamedTuple):
    """Where a run ended: exact numbers of the policy, averaged over prompts, and its last batch."""

    config: PPOConfig
    score: float
    gold: float
    kl: float
    entropy: float
    regret: float
    """J* − J(π) ≥ 0; where η = β = 0, J* is the highest score."""
    distinct: int
    top_share: float

    @property
    def row(self) -> dict[str, str]:
        """As text, settings first; every float comes back from it bit for bit."""
        values = dataclasses.asdict(self.config) | dict(
            zip(self._fields[1:], self[1:], strict=True)
        )
        return {name: str(value) for name, value in values.items()}

    @classmethod
    def from_row(cls, row: dict[str, str]) -> Self:
        """The inverse of `row`."""
        values: dict[str, Any] = {name: _parse(text) for name, text in row.items()}
        numbers = [values.pop(name) for name in cls._fields[1:]]
        return cls(PPOConfig.from_dict(values), *numbers)


class Failure(NamedTuple):
    """A run that did not finish; it is tried again when the sweep is."""

    config: PPOConfig
    error: str


COLUMNS = [*(field.name for field in dataclasses.fields(PPOConfig)), *Outcome._fields[1:]]


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


def run_one(config: PPOConfig, load: Callable[[], World] = load_world) -> Outcome:
    """One whole run, measured exactly at its end. `load` is called once per process."""
    world = _once(load)
    trainer = Trainer(world, config)
    for _ in range(config.iterations):
        stats = trainer.step()
    eta, beta = trainer.eta, trainer.beta
    trained = metrics(world, policy_logprobs(world, trainer.policy.cpu().float()))
    best = metrics(world, optimum_logprobs(world, eta, beta))
    gap = [m.score - eta * m.kl + beta * m.entropy for m in (best, trained)]
    return Outcome(config, *trained, gap[0] - gap[1], stats.distinct, stats.top_share)


def sweep(
    configs: Iterable[PPOConfig],
    file: str | Path,
    *,
    executor: Executor | None = None,
    run: Callable[[PPOConfig], Outcome] = run_one,
) -> Generator[Outcome | Failure, None, None]:
    """Run what `file` does not hold yet, and yield each run as it ends.

    Args:
        configs: of the runs; see `grid`.
        file: a CSV file, appended to after each run.
        executor: where to run them, such as `dask_client.get_executor()`. None starts one process
            per core, each with one torch thread, and replaces processes that are killed.
        run: does one run; it must be importable by the workers.

    Raises:
        ValueError: `file` is not a file of such results.
    """
    file = Path(file)
    done = {outcome.config for outcome in read_outcomes(file)}
    todo = [config for config in dict.fromkeys(configs) if config not in done]
    results = _own_processes(todo, run) if executor is None else _submit(executor, todo, run)
    for result in results:
        if isinstance(result, Outcome):
            _append(file, result)
        yield result


def read_outcomes(file: str | Path) -> list[Outcome]:
    """The results of a sweep so far; a last line that was cut off by a crash is removed.

    Raises:
        ValueError: it is not a file of such results.
    """
    file = Path(file)
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(io.StringIO(whole)))
    try:
        if whole and whole.splitlines()[0] != ",".join(COLUMNS):
            raise ValueError("its first line names other columns")
        outcomes = [Outcome.from_row(row) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} does not hold results of this version's sweeps ({error}); "
            "move it away, or name another file"
        ) from error
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return outcomes


def _own_processes(
    todo: list[PPOConfig], run: Callable[[PPOConfig], Outcome]
) -> Iterator[Outcome | Failure]:
    """All runs in processes of our own.

    A process that is killed takes the whole pool with it, and nobody can tell whose run it was. So
    those that went down are tried alone until the one is found, and a new pool does the rest.
    """
    while todo:
        killed = []
        with _pool(min(_cores(), len(todo))) as pool:
            for result in _submit(pool, todo, run):
                if _was_killed(result):
                    killed.append(result.config)
                else:
                    yield result
        todo = yield from _one_by_one(killed, run)


def _one_by_one(
    configs: list[PPOConfig], run: Callable[[PPOConfig], Outcome]
) -> Generator[Outcome | Failure, None, list[PPOConfig]]:
    """Each in a process of its own, up to the first whose process is killed; returns the rest."""
    for done, config in enumerate(configs, start=1):
        with _pool(1) as pool:
            (result,) = _submit(pool, [config], run)
        yield result
        if _was_killed(result):
            return configs[done:]
    return []


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fork would copy torch's locks.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _was_killed(result: Outcome | Failure) -> bool:
    return isinstance(result, Failure) and result.error.startswith(BrokenProcessPool.__name__)


def _submit(
    executor: Executor, todo: list[PPOConfig], run: Callable[[PPOConfig], Outcome]
) -> Iterator[Outcome | Failure]:
    futures = {executor.submit(run, config): config for config in todo}
    try:
        for future in as_completed(futures):
            try:
                yield future.result()
            except Exception as error:  # whatever ended this run must not end the others
                yield Failure(futures[future], f"{type(error).__name__}: {error}")
    finally:
        for future in futures:
            future.cancel()


def _cores() -> int:
    """How many this process may use: a class server gives a student fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _once(load: Callable[[], World]) -> World:
    return load()


def _append(file: Path, outcome: Outcome) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(outcome.row)


def _parse(text: str) -> float | str | None:
    """A value from its text: a number, None, or a word."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return None if text == "None" else text
