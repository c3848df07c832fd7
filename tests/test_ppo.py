"""Advantages by their definition, and losses whose gradient is known token by token."""

import math

import pytest
import torch
from golden import masks, normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.ppo import gae, policy_loss, response_logprobs, returns_to_go, value_loss

NAN, INF = float("nan"), float("inf")
factors = st.sampled_from([0.0, 0.5, 0.95, 1.0])
junk_values = st.sampled_from([NAN, INF, -INF, 1e30])


def discounted(rewards, gamma):
    """Σ γ^k r_k of a list, by hand."""
    return sum(gamma**k * r for k, r in enumerate(rewards))


@property_test
@given(st.integers(1, 3), st.integers(1, 4), seeds)
def test_logprobs_of_a_response_equal_a_loop_over_its_tokens(P, T, seed):
    logits, tokens = normal(seed, 2, P + T, 5), normal(seed, 2, P + T).abs().long() % 5
    found = response_logprobs(logits, tokens, P)
    for i in range(2):
        for t in range(T):
            p = logits[i, P + t - 1].exp()  # what was known before token P + t
            assert_close(found[i, t].exp(), p[tokens[i, P + t]] / p.sum())


@property_test
@given(masks(), seeds, factors, junk_values)
def test_returns_are_the_advantages_of_a_critic_that_says_0(mask, seed, gamma, junk):
    rewards = normal(seed, *mask.shape).masked_fill(~mask, junk)
    expected = gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0).returns
    assert_close(returns_to_go(rewards, mask, gamma), expected)


def gae_by_definition(rewards, values, gamma, lam):
    """(1 − λ) Σ λ^(n−1) A⁽ⁿ⁾ of one row: n-step advantages and no δ (Schulman 2016, eq. 16)."""
    T, advantages = len(rewards), []
    for t in range(T):
        n_step = [
            discounted(rewards[t : t + n], gamma) + gamma**n * [*values, 0.0][t + n] - values[t]
            for n in range(1, T - t + 1)
        ]
        rest = lam ** (T - t - 1) * n_step[-1]
        advantages.append((1 - lam) * discounted(n_step[:-1], lam) + rest)
    return advantages


@property_test
@given(masks(), seeds, factors, factors, junk_values)
def test_gae_equals_its_definition_on_the_unpadded_row(mask, seed, gamma, lam, junk):
    """Numbers off the mask count as 0 and a hole still costs its γλ, as in TRL."""
    rewards, values = normal(seed, 2, *mask.shape).masked_fill(~mask, junk)
    result = gae(rewards, values, mask, gamma=gamma, lam=lam)

    assert not any(x[~mask].any() for x in result)
    for i, chosen in enumerate(mask):
        first, last = chosen.nonzero()[0].item(), chosen.nonzero()[-1].item()
        row, cut = slice(first, last + 1), chosen[first : last + 1]
        r, v = (x[i, row].masked_fill(~cut, 0.0).tolist() for x in (rewards, values))
        expected = torch.tensor(gae_by_definition(r, v, gamma, lam), dtype=torch.float64)
        assert_close(result.advantages[i, row][cut], expected[cut])


@property_test
@given(seeds, factors)
def test_special_cases_of_lambda(seed, gamma):
    """λ = 1 is the return minus the value, λ = 0 the one-step TD error; in float64 to 1e-12."""
    rewards, values = normal(seed, 2, 3, 6)
    to_go = [[discounted(row[t:], gamma) for t in range(6)] for row in rewards.tolist()]
    to_go = torch.tensor(to_go, dtype=torch.float64)
    one, zero = (gae(rewards, values, torch.ones(3, 6), gamma=gamma, lam=x) for x in (1, 0))
    assert_close(one.advantages, to_go - values, rtol=1e-12, atol=1e-12)
    assert_close(one.returns, to_go, rtol=1e-12, atol=1e-12)
    ahead = torch.cat([values[:, 1:], torch.zeros(3, 1)], dim=1)
    assert_close(zero.advantages, rewards + gamma * ahead - values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rewards", "values", "mask", "gamma", "returns"),
    [
        # tests/torchtune/rlhf/test_rewards.py, test_estimate_returns
        ([0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1], 0.9, [0.6579225, 0.7695, 0.9, 1]),
        # TRL 0.11.4: a terminal score of 4 and an ignorant critic
        ([0, 0, 0, 4, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0], 1.0, [0, 3.61, 3.8, 4, 0]),
        # TRL 0.11.4: V = 0 is used inside a hole, where others would skip to the next token
        ([0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], 1.0, [0.9025, 0, 0, 1]),
    ],
)
def test_returns_worked_by_hand(rewards, values, mask, gamma, returns):
    rewards, values, mask = (torch.tensor([x]) for x in (rewards, values, mask))
    result = gae(rewards.double(), values.double(), mask, gamma=gamma, lam=0.95)
    assert_close(result.returns, torch.tensor([returns]).double(), rtol=1e-6, atol=0)
    assert_close(result.advantages + values * mask, result.returns)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_lambda_dims_credit_only_where_the_critic_knows_nothing(lam):
    """γ = 1 does not mean undiminished credit: at λ = 0.95, T = 20 the first token gets 0.3774."""
    score, mask = torch.eye(20)[-1:], torch.ones(1, 20)
    ignorant, knowing = torch.zeros(1, 20), torch.ones(1, 20).index_fill(1, torch.tensor(0), 0.0)
    assert_close(gae(score, ignorant, mask, lam=lam).advantages[0, 0].item(), lam**19)
    assert_close(gae(score, knowing, mask, lam=lam).advantages[0, 0].item(), 1.0)


