"""The tables of docs/worlds.md: our world's rows are made again, and its sentences are read off."""

import math
import re
import sys
from pathlib import Path

import pytest

from rlhf_lab import load_world
from rlhf_lab.world import SEED

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \d+ \| (?:food|staff) \|.*\|$", TEXT, re.MULTILINE)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import bench_worlds

    yield bench_worlds
    del sys.modules["bench_worlds"]


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_rows_of_our_world_are_what_the_command_prints(bench):
    assert all(line in TEXT for line in bench.HEAD)
    assert [row for row in ROWS if row.startswith(f"| {SEED} |")] == bench.rows(SEED, load_world())


def test_the_list_of_eta_is_the_one_that_was_used(bench):
    assert ", ".join(f"{eta:g}" for eta in bench.ETAS) + "." in TEXT


def test_in_no_other_world_is_the_gold_score_lost_so_early():
    table = [cells(row) for row in ROWS]
    assert sorted({int(row[0]) for row in table}) == list(range(12))
    lost = {(int(row[0]), row[1]): row[5] for row in table}
    assert (lost[SEED, "food"], lost[SEED, "staff"]) == ("0.04", "0.025")
    others = [eta for (seed, _), eta in lost.items() if seed != SEED]
    assert len(others) == 22
    assert others.count("none") == 9
    assert max(float(eta) for eta in others if eta != "none") == 0.02
    assert sum(float(row[7]) < 0 for row in table) == 22
    assert {(row[0], row[1]) for row in table if float(row[7]) > 0} == {
        ("7", "food"),
        ("9", "food"),
    }
    assert {min(row[2] for row in table), max(row[2] for row in table)} == {"0.76", "0.86"}


def test_the_nats_and_regrets_of_the_runs_belong_together():
    """Regret = η·KL(π ‖ π*), and η = 1 is nearest for every seed."""
    rows = re.findall(r"^\| (1|0\.3|0\.1) \| (\d+) \| (.+) \| .+ \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 6
    nats = {}
    for eta, iterations, near, regret in rows:
        values = nats[float(eta), iterations] = [float(x) for x in near.split()]
        assert len(values) == 5
        for x, lost in zip(values, regret.split(), strict=True):
            assert math.isclose(float(eta) * x, float(lost), abs_tol=0.006)
    for iterations in ("30", "60"):
        for i in range(5):
            assert nats[1.0, iterations][i] < min(
                nats[0.3, iterations][i], nats[0.1, iterations][i]
            )
