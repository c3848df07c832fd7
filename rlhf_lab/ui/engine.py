"""The cockpit's engine: it trains a run and its parent, and decides when to measure and show."""

import contextlib
import functools
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from rlhf_lab import report, runs
from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.report import Metrics
from rlhf_lab.trainer import NonFiniteError, StepStats
from rlhf_lab.translation import tr
from rlhf_lab.ui.branch import Branch
from rlhf_lab.ui.cockpit_panels import View
from rlhf_lab.ui.runner import Job, Runner, wait
from rlhf_lab.world import World

EXACT_EVERY = 75
"""Iterations between exact evaluations, each of which costs as much as six iterations."""


class CockpitState(NamedTuple):
    """All numbers that the cockpit shows."""

    iteration: int
    """Finished iterations, that is, updates of the policy."""
    eta: float
    """η of the next iteration."""
    beta: float
    """β of the next iteration."""
    batch: StepStats | None
    """The last iteration's record: estimates, from before its update; None before the first."""
    gold: float | None
    """Mean gold score of that batch."""
    exact: Metrics
    """Exact metrics of the most recently evaluated policy."""
    exact_iteration: int
    """Iteration of that policy; it lags behind `iteration` while the cockpit is running."""
    optimum: Metrics
    """Exact metrics of π* at (eta, beta)."""
    regret: float
    """J* − J of `exact`, at (eta, beta)."""
    regret_estimate: float | None
    """J* − J of the last batch; noise may make it negative."""
    running: bool
    error: str | None
    """Message of the last error, if there was one."""


@functools.lru_cache(maxsize=256)
def optimum(world: World, eta: float, beta: float) -> Metrics:
    """The exact numbers of π* at (η, β), the mean over prompts; takes 30 ms once."""
    return report.metrics(world, report.optimum_logprobs(world, eta, beta))


