# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 05."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- k3
def k3__bracket(logprob, ref_logprob):
    """e^−d − 1 + d for each sampled token: never negative, and its mean is KL(π ‖ π_ref)."""
    log_ratio = logprob - ref_logprob  # d
    return torch.exp(-log_ratio - 1) + log_ratio


def k3__noise_detached(logprob, ref_logprob):
    """e^−d − 1 + d for each sampled token: never negative, and its mean is KL(π ‖ π_ref)."""
    log_ratio = logprob - ref_logprob  # d
    return (torch.exp(-log_ratio) - 1).detach() + log_ratio


def k3__log_of_the_quotient(logprob, ref_logprob):
    """e^−d − 1 + d for each sampled token: never negative, and its mean is KL(π ‖ π_ref)."""
    log_ratio = (logprob / ref_logprob).log()  # d
    return torch.exp(-log_ratio) - 1 + log_ratio


def k3__ratio_of_probabilities(logprob, ref_logprob):
    """e^−d − 1 + d for each sampled token: never negative, and its mean is KL(π ‖ π_ref)."""
    log_ratio = logprob - ref_logprob  # d
    return (ref_logprob - logprob).exp() - 1 + log_ratio


# ---------------------------------------------------------------- response_kl
def response_kl__down_the_columns(logprobs, ref_logprobs, mask):
    """log π(y|x) − log π_ref(y|x) of each response: (B, T), (B, T), (B, T) of 0/1 -> (B,)."""
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    return d.sum(dim=0)


def response_kl__half_masked(logprobs, ref_logprobs, mask):
    """log π(y|x) − log π_ref(y|x) of each response: (B, T), (B, T), (B, T) of 0/1 -> (B,)."""
    return (logprobs * mask - ref_logprobs).sum(dim=1)


def response_kl__never_negative(logprobs, ref_logprobs, mask):
    """log π(y|x) − log π_ref(y|x) of each response: (B, T), (B, T), (B, T) of 0/1 -> (B,)."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    return d.sum(dim=1).clamp(min=0.0)  # a KL is never negative


def response_kl__two_sums(logprobs, ref_logprobs, mask):
    """log π(y|x) − log π_ref(y|x) of each response: (B, T), (B, T), (B, T) of 0/1 -> (B,)."""
    off = mask == 0
    log_pi = logprobs.masked_fill(off, 0.0).sum(1)
    log_ref = ref_logprobs.masked_fill(off, 0.0).sum(1)
    return log_pi - log_ref


# ---------------------------------------------------------------- mean_inverse_ratio
def mean_inverse_ratio__exp_of_the_mean(logprobs, ref_logprobs, mask):
    """The mean over reviews of π_ref(y|x) / π(y|x); 1 if the reviews were sampled from π."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0).sum(dim=1)
    return torch.exp(-d.mean())


def mean_inverse_ratio__product_with_zeros(logprobs, ref_logprobs, mask):
    """The mean over reviews of π_ref(y|x) / π(y|x); 1 if the reviews were sampled from π."""
    ratios = (ref_logprobs - logprobs).exp() * mask
    return ratios.prod(dim=1).mean()


def mean_inverse_ratio__over_the_tokens(logprobs, ref_logprobs, mask):
    """The mean over reviews of π_ref(y|x) / π(y|x); 1 if the reviews were sampled from π."""
    keep = mask.bool()
    ratio = (logprobs[keep] - ref_logprobs[keep]).exp()
    return ratio.mean()


def mean_inverse_ratio__product(logprobs, ref_logprobs, mask):
    """The mean over reviews of π_ref(y|x) / π(y|x); 1 if the reviews were sampled from π."""
    per_token = torch.where(mask.bool(), ref_logprobs - logprobs, 0.0).exp()  # 1 off the mask
    return per_token.prod(dim=1).mean()


ANSWERS = [
    ("k3", "wrong", k3__bracket,
     "The −1 stands in the exponent: it is e^−d, and then minus 1."),
    ("k3", "wrong", k3__noise_detached,
     "The value is right, but the first part depends on π as well; detached, the gradient is that of k1."),
    ("k3", "wrong", k3__log_of_the_quotient,
     "The arguments are logarithms already: d is their difference, not the log of their quotient."),
    ("k3", "right", k3__ratio_of_probabilities, "writes π_ref/π out once more"),
    ("response_kl", "wrong", response_kl__down_the_columns,
     "The sum runs over the reviews, one number per position; it must run along each row, dim=1."),
    ("response_kl", "wrong", response_kl__half_masked,
     "Only log π is masked; log π_ref of the padding still goes into the sum. Put a bracket round the difference."),
    ("response_kl", "wrong", response_kl__never_negative,
     "The mean is never negative, but k1 of a single review may be; cut off at 0 the mean is too large."),
    ("response_kl", "right", response_kl__two_sums, "log π(y) and log π_ref(y) separately, then the difference"),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__exp_of_the_mean,
     "The mean must be taken of the ratios and not of their logarithms; exp of the mean is smaller."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__product_with_zeros,
     "Off the mask the factor must be 1; with 0 the product of every padded review is 0."),
    ("mean_inverse_ratio", "wrong", mean_inverse_ratio__over_the_tokens,
     "Two slips: the ratio is taken of each token, where a review has one ratio, the product over its tokens, and it is upside down, π/π_ref."),
    ("mean_inverse_ratio", "right", mean_inverse_ratio__product, "a product of token ratios, 1 in the padding"),
]
