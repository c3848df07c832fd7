# fmt: off
# ruff: noqa
"""Students' answers, notebook 10."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# ---------------------------------------------------------------- reward_gap


def reward_gap__no_abs(rewards, scores, log_ratios, mask, eta):
    paid = (rewards * mask).sum(dim=1)
    return (paid - (scores - eta * log_ratios)).max()


def reward_gap__mean(rewards, scores, log_ratios, mask, eta):
    paid = torch.where(mask.bool(), rewards, 0.0).sum(dim=1)
    return (paid - (scores - eta * log_ratios)).abs().mean()


def reward_gap__no_mask(rewards, scores, log_ratios, mask, eta):
    return (rewards.sum(dim=1) - (scores - eta * log_ratios)).abs().max()


def reward_gap__plus(rewards, scores, log_ratios, mask, eta):
    paid = (rewards * mask).sum(dim=1)
    return (paid - scores - eta * log_ratios).abs().max()


def reward_gap__whole_batch(rewards, scores, log_ratios, mask, eta):
    paid = rewards[mask.bool()].sum()
    owed = (scores - eta * log_ratios).sum()
    return (paid - owed).abs()


def reward_gap__log_ratios_of_tokens(rewards, scores, log_ratios, mask, eta):
    paid = (rewards * mask).sum(dim=1)
    return (paid - (scores - eta * (log_ratios * mask).sum(dim=1))).abs().max()


def reward_gap__item_of_largest(rewards, scores, log_ratios, mask, eta):
    paid = (rewards * mask).sum(dim=1)
    gaps = (paid - (scores - eta * log_ratios)).abs()
    return gaps.max(dim=0)


def reward_gap__per_token_and_signed(rewards, scores, log_ratios, mask, eta):
    paid = (rewards * mask).sum(dim=1) / mask.sum(dim=1)
    return (paid - (scores - eta * log_ratios)).max()


def reward_gap__loop_right(rewards, scores, log_ratios, mask, eta):
    worst = torch.zeros((), dtype=rewards.dtype)
    for r, s, d, m in zip(rewards, scores, log_ratios, mask):
        gap = abs(r[m.bool()].sum() - (s - eta * d))
        worst = torch.maximum(worst, gap.to(worst.dtype))
    return worst


def reward_gap__norm_right(rewards, scores, log_ratios, mask, eta):
    paid = torch.einsum("bt->b", torch.where(mask.bool(), rewards, torch.zeros_like(rewards)))
    return torch.linalg.vector_norm(paid + eta * log_ratios - scores, ord=float("inf"))


# ---------------------------------------------------------------- loss_penalty


def loss_penalty__k1(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return torch.where(mask.bool(), d, 0.0).sum() / mask.sum()


def loss_penalty__k3(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs)[mask.bool()]
    return ((-d).exp() - 1 + d).mean()


def loss_penalty__no_half(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs)[mask.bool()]
    return d.square().mean()


def loss_penalty__sum_per_review(logprobs, ref_logprobs, mask):
    k2 = (logprobs - ref_logprobs) ** 2 / 2
    return torch.where(mask.bool(), k2, 0.0).sum(dim=1).mean()


def loss_penalty__detached(logprobs, ref_logprobs, mask):
    d = (logprobs.detach() - ref_logprobs)[mask.bool()]
    return (d**2 / 2).mean()


def loss_penalty__rectangle(logprobs, ref_logprobs, mask):
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    return 0.5 * (d * d).mean()


def loss_penalty__square_of_the_mean(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs)[mask.bool()].mean()
    return d**2 / 2


def loss_penalty__k3_turned_and_no_mask(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (d.exp() - 1 - d).mean()


def loss_penalty__mse_loss_right(logprobs, ref_logprobs, mask):
    keep = mask.bool()
    return F.mse_loss(logprobs[keep], ref_logprobs[keep]) / 2


def loss_penalty__loop_right(logprobs, ref_logprobs, mask):
    total, count = 0.0, 0
    for b, t in mask.nonzero().tolist():
        total = total + 0.5 * (logprobs[b, t] - ref_logprobs[b, t]) ** 2
        count += 1
    return total / count


# ---------------------------------------------------------------- next_eta


def next_eta__per_token(eta, kls, mask, target):
    kl = (kls * mask).sum() / mask.sum()
    error = min(max(kl.item() / target - 1, -0.1), 0.1)
    return eta * (1 + error)


def next_eta__wrong_way(eta, kls, mask, target):
    kl = (kls * mask).sum(dim=1).mean().item()
    error = max(-0.1, min(0.1, 1 - kl / target))
    return eta * (1 + error)


def next_eta__no_clip(eta, kls, mask, target):
    kl = (kls * mask).sum(dim=1).mean().item()
    return eta * (1 + (kl / target - 1))


def next_eta__added(eta, kls, mask, target):
    kl = (kls * mask).sum(dim=1).mean().item()
    error = min(max(kl / target - 1, -0.1), 0.1)
    return eta + error


def next_eta__trl_clip(eta, kls, mask, target):
    kl = (kls * mask).sum(dim=1).mean().item()
    proportional_error = min(max(kl / target - 1, -0.2), 0.2)
    return eta * (1 + proportional_error)


def next_eta__no_mask(eta, kls, mask, target):
    kl = kls.sum(dim=1).mean().item()
    error = min(max(kl / target - 1, -0.1), 0.1)
    return eta * (1 + error)


def next_eta__whole_batch(eta, kls, mask, target):
    kl = (kls * mask).sum().item()
    error = min(max(kl / target - 1, -0.1), 0.1)
    return eta * (1 + error)


def next_eta__abs_and_upper_clip_only(eta, kls, mask, target):
    kl = (kls.abs() * mask).sum(dim=1).mean().item()
    return eta * (1 + min(kl / target - 1, 0.1))


def next_eta__bounds_right(eta, kls, mask, target):
    nats = torch.where(mask.bool(), kls, 0.0).sum(1).mean().item()
    wanted = eta * nats / target
    return min(max(wanted, 0.9 * eta), 1.1 * eta)


def next_eta__torch_right(eta, kls, mask, target):
    per_response = kls[mask.bool()].sum() / len(kls)
    error = torch.clamp((per_response - target) / target, min=-0.1, max=0.1)
    return float(eta + eta * error)


ANSWERS = [
    ("reward_gap", "wrong", reward_gap__no_abs, "Without abs the largest signed gap: a trainer that pays too little is not noticed."),
    ("reward_gap", "wrong", reward_gap__mean, "The mean gap; the largest was asked, so that one bad response cannot hide."),
    ("reward_gap", "wrong", reward_gap__no_mask, "The mask is not used: what stands in the padding is counted as paid."),
    ("reward_gap", "wrong", reward_gap__plus, "The sign of the penalty: paid - (score - eta d) is paid - score + eta d."),
    ("reward_gap", "wrong", reward_gap__whole_batch, "Sums over the whole batch: gaps of opposite sign cancel; it must hold for each response."),
    ("reward_gap", "wrong", reward_gap__log_ratios_of_tokens, "log_ratios is one number per response already; times the mask it does not fit (or counts them several times)."),
    ("reward_gap", "wrong", reward_gap__item_of_largest, "max(dim=0) returns a pair of value and position; one tensor of shape () was asked."),
    ("reward_gap", "wrong", reward_gap__per_token_and_signed, "Two things: the rewards of a response are averaged over its tokens instead of added, and abs is missing."),
    ("reward_gap", "right", reward_gap__loop_right, "loop that keeps the largest gap"),
    ("reward_gap", "right", reward_gap__norm_right, "einsum and the infinity norm"),
    ("loss_penalty", "wrong", loss_penalty__k1, "k1: in the loss its mean gradient is 0; k2 has the right one."),
    ("loss_penalty", "wrong", loss_penalty__k3, "k3: as a loss its mean gradient is that of the other direction, KL(pi_ref || pi); k2 has the right one."),
    ("loss_penalty", "wrong", loss_penalty__no_half, "The half is missing: twice the gradient."),
    ("loss_penalty", "wrong", loss_penalty__sum_per_review, "Summed over each response and averaged over responses; here the average over the mask was asked."),
    ("loss_penalty", "wrong", loss_penalty__detached, "log pi is detached: a number without a gradient, which moves nothing."),
    ("loss_penalty", "wrong", loss_penalty__rectangle, "Divided by all places of the rectangle instead of by those on the mask."),
    ("loss_penalty", "wrong", loss_penalty__square_of_the_mean, "The mean is taken before the square: the log-ratios cancel each other."),
    ("loss_penalty", "wrong", loss_penalty__k3_turned_and_no_mask, "Two things: k3 (with the ratio turned round, at that) instead of k2, and the mask is not used."),
    ("loss_penalty", "right", loss_penalty__mse_loss_right, "F.mse_loss on the selected tokens, halved"),
    ("loss_penalty", "right", loss_penalty__loop_right, "loop over the positions of the mask"),
    ("next_eta", "wrong", next_eta__per_token, "Nats per token are compared with a target per response."),
    ("next_eta", "wrong", next_eta__wrong_way, "The error is turned round: eta falls when the KL is too large."),
    ("next_eta", "wrong", next_eta__no_clip, "The change is not limited to 10 %."),
    ("next_eta", "wrong", next_eta__added, "The error is added to eta; eta changes by that share of itself."),
    ("next_eta", "wrong", next_eta__trl_clip, "20 % as in TRL; 10 % at most was asked."),
    ("next_eta", "wrong", next_eta__no_mask, "The mask is not used: what stands in the padding is counted."),
    ("next_eta", "wrong", next_eta__whole_batch, "The nats of the whole batch; the mean over responses is missing."),
    ("next_eta", "wrong", next_eta__abs_and_upper_clip_only, "Two things: |penalty| instead of the penalty, and the limit of 10 % holds upwards only."),
    ("next_eta", "right", next_eta__bounds_right, "clips eta itself between 0.9 and 1.1 of it"),
    ("next_eta", "right", next_eta__torch_right, "torch.clamp on a tensor, returned as float"),
]
