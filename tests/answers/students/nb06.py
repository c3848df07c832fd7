# fmt: off
# ruff: noqa
"""Students' answers, notebook 06."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import kl, rewards

# ---------------------------------------------------------------- compute_rewards


def compute_rewards__last_column(scores, logprobs, ref_logprobs, mask, eta):
    kls = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0.0)
    reward = -eta * kls
    reward[:, -1] += scores
    return reward.detach()


def compute_rewards__length_minus_one(scores, logprobs, ref_logprobs, mask, eta):
    kls = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    reward = (-eta * kls).detach()
    last = mask.long().sum(dim=1) - 1
    reward[torch.arange(len(scores)), last] += scores
    return reward


def compute_rewards__sign(scores, logprobs, ref_logprobs, mask, eta):
    kls = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0).detach()
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return (eta * kls).scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1))


def compute_rewards__gradient_kept(scores, logprobs, ref_logprobs, mask, eta):
    kls = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0)
    non_score = -eta * kls
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return non_score.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1))


def compute_rewards__padding_charged(scores, logprobs, ref_logprobs, mask, eta):
    non_score = -eta * (logprobs - ref_logprobs).detach()
    reward = non_score.clone()
    for i in range(len(scores)):
        reward[i, mask[i].nonzero()[-1]] += scores[i]
    return reward


def compute_rewards__score_overwrites(scores, logprobs, ref_logprobs, mask, eta):
    kls = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0).detach()
    reward = -eta * kls
    for i in range(len(scores)):
        reward[i, mask[i].nonzero()[-1]] = scores[i]
    return reward


def compute_rewards__all_at_the_end(scores, logprobs, ref_logprobs, mask, eta):
    kls = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0).detach()
    total = scores - eta * kls.sum(dim=1)
    reward = torch.zeros_like(kls)
    for i in range(len(total)):
        reward[i, mask[i].nonzero()[-1]] = total[i]
    return reward


def compute_rewards__abs_and_every_token(scores, logprobs, ref_logprobs, mask, eta):
    kls = (logprobs - ref_logprobs).abs().detach()
    reward = scores.unsqueeze(1) - eta * kls
    return reward.masked_fill(~mask.bool(), 0.0)


def compute_rewards__trl_rows_right(scores, logprobs, ref_logprobs, mask, eta):
    out = []
    for score, logprob, ref_logprob, m in zip(scores, logprobs, ref_logprobs, mask):
        keep = m.bool()
        reward = torch.zeros_like(logprob)
        reward[keep] = -eta * (logprob[keep] - ref_logprob[keep])
        reward[keep.nonzero()[-1]] += score
        out.append(reward)
    return torch.stack(out).detach()


def compute_rewards__no_grad_where_right(scores, logprobs, ref_logprobs, mask, eta):
    mask = mask.bool()
    with torch.no_grad():
        left = mask.long().flip(1).cumsum(1).flip(1)  # selected tokens from here on
        is_last = mask & (left == 1)
        k1 = torch.where(mask, logprobs - ref_logprobs, 0.0)
        return torch.where(is_last, scores[:, None], 0.0) - eta * k1


# ---------------------------------------------------------------- kl_penalty


def kl_penalty__no_half(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2
    return (logprob.exp() * d).sum(dim=-1)


def kl_penalty__mse_loss(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return F.mse_loss(logprob, ref_logprob) / 2
    return (logprob.exp() * d).sum(dim=-1)


def kl_penalty__full_under_ref(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return 0.5 * d.square()
    return (ref_logprob.exp() * d).sum(-1)  # "full"


def kl_penalty__full_torch_order(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2 / 2
    return F.kl_div(logprob, ref_logprob, log_target=True, reduction="none").sum(-1)


def kl_penalty__full_detached(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2 / 2
    with torch.no_grad():
        p = logprob.exp()
    return torch.einsum("...v,...v->...", p, d)


def kl_penalty__full_mean(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2 / 2
    return (logprob.exp() * d).mean(dim=-1)


def kl_penalty__full_log_weights(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d**2 / 2
    return (logprob * d).sum(dim=-1)


def kl_penalty__no_half_and_no_weights(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return d.pow(2)
    return d.sum(dim=-1)


def kl_penalty__torch_functions_right(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "kl":
        return d
    if mode == "abs":
        return d.abs()
    if mode == "mse":
        return F.mse_loss(logprob, ref_logprob, reduction="none") / 2
    return F.kl_div(ref_logprob, logprob, log_target=True, reduction="none").sum(-1)


def kl_penalty__dictionary_right(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    choices = {
        "kl": lambda: d,
        "abs": lambda: torch.where(d < 0, -d, d),
        "mse": lambda: 0.5 * d * d,
        "full": lambda: torch.einsum("...v,...v->...", torch.exp(logprob), d),
    }
    return choices[mode]()


# ---------------------------------------------------------------- kl_loss


def kl_loss__k1(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs).masked_fill(~mask.bool(), 0)
    return d.sum(dim=1).mean()


def kl_loss__mean_over_tokens(logprobs, ref_logprobs, mask):
    k2 = (logprobs - ref_logprobs) ** 2 / 2
    return k2[mask.bool()].mean()


def kl_loss__no_grad(logprobs, ref_logprobs, mask):
    with torch.no_grad():
        k2 = 0.5 * (logprobs - ref_logprobs).square()
        k2 = torch.where(mask.bool(), k2, 0.0)
    return k2.sum(dim=1).mean()


def kl_loss__no_half(logprobs, ref_logprobs, mask):
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    return (d**2).sum(dim=1).mean()


def kl_loss__square_of_the_sum(logprobs, ref_logprobs, mask):
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0).sum(dim=1)
    return (d**2 / 2).mean()


def kl_loss__sum_over_reviews(logprobs, ref_logprobs, mask):
    k2 = (logprobs - ref_logprobs) ** 2 / 2
    return k2.masked_fill(~mask.bool(), 0.0).sum()


def kl_loss__right_force_other_value(logprobs, ref_logprobs, mask):
    d = (logprobs - ref_logprobs).detach()
    surrogate = d * logprobs  # gradient d times grad log pi
    return surrogate.masked_fill(~mask.bool(), 0.0).sum(1).mean()


def kl_loss__k3_per_length(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    k3 = torch.exp(-d) - 1 + d
    k3 = torch.where(mask.bool(), k3, torch.zeros_like(k3))
    return (k3.sum(1) / mask.sum(1)).mean()


def kl_loss__rows_right(logprobs, ref_logprobs, mask):
    total = 0.0
    for lp, ref, m in zip(logprobs, ref_logprobs, mask):
        d = lp[m.bool()] - ref[m.bool()]
        total = total + 0.5 * d.dot(d)
    return total / len(logprobs)


def kl_loss__one_sum_right(logprobs, ref_logprobs, mask):
    d = torch.where(mask.bool(), logprobs - ref_logprobs, torch.zeros_like(logprobs))
    return torch.einsum("bt,bt->", d, d) / (2 * logprobs.shape[0])


# ---------------------------------------------------------------- controller_update


def controller_update__nothing_stored(self, kl, n_steps):
    error = min(max(kl / self.target - 1, -0.2), 0.2)
    value = self.value
    value *= 1 + error * n_steps / self.horizon
    return value


def controller_update__no_clip(self, kl, n_steps):
    error = kl / self.target - 1
    self.value = self.value * (1 + error * n_steps / self.horizon)


def controller_update__difference(self, kl, n_steps):
    error = min(max(kl - self.target, -0.2), 0.2)
    self.value *= 1 + error * n_steps / self.horizon


def controller_update__added(self, kl, n_steps):
    error = min(max(kl / self.target - 1, -0.2), 0.2)
    self.value += error * n_steps / self.horizon


def controller_update__turned_and_no_clip(self, kl, n_steps):
    error = 1 - kl / self.target
    self.value *= 1 + error * n_steps / self.horizon


def controller_update__clip_outside(self, kl, n_steps):
    change = (kl / self.target - 1) * n_steps / self.horizon
    self.value *= 1 + min(max(change, -0.2), 0.2)


def controller_update__min_and_max_exchanged(self, kl, n_steps):
    error = max(min(kl / self.target - 1, -0.2), 0.2)
    self.value *= 1 + error * n_steps / self.horizon


def controller_update__torch_clamp(self, kl, n_steps):
    error = torch.clamp(kl / self.target - 1, -0.2, 0.2)
    self.value *= 1 + error * n_steps / self.horizon


def controller_update__if_else_right(self, kl, n_steps):
    error = (kl - self.target) / self.target
    if error > 0.2:
        error = 0.2
    elif error < -0.2:
        error = -0.2
    self.value += self.value * error * n_steps / self.horizon


def controller_update__sorted_right(self, kl, n_steps):
    relative = sorted([0.8, kl / self.target, 1.2])[1]  # the middle one: clipped
    weight = n_steps / self.horizon
    self.value = self.value * (1 - weight + weight * relative)


ANSWERS = [
    ("compute_rewards", "wrong", compute_rewards__last_column, "The score is added in the last column; it belongs to each review's own last token."),
    ("compute_rewards", "wrong", compute_rewards__length_minus_one, "Length - 1 is the last token only if the row begins with the review; with padding on the left the score lands elsewhere."),
    ("compute_rewards", "wrong", compute_rewards__sign, "+eta: leaving pi_ref is paid instead of charged."),
    ("compute_rewards", "wrong", compute_rewards__gradient_kept, "The numbers are right, but a gradient flows through the reward: .detach() is missing."),
    ("compute_rewards", "wrong", compute_rewards__padding_charged, "The penalty is charged off the mask as well; it must be 0 there."),
    ("compute_rewards", "wrong", compute_rewards__score_overwrites, "The score replaces the penalty of the last token; it should be added to it."),
    ("compute_rewards", "wrong", compute_rewards__all_at_the_end, "The whole penalty is paid at the last token: the sum is right, but each token should be charged where it arises."),
    ("compute_rewards", "wrong", compute_rewards__abs_and_every_token, "Two things: |k1| instead of k1, and the score is paid on every token."),
    ("compute_rewards", "right", compute_rewards__trl_rows_right, "row by row as TRL does"),
    ("compute_rewards", "right", compute_rewards__no_grad_where_right, "no_grad, counts from behind, torch.where"),
    ("kl_penalty", "wrong", kl_penalty__no_half, "mse is d^2 / 2; the half is missing."),
    ("kl_penalty", "wrong", kl_penalty__mse_loss, "F.mse_loss averages over everything: one number instead of one for each token."),
    ("kl_penalty", "wrong", kl_penalty__full_under_ref, "full weighs d with pi_ref; it is the mean under pi."),
    ("kl_penalty", "wrong", kl_penalty__full_torch_order, "kl_div(input, target) is KL(target || input): pi_ref has to stand first in the call."),
    ("kl_penalty", "wrong", kl_penalty__full_detached, "The value of full is right; its weights are detached, so half of its gradient is missing."),
    ("kl_penalty", "wrong", kl_penalty__full_mean, "full is a sum over the vocabulary: the weights add up to 1 already, and .mean divides by V once more."),
    ("kl_penalty", "wrong", kl_penalty__full_log_weights, "full is weighted with log-probabilities: exp is missing."),
    ("kl_penalty", "wrong", kl_penalty__no_half_and_no_weights, "Two things: mse lacks its half, and full adds up d without weighting it with pi."),
    ("kl_penalty", "right", kl_penalty__torch_functions_right, "F.mse_loss(reduction='none') and F.kl_div in torch's order"),
    ("kl_penalty", "right", kl_penalty__dictionary_right, "dictionary of lambdas, torch.where for |d|, einsum"),
    ("kl_loss", "wrong", kl_loss__k1, "k1 as a loss has no force on average; k2 = d^2 / 2 was asked."),
    ("kl_loss", "wrong", kl_loss__mean_over_tokens, "The mean over all tokens; it should be summed over each review and averaged over reviews."),
    ("kl_loss", "wrong", kl_loss__no_grad, "The value is right, but under no_grad it is a mere number and moves nothing."),
    ("kl_loss", "wrong", kl_loss__no_half, "The half is missing: the gradient is twice that of the KL."),
    ("kl_loss", "wrong", kl_loss__square_of_the_sum, "The log-ratios are added before they are squared; k2 is squared at each token."),
    ("kl_loss", "wrong", kl_loss__sum_over_reviews, "Also summed over the reviews; the mean over reviews was asked."),
    ("kl_loss", "wrong", kl_loss__right_force_other_value, "The gradient is that of k2, but the value is not: d times log pi is no KL that one could log."),
    ("kl_loss", "wrong", kl_loss__k3_per_length, "Two things: k3, whose gradient is another one, and divided by the length of each review."),
    ("kl_loss", "right", kl_loss__rows_right, "loop and dot product"),
    ("kl_loss", "right", kl_loss__one_sum_right, "one einsum over everything, divided by 2B"),
    ("controller_update", "wrong", controller_update__nothing_stored, "A local variable changes and is returned; self.value stays as it was."),
    ("controller_update", "wrong", controller_update__turned_and_no_clip, "Two things: the error is turned round, so eta falls when the KL is too large; and it is not clipped."),
    ("controller_update", "wrong", controller_update__no_clip, "The relative error is not clipped to -0.2 ... 0.2."),
    ("controller_update", "wrong", controller_update__difference, "The difference in nats instead of the relative error KL / target - 1."),
    ("controller_update", "wrong", controller_update__added, "The change is added to eta; it should multiply it (eta times 1 + ...)."),
    ("controller_update", "wrong", controller_update__clip_outside, "The clip is around the product with n / horizon; it belongs around the error alone."),
    ("controller_update", "wrong", controller_update__min_and_max_exchanged, "min and max are exchanged: the result is +0.2 whatever the KL."),
    ("controller_update", "wrong", controller_update__torch_clamp, "torch.clamp wants a tensor; kl is a number here. min and max do it."),
    ("controller_update", "right", controller_update__if_else_right, "if/else, written as an addition of a share"),
    ("controller_update", "right", controller_update__sorted_right, "clips the quotient to 0.8 ... 1.2 by sorting"),
]