class Engine:
    """The cockpit without its widgets.

    Only `ask`, `now`, `start` and `pause` may be called from any thread. The other methods that
    change something run on the runner's thread.

    Args:
        world, config, policy: as for the `Cockpit`.
        show: runs on the thread; True if it is urgent, else it may leave out some of many calls.
    """

    def __init__(
        self, world: World, config: PPOConfig, policy: GPT2 | None, show: Callable[[bool], None]
    ) -> None:
        self.world, self._policy, self._show = world, policy, show
        self.branch = Branch.start(world, config, policy)
        self.branch.finish_measuring()
        self._first = dict(self.branch.exact)  # every restart starts from the same policy
        self.parent: Branch | None = None
        self.moved: dict[str, float] = {}
        """New positions of sliders that the trainer does not use yet."""
        self.error: str | None = None
        self.note = ""
        self._due, self._farewell = False, ""
        self.rest = 0.0  # seconds after each iteration
        self._runner = Runner(self.turn, self._ended, self._failed)

    @property
    def running(self) -> bool:
        return self._runner.running

    @property
    def state(self) -> CockpitState:
        """All numbers, as of the last finished iteration."""
        branch, trainer = self.branch, self.branch.trainer
        eta, beta, k = trainer.eta, trainer.beta, max(branch.exact)
        best = optimum(self.world, eta, beta)
        goal = best.objective(eta, beta)
        seen = branch.seen[-1] if branch.seen else None
        return CockpitState(
            trainer.iteration, eta, beta,
            batch=trainer.history[-1] if trainer.history else None,
            gold=seen.gold if seen else None,
            exact=branch.exact[k], exact_iteration=k, optimum=best,
            regret=goal - branch.exact[k].objective(eta, beta),
            regret_estimate=goal - seen.objective(eta, beta) if seen else None,
            running=self.running, error=self.error,
        )  # fmt: skip

    def view(self) -> View:
        """What the figure shows."""
        branch, parent, state = self.branch, self.parent, self.state
        return View(
            seen=branch.seen, exact=branch.exact, parent=parent.seen if parent else (),
            moves=branch.moves(), optimum=state.optimum,
            regret=state.regret_estimate, exact_regret=state.regret,
        )  # fmt: skip

    def ask(self, job: Job) -> None:
        """Queue a job, then measure and show what it changed; returns at once."""
        self._runner.submit(job)
        self._runner.submit(self._look)

    def now(self, job: Job) -> None:
        """Run a job and wait until all is measured and shown; raises what the job raises."""
        wait(self._runner.submit(job))
        wait(self._runner.submit(self._settle))

    def start(self, limit: int, farewell: str = "") -> "Future[None]":
        """Start to iterate; unless paused, stop after `limit` iterations and show `farewell`."""
        self.error, self.note, self._farewell = None, "", farewell
        self._due = True
        return self._runner.start(limit)

    def pause(self) -> None:
        """Stop after the iteration that is under way."""
        self._runner.pause()

    def turn(self) -> None:
        """One iteration, and a share of measuring."""
        self._train(self.branch)
        if self.parent is not None:
            # A parent that runs into NaN keeps its last state: the student steers the other run.
            with contextlib.suppress(NonFiniteError):
                self._train(self.parent)
        self._listen()
        if self.branch.trainer.iteration % EXACT_EVERY == 0:
            self.branch.begin_measuring()
        self.branch.measure()
        due, self._due = self._due, False
        self._show(due)
        time.sleep(self.rest)

    def _train(self, branch: Branch) -> None:
        self._listen()
        branch.step()

    def _listen(self) -> None:
        """Between two pieces of work, apply a moved slider and show at once that it acts."""
        if self.moved:
            self.steer()
            self._show(True)

    def step(self) -> None:
        """Run one iteration, as the Step button does."""
        self.error, self.note = None, ""
        self.turn()

    def steer(self) -> None:
        """Give the sliders' new positions to the trainer."""
        for name in ("eta", "beta"):
            value = self.moved.pop(name, None)
            if value is not None:
                setattr(self.branch.trainer, name, value)
                self._due = True

    def restart(self, config: PPOConfig) -> None:
        branch = Branch.start(self.world, config, self._policy)
        branch.exact |= self._first
        self.branch, self.parent = branch, None
        self._fresh("")

    def fork(self) -> None:
        self.steer()
        self.parent, self.branch.forked = self.branch.fork(), self.branch.trainer.iteration
        self._fresh(
            tr(
                "Forked at iteration {k}: the parent goes on in grey.",
                k=self.branch.trainer.iteration,
            )
        )

    def save(self, folder: Path) -> None:
        runs.save_as(folder, self.branch.trainer)
        k = self.branch.trainer.iteration
        self._fresh(tr("Saved {k} iterations in {folder}.", k=k, folder=folder))

    def load(self, folder: Path) -> None:
        branch = Branch.load(self.world, folder)
        branch.finish_measuring()
        self.moved.clear()
        self.branch, self.parent = branch, None
        self._fresh(tr("Loaded {folder}.", folder=folder))

    def draw(self) -> None:
        """Show everything as it is now."""
        self.steer()
        self._due = False
        self._show(True)

    def _fresh(self, note: str) -> None:
        self.error, self.note, self._due = None, note, True

    def _ended(self, reached: bool) -> None:
        if reached:
            self.note = self._farewell
        self._runner.submit(self._look)

    def _failed(self, error: BaseException) -> None:
        plain = isinstance(error, NonFiniteError | ValueError | OSError)
        text = str(error) if plain else f"{type(error).__name__}: {error}"
        if text != self.error:  # otherwise it is shown already, or showing it is what fails
            self.error = text
            self._runner.submit(self._look)

    def _look(self) -> None:
        """If no other job waits, show everything and start to measure."""
        if self.running or self._runner.waiting:
            return
        self.draw()
        self.branch.begin_measuring()
        if self.branch.measure():
            self._runner.submit(self._measure)

    def _measure(self) -> None:
        """Measure piece by piece while no other job waits; at the end, look again."""
        if self.running or self._runner.waiting:
            return
        if self.branch.measure():
            self._runner.submit(self._measure)
        else:  # there may be a newer policy, after a step meanwhile
            self._look()

    def _settle(self) -> None:
        if not self.running:
            self.branch.finish_measuring()
            self.draw()
