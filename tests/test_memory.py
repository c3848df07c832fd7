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


def test_a_process_that_has_hardly_grown_is_left_alone(monkeypatch):
    collected, trimmed = [], []
    monkeypatch.setattr(memory.gc, "collect", lambda: collected.append(True))
    sizes = iter([100 * MB, 100 * MB, 110 * MB, 150 * MB, 150 * MB])
    monkeypatch.setattr(memory, "_resident", lambda: next(sizes))
    give = memory.Giver()
    give._trim = trimmed.append
    counts = [give() or (len(collected), len(trimmed)) for _ in range(3)]
    assert counts == [(1, 1), (1, 1), (2, 2)]


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(memory, "_resident", lambda: 1 / 0)
    memory.Giver()()


def test_outside_of_a_notebook_nothing_is_registered(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    memory.give_back_after_cells()
