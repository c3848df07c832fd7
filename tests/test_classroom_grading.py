"""A class is graded whatever its cells do: each costs its student that cell, and nobody else."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts import ROOT

from rlhf_lab.classroom import grading, sandbox
from rlhf_lab.classroom.__main__ import main
from rlhf_lab.classroom.grading import Examiner, Grade, safe, summary, table

RIGHT = (
    "def response_mask(r, eos_id):\n    return ((r == eos_id).cumsum(1) - (r == eos_id).int()) == 0"
)
STUB = "def response_mask(responses, eos_id):\n    ..."
CHECK = "check(response_mask)"


def notebook(*cells: str) -> str:
    code = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": code})


def hand_in(folder: Path, **students: list[str]) -> Path:
    for name, cells in students.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "01.ipynb").write_text(notebook(*cells), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def examiner():
    made = Examiner()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_TOKEN", "xyz")
        made.examine([RIGHT], "response_mask")
    yield made
    made.close()


@pytest.fixture
def examine(examiner):
    """The answer about cells; afterwards the examiner must still know what is right."""
    yield lambda *cells, name="response_mask": examiner.examine(list(cells), name)
    assert examiner.examine([RIGHT], "response_mask")["status"] == "right"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A small class, graded by the command: what it printed, its rows, and its folder."""
    folder = hand_in(
        tmp_path_factory.mktemp("graded") / "class",
        Anna=["import torch", RIGHT, CHECK, 'shorter_reviews = "a"'],
        Ben=[STUB, CHECK, "shorter_reviews = None", "check(shorter_reviews, 'shorter_reviews')"],
        Chi=[STUB, CHECK],
    )
    (folder / "Chi" / "01-Copy1.ipynb").write_text(notebook(RIGHT, CHECK), encoding="utf-8")
    (folder / "Chi" / "02.ipynb").write_text(notebook("response_mask = 3"), encoding="utf-8")
    (folder / "Anna.ipynb").write_text(notebook(STUB, CHECK), encoding="utf-8")
    (folder / "Dan").mkdir()
    (folder / "Eva").mkdir()
    (folder / "Eva" / "01.ipynb").write_bytes(b"\xff\xfe")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}
    command = [sys.executable, "-m", "rlhf_lab.classroom", "grade", str(folder)]
    run = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert (run.returncode, run.stderr) == (0, "")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")} == before
    with (folder.parent / "class-grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return run.stdout, list(csv.DictReader(file)), folder


def test_each_student_and_exercise_has_a_row(graded):
    _, rows, _ = graded
    assert list(rows[0]) == ["student", "exercise", "status", "mistake", "message"]
    status = {(row["student"], row["exercise"]): row["status"] for row in rows}
    assert status["Anna", "response_mask"] == "right"
    assert status["Anna (2)", "response_mask"] == "not done yet"
    assert status["Ben", "response_mask"] == "not done yet"
    assert status["Ben", "shorter_reviews"] == "not done yet"
    assert status["Anna", "returns_to_go"] == "missing"
    assert status["Dan", "response_mask"] == status["Eva", "response_mask"] == "missing"
    assert "k3" not in {exercise for _, exercise in status}, "nobody handed that notebook in"
    assert len(status) == len(rows) == 6 * 5
    mistakes = [row for row in rows if row["mistake"]]
    assert [(row["student"], row["status"]) for row in mistakes] == [("Anna", "mistake")]
    assert not any("are done" in row["message"] for row in rows), "how many is for the summary"


def test_the_best_of_several_notebooks_counts(graded):
    (chi,) = [r for r in graded[1] if (r["student"], r["exercise"]) == ("Chi", "response_mask")]
    assert chi["status"] == "right"


def test_what_is_left_out_is_named(graded):
    said, _, folder = graded
    for line in (
        "6 students, 5 exercises", "Anna: 1 of 5 right", "Dan: no notebook",
        "two students are called Anna: the later one is Anna (2) here",
        "Eva, 01.ipynb: not written in UTF-8; not graded",
        "notes.pdf: neither a folder nor a file *.ipynb, left out",
        "response_mask: 2 right", "shorter_reviews: 0 right, 1 × ",
    ):  # fmt: skip
        assert line in said
    summary = (folder.parent / "class-summary.csv").read_text(encoding="utf-8-sig")
    assert summary.startswith("exercise,right,mistake,")


@pytest.mark.parametrize(
    ("cell", "status", "message"),
    [
        (RIGHT + " if", "error", "SyntaxError in line 2"),
        (RIGHT + "\nresponse_mask(1 / 0)", "right", ""),  # a statement that nothing depends on
        ("x = 1 / 0\ndef response_mask(r, e): return x", "error", "ZeroDivisionError"),
        ("def response_mask(r, e): return y", "mistake", "NameError"),
        ("def response_mask(r, e): exit()", "error", "SystemExit"),
        ("x = exit()\ndef response_mask(r, e): return x", "error", "SystemExit"),
        ("import os\ndef response_mask(r, e): os._exit(0)", "stopped", "ended its process"),
        ("def response_mask(r, e): raise KeyboardInterrupt", "error", "KeyboardInterrupt"),
        ("import rlhf_lab\nresponse_mask = rlhf_lab.response_mask", "copied", "of the package"),
        ("from rlhf_lab import response_mask", "missing", "neither defined"),
        (f"{RIGHT.replace('response_mask', 'mine')}\ncheck(mine, 'response_mask')", "right",
         "check was called with mine"),
        ("def returns_to_go(r, m, g): return r\ncheck(returns_to_go, 'response_mask')",
         "not done yet", "another exercise"),
        ("response_mask = 7\ncheck(response_mask)", "missing", ""),
        ("def response_mask(r, e): return 'é\\ud800'", "wrong", ""),
    ],
)  # fmt: skip
def test_each_way_to_fail_has_its_status(examine, cell, status, message):
    said = examine(cell)
    assert (said["status"], message in said["message"]) == (status, True), said


LIE = '{"status": "right", "mistake": "", "message": ""}'
CRASH = "import faulthandler\ndef response_mask(r, e): faulthandler._sigsegv()"
HOSTILE = {
    "kill of the parent": "import os\ndef response_mask(r, e): os.kill(os.getppid(), 9)",
    "kill of all": "import os\ndef response_mask(r, e): os.kill(-1, 9)",
    "fork": "import os\ndef response_mask(r, e):\n    while True: os.fork()",
    "processes": "import multiprocessing as m\n"
    "def response_mask(r, e):\n    m.get_context('fork').Process(target=print).start()",
    "a program": "import subprocess\ndef response_mask(r, e): subprocess.run(['touch', 'x'])",
    "a shell": "import os\ndef response_mask(r, e): os.system('touch x')",
    "a file": "def response_mask(r, e): open('x', 'w')",
    "a file elsewhere": "import os\ndef response_mask(r, e): os.open('/tmp/x', os.O_CREAT)",
    "deletes": "import shutil\ndef response_mask(r, e): shutil.rmtree('.')",
    "removes": "import os\ndef response_mask(r, e): os.remove('x')",
    "network": "import socket\ndef response_mask(r, e): socket.create_connection(('1.1.1.1', 80))",
    "C": "import ctypes\ndef response_mask(r, e): ctypes.CDLL(None).kill(-1, 9)",
}


@pytest.mark.parametrize("cell", HOSTILE.values(), ids=HOSTILE)
def test_what_reaches_out_of_the_process_is_refused(examine, cell, tmp_path, monkeypatch):
    said = examine(cell)
    assert said["status"] in ("wrong", "error")
    assert "PermissionError" in said["message"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limits are those of Unix")
@pytest.mark.parametrize(
    ("cell", "statuses"),
    [
        (CRASH, ["stopped"]),
        ("def response_mask(r, e): return torch.zeros(10**10)\nimport torch", ["wrong", "stopped"]),
        ("def response_mask(r, e): return bytearray(10 * 2**30)", ["wrong", "error", "stopped"]),
        ("x = [0]\ndef response_mask(r, e):\n    while True: x.extend(x)", ["wrong", "error"]),
        ("def response_mask(r, e): return response_mask(r, e)", ["wrong", "error"]),
        ("def response_mask(r, e):\n    for _ in range(10**5): print('x' * 10**4)",
         ["not done yet"]),
        ("class E(Exception):\n    def __str__(self): return 'x' * 10**8\n"
         "def response_mask(r, e): raise E", ["wrong", "error"]),
        (f"import os\nfor fd in range(300):\n    try: os.write(fd, b'{LIE}\\n')\n"
         "    except OSError: pass\n    response_mask = lambda r, e: r", ["stopped"]),
        (f"def response_mask(r, e):\n    print('{LIE}', flush=True)\n    return r",
         ["wrong", "mistake"]),
    ],
)  # fmt: skip
def test_floods_crashes_and_lies_cost_that_cell_alone(examine, cell, statuses):
    said = examine(cell)
    assert said["status"] in statuses, said
    assert len(said["message"]) <= sandbox.MOST_TEXT


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limits are those of Unix")
def test_an_endless_loop_is_ended_that_catches_what_it_can(examine):
    loop = "while True:\n        try: [0] * 10**6\n        except BaseException: pass"
    said = examine(f"def response_mask(r, e):\n    {loop}")
    assert said["status"] == "stopped"
    assert "endless loop" in said["message"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_sleeper_is_ended_in_time(monkeypatch):
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 0.3)
    cells = ["import time\ndef response_mask(r, e): time.sleep(1000)"]
    began = time.monotonic()
    said = sandbox._forked({"cells": cells, "name": "response_mask"})
    assert said == sandbox.answer("stopped", "it did not end within 0.3 seconds")
    assert time.monotonic() - began < 100


@pytest.mark.parametrize("waits", [True, False])
def test_a_process_that_has_died_costs_one_cell_at_most(examiner, waits):
    examiner._process.kill()
    if waits:
        examiner._process.wait()
    else:
        examiner.examine([RIGHT], "response_mask")
    assert examiner.examine([RIGHT], "response_mask")["status"] == "right"


def test_students_code_sees_no_secrets_and_an_empty_folder(examine):
    seen = "[os.environ.get('SECRET_TOKEN'), os.listdir('.'), os.environ['HOME']]"
    said = examine(f"import os\nx = int(str({seen}))\ndef response_mask(r, e): return x")
    assert "[None, [], '" in said["message"]
    assert f"'{Path.home()}'" not in said["message"]


def test_the_page_for_teachers_explains_every_status():
    teaching = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    for status in grading.STATUSES:
        assert re.search(rf"^\| (?:\w+, )?{status}(?:, \w+)? \|", teaching, re.M), status
    assert f"{sandbox.CPU_SECONDS} seconds of CPU" in teaching


def test_summary_names_the_commonest_mistake():
    rows = [
        Grade("a", "k3", "mistake", "sign"), Grade("b", "k3", "mistake", "sign"),
        Grade("c", "k3", "mistake", "other"), Grade("d", "k3", "right"),
        Grade("a", "regret", "missing"),
    ]  # fmt: skip
    assert summary(rows) == [
        ["k3", 1, 3, 0, 0, 0, 0, 0, 0, "sign", 2],
        ["regret", 0, 0, 0, 0, 0, 0, 0, 1, "", 0],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\n=1", " =1", "＝1", "\x00=1"])
def test_no_cell_of_a_table_is_a_formula(text):
    assert safe(text).startswith("'")


def test_a_table_is_read_back_as_it_was():
    rows = [('Zoë η, "x"', "k3", "right", "", "a\nb"), ("\ud800\x1b[31m‮", "k3", 3, "", "")]
    read = list(csv.reader(io.StringIO(table(rows, Grade._fields).decode("utf-8-sig"))))
    assert read[0] == list(Grade._fields)
    assert read[1] == ['Zoë η, "x"', "k3", "right", "", "a b"]
    assert read[2][0].isprintable()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: None])
def test_nothing_to_grade_is_a_line_and_status_2(tmp_path, capsys, make):
    make(tmp_path / "class")
    assert main(["grade", str(tmp_path / "class")]) == 2
    assert str(tmp_path / "class") in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C comes in another way there")
def test_ctrl_c_ends_all_with_130_and_writes_nothing(tmp_path):
    loop = "def response_mask(r, e):\n    while True: pass"
    folder = hand_in(tmp_path / "class", Anna=[loop, CHECK], Ben=[loop, CHECK])
    command = [sys.executable, "-m", "rlhf_lab.classroom", "grade", str(folder)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "2 students, 5 exercises\n"
    time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Stopped; nothing was written." in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*.csv"))
