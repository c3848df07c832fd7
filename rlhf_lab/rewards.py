"""The reward PPO sees: the score on the last token, minus η times the KL penalty on every token."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import require_finite
from rlhf_lab.kl import KLMode, kl_penalty
from rlhf_lab.masking import terminal_reward


class Rewards(NamedTuple):
    """What `compute_rewards` returns; each (B, T), 0 off the mask."""

    rewards: Tensor
    """Score + penalty: what the advantages are made of."""
    non_score_rewards: Tensor
    """The penalty alone, −η·kl."""
    kls: Tensor
    """The penalty before η, in nats."""


@takes(
    mask="rows (B, T)",
    scores="scores (B,)",
    logprobs="logprobs (B, T, ...)",
    ref_logprobs="logprobs (B, T, ...)",
    eta="coefficient",
    mode=KLMode,
    result="finite",
)
def compute_rewards(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    eta: float,
    mode: KLMode = "kl",
) -> Rewards:
    """Place the reward of each response on its tokens.

    rewards[t] = −η·kl[t] + (score if t is the last token of the response else 0)

    so that, with γ = 1 and mode "kl", a response's rewards add up to
    r(x, y) − η·(log π(y|x) − log π_ref(y|x)), whose mean is E[r] − η·KL(π ‖ π_ref).
    With η = 0 this is the sparse terminal reward: 0, …, 0, score.

    Args:
        scores: the reward model's scalar for each response, (B,).
        logprobs: log π of the sampled tokens, (B, T); of all tokens, (B, T, V), for "full".
        ref_logprobs: log π_ref, same shape.
        mask: (B, T), bool or 0/1. The score lands on the last selected token of each row, so
            padding on the left, on the right, or holes do not matter.
        eta: η ≥ 0, the KL coefficient (TRL: `kl_ctl.value`; elsewhere often called β).
        mode: see `rlhf_lab.kl`. Only "kl" follows the gradient of E[r] − η·KL(π ‖ π_ref).

    Returns:
        `Rewards(rewards, non_score_rewards, kls)`, detached: PPO must not differentiate them.

    Raises:
        ValueError: wrong shapes or devices; an empty batch; a row whose mask selects nothing; a
            score, or a penalty on the mask, that is not finite; η negative or not finite.

    References:
        `PPOTrainer.compute_rewards` in TRL 0.11.4, whose numbers these are at every unmasked
        position. TRL leaves penalties off the mask, lets a NaN there poison its row, and answers
        an empty row with a bare IndexError.

    >>> logprobs = torch.tensor([[-1.0, -2.0, -3.0]])
    >>> ref_logprobs = torch.tensor([[-1.5, -2.0, -2.0]])
    >>> mask = torch.tensor([[1, 1, 0]])
    >>> compute_rewards(torch.tensor([4.0]), logprobs, ref_logprobs, mask, eta=0.1).rewards
    tensor([[-0.0500,  4.0000,  0.0000]])
    """
    if logprobs.dim() != 2 + (mode == "full"):
        axes = (
            '(B, T, V), because mode "full" sums over the vocabulary'
            if mode == "full"
            else "(B, T)"
        )
        raise ValueError(f"logprobs must have shape {axes}, got {tuple(logprobs.shape)}")

    with torch.no_grad():
        kls = unchecked(kl_penalty)(logprobs, ref_logprobs, mode)
        require_finite(
            f'the "{mode}" penalty',
            kls,
            mask,
            remedy="a sampled token must be possible under π (logprobs) and π_ref "
            "(ref_logprobs): sample from π, no top-k",
        )
        kls = kls.masked_fill(~mask, 0.0)
        non_score_rewards = 0.0 - eta * kls  # 0 and not −0 off the mask, and where η = 0
        return Rewards(
            non_score_rewards + unchecked(terminal_reward)(scores, mask), non_score_rewards, kls
        )


class FixedKLController:
    """Keeps η where it is.

    Args:
        eta: η ≥ 0.
    """

    @takes(eta="coefficient")
    def __init__(self, eta: float) -> None:
        self.value = eta

    def update(self, kl: float, n_steps: int) -> None:
        """Do nothing: the signature is that of `AdaptiveKLController.update`."""


class AdaptiveKLController:
    """Moves η so that the measured KL(π ‖ π_ref) approaches a target.

    η ← η·(1 + clip(kl / target − 1, −0.2, 0.2)·n_steps / horizon)

    Args:
        eta: the first η, > 0. From 0 a factor cannot move it: use `FixedKLController(0)`.
        target: nats per **response** (a sum over its tokens, so it grows with length), > 0.
        horizon: number of responses over which η changes by a factor of e^±0.2 at most; > 0.

    References:
        Ziegler et al. 2019, https://arxiv.org/abs/1909.08593, §2.2; the constants are TRL
        0.11.4's. TRL accepts target 0 (a division by zero), a KL that is NaN (η is NaN for ever)
        and n_steps > 5·horizon (η turns negative); each is a `ValueError` here.

    >>> controller = AdaptiveKLController(0.2)
    >>> controller.update(kl=12.0, n_steps=256)
    >>> round(controller.value, 6)
    0.201024
    """

    MAX_ERROR = 0.2

    @takes(eta="positive", target="positive", horizon="positive")
    def __init__(self, eta: float, target: float = 6.0, horizon: float = 10_000) -> None:
        self.value, self.target, self.horizon = eta, target, float(horizon)

    @takes(kl="number", n_steps="count 0..")
    def update(self, kl: float, n_steps: int) -> None:
        """Move η once.

        Args:
            kl: the measured KL(π ‖ π_ref) per response, in nats; an estimate may be negative.
            n_steps: how many responses it was measured on.

        Raises:
            ValueError: `kl` is not finite, `n_steps` is negative, or η would not stay positive.
        """
        error = min(max(kl / self.target - 1, -self.MAX_ERROR), self.MAX_ERROR)
        factor = 1 + error * n_steps / self.horizon
        if factor <= 0:
            raise ValueError(
                f"n_steps {n_steps} is too large for horizon {self.horizon:g}: η would be "
                f"multiplied by {factor:g}; use a horizon above {self.MAX_ERROR * n_steps:g}"
            )
        self.value *= factor
