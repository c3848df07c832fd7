# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 07."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import entropy, entropy_bonus, exact, exact_kl


# ---------------------------------------------------------------- token_entropy
def token_entropy__where_log_is_zero(logits):
    """H of the softmax of logits, in nats: (..., V) -> (...)."""
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logprobs == 0, 0.0)  # 0 where π is 0
    return -(logprobs.exp() * safe).sum(dim=-1)


def token_entropy__unnormalised_weights(logits):
    """H of the softmax of logits, in nats: (..., V) -> (...)."""
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logits == -torch.inf, 0.0)  # 0 where π is 0
    return -(logits.exp() * safe).sum(dim=-1)


def token_entropy__constant_weights(logits):
    """H of the softmax of logits, in nats: (..., V) -> (...)."""
    logprobs = logits.log_softmax(dim=-1)
    p = logits.softmax(dim=-1).detach()
    safe = logprobs.masked_fill(p == 0, 0.0)  # 0 where π is 0
    return -(p * safe).sum(dim=-1)


def token_entropy__exp_of_safe(logits):
    """H of the softmax of logits, in nats: (..., V) -> (...)."""
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logprobs == float("-inf"), 0.0)  # 0 where π is 0
    return -(safe.exp() * safe).sum(dim=-1)  # 1 · 0 there, which is 0 as well


# ---------------------------------------------------------------- bonus_loss
def bonus_loss__mean_of_means(logits, mask, beta):
    """−β·H, with H averaged over the mask: (B, T, V), (B, T) -> ()."""
    keep = mask.bool()
    h = entropy(logits.masked_fill(~keep.unsqueeze(2), 0.0)) * keep
    per_review = h.sum(dim=1) / keep.sum(dim=1)
    return -beta * per_review.mean()


def bonus_loss__per_review_sum(logits, mask, beta):
    """−β·H, with H averaged over the mask: (B, T, V), (B, T) -> ()."""
    keep = mask.bool()
    h = entropy(logits[keep])
    return -beta * h.sum() / len(mask)


def bonus_loss__all_places(logits, mask, beta):
    """−β·H, with H averaged over the mask: (B, T, V), (B, T) -> ()."""
    h = (entropy(logits) * mask).mean()
    return -beta * h


def bonus_loss__pick_first(logits, mask, beta):
    """−β·H, with H averaged over the mask: (B, T, V), (B, T) -> ()."""
    return -beta * entropy(logits[mask.bool()]).mean()


# ---------------------------------------------------------------- bonus_optimum
def bonus_optimum__score_over_eta(ref_logprobs, scores, eta, beta):
    """log π* for E[r] − η·KL(π ‖ π_ref) + β·H: (N,), (N,) -> (N,)."""
    tau = eta + beta
    return (ref_logprobs * eta / tau + scores / eta).log_softmax(dim=0)


def bonus_optimum__whole_reference(ref_logprobs, scores, eta, beta):
    """log π* for E[r] − η·KL(π ‖ π_ref) + β·H: (N,), (N,) -> (N,)."""
    tau = eta + beta
    return (ref_logprobs + scores / tau).log_softmax(dim=0)


def bonus_optimum__wrong_power_no_log(ref_logprobs, scores, eta, beta):
    """log π* for E[r] − η·KL(π ‖ π_ref) + β·H: (N,), (N,) -> (N,)."""
    tau = eta + beta
    x = ref_logprobs * beta / tau + scores / tau
    return x - x.exp().sum()


def bonus_optimum__one_fraction(ref_logprobs, scores, eta, beta):
    """log π* for E[r] − η·KL(π ‖ π_ref) + β·H: (N,), (N,) -> (N,)."""
    top = scores if eta == 0 else eta * ref_logprobs + scores
    x = top / (eta + beta)
    return x - x.logsumexp(dim=0)


ANSWERS = [
    ("token_entropy", "wrong", token_entropy__where_log_is_zero,
     "Where π is 0 the logarithm is −∞ and not 0, so nothing is filled in and 0 · −∞ stays NaN."),
    ("token_entropy", "wrong", token_entropy__unnormalised_weights,
     "exp of the raw logits is not a probability; the weights must be exp of the log_softmax."),
    ("token_entropy", "wrong", token_entropy__constant_weights,
     "The value is right, but the weights are detached and the gradient that is left is zero: a bonus that does not push."),
    ("token_entropy", "right", token_entropy__exp_of_safe, "exp of the filled logprobs, 1 · 0 in the forbidden places"),
    ("bonus_loss", "wrong", bonus_loss__mean_of_means,
     "Each review weighs the same here; averaged over the mask means that each token does."),
    ("bonus_loss", "wrong", bonus_loss__per_review_sum,
     "The sum is divided by the number of reviews and not by the number of tokens on the mask."),
    ("bonus_loss", "wrong", bonus_loss__all_places,
     "Two slips: the mean also divides by the padding, and what stands in the padding still goes through the entropy, so a NaN there is not harmless: select or fill before."),
    ("bonus_loss", "right", bonus_loss__pick_first, "selects the places first, then entropy, then mean"),
    ("bonus_optimum", "wrong", bonus_optimum__score_over_eta,
     "The score is divided by τ = η + β; divided by η the bonus does not soften it, and η = 0 divides by 0."),
    ("bonus_optimum", "wrong", bonus_optimum__whole_reference,
     "π_ref keeps its full weight here; the entropy bonus leaves only the power η/τ of it."),
    ("bonus_optimum", "wrong", bonus_optimum__wrong_power_no_log,
     "Two slips: the power of π_ref is η/τ and not β/τ, and normalising subtracts log Z and not Z."),
    ("bonus_optimum", "right", bonus_optimum__one_fraction, "one fraction over τ, logsumexp, η = 0 apart"),
]
