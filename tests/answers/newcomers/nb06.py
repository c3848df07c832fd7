# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 06."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- compute_rewards
def compute_rewards__count_minus_one(scores, logprobs, ref_logprobs, mask, eta):
    """−η·k1 on every token of the mask, and the score on the last: (B,), three (B, T) -> (B, T)."""
    rewards = -eta * (logprobs - ref_logprobs).detach()
    rewards = rewards.masked_fill(~mask.bool(), 0.0)
    last = mask.sum(dim=1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores.detach()
    return rewards


def compute_rewards__gradient_flows(scores, logprobs, ref_logprobs, mask, eta):
    """−η·k1 on every token of the mask, and the score on the last: (B,), three (B, T) -> (B, T)."""
    keep = mask.bool()
    penalty = -eta * (logprobs - ref_logprobs).masked_fill(~keep, 0.0)
    last = (keep * torch.arange(1, mask.shape[1] + 1)).argmax(dim=1)
    paid = torch.zeros_like(penalty)
    paid[torch.arange(len(scores)), last] = scores
    return penalty + paid


def compute_rewards__score_replaces_penalty(scores, logprobs, ref_logprobs, mask, eta):
    """−η·k1 on every token of the mask, and the score on the last: (B,), three (B, T) -> (B, T)."""
    rewards = torch.zeros_like(logprobs)
    for b in range(len(scores)):
        on = mask[b].nonzero().squeeze(1)
        rewards[b, on] = -eta * (logprobs[b, on] - ref_logprobs[b, on]).detach()
        rewards[b, on[-1]] = scores[b].detach()
    return rewards


def compute_rewards__row_by_row(scores, logprobs, ref_logprobs, mask, eta):
    """−η·k1 on every token of the mask, and the score on the last: (B,), three (B, T) -> (B, T)."""
    with torch.no_grad():
        rewards = torch.zeros_like(logprobs)
        for b, row in enumerate(mask.bool()):
            rewards[b, row] = eta * (ref_logprobs[b, row] - logprobs[b, row])
            last = row.nonzero()[-1].item()
            rewards[b, last] += scores[b]
    return rewards


# ---------------------------------------------------------------- kl_penalty
def kl_penalty__mse_is_a_mean(logprob, ref_logprob, mode):
    """The penalty of each token for leaving π_ref, in nats, before η."""
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return 0.5 * F.mse_loss(logprob, ref_logprob)
    return (logprob.exp() * d).sum(dim=-1)  # "full": the mean of d under π


def kl_penalty__no_exp_no_half(logprob, ref_logprob, mode):
    """The penalty of each token for leaving π_ref, in nats, before η."""
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2
    return (logprob * d).sum(dim=-1)  # "full": the mean of d under π


def kl_penalty__kl_div_order(logprob, ref_logprob, mode):
    """The penalty of each token for leaving π_ref, in nats, before η."""
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return 0.5 * d.square()
    return F.kl_div(logprob, ref_logprob, log_target=True, reduction="none").sum(-1)


def kl_penalty__kl_div(logprob, ref_logprob, mode):
    """The penalty of each token for leaving π_ref, in nats, before η."""
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return 0.5 * d * d
    # torch's order is (input, target) and gives KL(target || input)
    return F.kl_div(ref_logprob, logprob, log_target=True, reduction="none").sum(-1)


# ---------------------------------------------------------------- kl_loss
def kl_loss__square_of_the_sum(logprobs, ref_logprobs, mask):
    """A loss with the gradient of KL(π ‖ π_ref) at the visited places: three (B, T) -> ()."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0).sum(dim=1)
    return (0.5 * d**2).mean()


def kl_loss__mean_over_tokens(logprobs, ref_logprobs, mask):
    """A loss with the gradient of KL(π ‖ π_ref) at the visited places: three (B, T) -> ()."""
    keep = mask.bool()
    k2 = 0.5 * (logprobs[keep] - ref_logprobs[keep]) ** 2
    return k2.mean()


def kl_loss__k3(logprobs, ref_logprobs, mask):
    """A loss with the gradient of KL(π ‖ π_ref) at the visited places: three (B, T) -> ()."""
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    k3 = torch.exp(-d) - 1 + d  # the better estimator
    return k3.sum(dim=1).mean()


def kl_loss__sum_over_batch_size(logprobs, ref_logprobs, mask):
    """A loss with the gradient of KL(π ‖ π_ref) at the visited places: three (B, T) -> ()."""
    keep = mask.bool()
    d = logprobs[keep] - ref_logprobs[keep]
    return d.dot(d) / (2 * len(mask))


# ---------------------------------------------------------------- controller_update
def controller_update__clips_too_late(self, kl, n_steps):
    """Move self.value (η) once, after n_steps responses whose mean KL was kl."""
    step = (kl / self.target - 1) * n_steps / self.horizon
    step = min(max(step, -0.2), 0.2)
    self.value *= 1 + step


def controller_update__adds(self, kl, n_steps):
    """Move self.value (η) once, after n_steps responses whose mean KL was kl."""
    error = max(-0.2, min(0.2, kl / self.target - 1))
    self.value += error * n_steps / self.horizon


def controller_update__clips_above_only(self, kl, n_steps):
    """Move self.value (η) once, after n_steps responses whose mean KL was kl."""
    error = min(kl / self.target - 1, 0.2)
    self.value = self.value * (1 + error * n_steps / self.horizon)


def controller_update__branches(self, kl, n_steps):
    """Move self.value (η) once, after n_steps responses whose mean KL was kl."""
    error = (kl - self.target) / self.target
    if error > 0.2:
        error = 0.2
    elif error < -0.2:
        error = -0.2
    self.value = self.value + self.value * error * n_steps / self.horizon


ANSWERS = [
    ("compute_rewards", "wrong", compute_rewards__count_minus_one,
     "The number of tokens minus one is the last position only without padding on the left; otherwise the score lands too early."),
    ("compute_rewards", "wrong", compute_rewards__gradient_flows,
     "The numbers are right, but they still hang on logprobs: .detach() is missing, and PPO would differentiate its own reward."),
    ("compute_rewards", "wrong", compute_rewards__score_replaces_penalty,
     "On the last token the score overwrites the penalty, where it must be added to it."),
    ("compute_rewards", "right", compute_rewards__row_by_row, "row by row under no_grad"),
    ("kl_penalty", "wrong", kl_penalty__mse_is_a_mean,
     "F.mse_loss averages over the batch to one number; the mode wants one penalty, d²/2, for each token."),
    ("kl_penalty", "wrong", kl_penalty__no_exp_no_half,
     "Two slips: in \"full\" the weights are probabilities, so exp is missing, and in \"mse\" the square lacks its ½."),
    ("kl_penalty", "wrong", kl_penalty__kl_div_order,
     "F.kl_div(input, target) is KL(target ‖ input), so in this order it is KL(π_ref ‖ π)."),
    ("kl_penalty", "right", kl_penalty__kl_div, "with torch's kl_div, in the right order"),
    ("kl_loss", "wrong", kl_loss__square_of_the_sum,
     "The square is taken of the review's sum; k2 is d²/2 of each token, and these are summed."),
    ("kl_loss", "wrong", kl_loss__mean_over_tokens,
     "This is the mean over all tokens; asked is the sum over each review and then the mean over the reviews."),
    ("kl_loss", "wrong", kl_loss__k3,
     "k3 is the better estimator as a number, but its gradient is that of KL(π_ref ‖ π), the other direction; in the loss it must be k2."),
    ("kl_loss", "right", kl_loss__sum_over_batch_size, "a dot product over the selected tokens"),
    ("controller_update", "wrong", controller_update__clips_too_late,
     "The error itself is clipped to ±0.2, before n/horizon; clipped afterwards almost nothing is ever cut."),
    ("controller_update", "wrong", controller_update__adds,
     "η is multiplied by 1 + the step; here the step is added and does not scale with η."),
    ("controller_update", "wrong", controller_update__clips_above_only,
     "The error is clipped from above only; below it must stop at −0.2 too."),
    ("controller_update", "right", controller_update__branches, "if and elif, relative error written as a fraction"),
]
