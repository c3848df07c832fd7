"""The page's engine beside the package: log π, the gradient of the whole loss, runs, π*."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, World, exact, language, load_world
from rlhf_lab.collapse import expected_distinct
from tests.wasm import MAX_BATCH, RESPONSES, STATS, Engine, T

PROMPTS = range(len(language.PROMPTS))
RUNS = [
    PPOConfig(eta=0.0, seed=3),
    PPOConfig(eta=0.3, seed=3),
    PPOConfig(eta=0.1, beta=0.1, seed=0),
    # every setting off its default, and no two alike
    PPOConfig(
        eta=0.7, beta=0.03, seed=5, lr=2e-3, adam_eps=1e-6, cliprange=0.05, cliprange_value=0.11,
        vf_coef=0.4, gamma=0.97, lam=0.9, batch_size=48, epochs=3,
    ),
]  # fmt: skip
IDS = ["greedy", "leash", "bonus", "others"]


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


@pytest.fixture(scope="module")
def engine(world: World) -> Engine:
    return Engine(world)


@pytest.mark.parametrize("i", PROMPTS)
def test_it_reads_every_response_as_the_package_does(engine, world, i):
    read = engine.view("ref_logprobs", "f4").reshape(len(PROMPTS), -1)[i, :RESPONSES]
    assert np.abs(read - world.tables(language.PROMPTS[i]).ref_logprobs.numpy()).max() <= 1e-5


@pytest.mark.parametrize("config", RUNS, ids=IDS)
def test_the_gradient_of_the_whole_loss(engine, world, config):
    trainer, uniforms = Trainer(world, config), torch.Generator().manual_seed(config.seed)
    engine.configure(config)
    for _ in range(3):  # in the first iteration π is π_ref
        before = Trainer(world, config)
        before.history[:] = trainer.history
        before.load_state(trainer.state())
        trainer.step()
        before._loss(trainer.rollout)[0].backward()
        expected = _row(p.grad for p in before.parameters.values())
        engine.view("state", "f4")[: len(expected)] = _row(before.parameters.values())
        engine.uniforms(uniforms, config.batch_size)
        engine.call("rollout")
        engine.call("losses")
        gradient = engine.view("gradient", "f4")[: len(expected)]
        assert np.linalg.norm(gradient - expected) <= 1e-6 * np.linalg.norm(expected)


def _row(tensors: Iterable[torch.Tensor]) -> np.ndarray:
    return torch.cat([x.detach().flatten() for x in tensors]).numpy()


@pytest.mark.parametrize("config", RUNS, ids=IDS)
def test_a_run_is_the_same_run(engine, world, config):
    trainer, uniforms = Trainer(world, config), torch.Generator().manual_seed(config.seed)
    engine.configure(config)
    engine.call("start")
    for k in range(15):
        stats = trainer.step()
        engine.uniforms(uniforms, config.batch_size)
        assert engine.call("iterate") == 1
        said = engine.view("responses", "i4").reshape(MAX_BATCH, T)[: config.batch_size]
        assert (said == trainer.rollout.responses.numpy()).all(), k
        shown, rollout = engine.stats(), trainer.rollout
        golds = language.gold_scores(rollout.tokens[:, 0], rollout.responses)
        assert shown["gold"] == pytest.approx(golds.mean().item(), abs=1e-6)
        if k < 10:  # later rounding has grown in the weights, though not yet in the tokens
            for name in set(STATS) - {"gold", "nodes"}:
                assert shown[name] == pytest.approx(getattr(stats, name), rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("draws", [1, 100, 128])
@pytest.mark.parametrize("of_gold", [0, 1])
@pytest.mark.parametrize("i", PROMPTS)
def test_the_optimum(engine, world, i, of_gold, draws):
    t = world.tables(language.PROMPTS[i])
    r = t.golds if of_gold else t.scores
    for eta in (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0):
        for beta in (0.0, 0.03, 0.3, 2.0):
            best = (
                exact.optimum(t.ref_logprobs, r, eta, beta).logprobs
                if eta + beta
                else exact.argmax_policy(r)
            )
            engine.call("optimum", i, of_gold, eta, beta, 7, draws)
            _same(engine, t, best, draws)


@pytest.mark.parametrize("i", PROMPTS)
def test_the_exact_numbers_of_a_trained_policy(engine, world, i):
    trainer = Trainer(world, PPOConfig(eta=0.1, seed=2))
    for _ in range(12):
        trainer.step()
    weights = _row(trainer.parameters.values())
    engine.view("state", "f4")[: len(weights)] = weights
    engine.call("read_policy", i)
    engine.call("evaluate", i, 7, 128)
    logprobs = world.logprobs(trainer.policy, language.PROMPTS[i]).detach()
    _same(engine, world.tables(language.PROMPTS[i]), logprobs, 128)


def _same(engine: Engine, t, logprobs: torch.Tensor, draws: int) -> None:
    """The means in the engine, and what it says most often, are those of log π."""
    _, own, ref, score, gold, distinct = engine.view("means", "f8")
    shown = score, gold, own - ref, -own
    assert shown == pytest.approx(
        [x.item() for x in exact.evaluate(logprobs, t.ref_logprobs, t.scores, t.golds)],
        abs=1e-4,
    )
    assert distinct == pytest.approx(float(expected_distinct(logprobs, draws)), rel=1e-4)
    index, share = engine.view("top_index", "i4")[:7], engine.view("top_share", "f4")[:7]
    p = logprobs.exp()
    found = index >= 0
    assert found.sum() == min(7, (p > 1e-38).sum())
    assert share[found] == pytest.approx(p[index[found]].numpy(), abs=1e-4)
    assert p.topk(7).values.numpy()[found] == pytest.approx(share[found], abs=1e-4)


def test_equally_good_responses_stand_in_the_order_of_the_reference(engine, world):
    engine.call("optimum", 0, 1, 0.0, 0.3, 7, 0)  # β alone: the gold scores make many ties
    index, share = engine.view("top_index", "i4")[:7].copy(), engine.view("top_share", "f4")[:7]
    ref = world.tables(language.PROMPTS[0]).ref_logprobs[index]
    ties = share[1:] == share[:-1]
    assert ties.sum() >= 4
    assert (ref[:-1] >= ref[1:]).numpy()[ties].all()


def test_a_run_that_overflows_is_put_back(engine, world):
    config = PPOConfig(seed=1)
    engine.configure(config)
    engine.call("start")
    generator = torch.Generator().manual_seed(1)
    engine.uniforms(generator, 128)
    assert engine.call("iterate") == 1
    kept = engine.view("state", "u1").copy()
    engine.configure(dataclasses.replace(config, lr=1e30))
    engine.uniforms(generator, 128)
    assert engine.call("iterate") == 0
    assert (engine.view("state", "u1") == kept).all()


def test_a_copied_state_goes_on_as_the_run_did(engine, world):
    config = PPOConfig(eta=0.05, seed=4)
    engine.configure(config)
    engine.call("start")

    def run(generator: torch.Generator) -> list[float]:
        entropies = []
        for _ in range(4):
            engine.uniforms(generator, 128)
            engine.call("iterate")
            entropies.append(engine.stats()["entropy"])
        return entropies

    generator = torch.Generator().manual_seed(4)
    run(generator)
    fork, drawn = engine.view("state", "u1").copy(), generator.get_state()
    first = run(generator)
    engine.view("state", "u1")[:] = fork
    generator.set_state(drawn)
    assert run(generator) == first


def test_copies_counts_the_responses(engine):
    engine.configure(PPOConfig(seed=9))
    engine.call("start")
    engine.uniforms(torch.Generator().manual_seed(9), 128)
    engine.call("rollout")
    said = engine.view("responses", "i4").reshape(MAX_BATCH, T)[:128]
    rows, counts = np.unique(said, axis=0, return_counts=True)
    copies = engine.view("copies", "i4")[:128]
    assert sorted(copies[copies > 0]) == sorted(counts)
    assert {tuple(said[b]): copies[b] for b in copies.nonzero()[0]} == dict(
        zip(map(tuple, rows), counts, strict=True)
    )
