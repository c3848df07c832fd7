# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 03."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.best_of_n import best_of_n, best_of_n_kl_bound
from rlhf_lab.exact import evaluate, optimum


# ---------------------------------------------------------------- measure
def measure__plain_means(logprobs, ref_logprobs, scores, golds):
    """E[score], E[gold], KL(π ‖ π_ref) and H(π)."""
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = (logprobs - ref_logprobs).mean()
    entropy = (-logprobs).mean()
    return score, gold, kl, entropy


def measure__gold_under_ref(logprobs, ref_logprobs, scores, golds):
    """E[score], E[gold], KL(π ‖ π_ref) and H(π)."""
    p = logprobs.exp()
    score = p @ scores
    gold = ref_logprobs.exp() @ golds
    kl = p @ (logprobs - ref_logprobs)
    entropy = -p @ logprobs
    return score, gold, kl, entropy


def measure__ratio_of_logs(logprobs, ref_logprobs, scores, golds):
    """E[score], E[gold], KL(π ‖ π_ref) and H(π)."""
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = p @ (logprobs / ref_logprobs)
    entropy = p @ -logprobs
    return score, gold, kl, entropy


def measure__mean_under_pi(logprobs, ref_logprobs, scores, golds):
    """E[score], E[gold], KL(π ‖ π_ref) and H(π)."""
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    entropy = -(p * logprobs).sum()
    kl = -entropy - (p * ref_logprobs).sum()
    return score, gold, kl, entropy


# ---------------------------------------------------------------- gold_peak
def gold_peak__optimum_of_gold(ref_logprobs, scores, golds, etas):
    """The η of the list whose optimum the careful reader likes best."""
    best_eta, best_gold = None, -float("inf")
    for eta in etas:
        policy = optimum(ref_logprobs, golds, eta).logprobs
        gold = evaluate(policy, ref_logprobs, scores, golds).gold.item()
        if gold > best_gold:
            best_eta, best_gold = eta, gold
    return best_eta


def gold_peak__stops_at_first_fall(ref_logprobs, scores, golds, etas):
    """The η of the list whose optimum the careful reader likes best."""
    previous_eta, previous = etas[0], -float("inf")
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta=eta).logprobs
        gold = evaluate(policy, ref_logprobs, scores, golds).gold
        if gold < previous:
            return previous_eta
        previous_eta, previous = eta, gold
    return previous_eta


def gold_peak__starts_at_zero(ref_logprobs, scores, golds, etas):
    """The η of the list whose optimum the careful reader likes best."""
    best, best_eta = 0, None
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        gold = policy.exp() @ golds
        if gold > best:
            best = gold
            best_eta = eta
    return best_eta


def gold_peak__argmax_of_tensor(ref_logprobs, scores, golds, etas):
    """The η of the list whose optimum the careful reader likes best."""
    golds_seen = torch.stack([optimum(ref_logprobs, scores, eta).logprobs.exp() @ golds for eta in etas])
    return etas[int(golds_seen.argmax())]


# ---------------------------------------------------------------- best_of_n_kl
def best_of_n_kl__weights_of_ref(ref_logprobs, scores, n):
    """KL(π_bon ‖ π_ref) in nats."""
    bon = best_of_n(ref_logprobs, scores, n)
    return ref_logprobs.exp() @ (bon - ref_logprobs)


def best_of_n_kl__mean_over_responses(ref_logprobs, scores, n):
    """KL(π_bon ‖ π_ref) in nats."""
    bon = best_of_n(ref_logprobs, scores, n)
    log_ratio = bon - ref_logprobs
    return (bon.exp() * log_ratio).mean()


def best_of_n_kl__unpacked_in_wrong_order(ref_logprobs, scores, n):
    """KL(π_bon ‖ π_ref) in nats."""
    bon = best_of_n(ref_logprobs, scores, n)
    score, gold, entropy, kl = evaluate(bon, ref_logprobs, scores, scores)
    return kl


def best_of_n_kl__by_evaluate(ref_logprobs, scores, n):
    """KL(π_bon ‖ π_ref) in nats."""
    winner = best_of_n(ref_logprobs, scores, n)
    return evaluate(winner, ref_logprobs, scores, scores)[2]


ANSWERS = [
    ("measure", "wrong", measure__plain_means,
     "Both KL and entropy are averaged over the list, each response once, and not under π: weight with p."),
    ("measure", "wrong", measure__gold_under_ref,
     "The gold score is averaged under π_ref, so it is the same whatever π does."),
    ("measure", "wrong", measure__ratio_of_logs,
     "log(π/π_ref) is the difference of the two logs and not their quotient."),
    ("measure", "right", measure__mean_under_pi, "KL as cross-entropy minus entropy"),
    ("gold_peak", "wrong", gold_peak__optimum_of_gold,
     "The policy is tilted towards the gold score, which training never sees; it must be the optimum for `scores`, judged by gold."),
    ("gold_peak", "wrong", gold_peak__stops_at_first_fall,
     "It stops at the first fall, so it needs a list in order and with a single peak; look at all of them."),
    ("gold_peak", "wrong", gold_peak__starts_at_zero,
     "The search starts from gold 0, so where all golds are negative nothing is found and None comes back."),
    ("gold_peak", "right", gold_peak__argmax_of_tensor, "collect, stack, argmax, look up"),
    ("best_of_n_kl", "wrong", best_of_n_kl__weights_of_ref,
     "The log-ratio is averaged under π_ref, so this is minus the KL of the other direction; weight with π_bon."),
    ("best_of_n_kl", "wrong", best_of_n_kl__mean_over_responses,
     "The weights already add up to 1, so sum; the mean divides once more by the number of responses."),
    ("best_of_n_kl", "wrong", best_of_n_kl__unpacked_in_wrong_order,
     "evaluate returns score, gold, KL, entropy in this order: what is called kl here is the entropy."),
    ("best_of_n_kl", "right", best_of_n_kl__by_evaluate, "lets evaluate do it, takes item 2"),
]
