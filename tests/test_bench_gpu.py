"""`course.py bench gpu` as far as a machine without a GPU can tell: in small, on the CPU."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, course, load

bench_gpu = load("benchmarks/bench_gpu.py")
FACTS = {
    "text": "a GPU", "device": "A100", "torch": "2.9", "cuda": "12.8", "python": "3.12", "cpu": "x",
    "cores": 2, "date": "2026-11-28T00:00:00",
}  # fmt: skip
TIME = {"text": "10 ms", "what": "S1", "on": "device", "ms": 10.0, "peak_mb": 80.0, "note": None}
SLOW = TIME | {"on": "CPU, 1 thread", "ms": 55.0, "note": "extrapolated from 2 of 8 responses"}


def test_all_of_it_in_small_on_the_cpu(tmp_path):
    parts = ["tests", "trajectories", "S1", "grid"]  # the other sizes are S1 with other numbers
    small = ["--device", "cpu", "--small", "--parts", *parts, "--out", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, ROOT / "course.py", "bench", "gpu", *small],
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert all(f"{part}: starts" in run.stdout for part in parts)
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    found = report["parts"]
    assert [part["state"] for part in found.values()] == ["done"] * 4
    assert report["torch"] == torch.__version__
    (tests,) = found["tests"]["results"]
    assert len(tests["tests"]) >= 8
    assert tests["failed"] == 0
    for pair in found["trajectories"]["results"]:
        assert (pair["same"], set(pair["in_all"].values())) == (3, {0.0})
    assert [row["on"] for row in found["S1"]["results"]] == ["device", "CPU, 1 thread"]
    grid = [row for row in found["grid"]["results"] if "ms" in row]
    assert [bool(row["note"]) for row in grid] == [False, True, False, True]
    assert all(row["ms"] > 0 for row in grid)
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert table in run.stdout
    assert "\n| 4 runs one by one | ≈ " in table
    assert "the same responses in the first 3 of 3 iterations" in table


@pytest.fixture
def bench(monkeypatch, tmp_path, capfd):
    """`main` with Python code in place of the parts; returns exit code, report and table."""

    def run(codes: dict[str, str], *argv: str) -> tuple[int, dict, str]:
        codes = {"facts": said(FACTS)} | codes
        monkeypatch.setattr(
            bench_gpu, "command", lambda part, _: [sys.executable, "-c", codes[part]]
        )
        parts = [name for name in codes if name != "facts"]
        code = bench_gpu.main(["--out", str(tmp_path), "--parts", *parts, *argv])
        report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
        return code, report["parts"], (tmp_path / "gpu.md").read_text(encoding="utf-8")

    return run


def said(*results: dict) -> str:
    return f"for line in {[json.dumps(r) for r in results]}: print(line, flush=True)\n"


def test_a_part_that_fails_is_reported_and_the_others_run(bench):
    failed = said(TIME, {"text": "failed", "error": "OutOfMemoryError: 3 GB"}) + "raise SystemExit"
    code, parts, table = bench(
        {
            "S4": failed + "(1)",
            "tests": "import os; print('{'); os.abort()",  # as after an illegal memory access
            "S1": said(TIME, SLOW),
        }
    )
    assert code == 1
    assert [part["state"] for part in parts.values()] == ["failed", "failed", "done"]
    assert parts["S4"]["error"] == "OutOfMemoryError: 3 GB"
    assert parts["S4"]["results"] == [TIME]
    assert "ended with code" in parts["tests"]["error"]
    assert "| S4 | failed: OutOfMemoryError: 3 GB |" in table
    assert "**A100**, torch 2.9 (CUDA 12.8)" in table
    assert "\n| S1 | 10.0 | ≈ 55.0 | 5.50 | 80 |" in table
    assert "S1 on CPU, 1 thread: extrapolated from 2 of 8 responses" in table


def test_what_does_not_fit_into_the_time_is_left_out_and_named(bench):
    """With --small S1 needs 2 seconds, S4 needs 13; a part is stopped when the time is up."""
    hangs = said(TIME) + "import time; time.sleep(60)"
    code, parts, table = bench({"S4": "", "S1": hangs}, "--small", "--seconds", "8")
    assert code == 1
    assert parts["S4"]["state"] == "skipped"
    assert "| S4 | skipped: it needs about 13 s, " in table
    assert parts["S1"]["results"] == [TIME]
    assert parts["S1"]["error"].startswith("stopped after ")
    assert parts["S1"]["seconds"] < 10


def test_leaving_out_is_no_failure(bench):
    assert bench({"S4": ""}, "--seconds", "5")[0] == 0


def test_without_torch_one_sentence_says_so(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "torch" else find(n))
    assert bench_gpu.main([]) == 2
    said = capsys.readouterr().err
    assert "has no torch: start this with a Python that has torch" in said
    assert said.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_sentence_says_how_to_try_it(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "bench_gpu.py", "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert run.returncode == 2
    assert "finds no NVIDIA GPU" in run.stderr
    assert run.stderr.endswith("bench gpu --device cpu --small\n")
    assert not list(tmp_path.iterdir())


def test_course_py_installs_nothing_for_it(monkeypatch):
    seen = []
    monkeypatch.setattr(course.Environment, "ensure", lambda _: pytest.fail("installed something"))
    monkeypatch.setattr(course, "run", lambda *args: seen.append(args) or 3)
    assert course.main(["bench", "gpu", "--small"]) == 3
    assert seen == [(["benchmarks/bench_gpu.py", "--small"], Path(sys.executable))]


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("gpu_parts")
    for name in ("common", "gpu_parts", "ours"):  # names that another test might want
        del sys.modules[name]


def test_the_gpu_is_waited_for_before_and_after(parts, monkeypatch):
    """Its kernels run on after the call that asked for them."""
    events, device = [], torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda where: events.append(where))
    parts.seconds_of(lambda: events.append("work"), device)
    assert events == [device, "work", device]


def test_times_are_of_calls_after_two_that_warm_up(parts, monkeypatch):
    calls = iter([9.0, 5.0, 1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(parts, "seconds_of", lambda work, device: next(calls))
    assert parts.repeat(print, parts.CPU, seconds=9.5, most=4) == [1.0, 2.0, 3.0, 4.0]
    calls = iter([9.0])
    assert parts.repeat(print, parts.CPU, seconds=8.0, most=4) == [9.0]


def test_the_command_line_has_every_part(parts):
    args = argparse.Namespace(device="cpu", small=True)
    assert bench_gpu.command("S1", args)[2:] == ["S1", "--device", "cpu", "--small"]
    assert {*bench_gpu.PARTS, "facts"} == {*parts.PARTS, *parts.SIZES}
    assert parts.SMALL.keys() == parts.SIZES.keys()
