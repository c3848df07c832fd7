"""Notebook 05's helpers against direct computations on a tree small enough to loop over."""

import math

import pytest
import torch
from trees import random_tree

from rlhf_lab import exact, load_world, plots
from rlhf_lab.kl import k1, k3
from rlhf_lab.lessons import measuring_kl as lesson

V, T = 4, 3


@pytest.fixture(scope="module")
def pair():
    return random_tree(1, V, T), random_tree(7, V, T)


def by_hand(policy, ref, estimator):
    """For each response, in a loop: its probability and the sum over its tokens."""
    rows = []
    for tokens in exact.enumerate_responses(V, T).tolist():
        prefix, p, total = 0, 1.0, 0.0
        for t, token in enumerate(tokens):
            p *= policy[t][prefix, token].exp().item()
            total += estimator(policy[t][prefix, token], ref[t][prefix, token]).item()
            if token == 0:
                break
            prefix = prefix * (V - 1) + token - 1
        rows.append((p, total))
    return rows


def test_spread_is_mean_and_standard_deviation_over_all_responses(pair):
    for estimator in (k1, k3):
        rows = by_hand(*pair, estimator)
        mean = sum(p * x for p, x in rows)
        std = math.sqrt(sum(p * (x - mean) ** 2 for p, x in rows))
        got = lesson.spread(pair[0], lesson.along(*pair, estimator))
        assert got == pytest.approx((mean, std), rel=1e-12)


def test_draws_follow_the_policy(pair):
    policy = pair[0]
    chosen = lesson.draw(policy, 100_000, torch.Generator().manual_seed(0))
    p = exact.sequence_logprobs(policy).exp()
    frequency = torch.bincount(chosen, minlength=len(p)).double() / len(chosen)
    # Each frequency within five standard errors: a false alarm once in 40,000 seeds.
    assert ((frequency - p).abs() <= 5 * (p * (1 - p) / len(chosen)).sqrt()).all()


def test_temperature_and_forbidden_end_change_what_is_sampled(pair):
    policy = pair[0]
    hot = lesson.tempered(policy, 2.0)
    torch.testing.assert_close(hot[1].exp(), (policy[1].exp().sqrt() / policy[1].exp().sqrt()
                                              .sum(1, keepdim=True)))  # fmt: skip
    longer = lesson.without_end(policy, 2)
    assert longer[0][:, 0].exp().item() == longer[1][:, 0].exp().max().item() == 0
    assert torch.equal(longer[2], policy[2])
    torch.testing.assert_close(longer[0].exp().sum(), torch.tensor(1.0).double())


def test_a_sample_at_temperature_1_agrees_with_the_exact_mean():
    tables = load_world().tables("food")
    drawn = lesson.sampled(tables, eta=1.0, n=4000, temperature=1.0)
    for name, x in drawn.values.items():
        policy = lesson.policy_at(tables, 1.0)
        mean, std = lesson.spread(
            policy, lesson.along(policy, tables.tree, lesson.ESTIMATORS[name])
        )
        assert abs(x.mean().item() - mean) < 5 * std / math.sqrt(4000)
    assert drawn.true_kl == pytest.approx(
        exact.evaluate(
            exact.optimum(tables.ref_logprobs, tables.scores, 1.0).logprobs, *tables[1:]
        ).kl.item()
    )
    assert f"True KL(π ‖ π_SFT) {drawn.true_kl:.2f} nats" in lesson.said(drawn)
    assert len(lesson.strips_figure({"a": drawn, "b": drawn}).axes) == 2
    figure, words = lesson.sample_knob(tables)(eta=1.0, n=4000.0, temperature=1.0, batch=0.0)
    assert (len(figure.axes), words) == (1, lesson.said(drawn))


def test_the_figure_to_remember_shows_every_estimator():
    tables = load_world().tables("food")
    rows = lesson.bias_and_spread(tables, (1.0, 0.1), n=64, seed=0)
    assert list(rows) == ["k1", "k2", "k3"]
    assert rows["k1"][0][0] < rows["k1"][1][0]  # a smaller η goes further
    assert rows["k3"][1][1].std > 1e4 * rows["k1"][1][1].std
    figure = lesson.bias_and_spread_figure(rows)
    assert plots.png(figure)
    assert all(len(ax.lines) >= 3 for ax in figure.axes)


def test_a_batch_follows_a_table_that_was_changed():
    tables = load_world().tables("food")
    mine = tables._replace(scores=tables.scores.clone())
    before = lesson.sampled(mine, eta=1.0, n=10, temperature=1.0)
    mine.scores.neg_()
    after = lesson.sampled(mine, eta=1.0, n=10, temperature=1.0)
    other_seed = lesson.sampled(mine, eta=1.0, n=10, temperature=1.0, seed=1)
    assert before.true_kl != after.true_kl == other_seed.true_kl
    assert not torch.equal(after.values["k1"], other_seed.values["k1"])


def test_only_the_honest_one_of_three_logs_has_a_mean_ratio_of_1():
    logs = lesson.three_logs(load_world().tables("food"))
    k1 = {name: sum(x for x, _ in batches) / 5 for name, batches in logs.items()}
    assert all(abs(ratio - 1) < 0.05 for _, ratio in logs["A"])
    assert min(logs["A"])[0] < 0
    assert all(ratio > 1.5 for _, ratio in logs["B"])
    assert k1["B"] < -0.1
    assert all(ratio < 0.9 for _, ratio in logs["C"])
    assert k1["C"] > 0.4


def test_each_strip_has_its_own_limits():
    drawn = lesson.sampled(load_world().tables("food"), eta=1.0, n=16, temperature=1.0)
    figure = lesson.strips_figure({"a": drawn, "b": drawn}, limits=((-1, 1.5), (-3, 8)))
    assert [tuple(round(x, 2) for x in ax.get_xlim()) for ax in figure.axes] == [
        (-1.07, 1.57), (-3.31, 8.31),
    ]  # fmt: skip
