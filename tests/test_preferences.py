"""Labelled pairs: all of them against a sample, and when a loss on them has a minimum."""

import math

import pytest
import torch
from golden import normal, random_logprobs
from torch.testing import assert_close

from rlhf_lab.preferences import (
    Comparisons,
    all_comparisons,
    has_minimum,
    preference_probabilities,
    sampled_comparisons,
)


def table(pairs, n):
    weights = torch.zeros(n, n, dtype=torch.float64)
    return weights.index_put((pairs.chosen, pairs.rejected), pairs.weights, accumulate=True)


@pytest.mark.parametrize(
    ("sharpness", "flipped"), [(1.0, 0.0), (3.0, 0.2), (None, 0.0), (None, 0.1)]
)
def test_a_large_sample_comes_out_as_all_pairs_do(sharpness, flipped):
    logprobs, r = random_logprobs(0, 4), normal(1, 4)
    settings = {"sharpness": sharpness, "flipped": flipped}
    exact = table(all_comparisons(logprobs, r, **settings), 4)
    g = torch.Generator().manual_seed(0)
    sample = table(sampled_comparisons(logprobs, r, 200_000, g, **settings), 4)
    assert exact.sum().item() == pytest.approx(1)
    assert (exact - sample).abs().max() < 0.005
    assert_close(exact + exact.T, 2 * logprobs.exp().outer(logprobs.exp()))


def test_probabilities_by_hand():
    p = preference_probabilities(torch.tensor([0.0, 2.0]), 0.5, 0.1)
    assert p[1, 0].item() == pytest.approx(0.9 / (1 + math.exp(-1)) + 0.1 / (1 + math.exp(1)))
    assert_close(p + p.T, torch.ones(2, 2).double())
    assert preference_probabilities(torch.tensor([0.0, 2.0, 2.0]), None).tolist() == [
        [0.5, 0, 0], [1, 0.5, 0.5], [1, 0.5, 0.5],
    ]  # fmt: skip


def test_what_is_never_drawn_is_never_compared():
    logprobs = torch.tensor([0.5, 0.0, 0.5]).log()
    pairs = all_comparisons(logprobs, torch.ones(3))
    assert 1 not in pairs.chosen
    assert 1 not in pairs.rejected


def test_same_generator_same_pairs():
    a, b = (
        sampled_comparisons(
            random_logprobs(0, 4), normal(1, 4), 50, torch.Generator().manual_seed(s)
        )
        for s in (3, 3)
    )
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def pairs_of(*wins):
    chosen, rejected = torch.tensor(wins).T
    return Comparisons(chosen, rejected, torch.full((len(wins),), 1 / len(wins)).double())


def test_when_there_is_a_minimum():
    circle, chain = pairs_of((0, 1), (1, 2), (2, 0)), pairs_of((0, 1), (1, 2), (0, 2))
    assert has_minimum(circle)
    assert not has_minimum(chain)
    assert has_minimum(chain, label_smoothing=0.1), "each label counts a little for the other side"
    assert has_minimum(chain, kind="ipo")
    assert not has_minimum(circle, kind="robust", label_smoothing=0.1)
    both = pairs_of((0, 1), (1, 0), (5, 6), (6, 5))
    assert has_minimum(both), "two sets that were never compared with each other"
    assert not has_minimum(pairs_of((0, 1), (1, 0), (5, 6)))
    assert has_minimum(both, kind="robust", label_smoothing=0.1)
    assert has_minimum(pairs_of((3, 3))), "a response beside itself says nothing"


GOOD = pairs_of((0, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_comparisons(random_logprobs(0, 2001), normal(0, 2001)), "2,000 are the most"),
        (lambda: all_comparisons(torch.ones(2), torch.ones(2)), "never above 0"),
        (lambda: preference_probabilities(torch.ones(2), 0.0), "sharpness must be finite and > 0"),
        (
            lambda: preference_probabilities(torch.ones(2), 1.0, 1.5),
            r"flipped must lie in \[0, 1\]",
        ),
        (
            lambda: has_minimum(GOOD._replace(weights=GOOD.weights.float())),
            "weights must be float64",
        ),
        (lambda: has_minimum(GOOD._replace(weights=2 * GOOD.weights)), "add up to 1"),
        (lambda: has_minimum(GOOD._replace(chosen=GOOD.weights)), "chosen must hold whole numbers"),
        (
            lambda: has_minimum(GOOD._replace(rejected=GOOD.chosen[:0])),
            r"rejected must have shape \(M,\)",
        ),
        (lambda: has_minimum(Comparisons(*(x[:0] for x in GOOD))), "pairs are empty"),
        (lambda: has_minimum(GOOD._replace(chosen=torch.tensor([-1]))), "names response -1"),
        (lambda: has_minimum((1, 2, 3)), "pairs must be a Comparisons, got tuple"),
    ],
)
def test_bad_pairs_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
