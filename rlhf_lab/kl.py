"""How far the policy is from the reference: k1, k2, k3, the exact KL, and TRL's four modes.

Throughout d = log π(a) − log π_ref(a), where the token a was sampled **from π**. All in nats.

======  ==========  =============  ==================================  ==========================
name    TRL's mode  value          mean over a ~ π                     as a detached reward
======  ==========  =============  ==================================  ==========================
k1      "kl"        d              KL(π ‖ π_ref); one token can be     −η·∇KL(π ‖ π_ref), exactly
                                   negative
–       "abs"       |d|            at least KL(π ‖ π_ref)              biased
k2      "mse"       d² / 2         KL(π ‖ π_ref) + O(d³), never < 0    biased; weak near π_ref
k3      –           e^−d − 1 + d   KL(π ‖ π_ref), never < 0            biased; weak near π_ref
exact   "full"      Σ_v π(v)d(v)   KL(π ‖ π_ref) at this state,        no force on its own token:
                                   without noise                       a baseline
======  ==========  =============  ==================================  ==========================

The last column is why a mode is more than an estimator. PPO treats the penalty as a number and
differentiates only log π. Then ∇E[f(d)] loses the term E[∇f(d)], and that term is zero for k1
alone. A single negative k1 is not a bug: the bonus for a token that fell below π_ref is what
pulls the policy back.
"""

from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked

KLMode = Literal["kl", "abs", "mse", "full"]


_PAIR = {"logprob": "logprobs (...)", "ref_logprob": "logprobs (...)"}
_RESPONSES = {
    "logprobs": "logprobs (B, T)",
    "ref_logprobs": "logprobs (B, T)",
    "mask": "mask (B, T)",
}


@takes(**_PAIR, result="no nan")
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


@takes(**_PAIR, result="no nan")
def k2(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """d² / 2: never negative, biased for KL(π ‖ π_ref) by the third order in d.

    Arguments and reference as in `k1`. Differentiated as a loss its mean gradient is that of
    KL(π ‖ π_ref) at the visited states.
    """
    return 0.5 * (logprob - ref_logprob).square()


@takes(**_PAIR, result="no nan")
def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """e^−d − 1 + d: never negative and unbiased for KL(π ‖ π_ref), where π_ref ≪ π.

    Arguments and reference as in `k1`. Not simply better than k1: its spread explodes with the
    distance, and its *gradient* is another one. Differentiated as a loss, the mean gradient is
    that of KL(π_ref ‖ π), the other direction; in the reward it exerts hardly any force near π_ref.

    The ratio must be π_ref/π. With π/π_ref instead the mean is χ²(π ‖ π_ref) − KL(π ‖ π_ref),
    a slip that cannot be seen near d = 0.

    >>> k3(torch.tensor(0.5).log(), torch.tensor(0.25).log())  # 1/2 − 1 + ln 2
    tensor(0.1931)
    """
    log_ratio = logprob - ref_logprob
    return torch.expm1(-log_ratio) + log_ratio


@takes(logprobs="logprobs (..., V)", ref_logprobs="logprobs (..., V)", result="no nan")
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


@takes(**_PAIR, mode=KLMode, result="no nan")
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
    match mode:
        case "kl":
            return unchecked(k1)(logprob, ref_logprob)
        case "abs":
            return (logprob - ref_logprob).abs()
        case "mse":
            return unchecked(k2)(logprob, ref_logprob)
        case "full":
            if not logprob.dim() or not logprob.shape[-1]:
                raise ValueError(
                    'logprob must have shape (..., V) for mode "full", which sums over the '
                    f"vocabulary, got {tuple(logprob.shape)}"
                )
            return unchecked(exact_kl)(logprob, ref_logprob)


@takes(**_RESPONSES, result="finite")
def response_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """k1 of whole responses: Σ_t d_t = log π(y|x) − log π_ref(y|x), (B,), in nats per response.

    A sum, not a mean: by the chain rule the KL of a response is the sum of its tokens' KLs. Divided
    by the length, η would pull less on longer responses.

    Args:
        logprobs: log π of the sampled tokens, (B, T).
        ref_logprobs: log π_ref of the same tokens, (B, T).
        mask: (B, T), bool or 0/1: the tokens that π chose. What lies off it does not count.

    >>> logprobs, ref_logprobs = torch.tensor([[-1.0, -2.0, 7.0]]), torch.tensor([[-1.5, -3.0, 0]])
    >>> response_kl(logprobs, ref_logprobs, torch.tensor([[1, 1, 0]]))
    tensor([1.5000])
    """
    return (logprobs - ref_logprobs).masked_fill(~mask, 0.0).sum(dim=1)


@takes(**_RESPONSES, result="finite")
def mean_inverse_ratio(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """The mean over responses of e^−d = π_ref(y|x)/π(y|x), (): 1 if π is what was sampled from.

    E_π[π_ref/π] = Σ_y π_ref(y) = 1 wherever π is, as long as it can say what π_ref says. Sampled
    from another q (a temperature, top-k, a forbidden `<eos>`) the mean is Σ_y q·π_ref/π instead.
    The check is sharp while π is near π_ref; far away rare responses carry the mean, as in `k3`.

    Arguments as in `response_kl`.

    >>> logprobs = torch.tensor([[0.8], [0.8], [0.8], [0.8], [0.2]]).log()  # π = (.8, .2), 5 draws
    >>> ref_logprobs = torch.tensor([[0.5], [0.5], [0.5], [0.5], [0.5]]).log()
    >>> mean_inverse_ratio(logprobs, ref_logprobs, torch.ones(5, 1))
    tensor(1.)
    """
    return (-unchecked(response_kl)(logprobs, ref_logprobs, mask)).exp().mean()


@takes(**_RESPONSES, result="finite")
def kl_loss(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL(π ‖ π_ref) as a term of the loss: k2 summed over each response, mean over responses, ().

    Its mean gradient is that of KL(π ‖ π_ref) at the prefixes that π visits. Differentiated, k1
    would give 0 on average and k3 the gradient of KL(π_ref ‖ π); see `rlhf_lab.gradients`. What no
    loss of this kind has is the credit of a token for the KL of later ones, which a reward has.

    Arguments as in `response_kl`; differentiable by `logprobs`.

    >>> logprobs, ref_logprobs = torch.tensor([[-1.0, -2.0, 7.0]]), torch.tensor([[-1.5, -3.0, 0]])
    >>> kl_loss(logprobs, ref_logprobs, torch.tensor([[1, 1, 0]]))
    tensor(0.6250)
    """
    # Masked before the square: the gradient of a NaN's square is NaN, even times 0.
    log_ratios = (logprobs - ref_logprobs).masked_fill(~mask, 0.0)
    return 0.5 * log_ratios.square().sum(dim=1).mean()
