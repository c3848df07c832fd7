"""Runs trained together are the single runs, whatever becomes of their neighbours."""

import dataclasses
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_lab import NonFiniteError, PPOConfig, Trainer, load_world
from rlhf_lab.gpt2 import GPT2, GPT2Config
from rlhf_lab.grids.ensemble import Ensemble

OWN = [(0.0, 0.0, 0), (0.3, 0.2, 1), (1.0, 0.0, 2)]
"""η, β and seed of three runs."""


@pytest.fixture(scope="module")
def world():
    return load_world()


class EvenTokens:
    """Prompts of three tokens, and a score that counts what stands behind <eos> as well."""

    def __init__(self, response_length=4, eos_id=None):
        self.sft = GPT2(GPT2Config(8, 12, 16, 1, 2), torch.Generator().manual_seed(0))
        self.prompts = torch.randint(8, (20, 3), generator=torch.Generator().manual_seed(1))
        self.eos_id, self.response_length = eos_id, response_length

    def score(self, prompts, responses):
        return (responses % 2 == 0).to(self.sft.transformer.wte.weight.dtype).mean(1)

    def to(self, device, dtype):
        self.sft = self.sft.to(device, dtype)
        return self


class OneBadScore:
    """Review world, but the reward model gives the rows of one run a number that overflows."""

    def __init__(self, world, rows, score):
        self.world, self.rows, self.bad = world, rows, score

    def __getattr__(self, name):
        return getattr(self.world, name)

    def to(self, device, dtype):
        return OneBadScore(self.world.to(device, dtype), self.rows, self.bad)

    def score(self, prompts, responses):
        scores = self.world.score(prompts, responses)
        if len(scores) >= self.rows.stop:  # a single run of the same size is left alone
            scores[self.rows] = self.bad
        return scores


def settings(own=OWN, **shared):
    shared = {"batch_size": 12, "dtype": "float64", "lr": 3e-3} | shared
    return [PPOConfig(eta=eta, beta=beta, seed=seed, **shared) for eta, beta, seed in own]


def assert_equal(ensemble, run, trainer, tolerance=1e-10):
    weights = ensemble.policy(run).state_dict()
    assert weights.keys() == trainer.policy.state_dict().keys()
    for name, weight in trainer.policy.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=tolerance, msg=name)


def both(task, configs, iterations):
    """Train together and one by one, comparing every number of every iteration."""
    ensemble, trainers = Ensemble(task, configs), [Trainer(task, c) for c in configs]
    tolerance = 1e-9 if configs[0].dtype == "float64" else 1e-5
    for _ in range(iterations):
        for together, trainer in zip(ensemble.step(), trainers, strict=True):
            assert together == pytest.approx(trainer.step(), abs=tolerance)
    for run, trainer in enumerate(trainers):
        assert_equal(ensemble, run, trainer, tolerance)
    return ensemble, trainers


@pytest.mark.parametrize(
    "shared",
    [
        {"kl_mode": "kl"},
        {"kl_mode": "abs"},
        {"kl_mode": "mse"},
        {"kl_mode": "full"},
        {"minibatches": 3, "epochs": 2},
        {"minibatches": 5, "gamma": 0.9, "lam": 0.5, "cliprange": 0.01, "cliprange_value": 0.05},
        {"batch_size": 2, "minibatches": 2},
    ],
    ids=str,
)
def test_each_run_is_that_of_a_trainer(world, shared):
    """Every weight and every number, after four iterations with their own η, β and seeds."""
    ensemble, _ = both(world, settings(**shared), 4)
    assert not torch.equal(*(ensemble.policy(run).transformer.wte.weight for run in (0, 1)))


def test_float32_agrees_at_first(world):
    """Later on rounding decides a token here and there, and PPO is chaotic."""
    both(world, settings(dtype="float32", lr=1e-3), 3)


@pytest.mark.parametrize("eos_id", [None, 3])
def test_other_tasks_with_longer_prompts(eos_id):
    both(EvenTokens(eos_id=eos_id), settings(), 5)


def test_one_run_alone_is_an_ensemble_too(world):
    both(world, settings(OWN[1:2]), 3)


