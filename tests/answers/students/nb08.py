# fmt: off
# ruff: noqa
"""Students' answers, notebook 08."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

# ---------------------------------------------------------------- top_share


def top_share__filled_with_a_word(responses, mask):
    said = responses * mask
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.max().item() / counts.sum().item()


def top_share__first_count(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts[0].item() / counts.sum().item()


def top_share__over_the_different(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.max().item() / len(counts)


def top_share__no_mask(responses, mask):
    _, counts = responses.unique(dim=0, return_counts=True)
    return counts.max().item() / len(responses)


def top_share__tokens(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(return_counts=True)[1]
    return counts.max().item() / counts.sum().item()


def top_share__mask_turned(responses, mask):
    said = responses.masked_fill(mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.max().item() / counts.sum().item()


def top_share__mode_of_each_column(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    favourite = said.mode(dim=0).values
    return (said == favourite).all(dim=1).float().mean().item()


def top_share__different_and_no_mask(responses, mask):
    counts = responses.unique(dim=0, return_counts=True)[1]
    return len(counts) / counts.sum().item()


def top_share__counter_right(responses, mask):
    reviews = [tuple(row[m.bool()].tolist()) for row, m in zip(responses, mask)]
    return Counter(reviews).most_common(1)[0][1] / len(reviews)


def top_share__pairs_right(responses, mask):
    said = torch.where(mask.bool(), responses, -7)
    same = (said[:, None] == said[None, :]).all(dim=-1)  # (N, N)
    return same.double().mean(dim=1).max().item()


# ---------------------------------------------------------------- distinct_n


def distinct_n__across_reviews(responses, mask, n):
    words = responses[mask.bool()]  # all words, one after the other
    windows = words.unfold(0, n, 1)
    return len(windows.unique(dim=0)) / len(windows)


def distinct_n__over_all_windows(responses, mask, n):
    windows = responses.unfold(1, n, 1)
    inside = mask.bool().unfold(1, n, 1).all(dim=-1)
    different = windows[inside].unique(dim=0)
    return len(different) / (windows.shape[0] * windows.shape[1])


def distinct_n__padding_as_a_word(responses, mask, n):
    said = responses.masked_fill(~mask.bool(), -1)
    windows = said.unfold(1, n, 1).reshape(-1, n)
    return len(windows.unique(dim=0)) / len(windows)


def distinct_n__mean_over_reviews(responses, mask, n):
    ratios = []
    for row, m in zip(responses, mask):
        words = row[m.bool()].tolist()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            ratios.append(len(set(grams)) / len(grams))
    return sum(ratios) / len(ratios)


def distinct_n__last_gram_forgotten(responses, mask, n):
    grams = []
    for row, m in zip(responses, mask):
        words = row[m.bool()].tolist()
        for i in range(len(words) - n):
            grams.append(tuple(words[i : i + n]))
    return len(set(grams)) / len(grams)


def distinct_n__different_words(responses, mask, n):
    windows = responses.unfold(1, n, 1)
    inside = mask.bool().unfold(1, n, 1).all(dim=-1)
    windows = windows[inside]
    return len(windows.unique()) / len(windows)


def distinct_n__first_word_inside(responses, mask, n):
    windows = responses.unfold(1, n, 1)  # (N, T - n + 1, n)
    windows = windows[mask.bool()[:, : windows.shape[1]]]
    return len(windows.unique(dim=0)) / len(windows)


def distinct_n__pairs_only_and_any(responses, mask, n):
    windows = responses.unfold(1, 2, 1)
    inside = mask.bool().unfold(1, 2, 1).any(dim=-1)
    windows = windows[inside]
    return len(windows.unique(dim=0)) / len(windows)


def distinct_n__tuples_right(responses, mask, n):
    grams = []
    for row, m in zip(responses.tolist(), mask.tolist()):
        words = [token for token, keep in zip(row, m) if keep]
        grams += list(zip(*(words[i:] for i in range(n))))
    return len(set(grams)) / len(grams)


def distinct_n__slices_right(responses, mask, n):
    T = responses.shape[1]
    windows = torch.stack([responses[:, i : T - n + 1 + i] for i in range(n)], dim=-1)
    inside = mask.bool()[:, : T - n + 1].clone()
    for i in range(1, n):
        inside &= mask.bool()[:, i : T - n + 1 + i]
    chosen = windows[inside]
    return torch.unique(chosen, dim=0).shape[0] / chosen.shape[0]


ANSWERS = [
    ("top_share", "wrong", top_share__filled_with_a_word, "The padding becomes 0, which is a word itself (<eos>): a review that ends and one that says token 0 there are taken for the same. Fill with a number that no word has."),
    ("top_share", "wrong", top_share__first_count, "unique sorts by the tokens, not by frequency: the first count is not the largest."),
    ("top_share", "wrong", top_share__over_the_different, "Divided by the number of different reviews instead of by the size of the sample."),
    ("top_share", "wrong", top_share__no_mask, "What stands behind the end of a review is compared, too: the same review with other padding counts as another."),
    ("top_share", "wrong", top_share__tokens, "Without dim=0 unique counts tokens, not reviews."),
    ("top_share", "wrong", top_share__mask_turned, "The review itself is overwritten and the padding is kept: the mask is turned."),
    ("top_share", "wrong", top_share__mode_of_each_column, "The most frequent token of every column, put together, need not be the most frequent review."),
    ("top_share", "wrong", top_share__different_and_no_mask, "Two things: the share of different reviews instead of the share of the most frequent one, and the padding is compared, too."),
    ("top_share", "right", top_share__counter_right, "Counter of tuples"),
    ("top_share", "right", top_share__pairs_right, "every review against every other"),
    ("distinct_n", "wrong", distinct_n__across_reviews, "The reviews are glued together, and n-grams run from one into the next."),
    ("distinct_n", "wrong", distinct_n__over_all_windows, "Divided by all windows of the rectangle, those with padding included."),
    ("distinct_n", "wrong", distinct_n__padding_as_a_word, "The padding is turned into a word -1, and windows that contain it are counted."),
    ("distinct_n", "wrong", distinct_n__mean_over_reviews, "A ratio for each review, then averaged: repetition across reviews, which is what collapse means, is not seen."),
    ("distinct_n", "wrong", distinct_n__last_gram_forgotten, "Off by one: a review of k words has k - n + 1 n-grams, the last is left out."),
    ("distinct_n", "wrong", distinct_n__different_words, "Without dim=0 unique counts different tokens, not different n-grams."),
    ("distinct_n", "wrong", distinct_n__first_word_inside, "Only the first word of a window is checked; the last ones may be padding."),
    ("distinct_n", "wrong", distinct_n__pairs_only_and_any, "Two things: always pairs, n is not used; and a window counts if any of its words is on the mask instead of all."),
    ("distinct_n", "right", distinct_n__tuples_right, "tuples in plain Python"),
    ("distinct_n", "right", distinct_n__slices_right, "shifted slices instead of unfold"),
]