def test_advantages_are_constants_to_autograd():
    """A gradient through the target would let the critic move the target instead of itself."""
    values = normal(0, 2, 3).requires_grad_()
    assert not any(x.requires_grad for x in gae(normal(1, 2, 3), values, torch.ones(2, 3)))


@property_test
@given(masks(), seeds, junk_values, st.sampled_from([0.0, 0.2, 5.0]))
def test_policy_loss_equals_a_loop_over_tokens(mask, seed, junk, clip):
    """One NaN or inf in the padding may reach neither the loss nor any gradient."""
    new, old, advantages = normal(seed, 3, *mask.shape).masked_fill(~mask, junk)
    new.requires_grad_()
    terms, gradient, clipped = [], torch.zeros_like(old), 0
    for i, t in mask.nonzero().tolist():
        A, ratio = advantages[i, t].item(), math.exp(new[i, t].item() - old[i, t].item())
        stopped = ratio > 1 + clip if A > 0 else ratio < 1 - clip
        bound = 1 + clip if A > 0 else 1 - clip
        terms.append(-A * (bound if stopped else ratio))
        gradient[i, t] = 0 if stopped else -A * ratio
        clipped += stopped

    result = policy_loss(new, old, advantages, mask, clip=clip)
    result.loss.backward()

    assert_close(result.loss.item(), sum(terms) / len(terms))
    assert_close(new.grad, gradient / len(terms))
    assert_close(result.clip_fraction.item(), clipped / len(terms))
    assert_close(result.approx_kl, ((new - old)[mask] ** 2).mean() / 2)


@pytest.mark.parametrize(
    ("advantage", "ratio", "gradient"),
    [
        (1.0, 1.5, 0.0),  # already likelier, as asked: no more
        (1.0, 0.5, -0.5),  # moved the wrong way: pushed up again, unclipped
        (-1.0, 0.5, 0.0),  # already less likely, as asked: no more
        (-1.0, 1.5, 1.5),  # moved the wrong way: pushed down again, unclipped
        (1.0, 1.1, -1.1),
        (-1.0, 0.9, 0.9),
        (0.0, 1.5, 0.0),
    ],
)
def test_clipping_stops_a_token_but_never_pulls_it_back(advantage, ratio, gradient):
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    one = torch.ones(1, 1)
    result = policy_loss(new, 0 * one, advantage * one, one)
    result.loss.backward()
    assert_close(new.grad.item(), gradient, rtol=1e-6, atol=1e-7)
    assert result.clip_fraction == (advantage != 0 and gradient == 0)


def test_worked_example_of_trl():
    new, old = torch.tensor([[-0.5, -1.5]]), torch.tensor([[-1.0, -1.0]])
    loss, clip_fraction, approx_kl = policy_loss(
        new, old, torch.tensor([[1.0, -1.0]]), torch.ones(1, 2)
    )
    assert_close(loss, torch.tensor(-0.2))
    assert clip_fraction == 1
    assert approx_kl == 0.125
    one = torch.ones(1, 1)
    value = value_loss(0.5 * one, 0 * one, one, one)
    assert_close(value.loss, torch.tensor(0.32))
    assert value.clip_fraction == 1


def test_ratio_1_gives_the_policy_gradient():
    """π = (½, ¼, ¼) and the tokens 0, 0, 1, 2 weigh as π does: the mean is exact, not sampled."""
    logits = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log().requires_grad_()
    reward, tokens = normal(4, 3), torch.tensor([[0, 0, 1, 2]])
    logprobs = logits.log_softmax(-1)[tokens]

    result = policy_loss(logprobs, logprobs.detach(), reward[tokens], torch.ones(1, 4))

    objective = (logits.softmax(-1) * reward).sum()
    assert_close(result.loss, -objective)
    (ours,), (true,) = (torch.autograd.grad(x, logits) for x in (result.loss, -objective))
    assert_close(ours, true)
    assert result[1:] == (0, 0)


