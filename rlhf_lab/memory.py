"""Give memory back to the system after each cell of a notebook, where glibc would keep it.

A cell that computes exact tables frees hundreds of megabytes, most of which malloc keeps for the
next cell. On a class server thirty open notebooks then hold what nobody uses.
"""

import ctypes
import gc
import os
import sys
from typing import Any

GROWN = 2**25
"""Bytes. A kernel that has grown by less since the last time is left alone."""
IMPORTED = 100
"""Modules. What so many leave behind stays to the end, and is not searched for cycles again."""


class Giver:
    """Returns free memory to the system, when called after the process has grown.

    Systems other than Linux with glibc do so by themselves: there it does nothing.
    """

    def __init__(self) -> None:
        self._held = self._modules = 0
        try:
            self._trim: Any = ctypes.CDLL(None).malloc_trim
        except (AttributeError, TypeError, OSError):  # no glibc
            self._trim = None

    def __call__(self, *_: object) -> None:
        if self._trim is None or _resident() <= self._held + GROWN:
            return
        gc.collect()
        # Nearly all of a kernel's objects are those of torch and matplotlib, and to look at them
        # takes 0.1 to 0.2 s. A module or two may come with a student's own objects, whose cycles
        # are to be found; those many come in a cell of imports.
        if len(sys.modules) > self._modules + IMPORTED:
            gc.freeze()
            self._modules = len(sys.modules)
        self._trim(0)
        self._held = _resident()


def _resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back_after_cells() -> None:
    """From now on, give memory back after each cell, if a notebook runs this."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.events.register("post_run_cell", Giver())
