"""Counting what a sample says, against plain Python counting and full enumeration."""

import itertools
import math
from collections import Counter

import pytest
import torch
from golden import masks, property_test, random_logprobs, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.collapse import (
    count_responses,
    distinct_n,
    effective_responses,
    expected_distinct,
    top_share,
)
from rlhf_lab.entropies import entropy

NAN, INF = float("nan"), float("inf")


def random_tokens(seed: int, *shape: int) -> torch.Tensor:
    """Ids from a vocabulary of three, so that repetitions are common."""
    return torch.randint(3, shape, generator=torch.Generator().manual_seed(seed))


@property_test
@given(masks(max_rows=12, max_tokens=3), seeds, st.integers(0, 9))
def test_counts_are_those_of_a_counter(mask, seed, junk):
    """Padding may not tell responses apart; a mask of another shape does."""
    tokens = random_tokens(seed, *mask.shape).masked_fill(~mask, junk)
    texts = [tuple(row) for row in tokens.masked_fill(~mask, -1).tolist()]
    expected = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))

    unique, counts = count_responses(tokens, mask)

    assert [tuple(row) for row in unique.tolist()] == [text for text, _ in expected]
    assert counts.tolist() == [count for _, count in expected]
    assert top_share(tokens, mask) == expected[0][1] / len(texts)


@property_test
@given(masks(max_rows=12, max_tokens=3), seeds)
def test_the_order_of_the_sample_does_not_matter(mask, seed):
    tokens = random_tokens(seed, *mask.shape)
    for first, second in zip(
        count_responses(tokens, mask), count_responses(tokens.flip(0), mask.flip(0)), strict=True
    ):
        assert torch.equal(first, second)


def test_total_collapse_and_total_diversity():
    same, other = torch.tensor([[4, 2]]).expand(8, 2), torch.arange(16).view(8, 2)
    mask = torch.ones(8, 2)
    assert top_share(same, mask) == 1
    assert top_share(other, mask) == 1 / 8
    assert (distinct_n(same, mask, 1), distinct_n(same, mask, 2)) == (2 / 16, 1 / 8)
    assert (distinct_n(other, mask, 1), distinct_n(other, mask, 2)) == (1, 1)


@property_test
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), seeds, st.sampled_from([1, 2, 3]))
def test_distinct_n_equals_counting_in_lists(lengths, seed, n):
    """An n-gram that reaches into the padding is not an n-gram of the policy."""
    tokens, mask = random_tokens(seed, len(lengths), 5), torch.arange(5) < torch.tensor([lengths]).T
    rows = [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
    grams = [tuple(row[t : t + n]) for row in rows for t in range(len(row) - n + 1)]
    if grams:
        assert distinct_n(tokens, mask, n) == len(set(grams)) / len(grams)
    else:
        with pytest.raises(ValueError, match=f"no response is {n} tokens long"):
            distinct_n(tokens, mask, n)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_effective_responses_counts_equally_likely_ones(n):
    assert math.isclose(effective_responses(entropy(torch.zeros(n).double()).item()), n)


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_expected_distinct_equals_enumerating_every_sample(samples):
    logprobs = random_logprobs(0, 4)
    expected = 0.0
    for draws in itertools.product(range(4), repeat=samples):
        expected += logprobs[list(draws)].sum().exp().item() * len(set(draws))
    assert math.isclose(expected_distinct(logprobs, samples), expected, rel_tol=1e-12)


def test_expected_distinct_at_its_limits():
    """(1 − π)^n in float32 is 1 for rare responses, and loses all of them."""
    certain = torch.tensor([1.0, 0.0, 0.0]).log()
    assert expected_distinct(certain, 100) == 1
    rare = torch.full((10**4,), 1e-10).double().log()
    rare[0] = math.log1p(-(10**4 - 1) * 1e-10)
    for logprobs in (rare, rare.float()):
        assert_close(expected_distinct(logprobs, 10) - 1, 9999e-9, rtol=0.2, atol=0)
    assert_close(expected_distinct(torch.zeros(50).log_softmax(-1), 10**6), 50.0)


IDS, MASK = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count_responses(IDS[0], MASK[0]), r"responses must have shape \(N, T\), got \(3"),
        (lambda: count_responses(IDS, MASK[:1]), r"mask must have shape .*\(2, 3\), got \(1, 3\)"),
        (lambda: count_responses(IDS, 0.5 * MASK), "only 0 and 1"),
        (lambda: count_responses(IDS[:0], MASK[:0]), "not empty"),
        (lambda: top_share(IDS, MASK * torch.tensor([[1], [0]])), "row 1 of the mask selects no"),
        (lambda: top_share(IDS[:0], MASK[:0]), "not empty"),
        (lambda: distinct_n(IDS, MASK, 0), "n must be a whole number >= 1, got 0"),
        (lambda: distinct_n(IDS, MASK, 4), r"n must lie in 1\.\.3, got 4"),
        (lambda: distinct_n(IDS, 0 * MASK, 1), "no response is 1 tokens long"),
        (lambda: distinct_n(IDS, MASK[:1], 1), r"mask must have shape .*\(2, 3\), got \(1, 3\)"),
        (lambda: distinct_n(IDS[0], MASK[0], 1), r"responses must have shape \(N, T\), got \(3"),
        (
            lambda: expected_distinct(torch.zeros(1), 0),
            "samples must be a whole number >= 1, got 0",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
