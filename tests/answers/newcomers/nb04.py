# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 04."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.exact import argmax_policy, evaluate, objective, optimum
from rlhf_lab.kl import exact_kl


# ---------------------------------------------------------------- total_reward
def total_reward__times_the_mask(scores, logprobs, ref_logprobs, mask, eta):
    """r − η·(log π(y) − log π_ref(y)) of each response."""
    penalties = ((logprobs - ref_logprobs) * mask).sum(dim=1)  # (B,), one per response
    return scores - eta * penalties


def total_reward__weighted_with_pi(scores, logprobs, ref_logprobs, mask, eta):
    """r − η·(log π(y) − log π_ref(y)) of each response."""
    log_ratio = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    p = logprobs.exp().masked_fill(~mask.bool(), 0.0)
    penalties = (p * log_ratio).sum(dim=1)  # KL
    return scores - eta * penalties


def total_reward__one_for_all(scores, logprobs, ref_logprobs, mask, eta):
    """r − η·(log π(y) − log π_ref(y)) of each response."""
    penalties = (logprobs[mask.bool()] - ref_logprobs[mask.bool()]).sum()
    return scores - eta * penalties


def total_reward__where(scores, logprobs, ref_logprobs, mask, eta):
    """r − η·(log π(y) − log π_ref(y)) of each response."""
    penalties = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0).sum(-1)
    return scores - eta * penalties


# ---------------------------------------------------------------- exact_kl
def exact_kl__softmax_again(logprobs, ref_logprobs):
    """KL(π ‖ π_ref) over the last dimension, in nats."""
    weights = logprobs.softmax(dim=-1)
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__constant_weights(logprobs, ref_logprobs):
    """KL(π ‖ π_ref) over the last dimension, in nats."""
    weights = logprobs.exp().detach()
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__no_log(logprobs, ref_logprobs):
    """KL(π ‖ π_ref) over the last dimension, in nats."""
    weights = logprobs.exp()
    return (weights * (weights / ref_logprobs.exp())).sum(dim=-1)


def exact_kl__as_written(logprobs, ref_logprobs):
    """KL(π ‖ π_ref) over the last dimension, in nats."""
    weights = torch.exp(logprobs)
    ratio = (logprobs - ref_logprobs).masked_fill(weights == 0, 0.0)  # 0 log 0 = 0
    return (weights * ratio).sum(dim=-1)


# ---------------------------------------------------------------- optimal_policy
def optimal_policy__score_as_value(ref_logprobs, scores, eta):
    """(log π* of every response, J*)"""
    best = (ref_logprobs + scores / eta).log_softmax(dim=0)
    return best, best.exp() @ scores


def optimal_policy__bracket(ref_logprobs, scores, eta):
    """(log π* of every response, J*)"""
    tilted = (ref_logprobs + scores) / eta
    log_z = tilted.logsumexp(dim=0)
    return tilted - log_z, eta * log_z


def optimal_policy__divided_by_log_z(ref_logprobs, scores, eta):
    """(log π* of every response, J*)"""
    unnormalised = ref_logprobs + scores / eta
    log_z = torch.logsumexp(unnormalised, dim=0)
    return unnormalised / log_z, eta * log_z


def optimal_policy__log_softmax(ref_logprobs, scores, eta):
    """(log π* of every response, J*)"""
    tilted = ref_logprobs + scores / eta
    return F.log_softmax(tilted, dim=-1), tilted.logsumexp(-1) * eta


# ---------------------------------------------------------------- regret
def regret__score_only(logprobs, ref_logprobs, scores, eta):
    """J* − J(π) ≥ 0, in units of score."""
    j_star = optimum(ref_logprobs, scores, eta).value
    return j_star - logprobs.exp() @ scores


def regret__kl_other_way(logprobs, ref_logprobs, scores, eta):
    """J* − J(π) ≥ 0, in units of score."""
    best = optimum(ref_logprobs, scores, eta).logprobs
    return eta * exact_kl(best, logprobs)


def regret__tilted_from_pi(logprobs, ref_logprobs, scores, eta):
    """J* − J(π) ≥ 0, in units of score."""
    best = optimum(logprobs, scores, eta)
    return best.value - objective(logprobs, ref_logprobs, scores, eta)


def regret__distance_to_the_best(logprobs, ref_logprobs, scores, eta):
    """J* − J(π) ≥ 0, in units of score."""
    best = optimum(ref_logprobs, scores, eta)
    return eta * exact_kl(logprobs, best.logprobs)


