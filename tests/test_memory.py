"""After a cell a notebook's kernel holds no memory that nobody uses."""

import platform
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from rlhf_lab import memory

GLIBC = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
MB = 2**20
HOLES = """\
import torch, rlhf_lab
kept = [torch.zeros(2**16) for _ in range(1600)][::40]  # 400 MB, of which 10 stay in between"""
HELD = """\
import re
print(re.search(r"Private_Dirty:\\s+(\\d+)", open("/proc/self/smaps_rollup").read())[1])"""


@pytest.mark.skipif(not GLIBC, reason="others return memory by themselves")
def test_a_cell_leaves_no_more_than_its_variables():
    sources = ["import rlhf_lab", HELD, HOLES, HELD]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    before, after = (int(notebook.cells[i].outputs[0].text) / 1024 for i in (1, 3))
    assert after - before < 30  # MB


@pytest.fixture
def grown(monkeypatch):
    """A giver whose process holds as many bytes as the test says, and what it did, by name."""
    done = []
    for name in ("collect", "freeze"):
        monkeypatch.setattr(memory.gc, name, lambda name=name: done.append(name))
    give = memory.Giver()
    give._trim = lambda _: done.append("trim")

    def grow(*sizes):
        left = iter(sizes)
        monkeypatch.setattr(memory, "_resident", lambda: next(left))
        done.clear()
        give()
        return list(done)

    return grow


def test_a_process_that_has_hardly_grown_is_left_alone(grown):
    assert grown(100 * MB, 100 * MB)[-1] == "trim"
    assert grown(110 * MB) == []
    assert grown(150 * MB, 150 * MB) == ["collect", "trim"]


def test_what_imports_leave_behind_is_searched_once(grown, monkeypatch):
    assert grown(100 * MB, 100 * MB) == ["collect", "freeze", "trim"]
    assert grown(200 * MB, 200 * MB) == ["collect", "trim"]
    monkeypatch.setattr(sys, "modules", sys.modules | {f"a module {k}": sys for k in range(101)})
    assert grown(300 * MB, 300 * MB) == ["collect", "freeze", "trim"]


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(memory, "_resident", lambda: 1 / 0)
    memory.Giver()()


def test_outside_of_a_notebook_nothing_is_registered(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    memory.give_back_after_cells()
