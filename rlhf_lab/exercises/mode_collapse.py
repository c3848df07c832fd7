"""Exercises of notebook 08: variety in numbers, luck, and what a late bonus can do."""

import torch
from torch import Tensor

from rlhf_lab.collapse import distinct_n, top_share
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake

_NOTEBOOK = "08_mode_collapse"
_GARBAGE = torch.tensor(
    [[8, 3, 9, 0, 4], [8, 3, 9, 0, 7], [6, 8, 6, 8, 6], [8, 3, 9, 0, 1], [8, 0, 5, 5, 5]]
)
_SEVEN = torch.tensor(
    [[9, 0, 8, 8], [4, 9, 0, 2], [4, 9, 0, 9], [7, 7, 7, 0], [4, 9, 0, 1], [6, 0, 9, 0],
     [7, 7, 8, 0]]
)  # fmt: skip
_PAD_IS_EOS = torch.tensor([[8, 0, 0, 0], [6, 8, 0, 0], [8, 0, 0, 0], [6, 6, 8, 8]])


def _until_eos(responses: Tensor) -> Tensor:
    """The mask: up to and including the first 0."""
    ended = responses == 0
    return (ended.cumsum(1) - ended.long()) == 0


_A, _B = (_GARBAGE, _until_eos(_GARBAGE)), (_PAD_IS_EOS, _until_eos(_PAD_IS_EOS))
_C = (_SEVEN, _until_eos(_SEVEN))


def _top(tokens: Tensor) -> int:
    return int(tokens.unique(dim=0, return_counts=True)[1].max())


def _counts(responses: Tensor, mask: Tensor) -> Tensor:
    return responses.masked_fill(~mask.bool(), -1).unique(dim=0, return_counts=True)[1]


