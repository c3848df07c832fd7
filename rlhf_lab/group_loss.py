"""The losses of RLOO and GRPO: a clipped surrogate with one advantage per response, and KL terms.

With one gradient step per rollout π_old is π, every ρ is 1, and no clip acts. The loss then is
Σ −A, which says nothing, while its gradient, Σ −A·∇log π, says everything.
"""

from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import require_finite
from rlhf_lab.aggregation import DENOMINATOR, Denominator, aggregate
from rlhf_lab.ratios import POSSIBLE, Level, importance_ratios

Estimator = Literal["k3", "k3_ratio", "k2"]

_TOKENS = {"logprobs": "logprobs (B, T)", "old_logprobs": "logprobs (B, T) or None"}


@takes(
    **_TOKENS,
    advantages="float (B,)",
    mask="mask (B, T)",
    clip="coefficient or None",
    clip_high="coefficient or None",
    delta="positive or None",
    level=Level,
    **DENOMINATOR,
    result="finite",
)
def group_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float | None = 0.2,
    clip_high: float | None = None,
    delta: float | None = None,
    level: Level = "token",
    how: Denominator = "response",
    total: float | None = None,
    length: int | None = None,
) -> Tensor:
    """The clipped surrogate with one advantage per response, as a loss to minimise, ().

    Σ of −min(min(ρ, delta)·A, clamp(ρ, 1 − clip, 1 + clip_high)·A), divided as `aggregate` says

    GRPO is level "token"; GSPO "sequence"; RLOO level "product" with how "response", which is the
    mean over responses of ρ(y)·A. A KL term is added to it, see `kl_in_loss`.

    Args:
        logprobs: log π of the sampled tokens, (B, T), with gradient.
        old_logprobs: the same when they were sampled, (B, T), or None, see `importance_ratios`.
        advantages: one for each response, (B,), from `group_advantages` or `leave_one_out`.
        mask: (B, T), bool or 0/1.
        clip: half-width of the band around ratio 1; None does not clip.
        clip_high: its upper half, where that is another one ("clip higher"); None: as `clip`.
        delta: an upper limit of the unclipped ratio, for negative A, where `clip` sets none.
        level: of the ratio.
        how, total, length: as in `aggregate`.

    Raises:
        ValueError: shapes differ; the mask is empty; a ratio is too large for a float; `clip_high`
            without `clip`; what `aggregate` raises.

    References:
        Shao et al. 2024, https://arxiv.org/abs/2402.03300, eq. 3; Zheng et al. 2025,
        https://arxiv.org/abs/2507.18071 (GSPO). The numbers are those of `_compute_loss` of TRL
        1.16.0's `GRPOTrainer` and `RLOOTrainer`, values and gradients.

    >>> old, new = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-0.5, -0.9]])
    >>> group_policy_loss(new, old, torch.tensor([1.0]), torch.ones(1, 2))  # −(1.2 + 1.1052) / 2
    tensor(-1.1526)
    >>> group_policy_loss(old, None, torch.tensor([1.0]), torch.ones(1, 2), clip=1e-9)
    tensor(-1.)
    """
    ratio = unchecked(importance_ratios)(logprobs, old_logprobs, mask, level)
    gain = advantages.unsqueeze(1)
    most = torch.finfo(ratio.dtype).max  # torch refuses a number that overflows it
    free = ratio if delta is None else ratio.clamp(max=min(delta, most))
    if clip is not None:
        low, high = min(clip, most), min(clip if clip_high is None else clip_high, most)
        unclipped, clipped = free * gain, ratio.clamp(1 - low, 1 + high) * gain
        losses = -torch.where(unclipped <= clipped, unclipped, clipped)  # see ppo.policy_terms
    elif clip_high is not None:
        raise ValueError(f"clip_high = {clip_high:g} needs clip, the lower half of the band")
    else:
        losses = -free * gain
    return unchecked(aggregate)(losses, mask, how, total=total, length=length)


