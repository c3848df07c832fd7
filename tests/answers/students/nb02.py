# fmt: off
# ruff: noqa
"""Students' answers, notebook 02."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import exact, masking

# ---------------------------------------------------------------- bradley_terry_loss


def bradley_terry_loss__difference_turned(chosen, rejected):
    return -F.logsigmoid(rejected - chosen).mean()


def bradley_terry_loss__no_minus(chosen, rejected):
    return torch.nn.functional.logsigmoid(chosen - rejected).mean()


def bradley_terry_loss__sum(chosen, rejected):
    return -F.logsigmoid(chosen - rejected).sum()


def bradley_terry_loss__log_of_zero(chosen, rejected):
    p = 1 / (1 + torch.exp(-(chosen - rejected)))
    return -p.log().mean()


def bradley_terry_loss__no_log(chosen, rejected):
    p = torch.sigmoid(chosen - rejected)
    return -p.mean()


def bradley_terry_loss__each_squashed(chosen, rejected):
    return -(F.logsigmoid(chosen) - F.logsigmoid(rejected)).mean()


def bradley_terry_loss__item(chosen, rejected):
    loss = -F.logsigmoid(chosen - rejected).mean()
    return torch.tensor(loss.item())


def bradley_terry_loss__softmax_over_pairs(chosen, rejected):
    both = torch.stack([chosen, rejected])  # (2, n)
    return -both.log_softmax(dim=1)[0].mean()


def bradley_terry_loss__dpo_beta_and_sum(chosen, rejected, beta=0.1):
    losses = -F.logsigmoid(beta * (chosen - rejected))
    return losses.sum()


def bradley_terry_loss__bce_right(chosen, rejected):
    d = chosen - rejected
    return F.binary_cross_entropy_with_logits(d, torch.ones_like(d))


def bradley_terry_loss__cross_entropy_right(chosen, rejected):
    logits = torch.stack([chosen, rejected], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(chosen), dtype=torch.long))


# ---------------------------------------------------------------- standardise


def standardise__plain(scores, logprobs):
    mean = scores.mean()
    std = scores.std()
    return (scores - mean) / std


def standardise__std_plain(scores, logprobs):
    p = logprobs.exp()
    mean = (p * scores).sum()
    std = scores.std()
    return (scores - mean) / std


def standardise__variance(scores, logprobs):
    p = logprobs.exp()
    mean = p @ scores
    std = p @ (scores - mean) ** 2
    return (scores - mean) / std


def standardise__log_weights(scores, logprobs):
    mean = (scores * logprobs).sum()
    std = ((scores - mean) ** 2 * logprobs).sum().abs().sqrt()
    return (scores - mean) / std


def standardise__mean_of_weighted(scores, logprobs):
    p = logprobs.exp()
    mean = (p * scores).mean()
    std = (p * (scores - mean) ** 2).mean().sqrt()
    return (scores - mean) / std


def standardise__not_centred(scores, logprobs):
    p = logprobs.exp()
    mean = p @ scores
    std = (p @ scores**2).sqrt()
    return (scores - mean) / std


def standardise__weights_squared(scores, logprobs):
    p = logprobs.exp()
    mean = p @ scores
    std = (p * (scores - mean)).square().sum().sqrt()
    return (scores - mean) / std


def standardise__std_of_weighted(scores, logprobs):
    weighted = scores * torch.exp(logprobs)
    mean = weighted.sum()
    std = weighted.std()
    return (scores - mean) / std


def standardise__cov_right(scores, logprobs):
    p = torch.exp(logprobs)
    mean = torch.sum(p * scores)
    std = torch.cov(scores, aweights=p, correction=0) ** 0.5
    return (scores - mean) / std


def standardise__two_moments_right(scores, logprobs):
    p = logprobs.softmax(dim=0)
    first, second = torch.einsum("n,kn->k", p, torch.stack([scores, scores * scores]))
    return (scores - first) / torch.sqrt(second - first * first)


# ---------------------------------------------------------------- last_token


def last_token__last_column(x, mask):
    return x[:, -1]


def last_token__count_minus_one(x, mask):
    last = mask.long().sum(dim=1) - 1
    return x.gather(1, last.unsqueeze(1)).squeeze(1)


def last_token__first(x, mask):
    last = mask.int().argmax(dim=1)
    return x[torch.arange(x.shape[0]), last]


def last_token__zeroed(x, mask):
    return (x * mask)[:, -1]


def last_token__new_tensor(x, mask):
    mask = mask.bool()
    return torch.tensor([row[m][-1].item() for row, m in zip(x, mask)], dtype=x.dtype)


def last_token__one_behind(x, mask):
    last = mask.long().sum(dim=1).clamp(max=x.shape[1] - 1)
    return x[torch.arange(len(x)), last]


def last_token__flip_not_turned_back(x, mask):
    steps = mask.flip(1).int().argmax(dim=1)  # how far from the end
    return x.gather(1, steps.unsqueeze(1)).squeeze(1)


def last_token__square(x, mask):
    last = mask.long().sum(1) - 1
    return x[:, last]


def last_token__stack_right(x, mask):
    return torch.stack([row[chosen.bool()][-1] for row, chosen in zip(x, mask)])


def last_token__positions_right(x, mask):
    positions = torch.arange(x.shape[1])
    last = (positions * mask.long()).max(dim=1).values
    one_hot = F.one_hot(last, x.shape[1]).bool()
    return torch.where(one_hot, x, 0.0).sum(dim=1)


ANSWERS = [
    ("bradley_terry_loss", "wrong", bradley_terry_loss__difference_turned, "The difference is turned round: this makes the rejected review win."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__no_minus, "The minus is missing: this is the mean log-likelihood, and making it small makes the choices unlikely."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__sum, "The sum over the pairs instead of the mean."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__log_of_zero, "Right for small differences; where the rejected review scores much higher e^x overflows, the probability is 0 and its log -inf: logsigmoid is safe there."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__no_log, "The logarithm is missing: minus the mean probability instead of minus the mean log-probability."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__each_squashed, "log sigma of each score, then the difference; it should be log sigma of the difference, and a constant added to all scores now matters."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__item, "The number is right, but .item() cuts the graph: no gradient reaches the scores."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__softmax_over_pairs, "The softmax runs over the pairs of the batch (dim 1 of (2, n)) instead of over the two reviews of each pair."),
    ("bradley_terry_loss", "wrong", bradley_terry_loss__dpo_beta_and_sum, "Two things from a DPO loss: a factor beta = 0.1 on the difference, which changes the unit of the score, and the sum instead of the mean."),
    ("bradley_terry_loss", "right", bradley_terry_loss__bce_right, "binary cross-entropy with logits, all labels 1"),
    ("bradley_terry_loss", "right", bradley_terry_loss__cross_entropy_right, "two-way classification by F.cross_entropy"),
    ("standardise", "wrong", standardise__plain, "Every response counts alike; the mean and spread should be under pi_SFT, so logprobs must come in as weights."),
    ("standardise", "wrong", standardise__std_plain, "The mean is weighted by pi_SFT, the standard deviation is not."),
    ("standardise", "wrong", standardise__variance, "That is the variance; the square root is missing."),
    ("standardise", "wrong", standardise__log_weights, "Weighted with log-probabilities instead of probabilities: exp is missing."),
    ("standardise", "wrong", standardise__mean_of_weighted, "The weights already add up to 1: .mean() of the weighted numbers divides by N once more; it should be the sum."),
    ("standardise", "wrong", standardise__not_centred, "The root of E[r^2], not of E[(r - mean)^2]: the mean has not been taken off."),
    ("standardise", "wrong", standardise__weights_squared, "The probability is squared together with the deviation; it should weigh the square."),
    ("standardise", "wrong", standardise__std_of_weighted, "The unweighted spread of the numbers p times r, which is not the spread of r under pi_SFT (and has Bessel's n - 1)."),
    ("standardise", "right", standardise__cov_right, "torch.cov with weights"),
    ("standardise", "right", standardise__two_moments_right, "E[r^2] - E[r]^2 with einsum"),
    ("last_token", "wrong", last_token__last_column, "The last column, which is padding for short reviews."),
    ("last_token", "wrong", last_token__count_minus_one, "The number of selected tokens minus 1 is their last position only if the row begins with them; with padding on the left it points elsewhere."),
    ("last_token", "wrong", last_token__first, "argmax of the mask is the first selected token, not the last."),
    ("last_token", "wrong", last_token__zeroed, "Masking makes the padding 0 and the last column is still the one that is read: short reviews get 0."),
    ("last_token", "wrong", last_token__new_tensor, "The values are right, but a new tensor made from .item() has no gradient: the reward model could not be trained."),
    ("last_token", "wrong", last_token__one_behind, "Off by one: the length is the position behind the last token."),
    ("last_token", "wrong", last_token__flip_not_turned_back, "argmax of the flipped mask counts from the end and has to be turned back: T - 1 - that."),
    ("last_token", "wrong", last_token__square, "x[:, last] takes all these columns of every row, (B, B); one number for each row needs gather or x[arange(B), last]."),
    ("last_token", "right", last_token__stack_right, "list of rows and torch.stack (keeps the gradient)"),
    ("last_token", "right", last_token__positions_right, "largest selected position, one-hot and torch.where"),
]
