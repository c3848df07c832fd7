"""Entropy of a policy, and the entropy bonus: Loss − β·H."""

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab.masking import masked_mean


@takes(logits="logits (..., V)", result="finite")
def entropy(logits: Tensor) -> Tensor:
    """H(π) = −Σ_v π(v)·log π(v) of the softmax of `logits`, in nats: 0 ≤ H ≤ ln V.

    Args:
        logits: (..., V), need not be normalised; −inf forbids a token.

    Returns:
        (...). Differentiable, also where logits are −inf.

    Raises:
        ValueError: some logits are NaN or +inf, or a row forbids every token.

    Notes:
        logsumexp(z) − Σ softmax(z)·z, the form in TRL and elsewhere, is NaN as soon as one logit
        is −inf (0 · −inf); here that token adds its true 0.

    >>> never = -torch.inf
    >>> entropy(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, never, never]]))  # ln 4, ln 2
    tensor([1.3863, 0.6931])
    """
    logprobs = logits.log_softmax(dim=-1)
    return -(logprobs.exp() * logprobs.masked_fill(logprobs == -torch.inf, 0.0)).sum(dim=-1)


@takes(logits="logits (B, T, V)", mask="mask (B, T)", beta="coefficient", result="finite")
def entropy_bonus(logits: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The term −β·H that the entropy bonus **adds to the loss**, H averaged over the mask.

    Minimising Loss − β·H raises the entropy. It does so one token at a time: the states are taken
    as they came, so the bonus is blind to how today's token changes tomorrow's entropy. On more
    than one token that is not the maximum-entropy objective E[r] + β·H(π(y)); for that, put
    −β·log π(y_t) into the reward.

    Args:
        logits: of the policy at the response's positions, (B, T, V); these carry the gradient.
        mask: (B, T), bool or 0/1.
        beta: β ≥ 0. In other texts β is the KL coefficient; here that is η.

    Returns:
        (), ≤ 0. Its gradient is what matters: computed under `no_grad` it would be a mere number.

    Raises:
        ValueError: β is negative or not finite, shapes differ, or the mask is empty.

    >>> logits = torch.zeros(1, 2, 4, requires_grad=True)
    >>> round(entropy_bonus(logits, torch.ones(1, 2), beta=0.5).item(), 4)  # −½ ln 4
    -0.6931
    """
    # Whatever stands in the padding, uniform logits there are harmless to value and gradient.
    visited = logits.masked_fill(~mask.unsqueeze(-1), 0.0)
    return -beta * unchecked(masked_mean)(unchecked(entropy)(visited), mask)


@takes(entropies="float (B, T)", mask="mask (B, T)", share="fraction")
def high_entropy_mask(entropies: Tensor, mask: Tensor, share: float) -> Tensor:
    """The tokens of the mask at which the policy was least certain, about a `share` of them.

    Some recipes take the policy loss of these tokens only; a KL term still has the whole mask, so
    the other tokens feel nothing but the pull towards π_ref.

    Args:
        entropies: H(π(·|s_t)) at each token, (B, T).
        mask: (B, T), bool or 0/1.
        share: in [0, 1]: 0.2 keeps those at or above the 80 % quantile, 1 keeps all.

    Returns:
        (B, T), bool.

    References:
        Wang et al. 2025, https://arxiv.org/abs/2506.01939; TRL 1.16.0's `top_entropy_quantile`.

    >>> h = torch.tensor([[0.1, 2.0, 0.3, 9.0]])
    >>> high_entropy_mask(h, torch.tensor([[1, 1, 1, 0]]), share=0.5)
    tensor([[False,  True,  True, False]])
    """
    if not mask.any():
        raise ValueError("the mask selects nothing: there is no token to rank by entropy")
    return (entropies >= torch.quantile(entropies[mask], 1 - share)) & mask
