"""Notebook 12's file of a long run is complete, can be made again, and is what its figure says."""

import pytest

from rlhf_lab import load_world
from rlhf_lab.lessons import long_dpo
from rlhf_lab.lessons.long_dpo import STOPS, read_run
from rlhf_lab.lessons.paths import Point

NEW = "make the file again: python -m rlhf_lab.lessons.long_dpo"
HEAD = ",".join(Point._fields) + "\n"


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


def test_a_file_gives_back_what_was_written(tmp_path, run):
    file = tmp_path / "run.csv"
    odd = [Point(3, 1 / 3, -1e-300, 2.0, "a, b ."), *run]
    long_dpo.write_run(odd, file)
    assert read_run(file) == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "names other columns"), ("a,b\n", "names other columns"),
     (HEAD + "0,0\n", "a line that is no point"),
     (HEAD + "x,1,1,1,great .\n", "a line that is no point")],
)  # fmt: skip
def test_another_file_is_refused(tmp_path, text, message):
    file = tmp_path / "other.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_run(file)


def test_the_command_makes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(long_dpo.follow, "__defaults__", ((0, 1),))
    file = tmp_path / "made.csv"
    long_dpo.main(file)
    assert [at.pressure for at in read_run(file)] == [0, 1]
