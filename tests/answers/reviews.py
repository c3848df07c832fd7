"""The answers that two reviewers wrote without looking at the exercises, in their order."""

import math

import torch
from torch.nn import functional as F

from answers import Answer
from rlhf_lab.best_of_n import best_of_n
from rlhf_lab.entropies import entropy
from rlhf_lab.exact import evaluate, objective, optimum
from rlhf_lab.lessons.ppo_loop import word_logprobs
from rlhf_lab.masking import masked_mean, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, returns_to_go
from rlhf_lab.rewards import compute_rewards

ANSWERS: list[Answer] = []


def answer(exercise, says, *accepts):
    def keep(attempt):
        ANSWERS.append(Answer(exercise, says, attempt, accepts))
        return attempt

    return keep


# ---- 01: terminal_reward ----
@answer("terminal_reward", "right, in torch.zeros(mask.shape)")
def _(scores, mask):
    r = torch.zeros(mask.shape)
    r[torch.arange(len(scores)), mask.sum(1) - 1] = scores
    return r


@answer("terminal_reward", "right, in torch.zeros(mask.shape), row by row")
def _(scores, mask):
    r = torch.zeros(mask.shape)
    for i in range(len(scores)):
        r[i, mask[i].sum() - 1] = scores[i]
    return r


@answer("terminal_reward", "one too far, in float32", "one past the end")
def _(scores, mask):
    r = torch.zeros(mask.shape)
    r[torch.arange(len(scores)), mask.sum(1)] = scores
    return r


@answer("terminal_reward", "rewards[:, last] = scores", "all scores in each row")
def _(scores, mask):
    r = torch.zeros(mask.shape)
    last = mask.sum(1) - 1
    r[:, last] = scores
    return r


@answer("terminal_reward", "zeros_like(mask)", "booleans for numbers")
def _(scores, mask):
    r = torch.zeros_like(mask)
    r[torch.arange(len(scores)), mask.sum(1) - 1] = scores
    return r


@answer(
    "terminal_reward", "zeros_like(mask), row by row", "yes or no for a number", "one for the score"
)
def _(scores, mask):
    r = torch.zeros_like(mask)
    for i, s in enumerate(scores):
        r[i, mask[i].sum() - 1] = s
    return r


@answer("terminal_reward", "last column", "last column")
def _(scores, mask):
    r = torch.zeros(mask.shape)
    r[:, -1] = scores
    return r


@answer("terminal_reward", "every token", "on every token")
def _(scores, mask):
    return scores[:, None] * mask


@answer("terminal_reward", "spread", "spread evenly")
def _(scores, mask):
    return scores[:, None] * mask / mask.sum(1, keepdim=True)


# ---- 01: response_mask ----
@answer("response_mask", "responses != eos_id", "everything but eos")
def _(responses, eos_id):
    return responses != eos_id


@answer("response_mask", "cumsum <= 1", "up to the second eos")
def _(responses, eos_id):
    return (responses == eos_id).cumsum(1) <= 1


@answer("response_mask", "arange <= count of non-eos", "counts what is not eos")
def _(responses, eos_id):
    return torch.arange(responses.shape[1]) <= (responses != eos_id).sum(1, keepdim=True)


@answer("response_mask", ".index(eos) without a fallback", "nothing found")
def _(responses, eos_id):
    rows = responses.tolist()
    ends = torch.tensor([row.index(eos_id) for row in rows])
    return torch.arange(responses.shape[1]) <= ends[:, None]


@answer("response_mask", "broadcast forgotten", "shapes do not fit")
def _(responses, eos_id):
    ends = (responses == eos_id).int().argmax(1)
    return torch.arange(responses.shape[1]) <= ends


# ---- 01: response_logprobs ----
@answer("response_logprobs", "no shift", "no shift")
def _(logits, tokens, prompt_length):
    lp = logits[:, prompt_length:].log_softmax(-1)
    return lp.gather(2, tokens[:, prompt_length:, None]).squeeze(2)


@answer("response_logprobs", "prompt included", "prompt included")
def _(logits, tokens, prompt_length):
    lp = logits[:, :-1].log_softmax(-1)
    return lp.gather(2, tokens[:, 1:, None]).squeeze(2)


@answer("response_logprobs", "softmax first", "softmax of logits")
def _(logits, tokens, prompt_length):
    chose = logits.softmax(-1)[:, prompt_length - 1 : -1]
    return chose.log_softmax(2).gather(2, tokens[:, prompt_length:].unsqueeze(2)).squeeze(2)


