"""The four penalties: their values by enumeration, and what each does to a policy."""

import math

import pytest
import torch
from golden import property_test, random_logprobs, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close
from trees import random_tree

from rlhf_lab.exact import sequence_logprobs
from rlhf_lab.gradients import kl_loss_gradient
from rlhf_lab.kl import (
    exact_kl,
    k1,
    k2,
    k3,
    kl_loss,
    kl_penalty,
    mean_inverse_ratio,
    response_kl,
)

ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3, "abs": lambda a, b: kl_penalty(a, b, "abs")}
P, Q = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]], dtype=torch.float64)


def kl(policy, ref):
    """KL(policy ‖ ref) by torch's own distributions: the second route."""
    return kl_divergence(Categorical(logits=policy), Categorical(logits=ref))


def grad(value, logits):
    """∇ value; zeros where the value does not depend on the logits."""
    return torch.autograd.grad(value, logits, retain_graph=True, materialize_grads=True)[0]


def mean_of(estimator, policy, ref):
    """E over a ~ policy, each action counted with its probability."""
    return (policy.exp() * estimator(policy, ref)).sum()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("kl", [[0.1, -0.1, 0.1], [-0.1, 0.1, -0.2]]),
        ("abs", [[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]]),
        ("mse", [[0.005, 0.005, 0.005], [0.005, 0.005, 0.02]]),
    ],
)
def test_numbers_of_trl_kl_penalty(mode, expected):
    """tests/test_ppo_trainer.py, test_ppo_trainer_kl_penalty, TRL 0.7.11 and 0.11.4."""
    logprob = torch.tensor([[0.5, 0.2, 0.1], [0.6, 0.2, 0.1]])
    ref_logprob = torch.tensor([[0.4, 0.3, 0.0], [0.7, 0.1, 0.3]])
    assert_close(kl_penalty(logprob, ref_logprob, mode), torch.tensor(expected))


