"""The peers of the benchmark do the same work: the same update, and no product too many."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlhf_lab import PPOConfig, Trainer


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    import common
    import floor
    import hf_plain
    import ours

    yield common, hf_plain, ours, floor
    for name in ("common", "floor", "hf_plain", "ours"):  # names that another test might want
        del sys.modules[name]


def test_plain_update_gives_our_weights(peers):
    """From the same responses, in float64. Rates large enough for the clips to act."""
    common, hf_plain, ours, _ = peers
    setting = common.Setting(vocab=11, width=16, layers=2, heads=2, batch=16, response=6)
    config = PPOConfig(
        eta=common.ETA, batch_size=16, epochs=common.EPOCHS, lr=0.02, adam_eps=1e-8, dtype="float64"
    )
    task = ours.EvenTokens(setting)
    task.sft.double()
    trainer = Trainer(task, config)
    plain = hf_plain.PlainPPO(setting, lr=config.lr)
    for model in (plain.policy, plain.reference):
        missing = model.load_state_dict(task.sft.state_dict(), strict=False).missing_keys
        assert missing == ["lm_head.weight"], "which is the token embedding"
        model.double()
    plain.value_head.double().load_state_dict(trainer.value_head.summary.state_dict())
    for _ in range(3):
        trainer.step()
        rollout = trainer.rollout
        plain.update(rollout.tokens, rollout.scores)
    assert trainer.history[-1].clip_fraction > 0.05
    weights = dict(plain.policy.named_parameters())
    for name, weight in trainer.policy.named_parameters():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5, msg=name)
    torch.testing.assert_close(plain.value_head.weight, trainer.value_head.summary.weight)
    moved = trainer.policy.transformer.wte.weight - task.sft.transformer.wte.weight
    assert moved.abs().max() > 0.05


def products(make, setting):
    """Floating-point operations of an iteration, without those of attention, which torch leaves
    uncounted in the kernel that we use."""
    iterate, _ = make(setting)
    iterate()
    with FlopCounterMode(display=False) as counter:
        iterate()
    counts = {str(kernel): n for kernel, n in counter.get_flop_counts()["Global"].items()}
    return counts["aten.mm"] + counts["aten.addmm"]


@pytest.mark.parametrize("vocab", [32, 20_000])
def test_floor_has_the_products_that_we_have_or_few_less(peers, vocab):
    common, _, ours, floor = peers
    setting = common.Setting(vocab, width=16, layers=3, heads=2, batch=8, response=12)
    needed = products(floor.make, setting) / products(ours.make, setting)
    assert 0.95 < needed <= 1