@answer("response_logprobs", "slices the batch dimension", "sliced the batch", "shapes do not fit")
def _(logits, tokens, prompt_length):
    chose = logits[prompt_length - 1 : -1]
    actions = tokens[prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


# ---- 01: returns_to_go ----
@answer("returns_to_go", "forward cumsum, masked first, γ forgotten", "summed from the front")
def _(rewards, mask, gamma):
    return (rewards * mask).cumsum(1) * mask


@answer(
    "returns_to_go", "forward cumsum, masked at the end", "summed from the front, mask at the end"
)
def _(rewards, mask, gamma):
    return rewards.cumsum(1) * mask


@answer("returns_to_go", "γ forgotten, masked first", "gamma left out")
def _(rewards, mask, gamma):
    return (rewards * mask).flip(1).cumsum(1).flip(1) * mask


@answer("returns_to_go", "γ forgotten, mask only at the end", "mask after the sum, gamma left out")
def _(rewards, mask, gamma):
    return rewards.flip(1).cumsum(1).flip(1) * mask


@answer("returns_to_go", "mask forgotten", "padding counted")
def _(rewards, mask, gamma):
    out, g = torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        g = rewards[:, t] + gamma * g
        out[:, t] = g
    return out


@answer(
    "returns_to_go",
    "mask only at the end",
    "mask after the sum",
    "padding counted and masked at the end",
)
def _(rewards, mask, gamma):
    out, g = torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        g = rewards[:, t] + gamma * g
        out[:, t] = g
    return out * mask


@answer("returns_to_go", "γ^t from the start", "discounted from the start")
def _(rewards, mask, gamma):
    weights = gamma ** torch.arange(rewards.shape[1])
    return (rewards * mask * weights).flip(1).cumsum(1).flip(1) * mask


@answer("returns_to_go", "γ(r+G)", "times γ")
def _(rewards, mask, gamma):
    r, out, g = rewards * mask, torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        g = gamma * (r[:, t] + g)
        out[:, t] = g
    return out * mask


@answer(
    "returns_to_go",
    "r_t left out",
    "own reward left out",
    "without rewards and masked at the end",
    "without rewards and padding not cleared",
)
def _(rewards, mask, gamma):
    r, out, g = rewards * mask, torch.zeros_like(rewards), torch.zeros(len(rewards)).double()
    for t in reversed(range(rewards.shape[1])):
        out[:, t] = gamma * g
        g = r[:, t] + gamma * g
    return out * mask


@answer("returns_to_go", "not flipped back", "not flipped back")
def _(rewards, mask, gamma):
    r, outs, g = rewards * mask, [], 0.0
    for t in reversed(range(rewards.shape[1])):
        g = r[:, t] + gamma * g
        outs.append(g)
    return torch.stack(outs, 1) * mask


# ---- 02: bradley_terry_loss ----
@answer("bradley_terry_loss", "exchanged", "the wrong way round")
def _(chosen, rejected):
    return -F.logsigmoid(rejected - chosen).mean()


@answer("bradley_terry_loss", "sum", "sum over pairs")
def _(chosen, rejected):
    return -F.logsigmoid(chosen - rejected).sum()


@answer("bradley_terry_loss", "minus forgotten", "sign")
def _(chosen, rejected):
    return F.logsigmoid(chosen - rejected).mean()


@answer("bradley_terry_loss", "no mean", "not averaged")
def _(chosen, rejected):
    return -F.logsigmoid(chosen - rejected)


@answer("bradley_terry_loss", "log of the mean", "log of the mean")
def _(chosen, rejected):
    return -torch.sigmoid(chosen - rejected).mean().log()


@answer("bradley_terry_loss", "1 − σ", "probability of being wrong")
def _(chosen, rejected):
    return (1 - torch.sigmoid(chosen - rejected)).mean()


# ---- 02: standardise ----
@answer("standardise", "scores.mean(), scores.std()", "every response counts the same, n − 1")
def _(scores, logprobs):
    return (scores - scores.mean()) / scores.std()


@answer("standardise", "variance", "divided by the variance")
def _(scores, logprobs):
    p = logprobs.exp()
    mean = (p * scores).sum()
    return (scores - mean) / (p * (scores - mean) ** 2).sum()


@answer("standardise", "p inside the square", "p inside the square")
def _(scores, logprobs):
    p = logprobs.exp()
    mean = (p * scores).sum()
    return (scores - mean) / ((p * (scores - mean)) ** 2).sum().sqrt()


@answer("standardise", "weights = log p", "logs as weights", "not a number")
def _(scores, logprobs):
    mean = (logprobs * scores).sum()
    return (scores - mean) / (logprobs * (scores - mean) ** 2).sum().sqrt()


@answer("standardise", "weighted mean but plain std", "the plain standard deviation")
def _(scores, logprobs):
    return (scores - logprobs.exp() @ scores) / scores.std()


# ---- 02: last_token ----
@answer("last_token", "last column", "last column")
def _(x, mask):
    return x[:, -1]


@answer("last_token", "x[:, lengths-1]", "every row for every row")
def _(x, mask):
    return x[:, mask.sum(1) - 1]


@answer("last_token", "one too far", "one past the end")
def _(x, mask):
    return x[torch.arange(len(x)), mask.sum(1)]


@answer(
    "last_token",
    "masked sum",
    "the sum over the tokens",
    "sum over tokens",
    "mean over tokens and times the length",
)
def _(x, mask):
    return (x * mask).sum(1)


@answer("last_token", ".item()", "detached")
def _(x, mask):
    return torch.tensor([x[i, int(mask[i].sum()) - 1].item() for i in range(len(x))])


# ---- 03: measure ----
@answer("measure", "KL the other direction", "directions swapped")
def _(logprobs, ref_logprobs, scores, golds):
    p, q = logprobs.exp(), ref_logprobs.exp()
    return p @ scores, p @ golds, q @ (ref_logprobs - logprobs), -(p @ logprobs)


@answer("measure", "KL the other direction, via F.kl_div", "directions swapped")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    kl = F.kl_div(logprobs, ref_logprobs, log_target=True, reduction="sum")
    return p @ scores, p @ golds, kl, -(p @ logprobs)


@answer("measure", "KL sign", "sign")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    return p @ scores, p @ golds, p @ (ref_logprobs - logprobs), -(p @ logprobs)


@answer("measure", "KL weights", "weighted by π_ref")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    kl = ref_logprobs.exp() @ (logprobs - ref_logprobs)
    return p @ scores, p @ golds, kl, -(p @ logprobs)


@answer("measure", "H sign", "sign")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    return p @ scores, p @ golds, p @ (logprobs - ref_logprobs), p @ logprobs


@answer("measure", "H unweighted", "plain average", "plain average and times n")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    return p @ scores, p @ golds, p @ (logprobs - ref_logprobs), -logprobs.mean()


@answer("measure", "gold unweighted", "plain average")
def _(logprobs, ref_logprobs, scores, golds):
    p = logprobs.exp()
    return p @ scores, golds.mean(), p @ (logprobs - ref_logprobs), -(p @ logprobs)


# ---- 03: gold_peak ----
def _peak(key, pick=max):
    def attempt(ref_logprobs, scores, golds, etas):
        def height(eta):
            policy = optimum(ref_logprobs, scores, eta).logprobs
            return key(evaluate(policy, ref_logprobs, scores, golds))

        return pick(etas, key=height)

    return attempt


answer("gold_peak", "best by score", "peak of the score")(_peak(lambda e: e.score.item()))


@answer("gold_peak", "optimises gold", "peak of the score")
def _(ref_logprobs, scores, golds, etas):
    return max(
        etas, key=lambda eta: (optimum(ref_logprobs, golds, eta).logprobs.exp() @ golds).item()
    )


answer("gold_peak", "min by gold", "the lowest gold score")(_peak(lambda e: e.gold.item(), min))


@answer("gold_peak", "returns the gold score", "the height, not the η")
def _(ref_logprobs, scores, golds, etas):
    return max(optimum(ref_logprobs, scores, eta).logprobs.exp() @ golds for eta in etas)


@answer("gold_peak", "returns the index", "the index, not the η")
def _(ref_logprobs, scores, golds, etas):
    found = [(optimum(ref_logprobs, scores, eta).logprobs.exp() @ golds).item() for eta in etas]
    return found.index(max(found))


# ---- 03: best_of_n_kl ----
@answer("best_of_n_kl", "the formula", "the bound taken for the value")
def _(ref_logprobs, scores, n):
    return math.log(n) - (n - 1) / n


@answer("best_of_n_kl", "other direction", "directions swapped")
def _(ref_logprobs, scores, n):
    return (ref_logprobs.exp() * (ref_logprobs - best_of_n(ref_logprobs, scores, n))).sum()


@answer("best_of_n_kl", "weights are logs", "logs as weights")
def _(ref_logprobs, scores, n):
    bon = best_of_n(ref_logprobs, scores, n)
    return (bon * (bon - ref_logprobs)).sum()


@answer("best_of_n_kl", "ref weights", "directions swapped and sign", "weights of π_ref")
def _(ref_logprobs, scores, n):
    bon = best_of_n(ref_logprobs, scores, n)
    return (ref_logprobs.exp() * (bon - ref_logprobs)).sum()


@answer("best_of_n_kl", "plain mean", "plain average")
def _(ref_logprobs, scores, n):
    return (best_of_n(ref_logprobs, scores, n) - ref_logprobs).mean()


@answer("best_of_n_kl", "log n", "log n", "ref_logprobs ignored")
def _(ref_logprobs, scores, n):
    return math.log(n)


# ---- 04: total_reward ----
@answer("total_reward", "padding", "padding counted")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * (logprobs - ref_logprobs).sum(1)


@answer("total_reward", "× mask", "multiplied by the mask")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * ((logprobs - ref_logprobs) * mask).sum(1)


@answer("total_reward", "mean", "mean over tokens")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * masked_mean(logprobs - ref_logprobs, mask, 1)


@answer("total_reward", "sign", "plus")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores + eta * (logprobs - ref_logprobs).masked_fill(~mask, 0).sum(1)


@answer("total_reward", "abs", "absolute values")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * (logprobs - ref_logprobs).masked_fill(~mask, 0).abs().sum(1)


@answer("total_reward", "η twice", "η squared")
def _(scores, logprobs, ref_logprobs, mask, eta):
    penalties = eta * (logprobs - ref_logprobs).masked_fill(~mask, 0).sum(1)
    return scores - eta * penalties


@answer("total_reward", "ratio, not log", "the ratio, not its log")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * (logprobs - ref_logprobs).masked_fill(~mask, 0).sum(1).exp()


@answer("total_reward", "[mask].sum()", "summed over the batch")
def _(scores, logprobs, ref_logprobs, mask, eta):
    return scores - eta * (logprobs - ref_logprobs)[mask].sum()


# ---- 04: exact_kl ----
@answer("exact_kl", "weights", "weights of π_ref")
def _(logprobs, ref_logprobs):
    return (ref_logprobs.exp() * (logprobs - ref_logprobs)).sum(-1)


@answer("exact_kl", "direction", "directions swapped")
def _(logprobs, ref_logprobs):
    return (ref_logprobs.exp() * (ref_logprobs - logprobs)).sum(-1)


@answer("exact_kl", "sign", "minus")
def _(logprobs, ref_logprobs):
    return (logprobs.exp() * (ref_logprobs - logprobs)).sum(-1)


@answer("exact_kl", "brackets forgotten", "brackets forgotten")
def _(logprobs, ref_logprobs):
    return (logprobs.exp() * logprobs - ref_logprobs).sum(-1)


@answer("exact_kl", "log weights", "logs as weights")
def _(logprobs, ref_logprobs):
    return (logprobs * (logprobs - ref_logprobs)).sum(-1)


@answer("exact_kl", "detached", "detached", "another gradient", "weights detached")
def _(logprobs, ref_logprobs):
    return (logprobs.exp().detach() * (logprobs - ref_logprobs)).sum(-1)


@answer("exact_kl", "right: softmax once more")
def _(logprobs, ref_logprobs):
    return (logprobs.softmax(-1) * (logprobs - ref_logprobs)).sum(-1)


# ---- 04: optimal_policy ----
@answer("optimal_policy", "× η", "η multiplied")
def _(ref_logprobs, scores, eta):
    z = ref_logprobs + scores * eta
    return z.log_softmax(0), eta * z.logsumexp(0)


@answer("optimal_policy", "not normalised", "log Z missing")
def _(ref_logprobs, scores, eta):
    z = ref_logprobs + scores / eta
    return z, eta * z.logsumexp(0)


@answer("optimal_policy", "log Z", "log Z for J*")
def _(ref_logprobs, scores, eta):
    z = ref_logprobs + scores / eta
    return z.log_softmax(0), z.logsumexp(0)


@answer("optimal_policy", "no π_ref", "π_ref left out")
def _(ref_logprobs, scores, eta):
    z = scores / eta
    return z.log_softmax(0), eta * z.logsumexp(0)


@answer("optimal_policy", "J* = E[r]", "E[r] for J*")
def _(ref_logprobs, scores, eta):
    logp = (ref_logprobs + scores / eta).log_softmax(0)
    return logp, logp.exp() @ scores


@answer("optimal_policy", "probabilities instead of logs", "probability for log")
def _(ref_logprobs, scores, eta):
    z = ref_logprobs + scores / eta
    return z.softmax(0), eta * z.logsumexp(0)


@answer("optimal_policy", "swapped", "results exchanged")
def _(ref_logprobs, scores, eta):
    z = ref_logprobs + scores / eta
    return eta * z.logsumexp(0), z.log_softmax(0)


@answer("optimal_policy", "only one result", "number of results")
def _(ref_logprobs, scores, eta):
    return (ref_logprobs + scores / eta).log_softmax(0)


# ---- 04: regret ----
@answer("regret", "sign", "turned round")
def _(logprobs, ref_logprobs, scores, eta):
    return objective(logprobs, ref_logprobs, scores, eta) - optimum(ref_logprobs, scores, eta).value


@answer("regret", "no η", "η left out")
def _(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return (logprobs.exp() * (logprobs - best)).sum()


@answer("regret", "direction", "directions swapped")
def _(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta).logprobs
    return eta * (best.exp() * (best - logprobs)).sum()


@answer("regret", "KL to ref", "distance to π_ref")
def _(logprobs, ref_logprobs, scores, eta):
    return eta * (logprobs.exp() * (logprobs - ref_logprobs)).sum()


@answer("regret", "best - objective, .value forgotten", "several results taken for one")
def _(logprobs, ref_logprobs, scores, eta):
    best = optimum(ref_logprobs, scores, eta)
    return best - objective(logprobs, ref_logprobs, scores, eta)


# ---- 04: eta_for_budget ----
def _kl(ref_logprobs, scores, eta):
    logp = optimum(ref_logprobs, scores, eta).logprobs
    return (logp.exp() * (logp - ref_logprobs)).sum().item()


@answer("eta_for_budget", "largest", "the largest η")
def _(ref_logprobs, scores, etas, budget):
    return max(e for e in etas if _kl(ref_logprobs, scores, e) <= budget)


@answer("eta_for_budget", "direction", "directions swapped")
def _(ref_logprobs, scores, etas, budget):
    def kl(eta):
        logp = optimum(ref_logprobs, scores, eta).logprobs
        return (ref_logprobs.exp() * (ref_logprobs - logp)).sum()

    return min(e for e in etas if kl(e) <= budget)


@answer("eta_for_budget", "η·KL", "the penalty for the KL")
def _(ref_logprobs, scores, etas, budget):
    return min(e for e in etas if e * _kl(ref_logprobs, scores, e) <= budget)


@answer("eta_for_budget", "budget ignored", "budget left out")
def _(ref_logprobs, scores, etas, budget):
    return min(etas)


@answer("eta_for_budget", "nearest to the budget", "nearest to the budget")
def _(ref_logprobs, scores, etas, budget):
    return min(etas, key=lambda e: abs(_kl(ref_logprobs, scores, e) - budget))


@answer("eta_for_budget", "first of the list", "the first that fits")
def _(ref_logprobs, scores, etas, budget):
    for e in etas:
        if _kl(ref_logprobs, scores, e) <= budget:
            return e


# ---- 05: k3 ----
@answer("k3", "exp(d) - 1 + d", "ratio upside down, d as it was")
def _(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return log_ratio.exp() - 1 + log_ratio


@answer("k3", "d with the wrong sign", "d subtracted", "ratio upside down")
def _(logprob, ref_logprob):
    log_ratio = ref_logprob - logprob
    return (-log_ratio).exp() - 1 + log_ratio


@answer("k3", "−1 forgotten", "the 1 left out")
def _(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return (-log_ratio).exp() + log_ratio


@answer("k3", "log of a ratio of logs", "logs taken for probabilities")
def _(logprob, ref_logprob):
    log_ratio = (logprob / ref_logprob).log()
    return (-log_ratio).exp() - 1 + log_ratio


@answer("k3", "math.exp", "math for tensors")
def _(logprob, ref_logprob):
    log_ratio = logprob - ref_logprob
    return math.exp(-log_ratio) - 1 + log_ratio


# ---- 05: response_kl ----
@answer("response_kl", "divided by length", "mean over the tokens")
def _(logprobs, ref_logprobs, mask):
    return ((logprobs - ref_logprobs) * mask).sum(1) / mask.sum(1)


@answer("response_kl", "π-weighted", "weighted by π")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (logprobs.exp() * d * mask).sum(-1)


@answer("response_kl", ".sum(-1).mean()", "mean over everything")
def _(logprobs, ref_logprobs, mask):
    return ((logprobs - ref_logprobs) * mask).sum(-1).mean()


@answer("response_kl", "k3, summed", "k3 for k1")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (((-d).exp() - 1 + d) * mask).sum(-1)


@answer("response_kl", "logprobs[mask] with an integer mask", "integers used as a mask")
def _(logprobs, ref_logprobs, mask):
    return torch.stack(
        [(p[m] - q[m]).sum() for p, q, m in zip(logprobs, ref_logprobs, mask, strict=True)]
    )


@answer(
    "response_kl",
    "logprobs[mask] of the whole batch",
    "integer mask as an index",
    "integers used as a mask",
)
def _(logprobs, ref_logprobs, mask):
    return (logprobs[mask] - ref_logprobs[mask]).sum(-1)


# ---- 05: mean_inverse_ratio ----
@answer("mean_inverse_ratio", "mean of token ratios", "mean of token ratios, padding too")
def _(logprobs, ref_logprobs, mask):
    return (ref_logprobs - logprobs).exp().mean()


@answer("mean_inverse_ratio", "masked mean of token ratios", "mean of token ratios")
def _(logprobs, ref_logprobs, mask):
    ratio = (ref_logprobs - logprobs).exp()
    return (ratio * mask).sum() / mask.sum()


@answer("mean_inverse_ratio", "mean forgotten", "not averaged")
def _(logprobs, ref_logprobs, mask):
    return (-((logprobs - ref_logprobs) * mask).sum(1)).exp()


@answer("mean_inverse_ratio", "zeros kill the product", "zeros in the product")
def _(logprobs, ref_logprobs, mask):
    ratio = (ref_logprobs - logprobs).exp()
    return (ratio * mask).prod(1).mean()


# ---- 06: compute_rewards ----
@answer(
    "compute_rewards",
    "last = mask.sum(1) - 1",
    "last token by its count",
    "padded on the right only",
)
def _(scores, logprobs, ref_logprobs, mask, eta):
    rewards = -eta * (logprobs - ref_logprobs).detach() * mask
    last = mask.sum(1) - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


@answer("compute_rewards", "rewards[:, -1] += scores", "score on the last column")
def _(scores, logprobs, ref_logprobs, mask, eta):
    rewards = -eta * (logprobs - ref_logprobs).detach() * mask
    rewards[:, -1] += scores
    return rewards


@answer("compute_rewards", "overwrites the penalty", "penalty overwritten")
def _(scores, logprobs, ref_logprobs, mask, eta):
    rewards = -eta * (logprobs - ref_logprobs).detach() * mask
    for i in range(len(scores)):
        rewards[i, mask[i].nonzero()[-1]] = scores[i]
    return rewards


@answer("compute_rewards", "π-weighted", "weighted by π")
def _(scores, logprobs, ref_logprobs, mask, eta):
    rewards = -eta * (logprobs.exp() * (logprobs - ref_logprobs)).detach() * mask
    for i in range(len(scores)):
        rewards[i, mask[i].nonzero()[-1]] += scores[i]
    return rewards


@answer("compute_rewards", "whole KL paid at the end", "whole KL at the end")
def _(scores, logprobs, ref_logprobs, mask, eta):
    kl = ((logprobs - ref_logprobs) * mask).detach()
    total = scores - eta * kl.sum(1)
    rewards = torch.zeros_like(kl)
    for i in range(len(scores)):
        rewards[i, mask[i].nonzero()[-1]] = total[i]
    return rewards


@answer("compute_rewards", "not detached", "not detached")
def _(scores, logprobs, ref_logprobs, mask, eta):
    rewards = -eta * (logprobs - ref_logprobs) * mask
    for i in range(len(scores)):
        rewards[i, mask[i].nonzero()[-1]] += scores[i]
    return rewards


# ---- 06: kl_penalty ----
def _penalty(mse, full):
    def attempt(logprob, ref_logprob, mode):
        d = logprob - ref_logprob
        if mode == "kl":
            return d
        if mode == "abs":
            return d.abs()
        if mode == "mse":
            return mse(d)
        return full(logprob, ref_logprob, d)

    return attempt


def _half(d):
    return d**2 / 2


answer("kl_penalty", "d²", "half forgotten")(
    _penalty(lambda d: d**2, lambda p, q, d: (p.exp() * d).sum(-1))
)
answer(
    "kl_penalty",
    "F.kl_div(logprob, ref_logprob)",
    "full in the other direction",
    "arguments swapped",
)(
    _penalty(
        _half,
        lambda p, q, d: F.kl_div(p, q, log_target=True, reduction="none").sum(-1),
    )
)
answer("kl_penalty", "exp forgotten", "logs as weights")(
    _penalty(_half, lambda p, q, d: (p * d).sum(-1))
)


@answer("kl_penalty", "F.mse_loss", "mse as one number")
def _(logprob, ref_logprob, mode):
    d = logprob - ref_logprob
    if mode == "mse":
        return F.mse_loss(logprob, ref_logprob)
    return {"kl": lambda: d, "abs": d.abs, "full": lambda: (logprob.exp() * d).sum(-1)}[mode]()


# ---- 06: kl_loss ----
@answer("kl_loss", "k1", "k1 as a loss")
def _(logprobs, ref_logprobs, mask):
    return ((logprobs - ref_logprobs) * mask).sum(1).mean()


@answer("kl_loss", "mean over tokens", "mean over tokens")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (d**2 / 2 * mask).sum() / mask.sum()


@answer("kl_loss", "square of the sum", "square of the sum")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return ((d * mask).sum(1) ** 2 / 2).mean()


@answer("kl_loss", "d.detach() * logprobs", "score function", "right gradient, another value")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (d.detach() * logprobs * mask).sum(1).mean()


# ---- 06: controller_update ----
def _error(self, kl):
    return min(max(kl / self.target - 1, -0.2), 0.2)


@answer("controller_update", "return self.value * …", "returned, not stored")
def _(self, kl, n_steps):
    return self.value * (1 + _error(self, kl) * n_steps / self.horizon)


@answer("controller_update", "no clip", "not clipped")
def _(self, kl, n_steps):
    self.value *= 1 + (kl / self.target - 1) * n_steps / self.horizon


@answer("controller_update", "target / kl", "measured the other way round")
def _(self, kl, n_steps):
    error = min(max(self.target / kl - 1, -0.2), 0.2)
    self.value *= 1 + error * n_steps / self.horizon


@answer("controller_update", "clip on the multiplier", "clipped too late")
def _(self, kl, n_steps):
    factor = 1 + (kl / self.target - 1) * n_steps / self.horizon
    self.value *= min(max(factor, 0.8), 1.2)


# ---- 07: token_entropy ----
@answer("token_entropy", "mask logits == 0", "logits masked where they are 0")
def _(logits):
    logprobs = logits.log_softmax(-1)
    safe = logprobs.masked_fill(logits == 0, 0.0)
    return -(logprobs.exp() * safe).sum(-1)


@answer("token_entropy", "exp forgotten", "logs as weights")
def _(logits):
    logprobs = logits.log_softmax(-1)
    safe = logprobs.masked_fill(logprobs == -torch.inf, 0.0)
    return -(logprobs.masked_fill(logprobs == -torch.inf, 0.0) * safe).sum(-1)


@answer("token_entropy", "exp forgotten in one place", "logs as weights")
def _(logits):
    logprobs = logits.log_softmax(-1)
    safe = logprobs.masked_fill(logprobs == -torch.inf, 0.0)
    return -(logprobs * safe).sum(-1)


@answer("token_entropy", "logits.exp()", "weights not normalised")
def _(logits):
    logprobs = logits.log_softmax(-1)
    safe = logprobs.masked_fill(logprobs == -torch.inf, 0.0)
    return -(logits.exp() * safe).sum(-1)


# ---- 07: bonus_loss ----
def _entropies(logits):
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


@answer("bonus_loss", "the package's entropy, masked at the end", "measured on the padding")
def _(logits, mask, beta):
    return -beta * (entropy(logits) * mask).sum() / mask.sum()


@answer("bonus_loss", "the package's entropy, selected at the end", "measured on the padding")
def _(logits, mask, beta):
    return -beta * entropy(logits)[mask.bool()].mean()


@answer("bonus_loss", "padding averaged", "padding counted")
def _(logits, mask, beta):
    return -beta * _entropies(logits).mean()


@answer("bonus_loss", "+β", "plus β·H")
def _(logits, mask, beta):
    return beta * _entropies(logits)[mask.bool()].mean()


@answer("bonus_loss", "mask multiplied into the logits", "mask on the logits")
def _(logits, mask, beta):
    return -beta * _entropies(logits * mask.unsqueeze(-1)).mean()


@answer("bonus_loss", "mean per response, then mean", "mean of means")
def _(logits, mask, beta):
    h = _entropies(logits) * mask
    return -beta * (h.sum(1) / mask.sum(1)).mean()


# ---- 07: bonus_optimum ----
@answer("bonus_optimum", "not normalised", "not normalised")
def _(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return eta / tau * ref_logprobs + scores / tau


@answer("bonus_optimum", "π_ref kept whole", "π_ref kept whole")
def _(ref_logprobs, scores, eta, beta):
    return (ref_logprobs + scores / (eta + beta)).log_softmax(0)


@answer("bonus_optimum", "log-probabilities to a power", "a log to a power", "not a number")
def _(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return (ref_logprobs ** (eta / tau) * (scores / tau).exp()).log()


@answer("bonus_optimum", "softmax instead of log", "probability for log")
def _(ref_logprobs, scores, eta, beta):
    tau = eta + beta
    return (eta / tau * ref_logprobs + scores / tau).softmax(0)


# ---- 08 ----
@answer("top_share", "right: filled with 0")
def _(responses, mask):
    said = responses.masked_fill(~mask.bool(), 0)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.max().item() / counts.sum().item()


@answer("top_share", "counts[0]", "the first, not the largest")
def _(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts[0].item() / counts.sum().item()


@answer("top_share", "× 100", "per cent", "a percentage")
def _(responses, mask):
    said = responses.masked_fill(~mask.bool(), -1)
    counts = said.unique(dim=0, return_counts=True)[1]
    return 100 * counts.max().item() / counts.sum().item()


@answer("top_share", "filled with NaN", "NaN among integers")
def _(responses, mask):
    said = responses.masked_fill(~mask.bool(), float("nan"))
    counts = said.unique(dim=0, return_counts=True)[1]
    return counts.max().item() / counts.sum().item()


@answer("distinct_n", "padding counted", "padding counted")
def _(responses, mask, n):
    grams = [
        tuple(g)
        for row in responses.tolist()
        for g in zip(*[row[i:] for i in range(n)], strict=False)
    ]
    return len(set(grams)) / len(grams)


@answer("distinct_n", "across reviews", "across reviews")
def _(responses, mask, n):
    words = responses[mask].tolist()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams)


@answer("distinct_n", "off by one", "last n-gram left out")
def _(responses, mask, n):
    grams = []
    for row, m in zip(responses, mask, strict=True):
        words = row[m].tolist()
        grams += [tuple(words[i : i + n]) for i in range(len(words) - n)]
    return len(set(grams)) / len(grams)


@answer("distinct_n", "divided by reviews, off by one", "last n-gram left out, divided by reviews")
def _(responses, mask, n):
    grams = []
    for row, m in zip(responses, mask, strict=True):
        words = row[m].tolist()
        grams += [tuple(words[i : i + n]) for i in range(len(words) - n)]
    return len(set(grams)) / len(responses)


# ---- 09: clipped_loss ----
@answer("clipped_loss", "ratio.clamp(-clip, clip)", "clipped around 0")
def _(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(-clip, clip)
    return masked_mean(torch.where(unclipped > clipped, unclipped, clipped), mask)


@answer("clipped_loss", "the smaller of the two", "clipped on the wrong side")
def _(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.where(unclipped > clipped, clipped, unclipped), mask)


@answer(
    "clipped_loss",
    "minus forgotten",
    "minus forgotten in the clipped branch",
    "advantages with the wrong sign",
    "sign",
)
def _(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.where(unclipped > clipped, unclipped, clipped), mask)


@answer("clipped_loss", "advantage forgotten in the clipped branch", "advantage forgotten")
def _(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.where(unclipped > clipped, unclipped, clipped), mask)


@answer("clipped_loss", "only max=1+clip", "clipped on one side only")
def _(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(max=1 + clip)
    return masked_mean(torch.where(unclipped > clipped, unclipped, clipped), mask)


# ---- 09: advantages_and_returns ----
@answer(
    "advantages_and_returns",
    "returns of whitened advantages, not masked",
    "returns of whitened advantages",
    "returns of whitened advantages and padding not cleared",
)
def _(rewards, values, mask, lam=0.95):
    adv, _ = gae(rewards, values, mask, gamma=1.0, lam=lam)
    adv = masked_whiten(adv, mask)
    return adv, adv + values


@answer("advantages_and_returns", "swapped", "results exchanged")
def _(rewards, values, mask, lam=0.95):
    adv, ret = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return ret, masked_whiten(adv, mask)


@answer(
    "advantages_and_returns",
    "(adv - adv.mean()) / (adv.std() + 1e-8)",
    "whitened with the padding, as it stands",
)
def _(rewards, values, mask, lam=0.95):
    adv, ret = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return (adv - adv.mean()) / (adv.std() + 1e-8), ret


@answer("advantages_and_returns", "returns whitened, too", "both whitened")
def _(rewards, values, mask, lam=0.95):
    adv, ret = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return masked_whiten(adv, mask), masked_whiten(ret, mask)


@answer("advantages_and_returns", "Monte-Carlo returns", "Monte-Carlo returns", "λ ignored")
def _(rewards, values, mask, lam=0.95):
    adv, _ = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return masked_whiten(adv, mask), returns_to_go(rewards, mask)


# ---- 09: ppo_update ----
def _loop(each=False, whiten=True, adam=False, zero=True, old_each=False):
    def attempt(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
        w = policy.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([w], lr=lr) if adam else None
        total = torch.zeros_like(policy)

        def prepare():
            now = word_logprobs(w, responses).detach()
            r = compute_rewards(scores, now, word_logprobs(ref, responses), mask, eta).rewards
            adv = returns_to_go(r, mask)
            return now, masked_whiten(adv, mask) if whiten else adv

        old, advantages = prepare()
        for _ in range(epochs):
            if each:
                new_old, advantages = prepare()
                old = new_old if old_each else old
            loss = policy_loss(word_logprobs(w, responses), old, advantages, mask, clip=clip).loss
            (g,) = torch.autograd.grad(loss, w)
            if optimiser:
                w.grad = g
                optimiser.step()
                continue
            total = g if zero else total + g
            w = (w - lr * total).detach().requires_grad_(True)
        return w.detach()

    return attempt


answer(
    "ppo_update", "rewards and π_old recomputed in the loop", "everything recomputed in every epoch"
)(_loop(each=True, old_each=True))
answer("ppo_update", "rewards recomputed each epoch", "rewards recomputed in every epoch")(
    _loop(each=True)
)
answer("ppo_update", "not whitened", "not whitened")(_loop(whiten=False))
answer("ppo_update", "Adam", "Adam for plain descent")(_loop(adam=True))
answer("ppo_update", "gradient never zeroed", "gradient never zeroed")(_loop(zero=False))


@answer("ppo_update", "clip by place", "argument by place")
def _(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old = word_logprobs(policy, responses)
    return policy_loss(old, old, old, mask, clip)


@answer("ppo_update", ".loss forgotten", "several results taken for one")
def _(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    policy = policy.clone().requires_grad_(True)
    old = word_logprobs(policy, responses)
    policy_loss(old, old.detach(), old.detach(), mask, clip=clip).backward()


@answer("ppo_update", ".loss forgotten at the gradient", "several results taken for one")
def _(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    policy = policy.clone().requires_grad_(True)
    logprobs = word_logprobs(policy, responses)
    old = logprobs.detach()
    loss = policy_loss(logprobs, old, old, mask, clip=clip)
    (gradient,) = torch.autograd.grad(loss, policy)
    return policy.detach() - lr * gradient


@answer("ppo_update", ".rewards forgotten", "several results taken for one")
def _(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old, held = word_logprobs(policy, responses), word_logprobs(ref, responses)
    return returns_to_go(compute_rewards(scores, old, held, mask, eta), mask)


@answer("ppo_update", "right: SGD, cloned weights")
def _(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    w = policy.clone().requires_grad_(True)
    optimiser = torch.optim.SGD([w], lr=lr)
    with torch.no_grad():
        old = word_logprobs(policy, responses)
        ref_logprobs = word_logprobs(ref, responses)
        rewards = compute_rewards(scores, old, ref_logprobs, mask, eta).rewards
        advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for _ in range(epochs):
        optimiser.zero_grad()
        policy_loss(word_logprobs(w, responses), old, advantages, mask, clip=clip).loss.backward()
        optimiser.step()
    return w.detach()


# ---- 10: reward_gap ----
def _gaps(rewards, scores, log_ratios, mask, eta):
    return (rewards * mask).sum(1) - (scores - eta * log_ratios)


@answer("reward_gap", "padding", "padding included")
def _(rewards, scores, log_ratios, mask, eta):
    return (rewards.sum(1) - scores + eta * log_ratios).abs().max()


@answer("reward_gap", "sign", "penalty added")
def _(rewards, scores, log_ratios, mask, eta):
    return ((rewards * mask).sum(1) - scores - eta * log_ratios).abs().max()


@answer("reward_gap", "no abs", "no absolute value")
def _(rewards, scores, log_ratios, mask, eta):
    return _gaps(rewards, scores, log_ratios, mask, eta).max()


@answer("reward_gap", "no max", "not the largest")
def _(rewards, scores, log_ratios, mask, eta):
    return _gaps(rewards, scores, log_ratios, mask, eta).abs()


@answer("reward_gap", "sum over the batch", "sum over the batch")
def _(rewards, scores, log_ratios, mask, eta):
    return _gaps(rewards, scores, log_ratios, mask, eta).abs().sum()


# ---- 10: loss_penalty ----
@answer("loss_penalty", "k1", "k1")
def _(logprobs, ref_logprobs, mask):
    return ((logprobs - ref_logprobs) * mask).sum() / mask.sum()


@answer("loss_penalty", "k3", "k3")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return (((-d).exp() - 1 + d) * mask).sum() / mask.sum()


@answer("loss_penalty", "sum per review", "sum per review")
def _(logprobs, ref_logprobs, mask):
    d = logprobs - ref_logprobs
    return ((d**2 / 2) * mask).sum(1).mean()


@answer("loss_penalty", "d²", "half forgotten", "times 2")
def _(logprobs, ref_logprobs, mask):
    return ((logprobs - ref_logprobs) ** 2 * mask).sum() / mask.sum()


# ---- 10: next_eta ----
def _steered(error, limit=0.1):
    return 1 + max(-limit, min(limit, error))


@answer("next_eta", "per token", "nats per token")
def _(eta, kls, mask, target):
    return eta * _steered((kls * mask).sum().item() / mask.sum().item() / target - 1)


@answer("next_eta", "no limit", "no limit")
def _(eta, kls, mask, target):
    return eta * (kls * mask).sum().item() / len(kls) / target


@answer("next_eta", "wrong way", "wrong way")
def _(eta, kls, mask, target):
    return eta * _steered(1 - (kls * mask).sum().item() / len(kls) / target)


@answer("next_eta", "padding", "padding included")
def _(eta, kls, mask, target):
    return eta * _steered(kls.sum().item() / len(kls) / target - 1)


@answer("next_eta", "added instead of multiplied", "added instead of multiplied")
def _(eta, kls, mask, target):
    return eta + max(-0.1, min(0.1, (kls * mask).sum().item() / len(kls) / target - 1))
