"""An NVIDIA GPU gives the CPU's numbers, up to rounding in float64.

`course.py bench gpu` runs this file on bare machines: it needs pytest and what rlhf_lab needs.
"""

import dataclasses

import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, load_world, runs, train
from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.gpt2 import GPT2, GPT2Config, KVCache
from rlhf_lab.grids.ensemble import Ensemble
from rlhf_lab.grids.sweep import run_one, run_together
from rlhf_lab.sampling import sample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

CPU = PPOConfig(iterations=3, batch_size=32, dtype="float64")
GPU = dataclasses.replace(CPU, device="cuda")


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kl_mode": "full", "minibatches": 3},
        {"kl_mode": "abs", "beta": 0.1},
        {"kl_target": 1.0, "gamma": 0.9, "lam": 0.5},
    ],
    ids=str,
)
def test_a_run_follows_the_cpu(world, settings):
    here, there = (list(train(world, dataclasses.replace(c, **settings))) for c in (CPU, GPU))
    for a, b in zip(here, there, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_runs_together_follow_the_cpu(world):
    own = [{"eta": 0.0}, {"eta": 0.3, "beta": 0.2, "seed": 1}, {"eta": 1.0, "seed": 2}]
    here, there = (Ensemble(world, [dataclasses.replace(c, **o) for o in own]) for c in (CPU, GPU))
    for _ in range(3):
        for a, b in zip(here.step(), there.step(), strict=True):
            assert a == pytest.approx(b, abs=1e-6)
    assert there.policy(2).transformer.wte.weight.is_cuda


def test_a_run_moves_between_devices(world, tmp_path):
    """Two iterations on the GPU, one on the CPU, one on the GPU."""
    trainer = Trainer(world, dataclasses.replace(GPU, iterations=2))
    moved = list(runs.run(runs.create(tmp_path / "run", trainer), trainer))
    for iterations, device in ((3, "cpu"), (4, "cuda")):
        trainer = runs.resume(tmp_path / "run", world, iterations=iterations, device=device)
        moved += runs.run(tmp_path / "run", trainer)
    stayed = train(world, dataclasses.replace(CPU, iterations=4))
    for a, b in zip(stayed, moved, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_runs_of_a_sweep_are_measured_exactly():
    here, alone, (together,) = run_one(CPU), run_one(GPU), run_together([GPU])
    assert alone[1:] == pytest.approx(here[1:], abs=1e-5)  # policies are measured in float32
    assert together[1:] == pytest.approx(here[1:], abs=1e-5)


def padded(device: str) -> list[float]:
    """What review world lacks: padding on the left, a large vocabulary, a prompt read in two."""
    model = GPT2(GPT2Config(2000, 12, 16, 2, 2), torch.Generator().manual_seed(0))
    model = model.to(device, torch.float64)
    prompts = torch.tensor([[0, 0, 5], [3, 4, 5]], device=device)
    batch = sample(
        model, prompts, 6, generator=torch.Generator().manual_seed(1), eos_id=1,
        attention_mask=(prompts > 0).long(),
    )  # fmt: skip
    logprobs = model.logprobs(batch.hidden, batch.responses)
    bonus = entropy_bonus(model.logits(model.hidden(prompts)), torch.ones_like(prompts), 0.1)
    (model.logprobs(model.hidden(prompts), batch.responses[:, :3]).sum() + bonus).backward()
    cache = KVCache()
    model(prompts[:, :1], cache)
    rest = model(prompts[:, 1:], cache)[:, :, 7]
    gradient = model.transformer.wte.weight.grad.norm()
    return [x.sum().item() for x in (*batch.responses, *logprobs, *rest, gradient)]


def test_a_large_vocabulary_and_padding_on_the_left():
    assert padded("cuda") == pytest.approx(padded("cpu"), abs=1e-9)
