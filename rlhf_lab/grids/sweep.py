"""A grid of runs: in processes on this machine, in anybody's `Executor`, or as one batch on a GPU.

Results are added to a CSV file as they come. A sweep that was killed goes on where it stopped: what
the file already holds is not run again. Several sweeps may add to one file at the same time.
"""

import csv
import dataclasses
import functools
import itertools
import math
import typing
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple, Self

from rlhf_lab.config import PPOConfig
from rlhf_lab.files import locked, write_whole
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.grids.ensemble import Ensemble, shared_settings
from rlhf_lab.grids.workers import in_executor, in_processes
from rlhf_lab.report import metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.trainer import NonFiniteError, StepStats, Trainer
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
    def row(self) -> list[str]:
        """As text, in the order of `COLUMNS`; every float comes back from it bit for bit."""
        return [str(value) for value in (*dataclasses.asdict(self.config).values(), *self[1:])]

    @classmethod
    def from_row(cls, row: Sequence[str]) -> Self:
        """The inverse of `row`.

        Raises:
            ValueError: a value is missing, is none that a run can have, or there are too many.
        """
        if len(row) != len(COLUMNS):
            raise ValueError(f"it has {len(row)} columns instead of {len(COLUMNS)}")
        values: dict[str, Any] = {}
        for (name, kind), text in zip(COLUMNS.items(), row, strict=True):
            try:
                values[name] = None if text == "None" and name == "kl_target" else kind(text)
            except ValueError as error:
                raise ValueError(f"{name} is {text!r}") from error
            if kind is float and not math.isfinite(values[name] or 0.0):
                raise ValueError(f"{name} is {text!r}")
        numbers = [values.pop(name) for name in cls._fields[1:]]
        return cls(PPOConfig.from_dict(values), *numbers)


class Failure(NamedTuple):
    """A run that did not finish; it is tried again when the sweep is."""

    config: PPOConfig
    error: str


def _plain(kind: Any) -> type:
    """int, float or str for the type of a field, which may be `float | None` or a `Literal`."""
    plain = [t for t in (int, float) if t is kind or t in typing.get_args(kind)]
    return plain[0] if plain else str


_SETTINGS = typing.get_type_hints(PPOConfig)
COLUMNS = {
    name: _plain(kind)
    for name, kind in (_SETTINGS | typing.get_type_hints(Outcome)).items()
    if name != "config"
}
"""The columns of a results file, settings first, and what each holds: int, float or str."""


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
            ends.append(_measured(world, config, ensemble.policy(run), eta, last))
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


def read_outcomes(file: str | Path) -> list[Outcome]:
    """The results of a sweep so far, one for each run. The file is not changed.

    A last line without its end was cut off, as by a copy that broke off, and is left out.

    Raises:
        ValueError: it is not a file of such results.
    """
    file = Path(file)
    outcomes: dict[PPOConfig, Outcome] = {}
    for number, line in enumerate(_lines(file)[0][1:], start=2):
        try:
            (row,) = csv.reader([line])
            outcome = Outcome.from_row(row)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file}, line {number} is no result of a sweep: {error}") from error
        outcomes.setdefault(outcome.config, outcome)
    return list(outcomes.values())


def add_outcomes(file: str | Path, outcomes: Iterable[Outcome], *, over: bool = False) -> None:
    """Write results into a file beside those that it holds, whole or not at all.

    Args:
        file: of results, or a new one.
        outcomes: to be written.
        over: replace those that the file holds already, instead of leaving them.

    Raises:
        ValueError: it is not a file of such results.
        OSError: it cannot be written.
    """
    file, n = Path(file), len(_SETTINGS)
    with locked(file, wait=60):
        (head, *lines), rest = _lines(file)
        rows = {tuple(line.split(",")[:n]): line for line in lines}
        for outcome in outcomes:
            settings, new = tuple(outcome.row[:n]), ",".join(outcome.row)
            rows[settings] = new if over else rows.get(settings, new)
            # What was cut off stays behind everything else until its run has been done again.
            if new.startswith(rest) or settings == tuple(rest.split(",")[:n]):
                rest = ""
        content = "\n".join([head, *rows.values()]) + "\n" + rest
        if not file.exists() or content.encode() != file.read_bytes():
            write_whole(file, content.encode())


def _lines(file: Path) -> tuple[list[str], str]:
    """The lines of a results file, its head first, and what stands behind the last whole one."""
    head = ",".join(COLUMNS)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except ValueError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}); name another file") from error
    *lines, rest = text.split("\n")
    if lines[:1] != [head] and not (head.startswith(text) and not lines):
        raise ValueError(
            f"{file} does not hold results of this version's sweeps: its first line names other "
            "columns; move it away, or name another file"
        )
    return (lines, rest) if lines else ([head], "")


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
