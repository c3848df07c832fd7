"""Direct preference optimisation: notebook 04's optimum, read backwards.

π*(y) ∝ π_ref(y)·e^(r(y)/β) can be solved for the reward: r(y) = β·log(π*(y)/π_ref(y)) + const. So
every policy has an *implicit reward*, and DPO trains the policy by training that reward on
preferences, as a reward model is trained: no sampling, no critic, no KL term. β is what the rest of
this package calls η.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf_lab._checks import takes

DPOKind = Literal["sigmoid", "ipo", "robust", "hinge"]

SETTINGS = {"beta": "positive", "label_smoothing": "fraction", "kind": DPOKind}
"""What `takes` must know of the settings of a DPO loss."""


@takes(logprobs="float (...)", ref_logprobs="float (...)", beta="positive", result="finite")
def implicit_reward(logprobs: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    """β·(log π(y|x) − log π_ref(y|x)): the reward whose optimum π is, but for a constant.

    Args:
        logprobs: log π of whole responses (sums over their tokens), any shape.
        ref_logprobs: log π_ref of the same, same shape.
        beta: β > 0.

    >>> implicit_reward(torch.tensor([-2.0, -5.0]), torch.tensor([-3.0, -3.0]), beta=0.5)
    tensor([ 0.5000, -1.0000])
    """
    return beta * (logprobs - ref_logprobs)


@takes(
    chosen_logprobs="float (N,)",
    rejected_logprobs="float (N,)",
    ref_chosen_logprobs="float (N,)",
    ref_rejected_logprobs="float (N,)",
    **SETTINGS,
    result="finite",
)
def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
    *,
    label_smoothing: float = 0.0,
    kind: DPOKind = "sigmoid",
) -> Tensor:
    """The mean loss of N pairs, (), differentiable by the policy's log-probabilities.

    With the margin h = log(π/π_ref)(chosen) − log(π/π_ref)(rejected), ε = label_smoothing:

    =========  ===================================================================  ================
    "sigmoid"  −(1 − ε)·log σ(βh) − ε·log σ(−βh)                                    DPO; ε > 0: cDPO
    "robust"   (−(1 − ε)·log σ(βh) + ε·log σ(−βh)) / (1 − 2ε)                       robust DPO
    "ipo"      (h − 1/(2β))²                                                        IPO; β is its τ
    "hinge"    max(0, 1 − βh)                                                       SLiC
    =========  ===================================================================  ================

    The loss sees differences only: both likelihoods may fall while the margin rises. A pair of two
    equal responses has h = 0: it adds its ln 2 (or its constant) and no gradient.

    Args:
        chosen_logprobs, rejected_logprobs: log π of whole responses, summed over their tokens,
            `<eos>` included, (N,).
        ref_chosen_logprobs, ref_rejected_logprobs: log π_ref of the same, (N,).
        beta: β > 0. At 0 the loss would be ln 2 whatever the policy does.
        label_smoothing: ε < 1/2, the share of labels that are taken to be flipped; for "sigmoid"
            and "robust" only.
        kind: a row of the table.

    Raises:
        ValueError: shapes differ; no pairs; a log-probability is not finite; β is 0; ε ≥ 1/2, or
            ε > 0 where it has no meaning.

    References:
        Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, eq. 7; Azar et al. 2023,
        https://arxiv.org/abs/2310.12036 (IPO); Chowdhury et al. 2024,
        https://arxiv.org/abs/2403.00409 (robust). The numbers are those of TRL 1.16.0's
        `DPOTrainer`, with two exceptions. Its "sigmoid" ignores `label_smoothing`. Its "ipo" first
        divides each log-ratio by its response's length; to have that, give means for sums.

    >>> same = torch.tensor([-3.0])
    >>> dpo_loss(same, same, same, same, beta=0.1)  # ln 2: π = π_ref prefers nothing
    tensor(0.6931)
    >>> dpo_loss(same + 1, same - 1, same, same, beta=0.5)  # −log σ(0.5 · 2)
    tensor(0.3133)
    """
    chosen = chosen_logprobs - ref_chosen_logprobs
    rejected = rejected_logprobs - ref_rejected_logprobs
    return dpo_terms(chosen - rejected, beta, label_smoothing, kind).mean()


def dpo_terms(margin: Tensor, beta: float, label_smoothing: float, kind: DPOKind) -> Tensor:
    """What `dpo_loss` averages, from the margins h; only the settings are checked."""
    if label_smoothing >= 0.5:
        raise ValueError(
            f"label_smoothing must be below 0.5, got {label_smoothing:g}: if half of the labels "
            "are flipped they say nothing"
        )
    if label_smoothing and kind in ("ipo", "hinge"):
        raise ValueError(
            f'label_smoothing = {label_smoothing:g} has no meaning for kind "{kind}"; use '
            '"sigmoid" or "robust", or leave it at 0'
        )
    match kind:
        case "sigmoid" | "robust":
            clean, flipped = F.logsigmoid(beta * margin), F.logsigmoid(-beta * margin)
            if kind == "sigmoid":
                return -(1 - label_smoothing) * clean - label_smoothing * flipped
            gap = (1 - label_smoothing) * clean - label_smoothing * flipped
            return -gap / (1 - 2 * label_smoothing)
        case "ipo":
            return (margin - 0.5 / beta).square()
        case "hinge":
            return torch.relu(1 - beta * margin)