def test_numbers_of_trl_full_kl_penalty():
    """tests/test_ppo_trainer.py, test_ppo_trainer_full_kl_penalty; 4.4474 is 0.97·ln 98."""
    p = torch.tensor([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01]]).log()
    q = torch.tensor([[0.01, 0.01, 0.98], [0.01, 0.01, 0.98]]).log()
    assert_close(kl_penalty(p, q, "full"), torch.full((2,), 0.97 * math.log(98)))
    p = torch.tensor([[0.49, 0.02, 0.49], [0.49, 0.02, 0.49]]).log()
    q = torch.tensor([[0.01, 0.98, 0.01], [0.49, 0.02, 0.49]]).log()
    assert_close(kl_penalty(p, q, "full"), torch.tensor([3.7361, 0.0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", 0.20078), ("k2", 0.18640), ("k3", 0.20078), ("abs", 0.58269)],
)
def test_means_worked_by_hand(estimator, expected):
    """π = (.7, .2, .1), π_ref = (.4, .3, .3): abs is not on the scale of a KL."""
    mean = mean_of(ESTIMATORS[estimator], P.log(), Q.log()).item()
    assert math.isclose(mean, expected, abs_tol=5e-6)


@property_test
@given(seeds)
def test_k1_k3_and_exact_have_the_kl_of_policy_from_reference_as_mean(seed):
    """The ratio upside down, or a flipped sign, gives another mean and looks fine near d = 0."""
    policy, ref = random_logprobs(seed, 2, 7)
    truth = kl(policy, ref)
    assert_close(mean_of(k1, policy, ref), truth)
    assert_close(mean_of(k3, policy, ref), truth)
    assert_close(exact_kl(policy, ref), truth)
    assert mean_of(ESTIMATORS["abs"], policy, ref) >= truth
    upside_down = mean_of(k3, policy, ref) - mean_of(lambda a, b: k3(b, a), policy, ref)
    chi2 = ((policy.exp() - ref.exp()).square() / ref.exp()).sum()
    assert_close(upside_down, 2 * truth - chi2)


@property_test
@given(seeds)
def test_kl_is_positive_and_zero_only_at_home(seed):
    policies = random_logprobs(seed, 3, 4, 5)  # any leading shape
    assert exact_kl(policies, policies.roll(1, 0)).shape == (3, 4)
    assert (exact_kl(policies, policies.roll(1, 0)) > 0).all()
    assert (exact_kl(policies, policies) == 0).all()


@property_test
@given(st.floats(-30, 30), st.floats(-30, 0))
def test_signs_of_the_estimators_of_one_token(d, ref):
    d, ref = (torch.tensor(x, dtype=torch.float64) for x in (d, ref))
    assert_close(k1(ref + d, ref), d)
    assert k2(ref + d, ref) >= 0
    assert k3(ref + d, ref) >= 0
    assert_close(k3(ref + d, ref), (-d).exp() - 1 + d, rtol=1e-9, atol=1e-12)


def test_bias_of_k2_is_of_third_order():
    """Halve the distance, and what k2 is off by falls to an eighth, while KL falls to a quarter."""
    ref = random_logprobs(0, 7)
    policies = [(ref + step * random_logprobs(1, 7)).log_softmax(-1) for step in (0.002, 0.001)]
    far, near = (mean_of(k2, p, ref) - kl(p, ref) for p in policies)
    assert 7.9 < far / near < 8.1
    assert 3.9 < kl(policies[0], ref) / kl(policies[1], ref) < 4.1


def test_k3_keeps_its_digits_next_to_the_reference():
    """exp(−d) − 1 + d in float32 is noise below d = 1e-3; expm1 is not."""
    d = torch.tensor([1e-2, 1e-3, 1e-4])
    assert_close(k3(d, torch.zeros(3)), d.square() / 2, rtol=5e-3, atol=1e-11)


@pytest.mark.parametrize("mode", ["kl", "abs", "mse", "full"])
def test_modes_are_the_functions_of_the_table(mode):
    function = {"kl": k1, "abs": lambda a, b: k1(a, b).abs(), "mse": k2, "full": exact_kl}[mode]
    policy, ref = random_logprobs(3, 2, 4, 5)
    assert torch.equal(kl_penalty(policy, ref, mode), function(policy, ref))
    assert torch.equal(kl_penalty(policy, ref), k1(policy, ref))


KL, REVERSE, ZERO = "∇KL(π ‖ π_ref)", "∇KL(π_ref ‖ π)", "0"


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("k1", "loss", {ZERO: 1}),
        ("k2", "loss", {KL: 1}),
        ("k3", "loss", {REVERSE: 1}),
        ("k1", "reward", {KL: 1}),
        ("k3", "reward", {KL: 1, REVERSE: -1}),
        ("full", "reward", {ZERO: 1}),
        ("full", "loss", {KL: 1}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_mean_gradient_on_one_state(name, side, expected, seed):
    """A good estimator of a value may be a bad force, and the place decides which force.

    As a loss the penalty is differentiated and the sampling is not; as a reward the penalty is a
    number and log π is differentiated. All 6 actions are enumerated, nothing is sampled.
    """
    logits = random_logprobs(seed, 6).requires_grad_()
    policy, ref = logits.log_softmax(-1), random_logprobs(seed + 50, 6)
    full = exact_kl(policy, ref).expand(6)
    penalty = full if name == "full" else ESTIMATORS[name](policy, ref)
    forces = {KL: grad(kl(policy, ref), logits), REVERSE: grad(kl(ref, policy), logits), ZERO: 0}

    if side == "loss":
        force = grad((policy.exp().detach() * penalty).sum(), logits)
    else:
        force = grad((policy.exp().detach() * policy * penalty.detach()).sum(), logits)

    wanted = sum(weight * forces[divergence] for divergence, weight in expected.items())
    assert_close(force, wanted + torch.zeros(6).double(), rtol=1e-10, atol=1e-12)


def test_a_forbidden_token_adds_nothing_to_value_or_gradient():
    """0·log 0: with top-k filtering F.kl_div answers NaN, here the other tokens decide."""
    logits = torch.tensor([0.3, -torch.inf, 1.0, -0.2], dtype=torch.float64, requires_grad=True)
    ref, allowed = random_logprobs(0, 4), torch.tensor([0, 2, 3])
    policy = logits.log_softmax(-1)

    value = exact_kl(policy, ref)

    assert_close(value, (policy.exp() * (policy - ref))[allowed].sum())
    rest = logits.detach()[allowed].requires_grad_()
    smaller = grad(exact_kl(rest.log_softmax(-1), ref[allowed]), rest)
    assert_close(grad(value, logits)[allowed], smaller)
    assert grad(value, logits)[1] == 0
    both = ref.masked_fill(torch.tensor([False, True, False, False]), -torch.inf)
    assert_close(exact_kl(policy, both), value)


def test_exact_kl_passes_gradcheck_beside_a_forbidden_token():
    ref, forbidden = random_logprobs(1, 2, 5), torch.full((2, 1), -torch.inf).double()

    def value(logits):
        return exact_kl(torch.cat([logits, forbidden], dim=1).log_softmax(-1), ref)

    assert torch.autograd.gradcheck(value, random_logprobs(2, 2, 4).requires_grad_())


def test_what_the_reference_forbids_costs_infinitely_much():
    sure = torch.tensor([1.0, 0.0, 0.0]).double().log()
    assert exact_kl(P.log(), sure) == torch.inf
    assert exact_kl(sure, P.log()) == -P[0].log()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: kl_penalty(x, x[:1]), r"ref_logprob must .* = \(2, 3\), got \(1, 3\)"),
        (lambda x: kl_penalty(x, x[..., None], "full"), r"= \(2, 3\), got \(2, 3, 1\)"),
        (lambda x: kl_penalty(x, x, "k3"), r"one of \('kl', 'abs', 'mse', 'full'\), got 'k3'"),
        (lambda x: kl_penalty(x, x, None), "got None"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3))


@pytest.mark.parametrize("function", [response_kl, mean_inverse_ratio, kl_loss])
def test_a_reference_that_would_broadcast_is_refused(function):
    logprobs = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"ref_logprobs must .* = \(2, 3\), got \(3,\)"):
        function(logprobs, logprobs[0], torch.ones(2, 3))


