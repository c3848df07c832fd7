"""The steps of the clean trainer, each a small function that an exhibit can replace.

They call the package's functions. Only `shaped_rewards`, `surrogate` and `next_eta` write their
formulas out, because exhibits change these lines.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.kl import k1, k2
from rlhf_lab.lessons.museum.language import END, NEXT, T
from rlhf_lab.masking import masked_mean, masked_sum, masked_whiten, response_mask
from rlhf_lab.ppo import gae
from rlhf_lab.sampling import draw


class Batch(NamedTuple):
    """One rollout; every field is (B, T), except `scores`, (B,)."""

    responses: Tensor
    states: Tensor
    mask: Tensor
    logprobs: Tensor
    """log π_old, under the policy that wrote the responses."""
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    kls: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


class Parts(NamedTuple):
    """The parts of the loss; every field is a scalar, ()."""

    policy: Tensor
    value: Tensor
    kl: Tensor
    bonus: Tensor


def sample(policy: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n responses of π, (n, T)."""
    state, tokens = torch.zeros(n, dtype=torch.long), []
    for uniforms in torch.rand(T, n, generator=generator, dtype=torch.float64):
        logits = policy[state]
        tokens.append(draw(logits.log_softmax(1), uniforms).masked_fill(state == END, 0))
        state = NEXT[state, tokens[-1]]
    return torch.stack(tokens, dim=1)


def which_tokens(responses: Tensor) -> Tensor:
    """The mask, (B, T): which tokens count."""
    return response_mask(responses, eos_id=0)


def dropout(policy: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The table with a random share of its entries set to 0 and the others scaled up."""
    if share == 0:
        return policy
    kept = torch.rand(policy.shape, generator=generator, dtype=policy.dtype) >= share
    return policy * kept / (1 - share)


def forward(policy: Tensor, states: Tensor, generator: torch.Generator) -> Tensor:
    """The policy's logits where each token was chosen, (B, T, V)."""
    table = dropout(policy, 0.0, generator)
    return table[states]


def token_logprobs(logits: Tensor, responses: Tensor) -> Tensor:
    """log π of the sampled tokens: (B, T, V), (B, T) -> (B, T)."""
    logprobs = logits.log_softmax(dim=2)
    return logprobs.gather(2, responses.unsqueeze(2)).squeeze(2)


def penalty(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The KL penalty per token before η, (B, T)."""
    return k1(logprobs, ref_logprobs)


def shaped_rewards(scores: Tensor, kls: Tensor, mask: Tensor, eta: float) -> Tensor:
    """−η·kl on every token, and the score on the last one, (B, T)."""
    last = mask & (mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True))
    return scores.unsqueeze(1) * last - eta * kls * mask


def advantages_and_returns(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Whitened advantages for the policy, and what the critic should predict; (B, T) each."""
    estimate = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    whitened = masked_whiten(estimate.advantages, mask)
    return whitened, estimate.returns


def surrogate(logprobs: Tensor, batch: Batch, clip: float) -> Tensor:
    """The clipped policy loss, ()."""
    ratio = (logprobs - batch.logprobs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    worse = torch.maximum(-batch.advantages * ratio, -batch.advantages * clipped)
    return masked_mean(worse, batch.mask)


def loss_penalty(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """A KL penalty for trainers that keep it in the loss, as GRPO does, ()."""
    return masked_mean(k2(logprobs, ref_logprobs), mask)


def bonus(logits: Tensor, logprobs: Tensor, mask: Tensor, beta: float) -> Tensor:
    """What the entropy bonus adds to the loss, ()."""
    return entropy_bonus(logits, mask, beta)


def total_loss(parts: Parts, eta: float, loss_eta: float) -> Tensor:
    """The loss of one gradient step, (); η is already in the rewards."""
    penalty = loss_eta * parts.kl
    return parts.policy + 0.5 * parts.value + penalty + parts.bonus


def next_reference(ref: Tensor, policy: Tensor) -> Tensor:
    """π_ref of the next rollout, (S + 1, V)."""
    return ref


def next_eta(eta: float, kls: Tensor, mask: Tensor, target: float) -> float:
    """η after a rollout, so that KL(π ‖ π_ref) per response approaches the target."""
    kl = masked_sum(kls, mask).item() / len(kls)
    error = min(max(kl / target - 1, -0.1), 0.1)
    return eta * (1 + error)


@dataclasses.dataclass(frozen=True)
class Steps:
    """A trainer: one function for each step. An exhibit is this with one of them replaced."""

    sample: Callable[[Tensor, int, torch.Generator], Tensor] = sample
    which_tokens: Callable[[Tensor], Tensor] = which_tokens
    forward: Callable[[Tensor, Tensor, torch.Generator], Tensor] = forward
    token_logprobs: Callable[[Tensor, Tensor], Tensor] = token_logprobs
    penalty: Callable[[Tensor, Tensor], Tensor] = penalty
    shaped_rewards: Callable[[Tensor, Tensor, Tensor, float], Tensor] = shaped_rewards
    advantages_and_returns: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = (
        advantages_and_returns
    )
    surrogate: Callable[[Tensor, Batch, float], Tensor] = surrogate
    loss_penalty: Callable[[Tensor, Tensor, Tensor], Tensor] = loss_penalty
    bonus: Callable[[Tensor, Tensor, Tensor, float], Tensor] = bonus
    total_loss: Callable[[Parts, float, float], Tensor] = total_loss
    next_reference: Callable[[Tensor, Tensor], Tensor] = next_reference
    next_eta: Callable[[float, Tensor, Tensor, float], float] = next_eta


CLEAN = Steps()
