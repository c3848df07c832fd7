"""How far the policy is from the reference: k1, k2, k3, the exact KL, and TRL's four modes.

Throughout d = log π(a) − log π_ref(a), where the token a was sampled **from π**. All in nats.

======  ==========  =============  ==================================  ==========================
name    TRL's mode  value          mean over a ~ π                     as a detached reward
======  ==========  =============  ==================================  ==========================
k1      "kl"        d              KL(π ‖ π_ref); one token can be     −η·∇KL(π ‖ π_ref), exactly
                                   negative
–       "abs"       |d|            at least KL(π ‖ π_ref)              biased
k2      "mse"       d² / 2         KL(π ‖ π_ref) + O(d³), never < 0    biased
k3      –           e^−d − 1 + d   KL(π ‖ π_ref), never < 0            biased; no force at π_ref
exact   "full"      Σ_v π(v)d(v)   KL(π ‖ π_ref) at this state,        no force on its own token:
                                   without noise                       a baseline
======  ==========  =============  ==================================  ==========================

The last column is why a mode is more than an estimator. PPO treats the penalty as a number and
differentiates only log π. Then ∇E[f(d)] loses the term E[∇f(d)], and that term is zero for k1
alone. A single negative k1 is not a bug: the bonus for a token that fell below π_ref is what
pulls the policy back.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

KLMode = Literal["kl", "abs", "mse", "full"]


def k1(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """The log-ratio d = log π(a) − log π_ref(a): unbiased for KL(π ‖ π_ref), any sign.

    Args:
        logprob: log π of the sampled tokens, any shape.
        ref_logprob: log π_ref of the same tokens, same shape.

    References:
        Schulman, "Approximating KL divergence" (2020), http://joschu.net/blog/kl-approx.html

    >>> k1(torch.tensor(0.5).log(), torch.tensor(0.25).log())  # ln 2
    tensor(0.6931)
    """
    return logprob - ref_logprob


def k2(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """d² / 2: never negative, biased for KL(π ‖ π_ref) by the third order in d.

    Arguments and reference as in `k1`. Differentiated as a loss its mean gradient is that of
    KL(π ‖ π_ref) at the visited states.
    """
    return 0.5 * (logprob - ref_logprob).square()


def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """e^−d − 1 + d: never negative and unbiased for KL(π ‖ π_ref), where π_ref ≪ π.

    Arguments and reference as in `k1`. Not simply better than k1: its spread explodes with the
    distance, and its *gradient* is another one. Differentiated as a loss, the mean gradient is
    that of KL(π_ref ‖ π), the other direction; in the reward it exerts no force at π_ref.

    The ratio must be π_ref/π. With π/π_ref instead the mean is χ²(π ‖ π_ref) − KL(π ‖ π_ref),
    a slip that cannot be seen near d = 0.

    >>> k3(torch.tensor(0.5).log(), torch.tensor(0.25).log())  # 1/2 − 1 + ln 2
    tensor(0.1931)
    """
    log_ratio = logprob - ref_logprob
    return torch.expm1(-log_ratio) + log_ratio


def exact_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(π ‖ π_ref) = Σ_v π(v)·(log π(v) − log π_ref(v)), in nats, without sampling.

    Args:
        logprobs: log π of every token, (..., V), normalised over V; −inf where π(v) = 0.
        ref_logprobs: log π_ref, same shape.

    Returns:
        (...). +inf where π allows a token that π_ref forbids: no penalty is large enough there.

    >>> fair, biased = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> exact_kl(fair, biased), exact_kl(biased, fair)  # ln(5 / 3), and not symmetric
    (tensor(0.5108), tensor(0.3681))
    """
    # 0 · log 0 is 0 in KL but NaN in floats. A token that π cannot emit must drop out before the
    # product, or top-k filtering would poison both the value and its gradient.
    log_ratio = (logprobs - ref_logprobs).masked_fill(logprobs == -torch.inf, 0.0)
    kl = (logprobs.exp() * log_ratio).sum(dim=-1)
    # Where exp underflows, 0 · ∞ is NaN again, but a possible token that π_ref forbids costs ∞.
    forbidden = (ref_logprobs == -torch.inf) & (logprobs > -torch.inf)
    return kl.masked_fill(forbidden.any(dim=-1), torch.inf)


def kl_penalty(logprob: Tensor, ref_logprob: Tensor, mode: KLMode = "kl") -> Tensor:
    """The penalty per token for leaving π_ref, in nats, before η and before the mask.

    Args:
        logprob: log π of the sampled tokens, any shape, (B, T) in the loop. For "full",
            log π of every token, (..., V), normalised over V.
        ref_logprob: log π_ref of the same tokens, same shape.
        mode: "kl" is `k1`, "mse" is `k2`, "full" is `exact_kl`, "abs" is |d|; the table at the
            head of this module says what each does to the policy.

    Returns:
        Shape of `logprob`, without V for "full".

    Raises:
        ValueError: the shapes differ, or `mode` is unknown.

    References:
        `PPOTrainer._kl_penalty` in TRL 0.11.4, the last release with these four modes. A token
        that π forbids gives NaN there in mode "full" and 0 here.

    >>> logprob, ref_logprob = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> kl_penalty(logprob, ref_logprob)
    tensor([-0.5878,  1.6094])
    >>> kl_penalty(logprob, ref_logprob, "full")
    tensor(0.5108)
    """
    if logprob.shape != ref_logprob.shape:
        raise ValueError(
            f"logprob {tuple(logprob.shape)} and ref_logprob {tuple(ref_logprob.shape)} must have "
            "the same shape"
        )
    match mode:
        case "kl":
            return k1(logprob, ref_logprob)
        case "abs":
            return (logprob - ref_logprob).abs()
        case "mse":
            return k2(logprob, ref_logprob)
        case "full":
            return exact_kl(logprob, ref_logprob)
        case _:
            raise ValueError(f"mode must be one of {get_args(KLMode)}, got {mode!r}")
