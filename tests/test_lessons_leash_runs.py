"""Notebook 11's file of runs is complete, can be made again, and is what its numbers say."""

import dataclasses

import pytest

from rlhf_lab import load_world
from rlhf_lab.lessons import leash_runs, leash_today
from rlhf_lab.lessons.leash_runs import EVERY, LAST, PLACES, SEEDS, read_records

NEW = "make the file again: python -m rlhf_lab.lessons.leash_runs"


@pytest.fixture(scope="module")
def records():
    return read_records()


def test_every_run_is_there_whole(records):
    held = [(r.place, r.seed, r.iteration) for r in records]
    assert held == [(p, s, n) for p in PLACES for s in SEEDS for n in range(0, LAST + 1, EVERY)], (
        NEW
    )


@pytest.mark.parametrize("place", PLACES)
def test_training_still_begins_as_the_file_says(records, place):
    """The first 20 updates, before rounding has grown: so for every processor."""
    seed = SEEDS[-1]
    begun = list(leash_runs.follow(load_world(), leash_runs.config(place, seed), last=EVERY))
    for now, was in zip(begun, leash_runs.of(records, place, seed), strict=False):
        assert now[:3] == was[:3]
        assert now[3:] == pytest.approx(was[3:], rel=0.02, abs=0.02), NEW


def test_every_run_starts_at_the_policy_that_ships(records):
    e = load_world().evaluate(load_world().sft, "food")
    for r in records:
        if r.iteration == 0:
            assert (r.score, r.gold) == pytest.approx((e.score.item(), e.gold.item()), abs=1e-4)
            assert r.kl == pytest.approx(0, abs=1e-6)


def test_salad_is_what_the_leash_in_the_loss_says_at_rest():
    tables = load_world().tables("food")
    salad = leash_runs.salad(tables).bool()
    assert tables.golds[salad].max() < 0
    assert tables.scores[salad].min() > tables.scores[tables.golds >= 0].max()
    p = leash_today.rest_logprobs(tables, leash_runs.ETA, "k3_ratio").exp()
    assert p[salad].sum() > 0.9
    assert tables.ref_logprobs.exp()[salad].sum() < 1e-4


def test_only_the_place_of_the_kl_differs():
    a, b = (dataclasses.asdict(leash_runs.config(place, 0)) for place in ("reward", "k3"))
    assert {name for name in a if a[name] != b[name]} == {"leash"}


def test_the_command_makes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(leash_runs, "SEEDS", (5,))
    monkeypatch.setattr(leash_runs, "PLACES", ("k3",))
    monkeypatch.setattr(leash_runs.follow, "__defaults__", (2, 1))
    file = tmp_path / "made.csv"
    leash_runs.main(file)
    made = read_records(file)
    assert [(r.place, r.seed, r.iteration) for r in made] == [("k3", 5, n) for n in range(3)]
