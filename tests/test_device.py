"""Nothing assumes that tensors live on the CPU, as seen on a device that any machine has.

Each function that is sent to the far device's process returns plain numbers.
"""

import copy
import dataclasses
from pathlib import Path

import far
import pytest
import torch

from rlhf_lab import PPOConfig, exact, load_world, runs
from rlhf_lab import __main__ as cli
from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.gpt2 import GPT2, GPT2Config, KVCache
from rlhf_lab.grids.sweep import run_one, run_together
from rlhf_lab.sampling import sample
from rlhf_lab.trainer import Trainer, train
from rlhf_lab.ui.cockpit import Cockpit

far_process = far.process

HERE = PPOConfig(iterations=3, batch_size=16, epochs=2, dtype="float64")
THERE = dataclasses.replace(HERE, device="far")


def refusals() -> list[str]:
    messages = []
    for wrong in (
        lambda: torch.ones(2, device="far") + torch.ones(2),
        lambda: torch.rand(2, device="far", generator=torch.Generator()),
        lambda: torch.ones(2, device="far").numpy(),
    ):
        with pytest.raises((RuntimeError, TypeError)) as error:
            wrong()
        messages.append(str(error.value))
    return messages


def test_the_far_device_is_as_strict_as_a_gpu(far_process):
    mixed, drawn, viewed = far_process(refusals)
    assert "a far tensor and one on the CPU" in mixed
    assert "generator on the CPU" in drawn
    assert "use .cpu()" in viewed


def trained(config: PPOConfig) -> list[tuple[float, ...]]:
    return [tuple(stats) for stats in train(load_world(), config)]


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
def test_a_run_is_the_same_on_another_device(far_process, settings):
    here = trained(dataclasses.replace(HERE, **settings))
    there = far_process(trained, dataclasses.replace(THERE, **settings))
    for a, b in zip(here, there, strict=True):
        assert a == pytest.approx(b, abs=1e-9)


def moved(folder: Path) -> list[tuple[float, ...]]:
    """One run: two iterations far away, one here, one far away."""
    world = load_world()
    trainer = Trainer(world, dataclasses.replace(THERE, iterations=2))
    records = list(runs.run(runs.create(folder, trainer), trainer))
    for iterations, device in ((3, "cpu"), (4, "far")):
        trainer = runs.resume(folder, world, iterations=iterations, device=device)
        records += runs.run(folder, trainer)
    return [tuple(stats) for stats in records]


def test_a_run_moves_between_devices(far_process, tmp_path):
    stayed = trained(dataclasses.replace(HERE, iterations=4))
    for a, b in zip(stayed, far_process(moved, tmp_path / "run"), strict=True):
        assert a == pytest.approx(b, abs=1e-9)


THREE = dataclasses.replace(THERE, minibatches=3)


def swept() -> list[tuple[float, ...]]:
    configs = [THREE, dataclasses.replace(THREE, eta=0.3, beta=0.1)]
    return [outcome[1:] for outcome in (run_one(configs[0]), *run_together(configs))]


def test_runs_of_a_sweep_are_measured_exactly(far_process):
    alone, together, other = far_process(swept)
    here = run_one(dataclasses.replace(THREE, device="cpu"))
    assert alone == pytest.approx(here[1:], abs=1e-6)  # policies are measured in float32
    assert together == pytest.approx(alone, abs=1e-6)
    assert other != pytest.approx(alone, abs=1e-3)


def commanded(folder: Path) -> int:
    return cli.main(["train", "--device", "far", "--iterations", "2", "--out", str(folder)])


def test_the_command_trains_and_compares_with_the_optimum(far_process, tmp_path):
    assert far_process(commanded, tmp_path / "run") == 0
    assert len(runs.read_records(tmp_path / "run")) == 2


def steered() -> list[int]:
    """A cockpit in the hands of a student: run, move η, fork, run."""
    cockpit = Cockpit(load_world(), dataclasses.replace(THERE, eta=0.3))
    cockpit.run(2)
    cockpit.set(eta=0.0)
    cockpit.fork()
    cockpit.run(2)
    assert cockpit.state.error is None
    assert cockpit.trainer.device.type == "far"
    updates = [cockpit.trainer.iteration, cockpit.parent.trainer.iteration]
    return [*updates, cockpit.state.exact_iteration]


def test_a_cockpit_steers_forks_and_measures(far_process):
    assert far_process(steered) == [4, 4, 4]


def world_on(device: str) -> list[float]:
    """All of a world on a device: its tables, an optimum, a gradient."""
    world = load_world().to(torch.device(device), torch.float64)
    tree, ref_logprobs, scores, golds = world.tables("food")
    best = exact.optimum(ref_logprobs, scores, 0.3)
    policy = copy.deepcopy(world.sft).requires_grad_(True)
    logprobs = world.logprobs(policy, "food")
    gap = exact.regret(logprobs, ref_logprobs, scores, 0.3)
    gap.backward()
    values = exact.soft_values(tree, exact.unflatten(scores, 14, world.response_length), 0.3)
    return [
        golds.sum().item(),
        best.value.item(),
        gap.item(),
        policy.transformer.wte.weight.grad.norm().item(),
        values.values[0].item(),
    ]


def test_a_world_is_measured_where_it_is(far_process):
    assert far_process(world_on, "far") == pytest.approx(world_on("cpu"), abs=1e-9)


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
    entropy_bonus(model.logits(batch.hidden), batch.mask, 0.1).backward()
    logprobs.sum().backward()
    cache = KVCache()
    model(prompts[:, :1], cache)
    rest = model(prompts[:, 1:], cache)[:, :, 7]
    return [x.sum().item() for x in (*batch.responses, *logprobs, *rest)]


def test_a_large_vocabulary_and_padding_on_the_left(far_process):
    assert far_process(padded, "far") == pytest.approx(padded("cpu"), abs=1e-9)
