# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 02."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- bradley_terry_loss
def bradley_terry_loss__difference_of_means(chosen, rejected):
    """Scores of the preferred and the other reviews, (n,) each -> the mean loss, ()."""
    difference = chosen.mean() - rejected.mean()
    return -F.logsigmoid(difference)


def bradley_terry_loss__each_on_its_own(chosen, rejected):
    """Scores of the preferred and the other reviews, (n,) each -> the mean loss, ()."""
    good = -F.logsigmoid(chosen)
    bad = -F.logsigmoid(-rejected)
    return (good + bad).mean()


def bradley_terry_loss__probability_of_error(chosen, rejected):
    """Scores of the preferred and the other reviews, (n,) each -> the mean loss, ()."""
    p_wins = torch.sigmoid(chosen - rejected)
    return (1 - p_wins).mean()


def bradley_terry_loss__logaddexp(chosen, rejected):
    """Scores of the preferred and the other reviews, (n,) each -> the mean loss, ()."""
    # -log(e^c / (e^c + e^r))
    return (torch.logaddexp(chosen, rejected) - chosen).mean()


# ---------------------------------------------------------------- standardise
def standardise__plain_std(scores, logprobs):
    """scores (N,), logprobs (N,) of all responses -> (N,)."""
    mean = logprobs.exp() @ scores
    std = scores.std()
    return (scores - mean) / std


def standardise__variance(scores, logprobs):
    """scores (N,), logprobs (N,) of all responses -> (N,)."""
    p = logprobs.exp()
    mean = (p * scores).sum()
    std = (p * (scores - mean) ** 2).sum()
    return (scores - mean) / std


def standardise__second_moment(scores, logprobs):
    """scores (N,), logprobs (N,) of all responses -> (N,)."""
    p = logprobs.exp()
    mean = (p * scores).sum()
    std = (p * scores**2).sum().sqrt()
    return (scores - mean) / std


def standardise__expectation_helper(scores, logprobs):
    """scores (N,), logprobs (N,) of all responses -> (N,)."""
    def E(x):
        return (logprobs.exp() * x).sum()

    mean = E(scores)
    std = E((scores - mean) ** 2) ** 0.5
    return (scores - mean) / std


# ---------------------------------------------------------------- last_token
def last_token__column_left_over(x, mask):
    """x (B, T), mask (B, T) -> (B,): the number at the last selected token of each row."""
    last = mask.sum(dim=1, keepdim=True).long() - 1
    return x.gather(1, last)


def last_token__first_true(x, mask):
    """x (B, T), mask (B, T) -> (B,): the number at the last selected token of each row."""
    where = mask.int().argmax(dim=1)
    return x[torch.arange(len(x)), where]


def last_token__items(x, mask):
    """x (B, T), mask (B, T) -> (B,): the number at the last selected token of each row."""
    out = []
    for row, m in zip(x, mask):
        last = m.nonzero()[-1].item()
        out.append(row[last].item())
    return torch.tensor(out, dtype=x.dtype)


def last_token__stack(x, mask):
    """x (B, T), mask (B, T) -> (B,): the number at the last selected token of each row."""
    return torch.stack([row[m.bool()][-1] for row, m in zip(x, mask)])


ANSWERS = [
    ("bradley_terry_loss", "wrong", bradley_terry_loss__difference_of_means,
     "The mean must come last, over the losses of the pairs; the loss of the mean difference forgets who was compared with whom."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__each_on_its_own,
     "Each score is judged against 0 on its own, where Bradley-Terry looks only at the difference of the two."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__probability_of_error,
     "This is the probability that the wrong one wins; the loss is minus the log of the probability that the chosen one wins."),
    ("bradley_terry_loss", "right", bradley_terry_loss__logaddexp, "as a softmax over two, with logaddexp"),
    ("standardise", "wrong", standardise__plain_std,
     "The mean is weighted with π_SFT but the standard deviation is not: it counts every response once."),
    ("standardise", "wrong", standardise__variance,
     "That is the variance; its square root is missing."),
    ("standardise", "wrong", standardise__second_moment,
     "The spread is measured around 0 and not around the mean: subtract the mean before squaring."),
    ("standardise", "right", standardise__expectation_helper, "with a little helper E(x)"),
    ("last_token", "wrong", last_token__column_left_over,
     "Two slips: the result has shape (B, 1) because the squeeze is missing, and the count minus one is the position of the last token only if the row is not padded on the left."),
    ("last_token", "wrong", last_token__first_true,
     "argmax gives the position of the first selected token and not of the last."),
    ("last_token", "wrong", last_token__items,
     "The values are right, but .item() makes plain numbers of them and no gradient reaches the reward model."),
    ("last_token", "right", last_token__stack, "one line, row by row, stacked"),
]
