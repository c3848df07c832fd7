"""Put a class on a hub of its own: `python3 course.py bench hub`.

The hub is that of deploy/jupyterhub_config.py, all on this machine. First, for each number of
students, all log in at the same second and run one notebook from top to bottom; then one of them
moves a slider, which redraws a figure, while others train.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import psutil
import report

CLASSES = Path(__file__).resolve().parent.parent / "tests" / "classes"
sys.path.insert(0, str(CLASSES))

from hub import Hub, Link, Student, memory  # noqa: E402

from rlhf_lab.world import keep_tables  # noqa: E402

ROLES = {"server": "jupyterhub.singleuser", "kernel": "ipykernel_launcher", "proxy": "proxy"}
TRAIN = """\
import time
from rlhf_lab import PPOConfig, Trainer, load_world
trainer, done, end = Trainer(load_world(), PPOConfig()), 0, time.monotonic() + {seconds}
while time.monotonic() < end:
    done = trainer.step().iteration
print(done)"""


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print("|", *(f"{cell} |" for cell in row))


def processes(hub: Hub, role: str) -> list[psutil.Process]:
    """The hub's processes of one kind."""
    found = psutil.Process(hub.process.pid).children(recursive=True)
    return [p for p in found if ROLES[role] in " ".join(p.cmdline())]


def mean_of(hub: Hub, role: str) -> tuple[float, float]:
    """MB (PSS) and seconds of CPU of one process of a kind, on average."""
    found = processes(hub, role)
    cpu = [sum(p.cpu_times()[:2]) for p in found]
    return statistics.mean(memory(p.pid) for p in found), statistics.mean(cpu)


def work(student: Student, path: str) -> tuple[float, float, Link]:
    """Start a server and run a notebook; returns the seconds of each, and the link to it."""
    ready = student.start()
    start, link = time.monotonic(), student.open(path)
    for source in student.cells(path):
        said = link.run(source)
        assert not said.endswith("Error"), (path, source, said)
    return ready, time.monotonic() - start, link


def classes(args: argparse.Namespace, tables: str) -> None:
    rows = []
    for number in args.students:
        with tempfile.TemporaryDirectory() as folder, Hub(Path(folder), tables) as hub:
            students = [Student(hub, f"student{n:02}") for n in range(number)]
            with ThreadPoolExecutor(number) as all_at_once:
                paths = [f"rlhf_lab/{args.notebook}.ipynb"] * number
                done = all_at_once.map(work, students, paths)
                ready, ran, links = zip(*done, strict=True)
            server, server_cpu = mean_of(hub, "server")
            kernel, kernel_cpu = mean_of(hub, "kernel")
            rows.append([number, f"{server_cpu:.1f}", f"{kernel_cpu:.0f}", f"{server:.0f}",
                         f"{kernel:.0f}", f"{(server + kernel) * number / 1000:.1f}",
                         f"{statistics.median(ready):.0f}, {max(ready):.0f}",
                         f"{statistics.median(ran):.0f}"])  # fmt: skip
            for link in links:
                link.socket.close()
            print(rows[-1], flush=True)
    table(
        ["students", "CPU s of a server", "of a kernel", "MB of a server", "of a kernel",
         "GB of the class", "s until ready: median, longest", f"s for all of {args.notebook[:2]}"],
        rows,
    )  # fmt: skip


def milliseconds(link: Link, slider: str, moves: int) -> str:
    """From a move of a slider to the end of all that it causes: median, and 95 of 100."""
    times = []
    for move in range(moves):
        start = time.perf_counter()
        link.tell(slider, method="update", state={"index": move % 5}, buffer_paths=[])
        times.append((time.perf_counter() - start) * 1000)
        time.sleep(0.1)
    return f"{statistics.median(times):.0f}, {statistics.quantiles(times, n=20)[-1]:.0f}"


def sliders(args: argparse.Namespace, tables: str) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, Hub(Path(folder), tables) as hub:
        students = [Student(hub, f"student{n:02}") for n in range(max(args.training) + 1)]
        path = f"rlhf_lab/{args.notebook}.ipynb"
        _, _, link = work(students[0], path)
        slider = link.find(_model_name="SelectionSliderModel")[0]
        with ThreadPoolExecutor(len(students)) as pool:
            list(pool.map(Student.start, students[1:]))
            links = [student.open(path) for student in students[1:]]
            for number in args.training:
                code = TRAIN.format(seconds=args.seconds)
                runs = [pool.submit(other.run, code) for other in islice(links, number)]
                time.sleep(5 * bool(runs))  # until they have imported what they need
                moved = milliseconds(link, slider, args.moves)
                each = [f"{int(run.result()) / args.seconds:.1f}" for run in runs]
                rows.append([number, moved, " ".join(each) or "–"])
                print(rows[-1], flush=True)
        for each in (link, *links):
            each.socket.close()
    table(["train", "ms after a move: median, p95", "iterations/s of each"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--training", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--notebook", default="04_the_leash")
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tables:
        os.environ["RLHF_LAB_CACHE"] = tables
        keep_tables()
        print(report.load())
        classes(args, tables)
        sliders(args, tables)


if __name__ == "__main__":
    main()
