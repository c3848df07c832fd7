"""Advantages of groups: identities, ties, gaps, and what is refused."""

import math

import pytest
import torch
from golden import masks, normal, property_test, random_logprobs, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.masking import masked_whiten

NAN = math.nan


@property_test
@given(seeds, st.integers(2, 6), st.integers(1, 4))
def test_leave_one_out_is_the_plain_advantage_times_g_over_g_minus_1(seed, G, K):
    r = normal(seed, K * G)
    assert_close(leave_one_out(r, G), G / (G - 1) * group_advantages(r, G))
    others = [[*group[:i], *group[i + 1 :]] for group in r.view(K, G).tolist() for i in range(G)]
    by_hand = r - torch.tensor([sum(o) / (G - 1) for o in others], dtype=r.dtype)
    assert_close(leave_one_out(r, G), by_hand)


@property_test
@given(seeds, st.integers(2, 6))
def test_the_scales(seed, G):
    r = normal(seed, 3 * G)
    centred = group_advantages(r, G).view(3, G)
    assert_close(centred.sum(1), torch.zeros(3, dtype=r.dtype), rtol=0, atol=1e-12)
    by_group = group_advantages(r, G, scale="group", eps=0.5).view(3, G)
    assert_close(by_group, centred / (r.view(3, G).std(1, keepdim=True) + 0.5))
    assert_close(
        group_advantages(r, G, scale="batch", eps=0.5).view(3, G), centred / (r.std() + 0.5)
    )
    whole = torch.ones_like(r)
    assert_close(group_advantages(r, 3 * G, scale="group", eps=0), masked_whiten(r, whole, eps=0))


def test_of_two_only_the_sign_is_left():
    r = torch.tensor([0.0, 1.0, 5.0, -95.0], dtype=torch.float64)
    got = group_advantages(r, 2, scale="group", eps=0)
    assert_close(got, 0.5**0.5 * torch.tensor([-1.0, 1, 1, -1], dtype=r.dtype))


def test_any_gap_above_the_floor_counts_in_full():
    """Trap: rewards that differ by a thousandth weigh as much as rewards that differ by one."""
    best = [
        group_advantages(torch.tensor([gap, 0, 0, 0]).double(), 4, scale="group")[0].item()
        for gap in (1e-6, 1e-4, 0.01, 1.0)
    ]
    assert best == pytest.approx([0.0075, 0.5, 1.47, 1.5], abs=0.005)


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30])
def test_equal_rewards_give_exact_zeros_in_every_precision(scale, eps, value):
    """The mean of three times 0.1 is not 0.1 in floats; over a tiny deviation it would be ±1."""
    for dtype in (torch.float32, torch.float64):
        r = torch.full((6,), value, dtype=dtype)
        assert not group_advantages(r, 3, scale=scale, eps=eps).any()
        assert not leave_one_out(r, 3).any()


def test_a_dead_group_stays_at_0_beside_a_live_one():
    r = torch.tensor([0.1, 0.1, 0.1, 1.0, 0.0, 0.0])
    for scale in ("none", "group", "batch"):
        got = group_advantages(r, 3, scale=scale, eps=0.0)
        assert not got[:3].any()
        assert got[3:].all()


def test_an_unscored_response_gets_0_and_is_left_out_of_its_group():
    r = torch.tensor([1.0, NAN, 0.0, 2.0, NAN, NAN, 4.0, NAN]).double()
    few = torch.tensor([1.0, 0.0, 2.0]).double()
    kept = torch.tensor([0, 2, 3])
    for function in (leave_one_out, group_advantages):
        got = function(r, 4)
        assert_close(got[kept], function(few, 3))
        assert got[1] == 0
        assert not got[4:].any(), "one alone has nothing to be compared with"
    got = group_advantages(r, 4, scale="group", eps=0.1)
    assert_close(got[kept], group_advantages(few, 3, scale="group", eps=0.1))
    scored = torch.tensor([1.0, 0.0, 2.0, 4.0]).double()
    got = group_advantages(r, 4, scale="batch", eps=0.1)
    assert_close(got[kept], group_advantages(few, 3) / (scored.std() + 0.1))