@takes(
    **_TOKENS,
    advantages="float (B,)",
    mask="mask (B, T)",
    clip_high="positive",
    level=Level,
    **DENOMINATOR,
    result="finite",
)
def cispo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_high: float = 5.0,
    level: Level = "token",
    how: Denominator = "batch",
    total: float | None = None,
    length: int | None = None,
) -> Tensor:
    """CISPO: Σ of −min(ρ, clip_high)·A·log π, the weight being a constant; divided as `aggregate`.

    The limit is on ρ itself, not on ρ − 1. In TRL it is `epsilon_high`, whose default 0.2 cuts
    every weight to a fifth although all ρ are 1; KL term and entropy bonus are not cut.

    Args:
        clip_high: the largest weight, > 0.
        logprobs, old_logprobs, advantages, mask, level, how, total, length: as in
            `group_policy_loss`.

    References:
        MiniMax 2025, https://arxiv.org/abs/2506.13585, eq. 4; `loss_type="cispo"` of TRL 1.16.0.

    >>> logprobs, mask = torch.tensor([[-1.0, -3.0]]), torch.ones(1, 2)
    >>> for limit in (5.0, 0.2):
    ...     print(cispo_loss(logprobs, None, torch.tensor([1.0]), mask, clip_high=limit))
    tensor(2.)
    tensor(0.4000)
    """
    ratio = unchecked(importance_ratios)(logprobs, old_logprobs, mask, level).detach()
    clip_high = min(clip_high, torch.finfo(ratio.dtype).max)
    weights = ratio.clamp(max=clip_high) * advantages.unsqueeze(1)
    losses = -weights * logprobs.masked_fill(~mask, 0.0)
    return unchecked(aggregate)(losses, mask, how, total=total, length=length)


@takes(
    logprobs="logprobs (B, T)",
    ref_logprobs="logprobs (B, T)",
    mask="mask (B, T)",
    old_logprobs="logprobs (B, T) or None",
    estimator=Estimator,
    level=Level,
    **DENOMINATOR,
    result="finite",
)
def kl_in_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    *,
    old_logprobs: Tensor | None = None,
    estimator: Estimator = "k3",
    level: Level = "token",
    how: Denominator = "response",
    total: float | None = None,
    length: int | None = None,
) -> Tensor:
    """The KL term of GRPO's loss, before its coefficient, (); add η times it to the policy loss.

    With δ = log π − log π_ref of a token, its mean gradient where π = π_old is

    ==========  ============  =================================  =============================
    estimator   term          gradient, times ∇log π             local gradient of
    ==========  ============  =================================  =============================
    "k3"        e^−δ − 1 + δ  1 − e^−δ                           KL(π_ref ‖ π): the other way
    "k3_ratio"  ρ·k3          δ                                  KL(π ‖ π_ref)
    "k2"        δ²/2          δ                                  KL(π ‖ π_ref)
    ==========  ============  =================================  =============================

    "k3_ratio" stands here with ρ at level "token". *Local*: of the next token alone, at the
    prefixes that π visits. The effect of a token on the KL of later ones, which k1 in the reward
    has, is missing from all three; only ρ at level "product" brings it back, and at level
    "sequence" the mean is the gradient of neither. See `rlhf_lab.exact.loss_kl_fixed_point` for
    where each comes to rest.

    Args:
        logprobs: log π of the sampled tokens, (B, T), with gradient.
        ref_logprobs: log π_ref of the same tokens, (B, T).
        mask: (B, T), bool or 0/1.
        old_logprobs: for ρ, see `importance_ratios`; None where π is what was sampled from.
        estimator: "k3_ratio" is TRL's default since 1.10 (`use_bias_correction_kl`), "k3" that of
            TRL before and of verl.
        level: of ρ; only "k3_ratio" has one.
        how, total, length: as in `aggregate`, and the same as in the policy loss.

    Raises:
        ValueError: shapes differ; the mask is empty; a log-ratio on it is infinite, or so large
            that its exponential is; what `aggregate` raises.

    References:
        Shao et al. 2024, https://arxiv.org/abs/2402.03300, eq. 4; `GRPOTrainer._compute_loss` in
        TRL 1.16.0, whose metric `kl` this is with how "batch".

    >>> logprobs, ref_logprobs = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()
    >>> kl_in_loss(logprobs, ref_logprobs, torch.ones(1, 1))  # 1/2 − 1 + ln 2
    tensor(0.1931)
    """
    # Masked before the exponential: the gradient of a NaN's exponential is NaN, even times 0.
    delta = (logprobs - ref_logprobs).masked_fill(~mask, 0.0)
    if not (delta.is_meta or delta.isfinite().all()):
        require_finite("logprobs", logprobs, mask, POSSIBLE)
        require_finite("ref_logprobs", ref_logprobs, mask, POSSIBLE)
    kl = 0.5 * delta.square() if estimator == "k2" else torch.expm1(-delta) + delta
    if estimator == "k3_ratio":
        kl = kl * unchecked(importance_ratios)(logprobs, old_logprobs, mask, level)
    return unchecked(aggregate)(kl, mask, how, total=total, length=length)
