"""Ratios at three levels, by hand."""

import math

import pytest
import torch
from golden import masks, normal, property_test, seeds
from hypothesis import given

from rlhf_lab.ratios import importance_ratios


@property_test
@given(seeds, masks())
def test_ratios_by_hand(seed, mask):
    new, old = (-normal(seed + i, *mask.shape).abs() for i in range(2))
    for i, row in enumerate(mask):
        logs = [(new[i, t] - old[i, t]).item() for t in range(len(row)) if row[t]]
        mean, total = math.exp(sum(logs) / len(logs)), math.exp(sum(logs))
        got = importance_ratios(new, old, mask)[i][row].tolist()
        assert got == pytest.approx([math.exp(x) for x in logs])
        for level, wanted in {"sequence": mean, "product": total}.items():
            assert importance_ratios(new, old, mask, level)[i].tolist() == pytest.approx(
                [wanted] * len(row)
            )


@pytest.mark.parametrize("level", ["token", "sequence", "product"])
def test_without_an_old_policy_the_ratio_is_1_and_its_gradient_that_of_log_pi(level):
    new, mask = normal(0, 2, 3).requires_grad_(), torch.tensor([[1, 1, 0], [1, 1, 1]])
    ratio = importance_ratios(new, None, mask, level)
    assert (ratio == 1).all()
    gradient = torch.autograd.grad(ratio[:, 0].sum(), new)[0]
    wanted = {"token": [1, 0, 0], "sequence": [0.5, 0.5, 0], "product": [1, 1, 0]}
    assert gradient[0].tolist() == wanted[level]


def test_a_row_without_tokens_has_ratio_1():
    x, mask = torch.full((1, 2), math.nan), torch.zeros(1, 2)
    for level in ("token", "sequence", "product"):
        assert importance_ratios(x, x, mask, level).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        (0.0, -math.inf, "old_logprobs is -inf at row 0, position 1; a sampled token must be"),
        (-math.inf, -math.inf, "logprobs is -inf at row 0, position 1"),
        (math.nan, 0.0, "logprobs is nan at row 0, position 1"),
        (0.0, -800.0, r"exp\(logprobs − old_logprobs\) is inf at row 0, position 1; take smaller"),
    ],
)
def test_an_infinite_ratio_is_refused_in_words(new, old, message):
    with pytest.raises(ValueError, match=message):
        importance_ratios(torch.tensor([[0.0, new]]), torch.tensor([[0.0, old]]), torch.ones(1, 2))
