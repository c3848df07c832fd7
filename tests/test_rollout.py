"""Equal rows are read once: the same states, the same gradients, as if each had been read."""

import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.collapse import distinct_rows
from rlhf_lab.rollout import response_states


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer(load_world(), PPOConfig(dtype="float64", eta=0.1, seed=3))
    for _ in range(8):
        trainer.step()
    return trainer


def test_states_and_gradients_are_those_of_reading_every_row(trainer):
    tokens, policy, length = trainer.rollout.tokens, trainer.policy, trainer.task.response_length
    assert len(tokens.unique(dim=0)) < 100 < len(tokens)
    weights = torch.randn(len(tokens), length, policy.config.n_embd, dtype=torch.float64)
    shared = response_states(policy, tokens, length)
    alone = policy.hidden(tokens[:, :-1], last=length)
    torch.testing.assert_close(shared, alone, rtol=0, atol=1e-14)
    ours, plain = (
        torch.autograd.grad((states * weights).sum(), policy.transformer.wte.weight)[0]
        for states in (shared, alone)
    )
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)


def test_a_batch_that_repeats_itself_is_read_once(trainer, monkeypatch):
    read = []
    hidden = type(trainer.policy).hidden
    monkeypatch.setattr(
        type(trainer.policy),
        "hidden",
        lambda self, rows, **rest: read.append(len(rows)) or hidden(self, rows, **rest),
    )
    row = trainer.rollout.tokens[:1]
    states = response_states(trainer.policy, row.repeat(40, 1), 5)
    assert read == [1]
    assert states.shape[0] == 40
    mask = torch.ones(40, 1)  # a padded batch is read as it is
    response_states(trainer.policy, row.repeat(40, 1), 5, mask)
    assert read == [1, 40]


@pytest.mark.parametrize(
    "rows",
    [
        [[3, 1, 2], [0, 0, 0], [3, 1, 2], [0, 0, 1], [0, 0, 0]],
        [[5]],
        [[2**40, 7], [2**40, 7], [7, 2**40]],
        [[1_000_003, 0], [0, 1], [1_000_003, 0], [0, 1]],  # their numbers are equal
    ],
)
def test_distinct_rows_are_those_of_unique(rows):
    tokens = torch.tensor(rows)
    found, of = distinct_rows(tokens)
    assert torch.equal(found[of], tokens)
    assert sorted(found.tolist()) == tokens.unique(dim=0).tolist()
