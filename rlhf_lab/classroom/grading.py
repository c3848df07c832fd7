"""Grade a class: every exercise of every student, checked in a process that may not do harm."""

import contextlib
import csv
import io
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import matplotlib

from rlhf_lab.classroom import excerpt, sandbox
from rlhf_lab.classroom.handed_in import Student, code_cells, find, plain
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.translation import language

STATUSES = (
    "right", "mistake", "wrong", "error", "stopped", "copied", "not done yet", "missing",
)  # fmt: skip
"""The best first: of several notebooks with the same exercise the best attempt counts."""
KEPT = (
    "PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT",
)  # fmt: skip
"""Variables that students' code may see: what Python needs, and nothing that could be secret."""


class Grade(NamedTuple):
    """What a student did in an exercise; a row of the table."""

    student: str
    exercise: str
    status: str
    mistake: str = ""
    message: str = ""


class Grades(NamedTuple):
    """A class, graded."""

    rows: list[Grade]
    left_out: list[str]
    """A line on each file that could not be read, and the like."""


class Examiner:
    """A process that checks cells, and is started anew when it has died of one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="rlhf_lab-grade-")
        self._closed = False

    def examine(self, cells: Sequence[str], name: str) -> sandbox.Answer:
        """Check an exercise of a notebook; whatever its code does, an answer comes back."""
        process = self._start()
        job = json.dumps({"cells": cells, "name": name}).encode() + b"\n"
        end = threading.Timer(sandbox.WALL_SECONDS + 60, process.kill)  # + the import of torch
        end.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise OSError("no pipes")
            process.stdin.write(job)
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            return {key: str(said[key]) for key in ("status", "mistake", "message")}
        except (OSError, ValueError, KeyError):  # it has gone, or what it says is no answer
            process.kill()
            process.wait()  # else the next cell would be written to the dead
            return sandbox.answer("stopped", "it ended the process that checks it")
        finally:
            end.cancel()

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._closed:
            raise InterruptedError("stopped")
        if self._process is None or self._process.poll() is not None or not hasattr(os, "fork"):
            self._end()
            empty = Path(self._folder.name, "empty")
            empty.mkdir(exist_ok=True)
            own = {
                "HOME": self._folder.name,
                "MPLCONFIGDIR": matplotlib.get_cachedir(),  # else it looks for all fonts again
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUTF8": "1",
                "RLHF_LAB_LANGUAGE": language(),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rlhf_lab.classroom.sandbox"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=empty,
                env={**{key: os.environ[key] for key in KEPT if key in os.environ}, **own},
                start_new_session=True,  # Ctrl-C is for the one who grades
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def close(self) -> None:
        """End the process; what waits for its answer gets none."""
        self._closed = True
        self._end()
        with contextlib.suppress(OSError):
            self._folder.cleanup()


def grade(folder: Path, said: Callable[[str], None] = lambda line: None) -> Grades:
    """Check all exercises of all students' notebooks; nothing in `folder` is changed.

    Args:
        folder: one folder or notebook for each student.
        said: is told how far it is.

    Raises:
        ValueError: there is no notebook that can be read; says what there is.
        OSError: the folder cannot be read.
    """
    students, left_out = find(folder, ".ipynb")
    notebooks = {student.name: _read(student, left_out) for student in students}
    if not any(notebooks.values()):
        raise ValueError("\n".join([*left_out, f"{folder} holds no notebook that can be graded"]))
    names = _asked([cell for student in notebooks.values() for cells in student for cell in cells])
    said(f"{len(students)} students, {len(names)} exercises")
    rows = []
    with _examiners() as examine:
        for student, grades in examine(notebooks, names):
            right = sum(grade.status == "right" for grade in grades)
            said(f"{student}: {right} of {len(names)} right")
            rows += grades
    return Grades(rows, left_out)


def _asked(cells: Sequence[str]) -> list[str]:
    """The exercises of those notebooks of the course of which somebody handed in a part."""
    for pattern in (excerpt.CHECKS, excerpt.DEFINES):
        here = [e for name, e in EXERCISES.items() if excerpt.holds(cells, name, pattern)]
        pages = {exercise.section.partition(":")[0] for exercise in here}
        if pages:
            break
    return [name for name, e in EXERCISES.items() if e.section.partition(":")[0] in pages]


def _read(student: Student, left_out: list[str]) -> list[list[str]]:
    """The code of a student's notebooks; adds a line for each that cannot be read."""
    notebooks = []
    for path in student.files:
        try:
            notebooks.append(code_cells(path))
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            left_out.append(f"{student.name}, {plain(path.name)}: {reason}; not graded")
    if not student.files:
        left_out.append(f"{student.name}: no notebook")
    return notebooks


@contextlib.contextmanager
def _examiners() -> Iterator[Callable[..., Iterator[tuple[str, list[Grade]]]]]:
    """A function that grades a class, some cells at a time; all processes end with the block."""
    count = min(4, os.cpu_count() or 1)
    examiners = [Examiner() for _ in range(count)]
    free: queue.Queue[Examiner] = queue.Queue()
    for examiner in examiners:
        free.put(examiner)

    def one(student: str, notebooks: list[list[str]], name: str) -> Grade:
        examiner = free.get()
        try:
            found = excerpt.with_attempt(notebooks, name)
            tried = [examiner.examine(cells, name) for cells in found]
        finally:
            free.put(examiner)
        tried.append(sandbox.answer("missing", "found in none of the notebooks"))
        best = min(tried, key=lambda said: _rank(said["status"]))
        return Grade(student, name, best["status"], best["mistake"], best["message"])

    def examine(
        students: dict[str, list[list[str]]], names: Sequence[str]
    ) -> Iterator[tuple[str, list[Grade]]]:
        waiting = {
            student: [pool.submit(one, student, notebooks, name) for name in names]
            for student, notebooks in students.items()
        }
        for student, futures in waiting.items():
            yield student, [future.result() for future in futures]

    pool = ThreadPoolExecutor(count)
    try:
        yield examine
    finally:
        for examiner in examiners:
            examiner.close()
        pool.shutdown(cancel_futures=True)


def _rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def safe(text: str, most: int = 500) -> str:
    """A cell that a spreadsheet shows and does not compute.

    >>> safe("=1+1"), safe("a\\tb"), safe("-")
    ("'=1+1", 'a b', "'-")
    """
    line = plain(text, most)
    return f"'{line}" if line[:1] in tuple("=+-@＝＋－＠|%") else line


def table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> bytes:
    """A CSV file that spreadsheets open with all letters right (hence the mark at its start)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(head)
    writer.writerows([safe(value) if isinstance(value, str) else value for value in row]
                     for row in rows)  # fmt: skip
    return buffer.getvalue().encode("utf-8-sig")


def summary(rows: Sequence[Grade]) -> list[list[str | int]]:
    """For each exercise: how many of each status, the commonest mistake, and how often."""
    found: list[list[str | int]] = []
    for name in dict.fromkeys(grade.exercise for grade in rows):
        grades = [grade for grade in rows if grade.exercise == name]
        counts = Counter(grade.status for grade in grades)
        mistakes = Counter(grade.mistake for grade in grades if grade.mistake).most_common(1)
        commonest, times = mistakes[0] if mistakes else ("", 0)
        found.append([name, *(counts[status] for status in STATUSES), commonest, times])
    return found
