# fmt: off
# ruff: noqa
"""Students' answers, notebook 03."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.best_of_n import best_of_n, best_of_n_kl_bound
from rlhf_lab.exact import evaluate, optimum

# ---------------------------------------------------------------- measure


def measure__kl_sign(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = p @ (ref_logprobs - logprobs)
    entropy = -(p @ logprobs)
    return score, gold, kl, entropy


def measure__entropy_sign(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = p @ (logprobs - ref_logprobs)
    entropy = p @ logprobs
    return score, gold, kl, entropy


def measure__plain_means(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = (logprobs - ref_logprobs).mean()
    entropy = -logprobs.mean()
    return score, gold, kl, entropy


def measure__kl_under_ref(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = ref_logprobs.exp() @ (logprobs - ref_logprobs)
    entropy = -(p * logprobs).sum()
    return score, gold, kl, entropy


def measure__order(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    entropy = -(p * logprobs).sum()
    kl = (p * (logprobs - ref_logprobs)).sum()
    return score, gold, entropy, kl


def measure__bits(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = torch.sum(p * (logprobs - ref_logprobs))
    entropy = -torch.sum(p * torch.log2(p))
    return score, gold, kl, entropy


def measure__torch_kl_div(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = p @ golds
    kl = F.kl_div(logprobs, ref_logprobs, log_target=True, reduction="sum")
    entropy = -(p * logprobs).sum()
    return score, gold, kl, entropy


def measure__gold_of_ref_and_entropy_mean(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    score = p @ scores
    gold = ref_logprobs.exp() @ golds
    kl = p @ (logprobs - ref_logprobs)
    entropy = -(p * logprobs).mean()
    return score, gold, kl, entropy


def measure__helper_right(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()

    def mean(x):
        return torch.where(p > 0, p * x, 0.0).sum()

    return mean(scores), mean(golds), mean(logprobs - ref_logprobs), mean(-logprobs)


def measure__cross_entropy_right(logprobs, ref_logprobs, scores, golds):
    p = torch.exp(logprobs)
    score, gold = torch.einsum("n,kn->k", p, torch.stack([scores.to(p), golds.to(p)]))
    entropy = -p.dot(logprobs)
    cross = -p.dot(ref_logprobs)
    return score, gold, cross - entropy, entropy


# ---------------------------------------------------------------- gold_peak


def gold_peak__the_gold_itself(ref_logprobs, scores, golds, etas):
    values = []
    for eta in etas:
        p = optimum(ref_logprobs, scores, eta).logprobs.exp()
        values.append(p @ golds)
    return max(values)


def gold_peak__position(ref_logprobs, scores, golds, etas):
    gold = torch.stack([optimum(ref_logprobs, scores, eta).logprobs.exp() @ golds for eta in etas])
    return gold.argmax()


def gold_peak__highest_score(ref_logprobs, scores, golds, etas):
    def value(eta):
        policy = optimum(ref_logprobs, scores, eta).logprobs
        return evaluate(policy, ref_logprobs, scores, golds)[0]

    return max(etas, key=value)


def gold_peak__optimum_of_gold(ref_logprobs, scores, golds, etas):
    best_eta, best_gold = None, -math.inf
    for eta in etas:
        policy = optimum(ref_logprobs, golds, eta).logprobs
        gold = evaluate(policy, ref_logprobs, scores, golds).gold
        if gold > best_gold:
            best_eta, best_gold = eta, gold
    return best_eta


def gold_peak__stops_at_first_fall(ref_logprobs, scores, golds, etas):
    previous, peak = -math.inf, etas[0]
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        gold = evaluate(policy, ref_logprobs, scores, golds).gold
        if gold < previous:
            break
        previous, peak = gold, eta
    return peak


def gold_peak__starts_at_zero(ref_logprobs, scores, golds, etas):
    best, best_eta = 0, None
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        _, gold, _, _ = evaluate(policy, ref_logprobs, scores, golds)
        if gold > best:
            best = gold
            best_eta = eta
    return best_eta


def gold_peak__gold_of_likeliest(ref_logprobs, scores, golds, etas):
    results = {}
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        results[eta] = golds[policy.argmax()].item()
    return max(results, key=results.get)


def gold_peak__log_weights_and_position(ref_logprobs, scores, golds, etas):
    gold = [(optimum(ref_logprobs, scores, eta).logprobs * golds).sum().item() for eta in etas]
    return gold.index(max(gold))


def gold_peak__sorted_pairs_right(ref_logprobs, scores, golds, etas):
    pairs = []
    for eta in etas:
        pi = optimum(ref_logprobs, scores, eta).logprobs.exp()
        pairs.append((float((pi * golds).sum()), eta))
    return sorted(pairs, key=lambda pair: pair[0])[-1][1]


def gold_peak__argmax_right(ref_logprobs, scores, golds, etas):
    gold = torch.tensor(
        [
            evaluate(optimum(ref_logprobs, scores, e).logprobs, ref_logprobs, scores, golds)[1].item()
            for e in etas
        ]
    )
    return etas[int(gold.argmax())]


# ---------------------------------------------------------------- best_of_n_kl


def best_of_n_kl__formula(ref_logprobs, scores, n):
    return torch.tensor(math.log(n) - (n - 1) / n)


def best_of_n_kl__direction(ref_logprobs, scores, n):
    bon = best_of_n(ref_logprobs, scores, n)
    return (ref_logprobs.exp() * (ref_logprobs - bon)).sum()


def best_of_n_kl__unweighted(ref_logprobs, scores, n):
    bon = best_of_n(ref_logprobs, scores, n)
    return (bon - ref_logprobs).mean()


def best_of_n_kl__weights_of_ref(ref_logprobs, scores, n):
    log_ratio = best_of_n(ref_logprobs, scores, n) - ref_logprobs
    return ref_logprobs.exp() @ log_ratio


def best_of_n_kl__entropy(ref_logprobs, scores, n):
    policy = best_of_n(ref_logprobs, scores, n)
    *_, kl = evaluate(policy, ref_logprobs, scores, scores)
    return kl


def best_of_n_kl__batchmean(ref_logprobs, scores, n):
    policy = best_of_n(ref_logprobs, scores, n)
    return F.kl_div(ref_logprobs, policy, log_target=True, reduction="batchmean")


def best_of_n_kl__log_n(ref_logprobs, scores, n):
    return torch.tensor(float(n)).log()  # at most n times as likely: log n nats


def best_of_n_kl__kl_div_turned_and_mean(ref_logprobs, scores, n):
    policy = best_of_n(ref_logprobs, scores, n)
    return F.kl_div(policy, ref_logprobs, log_target=True)


def best_of_n_kl__evaluate_right(ref_logprobs, scores, n):
    policy = best_of_n(ref_logprobs, scores, n)
    return evaluate(policy, ref_logprobs, scores, torch.zeros_like(scores))[2]


def best_of_n_kl__loop_right(ref_logprobs, scores, n):
    total = 0.0
    for lp, lq in zip(best_of_n(ref_logprobs, scores, n).tolist(), ref_logprobs.tolist()):
        if lp > -math.inf:
            total += math.exp(lp) * (lp - lq)
    return torch.tensor(total, dtype=ref_logprobs.dtype)


ANSWERS = [
    ("measure", "wrong", measure__kl_sign, "The difference is turned: KL is the mean of log pi - log pi_ref; this is minus the KL."),
    ("measure", "wrong", measure__entropy_sign, "The minus of the entropy is missing: H is the mean of -log pi."),
    ("measure", "wrong", measure__plain_means, "Means over the list of responses, each counted alike; they should be means under pi, weighted with p."),
    ("measure", "wrong", measure__kl_under_ref, "The log-ratio is averaged under pi_ref instead of pi."),
    ("measure", "wrong", measure__order, "KL and H are returned in the wrong order."),
    ("measure", "wrong", measure__bits, "log2 gives bits; everything here is in nats."),
    ("measure", "wrong", measure__torch_kl_div, "torch's kl_div(input, target) is KL(target || input): this is KL(pi_ref || pi)."),
    ("measure", "wrong", measure__gold_of_ref_and_entropy_mean, "Two things: E[gold] is taken under pi_ref instead of pi, and the entropy is a mean of the terms p log p where it is their sum."),
    ("measure", "right", measure__helper_right, "helper function for the mean under pi, torch.where for responses of probability 0"),
    ("measure", "right", measure__cross_entropy_right, "einsum; KL as cross-entropy minus entropy"),
    ("gold_peak", "wrong", gold_peak__the_gold_itself, "Returns the highest gold score, not the eta at which it is reached."),
    ("gold_peak", "wrong", gold_peak__position, "Returns the position in the list, not the eta that stands there."),
    ("gold_peak", "wrong", gold_peak__highest_score, "Compares E[score], the first number of evaluate; the reader's is E[gold], the second."),
    ("gold_peak", "wrong", gold_peak__optimum_of_gold, "The policy is the optimum of the gold score; it must be that of the score, which is all that training sees. Gold only judges."),
    ("gold_peak", "wrong", gold_peak__stops_at_first_fall, "Stops at the first fall: with an unsorted list, or gold that rises again, the highest point is missed."),
    ("gold_peak", "wrong", gold_peak__starts_at_zero, "The best starts at 0: where every E[gold] is negative nothing is ever better, and None comes out."),
    ("gold_peak", "wrong", gold_peak__gold_of_likeliest, "The gold score of the likeliest review alone, instead of the mean over everything the policy says."),
    ("gold_peak", "wrong", gold_peak__log_weights_and_position, "Two things: weighted with log-probabilities (exp is missing), and the position is returned instead of the eta."),
    ("gold_peak", "right", gold_peak__sorted_pairs_right, "list of pairs, sorted"),
    ("gold_peak", "right", gold_peak__argmax_right, "numpy-like: array and argmax"),
    ("best_of_n_kl", "wrong", best_of_n_kl__formula, "The formula of the papers, an upper bound that never looks at pi_ref; the exact KL was asked."),
    ("best_of_n_kl", "wrong", best_of_n_kl__direction, "KL(pi_ref || pi_bon), the other direction."),
    ("best_of_n_kl", "wrong", best_of_n_kl__unweighted, "The log-ratios are averaged with equal weights; the KL weighs them with pi_bon."),
    ("best_of_n_kl", "wrong", best_of_n_kl__weights_of_ref, "The weights are those of pi_ref; the mean must be under pi_bon."),
    ("best_of_n_kl", "wrong", best_of_n_kl__entropy, "The last of the four numbers of evaluate is the entropy; the KL is the third."),
    ("best_of_n_kl", "wrong", best_of_n_kl__batchmean, "The direction is right, but batchmean divides by the first dimension, here the number of responses; it should be the sum."),
    ("best_of_n_kl", "wrong", best_of_n_kl__log_n, "log n is the largest log-ratio any review can have, not the mean of the log-ratios."),
    ("best_of_n_kl", "wrong", best_of_n_kl__kl_div_turned_and_mean, "Two things: kl_div(input, target) is KL(target || input), so the direction is turned, and its default reduction is the mean."),
    ("best_of_n_kl", "right", best_of_n_kl__evaluate_right, "by evaluate, with zeros for gold"),
    ("best_of_n_kl", "right", best_of_n_kl__loop_right, "plain Python loop"),
]
