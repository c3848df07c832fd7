"""Give memory back to the system after each cell of a notebook, where glibc would keep it.

A cell that computes exact tables frees hundreds of megabytes, most of which malloc keeps for the
next cell. On a class server thirty open notebooks then hold what nobody uses.
"""

import ctypes
import sys
from typing import Any


def give_back(*_: object) -> bool:
    """Return all free memory of this process to the system; was there any to return?

    Other systems than Linux with glibc do so by themselves: there this does nothing.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, TypeError, OSError):  # no glibc
        return False


def give_back_after_cells() -> None:
    """From now on, do so after each cell, if a notebook runs this."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.events.register("post_run_cell", give_back)