def test_nothing_scored_is_nothing_learned():
    r = torch.full((4,), NAN)
    for scale in ("none", "group", "batch"):
        assert not group_advantages(r, 2, scale=scale).any()
    assert not leave_one_out(r, 2).any()


@pytest.mark.parametrize("function", [group_advantages, leave_one_out])
@pytest.mark.parametrize(
    ("rewards", "G", "message"),
    [
        (torch.ones(4), 1, "group_size must be at least 2, got 1: alone, a response has nothing"),
        (torch.ones(4), 0, "group_size must be a whole number >= 1, got 0"),
        (torch.ones(8), 3, "group_size 3 does not divide the 8 rewards: 2 of them"),
        (torch.ones(0), 2, r"rewards must have shape \(N,\), not empty"),
        (torch.ones(2, 2), 2, r"rewards must have shape \(N,\), got \(2, 2\)"),
        (torch.ones(4).long(), 2, "rewards must hold numbers of torch.float32 .* rewards.float()"),
        (torch.tensor([0.0, 1, math.inf, 2]), 2, "rewards is inf at row 2; check the reward"),
    ],
)
def test_bad_groups_are_refused_in_words(function, rewards, G, message):
    with pytest.raises(ValueError, match=message):
        function(rewards, G)


def test_a_variance_beyond_the_float_is_named():
    r = torch.tensor([1e30, -1e30])
    with pytest.raises(ValueError, match=r"variance of rewards is too large for torch.float32"):
        group_advantages(r, 2, scale="group")
    assert group_advantages(r.double(), 2, scale="group")[0] == pytest.approx(0.5**0.5)


def test_advantages_and_shaped_scores_are_numbers():
    r = torch.tensor([1.0, 2.0], requires_grad=True)
    x = torch.zeros(2, 3, requires_grad=True)
    for answer in (
        group_advantages(r, 2, scale="group"), leave_one_out(r, 2),
        shaped_scores(r, x, x.detach(), torch.ones(2, 3), 0.1),
    ):  # fmt: skip
        assert not answer.requires_grad


@property_test
@given(seeds, masks())
def test_the_leash_is_a_sum_over_the_response(seed, mask):
    B, T = mask.shape
    logprobs, ref = -normal(seed, B, T).abs(), -normal(seed + 1, B, T).abs()
    scores = normal(seed, B)
    got = shaped_scores(scores, logprobs.masked_fill(~mask, NAN), ref, mask, 0.3)
    for i in range(B):
        kl = sum((logprobs[i, t] - ref[i, t]).item() for t in range(T) if mask[i, t])
        assert got[i].item() == pytest.approx(scores[i].item() - 0.3 * kl)
    assert torch.equal(shaped_scores(scores, logprobs, ref, mask, 0.0), scores)


def test_an_unscored_or_empty_response_keeps_its_score():
    x = random_logprobs(0, 2, 3)
    got = shaped_scores(
        torch.tensor([NAN, 2.0]).double(), x, x - 1, torch.tensor([[1] * 3, [0] * 3]), 1
    )
    assert got[0].isnan()
    assert got[1] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": -0.1}, "eta must be a finite number >= 0"),
        ({"scores": torch.ones(3)}, r"scores must have shape \(B,\) = \(2,\), got \(3,\)"),
        ({"scores": torch.tensor([1.0, -math.inf])}, "scores is -inf at row 1"),
        (
            {"ref_logprobs": torch.tensor([[-1.0], [-math.inf]])},
            "ref_logprobs is inf at row 1; a s",
        ),
        ({"logprobs": torch.tensor([[NAN], [0.0]])}, "logprobs is nan at row 0, position 0"),
        ({"eta": 1e39}, r"at eta = 1e\+39 is -inf at row 0; use a smaller eta"),
    ],
)
def test_bad_leashes_are_refused_in_words(change, message):
    given = {
        "scores": torch.ones(2), "logprobs": torch.zeros(2, 1), "ref_logprobs": -torch.ones(2, 1),
        "mask": torch.ones(2, 1), "eta": 0.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        shaped_scores(**given | change)
