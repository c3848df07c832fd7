"""A second correct solution of each exercise, written with nothing but torch and its arguments.

Each has the name of its exercise. It differs from the reference on purpose, so that a checker
that accepts one way of writing alone is found out. `test_solved.py` pastes them into the notebooks.
"""

import math

import torch
from torch import Tensor


def response_mask(responses: Tensor, eos_id: int) -> Tensor:
    mask = torch.zeros_like(responses, dtype=torch.bool)
    for row, tokens in enumerate(responses.tolist()):
        length = tokens.index(eos_id) + 1 if eos_id in tokens else len(tokens)
        mask[row, :length] = True
    return mask


def response_logprobs(logits: Tensor, tokens: Tensor, prompt_length: int) -> Tensor:
    p = logits.exp() / logits.exp().sum(dim=2, keepdim=True)
    columns = []
    for position in range(prompt_length, tokens.shape[1]):
        rows = torch.arange(len(tokens))
        columns.append(p[rows, position - 1, tokens[:, position]].log())
    return torch.stack(columns, dim=1)


def terminal_reward(scores: Tensor, mask: Tensor) -> Tensor:
    rewards = torch.zeros(mask.shape, dtype=scores.dtype)
    for row in range(len(scores)):
        rewards[row, mask[row].nonzero().max()] = scores[row]
    return rewards


