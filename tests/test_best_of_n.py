"""Best-of-n against every draw of n responses, and against what must hold for any world."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab import exact
from rlhf_lab.best_of_n import best_of_each_n, best_of_n, best_of_n_kl, best_of_n_kl_bound


def world(seed, responses, levels=None):
    """log π_ref and scores, float64; with `levels`, many responses share a score."""
    rng = torch.Generator().manual_seed(seed)
    ref = torch.randn(responses, generator=rng, dtype=torch.float64).log_softmax(dim=0)
    if levels is None:
        return ref, torch.randn(responses, generator=rng, dtype=torch.float64)
    return ref, torch.randint(levels, (responses,), generator=rng).double()


def by_enumeration(ref_logprobs, scores, n):
    """π_bon by writing down all N^n draws; a tie goes to each of its winners' draws equally."""
    p, policy = ref_logprobs.exp().tolist(), torch.zeros_like(ref_logprobs)
    for draw in itertools.product(range(len(p)), repeat=n):
        best = max(scores[i] for i in draw)
        winners = [i for i in draw if scores[i] == best]
        for i in winners:
            policy[i] += math.prod(p[j] for j in draw) / len(winners)
    return policy


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [None, 3])
def test_it_is_what_all_possible_draws_give(n, levels):
    ref, scores = world(n, 6, levels)
    torch.testing.assert_close(
        best_of_n(ref, scores, n).exp(), by_enumeration(ref, scores.tolist(), n),
        rtol=0, atol=1e-12,
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**5), st.sampled_from([None, 4]))
def test_what_must_hold_for_every_world(seed, n, levels):
    ref, scores = world(seed, 50, levels)
    policy = best_of_n(ref, scores, n)
    assert policy.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert (policy - ref).max() <= math.log(n) + 1e-9  # no response is multiplied by more than n
    kl = best_of_n_kl(ref, scores, n).item()
    best = ref[scores == scores.max()].logsumexp(dim=0).item()
    assert -1e-9 <= kl <= min(best_of_n_kl_bound(n), -best) + 1e-9


def test_the_optimum_scores_at_least_as_high_at_the_same_kl():
    """π* has the highest E[score] of all policies with its KL, best-of-n among them."""
    ref, scores = world(7, 500)
    policy = best_of_n(ref, scores, 16)
    bon = exact.evaluate(policy, ref, scores, scores)
    for eta in (0.1, 0.3, 1.0):
        best = exact.optimum(ref, scores, eta)
        assert bon.score - eta * bon.kl < best.value


def test_the_bound_is_nearly_reached_where_no_response_weighs_much():
    ref = torch.full((100_000,), -math.log(100_000), dtype=torch.float64)
    scores = torch.arange(100_000.0)
    assert best_of_n_kl(ref, scores, 16).item() == pytest.approx(best_of_n_kl_bound(16), abs=1e-3)


def two_responses(rare):
    """A common response, and a rare one with the higher score."""
    return torch.tensor([math.log1p(-rare), math.log(rare)], dtype=torch.float64), torch.arange(2.0)


def test_a_rare_response_keeps_its_digits():
    """It is drawn, and wins, in n of 10^18 rounds: 1 − (1 − 10^−18)^n would be 0."""
    policy = best_of_n(*two_responses(1e-18), 1000).exp()
    assert policy[1].item() == pytest.approx(1e-15, rel=1e-9, abs=0)


def test_a_response_that_is_never_drawn_is_never_said():
    """Alone at its score, the highest; what is left is as if it were not there."""
    ref = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    scores = torch.tensor([0.0, 1.0, 2.0])
    assert_close(best_of_n(ref, scores, 2)[:2], best_of_n(ref[:2], scores[:2], 2))
    assert best_of_n(ref, scores, 2)[2] == -torch.inf
    assert_close(best_of_n_kl(ref, scores, 2), best_of_n_kl(ref[:2], scores[:2], 2))


def test_very_many_draws_keep_the_digits_of_what_is_common():
    """(1 − 10^−12)^(10^12) = 1/e: the logarithm of a rounded 1 − 10^−12 is off by 10^−4."""
    policy = best_of_n(*two_responses(1e-12), 10**12).exp()
    assert policy[0].item() == pytest.approx(math.exp(-1), rel=1e-9)


@pytest.mark.parametrize("n", [0, -1, 2.0])
def test_n_is_a_whole_number(n):
    with pytest.raises(ValueError, match="whole number"):
        best_of_n(*world(0, 4), n)
    with pytest.raises(ValueError, match="whole number"):
        best_of_n_kl_bound(n)


def test_shapes_and_scores_are_checked():
    ref, scores = world(0, 4)
    with pytest.raises(ValueError, match="scores"):
        best_of_n(ref, scores[:3], 2)
    with pytest.raises(ValueError, match=r"scores is -?inf at row 0; check the reward model"):
        best_of_n(ref, scores / 0, 2)


def test_several_n_give_what_each_gives_alone():
    ref_logprobs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    scores = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    together = best_of_each_n(ref_logprobs, scores, [1, 3, 64])
    for n, found in zip((1, 3, 64), together, strict=True):
        assert torch.equal(found, best_of_n(ref_logprobs, scores, n))
    with pytest.raises(ValueError, match="ns: each"):
        best_of_each_n(ref_logprobs, scores, [1, 0])