def test_each_run_adapts_its_own_eta(world):
    own = [(0.2, 0.0, 0), (0.5, 0.0, 1)]
    ensemble, trainers = both(world, settings(own, kl_target=0.05, horizon=50), 6)
    etas = [controller.value for controller in ensemble.controllers]
    assert etas == pytest.approx([trainer.eta for trainer in trainers])
    assert etas != pytest.approx([0.2, 0.5], abs=0.01)


@pytest.mark.parametrize("bad", [1e200, float("nan")])
def test_a_run_that_is_no_longer_finite_fails_alone(world, bad):
    """1e200 squares to infinity in the value loss, and the weights are NaN from then on."""
    configs = settings()
    ensemble = Ensemble(OneBadScore(world, slice(12, 24), bad), configs)
    trainers = {run: Trainer(world, configs[run]) for run in (0, 2)}
    for _ in range(3):
        results = ensemble.step()
        for run, trainer in trainers.items():
            assert results[run] == pytest.approx(trainer.step(), abs=1e-10)
    assert isinstance(results[1], NonFiniteError)
    assert str(results[1]).startswith("iteration 1: a loss or a weight is not finite (η = 0.3, β")
    assert ensemble.errors == {1: results[1]}
    for run, trainer in trainers.items():
        assert_equal(ensemble, run, trainer)


def test_a_step_that_ruins_the_weights_is_seen(world):
    """The losses are still finite: they were computed before Adam stepped to infinity."""
    results = Ensemble(world, settings(dtype="float32", epochs=1, lr=1e39)).step()
    assert all(isinstance(result, NonFiniteError) for result in results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, r"differ in eta, beta and seed only; lr is 0.003 in run 0 and 0.5 in run 1"),
        ({"kl_mode": "abs"}, "kl_mode is 'kl' in run 0 and 'abs' in run 1"),
    ],
)
def test_settings_that_differ_are_named(world, change, message):
    first, second, _ = settings()
    with pytest.raises(ValueError, match=message):
        Ensemble(world, [first, dataclasses.replace(second, **change)])


def test_padded_prompts_are_refused():
    task = EvenTokens()
    task.attention_mask = torch.ones_like(task.prompts)
    with pytest.raises(ValueError, match="padding cannot be trained together yet"):
        Ensemble(task, settings())


def test_no_runs_are_no_ensemble(world):
    with pytest.raises(ValueError, match="at least one run"):
        Ensemble(world, [])


class Operations(TorchDispatchMode):
    """Counts what is asked of the device: on a GPU every operation is at least one launch."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket] += 1
        return func(*args, **(kwargs or {}))


def operations(task, configs):
    ensemble = Ensemble(task, configs)
    with Operations() as seen:
        ensemble.step()
    return seen.counts


@pytest.mark.parametrize("minibatches", [1, 2])
def test_more_runs_are_not_more_operations(world, minibatches):
    """But for the draws, each from its run's own generator on the CPU."""
    few, many = (
        operations(
            world, settings([(0.1, 0.1, seed) for seed in range(n)], minibatches=minibatches)
        )
        for n in (2, 7)
    )
    # On the CPU the reference reads equal rows once: one more index where a row repeats.
    own = {torch.ops.aten.rand, torch.ops.aten.randperm, torch.ops.aten.index}
    assert many[torch.ops.aten.rand] == 7
    assert {k: n for k, n in few.items() if k not in own} == {
        k: n for k, n in many.items() if k not in own
    }


def test_no_token_and_no_gradient_step_waits_for_the_device():
    """`.item()` and its like stop the CPU until the GPU is done: some per iteration, no more."""
    waits = [
        operations(EvenTokens(length), settings(epochs=epochs))[torch.ops.aten._local_scalar_dense]
        for length, epochs in ((2, 1), (8, 5))
    ]
    assert waits[0] == waits[1] <= 12


@pytest.mark.parametrize("shared", [{}, {"kl_mode": "full", "minibatches": 3}], ids=str)
def test_nothing_on_the_way_comes_from_another_device(world, shared):
    """On "meta", which computes shapes only but, like a GPU, does not mix with the CPU.

    It has no numbers either: a whole iteration can be asked for before the first is known.
    """
    ensemble = Ensemble(world, settings(device="meta", **shared))
    rollout = ensemble._collect()
    parts = ensemble._update(rollout)
    assert {x.device.type for x in (*rollout, parts, *ensemble.parameters) if x is not None} == {
        "meta"
    }
