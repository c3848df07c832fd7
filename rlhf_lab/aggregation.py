"""From one number per token to the loss: five denominators, which weigh long responses differently.

Σ over the mask of the losses is divided by

==========  ====================================================  ========================
how         denominator                                           TRL 1.16.0, `loss_type`
==========  ====================================================  ========================
"response"  each response by its own tokens, then by the rows B   "grpo", "sapo"
"batch"     the tokens of this (micro-)batch                      "bnpo"
"tokens"    `total`: the tokens of the whole generation batch     "dapo" (default), "cispo"
"constant"  B · `length`: the limit of a response's length        "dr_grpo"
"sum"       the rows B                                            "luspo"
==========  ====================================================  ========================

Only the last two let a token weigh the same in a long response as in a short one, whatever else
is in the batch. "response" makes each token of a long response count less: a wrong answer is
cheaper if it is long, a right one is worth more if it is short.
"""

from typing import Literal

from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab.masking import masked_sum

Denominator = Literal["response", "batch", "tokens", "constant", "sum"]

DENOMINATOR = {"how": Denominator, "total": "positive or None", "length": "count or None"}
"""What `takes` must know of the arguments that other losses hand on to `aggregate`."""


@takes(losses="float (B, T)", mask="mask (B, T)", **DENOMINATOR, result="finite")
def aggregate(
    losses: Tensor,
    mask: Tensor,
    how: Denominator = "response",
    *,
    total: float | None = None,
    length: int | None = None,
) -> Tensor:
    """One loss from the losses of all tokens, (); the table at the head of this module.

    Args:
        losses: (B, T).
        mask: (B, T), bool or 0/1. A row without tokens (an answer that was cut off and masked)
            adds nothing, but counts as a row: it makes the others weigh less.
        how: the denominator.
        total: for "tokens": how many tokens the whole generation batch has, over all its
            micro-batches. With gradient accumulation, their share that one optimizer step sees.
        length: for "constant": the most tokens that a response may have.
            Where `how` needs neither, both are ignored, so that one call can compare all five.

    Raises:
        ValueError: shapes differ; the mask selects nothing; `total` or `length` is needed and
            missing; a response is longer than `length`.

    References:
        Shao et al. 2024, https://arxiv.org/abs/2402.03300 (GRPO); Liu et al. 2025,
        https://arxiv.org/abs/2503.20783 (Dr. GRPO); Yu et al. 2025,
        https://arxiv.org/abs/2503.14476 (DAPO).

    >>> losses, mask = torch.ones(2, 4), torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    >>> for how in ("response", "batch", "tokens", "constant", "sum"):
    ...     print(how, aggregate(losses, mask, how, total=10, length=5).item())
    response 1.0
    batch 1.0
    tokens 0.5
    constant 0.5
    sum 2.5
    """
    sums, counts = unchecked(masked_sum)(losses, mask, dim=1), mask.sum(dim=1)
    if not counts.any():
        raise ValueError("the mask selects nothing: there is no token to take a loss of")
    match how:
        case "response":
            return (sums / counts.clamp(min=1)).mean()
        case "batch":
            return sums.sum() / counts.sum()
        case "tokens":
            if total is None:
                raise ValueError(
                    'how = "tokens" needs total, the tokens of the whole generation batch; for '
                    'those of this batch alone use how = "batch"'
                )
            return sums.sum() / total
        case "constant":
            return sums.sum() / (len(mask) * _limit(counts, length))
        case "sum":
            return sums.mean()


def _limit(counts: Tensor, length: int | None) -> int:
    """The length limit; raise unless it is one."""
    if length is None:
        raise ValueError(
            'how = "constant" needs length, the most tokens that a response may have: the '
            "longest one of a batch is no constant"
        )
    if (counts > length).any():
        row = int(counts.argmax())
        raise ValueError(
            f"row {row} of the mask has {int(counts[row])} tokens, more than length = {length}: "
            "length is the limit that the responses were sampled with"
        )
    return length
