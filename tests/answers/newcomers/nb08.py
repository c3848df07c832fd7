# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 08."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- top_share
def top_share__first_count(responses, mask):
    """Share of the most frequent response: tokens (N, T), mask (N, T) -> a number."""
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts[0].item() / counts.sum().item()


def top_share__argmax(responses, mask):
    """Share of the most frequent response: tokens (N, T), mask (N, T) -> a number."""
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.argmax().item() / counts.sum().item()


def top_share__mode(responses, mask):
    """Share of the most frequent response: tokens (N, T), mask (N, T) -> a number."""
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.mode().values.item() / counts.sum().item()


def top_share__max_of_list(responses, mask):
    """Share of the most frequent response: tokens (N, T), mask (N, T) -> a number."""
    said = responses.masked_fill(~mask.bool(), -100)
    counts = said.unique(dim=0, return_counts=True)[1]
    return max(counts.tolist()) / counts.sum().item()


# ---------------------------------------------------------------- distinct_n
def distinct_n__any(responses, mask, n):
    """Different n-grams over all n-grams on the mask, between 0 and 1."""
    grams = responses.unfold(1, n, 1)
    ok = mask.bool().unfold(1, n, 1).any(dim=2)
    grams = grams[ok]
    return len(grams.unique(dim=0)) / len(grams)


def distinct_n__mean_over_reviews(responses, mask, n):
    """Different n-grams over all n-grams on the mask, between 0 and 1."""
    shares = []
    for row, m in zip(responses, mask):
        words = row[m.bool()].tolist()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            shares.append(len(set(grams)) / len(grams))
    return sum(shares) / len(shares)


def distinct_n__over_tokens(responses, mask, n):
    """Different n-grams over all n-grams on the mask, between 0 and 1."""
    grams = responses.unfold(1, n, 1)[mask.bool().unfold(1, n, 1).all(dim=-1)]
    return len(grams.unique(dim=0)) / mask.sum().item()


def distinct_n__sets(responses, mask, n):
    """Different n-grams over all n-grams on the mask, between 0 and 1."""
    seen, total = set(), 0
    for row, m in zip(responses.tolist(), mask.tolist()):
        words = [w for w, keep in zip(row, m) if keep]
        for i in range(len(words) - n + 1):
            seen.add(tuple(words[i : i + n]))
            total += 1
    return len(seen) / total


ANSWERS = [
    ("top_share", "wrong", top_share__first_count,
     "unique sorts by the tokens and not by frequency, so the first count belongs to any review: take the largest."),
    ("top_share", "wrong", top_share__argmax,
     "argmax is where the largest count stands and not how large it is."),
    ("top_share", "wrong", top_share__mode,
     "mode gives the count that occurs most often among the counts; wanted is the largest count."),
    ("top_share", "right", top_share__max_of_list, "a Python max over the list"),
    ("distinct_n", "wrong", distinct_n__any,
     "With any, windows that run into the padding count too; all n tokens must be on the mask."),
    ("distinct_n", "wrong", distinct_n__mean_over_reviews,
     "Each review is counted on its own, so a phrase repeated in every review is never noticed: count over the whole sample."),
    ("distinct_n", "wrong", distinct_n__over_tokens,
     "It is divided by the number of tokens and not by the number of n-grams, which are fewer for n > 1."),
    ("distinct_n", "right", distinct_n__sets, "Python sets and tuples"),
]
