"""How far the policy has moved since it sampled: the ratio ρ = π/π_old, taken at three levels.

==========  ========================================================  ====================
level       ρ of a token                                              who
==========  ========================================================  ====================
"token"     of this token alone                                       PPO, GRPO
"sequence"  exp(mean over the response's tokens of log ρ)             GSPO
"product"   exp(Σ over the response's tokens of log ρ): the true one  RLOO
==========  ========================================================  ====================

Only the product is the ratio of the responses' probabilities. It is also the noisiest.
"""

from typing import Literal

from torch import Tensor

from rlhf_lab._checks import takes
from rlhf_lab._require import require_finite

Level = Literal["token", "sequence", "product"]

POSSIBLE = "a sampled token must be possible under every policy: sample from π, no top-k"
"""What to do about a log-probability that is not finite."""


@takes(
    logprobs="logprobs (B, T)",
    old_logprobs="logprobs (B, T) or None",
    mask="mask (B, T)",
    level=Level,
    result="finite",
)
def importance_ratios(
    logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, level: Level = "token"
) -> Tensor:
    """ρ = π/π_old of each token, (B, T), differentiable; 1 off the mask at level "token".

    Args:
        logprobs: log π of the sampled tokens, (B, T), with gradient.
        old_logprobs: the same when they were sampled, (B, T). None: π itself, so that ρ is 1
            and its gradient is that of log π.
        mask: (B, T), bool or 0/1.
        level: the table at the head of this module.

    >>> new, old = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.1]])
    >>> for level in ("token", "sequence", "product"):
    ...     print(importance_ratios(new, old, torch.ones(1, 2), level))
    tensor([[1.6487, 1.1052]])
    tensor([[1.3499, 1.3499]])
    tensor([[1.8221, 1.8221]])
    """
    old_logprobs = logprobs.detach() if old_logprobs is None else old_logprobs
    log_ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0)
    if level != "token":
        log_ratio = log_ratio.sum(dim=1, keepdim=True)
        if level == "sequence":
            log_ratio = log_ratio / mask.sum(dim=1, keepdim=True).clamp(min=1)
    ratio = log_ratio.exp().expand_as(logprobs)
    # Clipped, an infinite ratio would be a finite loss with a gradient of NaN.
    if not (ratio.is_meta or ratio.isfinite().all()):
        require_finite("logprobs", logprobs, mask, POSSIBLE)
        require_finite("old_logprobs", old_logprobs, mask, POSSIBLE)
        require_finite(
            "exp(logprobs − old_logprobs)", ratio, remedy="take smaller steps, or use .double()"
        )
    return ratio