def returns_to_go(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    kept = torch.where(mask, rewards, 0.0)
    T = rewards.shape[1]
    nothing = torch.zeros(len(rewards), dtype=rewards.dtype)
    columns = [sum((gamma ** (k - t) * kept[:, k] for k in range(t, T)), nothing) for t in range(T)]
    return torch.where(mask, torch.stack(columns, dim=1), 0.0)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    return torch.logaddexp(torch.zeros_like(chosen), rejected - chosen).sum() / len(chosen)


def standardise(scores: Tensor, logprobs: Tensor) -> Tensor:
    p = torch.exp(logprobs)
    mean = (p * scores).sum()
    variance = (p * scores**2).sum() - mean**2
    return (scores - mean) / variance**0.5


def last_token(x: Tensor, mask: Tensor) -> Tensor:
    return torch.stack([row[chosen][-1] for row, chosen in zip(x, mask, strict=True)])


def measure(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, golds: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    p = torch.exp(logprobs)
    kl = torch.sum(p * (logprobs - ref_logprobs))
    return torch.sum(p * scores), torch.sum(p * golds), kl, -torch.sum(p * logprobs)


def gold_peak(ref_logprobs: Tensor, scores: Tensor, golds: Tensor, etas: list[float]) -> float:
    best, best_gold = etas[0], -float("inf")
    for eta in etas:
        policy = torch.softmax(ref_logprobs + scores / eta, dim=0)
        gold = torch.sum(policy * golds).item()
        if gold > best_gold:
            best, best_gold = eta, gold
    return best


def best_of_n_kl(ref_logprobs: Tensor, scores: Tensor, n: int) -> Tensor:
    p, kl = ref_logprobs.exp(), torch.zeros((), dtype=torch.float64)
    for level in scores.unique():
        mass = p[scores == level].sum()
        wins = p[scores <= level].sum() ** n - p[scores < level].sum() ** n
        kl = kl + wins * torch.log(wins / mass)
    return kl


def total_reward(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
) -> Tensor:
    totals = []
    for score, lp, ref, row in zip(scores, logprobs, ref_logprobs, mask, strict=True):
        totals.append(score - eta * (lp[row].sum() - ref[row].sum()))
    return torch.stack(totals)


def exact_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    p, q = torch.exp(logprobs), torch.exp(ref_logprobs)
    return torch.sum(p * torch.log(p / q), -1)


def optimal_policy(ref_logprobs: Tensor, scores: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    z = ref_logprobs + scores / eta
    log_z = z.max() + torch.log(torch.sum(torch.exp(z - z.max())))
    return z - log_z, eta * log_z


def regret(logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float) -> Tensor:
    logits = ref_logprobs + scores / eta
    best = logits - torch.logsumexp(logits, 0)
    return eta * torch.sum(torch.exp(logprobs) * (logprobs - best))


def eta_for_budget(ref_logprobs: Tensor, scores: Tensor, etas: list[float], budget: float) -> float:
    chosen = float("inf")
    for eta in etas:
        policy = torch.log_softmax(ref_logprobs + scores / eta, 0)
        if torch.sum(torch.exp(policy) * (policy - ref_logprobs)) <= budget:
            chosen = min(chosen, eta)
    return chosen


def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    ratio = (ref_logprob - logprob).exp()
    return ratio - 1 - ratio.log()


def response_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    rows = zip(logprobs, ref_logprobs, mask.bool(), strict=True)
    return torch.stack([(p[m] - q[m]).sum() for p, q, m in rows])


def mean_inverse_ratio(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    token_ratios = torch.where(mask.bool(), ref_logprobs.exp() / logprobs.exp(), 1.0)
    return token_ratios.prod(dim=1).mean()


def kl_penalty(logprob: Tensor, ref_logprob: Tensor, mode: str) -> Tensor:
    d = logprob - ref_logprob
    if mode == "full":
        return torch.einsum("...v,...v->...", logprob.exp(), d)
    return {"kl": d, "abs": torch.maximum(d, -d), "mse": d * d / 2}[mode]


def compute_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
) -> Tensor:
    rewards = -eta * (logprobs - ref_logprobs).detach() * mask
    for row, score in enumerate(scores):
        rewards[row, mask[row].nonzero()[-1]] += score
    return rewards


def kl_loss(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    d = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0)
    return (d * d).sum() / (2 * len(d))


def controller_update(self, kl: float, n_steps: int) -> None:
    error = (kl - self.target) / self.target
    if abs(error) > 0.2:
        error = math.copysign(0.2, error)
    self.value = self.value + self.value * error * n_steps / self.horizon


def token_entropy(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, dim=-1)
    logp = torch.where(p > 0, p, 1.0).log()
    return -torch.einsum("...v,...v->...", p, logp)


def bonus_loss(logits: Tensor, mask: Tensor, beta: float) -> Tensor:
    kept = logits[mask.bool()]
    return -beta * torch.distributions.Categorical(logits=kept).entropy().mean()


def bonus_optimum(ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float) -> Tensor:
    weights = eta * ref_logprobs + scores
    return torch.log_softmax(weights / (eta + beta), dim=0)


def top_share(responses: Tensor, mask: Tensor) -> float:
    counts: dict[tuple[int, ...], int] = {}
    for row, kept in zip(responses, mask.bool(), strict=True):
        said = tuple(row[kept].tolist())
        counts[said] = counts.get(said, 0) + 1
    return max(counts.values()) / len(responses)


def distinct_n(responses: Tensor, mask: Tensor, n: int) -> float:
    ngrams = []
    for row, kept in zip(responses, mask.bool(), strict=True):
        said = row[kept].tolist()
        ngrams += [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
    return len(set(ngrams)) / len(ngrams)


def clipped_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> Tensor:
    ratio = torch.exp(logprobs - old_logprobs)
    beyond = ((advantages > 0) & (ratio > 1 + clip)) | ((advantages < 0) & (ratio < 1 - clip))
    edge = 1 + clip * advantages.sign()
    gain = torch.where(beyond, edge, ratio) * advantages
    return -gain[mask.bool()].mean()


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    m = mask.double()
    advantages = torch.zeros_like(rewards)
    ahead, value_ahead = torch.zeros(len(rewards)).double(), torch.zeros(len(rewards)).double()
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = (rewards[:, t] - values[:, t]) * m[:, t] + value_ahead
        ahead = delta + lam * ahead
        advantages[:, t] = ahead * m[:, t]
        value_ahead = values[:, t] * m[:, t]
    chosen = advantages[mask.bool()]
    whitened = (advantages - chosen.mean()) / (chosen.var() + 1e-8).sqrt() * m
    return whitened, (advantages + values) * m


def ppo_update(
    policy: Tensor,
    ref: Tensor,
    responses: Tensor,
    mask: Tensor,
    scores: Tensor,
    eta: float,
    clip: float,
    lr: float,
    epochs: int,
) -> Tensor:
    position = torch.arange(responses.shape[1])
    old = torch.log_softmax(policy, 1)[position, responses]
    rewards = -eta * (old - torch.log_softmax(ref, 1)[position, responses]) * mask
    for row, length in enumerate(mask.sum(1).tolist()):
        rewards[row, length - 1] += scores[row]
    to_go = rewards.flip(1).cumsum(1).flip(1)
    chosen = to_go[mask.bool()]
    advantages = (to_go - chosen.mean()) / (chosen.var() + 1e-8).sqrt()
    policy = policy.clone()
    for _ in range(epochs):
        policy.requires_grad_(True)
        ratio = (torch.log_softmax(policy, 1)[position, responses] - old).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        (slope,) = torch.autograd.grad(gain[mask.bool()].mean(), policy)
        policy = (policy + lr * slope).detach()
    return policy


def reward_gap(
    rewards: Tensor, scores: Tensor, log_ratios: Tensor, mask: Tensor, eta: float
) -> Tensor:
    largest = torch.tensor(0.0, dtype=rewards.dtype)
    for row in range(len(scores)):
        paid = rewards[row][mask[row].bool()].sum()
        gap = paid - scores[row] + eta * log_ratios[row]
        largest = torch.maximum(largest, gap.abs())
    return largest


def loss_penalty(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    d = (logprobs - ref_logprobs)[mask]
    return (d * d).sum() / (2 * len(d))


def next_eta(eta: float, kls: Tensor, mask: Tensor, target: float) -> float:
    rows = zip(kls, mask, strict=True)
    per_response = sum(float(row[chosen].sum()) for row, chosen in rows) / len(kls)
    return eta * (1 + min(0.1, max(-0.1, (per_response - target) / target)))


def rloo_advantages(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    eta: float,
    group_size: int,
) -> Tensor:
    d = torch.where(mask.bool(), logprobs.detach() - ref_logprobs, 0.0)
    rewards = scores - eta * d.sum(1)
    advantages = torch.zeros_like(rewards)
    for i in range(len(rewards)):
        first = i - i % group_size
        others = [j for j in range(first, first + group_size) if j != i]
        advantages[i] = rewards[i] - rewards[others].mean()
    return advantages


def group_advantages(rewards: Tensor, group_size: int, scale: str) -> Tensor:
    groups = rewards.split(group_size)
    centred = [group - group.sum() / group_size for group in groups]
    if scale == "none":
        return torch.cat(centred)
    if scale == "batch":
        return torch.cat(centred) / (torch.var(rewards) ** 0.5 + 1e-4)
    return torch.cat([x / ((x @ x / (group_size - 1)) ** 0.5 + 1e-4) for x in centred])


def kl_pull(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, place: str) -> Tensor:
    d = torch.where(mask.bool(), (logprobs - ref_logprobs).detach(), 0.0)
    if place == "k3_ratio":
        return d
    if place == "k3":
        return 1 - torch.exp(-d)
    T = d.shape[1]
    return torch.stack([d[:, t:].sum(1) * mask[:, t] for t in range(T)], dim=1)


def aggregate(losses: Tensor, mask: Tensor, how: str, total: float, length: int) -> Tensor:
    rows = [row[chosen.bool()] for row, chosen in zip(losses, mask, strict=True)]
    if how == "response":
        return sum(row.sum() / max(len(row), 1) for row in rows) / len(rows)
    whole = sum(row.sum() for row in rows)
    return whole / {"tokens": total, "constant": len(rows) * length}[how]


def recovered_scores(logprobs: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    log_ratio = torch.log(torch.exp(logprobs) / torch.exp(ref_logprobs))
    mean = torch.sum(torch.exp(ref_logprobs) * log_ratio)
    return beta * log_ratio - beta * mean


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Tensor:
    reward = beta * (chosen_logprobs - ref_chosen_logprobs)
    other = beta * (rejected_logprobs - ref_rejected_logprobs)
    return torch.logaddexp(torch.zeros_like(reward), other - reward).sum() / len(reward)
