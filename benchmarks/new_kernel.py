"""What a notebook waits for, once in a process: `python new_kernel.py NAME` prints one number.

`bench_world.py` starts it, with and without tables on disk. All numbers are ms but one.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rlhf_lab import language, load_world
from rlhf_lab.ui.explorer import Explorer

FOOD, STAFF = language.PROMPTS
WORLD = load_world()
STATUS = Path("/proc/self/smaps_rollup")


def ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def private() -> int:
    """Bytes of memory that no other process can share; Linux alone says so."""
    return 1024 * int(re.search(r"Anonymous: +(\d+)", STATUS.read_text())[1])


def read_all() -> None:
    """Have all tables, and read every number in them."""
    for prompt in language.PROMPTS:
        tables = WORLD.tables(prompt)
        for table in (*tables.tree, *tables[1:]):
            table.sum()


def memory() -> float:
    before = private()
    read_all()
    return (private() - before) / 1e6


def ask(prompt: str, score: str) -> None:
    """Answer what the page of an explorer asks when it opens."""
    explorer = Explorer(WORLD)
    explorer._answer(None, {"tables": prompt}, None)
    explorer._answer(None, {"still": prompt, "score": score}, None)


def after_the_first(prompt: str, score: str) -> float:
    ask(FOOD, "reward model")
    return ms(lambda: ask(prompt, score))


PARTS: dict[str, tuple[Callable[[], float], float]] = {
    "tables of all prompts": (lambda: ms(read_all), 100),
    "first explorer": (lambda: ms(lambda: ask(FOOD, "reward model")), 600),
    "another prompt": (lambda: after_the_first(STAFF, "reward model"), 100),
    "another judge": (lambda: after_the_first(FOOD, "gold"), 100),
}
"""Each with the most that it may be where the tables are on disk."""
if STATUS.exists():
    PARTS["MB of its own for all tables"] = (memory, 5)


if __name__ == "__main__":
    print(PARTS[sys.argv[1]][0]())
