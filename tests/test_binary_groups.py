"""Rewards 0 and 1: the slope against the enumeration, and rest points against a flow."""

import math

import pytest
import torch

from rlhf_lab.binary_groups import binary_rest, binary_slope
from rlhf_lab.group_updates import expected_weights


def sigma(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("G", [2, 3, 8])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.99])
def test_the_slope_is_that_of_the_mean_update(G, p):
    """Weight of a 1 less that of a 0, which is what multiplies ∇p."""
    logprobs = torch.tensor([1 - p, p], dtype=torch.float64).log()
    w = expected_weights(logprobs, torch.tensor([0.0, 1.0]), G, "group", eps=0.01)
    assert binary_slope(p, G, eps=0.01) == pytest.approx((w[1] - w[0]).item(), rel=1e-9)


def test_the_slope_of_large_groups_is_that_of_2_arcsin_sqrt_p_and_capped_for_small_ones():
    for p in (0.1, 0.5, 0.9):
        assert binary_slope(p, 512, 0) * math.sqrt(p * (1 - p)) == pytest.approx(1, abs=0.01)
    for G in (2, 8, 64):
        assert binary_slope(0.0, G, 0) == pytest.approx((G - 1) / math.sqrt(G))
        assert binary_slope(1.0, G, 0) == pytest.approx((G - 1) / math.sqrt(G))
        assert binary_slope(0.2, G) == pytest.approx(binary_slope(0.8, G))
    assert [binary_slope(p, 2, 0) for p in (0.0, 0.3, 1.0)] == pytest.approx([0.5**0.5] * 3)


@pytest.mark.parametrize("G", [2, 4, 16])
@pytest.mark.parametrize(("eta", "start"), [(0.5, 0.0), (1.0, -3.0), (0.2, 1.0)])
def test_a_flow_from_the_reference_rests_there(G, eta, start):
    """x' = f_G(σ(x)) − η·(x − x_ref): the natural flow of reward and exact KL."""
    x = start
    for _ in range(4000):
        x += 0.1 * (binary_slope(sigma(x), G) - eta * (x - start)) * min(1, 1 / eta)
    assert binary_rest(G, eta, start) == pytest.approx(x, abs=1e-3)


def test_the_group_size_is_a_leash_and_the_size_of_the_reward_is_none():
    found = [binary_rest(G, 0.5) for G in (2, 4, 8, 16, 64)]
    assert found == pytest.approx([1.41, 2.96, 4.90, 7.48, 15.74], abs=0.005)
    assert found == pytest.approx(
        [(G - 1) / (math.sqrt(G) * 0.5) for G in (2, 4, 8, 16, 64)], rel=0.02
    )
    assert [binary_rest(8, 0.5, gap=gap) for gap in (0.01, 100)] == pytest.approx(
        [4.76, 4.90], abs=0.005
    )
    assert binary_rest(8, 0.5, gap=100, rule="leave_one_out") == 200
    assert binary_rest(8, 0.5, -1.0, rule="none") == pytest.approx(-1 + 7 / 8 / 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_slope(1.1, 4), r"p must lie in \[0, 1\], got 1.1"),
        (lambda: binary_slope(0.5, 1), "group_size must be a whole number in 2..1000, got 1"),
        (lambda: binary_rest(8, 0.0), "eta must be finite and > 0, got 0.0"),
        (lambda: binary_rest(8, 0.1, gap=0), "gap must be finite and > 0"),
    ],
)
def test_bad_calls_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
