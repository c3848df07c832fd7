"""Notebook 12's file of a long run is complete, can be made again, and is what its figure says."""

import pytest

from rlhf_lab import load_world
from rlhf_lab.lessons import long_dpo
from rlhf_lab.lessons.long_dpo import STOPS, read_run

NEW = "make the file again: python -m rlhf_lab.lessons.long_dpo"


@pytest.fixture(scope="module")
def run():
    return read_run()


def test_the_run_is_there_whole(run):
    assert [at.pressure for at in run] == list(STOPS), NEW


def test_training_still_begins_as_the_file_says(run):
    """The first 100 steps, before rounding has grown: so for every processor."""
    for now, was in zip(long_dpo.follow(load_world(), STOPS[:2]), run, strict=False):
        assert now.says == was.says
        assert now[:4] == pytest.approx(was[:4], rel=0.02, abs=0.02), NEW


def test_shared_weights_do_not_hold_the_policy_in_the_end(run):
    best = max(run, key=lambda at: at.gold)
    assert (best.pressure, round(best.gold, 2)) == (400, 1.56)
    assert (round(run[-1].gold, 2), round(run[-1].kl, 1)) == (-1.9, 13.7)
    assert [at.kl for at in run] == sorted(at.kl for at in run)


def test_the_command_makes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(long_dpo.follow, "__defaults__", ((0, 1),))
    file = tmp_path / "made.csv"
    long_dpo.main(file)
    assert [at.pressure for at in read_run(file)] == [0, 1]
