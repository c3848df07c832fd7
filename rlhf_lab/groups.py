"""Groups of responses to one prompt: what each is worth beside its siblings, without a critic.

RLOO and GRPO sample G responses to every prompt. A response's advantage is its score minus what its
group scored, one number for all of its tokens; consecutive rows of a batch form a group.

===============  =============================  ==========================================
rule             advantage                      its mean update
===============  =============================  ==========================================
`leave_one_out`  r − mean of the other G − 1    ∇E[r]
scale="none"     r − mean of all G              (G − 1)/G · ∇E[r]: the mean holds r itself
scale="group"    the same / (std of G + eps)    no gradient, unless r takes two values
scale="batch"    the same / (std of all + eps)  close to "none", rescaled
===============  =============================  ==========================================
"""

from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import NotFinite, require_finite
from rlhf_lab.kl import response_kl

Scale = Literal["none", "group", "batch"]

_GROUPED = {"rewards": "rewards (N,)", "group_size": "count"}


@takes(**_GROUPED, scale=Scale, eps="coefficient", result="finite")
def group_advantages(
    rewards: Tensor, group_size: int, *, scale: Scale = "none", eps: float = 1e-4
) -> Tensor:
    """GRPO's advantage: the reward minus the mean of its group, over a standard deviation or not.

    A_i = (r_i − mean of the group) / (s + eps), where s is the standard deviation (n − 1) of the
    group or of the whole batch; A_i = r_i − mean for scale "none".

    Args:
        rewards: one for each response, (N,); rows 0 to G − 1 are the first group. NaN marks a
            response that nobody could score: it is left out of mean and deviation, and gets 0.
        group_size: G ≥ 2, a divisor of N.
        scale: what to divide by. "group" is TRL's default, "none" that of Dr. GRPO.
        eps: floor under s, ≥ 0. A gap of rewards well above it counts in full, however small.

    Returns:
        (N,), detached. A group with equal rewards, or with one that was scored, gets exact zeros.

    Raises:
        ValueError: G is 1 (each advantage would be 0) or does not divide N; a reward is infinite.

    References:
        Shao et al. 2024, https://arxiv.org/abs/2402.03300, eq. 3 ff.; Liu et al. 2025,
        https://arxiv.org/abs/2503.20783 (without the deviation). The numbers are those of
        `GRPOTrainer` in TRL 1.16.0, `scale_rewards`.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 3.0]), 2)
    tensor([ 0.5000, -0.5000, -1.5000,  1.5000])
    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 3.0]), 2, scale="group")  # signs are left
    tensor([ 0.7070, -0.7070, -0.7071,  0.7071])
    """
    centred, n = _centred(_grouped(rewards, group_size))
    if scale == "none":
        return centred.flatten()
    spread, n = _centred(rewards.detach().unsqueeze(0)) if scale == "batch" else (centred, n)
    variance = spread.square().sum(dim=1, keepdim=True) / (n - 1).clamp(min=1)
    if variance.isinf().any() and centred.isfinite().all():
        detail = f"too large for {rewards.dtype}: rescale rewards, or use .double()"
        raise NotFinite("the variance of rewards", detail)
    # Where eps = 0 and all are equal it would be 0 / 0: such a group says nothing.
    return (centred / (variance.sqrt() + eps)).masked_fill(centred == 0, 0.0).flatten()


@takes(**_GROUPED, result="finite")
def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """RLOO's advantage: the reward minus the mean of the *others* in its group.

    A_i = r_i − (Σ_{j≠i} r_j)/(G − 1) = G/(G − 1) · (r_i − mean of the group)

    The others know nothing of response i, so the mean of A_i·∇log π(y_i) is ∇E[r] exactly.

    Arguments, result and errors as in `group_advantages`; G is the number of scored responses.

    References:
        Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE; Ahmadian et al. 2024,
        https://arxiv.org/abs/2402.14740. The numbers are those of `RLOOTrainer` in TRL 1.16.0.

    >>> leave_one_out(torch.tensor([1.0, 0.0, 0.0, 3.0, 3.0, 0.0]), 3)
    tensor([ 1.0000, -0.5000, -0.5000,  1.5000,  1.5000, -3.0000])
    """
    centred, n = _centred(_grouped(rewards, group_size))
    return (centred * n / (n - 1).clamp(min=1)).flatten()


@takes(
    mask="mask (B, T)",
    scores="rewards (B,)",
    logprobs="logprobs (B, T)",
    ref_logprobs="logprobs (B, T)",
    eta="coefficient",
)
def shaped_scores(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
) -> Tensor:
    """The score with the leash in it: r − η·Σ_t k1, one number per response, before any baseline.

    Its mean is E[r] − η·KL(π ‖ π_ref), so RLOO on it comes to rest at π*. The sum runs over the
    whole response; TRL's *metric* `kl` is a mean per token, smaller by the mean length.

    Args:
        scores: the reward model's, (B,); NaN where nobody could score, and NaN it stays.
        logprobs: log π of the sampled tokens when they were sampled, (B, T).
        ref_logprobs: log π_ref of the same tokens, (B, T).
        mask: (B, T), bool or 0/1. A row without tokens has no KL: its score stays.
        eta: η ≥ 0; 0 gives the scores back. `beta` of TRL's `RLOOTrainer`.

    Returns:
        (B,), detached. A score that was clipped before can leave its range here.

    >>> logprobs, ref_logprobs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -3.0]])
    >>> shaped_scores(torch.tensor([4.0]), logprobs, ref_logprobs, torch.ones(1, 2), eta=0.1)
    tensor([3.8500])
    """
    with torch.no_grad():
        kl = unchecked(response_kl)(logprobs, ref_logprobs, mask)
        require_finite(
            "Σ k1 of logprobs and ref_logprobs", kl,
            remedy="a sampled token must be possible under π and π_ref: sample from π, no top-k",
        )  # fmt: skip
        shaped = scores - eta * kl
        require_finite(
            f"r − η·Σ k1 at eta = {eta:g}", shaped, ~scores.isnan(),
            remedy="use a smaller eta, or scores.double()",
        )  # fmt: skip
        return shaped


def _grouped(rewards: Tensor, group_size: int) -> Tensor:
    """Rewards by group, (N,) -> (N/G, G)."""
    if group_size < 2:
        raise ValueError(
            "group_size must be at least 2, got 1: alone, a response has nothing to be compared "
            "with, and each advantage would be 0"
        )
    if over := len(rewards) % group_size:
        raise ValueError(
            f"group_size {group_size} does not divide the {len(rewards)} rewards: {over} of them "
            "would belong to no whole group"
        )
    return rewards.detach().reshape(-1, group_size)


def _centred(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Each row minus its mean, 0 where NaN, (K, G), and how many are scored, (K, 1)."""
    scored = ~groups.isnan()
    n = scored.sum(dim=1, keepdim=True)
    mean = groups.masked_fill(~scored, 0.0).sum(dim=1, keepdim=True) / n.clamp(min=1)
    # A mean of equal floats can be off by their last digit, and a tiny deviation would blow it up.
    low = groups.masked_fill(~scored, torch.inf).amin(dim=1, keepdim=True)
    high = groups.masked_fill(~scored, -torch.inf).amax(dim=1, keepdim=True)
    equal = (low >= high) & low.abs().ne(torch.inf) | (n == 0)
    return (groups - mean).masked_fill(~scored | equal, 0.0), n
