"""The function of each exhibit: a copy of the clean one in `steps` with one line changed.

A test checks that exactly one line differs. Read `steps` first; the changed line is the lesson.
"""

import torch
from torch import Tensor

from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.kl import k1, k2, k3
from rlhf_lab.lessons.museum.language import END, NEXT, T
from rlhf_lab.lessons.museum.steps import Batch, Parts, dropout
from rlhf_lab.masking import masked_mean, masked_sum, masked_whiten
from rlhf_lab.ppo import gae
from rlhf_lab.sampling import draw


def warm_sampling(policy: Tensor, n: int, generator: torch.Generator) -> Tensor:
    state, tokens = torch.zeros(n, dtype=torch.long), []
    for uniforms in torch.rand(T, n, generator=generator, dtype=torch.float64):
        logits = policy[state] / 1.5
        tokens.append(draw(logits.log_softmax(1), uniforms).masked_fill(state == END, 0))
        state = NEXT[state, tokens[-1]]
    return torch.stack(tokens, dim=1)


def padding_counts(responses: Tensor) -> Tensor:
    return torch.ones_like(responses, dtype=torch.bool)


def dropout_left_on(policy: Tensor, states: Tensor, generator: torch.Generator) -> Tensor:
    table = dropout(policy, 0.1, generator)
    return table[states]


def one_place_off(logits: Tensor, responses: Tensor) -> Tensor:
    logprobs = logits.log_softmax(dim=2).roll(-1, dims=1)
    return logprobs.gather(2, responses.unsqueeze(2)).squeeze(2)


def sign_turned(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return k1(ref_logprobs, logprobs)


def never_negative(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return k3(logprobs, ref_logprobs)


def one_for_all(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return k1(logprobs, ref_logprobs).mean().expand_as(logprobs)


def score_in_last_column(scores: Tensor, kls: Tensor, mask: Tensor, eta: float) -> Tensor:
    last = torch.arange(mask.shape[1]) == mask.shape[1] - 1
    return scores.unsqueeze(1) * last - eta * kls * mask


def score_on_every_token(scores: Tensor, kls: Tensor, mask: Tensor, eta: float) -> Tensor:
    last = mask
    return scores.unsqueeze(1) * last - eta * kls * mask


def discounted(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    estimate = gae(rewards, values, mask, gamma=0.7, lam=1.0)
    whitened = masked_whiten(estimate.advantages, mask)
    return whitened, estimate.returns


def whitened_rewards(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    estimate = gae(masked_whiten(rewards, mask), values, mask, gamma=1.0, lam=1.0)
    whitened = masked_whiten(estimate.advantages, mask)
    return whitened, estimate.returns


def whitened_with_padding(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    estimate = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    whitened = masked_whiten(estimate.advantages, torch.ones_like(mask))
    return whitened, estimate.returns


def whitened_targets(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    estimate = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    whitened = masked_whiten(estimate.advantages, mask)
    return whitened, whitened + values


def ratio_to_reference(logprobs: Tensor, batch: Batch, clip: float) -> Tensor:
    ratio = (logprobs - batch.ref_logprobs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    worse = torch.maximum(-batch.advantages * ratio, -batch.advantages * clipped)
    return masked_mean(worse, batch.mask)


def better_instead_of_worse(logprobs: Tensor, batch: Batch, clip: float) -> Tensor:
    ratio = (logprobs - batch.logprobs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    worse = torch.minimum(-batch.advantages * ratio, -batch.advantages * clipped)
    return masked_mean(worse, batch.mask)


def k1_in_loss(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(k1(logprobs, ref_logprobs), mask)


def constant_in_loss(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(k2(logprobs, ref_logprobs), mask).detach()


def order_rewarded(logits: Tensor, logprobs: Tensor, mask: Tensor, beta: float) -> Tensor:
    return -entropy_bonus(logits, mask, beta)


def surprise_rewarded(logits: Tensor, logprobs: Tensor, mask: Tensor, beta: float) -> Tensor:
    return beta * masked_mean(logprobs, mask)


def logged_not_added(parts: Parts, eta: float, loss_eta: float) -> Tensor:
    penalty = loss_eta * parts.kl
    return parts.policy + 0.5 * parts.value + penalty + parts.bonus.detach()


def penalised_twice(parts: Parts, eta: float, loss_eta: float) -> Tensor:
    penalty = eta * parts.kl
    return parts.policy + 0.5 * parts.value + penalty + parts.bonus


def moving_reference(ref: Tensor, policy: Tensor) -> Tensor:
    return policy


def steered_the_wrong_way(eta: float, kls: Tensor, mask: Tensor, target: float) -> float:
    kl = masked_sum(kls, mask).item() / len(kls)
    error = min(max(1 - kl / target, -0.1), 0.1)
    return eta * (1 + error)


def nats_per_token(eta: float, kls: Tensor, mask: Tensor, target: float) -> float:
    kl = masked_mean(kls, mask).item()
    error = min(max(kl / target - 1, -0.1), 0.1)
    return eta * (1 + error)
