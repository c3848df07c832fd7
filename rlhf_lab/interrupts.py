"""Ctrl-C at a moment of our choosing: what must not be left half done is finished first."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Holds Ctrl-C back inside a `with` block, and lets at most one through where that is safe.

    Python raises `KeyboardInterrupt` between any two instructions of the main thread, so also in
    the `except` or `finally` that clears up after an earlier one. Inside this block Ctrl-C is only
    noted. It is raised when the block ends, or at once inside `allowed()`; after the first one
    nothing more is raised until the block has ended. Other threads never get a `KeyboardInterrupt`,
    so there this does nothing.

    >>> with Interrupts() as interrupts:
    ...     with interrupts.allowed():
    ...         pass  # may be broken off here
    ...     # clear up here, undisturbed
    """

    def __init__(self) -> None:
        self._noted = self._allowed = self._raised = False
        self._before: signal._HANDLER = None

    def __enter__(self) -> "Interrupts":
        # A handler that was not installed from Python shows as None and could not be put back.
        here = threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGINT):
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._noted and not self._raised:
            signal.raise_signal(signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        if self._allowed and not self._raised:
            self._raised = True
            if callable(self._before):
                self._before(number, frame)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let the first Ctrl-C break off what is inside, also one that came before."""
        self._allowed = True
        try:
            if self._noted and not self._raised and self._before is not None:
                self._handle(signal.SIGINT, None)
            yield
        finally:
            self._allowed = False
