# fmt: off
# ruff: noqa
"""Students' answers, notebook 04."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab.kl import exact_kl as package_kl  # the notebook imports it as exact_kl, before the exercise of that name
from rlhf_lab.exact import evaluate, objective, optimum

# ---------------------------------------------------------------- total_reward


def total_reward__times_mask(scores, logprobs, ref_logprobs, mask, eta):
    penalties = ((logprobs - ref_logprobs) * mask).sum(dim=1)  # (B,), one per response
    return scores - eta * penalties


def total_reward__mean_of_tokens(scores, logprobs, ref_logprobs, mask, eta):
    log_ratio = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    penalties = log_ratio.sum(dim=1) / mask.sum(dim=1)
    return scores - eta * penalties


def total_reward__sign(scores, logprobs, ref_logprobs, mask, eta):
    d = torch.where(mask.bool(), ref_logprobs - logprobs, 0.0)
    penalties = d.sum(dim=1)
    return scores - eta * penalties


def total_reward__one_number(scores, logprobs, ref_logprobs, mask, eta):
    penalties = (logprobs - ref_logprobs)[mask.bool()].sum()
    return scores - eta * penalties


def total_reward__eta_twice(scores, logprobs, ref_logprobs, mask, eta):
    log_ratio = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    penalties = eta * log_ratio.sum(dim=1)
    return scores - eta * penalties


def total_reward__never_negative(scores, logprobs, ref_logprobs, mask, eta):
    log_ratio = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    penalties = log_ratio.sum(dim=1).clamp(min=0)  # a KL cannot be negative
    return scores - eta * penalties


def total_reward__weighted_again(scores, logprobs, ref_logprobs, mask, eta):
    terms = logprobs.exp() * (logprobs - ref_logprobs)
    penalties = terms.masked_fill(~mask.bool(), 0.0).sum(dim=1)
    return scores - eta * penalties


def total_reward__mask_turned_and_mean(scores, logprobs, ref_logprobs, mask, eta):
    log_ratio = (logprobs - ref_logprobs).masked_fill(mask.bool(), 0.0)
    penalties = log_ratio.mean(dim=1)
    return scores - eta * penalties


def total_reward__rows_right(scores, logprobs, ref_logprobs, mask, eta):
    penalties = []
    for lp, ref, m in zip(logprobs, ref_logprobs, mask.bool()):
        penalties.append(lp[m].sum() - ref[m].sum())
    return scores - eta * torch.stack(penalties)


def total_reward__where_right(scores, logprobs, ref_logprobs, mask, eta):
    keep = mask.bool()
    lp, ref = (torch.where(keep, x, torch.zeros_like(x)) for x in (logprobs, ref_logprobs))
    return scores - eta * torch.einsum("bt->b", lp - ref)


# ---------------------------------------------------------------- exact_kl


def exact_kl__weights_of_ref(logprobs, ref_logprobs):
    weights = ref_logprobs.exp()
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__log_weights(logprobs, ref_logprobs):
    weights = logprobs
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__mean(logprobs, ref_logprobs):
    weights = logprobs.exp()
    return (weights * (logprobs - ref_logprobs)).mean(dim=-1)


def exact_kl__softmax_weights(logprobs, ref_logprobs):
    weights = logprobs.softmax(dim=-1)
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__detached_weights(logprobs, ref_logprobs):
    weights = logprobs.exp().detach()
    return (weights * (logprobs - ref_logprobs)).sum(dim=-1)


def exact_kl__torch_order(logprobs, ref_logprobs):
    return F.kl_div(logprobs, ref_logprobs, log_target=True, reduction="none").sum(dim=-1)


def exact_kl__only_one_log(logprobs, ref_logprobs):
    weights = logprobs.exp()
    return (weights * -ref_logprobs).sum(dim=-1)


def exact_kl__ratio_sign_and_all_dims(logprobs, ref_logprobs):
    weights = logprobs.exp()
    return (weights * (ref_logprobs - logprobs)).sum()


def exact_kl__kl_div_right(logprobs, ref_logprobs):
    pointwise = F.kl_div(ref_logprobs, logprobs, log_target=True, reduction="none")
    return pointwise.sum(-1)


def exact_kl__where_einsum_right(logprobs, ref_logprobs):
    p = torch.exp(logprobs)
    log_ratio = torch.where(logprobs > -math.inf, logprobs - ref_logprobs, torch.zeros_like(p))
    return torch.einsum("...v,...v->...", p, log_ratio)


# ---------------------------------------------------------------- optimal_policy


def optimal_policy__value_is_log_z(ref_logprobs, scores, eta):
    logits = ref_logprobs + scores / eta
    log_Z = logits.logsumexp(dim=0)
    return logits - log_Z, log_Z


def optimal_policy__probabilities(ref_logprobs, scores, eta):
    logits = ref_logprobs + scores / eta
    return logits.softmax(dim=0), eta * logits.logsumexp(dim=0)


def optimal_policy__not_normalised(ref_logprobs, scores, eta):
    log_pi = ref_logprobs + scores / eta
    J = eta * torch.logsumexp(log_pi, 0)
    return log_pi, J


def optimal_policy__times_eta(ref_logprobs, scores, eta):
    logits = ref_logprobs + scores * eta
    log_Z = logits.logsumexp(dim=0)
    return logits - log_Z, eta * log_Z


def optimal_policy__overflow(ref_logprobs, scores, eta):
    multiplied = ref_logprobs.exp() * (scores / eta).exp()
    Z = multiplied.sum()
    return (multiplied / Z).log(), eta * Z.log()


def optimal_policy__mean_score(ref_logprobs, scores, eta):
    logprobs = (ref_logprobs + scores / eta).log_softmax(dim=0)
    return logprobs, logprobs.exp() @ scores


def optimal_policy__z_without_ref(ref_logprobs, scores, eta):
    log_Z = (scores / eta).logsumexp(dim=0)
    return ref_logprobs + scores / eta - log_Z, eta * log_Z


def optimal_policy__order_and_no_eta(ref_logprobs, scores, eta):
    logits = ref_logprobs + scores / eta
    log_Z = logits.logsumexp(dim=0)
    return log_Z, logits - log_Z


def optimal_policy__objective_right(ref_logprobs, scores, eta):
    log_star = F.log_softmax(scores / eta + ref_logprobs, dim=-1)
    p = log_star.exp()
    J = (p * scores).sum() - eta * (p * (log_star - ref_logprobs)).sum()
    return log_star, J


def optimal_policy__largest_taken_off_right(ref_logprobs, scores, eta):
    z = (eta * ref_logprobs + scores) / eta
    top = z.max()
    log_Z = top + torch.log(torch.sum(torch.exp(z - top)))
    return z - log_Z, log_Z * eta


# ---------------------------------------------------------------- regret


def regret__sign(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta)
    return objective(logprobs, ref_logprobs, scores, eta) - best.value


def regret__no_eta(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return (logprobs.exp() * (logprobs - best)).sum()


def regret__direction(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return eta * (best.exp() * (best - logprobs)).sum()


def regret__scores_only(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return best.exp() @ scores - logprobs.exp() @ scores


def regret__kl_to_ref(logprobs, ref_logprobs, scores, eta):
    return eta * (logprobs.exp() * (logprobs - ref_logprobs)).sum()


def regret__highest_score_without_penalty(logprobs, ref_logprobs, scores, eta):
    return scores.max() - logprobs.exp() @ scores


def regret__own_optimum(logprobs, ref_logprobs, scores, eta):
    best = optimum(logprobs, scores, eta)
    return best.value - objective(logprobs, ref_logprobs, scores, eta)


def regret__j_with_plus(logprobs, ref_logprobs, scores, eta):
    p = logprobs.exp()
    J = p @ scores - eta * (p @ (ref_logprobs - logprobs))
    return optimum(ref_logprobs, scores, eta).value - J


def regret__kl_div_right(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return eta * F.kl_div(best, logprobs, log_target=True, reduction="sum")


def regret__by_hand_right(logprobs, ref_logprobs, scores, eta):
    log_Z = torch.logsumexp(ref_logprobs + scores / eta, 0)
    p = logprobs.exp()
    J = (p * (scores - eta * (logprobs - ref_logprobs))).sum()
    return eta * log_Z - J


# ---------------------------------------------------------------- eta_for_budget


def eta_for_budget__largest(ref_logprobs, scores, etas, budget):
    affordable = []
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if evaluate(policy, ref_logprobs, scores, scores).kl <= budget:
            affordable.append(eta)
    return max(affordable)


def eta_for_budget__closest(ref_logprobs, scores, etas, budget):
    def distance(eta):
        policy = optimum(ref_logprobs, scores, eta).logprobs
        return abs(evaluate(policy, ref_logprobs, scores, scores).kl - budget)

    return min(etas, key=distance)


def eta_for_budget__first_found(ref_logprobs, scores, etas, budget):
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if (policy.exp() * (policy - ref_logprobs)).sum() <= budget:
            return eta


def eta_for_budget__direction(ref_logprobs, scores, etas, budget):
    ok = []
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if package_kl(ref_logprobs, policy) <= budget:
            ok.append(eta)
    return min(ok)


def eta_for_budget__the_score(ref_logprobs, scores, etas, budget):
    best = -math.inf
    for eta in etas:
        score, _, nats, _ = evaluate(
            optimum(ref_logprobs, scores, eta).logprobs, ref_logprobs, scores, scores
        )
        if nats <= budget and score > best:
            best = score
    return best


def eta_for_budget__stops_too_early(ref_logprobs, scores, etas, budget):
    best = etas[0]
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if evaluate(policy, ref_logprobs, scores, scores).kl > budget:
            break
        best = eta
    return best


def eta_for_budget__price_of_the_kl(ref_logprobs, scores, etas, budget):
    ok = []
    for eta in etas:
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if eta * package_kl(policy, ref_logprobs) <= budget:
            ok.append(eta)
    return min(ok)


def eta_for_budget__position_among_the_affordable(ref_logprobs, scores, etas, budget):
    seen = [evaluate(optimum(ref_logprobs, scores, e).logprobs, ref_logprobs, scores, scores) for e in etas]
    in_budget = [s.score.item() for s in seen if s.kl <= budget]
    return etas[in_budget.index(max(in_budget))]


def eta_for_budget__best_score_right(ref_logprobs, scores, etas, budget):
    best_eta, best_score = None, -math.inf
    for eta in etas:
        logp = optimum(ref_logprobs, scores, eta).logprobs
        p = logp.exp()
        if (p * (logp - ref_logprobs)).sum().item() > budget:
            continue
        if (score := (p * scores).sum().item()) > best_score:
            best_eta, best_score = eta, score
    return best_eta


def eta_for_budget__ascending_right(ref_logprobs, scores, etas, budget):
    for eta in sorted(etas):  # the KL falls as eta rises
        policy = optimum(ref_logprobs, scores, eta).logprobs
        if evaluate(policy, ref_logprobs, scores, scores)[2] <= budget:
            return eta


ANSWERS = [
    ("total_reward", "wrong", total_reward__times_mask, "Multiplying by the mask leaves NaN where -inf stands off it (0 times inf): fill or select instead."),
    ("total_reward", "wrong", total_reward__mean_of_tokens, "The mean over the tokens: log pi(y) is a sum, and with a mean long responses leave at a discount."),
    ("total_reward", "wrong", total_reward__sign, "The log-ratio is turned round: what pi says more often than pi_ref is now paid for it."),
    ("total_reward", "wrong", total_reward__one_number, "One penalty for the whole batch: the sum must run along each row only (dim=1)."),
    ("total_reward", "wrong", total_reward__eta_twice, "eta is multiplied in here and again in the line below: eta squared."),
    ("total_reward", "wrong", total_reward__never_negative, "Negative penalties are cut off; a single response's log-ratio may be negative, and then it is paid."),
    ("total_reward", "wrong", total_reward__weighted_again, "The tokens were sampled from pi, so they already come as often as pi says; weighting them with pi once more counts it twice."),
    ("total_reward", "wrong", total_reward__mask_turned_and_mean, "Two things: masked_fill fills where its mask is True, so the chosen tokens are deleted and the padding is kept; and the mean over the row replaces the sum."),
    ("total_reward", "right", total_reward__rows_right, "loop over rows with boolean indexing"),
    ("total_reward", "right", total_reward__where_right, "torch.where on both inputs, einsum"),
    ("exact_kl", "wrong", exact_kl__weights_of_ref, "The weights are pi_ref's; the mean of the log-ratio is taken under pi."),
    ("exact_kl", "wrong", exact_kl__log_weights, "The weights are log-probabilities: exp is missing."),
    ("exact_kl", "wrong", exact_kl__mean, "A mean over the vocabulary divides by V; the weights already add up to 1, so it is a sum."),
    ("exact_kl", "wrong", exact_kl__softmax_weights, "The value is right, but softmax normalises again, and the gradient by the logprobs as given is another one."),
    ("exact_kl", "wrong", exact_kl__detached_weights, "The value is right, but with detached weights half of the gradient is missing."),
    ("exact_kl", "wrong", exact_kl__torch_order, "kl_div(input, target) is KL(target || input): this is KL(pi_ref || pi)."),
    ("exact_kl", "wrong", exact_kl__only_one_log, "That is the cross-entropy; log pi is missing, so the entropy has not been taken off."),
    ("exact_kl", "wrong", exact_kl__ratio_sign_and_all_dims, "Two things: the log-ratio is turned round (minus the KL), and the sum runs over all dimensions instead of the last."),
    ("exact_kl", "right", exact_kl__kl_div_right, "F.kl_div with the arguments in torch's order"),
    ("exact_kl", "right", exact_kl__where_einsum_right, "torch.where for forbidden words, einsum"),
    ("optimal_policy", "wrong", optimal_policy__value_is_log_z, "J* is eta times log Z; the eta is missing."),
    ("optimal_policy", "wrong", optimal_policy__probabilities, "The probabilities of pi*, where their logarithms were asked."),
    ("optimal_policy", "wrong", optimal_policy__not_normalised, "log Z is not taken off: these do not add up to 1."),
    ("optimal_policy", "wrong", optimal_policy__times_eta, "The score is multiplied by eta instead of divided: a large eta would press harder."),
    ("optimal_policy", "wrong", optimal_policy__overflow, "e^(r/eta) overflows for small eta: inf / inf is NaN. Stay with logarithms."),
    ("optimal_policy", "wrong", optimal_policy__mean_score, "J* is returned as E[r] under pi*; the KL that it costs has not been taken off."),
    ("optimal_policy", "wrong", optimal_policy__z_without_ref, "Z is the sum of pi_ref times e^(r/eta); pi_ref is missing in it."),
    ("optimal_policy", "wrong", optimal_policy__order_and_no_eta, "Two things: the results are in the wrong order, and J* lacks the factor eta."),
    ("optimal_policy", "right", optimal_policy__objective_right, "log_softmax, and J* as the objective at pi*"),
    ("optimal_policy", "right", optimal_policy__largest_taken_off_right, "logsumexp by hand"),
    ("regret", "wrong", regret__sign, "J(pi) - J*: the difference is turned round and never positive."),
    ("regret", "wrong", regret__no_eta, "KL(pi || pi*) in nats; times eta it is the regret in units of score."),
    ("regret", "wrong", regret__direction, "KL(pi* || pi); the regret is eta times KL(pi || pi*)."),
    ("regret", "wrong", regret__scores_only, "Only the scores are compared; J also has the KL on both sides."),
    ("regret", "wrong", regret__kl_to_ref, "This is the penalty, KL to pi_ref; the regret measures the distance to pi*."),
    ("regret", "wrong", regret__highest_score_without_penalty, "Two things: the highest score is not J*, since nobody reaches it without paying the KL; and J(pi) is taken without its penalty, too."),
    ("regret", "wrong", regret__own_optimum, "The optimum is computed around pi itself instead of around pi_ref."),
    ("regret", "wrong", regret__j_with_plus, "J(pi) is computed with the log-ratio turned round, so the KL is added to the score instead of taken off."),
    ("regret", "right", regret__kl_div_right, "eta times F.kl_div in torch's order"),
    ("regret", "right", regret__by_hand_right, "everything by hand, without the package"),
    ("eta_for_budget", "wrong", eta_for_budget__largest, "The largest affordable eta stays closest to home and scores lowest; the smallest affordable one scores highest."),
    ("eta_for_budget", "wrong", eta_for_budget__closest, "The KL closest to the budget may lie above it."),
    ("eta_for_budget", "wrong", eta_for_budget__first_found, "The first affordable eta of the list, not the best of them."),
    ("eta_for_budget", "wrong", eta_for_budget__direction, "The budget is held against KL(pi_ref || pi*), the other direction."),
    ("eta_for_budget", "wrong", eta_for_budget__the_score, "Returns the best score, not the eta that reaches it."),
    ("eta_for_budget", "wrong", eta_for_budget__stops_too_early, "Stops at the first eta that costs too much: right only if the list falls from large to small."),
    ("eta_for_budget", "wrong", eta_for_budget__price_of_the_kl, "eta times KL is the price in units of score; the budget is in nats."),
    ("eta_for_budget", "wrong", eta_for_budget__position_among_the_affordable, "The position was found in the list of the affordable ones and is used in the full list, so it points at another eta."),
    ("eta_for_budget", "right", eta_for_budget__best_score_right, "loop that keeps the best score"),
    ("eta_for_budget", "right", eta_for_budget__ascending_right, "walks up the sorted list"),
]
