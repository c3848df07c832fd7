"""One daemon thread that does all slow work, one job after the other.

Widget callbacks may come from any thread, so they only put a job in the queue. Two jobs never
overlap, so the thread needs no lock for model, optimiser and figure. It ends when the queue is
empty, and in any case when the kernel ends.
"""

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

Job = Callable[[], None]
_ALL: "weakref.WeakSet[Runner]" = weakref.WeakSet()


class Runner:
    """A queue of jobs, and a loop whose turns are jobs, too: other jobs run between two turns.

    Args:
        turn: one iteration of the loop.
        ended: called on the thread when the loop ends; True if it reached its limit.
        failed: called on the thread with what a job or turn raised.
    """

    def __init__(
        self, turn: Job, ended: Callable[[bool], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._turn, self._ended, self._failed = turn, ended, failed
        self._jobs: deque[Job] = deque()
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: Future[None] | None = None
        _ALL.add(self)

    @property
    def running(self) -> bool:
        """Is the loop on?"""
        return self._loop is not None

    @property
    def waiting(self) -> bool:
        """Is anything in the queue, the loop's next turn included?"""
        return bool(self._jobs)

    def submit(self, job: Job) -> "Future[None]":
        """Queue a job behind those that wait already; returns at once."""
        done: Future[None] = Future()
        self._enqueue(partial(self._attempt, job, done))
        return done

    def start(self, limit: int) -> "Future[None]":
        """Start the loop, unless it is running; it ends by itself after `limit` turns.

        Raises:
            ValueError: `limit` is not a whole number ≥ 0.
        """
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"iterations must be a whole number >= 0, got {limit!r}")
        with self._mutex:
            if self._loop is None:
                self._loop = Future()
                self._jobs.append(partial(self._go_on, self._loop, limit))
            loop = self._loop
        self._wake()
        return loop

    def pause(self) -> None:
        """End the loop after the turn that is under way."""
        with self._mutex:
            self._loop = None

    def close(self, patience: float = 5.0) -> None:
        """Empty the queue, and wait at most `patience` seconds for the job under way."""
        self.pause()
        with self._mutex:
            self._jobs.clear()
            thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _go_on(self, loop: "Future[None]", left: int) -> None:
        """Run one turn; the next one is queued behind all jobs that came meanwhile."""
        if not left or self._loop is not loop:
            reached = self._leave(loop)
            self._attempt(partial(self._ended, reached), loop)
            return
        try:
            self._turn()
        except BaseException as error:
            self._leave(loop)
            self._report(error, loop)
        else:
            self._enqueue(partial(self._go_on, loop, left - 1))

    def _leave(self, loop: "Future[None]") -> bool:
        """Stop this loop; False if it was stopped before (another one may be running)."""
        with self._mutex:
            mine = self._loop is loop
            if mine:
                self._loop = None
        return mine

    def _attempt(self, job: Job, done: "Future[None]") -> None:
        try:
            job()
        except BaseException as error:
            self._report(error, done)
        else:
            done.set_result(None)

    def _report(self, error: BaseException, done: "Future[None]") -> None:
        """Show the error, then pass it to the caller that waits: a thread must not lose it."""
        try:
            self._failed(error)
        finally:
            done.set_exception(error)

    def _enqueue(self, job: Job) -> None:
        self._jobs.append(job)
        self._wake()

    def _wake(self) -> None:
        with self._mutex:
            if self._thread is None and self._jobs:
                self._thread = threading.Thread(target=self._work, name="rlhf_lab", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._mutex:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:
                self._thread = None  # the next job starts a new thread
                raise


@atexit.register
def _close_all() -> None:
    """Wait for the threads: if the interpreter ends while one works in C++, it is aborted."""
    for runner in list(_ALL):
        runner.close()


def wait(done: "Future[None]", meanwhile: Job = lambda: None) -> None:
    """Wait for a job, and do something now and then; raises what the job raised.

    It waits in short steps, because on Windows Ctrl-C cannot wake a thread that waits for ever.
    """
    while True:
        try:
            return done.result(timeout=0.1)
        except TimeoutError:
            if done.done():
                raise
            meanwhile()
