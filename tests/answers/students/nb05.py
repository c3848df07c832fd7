# fmt: off
# ruff: noqa
"""Students' answers, notebook 05."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import exact, kl

# ---------------------------------------------------------------- k3


def k3__swapped(logprob, ref_logprob):
    log_ratio = ref_logprob - logprob
    return (-log_ratio).exp() - 1 + log_ratio


def k3__sign_of_the_exponent(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob  # d
    return log_ratio.exp() - 1 + log_ratio


def k3__one_forgotten(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return torch.exp(-log_ratio) + log_ratio


def k3__one_twice(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return torch.expm1(-log_ratio) - 1 + log_ratio


def k3__mean(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return ((-log_ratio).exp() - 1 + log_ratio).mean()


def k3__ratio_of_logs(logprob, ref_logprob):
    log_ratio = logprob / ref_logprob
    return (-log_ratio).exp() - 1 + log_ratio


def k3__detached_ratio(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return (-log_ratio).detach().exp() - 1 + log_ratio


def k3__ratio_for_log_ratio_and_no_one(logprob, ref_logprob):
    log_ratio = (logprob - ref_logprob).exp()
    return (-log_ratio).exp() + log_ratio


def k3__grpo_right(logprob, ref_logprob):
    # as in GRPO: per_token_kl
    return torch.exp(ref_logprob - logprob) - (ref_logprob - logprob) - 1


def k3__ratio_right(logprob, ref_logprob):
    ratio = torch.exp(ref_logprob) / torch.exp(logprob)
    return (ratio - 1) - torch.log(ratio)


# ---------------------------------------------------------------- response_kl


def response_kl__per_token(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs) * mask
    return d.sum(dim=1) / mask.sum(dim=1)


def response_kl__no_mask(logprobs, ref_logprobs, mask):
    return (logprobs - ref_logprobs).sum(dim=1)


def response_kl__sign(logprobs, ref_logprobs, mask):
    return ((ref_logprobs - logprobs) * mask).sum(dim=1)


def response_kl__clamped(logprobs, ref_logprobs, mask):
    k1 = (logprobs - ref_logprobs).clamp(min=0)
    return torch.where(mask.bool(), k1, 0.0).sum(dim=1)


def response_kl__weighted(logprobs, ref_logprobs, mask):
    k1 = logprobs.exp() * (logprobs - ref_logprobs)
    return (k1 * mask).sum(dim=1)


def response_kl__mask_as_index(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return d[mask].sum(dim=1)


def response_kl__k3(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    k3 = (-d).exp() - 1 + d  # same mean, less noise
    return k3.masked_fill(~mask.bool(), 0.0).sum(1)


def response_kl__probabilities_added_and_sign(logprobs, ref_logprobs, mask):
    p = (logprobs.exp() * mask).sum(dim=1)
    p_ref = (ref_logprobs.exp() * mask).sum(dim=1)
    return (p_ref / p).log()


def response_kl__rows_right(logprobs, ref_logprobs, mask):
    out = []
    for i in range(logprobs.shape[0]):
        keep = mask[i] == 1
        out.append((logprobs[i][keep] - ref_logprobs[i][keep]).sum())
    return torch.stack(out)


def response_kl__two_sums_right(logprobs, ref_logprobs, mask):
    def log_pi(x):
        return torch.where(mask > 0, x, torch.zeros_like(x)).sum(dim=-1)

    return log_pi(logprobs) - log_pi(ref_logprobs)


# ---------------------------------------------------------------- mean_inverse_ratio


def mean_inverse_ratio__per_token(logprobs, ref_logprobs, mask):
    ratio = (ref_logprobs - logprobs).exp()
    return (ratio * mask).sum() / mask.sum()


def mean_inverse_ratio__turned(logprobs, ref_logprobs, mask):
    k1 = ((logprobs - ref_logprobs) * mask).sum(dim=1)
    return k1.exp().mean()


def mean_inverse_ratio__exp_of_mean(logprobs, ref_logprobs, mask):
    k1 = ((logprobs - ref_logprobs) * mask).sum(dim=1)
    return torch.exp(-k1.mean())


def mean_inverse_ratio__sum_of_token_ratios(logprobs, ref_logprobs, mask):
    ratios = torch.exp(ref_logprobs - logprobs) * mask
    return ratios.sum(dim=1).mean()


def mean_inverse_ratio__no_mask(logprobs, ref_logprobs, mask):
    k1 = (logprobs - ref_logprobs).sum(1)
    return (-k1).exp().mean()


def mean_inverse_ratio__product_with_zeros(logprobs, ref_logprobs, mask):
    ratios = torch.exp(ref_logprobs - logprobs) * mask
    return ratios.prod(dim=1).mean()


def mean_inverse_ratio__one_over_the_mean(logprobs, ref_logprobs, mask):
    ratio = ((logprobs - ref_logprobs) * mask).sum(dim=1).exp()  # pi / pi_ref
    return 1 / ratio.mean()


def mean_inverse_ratio__per_length_and_turned(logprobs, ref_logprobs, mask):
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    return (d.sum(1) / mask.sum(1)).exp().mean()


def mean_inverse_ratio__product_right(logprobs, ref_logprobs, mask):
    ratios = torch.exp(ref_logprobs - logprobs)
    ratios = torch.where(mask.bool(), ratios, torch.ones_like(ratios))
    return ratios.prod(dim=1).mean()


def mean_inverse_ratio__package_right(logprobs, ref_logprobs, mask):
    total = 0.0
    k1 = kl.response_kl(logprobs, ref_logprobs, mask)
    for x in k1:
        total = total + torch.exp(-x)
    return total / len(k1)


ANSWERS = [
    ("k3", "wrong", k3__swapped, "The ratio is turned round, d = log pi_ref - log pi: never negative either, but its mean is chi-squared minus KL."),
    ("k3", "wrong", k3__sign_of_the_exponent, "The exponent has the wrong sign: e^(+d); it should be e^(-d) = pi_ref / pi, whose mean is 1."),
    ("k3", "wrong", k3__one_forgotten, "The -1 is missing: the mean is KL + 1."),
    ("k3", "wrong", k3__one_twice, "expm1 has already taken off the 1: it is taken off twice."),
    ("k3", "wrong", k3__mean, "One number for the batch; one for each token was asked. That its mean is the KL does not mean that it should be averaged here."),
    ("k3", "wrong", k3__ratio_of_logs, "A quotient of logarithms; the log of the ratio is their difference."),
    ("k3", "wrong", k3__detached_ratio, "The values are right, but with the ratio detached the gradient is that of k1."),
    ("k3", "wrong", k3__ratio_for_log_ratio_and_no_one, "Two things: the ratio itself stands where its logarithm d belongs, and the -1 is missing."),
    ("k3", "right", k3__grpo_right, "the formula as GRPO has it"),
    ("k3", "right", k3__ratio_right, "with the ratio: r - 1 - log r"),
    ("response_kl", "wrong", response_kl__per_token, "Divided by the length: nats per token; the KL of a review is the sum."),
    ("response_kl", "wrong", response_kl__no_mask, "The mask is not used: what the models think of the padding is counted."),
    ("response_kl", "wrong", response_kl__sign, "The sign is turned: log pi_ref - log pi."),
    ("response_kl", "wrong", response_kl__clamped, "Negative terms are cut off; they are part of k1 and make its mean right."),
    ("response_kl", "wrong", response_kl__weighted, "The tokens are samples of pi already; weighting them with pi again counts it twice."),
    ("response_kl", "wrong", response_kl__mask_as_index, "A mask of integers 0/1 as index picks rows 0 and 1 of the batch over and over; and even a bool mask would flatten the rows."),
    ("response_kl", "wrong", response_kl__k3, "k3 of each token; k1 was asked, and for one review the two are different numbers."),
    ("response_kl", "wrong", response_kl__probabilities_added_and_sign, "Two things: probabilities of the tokens are added where they multiply (logs add), and the ratio is turned round."),
    ("response_kl", "right", response_kl__rows_right, "loop over rows"),
    ("response_kl", "right", response_kl__two_sums_right, "helper: log pi(y) of each model, then the difference"),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__per_token, "A mean over tokens; the ratio of a review is the product over its tokens, and the mean goes over reviews."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__turned, "pi / pi_ref, the ratio turned round; its mean under pi is not 1."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__exp_of_mean, "exp of the mean instead of the mean of exp: e^(-KL), never 1 away from home."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__sum_of_token_ratios, "The ratios of the tokens are added; probabilities of a review multiply (sum the logs, then exp)."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__no_mask, "The padding is counted: the mask is not used."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__product_with_zeros, "In a product the padding must count as 1; the mask makes it 0, and every short review becomes 0."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__one_over_the_mean, "One over the mean of pi / pi_ref; the mean of the inverse is not the inverse of the mean."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__per_length_and_turned, "Two things: the log-ratio is divided by the length, and the ratio is pi / pi_ref instead of pi_ref / pi."),
    ("mean_inverse_ratio", "right", mean_inverse_ratio__product_right, "product of the token ratios, 1 on the padding"),
    ("mean_inverse_ratio", "right", mean_inverse_ratio__package_right, "package's response_kl and a loop"),
]
