# fmt: off
# ruff: noqa
"""Students' answers, notebook 07."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import entropy, exact

# ---------------------------------------------------------------- token_entropy


def token_entropy__log_is_zero(logits):
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logprobs == 0, 0.0)  # 0 where pi is 0
    return -(logprobs.exp() * safe).sum(dim=-1)


def token_entropy__plain(logits):
    p = logits.softmax(dim=-1)
    return -(p * p.log()).sum(dim=-1)


def token_entropy__nan_to_num(logits):
    logprobs = logits.log_softmax(dim=-1)
    terms = torch.nan_to_num(logprobs.exp() * logprobs, nan=0.0)
    return -terms.sum(dim=-1)


def token_entropy__where_too_late(logits):
    logprobs = F.log_softmax(logits, dim=-1)
    p = logprobs.exp()
    return -torch.where(p > 0, p * logprobs, 0.0).sum(dim=-1)


def token_entropy__logits_as_weights(logits):
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logits == -torch.inf, 0.0)
    return -(logits.exp() * safe).sum(dim=-1)


def token_entropy__mean(logits):
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logprobs.isinf(), 0.0)
    return -(logprobs.exp() * safe).mean(dim=-1)


def token_entropy__weights_detached(logits):
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logprobs == -math.inf, 0.0)
    return -(logprobs.exp().detach() * safe).sum(dim=-1)


def token_entropy__first_dimension_and_bits(logits):
    logprobs = logits.log_softmax(0)
    safe = logprobs.masked_fill(logprobs == -math.inf, 0.0) / math.log(2)
    return -(logprobs.exp() * safe).sum(dim=-1)


def token_entropy__safe_twice_right(logits):
    logprobs = logits.log_softmax(dim=-1)
    safe = logprobs.masked_fill(logits == float("-inf"), 0.0)
    return -(safe.exp() * safe).sum(dim=-1)  # 1 times 0 there


def token_entropy__xlogy_free_right(logits):
    finite = torch.where(logits > -math.inf, logits, torch.zeros_like(logits))
    p = torch.softmax(logits, dim=-1)
    return logits.logsumexp(-1) - torch.einsum("...v,...v->...", p, finite)


# ---------------------------------------------------------------- bonus_loss


def bonus_loss__sign(logits, mask, beta):
    h = entropy(logits.masked_fill(mask.unsqueeze(-1) == 0, 0.0))
    return beta * (h * mask).sum() / mask.sum()


def bonus_loss__no_mask(logits, mask, beta):
    return -beta * entropy(logits).mean()


def bonus_loss__mean_over_the_rectangle(logits, mask, beta):
    logits = logits.masked_fill(~mask.bool().unsqueeze(2), 0.0)
    h = entropy(logits) * mask
    return -beta * h.mean()


def bonus_loss__mean_per_review(logits, mask, beta):
    h = entropy(logits.masked_fill(~mask.bool().unsqueeze(2), 0.0))
    per_review = (h * mask).sum(dim=1) / mask.sum(dim=1)
    return -beta * per_review.mean()


def bonus_loss__no_grad(logits, mask, beta):
    with torch.no_grad():
        h = entropy(logits[mask.bool()])
    return -beta * h.mean()


def bonus_loss__zero_times_nan(logits, mask, beta):
    logprobs = logits.log_softmax(dim=-1)
    h = -(logprobs.exp() * logprobs).sum(dim=-1)
    return -beta * (h * mask).sum() / mask.sum()


def bonus_loss__padding_forbidden(logits, mask, beta):
    logits = logits.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)  # nothing can be said there
    p = logits.softmax(-1)
    h = -(p * logits.log_softmax(-1)).sum(-1)
    return -beta * h.sum() / mask.sum()


def bonus_loss__sum_per_review_and_plus(logits, mask, beta):
    h = entropy(logits.masked_fill(~mask.bool().unsqueeze(2), 0.0))
    return beta * (h * mask).sum(dim=1).mean()


def bonus_loss__selected_right(logits, mask, beta):
    chosen = logits[mask.bool()]  # (number of tokens, V)
    return -beta * entropy(chosen).mean()


def bonus_loss__loops_right(logits, mask, beta):
    total, count = 0.0, 0
    for b in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            if mask[b, t]:
                logprobs = torch.log_softmax(logits[b, t], 0)
                total = total + (logprobs.exp() * logprobs).sum()
                count += 1
    return beta * total / count


# ---------------------------------------------------------------- bonus_optimum


def bonus_optimum__not_normalised(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return eta / tau * ref_logprobs + scores / tau


def bonus_optimum__whole_reference(ref_logprobs, scores, eta, beta):
    return (ref_logprobs + scores / (eta + beta)).log_softmax(dim=0)


def bonus_optimum__score_over_eta(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return (eta / tau * ref_logprobs + scores / eta).log_softmax(dim=0)


def bonus_optimum__tau_difference(ref_logprobs, scores, eta, beta):
    tau = eta - beta  # - eta KL + beta H
    return ((eta * ref_logprobs + scores) / tau).log_softmax(dim=0)


def bonus_optimum__probabilities(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return torch.softmax((eta * ref_logprobs + scores) / tau, dim=0)


def bonus_optimum__weights_exchanged(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    logits = beta / tau * ref_logprobs + scores / tau
    return logits - logits.logsumexp(0)


def bonus_optimum__overflow(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    unnormalised = ref_logprobs.exp() ** (eta / tau) * (scores / tau).exp()
    return (unnormalised / unnormalised.sum()).log()


def bonus_optimum__exp_left_in_and_times_tau(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    logits = ref_logprobs.exp() ** (eta / tau) + scores * tau
    return logits.log_softmax(0)


def bonus_optimum__one_quotient_right(ref_logprobs, scores, eta, beta):
    z = torch.div(scores + eta * ref_logprobs, eta + beta)
    return z - torch.logsumexp(z, dim=-1)


def bonus_optimum__reward_with_fluency_right(ref_logprobs, scores, eta, beta):
    # a KL penalty is an entropy bonus of eta plus a reward for fluency
    fluency = eta * ref_logprobs
    temperature = eta + beta
    z = (scores + fluency) / temperature
    top = z.max()
    return z - top - (z - top).exp().sum().log()


ANSWERS = [
    ("token_entropy", "wrong", token_entropy__log_is_zero, "log pi = 0 means probability 1, not 0; where pi is 0 its log is -inf, and 0 times -inf stays NaN."),
    ("token_entropy", "wrong", token_entropy__plain, "A forbidden word gives 0 times -inf = NaN."),
    ("token_entropy", "wrong", token_entropy__nan_to_num, "The value is repaired after the product, but the gradient still passes through 0 times inf and is NaN: fill before the product."),
    ("token_entropy", "wrong", token_entropy__where_too_late, "torch.where after the product: the value is right, the gradient of the branch that was not taken is still NaN. Fill log pi first."),
    ("token_entropy", "wrong", token_entropy__logits_as_weights, "exp of the raw logits is not a probability; they need not be normalised."),
    ("token_entropy", "wrong", token_entropy__mean, "The mean over the vocabulary; the entropy is the sum, the weights are already in it."),
    ("token_entropy", "wrong", token_entropy__weights_detached, "The value is right, but with detached weights the gradient is 0 (the mean of grad log pi under pi): the entropy could not be trained."),
    ("token_entropy", "wrong", token_entropy__first_dimension_and_bits, "Two things: the softmax runs over the first dimension instead of the last, and the unit is bits instead of nats."),
    ("token_entropy", "right", token_entropy__safe_twice_right, "uses the filled log pi for the weights, too: 1 times 0"),
    ("token_entropy", "right", token_entropy__xlogy_free_right, "logsumexp minus the mean logit, filled first"),
    ("bonus_loss", "wrong", bonus_loss__sign, "Plus: making this small makes the entropy small; the bonus is subtracted from the loss."),
    ("bonus_loss", "wrong", bonus_loss__no_mask, "The mask is not used: the padding is averaged in."),
    ("bonus_loss", "wrong", bonus_loss__mean_over_the_rectangle, "Divided by all B times T places instead of by the number of tokens on the mask."),
    ("bonus_loss", "wrong", bonus_loss__mean_per_review, "A mean over each review and then over reviews: tokens of short reviews weigh more; H is averaged over all tokens of the mask alike."),
    ("bonus_loss", "wrong", bonus_loss__no_grad, "Under no_grad it is a mere number: the bonus would move nothing."),
    ("bonus_loss", "wrong", bonus_loss__zero_times_nan, "Whatever stands in the padding is computed and then multiplied by 0: inf or NaN there poisons value or gradient."),
    ("bonus_loss", "wrong", bonus_loss__padding_forbidden, "A row of logits that are all -inf has no softmax: NaN. Fill the padding with something harmless, or leave it out."),
    ("bonus_loss", "wrong", bonus_loss__sum_per_review_and_plus, "Two things: the sign is plus, and the entropies of a review are added instead of averaged over the mask."),
    ("bonus_loss", "right", bonus_loss__selected_right, "selects the tokens first"),
    ("bonus_loss", "right", bonus_loss__loops_right, "two loops"),
    ("bonus_optimum", "wrong", bonus_optimum__not_normalised, "Not normalised: these probabilities do not add up to 1."),
    ("bonus_optimum", "wrong", bonus_optimum__whole_reference, "pi_ref enters with its full weight; with beta only eta / tau of it is left."),
    ("bonus_optimum", "wrong", bonus_optimum__score_over_eta, "The score is divided by eta; the temperature is tau = eta + beta."),
    ("bonus_optimum", "wrong", bonus_optimum__tau_difference, "tau = eta - beta; the penalty -eta KL holds +eta H, so the two entropies add up."),
    ("bonus_optimum", "wrong", bonus_optimum__probabilities, "The probabilities; their logarithms were asked."),
    ("bonus_optimum", "wrong", bonus_optimum__weights_exchanged, "beta / tau on pi_ref; it is eta / tau that is left of it."),
    ("bonus_optimum", "wrong", bonus_optimum__overflow, "e^(r/tau) overflows for small tau and inf / inf is NaN; stay with logarithms."),
    ("bonus_optimum", "wrong", bonus_optimum__exp_left_in_and_times_tau, "Two things: pi_ref stands as a probability where its logarithm belongs, and the score is multiplied by tau instead of divided."),
    ("bonus_optimum", "right", bonus_optimum__one_quotient_right, "one quotient, logsumexp"),
    ("bonus_optimum", "right", bonus_optimum__reward_with_fluency_right, "as score plus fluency at a temperature, normalised by hand"),
]
