"""Exercises of notebook 08: variety in numbers, luck, and what a late bonus can do."""

import torch
from torch import Tensor

from rlhf_lab.collapse import distinct_n, top_share
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake

_NOTEBOOK = "08_mode_collapse"
_GARBAGE = torch.tensor(
    [[8, 3, 9, 0, 4], [8, 3, 9, 0, 7], [6, 8, 6, 8, 6], [8, 3, 9, 0, 1], [8, 0, 5, 5, 5]]
)
_PAD_IS_EOS = torch.tensor([[8, 0, 0, 0], [6, 8, 0, 0], [8, 0, 0, 0], [6, 6, 8, 8]])


def _until_eos(responses: Tensor) -> Tensor:
    """The mask: up to and including the first 0."""
    ended = responses == 0
    return (ended.cumsum(1) - ended.long()) == 0


_A, _B = (_GARBAGE, _until_eos(_GARBAGE)), (_PAD_IS_EOS, _until_eos(_PAD_IS_EOS))


def _top(tokens: Tensor) -> int:
    return int(tokens.unique(dim=0, return_counts=True)[1].max())


_SHARE = Exercise(
    name="top_share",
    section=f"{_NOTEBOOK}: Collapse in numbers",
    minutes=5,
    reference=top_share,
    cases=(
        Case("five reviews with garbage behind <eos>", _A),
        Case("four reviews padded with <eos>", _B),
    ),
    mistakes=(
        Mistake(
            "padding compared",
            8,
            lambda responses, mask: _top(responses) / len(responses),
            "Two reviews that end alike are the same review, whatever stands behind their <eos>. "
            "You compared the padding too.",
            "What could you write into every position off the mask before you compare?",
        ),
        Mistake(
            "tokens, not reviews",
            12,
            lambda responses, mask: _top(responses[mask.bool()]) / int(mask.sum()),
            "That is the share of the most frequent word. A policy can use many words and still "
            "say one sentence.",
            "What are the things that you count?",
        ),
        Mistake(
            "a count, not a share",
            12,
            lambda responses, mask: top_share(responses, mask) * len(responses),
            "You returned a count. It doubles with the batch, so no two batches can be compared.",
            "How many reviews are there?",
        ),
    ),
)


def _share_of_different(windows: Tensor) -> float:
    return len(windows.unique(dim=0)) / len(windows)


_DISTINCT = Exercise(
    name="distinct_n",
    section=f"{_NOTEBOOK}: Collapse in numbers",
    minutes=8,
    reference=distinct_n,
    cases=(
        Case("five reviews with garbage behind <eos>, pairs", (*_A, 2)),
        Case("the same, single words", (*_A, 1)),
        Case("four reviews padded with <eos>, pairs", (*_B, 2)),
    ),
    mistakes=(
        Mistake(
            "padding counted",
            8,
            lambda responses, mask, n: _share_of_different(
                responses.unfold(1, n, 1).reshape(-1, n)
            ),
            "You counted n-grams in the padding. Nobody said those: pad more, and your number "
            "changes though the text does not.",
            "Which windows lie on the mask from end to end?",
        ),
        Mistake(
            "half on the mask",
            8,
            lambda responses, mask, n: _share_of_different(
                responses.unfold(1, n, 1)[mask[:, : mask.shape[1] - n + 1]]
            ),
            "You kept every window that begins on the mask. Some of them run on into the padding.",
            "How many of its n tokens must lie on the mask?",
        ),
        Mistake(
            "across reviews",
            8,
            lambda responses, mask, n: _share_of_different(responses[mask].unfold(0, n, 1)),
            "You joined all reviews, so some n-grams begin in one review and end in the next.",
            "In which dimension should the window slide?",
        ),
        Mistake(
            "divided by reviews",
            12,
            lambda responses, mask, n: (
                (distinct_n(responses, mask, n) * int(mask.unfold(1, n, 1).all(-1).sum()))
                / len(responses)
            ),
            "You divided by the number of reviews. Long reviews hold more n-grams than one, so "
            "your number can exceed 1.",
            "Out of how many n-grams are the different ones?",
        ),
    ),
)

_SPLIT = Choice(
    name="final_split",
    section=f"{_NOTEBOOK}: Luck",
    minutes=3,
    answer="b",
    reason="Each run ends on one answer, and chance decides which: about half of the runs end on "
    "each. The mean over runs stays one half, but no single run does.",
    mistakes=(
        Mistake(
            "nothing moves",
            26,
            "a",
            "The mean update is 0, but no run ever makes the mean update. Chance pushes one "
            "answer up, then it is said more often, and nothing pushes back.",
            "Look at the histogram: how many of the 400 runs end near one half?",
        ),
        Mistake(
            "the better one wins",
            26,
            "c",
            "There is no better one: both score the same. Collapse needs no difference in reward.",
            "What differs between two runs here?",
        ),
        Mistake(
            "pushed back to the middle",
            26,
            "d",
            "Something would have to pull to the middle. With β = 0 nothing does.",
            "Which term of the update knows that one half is special?",
        ),
    ),
)

_SMALLEST = Choice(
    name="smallest_beta",
    section=f"{_NOTEBOOK}: How much β holds two answers",
    minutes=8,
    answer="c",
    reason="At lr/(2·batch) = 0.0625 noise and pull are equal, and about a third of the runs are "
    "collapsed; at twice that it is fewer than one in ten.",
    mistakes=(
        Mistake(
            "far too small",
            26,
            "a",
            "Any β > 0 makes one half the best policy, but noise carries the runs away from it.",
            "What share of the runs is collapsed at this β?",
        ),
        Mistake(
            "at the border",
            26,
            "b",
            "There noise and pull are equal: still far more than one run in five collapses.",
            "Run race with this β and count.",
        ),
        Mistake(
            "more than needed",
            26,
            "d",
            "This β is enough, but a smaller one on the list is, too.",
            "Try the β before it.",
        ),
    ),
)

_LATE = Choice(
    name="late_beta",
    section=f"{_NOTEBOOK}: Too late?",
    minutes=3,
    answer="a",
    reason="The push is p·log p and nearly 0. Where weights are shared and Adam rescales, "
    "variety can return, but it is the variety of the whole language.",
    mistakes=(
        Mistake(
            "log p is large",
            26,
            "b",
            "−log p is large, but the gradient of the logit is p·log p, and p wins: the smaller "
            "it is, the weaker the push.",
            "What is p·log p for p = 1e−9?",
        ),
        Mistake(
            "sampling will find it",
            26,
            "c",
            "At 128 reviews a batch you would wait for some eight million batches to hear it once.",
            "How many samples does an event of probability 1e−9 need?",
        ),
        Mistake(
            "it is in the optimum",
            26,
            "d",
            "Yes, but the optimum says where training would end, not when.",
            "How long did the table say it takes from 1e−9?",
        ),
    ),
)

EXERCISES = (_SHARE, _DISTINCT, _SPLIT, _SMALLEST, _LATE)
