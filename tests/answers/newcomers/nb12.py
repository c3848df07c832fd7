# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 12."""
import torch
import torch.nn.functional as F
from torch import Tensor

# ---------------------------------------------------------------- recovered_scores
def recovered_scores__dot(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    implied = beta * (logprobs - ref_logprobs)
    return implied - ref_logprobs.exp() @ implied


def recovered_scores__loop(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    r = [beta * (a - b) for a, b in zip(logprobs, ref_logprobs)]
    mean = 0.0
    for value, lp in zip(r, ref_logprobs):
        mean = mean + torch.exp(lp) * value
    return torch.stack([value - mean for value in r])


def recovered_scores__not_shifted(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    log_ratio = logprobs - ref_logprobs
    return beta * log_ratio


def recovered_scores__plain_mean(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    scores = beta * (logprobs - ref_logprobs)
    return scores - scores.mean()


def recovered_scores__mean_under_policy(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    r_hat = beta * (logprobs - ref_logprobs)
    kl = (logprobs.exp() * r_hat).sum()
    return r_hat - kl


def recovered_scores__shift_without_beta(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    ratio = logprobs - ref_logprobs
    mean = (ref_logprobs.exp() * ratio).sum()
    return beta * ratio - mean


def recovered_scores__log_of_logprobs(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    implicit = beta * torch.log(logprobs / ref_logprobs)
    return implicit - (torch.exp(ref_logprobs) * implicit).sum()


def recovered_scores__weights_are_logs(logprobs, ref_logprobs, beta):
    """β·log(π/π_ref), shifted so that its mean under π_ref is 0."""
    implied = beta * (logprobs - ref_logprobs)
    shift = ref_logprobs @ implied
    return implied - shift


# ---------------------------------------------------------------- dpo_loss
def dpo_loss__logsigmoid(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    up = chosen_logprobs - ref_chosen_logprobs
    down = rejected_logprobs - ref_rejected_logprobs
    return -F.logsigmoid(beta * (up - down)).mean()


def dpo_loss__loop_as_in_the_cell_above(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    N = chosen_logprobs.shape[0]
    loss = 0
    for i in range(N):
        margin = (chosen_logprobs[i] - ref_chosen_logprobs[i]) - (rejected_logprobs[i] - ref_rejected_logprobs[i])
        loss = loss - torch.sigmoid(beta * margin).log()
    return loss / N


def dpo_loss__brackets_lost(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    margin = chosen_logprobs - ref_chosen_logprobs - rejected_logprobs - ref_rejected_logprobs
    return -F.logsigmoid(beta * margin).mean()


def dpo_loss__beta_outside(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    pi = chosen_logprobs - rejected_logprobs
    ref = ref_chosen_logprobs - ref_rejected_logprobs
    return -beta * torch.nn.functional.logsigmoid(pi - ref).mean()


def dpo_loss__log_of_the_mean(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    margins = (chosen_logprobs - ref_chosen_logprobs) - (rejected_logprobs - ref_rejected_logprobs)
    p = torch.sigmoid(beta * margins)  # P(chosen wins)
    return -p.mean().log()


def dpo_loss__rejected_reward_detached(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    chosen_rewards = beta * (chosen_logprobs - ref_chosen_logprobs)
    rejected_rewards = beta * (rejected_logprobs - ref_rejected_logprobs).detach()  # like a baseline
    return -F.logsigmoid(chosen_rewards - rejected_rewards).mean()


def dpo_loss__sigma_of_each(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    r_w = beta * (chosen_logprobs - ref_chosen_logprobs)
    r_l = beta * (rejected_logprobs - ref_rejected_logprobs)
    return -(F.logsigmoid(r_w) - F.logsigmoid(r_l)).mean()


def dpo_loss__softplus_sign(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    """DPO's mean loss of N pairs."""
    h = (chosen_logprobs - rejected_logprobs) - (ref_chosen_logprobs - ref_rejected_logprobs)
    return F.softplus(beta * h).mean()


ANSWERS = [
    ("recovered_scores", "right", recovered_scores__dot, "vectorised, mean as a dot product with exp(ref)"),
    ("recovered_scores", "right", recovered_scores__loop, "a loop over the responses"),
    ("recovered_scores", "wrong", recovered_scores__not_shifted, "the implicit reward as it is, not shifted"),
    ("recovered_scores", "wrong", recovered_scores__plain_mean, "shifted by the unweighted mean"),
    ("recovered_scores", "wrong", recovered_scores__mean_under_policy, "shifted by the mean under pi, not under pi_ref"),
    ("recovered_scores", "wrong", recovered_scores__shift_without_beta, "the mean that is subtracted is that of the log-ratio, without beta"),
    ("recovered_scores", "wrong", recovered_scores__log_of_logprobs, "log(logprobs / ref_logprobs): the log is taken twice"),
    ("recovered_scores", "wrong", recovered_scores__weights_are_logs, "exp forgotten: the mean is weighted with log-probabilities"),

    ("dpo_loss", "right", dpo_loss__logsigmoid, "two log-ratios and logsigmoid"),
    ("dpo_loss", "wrong", dpo_loss__loop_as_in_the_cell_above, "a loop, sigmoid(...).log() as in the notebook's own cell"),
    ("dpo_loss", "wrong", dpo_loss__brackets_lost, "brackets lost: the sign of ref_rejected is wrong"),
    ("dpo_loss", "wrong", dpo_loss__beta_outside, "beta in front of the loss, not inside the sigmoid"),
    ("dpo_loss", "wrong", dpo_loss__log_of_the_mean, "the log of the mean probability, not the mean of the logs"),
    ("dpo_loss", "wrong", dpo_loss__rejected_reward_detached, "the rejected log-ratio is detached: right value, the rejected gets no gradient"),
    ("dpo_loss", "wrong", dpo_loss__sigma_of_each, "log sigmoid of each reward, then the difference"),
    ("dpo_loss", "wrong", dpo_loss__softplus_sign, "softplus(+z) in place of softplus(-z): chosen and rejected swapped"),
]
