"""The reward model's loss and units; what training makes of them is in test_world.py."""

import math

import pytest
import torch
from golden import normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.pretrain import bradley_terry_loss, standardise


@property_test
@given(seeds, st.floats(-5, 5))
def test_bradley_terry_sees_differences_alone(seed, shift):
    chosen, rejected = normal(seed, 2, 6)
    odds = [
        math.exp(c) / (math.exp(c) + math.exp(r)) for c, r in zip(chosen, rejected, strict=True)
    ]
    expected = torch.tensor([-math.log(p) for p in odds], dtype=torch.float64).mean()
    assert_close(bradley_terry_loss(chosen, rejected), expected)
    assert_close(bradley_terry_loss(chosen + shift, rejected + shift), expected)


@property_test
@given(seeds, st.floats(0.1, 9), st.floats(-9, 9))
def test_standardised_scores_forget_unit_and_zero(seed, scale, shift):
    scores, logprobs = normal(seed, 7), normal(seed + 1, 7).log_softmax(dim=0)
    p, units = logprobs.exp(), standardise(scores, logprobs)
    assert_close(torch.stack([p @ units, p @ units**2]), torch.tensor([0.0, 1.0]).double())
    assert_close(standardise(scale * scores + shift, logprobs), units)


def test_what_is_never_said_has_no_part_in_the_unit():
    scores = torch.tensor([1.0, 3.0, 99.0])  # float32, as a reward model gives them
    logprobs = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    assert_close(standardise(scores, logprobs)[:2], torch.tensor([-1.0, 1.0]).double())
    with pytest.raises(ValueError, match=r"all scores are 1.0"):
        standardise(scores, torch.tensor([1.0, 0.0, 0.0]).log())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.ones(3), "all scores are 1.0"),
        (torch.ones(2), r"logprobs must have shape \(N,\) = \(2,\), got \(3,\)"),
    ],
)
def test_scores_without_a_unit_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        standardise(scores, torch.zeros(3).log_softmax(dim=0))