def two_responses():
    """Two right-padded rows with garbage off the mask: log π, log π_ref, mask."""
    logprobs = torch.tensor([[-1.0, -2.5, -0.5], [-0.2, 9.0, torch.nan]], dtype=torch.float64)
    ref = torch.tensor([[-2.0, -1.0, -0.9], [-1.4, 5.0, 1.0]], dtype=torch.float64)
    return logprobs, ref, torch.tensor([[1, 1, 1], [1, 0, 0]])


def test_response_kl_is_a_sum_over_the_mask():
    """Worked by hand: 1 − 1.5 + 0.4, and 1.2; a mean would divide the first by 3."""
    expected = torch.tensor([-0.1, 1.2], dtype=torch.float64)
    assert_close(response_kl(*two_responses()), expected)
    assert_close(mean_inverse_ratio(*two_responses()), (-expected).exp().mean())


@property_test
@given(seeds)
def test_the_mean_inverse_ratio_is_1_where_samples_come_from_the_policy(seed):
    """One token, each action as a response: weights π give Σ π_ref = 1, weights q do not."""
    policy, ref, other = random_logprobs(seed, 3, 6)
    ratios = [
        mean_inverse_ratio(p.view(1, 1), r.view(1, 1), torch.ones(1, 1))
        for p, r in zip(policy, ref, strict=True)
    ]
    assert_close(policy.exp() @ torch.stack(ratios), torch.tensor(1.0).double())
    assert_close(other.exp() @ torch.stack(ratios), (other + ref - policy).exp().sum())


def test_kl_loss_pulls_as_the_kl_at_visited_prefixes():
    """All responses of a small tree, each counted with its probability: the mean over a batch."""
    policy, ref = random_tree(1, 4, 3), random_tree(7, 4, 3)
    p, logits = sequence_logprobs(policy).exp(), [t.clone().requires_grad_() for t in policy]
    tables = [t.log_softmax(1) for t in logits]
    penalty = sequence_logprobs([k2(a, b) for a, b in zip(tables, ref, strict=True)])
    force = torch.autograd.grad(p @ penalty, logits)
    for ours, exactly in zip(force, kl_loss_gradient(policy, ref, "full"), strict=True):
        assert_close(ours, exactly)
    d = [k1(*x) for x in zip(policy, ref, strict=True)]
    rows = torch.stack([d[0][0, 1], d[1][0, 2], d[2][1, 0]]).view(1, 3)
    assert_close(kl_loss(rows, torch.zeros(1, 3), torch.tensor([[1, 1, 0]])),
                 0.5 * rows[0, :2].square().sum())  # fmt: skip


def test_padding_gets_no_gradient():
    logprobs, ref, mask = two_responses()
    logprobs.requires_grad_()
    kl_loss(logprobs, ref, mask).backward()
    assert_close(logprobs.grad, torch.tensor([[1, -1.5, 0.4], [1.2, 0, 0]]).double() / 2)
