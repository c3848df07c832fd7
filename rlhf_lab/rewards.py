"""The reward PPO sees: the score on the last token, minus η times the KL penalty on every token."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import (
    as_mask,
    require_coefficient,
    require_finite,
    require_rank,
    require_rows,
    require_same_device,
    require_shape,
)
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
    eta = require_coefficient("eta (the KL coefficient η)", eta)
    B, T = require_rank("mask", mask, 2, "(B, T)")
    require_shape("scores", scores, (B,), "(B,), one per response,")
    if mode == "full":
        axes = '(B, T, V), because mode "full" sums over the vocabulary,'
        V = require_rank("logprobs", logprobs, 3, axes)[2]
        require_shape("logprobs", logprobs, (B, T, V), "(B, T, V)")
    else:
        require_shape("logprobs", logprobs, (B, T), "(B, T)")
    require_shape("ref_logprobs", ref_logprobs, tuple(logprobs.shape), "of logprobs")
    require_same_device(scores=scores, logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    mask = as_mask(mask, (B, T))
    require_rows(mask)
    require_finite(
        "scores", scores, remedy="check the reward model; one bad score would spoil the whole batch"
    )

    with torch.no_grad():
        kls = kl_penalty(logprobs, ref_logprobs, mode)
        require_finite(
            f'the "{mode}" penalty',
            kls,
            mask,
            remedy="a sampled token must be possible under π and π_ref: sample from π, no top-k",
        )
        kls = kls.masked_fill(~mask, 0.0)
        non_score_rewards = 0.0 - eta * kls  # 0 and not −0 off the mask, and where η = 0
        return Rewards(non_score_rewards + terminal_reward(scores, mask), non_score_rewards, kls)


class FixedKLController:
    """Keeps η where it is.

    Args:
        eta: η ≥ 0.
    """

    def __init__(self, eta: float) -> None:
        self.value = require_coefficient("eta (the KL coefficient η)", eta)

    def update(self, kl: float, n_steps: int) -> None:
        """Do nothing: the signature is that of `AdaptiveKLController.update`."""


class AdaptiveKLController:
    """Moves η so that the measured KL(π ‖ π_ref) approaches a target.

    η ← η·(1 + clip(kl / target − 1, −0.2, 0.2)·n_steps / horizon)

    Args:
        eta: the first η, > 0. From 0 a factor cannot move it: use `FixedKLController(0)`.
        target: nats per **response** (a sum over its tokens, so it grows with length), > 0.
        horizon: responses, > 0: over so many η moves by 20 % when kl is far from the target.

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

    def __init__(self, eta: float, target: float = 6.0, horizon: float = 10_000) -> None:
        for name, value in {"eta": eta, "target": target, "horizon": horizon}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")
        self.value, self.target, self.horizon = float(eta), float(target), float(horizon)

    def update(self, kl: float, n_steps: int) -> None:
        """Move η once.

        Args:
            kl: the measured KL(π ‖ π_ref) per response, in nats; an estimate may be negative.
            n_steps: how many responses it was measured on.

        Raises:
            ValueError: `kl` is not finite, `n_steps` is negative, or η would not stay positive.
        """
        if not math.isfinite(kl):
            raise ValueError(f"kl must be finite, got {kl}; η keeps its value")
        if not 0 <= n_steps < math.inf:
            raise ValueError(f"n_steps must be finite and >= 0, got {n_steps}")
        error = min(max(kl / self.target - 1, -self.MAX_ERROR), self.MAX_ERROR)
        factor = 1 + error * n_steps / self.horizon
        if factor <= 0:
            raise ValueError(
                f"n_steps {n_steps} is too large for horizon {self.horizon:g}: η would be "
                f"multiplied by {factor:g}; use a horizon above {self.MAX_ERROR * n_steps:g}"
            )
        self.value *= factor
