"""Mean updates of groups, against every group written out."""

import itertools

import pytest
import torch
from golden import normal, random_logprobs
from torch.testing import assert_close
from trees import close, random_language, shapes

from rlhf_lab import exact, gradients
from rlhf_lab.flow import curl
from rlhf_lab.group_updates import dead_share, expected_update, expected_weights
from rlhf_lab.groups import group_advantages, leave_one_out


def advantages(r, rule, eps=1e-4):
    return (
        leave_one_out(r, len(r))
        if rule == "leave_one_out"
        else group_advantages(r, len(r), scale=rule, eps=eps)
    )


def by_hand(logprobs, r, G, rule, how="sum", lengths=None, eps=1e-4):
    """w(y) from all N^G groups, with the functions that training uses."""
    N, p = len(r), logprobs.exp().tolist()
    weights = torch.zeros(N, dtype=torch.float64)
    for group in itertools.product(range(N), repeat=G):
        chance = 1.0
        for sibling in group[1:]:
            chance *= p[sibling]
        first = group[0]
        A = advantages(r[list(group)], rule, eps)[0]
        if how == "response":
            A = A / lengths[first]
        elif how == "batch":
            A = A / lengths[list(group)].mean()
        weights[first] += chance * A
    return weights


RULES = ("leave_one_out", "none", "group")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["sum", "response", "batch"])
@pytest.mark.parametrize(("G", "eps"), [(2, 1e-4), (3, 1e-4), (3, 0.0), (4, 0.1)])
def test_every_group_counted(rule, how, G, eps):
    """Two responses share a score, and two a length."""
    logprobs, r = random_logprobs(0, 5), torch.tensor([0.3, -1.2, 0.3, 2.0, 0.9]).double()
    lengths = torch.tensor([1.0, 2, 3, 3, 5]).double()
    got = expected_weights(logprobs, r, G, rule, how=how, lengths=lengths, eps=eps)
    wanted = by_hand(logprobs, r, G, rule, how, lengths, eps)
    assert_close(got, wanted, rtol=0, atol=1e-11)


def cat(tables):
    return torch.cat([table.flatten() for table in tables])


@shapes
@pytest.mark.parametrize("G", [2, 5])
def test_rloo_is_the_gradient_and_grpo_without_the_deviation_a_part_of_it(V, T, G):
    tree, ref, r = random_language(V, T)
    grad = cat(gradients.policy_gradient(tree, [0 * t for t in tree], exact.unflatten(r, V, T)))
    close(cat(expected_update(tree, r, G)), grad)
    close(cat(expected_update(tree, r, G, "none")), (G - 1) / G * grad)
    close(expected_weights(ref, r, G), G / (G - 1) * expected_weights(ref, r, G, "none"))


def test_the_deviation_makes_it_the_gradient_of_nothing():
    tree, _, r = random_language(3, 2)
    for G in (2, 3):
        assert curl(lambda p, G=G: expected_update(p, r, G), tree) < 1e-12
        assert curl(lambda p, G=G: expected_update(p, r, G, "group"), tree) > 0.05
    grad = cat(gradients.policy_gradient(tree, [0 * t for t in tree], exact.unflatten(r, 3, 2)))
    cosine = torch.cosine_similarity(cat(expected_update(tree, r, 2, "group")), grad, dim=0)
    assert 0.5 < cosine < 0.999


def test_for_rewards_0_and_1_it_is_a_gradient_again():
    tree, _, r = random_language(3, 3)
    r = (r > 0).double()
    grad = cat(gradients.policy_gradient(tree, [0 * t for t in tree], exact.unflatten(r, 3, 3)))
    got = cat(expected_update(tree, r, 6, "group"))
    assert torch.cosine_similarity(got, grad, dim=0) == pytest.approx(1, abs=1e-12)
    assert curl(lambda p: expected_update(p, r, 6, "group"), tree) < 1e-12


def test_rounding_makes_no_signal_where_all_scores_are_equal():
    logprobs = random_logprobs(0, 4)
    for eps, G, value in itertools.product((0.0, 1e-4), range(2, 9), (0.1, 0.7, 1e6 / 3)):
        scores = torch.full((4,), value).double()
        assert not expected_weights(logprobs, scores, G, "group", eps=eps).any()


def test_a_rare_score_far_off_costs_no_digits():
    logprobs = torch.tensor([0.6, 0.399, 0.001]).double().log()
    r = torch.tensor([7.0, 7.05, -1e5]).double()
    got = expected_weights(logprobs, r, 3, "group", eps=0.0)
    assert_close(got, by_hand(logprobs, r, 3, "group", eps=0.0), rtol=0, atol=1e-9)


def test_kl_in_the_reward_over_the_deviation_cancels_eta():
    """All scores tie, so that only −η·k1 is left: its size is divided out."""
    logprobs, ref = random_logprobs(0, 4), random_logprobs(1, 4)
    small, large = (
        expected_weights(logprobs, -eta * (logprobs - ref), 3, "group", eps=1e-9)
        for eta in (0.001, 10.0)
    )
    assert_close(small, large, rtol=1e-4, atol=0)


@pytest.mark.parametrize("G", [2, 4])
def test_dead_groups(G):
    logprobs, r = random_logprobs(0, 4), torch.tensor([1.0, 0.0, 1.0, 3.0]).double()
    p = logprobs.exp().tolist()
    share = 0.0
    for group in itertools.product(range(4), repeat=G):
        if len({r[i].item() for i in group}) == 1:
            share += torch.tensor([p[i] for i in group]).double().prod().item()
    assert dead_share(logprobs, r, G).item() == pytest.approx(share)


def test_of_a_large_language_only_the_closed_forms_are_computed():
    logprobs, r = random_logprobs(0, 100_000), normal(1, 100_000)
    assert_close(expected_weights(logprobs, r, 8), r - logprobs.exp() @ r)
    with pytest.raises(ValueError, match=r"100000 kinds .*, and 7 siblings .*; round scores"):
        expected_weights(logprobs, r, 8, "group")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 1}, "group_size must be a whole number in 2..10000, got 1"),
        ({"logprobs": torch.tensor([-1.0, -1.0])}, "add up to 1, not to 0.73"),
        ({"scores": torch.ones(3)}, r"scores must have shape \(N,\) = \(2,\)"),
        ({"how": "batch"}, 'lengths are needed for how = "batch"'),
        ({"how": "response", "lengths": torch.tensor([1.0, 0.0])}, "at least 1, got 0 at row 1"),
        ({"rule": "batch"}, "rule must be one of .*, got 'batch'"),
    ],
)
def test_bad_calls_are_refused_in_words(change, message):
    given = {"logprobs": torch.tensor([0.5, 0.5]).log(), "scores": torch.ones(2), "group_size": 2}
    with pytest.raises(ValueError, match=message):
        expected_weights(**given | change)
