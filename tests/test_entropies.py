"""Entropy against closed forms and torch's own, and a bonus that must have a gradient."""

import math

import pytest
import torch
from golden import masks, normal, property_test, random_logprobs, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical
from torch.testing import assert_close

from rlhf_lab.entropies import entropy, entropy_bonus, high_entropy_mask
from rlhf_lab.kl import exact_kl

NAN, INF = float("nan"), float("inf")


@property_test
@given(seeds, st.floats(-50, 50))
def test_entropy_equals_torch_and_does_not_see_a_shift(seed, shift):
    logits = 3 * normal(seed, 2, 3, 7)
    expected = Categorical(logits=logits).entropy()
    assert_close(entropy(logits), expected)
    assert_close(entropy(logits + shift), expected, rtol=1e-10, atol=1e-12)


@property_test
@given(seeds, st.integers(1, 60), st.floats(0, 200))
def test_entropy_lies_between_0_and_ln_of_the_vocabulary(seed, vocab, sharpness):
    h = entropy((sharpness * normal(seed, 20, vocab)).float())
    assert (h >= 0).all()
    assert (h <= math.log(vocab) + 1e-6).all()


@pytest.mark.parametrize("vocab", [1, 2, 50, 50257])
def test_bounds_are_reached(vocab):
    assert_close(entropy(torch.full((vocab,), 3.0)).item(), math.log(vocab), rtol=1e-6, atol=0)
    one = torch.full((vocab,), -INF)
    one[-1] = 5.0
    assert entropy(one) == 0


def test_a_forbidden_token_is_as_if_it_did_not_exist():
    """logsumexp(z) − Σ softmax(z)·z, the usual form, is NaN here in value and gradient."""
    logits = torch.tensor([0.3, -INF, 1.0, -0.2], dtype=torch.float64, requires_grad=True)
    rest = logits.detach()[logits.isfinite()].requires_grad_()
    usual = logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)
    assert usual.isnan()

    entropy(logits).backward()
    entropy(rest).backward()

    assert_close(entropy(logits), entropy(rest))
    assert_close(logits.grad[logits.isfinite()], rest.grad)
    assert logits.grad[1] == 0


def test_gradcheck_beside_a_forbidden_token():
    forbidden = torch.full((2, 1), -INF, dtype=torch.float64)

    def value(logits):
        return entropy(torch.cat([logits, forbidden], dim=1))

    assert torch.autograd.gradcheck(value, normal(0, 2, 4).requires_grad_())


@property_test
@given(seeds)
def test_kl_from_the_uniform_policy_is_what_entropy_lacks(seed):
    """KL(π ‖ uniform) = ln V − H(π): a KL penalty against it *is* an entropy bonus."""
    logprobs, uniform = random_logprobs(seed, 3, 6), torch.full((3, 6), 1 / 6).double().log()
    assert_close(exact_kl(logprobs, uniform), math.log(6) - entropy(logprobs))


@property_test
@given(seeds)
def test_gradient_of_kl_contains_that_of_an_entropy_bonus(seed):
    """∇KL(π ‖ π_ref) = −∇H(π) + ∇CE(π, π_ref): η buys an entropy bonus of the same weight."""
    logits, ref = normal(seed, 6).requires_grad_(), random_logprobs(seed + 1, 6)
    policy = logits.log_softmax(-1)
    cross_entropy = -(policy.exp() * ref).sum()
    values = exact_kl(policy, ref), entropy(logits), cross_entropy
    of_kl, of_h, of_ce = (torch.autograd.grad(v, logits, retain_graph=True)[0] for v in values)
    assert_close(of_kl, of_ce - of_h)


