"""One line below a cell that says what it is doing, from its third second on, and goes at its end.

    doing("iteration {n}, η = {eta}", n=12, eta=0.3)

is all that a loop needs. Outside of a notebook, between cells and on other threads it does nothing.
What a cell leaves behind is the same as without it but for an empty output. Where notebooks are run
to be kept or compared, `RLHF_LAB_PROGRESS=off` leaves out that one, too.
"""

import os
import sys
import threading
import time
from typing import Any

from rlhf_lab.translation import tr

PATIENCE, EVERY = 2.0, 0.25
"""Seconds before the line appears, and between two changes of it."""


class Line:
    """The line of the cell that is running."""

    def __init__(self) -> None:
        self._due: float | None = None  # when it may change next; None between cells
        self._shown: Any = None

    def begin(self, *_: object) -> None:
        """A cell begins."""
        self._due = time.monotonic() + PATIENCE

    def say(self, what: str, **values: object) -> None:
        """Write the line, if it is time: a message for `tr`, and what fills it in."""
        now = time.monotonic()
        if self._due is None or now < self._due:
            return
        if threading.current_thread() is not threading.main_thread():
            return
        self._due = now + EVERY
        self._write(tr(what, **values) + " …")

    def end(self, *_: object) -> None:
        """The cell ends; its line becomes empty."""
        if self._shown is not None:
            self._write("")
        self._due = self._shown = None

    def _write(self, text: str) -> None:
        from IPython.display import display

        data = {"text/plain": text}
        if self._shown is None:
            self._shown = display(data, raw=True, display_id=True)
        else:
            self._shown.update(data, raw=True)


_LINE = Line()
doing = _LINE.say
"""Say what is being done now, in a few words."""


def show_progress() -> None:
    """From now on, let cells say what they do, if a notebook runs this."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and os.environ.get("RLHF_LAB_PROGRESS") != "off":
        shell.events.register("pre_run_cell", _LINE.begin)
        shell.events.register("post_run_cell", _LINE.end)
        _LINE.begin()  # the cell that imports this is running
