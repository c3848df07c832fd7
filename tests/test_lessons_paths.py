"""Paths against direct computation on the world that ships."""

import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, exact, load_world
from rlhf_lab.grids.ensemble import Ensemble
from rlhf_lab.lessons import paths
from rlhf_lab.world import response_text

ETAS = (1000.0, 1.0, 0.03)


def test_the_optimums_path_holds_the_exact_numbers():
    tables = load_world().tables("food")
    for eta, point in zip(ETAS, paths.optimum_path(tables, ETAS), strict=True):
        logprobs = exact.optimum(tables.ref_logprobs, tables.scores, eta).logprobs
        p = logprobs.exp()
        kl = p @ (logprobs - tables.ref_logprobs)
        expected = [eta, *(x.item() for x in (p @ tables.scores, p @ tables.golds, kl))]
        assert point[:4] == pytest.approx(expected, abs=1e-9)
        assert point.says == response_text(int(p.argmax()))
        assert point.distance**2 == pytest.approx(point.kl, abs=1e-9)


def test_a_kl_that_rounding_made_negative_is_no_distance():
    assert paths.Point(1.0, 0.0, 0.0, -1e-15, "").distance == 0


def test_a_training_path_starts_at_sft_and_leaves_the_trainer_at_its_end():
    world, config = load_world(), PPOConfig(eta=0.3, batch_size=16, dtype="float64")
    trainer = Trainer(world, config)
    start, end = paths.training_path(trainer, world, "food", (0, 2))
    assert (start.pressure, end.pressure, trainer.iteration) == (0, 2, 2)
    assert start.kl == pytest.approx(0, abs=1e-9)
    other = Trainer(world, config)
    for _ in range(2):
        other.step()
    with torch.no_grad():
        expected = world.evaluate(other.policy, "food")
    assert end[1:4] == pytest.approx([x.item() for x in expected[:3]])


def test_runs_side_by_side_take_the_paths_of_the_trainers():
    world = load_world()
    configs = [PPOConfig(eta=eta, seed=1, batch_size=16, dtype="float64") for eta in (1.0, 0.1)]
    together = paths.training_paths(Ensemble(world, configs), world, "staff", (0, 1, 3))
    assert list(together) == [1.0, 0.1]
    for config in configs:
        alone = paths.training_path(Trainer(world, config), world, "staff", (0, 1, 3))
        for a, b in zip(together[config.eta], alone, strict=True):
            assert a[:4] == pytest.approx(b[:4], abs=1e-6)
            assert a.says == b.says
