"""Exact flows: where they end, and which fields are gradients."""

import math

import pytest
import torch
from trees import close, random_language, random_tree, shapes

from rlhf_lab import exact, gradients
from rlhf_lab.flow import curl, natural_step
from rlhf_lab.world import load_world


def follow(tree, scores, eta, leash, rate, steps):
    policy = tree
    for _ in range(steps):
        policy = natural_step(policy, tree, scores, eta, leash, rate=rate)
    return exact.sequence_logprobs(policy)


@shapes
@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_each_flow_ends_at_its_own_rest_point(V, T, eta):
    tree, ref, r = random_language(V, T)
    scores = exact.unflatten(r, V, T)
    rest = exact.loss_kl_fixed_point(tree, scores, eta).logprobs
    for leash, end in (
        ("reward", exact.optimum(ref, r, eta).logprobs),
        ("loss", exact.sequence_logprobs(rest)),
    ):
        for rate in (0.3 / eta, 1 / eta):
            close(follow(tree, scores, eta, leash, rate, 150), end, 1e-9)
        assert (
            T == 1
            or (end.exp() - follow(tree, scores, eta, leash, 0.3, 1).exp()).abs().max() > 0.01
        )


def test_a_step_is_the_gradient_without_the_weight_of_being_visited():
    tree, policy = random_tree(7, 3, 3), random_tree(1, 3, 3)
    _, _, r = random_language(3, 3)
    scores, eta, rate = exact.unflatten(r, 3, 3), 0.4, 1e-6
    k1 = [-eta * (a - b) for a, b in zip(policy, tree, strict=True)]
    field = gradients.policy_gradient(policy, k1, scores)
    moved = natural_step(policy, tree, scores, eta, rate=rate)
    for x, y, g, d in zip(policy, moved, field, gradients.visitation(policy), strict=True):
        wanted = g / (d.unsqueeze(1) * x.exp())
        close((y - x) / rate, wanted, 1e-4)


def test_without_a_leash_it_goes_to_the_best_response():
    tree, _, r = random_language(3, 2)
    for leash in ("reward", "loss"):
        end = follow(tree, exact.unflatten(r, 3, 2), 0.0, leash, 5.0, 400)
        assert end.argmax() == r.argmax()
        assert end.exp().max() > 0.99


def test_what_is_impossible_stays_impossible():
    tree, _, r = random_language(3, 2)
    tree[0][0, 2] = -math.inf
    tree = [table.log_softmax(1) for table in tree]
    scores = exact.unflatten(r, 3, 2)
    for leash in ("reward", "loss"):
        end = follow(tree, scores, 0.3, leash, 1.0, 100)
        assert end.exp().sum().item() == pytest.approx(1)
        assert (end.exp()[exact.enumerate_responses(3, 2)[:, 0] == 2] == 0).all()


def test_the_two_flows_of_review_world_part():
    """From π_ref at η = 0.13: one keeps gold up, the other loses it within 60 steps."""
    tables = load_world().tables("food")
    scores, gold = exact.unflatten(tables.scores, 14, 5), {}
    for leash in ("reward", "loss"):
        end = follow(tables.tree, scores, 0.13, leash, 1.0, 60)
        gold[leash] = round((end.exp() @ tables.golds).item(), 2)
    assert gold == {"reward": 2.24, "loss": -1.80}


def test_the_field_of_kl_in_the_loss_is_no_gradient():
    policy, ref = random_tree(1, 3, 3), random_tree(7, 3, 3)
    for mode in ("mse", "k3"):
        assert curl(lambda p, mode=mode: gradients.kl_loss_gradient(p, ref, mode), policy) > 0.1
    assert curl(lambda p: gradients.kl_reward_gradient(p, ref, "kl"), policy) < 1e-12
    one = random_tree(1, 5, 1), random_tree(7, 5, 1)
    assert curl(lambda p: gradients.kl_loss_gradient(p, one[1], "mse"), one[0]) < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": -1}, "eta must be a finite number >= 0"),
        ({"rate": 0}, "rate must be finite and > 0"),
        ({"leash": "k3"}, "leash must be one of .*, got 'k3'"),
        ({"scores": [torch.zeros(1, 3)]}, "scores must be tables of shapes"),
    ],
)
def test_bad_steps_are_refused_in_words(change, message):
    tree = [torch.zeros(1, 2).log_softmax(1)]
    given = {"logprobs": tree, "ref_logprobs": tree, "scores": [torch.zeros(1, 2)], "eta": 0.1}
    with pytest.raises(ValueError, match=message):
        natural_step(**given | change)
