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
AIM = 180  # seconds

_spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools/run_notebooks.py")
run_notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_notebooks)


def seconds(notebook: Path) -> float:
    start = time.perf_counter()
    run_notebooks.run(notebook)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    where = "any core, because this system cannot bind a process to one"
    if hasattr(os, "sched_setaffinity"):  # the kernels inherit it
        where = f"core {(core := min(os.sched_getaffinity(0)))}"
        os.sched_setaffinity(0, {core})
    print(f"{report.load()} at the start; on {where}; seconds, kernel start included")
    sums = []
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(shutil.copytree(run_notebooks.NOTEBOOKS, Path(folder) / "notebooks"))
        paths = sorted(copies.glob("*.ipynb"))
        for turn in range(rounds):
            cpu = sum(os.times()[:4])
            times = {path.stem: seconds(path) for path in paths}
            cpu = sum(os.times()[:4]) - cpu  # of the kernels too, where the system counts them
            if turn == 0:
                columns = {name: [] for name in times}
            for name, value in times.items():
                columns[name].append(value)
            sums.append(sum(times.values()))
            print(f"round {turn + 1}: {sums[-1]:.1f}, cpu {cpu:.1f}", flush=True)
    for name, values in columns.items():
        print(f"  {name:30s} {report.spread(values, '6.1f')}")
    print(f"  {f'all {len(paths)}':30s} {report.spread(sums, '6.1f')}   aim: at most {AIM}")
    print(f"{report.load()} at the end")


if __name__ == "__main__":
    try:
        main()
    except CellExecutionError as error:
        sys.exit(f"benchmark stopped, a cell failed: {error}")