@property_test
@given(masks(), seeds, junk_values, st.sampled_from([0.0, 0.2, 5.0]))
def test_value_loss_equals_a_loop_over_tokens(mask, seed, junk, clip):
    """0·NaN in the backward pass of a square: the loss may be right and its gradient NaN."""
    new, old, returns = normal(seed, 3, *mask.shape).masked_fill(~mask, junk)
    new.requires_grad_()
    terms, gradient, clipped = [], torch.zeros_like(old), 0
    for i, t in mask.nonzero().tolist():
        V, V_old, R = new[i, t].item(), old[i, t].item(), returns[i, t].item()
        near = min(max(V, V_old - clip), V_old + clip)
        worse = abs(near - R) > abs(V - R)
        terms.append(0.5 * max((V - R) ** 2, (near - R) ** 2))
        gradient[i, t] = 0 if worse else V - R
        clipped += worse

    result = value_loss(new, old, returns, mask, clip=clip)
    result.loss.backward()

    assert_close(result.loss.item(), sum(terms) / len(terms))
    assert_close(new.grad, gradient / len(terms))
    assert_close(result.clip_fraction.item(), clipped / len(terms))


X, MASK = torch.zeros(2, 3), torch.ones(2, 3)
HALF, NOTHING, ROW_1_EMPTY = 0.5 * MASK, 0 * MASK, MASK * torch.tensor([[1], [0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gae(X, X, ROW_1_EMPTY), "row 1 of the mask selects no token"),
        (lambda: gae(X[:0], X[:0], MASK[:0]), r"batch is empty: mask has shape \(0, 3\)"),
        (lambda: gae(X, X, HALF), "only 0 and 1"),
        (lambda: gae(X, X[:1], MASK), r"values must have shape .* = \(2, 3\), got \(1, 3\)"),
        (lambda: gae(X, X, MASK[:, 1:]), r"mask must have shape .* = \(2, 3\), got \(2, 2\)"),
        (lambda: gae(X[0], X[0], MASK[0]), r"rewards must have shape \(B, T\), got \(3,\)"),
        (lambda: gae(X, X, MASK, gamma=1.1), r"gamma must lie in \[0, 1\], got 1.1"),
        (lambda: gae(X, X, MASK, lam=-0.1), r"lam must lie in \[0, 1\], got -0.1"),
        (lambda: gae(X, X, MASK, lam=NAN), r"lam must lie in \[0, 1\], got nan"),
        (lambda: returns_to_go(X, ROW_1_EMPTY), "row 1 of the mask selects no token"),
        (lambda: returns_to_go(X, MASK, -0.1), r"gamma must lie in \[0, 1\], got -0.1"),
        (lambda: response_logprobs(X, MASK, 1), r"logits must have shape \(B, P \+ T, V\)"),
        (lambda: response_logprobs(X[None], MASK.long(), 1), r"tokens .* \(1, 2\), got \(2, 3\)"),
        (
            lambda: response_logprobs(X[None], MASK[:1, 1:].long(), 2),
            r"must lie in 1..1 for 2 tokens",
        ),
        (
            lambda: response_logprobs(X[None], MASK[:1, 1:].long(), 0),
            "prompt_length must be a whole number >= 1, got 0",
        ),
        (lambda: policy_loss(X, X[:1], X, MASK), r"old_logprobs .* \(2, 3\), got \(1, 3\)"),
        (lambda: policy_loss(X, X, X[0], MASK), r"advantages .* \(2, 3\), got \(3,\)"),
        (lambda: policy_loss(X, X, X, MASK[:1]), r"mask .* \(2, 3\), got \(1, 3\)"),
        (lambda: policy_loss(X, X, X, NOTHING), "mask selects nothing"),
        (lambda: policy_loss(X, X, X, HALF), "only 0 and 1"),
        (lambda: policy_loss(X, X, X, MASK, clip=-0.2), "clip must be a finite number >= 0"),
        (lambda: policy_loss(X, X, X, MASK, clip=NAN), "clip must be a finite number >= 0"),
        (lambda: value_loss(X, X[:1], X, MASK), r"old_values .* \(2, 3\), got \(1, 3\)"),
        (lambda: value_loss(X, X, X[0], MASK), r"returns .* \(2, 3\), got \(3,\)"),
        (lambda: value_loss(X, X, X, MASK[:1]), r"mask .* \(2, 3\), got \(1, 3\)"),
        (lambda: value_loss(X, X, X, NOTHING), "mask selects nothing"),
        (lambda: value_loss(X, X, X, HALF), "only 0 and 1"),
        (lambda: value_loss(X, X, X, MASK, clip=INF), "clip must be a finite number >= 0"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