@property_test
@given(masks(), seeds, st.floats(0, 2), st.sampled_from([0.0, NAN, INF, -INF]))
def test_bonus_is_minus_beta_times_the_mean_entropy_of_the_subset(mask, seed, beta, junk):
    logits = normal(seed, *mask.shape, 5).masked_fill(~mask.unsqueeze(-1), junk).requires_grad_()
    chosen = logits.detach()[mask].requires_grad_()

    bonus, expected = entropy_bonus(logits, mask, beta), -beta * entropy(chosen).mean()
    bonus.backward(), expected.backward()

    assert_close(bonus, expected)
    assert_close(logits.grad[mask], chosen.grad)
    assert (logits.grad[~mask] == 0).all()


def test_gradient_of_the_bonus_in_closed_form():
    """∂(−βH)/∂z_v = β·π(v)·(log π(v) + H). Under no_grad the bonus would be a mere number."""
    logits, beta = normal(1, 1, 1, 6).requires_grad_(), 0.3
    entropy_bonus(logits, torch.ones(1, 1), beta).backward()
    logprobs = logits.detach().log_softmax(-1)
    expected = beta * logprobs.exp() * (logprobs + entropy(logprobs).unsqueeze(-1))
    assert_close(logits.grad, expected)


def test_descending_the_bonus_raises_entropy():
    """A flipped sign trains towards collapse, and the loss curve looks just as good."""
    logits, mask = (2 * normal(2, 1, 2, 5)).requires_grad_(), torch.ones(1, 2)
    seen = []
    for _ in range(100):
        seen.append(entropy(logits).mean().item())
        bonus = entropy_bonus(logits, mask, beta=2.0)
        logits.data -= torch.autograd.grad(bonus, logits)[0]
    assert seen == sorted(seen)
    assert seen[0] < 1.2
    assert seen[-1] > math.log(5) - 1e-3


def test_beta_0_is_no_force():
    logits = normal(3, 1, 2, 5).requires_grad_()
    entropy_bonus(logits, torch.ones(1, 2), beta=0).backward()
    assert (logits.grad == 0).all()


LOGITS, MASK = torch.zeros(2, 3, 4), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: entropy(torch.tensor([0.0, NAN])),
            "logits is nan at row 1; logits must be finite",
        ),
        (
            lambda: entropy(torch.tensor([[0.0, 0.0], [0.0, INF]])),
            "logits is inf at row 1, position 1; logits must be",
        ),
        (lambda: entropy(torch.full((1, 3), -INF)), "not −inf for every token"),
        (lambda: entropy_bonus(LOGITS, MASK, -0.1), "beta must be .* >= 0, got -0.1"),
        (lambda: entropy_bonus(LOGITS, MASK, NAN), "finite number >= 0, got nan"),
        (lambda: entropy_bonus(LOGITS, MASK, INF), "finite number >= 0, got inf"),
        (lambda: entropy_bonus(LOGITS, MASK[:, :2], 0.1), r"= \(2, 3\), got \(2, 2\)"),
        (lambda: entropy_bonus(LOGITS, 0.5 * MASK, 0.1), "only 0 and 1"),
        (lambda: entropy_bonus(LOGITS, 0 * MASK, 0.1), "mask selects nothing"),
        (lambda: entropy_bonus(LOGITS[:0], MASK[:0], 0.1), "mask selects nothing"),
        (lambda: entropy_bonus(LOGITS * NAN, MASK, 0.1), "logits is nan at row 0"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_least_certain_tokens_are_kept():
    h = torch.tensor([[0.5, 0.1, 0.9, 9.0], [0.3, 0.7, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    assert torch.equal(high_entropy_mask(h, mask, 1.0), mask)
    assert high_entropy_mask(h, mask, 0.0).nonzero().tolist() == [[0, 2]]
    assert high_entropy_mask(h, mask, 0.5).nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    dirty = h.masked_fill(~mask, torch.nan)
    assert torch.equal(high_entropy_mask(dirty, mask, 0.5), high_entropy_mask(h, mask, 0.5))
    with pytest.raises(ValueError, match="the mask selects nothing"):
        high_entropy_mask(h, mask & False, 0.5)
