"""Time all notebooks, each in a fresh kernel, on one core: `python3 course.py bench notebooks`.

They run one after the other as in `course.py run`, but they are copies: their outputs are not kept.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import report
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
AIM, LONGEST = 180, 25  # seconds: for all of them, for one

_spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools/run_notebooks.py")
run_notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_notebooks)


def seconds(notebook: Path) -> tuple[float, float]:
    """From the kernel's start to the last cell: on the clock, and of the processor.

    The second number counts the kernel, too, where the system counts it. It hardly depends on what
    else the machine does.
    """
    start, before = time.perf_counter(), sum(os.times()[:4])
    run_notebooks.run(notebook)
    return time.perf_counter() - start, sum(os.times()[:4]) - before


def line(name: str, values: list[tuple[float, float]]) -> str:
    clock, cpu = (report.spread(list(numbers), "6.1f") for numbers in zip(*values, strict=True))
    return f"  {name:30s} {clock}   cpu {cpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", help="beginnings of names; all if there are none")
    given = parser.parse_args()
    where = "any core, because this system cannot bind a process to one"
    if hasattr(os, "sched_setaffinity"):  # the kernels inherit it
        where = f"core {(core := min(os.sched_getaffinity(0)))}"
        os.sched_setaffinity(0, {core})
    print(f"{report.load()} at the start; on {where}; seconds, kernel start included")
    sums = []
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(shutil.copytree(run_notebooks.NOTEBOOKS, Path(folder) / "notebooks"))
        wanted = tuple(given.names) or ("",)
        paths = [p for p in sorted(copies.glob("*.ipynb")) if p.name.startswith(wanted)]
        for turn in range(given.rounds):
            times = {path.stem: seconds(path) for path in paths}
            if turn == 0:
                columns = {name: [] for name in times}
            for name, value in times.items():
                columns[name].append(value)
            sums.append(tuple(map(sum, zip(*times.values(), strict=True))))
            print(f"round {turn + 1}: {sums[-1][0]:.1f}, cpu {sums[-1][1]:.1f}", flush=True)
    for name, values in columns.items():
        print(line(name, values), "" if min(values)[0] <= LONGEST else f"   more than {LONGEST}")
    print(line(f"all {len(paths)}", sums), f"  aim: at most {AIM}")
    print(f"{report.load()} at the end")


if __name__ == "__main__":
    try:
        main()
    except CellExecutionError as error:
        sys.exit(f"benchmark stopped, a cell failed: {error}")