# ---------------------------------------------------------------- eta_for_budget
def eta_for_budget__nearest(ref_logprobs, scores, etas, budget):
    """The best affordable η of the list."""
    def miss(eta):
        policy = optimum(ref_logprobs, scores, eta).logprobs
        return abs(exact_kl(policy, ref_logprobs).item() - budget)

    return min(etas, key=miss)


def eta_for_budget__first_affordable(ref_logprobs, scores, etas, budget):
    """The best affordable η of the list."""
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if exact_kl(policy, ref_logprobs) <= budget:
            return eta


def eta_for_budget__kl_from_ref(ref_logprobs, scores, etas, budget):
    """The best affordable η of the list."""
    best, best_score = None, -torch.inf
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        score = policy.exp() @ scores
        if exact_kl(ref_logprobs, policy) <= budget and score > best_score:
            best, best_score = eta, score
    return best


def eta_for_budget__two_steps(ref_logprobs, scores, etas, budget):
    """The best affordable η of the list."""
    affordable = []
    for eta in etas:
        e = evaluate(optimum(ref_logprobs, scores, eta).logprobs, ref_logprobs, scores, scores)
        if e.kl <= budget:
            affordable.append((e.score.item(), eta))
    return max(affordable)[1]


ANSWERS = [
    ("total_reward", "wrong", total_reward__times_the_mask,
     "Off the mask −∞ may stand, and −∞ · 0 is NaN: replace what is off the mask instead of multiplying it by 0."),
    ("total_reward", "wrong", total_reward__weighted_with_pi,
     "The tokens were already sampled from π, so the log-ratios are summed as they are; the weight π(token) counts π twice."),
    ("total_reward", "wrong", total_reward__one_for_all,
     "The log-ratios of the whole batch are added into one number and every response pays it: sum along each row."),
    ("total_reward", "right", total_reward__where, "torch.where instead of masked_fill"),
    ("exact_kl", "wrong", exact_kl__softmax_again,
     "The value is right, but the softmax normalises once more, so the gradient by the logprobs as given is another one: use exp."),
    ("exact_kl", "wrong", exact_kl__constant_weights,
     "The weights depend on π too; detached, the gradient lacks their part."),
    ("exact_kl", "wrong", exact_kl__no_log,
     "The ratio is averaged without its logarithm: KL is the mean of log(π/π_ref)."),
    ("exact_kl", "right", exact_kl__as_written, "the formula, with care for 0 · log 0"),
    ("optimal_policy", "wrong", optimal_policy__score_as_value,
     "The policy is right, but J* is E[r] − η·KL = η·log Z, and this is E[r] alone, without the price of the KL."),
    ("optimal_policy", "wrong", optimal_policy__bracket,
     "Only the score is divided by η; with the bracket π_ref is raised to the power 1/η too."),
    ("optimal_policy", "wrong", optimal_policy__divided_by_log_z,
     "Dividing by Z is subtracting log Z from the logarithm; dividing the logarithm by log Z does not normalise."),
    ("optimal_policy", "right", optimal_policy__log_softmax, "log_softmax and logsumexp"),
    ("regret", "wrong", regret__score_only,
     "J(π) is E[r] − η·KL(π ‖ π_ref), and the KL term of π is missing, so a far-off policy can even beat J*."),
    ("regret", "wrong", regret__kl_other_way,
     "The regret is η·KL(π ‖ π*), a mean under π; here the two are exchanged."),
    ("regret", "wrong", regret__tilted_from_pi,
     "The optimum is tilted from π instead of π_ref, so it is the best policy of another problem."),
    ("regret", "right", regret__distance_to_the_best, "the short way, by the KL to π*"),
    ("eta_for_budget", "wrong", eta_for_budget__nearest,
     "The η nearest to the budget may lie above it; first keep only those with KL ≤ budget."),
    ("eta_for_budget", "wrong", eta_for_budget__first_affordable,
     "The first affordable η of the list is the best only if the list happens to rise: compare all that are affordable."),
    ("eta_for_budget", "wrong", eta_for_budget__kl_from_ref,
     "The budget is for KL(π* ‖ π_ref), and here the two arguments are exchanged."),
    ("eta_for_budget", "right", eta_for_budget__two_steps, "collects (score, η) pairs and takes the largest"),
]