_SHARE = Exercise(
    name="top_share",
    section=f"{_NOTEBOOK}: Collapse in numbers",
    minutes=5,
    reference=top_share,
    cases=(
        Case("five reviews with garbage behind <eos>", _A),
        Case("four reviews padded with <eos>", _B),
        Case("seven reviews", _C),
        Case("the first six of them", (_C[0][:6], _C[1][:6])),
        Case("three of them", (_C[0][1:4], _C[1][1:4])),
    ),
    mistakes=(
        Mistake(
            "single tokens counted",
            12,
            lambda responses, mask: (
                (c := responses.masked_fill(~mask.bool(), -1).unique(return_counts=True)[1]).max()
                / c.sum()
            ).item(),
            "unique without dim=0 counts tokens, not reviews.",
            "What are the things that you count?",
        ),
        Mistake(
            "mask turned",
            8,
            lambda responses, mask: int(_counts(responses, ~mask.bool()).max()) / len(responses),
            "You overwrite the reviews and keep the padding: the mask is turned round.",
            "Where does ~mask say True?",
        ),
        Mistake(
            "favourite of each column",
            12,
            lambda responses, mask: (
                ((said := responses.masked_fill(~mask.bool(), -1)) == said.mode(0).values)
                .all(1)
                .double()
                .mean()
                .item()
            ),
            "You take the commonest token of each place. Put together, they need not be the "
            "commonest review.",
            "What are the things that you count?",
        ),
        Mistake(
            "share of the different ones, padding compared",
            12,
            lambda responses, mask: len(responses.unique(dim=0)) / len(responses),
            "That is the share of *different* reviews, and the padding is compared, too. We "
            "want to know how often the commonest comes.",
            "What should it be if all reviews are the same?",
        ),
        Mistake(
            "padding compared",
            8,
            lambda responses, mask: _top(responses) / len(responses),
            "Two reviews with the same words up to <eos> are the same review, whatever stands "
            "behind their <eos>. You compared the padding too.",
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
        Mistake(
            "the first, not the largest",
            12,
            lambda responses, mask: int(_counts(responses, mask)[0]) / len(responses),
            "You take the first of the counts. unique sorts by the tokens, not by how often they "
            "come.",
            "Which of the counts is asked for?",
        ),
        Mistake(
            "the last, not the largest",
            12,
            lambda responses, mask: int(_counts(responses, mask)[-1]) / len(responses),
            "You take the last of the counts. unique sorts by the tokens, not by how often they "
            "come.",
            "Which of the counts is asked for?",
        ),
        Mistake(
            "per cent",
            12,
            lambda responses, mask: 100 * top_share(responses, mask),
            "Your number is a percentage. A share lies between 0 and 1.",
            "What is total collapse: 1 or 100?",
        ),
        Mistake(
            "share of the different ones",
            12,
            lambda responses, mask: len(_counts(responses, mask)) / len(responses),
            "That is the share of *different* reviews. We want to know how often the commonest "
            "comes.",
            "What should it be if all reviews are the same?",
        ),
        Mistake(
            "divided by the different ones",
            12,
            lambda responses, mask: (
                int(_counts(responses, mask).max()) / len(_counts(responses, mask))
            ),
            "You divide by the number of *different* reviews.",
            "Out of how many reviews is the commonest one?",
        ),
        Mistake(
            "the rarest",
            12,
            lambda responses, mask: int(_counts(responses, mask).min()) / len(responses),
            "That is the share of the rarest review.",
            "Which of the counts is asked for?",
        ),
        Mistake(
            "the mean count",
            12,
            lambda responses, mask: (
                _counts(responses, mask).double().mean().item() / len(responses)
            ),
            "You average the counts. We want the largest.",
            "Which of the counts is asked for?",
        ),
    ),
)


def _share_of_different(windows: Tensor) -> float:
    return len(windows.unique(dim=0)) / len(windows)


def _grams(
    responses: Tensor, mask: Tensor, n: int, *, less: int = 0, step: int = 1
) -> list[tuple[int, ...]]:
    """The n-grams on the mask, without the last `less` of each review, from every step-th word."""
    rows = [row[kept].tolist() for row, kept in zip(responses, mask.bool(), strict=True)]
    return [tuple(row[i : i + n]) for row in rows for i in range(0, len(row) - n + 1 - less, step)]


def _ratio(grams: list[tuple[int, ...]]) -> float:
    return len({*grams}) / len(grams)


def _mean_of_reviews(responses: Tensor, mask: Tensor, n: int) -> float:
    rows = [_grams(r[None], m[None], n) for r, m in zip(responses, mask, strict=True)]
    shares = [_ratio(grams) for grams in rows if grams]
    return sum(shares) / len(shares)


_DISTINCT = Exercise(
    name="distinct_n",
    section=f"{_NOTEBOOK}: Collapse in numbers",
    minutes=8,
    curious=True,
    reference=distinct_n,
    cases=(
        Case("five reviews with garbage behind <eos>, pairs", (*_A, 2)),
        Case("the same, single words", (*_A, 1)),
        Case("four reviews padded with <eos>, pairs", (*_B, 2)),
        Case("seven reviews, pairs", (*_C, 2)),
        Case("seven reviews, n = 3", (*_C, 3)),
    ),
    mistakes=(
        Mistake(
            "divided by all windows",
            8,
            lambda responses, mask, n: (
                len({*_grams(responses, mask, n)}) / (len(responses) * (responses.shape[1] - n + 1))
            ),
            "You divide by all windows, those in the padding included.",
            "Out of how many n-grams *on the mask* are the different ones?",
        ),
        Mistake(
            "padding as a word",
            8,
            lambda responses, mask, n: _share_of_different(
                responses.masked_fill(~mask.bool(), -1).unfold(1, n, 1).reshape(-1, n)
            ),
            "You turned the padding into a word, and count the windows that contain it.",
            "Which windows lie on the mask from end to end?",
        ),
        Mistake(
            "different words, not n-grams",
            12,
            lambda responses, mask, n: (
                len({word for gram in _grams(responses, mask, n) for word in gram})
                / len(_grams(responses, mask, n))
            ),
            "unique without dim=0 counts different words, not different n-grams.",
            "What are the things that you count?",
        ),
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
        Mistake(
            "last n-gram left out",
            8,
            lambda responses, mask, n: _ratio(_grams(responses, mask, n, less=1)),
            "You leave out the last n-gram of each review: range(length − n) ends one too early.",
            "How many pairs are there in a review of two words?",
        ),
        Mistake(
            "last n-gram left out, divided by reviews",
            8,
            lambda responses, mask, n: len({*_grams(responses, mask, n, less=1)}) / len(responses),
            "You leave out the last n-gram of each review, and divide by the number of reviews.",
            "How many pairs are there in a review of two words, and out of how many n-grams are "
            "the different ones?",
        ),
        Mistake(
            "windows side by side",
            8,
            lambda responses, mask, n: _ratio(_grams(responses, mask, n, step=n)),
            "Your windows lie side by side. An n-gram may begin at every word.",
            "How many pairs are there in a review of three words?",
        ),
        Mistake(
            "a count, not a share",
            12,
            lambda responses, mask, n: len({*_grams(responses, mask, n)}),
            "You return how many different n-grams there are. We want their share.",
            "Out of how many?",
        ),
        Mistake(
            "divided by tokens",
            12,
            lambda responses, mask, n: len({*_grams(responses, mask, n)}) / int(mask.sum()),
            "You divide by the number of tokens. A review of 3 words has only two pairs.",
            "Out of how many n-grams are the different ones?",
        ),
        Mistake(
            "words, whatever n is",
            8,
            lambda responses, mask, n: _ratio(_grams(responses, mask, 1)),
            "You count single words, whatever n is.",
            "Which argument have you not used?",
        ),
        Mistake(
            "mean over reviews",
            12,
            lambda responses, mask, n: _mean_of_reviews(responses, mask, n),
            "You average the share over reviews. An n-gram that comes in two reviews is a "
            "repetition, too.",
            "What is the share if all reviews are the same?",
        ),
        Mistake(
            "repeated share",
            2,
            lambda responses, mask, n: 1 - distinct_n(responses, mask, n),
            "That is the share of repetitions, 1 minus the right one.",
            "What should it be if no n-gram comes twice?",
        ),
        Mistake(
            "order ignored",
            8,
            lambda responses, mask, n: (
                len({tuple(sorted(g)) for g in _grams(responses, mask, n)})
                / len(_grams(responses, mask, n))
            ),
            "Your n-grams have lost the order of their words.",
            "Are *not good* and *good not* the same?",
        ),
        Mistake(
            "eos left out",
            8,
            lambda responses, mask, n: _ratio(_grams(responses, mask & (responses != 0), n)),
            "You leave out <eos>. It is on the mask, and counts like any other token.",
            "What does the mask select?",
        ),
    ),
)

_SPLIT = Choice(
    name="final_split",
    section=f"{_NOTEBOOK}: Luck",
    minutes=3,
    answer="b",
    reason="Each run ends on one answer, and chance decides which: about half of the runs end on "
    "each. The mean over runs stays one half, but hardly any single run does.",
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
    values=(0.015, 0.0625, 0.125, 0.5),
    section=f"{_NOTEBOOK}: How much β holds two answers",
    minutes=4,
    answer="c",
    reason="At lr/(2·batch) = 0.0625 the runs end anywhere, and about a third of them are "
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
            "There the runs end anywhere: still far more than one run in five collapses.",
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
    reason="The push is p·log p and nearly 0, and a plain step is proportional to it. Another "
    "step can bring the answer back: the natural gradient does, and Adam if its ε is not far above "
    "the push. What returns then is the variety of the whole language.",
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
            "At 128 reviews a batch it takes some eight million batches until it is said once.",
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
