"""Best-of-n: draw n responses from π_ref, keep the one with the highest score. Exact, no sampling.

The winner's score lies at or below a level v exactly when all n do. With F(v) = P_ref(r ≤ v) and
F₋(v) = P_ref(r < v),

    P(winner's score = v) = F(v)^n − F₋(v)^n

and among responses with the same score each wins in proportion to π_ref. So best-of-n is a policy
like any other, and `exact.evaluate` gives its E[score], E[gold], KL(π_bon ‖ π_ref) and entropy.
It multiplies no response's probability by more than n, where the optimum of `exact.optimum`
multiplies by e^(r/η)/Z, which can be millions.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rlhf_lab._checks import require, takes, unchecked
from rlhf_lab._require import require_total
from rlhf_lab.exact import evaluate

_DRAWN = {"ref_logprobs": "distribution (N,)", "scores": "scores (N,)", "n": "count"}


@takes(**_DRAWN)
def best_of_n(ref_logprobs: Tensor, scores: Tensor, n: int) -> Tensor:
    """log π_bon(y) of every response, (N,): what best-of-n says.

    Args:
        ref_logprobs: log π_ref(y), (N,), normalised; −inf where π_ref never goes, nor does this.
        scores: r(y), (N,).
        n: how many responses are drawn, ≥ 1; for n = 1 it is π_ref.

    Raises:
        ValueError: shapes differ, a score is not finite, or n is not a whole number ≥ 1.

    References:
        Stiennon et al. 2020, https://arxiv.org/abs/2009.01325, appendix G.3.

    >>> thirds = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    >>> best_of_n(thirds, torch.tensor([0.0, 1.0, 2.0]), 2).exp()  # 1, 3 and 5 of 9 pairs
    tensor([0.1111, 0.3333, 0.5556], dtype=torch.float64)
    """
    return next(_each(ref_logprobs, scores, [n]))


@takes(ref_logprobs="distribution (N,)", scores="scores (N,)")
def best_of_each_n(ref_logprobs: Tensor, scores: Tensor, ns: Iterable[int]) -> Iterator[Tensor]:
    """`best_of_n` for several n. The scores are sorted once, which takes as long as all the rest.

    Args:
        ref_logprobs, scores: as in `best_of_n`.
        ns: how many responses are drawn, each ≥ 1.

    Returns:
        An iterator over log π_bon(y), (N,), one for each n.

    Raises:
        ValueError: as in `best_of_n`.

    >>> thirds = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    >>> for logprobs in best_of_each_n(thirds, torch.tensor([0.0, 1.0, 2.0]), [1, 2]):
    ...     print(logprobs.exp())
    tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    tensor([0.1111, 0.3333, 0.5556], dtype=torch.float64)
    """
    return _each(ref_logprobs, scores, [require("ns: each", n, "count") for n in ns])


def _each(ref_logprobs: Tensor, scores: Tensor, ns: Iterable[int]) -> Iterator[Tensor]:
    levels, level_of = scores.unique(return_inverse=True)  # in rising order
    p = ref_logprobs.exp()
    require_total("ref_logprobs", p)
    mass = p.new_zeros(len(levels)).index_add(0, level_of, p)
    at_most = mass.cumsum(dim=0)
    at_least = mass.flip(0).cumsum(dim=0).flip(0)
    above = torch.cat([at_least[1:], mass.new_zeros(1)])  # at_least − mass would lose digits
    # log F near F = 1 keeps its digits only as log(1 − P(r > v)): n multiplies what is lost.
    log_at_most = torch.where(above < 0.5, torch.log1p(-above), at_most.log())
    # F^n − F₋^n = F^n·(1 − (1 − mass/F)^n), divided by the level's own mass.
    log_others = torch.log1p(-(mass / at_most).clamp(max=1.0))
    for n in ns:
        beats = -torch.expm1(n * log_others)
        log_ratio = n * log_at_most + beats.log() - mass.log()
        log_ratio = log_ratio.masked_fill(mass == 0, 0.0)  # a score that never comes: not NaN
        yield ref_logprobs + log_ratio[level_of]


@takes(**_DRAWN)
def best_of_n_kl(ref_logprobs: Tensor, scores: Tensor, n: int) -> Tensor:
    """KL(π_bon ‖ π_ref) in nats, exactly, (); arguments and errors as in `best_of_n`.

    Never more than `best_of_n_kl_bound`: the bound is approached where no score is shared and no
    single response weighs much, and it grows for ever, while KL(π_bon ‖ π_ref) stops at
    −log P_ref(highest score).

    >>> thirds = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    >>> [round(best_of_n_kl(thirds, torch.tensor([0.0, 1.0, 2.0]), n).item(), 3) for n in (2, 99)]
    [0.162, 1.099]
    >>> [round(best_of_n_kl_bound(n), 3) for n in (2, 99)]
    [0.193, 3.605]
    """
    policy = unchecked(best_of_n)(ref_logprobs, scores, n)
    return unchecked(evaluate)(policy, ref_logprobs, scores, scores).kl


@takes(n="count")
def best_of_n_kl_bound(n: int) -> float:
    """log n − (n − 1)/n, often quoted as the KL of best-of-n: an upper bound of it, in nats.

    References:
        Beirami et al. 2024, https://arxiv.org/abs/2401.01879.
    """
    return math.log(n) - (n - 1) / n
