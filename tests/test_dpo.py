"""DPO's losses: by hand, their gradients, their limits, and what is refused."""

import math

import pytest
import torch
from golden import normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.dpo import dpo_loss, implicit_reward
from rlhf_lab.pretrain import bradley_terry_loss


def pairs(seed, n=5):
    """log π of chosen and rejected, log π_ref of both."""
    return [-normal(seed + i, n).abs() for i in range(4)]


def sigma(x):
    return 1 / (1 + math.exp(-x))


@property_test
@given(seeds, st.floats(0.05, 2), st.floats(0, 0.4))
def test_every_kind_by_hand(seed, beta, eps):
    c, r, rc, rr = pairs(seed)
    margins = ((c - rc) - (r - rr)).tolist()
    wanted = {"sigmoid": 0.0, "robust": 0.0, "ipo": 0.0, "hinge": 0.0}
    for h in margins:
        up, down = -math.log(sigma(beta * h)), -math.log(sigma(-beta * h))
        wanted["sigmoid"] += ((1 - eps) * up + eps * down) / 5
        wanted["robust"] += ((1 - eps) * up - eps * down) / (1 - 2 * eps) / 5
        wanted["ipo"] += (h - 1 / (2 * beta)) ** 2 / 5
        wanted["hinge"] += max(0, 1 - beta * h) / 5
    for kind, value in wanted.items():
        smooth = eps if kind in ("sigmoid", "robust") else 0.0
        got = dpo_loss(c, r, rc, rr, beta, kind=kind, label_smoothing=smooth)
        assert got.item() == pytest.approx(value, rel=1e-9)


@property_test
@given(seeds, st.floats(0.05, 2))
def test_dpo_is_bradley_terry_on_the_implicit_reward(seed, beta):
    c, r, rc, rr = pairs(seed)
    rewards = implicit_reward(c, rc, beta), implicit_reward(r, rr, beta)
    assert_close(dpo_loss(c, r, rc, rr, beta), bradley_terry_loss(*rewards))


def test_only_the_difference_counts():
    """Chosen and rejected may both become less likely, and the loss is the same."""
    c, r, rc, rr = pairs(0)
    for kind in ("sigmoid", "robust", "ipo", "hinge"):
        assert_close(
            dpo_loss(c, r, rc, rr, 0.3, kind=kind), dpo_loss(c - 3, r - 3, rc, rr, 0.3, kind=kind)
        )


def test_a_pair_of_equal_responses_adds_a_constant_and_no_gradient():
    y = torch.tensor([-2.0], requires_grad=True)
    ref = torch.tensor([-3.0])
    for kind, value in {
        "sigmoid": math.log(2),
        "robust": math.log(2),
        "ipo": 4.0,
        "hinge": 1.0,
    }.items():
        loss = dpo_loss(y, y, ref, ref, 0.25, kind=kind)
        assert loss.item() == pytest.approx(value)
        assert torch.autograd.grad(loss, y)[0].item() == pytest.approx(0, abs=1e-7)


def test_the_gradient_is_largest_where_the_order_is_wrong():
    """−β·σ(−βh) in the chosen log-probability, and its opposite in the rejected one."""
    c = torch.tensor([1.0, 0.0, -1.0]).double().requires_grad_()
    r, zero = torch.zeros(3).double().requires_grad_(), torch.zeros(3).double()
    dpo_loss(c, r, zero, zero, 0.5).backward()
    wanted = torch.tensor([-0.5 * sigma(-0.5 * h) / 3 for h in (1, 0, -1)]).double()
    assert_close(c.grad, wanted, rtol=1e-6, atol=0)
    assert_close(r.grad, -c.grad)


def test_far_margins_stay_finite():
    far = torch.tensor([500.0, -500.0])
    got = dpo_loss(far, -far, 0 * far, 0 * far, 1.0)
    assert got.item() == pytest.approx(500)


def test_implicit_reward_of_any_shape():
    assert implicit_reward(torch.zeros(2, 3), torch.ones(2, 3), 0.5).tolist() == [[-0.5] * 3] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0}, "beta must be finite and > 0, got 0.0"),
        ({"beta": -1}, "beta must be finite and > 0, got -1"),
        ({"label_smoothing": 0.5}, "label_smoothing must be below 0.5, got 0.5"),
        ({"label_smoothing": 0.1, "kind": "ipo"}, 'no meaning for kind "ipo"; use "sigmoid"'),
        ({"label_smoothing": 0.1, "kind": "hinge"}, 'no meaning for kind "hinge"'),
        ({"kind": "kto"}, "kind must be one of .*, got 'kto'"),
        (
            {"rejected_logprobs": torch.ones(3)},
            r"rejected_logprobs must have shape \(N,\) = \(2,\)",
        ),
        ({"chosen_logprobs": torch.ones(2, 4)}, r"chosen_logprobs must have shape \(N,\), got"),
        (
            {"ref_chosen_logprobs": torch.tensor([0, -math.inf])},
            "ref_chosen_logprobs is -inf at row 1",
        ),
        ({"chosen_logprobs": torch.tensor([math.nan, 0])}, "chosen_logprobs is nan at row 0"),
    ],
)
def test_bad_pairs_are_refused_in_words(change, message):
    names = ("chosen_logprobs", "rejected_logprobs", "ref_chosen_logprobs", "ref_rejected_logprobs")
    given = {**{name: -torch.ones(2) for name in names}, "beta": 0.1}
    with pytest.raises(ValueError, match=message):
        dpo_loss(**given | change)


def test_no_pairs_no_loss():
    with pytest.raises(ValueError, match="not empty"):
        dpo_loss(*[torch.ones(0)] * 4, 0.1)
