"""Log-probabilities, returns, advantages, clipped losses: PPO as pure functions of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab.masking import masked_mean


@takes(
    logits="logits (B, P + T, V)",
    tokens="ids (B, P + T)",
    prompt_length="count 1..",
    result="no nan",
)
def response_logprobs(logits: Tensor, tokens: Tensor, prompt_length: int) -> Tensor:
    """log π(y_t | x, y_<t) of each token of a response, in nats.

    The logits at a position are about the *next* token: those at the prompt's last token choose
    the first token of the response, and those at the last token choose nothing.

    Args:
        logits: of prompt and response, (B, P + T, V).
        tokens: prompt and response, (B, P + T).
        prompt_length: P ≥ 1.

    Returns:
        (B, T), differentiable. What follows `<eos>` is padding and has numbers too: use the mask.

    Raises:
        ValueError: shapes differ, or no token is left for the prompt or for the response.

    >>> logits = torch.tensor([[[0.0, 0.0], [5.0, 5.0], [9.0, 1.0]]])  # two words, equally likely
    >>> response_logprobs(logits, torch.tensor([[1, 0, 1]]), prompt_length=1)
    tensor([[-0.6931, -0.6931]])
    """
    L = tokens.shape[1]
    if prompt_length >= L:
        raise ValueError(
            f"prompt_length must lie in 1..{L - 1} for {L} tokens, got {prompt_length}"
        )
    chooses = logits[:, prompt_length - 1 : -1].log_softmax(dim=-1)  # (B, T, V)
    return chooses.gather(2, tokens[:, prompt_length:].unsqueeze(2)).squeeze(2)


@takes(rewards="float (B, T)", mask="rows (B, T)", gamma="fraction", result="finite")
def returns_to_go(rewards: Tensor, mask: Tensor, gamma: float = 1.0) -> Tensor:
    """The sum of the rewards from each token on, its own included: G_t = r_t + γ·G_{t+1}.

    With γ = 1 and a reward at the end, every token of a response has the same return: the score.

    Args:
        rewards: (B, T).
        mask: (B, T), bool or 0/1; rewards off the mask count as 0.
        gamma: discount γ in [0, 1].

    Returns:
        (B, T), 0 off the mask.

    Raises:
        ValueError: shapes differ, a row is empty, or γ lies outside [0, 1].

    >>> returns_to_go(torch.tensor([[0.0, 0.0, 8.0]]), torch.ones(1, 3), gamma=0.5)
    tensor([[2., 4., 8.]])
    """
    coming, returns = rewards.new_zeros(len(rewards)), []
    for reward in reversed(rewards.masked_fill(~mask, 0.0).unbind(dim=1)):
        coming = reward + gamma * coming
        returns.append(coming)
    return torch.stack(returns[::-1], dim=1).masked_fill(~mask, 0.0)


class Advantages(NamedTuple):
    """What `gae` returns; each (B, T), 0 off the mask."""

    advantages: Tensor
    returns: Tensor
    """advantages + values: the target of the value head."""


@takes(
    rewards="float (B, T)",
    values="float (B, T)",
    mask="rows (B, T)",
    gamma="fraction",
    lam="fraction",
    result="finite",
)
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> Advantages:
    """Generalised advantage estimation.

    δ_t = r_t + γ·V_{t+1} − V_t,  A_t = Σ_{k ≥ t} (γλ)^{k−t} δ_k,  V = 0 behind the end

    With γ = λ = 1, A_t is the return-to-go minus V_t, and a terminal reward reaches the first
    token whole. λ < 1 with a critic that knows nothing scales it by λ^{T−t}: γ = 1 alone does not
    mean undiminished credit.

    Args:
        rewards: (B, T).
        values: V(s_t) *before* token t was chosen, (B, T).
        mask: (B, T), bool or 0/1. Rewards and values off the mask count as 0; a hole in the mask
            still decays by γλ per position, as in TRL.
        gamma: discount γ in [0, 1]. A sparse terminal reward wants 1.
        lam: λ in [0, 1].

    Returns:
        `Advantages(advantages, returns)`, detached and not whitened.

    Raises:
        ValueError: shapes differ, a row is empty, or γ, λ lie outside [0, 1].

    References:
        Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16; the numbers are those of
        `PPOTrainer.compute_advantages` in TRL 0.11.4 before it whitens.

    >>> reward, value = torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3)
    >>> gae(reward, value, torch.ones(1, 3)).advantages
    tensor([[0.9025, 0.9500, 1.0000]])
    """
    with torch.no_grad():
        rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
        next_values = torch.nn.functional.pad(values[:, 1:], (0, 1))
        deltas = rewards + gamma * next_values - values
        # In the values' dtype: a Python float to the power of integers would be a float32.
        steps = torch.arange(rewards.shape[1], dtype=deltas.dtype, device=deltas.device)
        ahead = steps.unsqueeze(1) - steps  # [k, t] = k − t, (T, T)
        # 0 ** 0 is 1, which is right: with γλ = 0 only δ_t itself remains.
        weights = torch.where(ahead >= 0, (gamma * lam) ** ahead.clamp(min=0), 0.0)
        advantages = (deltas @ weights).masked_fill(~mask, 0.0)
        return Advantages(advantages, (advantages + values).masked_fill(~mask, 0.0))


class PolicyLoss(NamedTuple):
    """What `policy_loss` returns, each (); of `policy_terms`, each (B, T)."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens on which the clipped branch was taken."""
    approx_kl: Tensor
    """½·E[(log π − log π_old)²]: how far this update has moved, in nats per token."""


