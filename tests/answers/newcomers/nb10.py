# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 10."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- reward_gap
def reward_gap__abs_after_max(rewards, scores, log_ratios, mask, eta):
    """The largest |Σ_t r_t − (score − η·log-ratio)| over the responses, ()."""
    paid = rewards.masked_fill(~mask.bool(), 0.0).sum(dim=1)
    gap = paid - (scores - eta * log_ratios)
    return gap.max().abs()


def reward_gap__bracket_and_padding(rewards, scores, log_ratios, mask, eta):
    """The largest |Σ_t r_t − (score − η·log-ratio)| over the responses, ()."""
    gap = rewards.sum(dim=1) - scores - eta * log_ratios
    return gap.abs().max()


def reward_gap__of_the_batch(rewards, scores, log_ratios, mask, eta):
    """The largest |Σ_t r_t − (score − η·log-ratio)| over the responses, ()."""
    paid = rewards[mask.bool()].sum()
    wanted = (scores - eta * log_ratios).sum()
    return (paid - wanted).abs()


def reward_gap__norm(rewards, scores, log_ratios, mask, eta):
    """The largest |Σ_t r_t − (score − η·log-ratio)| over the responses, ()."""
    paid = torch.stack([row[m.bool()].sum() for row, m in zip(rewards, mask)])
    return torch.linalg.vector_norm(paid - scores + eta * log_ratios, ord=math.inf)


# ---------------------------------------------------------------- loss_penalty
def loss_penalty__sum_per_review(logprobs, ref_logprobs, mask):
    """A KL penalty for the loss: (B, T), (B, T), (B, T) -> ()."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    return (d**2 / 2).sum(dim=1).mean()


def loss_penalty__square_of_the_mean(logprobs, ref_logprobs, mask):
    """A KL penalty for the loss: (B, T), (B, T), (B, T) -> ()."""
    d = (logprobs - ref_logprobs)[mask.bool()].mean()
    return 0.5 * d**2


def loss_penalty__no_half_all_places(logprobs, ref_logprobs, mask):
    """A KL penalty for the loss: (B, T), (B, T), (B, T) -> ()."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    return d.square().mean()


def loss_penalty__pick(logprobs, ref_logprobs, mask):
    """A KL penalty for the loss: (B, T), (B, T), (B, T) -> ()."""
    on = mask.bool()
    return F.mse_loss(logprobs[on], ref_logprobs[on]) / 2


# ---------------------------------------------------------------- next_eta
def next_eta__target_over_kl(eta, kls, mask, target):
    """η after a rollout, so that KL(π ‖ π_ref) per response approaches the target."""
    kl = kls.masked_fill(~mask.bool(), 0.0).sum(dim=1).mean().item()
    error = target / kl - 1
    return eta * (1 + max(-0.1, min(0.1, error)))


def next_eta__kl_of_the_batch(eta, kls, mask, target):
    """η after a rollout, so that KL(π ‖ π_ref) per response approaches the target."""
    kl = kls[mask.bool()].sum().item()
    error = kl / target - 1
    error = min(max(error, -0.1), 0.1)
    return eta * (1 + error)


def next_eta__error_in_nats(eta, kls, mask, target):
    """η after a rollout, so that KL(π ‖ π_ref) per response approaches the target."""
    kl = kls.masked_fill(~mask.bool(), 0.0).sum(dim=1).mean()
    error = (kl - target).clamp(-0.1, 0.1)
    return eta + error.item()


def next_eta__factor_between(eta, kls, mask, target):
    """η after a rollout, so that KL(π ‖ π_ref) per response approaches the target."""
    per_response = torch.where(mask.bool(), kls, 0.0).sum(1)
    factor = float(per_response.mean()) / target
    if factor > 1.1:
        factor = 1.1
    if factor < 0.9:
        factor = 0.9
    return eta * factor


ANSWERS = [
    ("reward_gap", "wrong", reward_gap__abs_after_max,
     "The absolute value must be taken before the maximum; a trainer that pays far too little shows its smallest gap here."),
    ("reward_gap", "wrong", reward_gap__bracket_and_padding,
     "Two slips: without a bracket the η·log-ratio is subtracted where it should be added back, and rewards off the mask are summed too."),
    ("reward_gap", "wrong", reward_gap__of_the_batch,
     "The gap is taken of the whole batch, where one response paid too much and another too little cancel: take it for each."),
    ("reward_gap", "right", reward_gap__norm, "as an infinity norm"),
    ("loss_penalty", "wrong", loss_penalty__sum_per_review,
     "It is summed over each review; asked is the mean over the tokens of the mask."),
    ("loss_penalty", "wrong", loss_penalty__square_of_the_mean,
     "The square is taken of the mean log-ratio; k2 squares each token's and then averages, or else signs cancel."),
    ("loss_penalty", "wrong", loss_penalty__no_half_all_places,
     "Two slips: the ½ of k2 is missing, and the mean also counts the places off the mask."),
    ("loss_penalty", "right", loss_penalty__pick, "half an mse_loss of the selected tokens"),
    ("next_eta", "wrong", next_eta__target_over_kl,
     "The relative error is kl / target − 1; turned round, η falls where the KL is too large."),
    ("next_eta", "wrong", next_eta__kl_of_the_batch,
     "This is the KL of the whole batch; the target is per response, so divide by the number of responses."),
    ("next_eta", "wrong", next_eta__error_in_nats,
     "Two slips: the error is in nats and not relative to the target, and the step is added to η instead of multiplying it."),
    ("next_eta", "right", next_eta__factor_between, "clips the factor between 0.9 and 1.1 with two ifs"),
]