@takes(
    logprobs="logprobs (B, T)",
    old_logprobs="logprobs (B, T)",
    advantages="float (B, T)",
    mask="mask (B, T)",
    clip="coefficient",
    result="finite",
)
def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, clip: float = 0.2
) -> PolicyLoss:
    """PPO's clipped surrogate, as a loss to minimise.

    mean over the mask of max(−A·ρ, −A·clamp(ρ, 1 − clip, 1 + clip)),  ρ = π / π_old

    Clipping stops the gradient where a token has already moved by `clip` in the direction that
    its advantage asks for; it never pulls a token back.

    Args:
        logprobs: log π of the sampled tokens, (B, T), with gradient.
        old_logprobs: log π of the same tokens when they were sampled, (B, T).
        advantages: (B, T).
        mask: (B, T), bool or 0/1.
        clip: half-width of the band around ratio 1, ≥ 0.

    Raises:
        ValueError: shapes differ, the mask is empty, or `clip` is negative.

    References:
        Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7. TRL 0.11.4 also multiplies
        the loss by 0 once the mean ratio exceeds 10, which still lets Adam move the weights; here
        a loss that is not finite stops the run instead.

    >>> old = torch.tensor([[-1.0, -1.0]])
    >>> new = torch.tensor([[-0.5, -1.5]])
    >>> policy_loss(new, old, torch.tensor([[1.0, -1.0]]), torch.ones(1, 2))[:2]
    (tensor(-0.2000), tensor(1.))
    """
    log_ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0)
    terms = policy_terms(log_ratio, advantages, clip)
    return PolicyLoss(*(unchecked(masked_mean)(x, mask) for x in terms))


def policy_terms(log_ratio: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """What `policy_loss` averages, from log ρ = log π − log π_old, 0 off the mask; unchecked."""
    ratio = log_ratio.exp()
    clip = min(clip, torch.finfo(ratio.dtype).max)  # torch refuses a number that overflows it
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    took_clipped = (clipped > unclipped).to(ratio.dtype)
    moved = 0.5 * log_ratio.detach().square()
    # Of equals the unclipped one: clamp's gradient at its bounds depends on the version of torch.
    return PolicyLoss(torch.where(unclipped >= clipped, unclipped, clipped), took_clipped, moved)


class ValueLoss(NamedTuple):
    """What `value_loss` returns, each (); of `value_terms`, each (B, T)."""

    loss: Tensor
    clip_fraction: Tensor


@takes(
    values="float (B, T)",
    old_values="float (B, T)",
    returns="float (B, T)",
    mask="mask (B, T)",
    clip="coefficient",
    result="finite",
)
def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float = 0.2
) -> ValueLoss:
    """Half the squared error of the value head, clipped around its old prediction.

    ½ · mean over the mask of max((V − R)², (clamp(V, V_old ± clip) − R)²)

    Args:
        values: V(s_t), (B, T), with gradient.
        old_values: V(s_t) during the rollout, (B, T).
        returns: the target R, (B, T).
        mask: (B, T), bool or 0/1.
        clip: an absolute width, in units of the score: with scores of size 10, 0.2 is a brake.

    Raises:
        ValueError: shapes differ, the mask is empty, or `clip` is negative.

    References:
        `PPOTrainer.loss` in TRL 0.11.4, before its coefficient 0.1.
    """
    # Before the squares: 0 · NaN from the padding would reach the gradient of the values.
    values, old_values, returns = (x.masked_fill(~mask, 0.0) for x in (values, old_values, returns))
    terms = value_terms(values, old_values, returns, clip)
    return ValueLoss(*(unchecked(masked_mean)(x, mask) for x in terms))


def value_terms(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> ValueLoss:
    """What `value_loss` averages, of numbers that are finite off the mask too; unchecked."""
    clip = min(clip, torch.finfo(values.dtype).max)
    clipped = torch.clamp(values, old_values - clip, old_values + clip)
    error, clipped_error = (values - returns).square(), (clipped - returns).square()
    took_clipped = (clipped_error > error).to(values.dtype)
    larger = torch.where(error >= clipped_error, error, clipped_error)  # as in policy_terms
    return ValueLoss(0.5 * larger, took_clipped)
