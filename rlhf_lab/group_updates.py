"""The mean update of a group of G, without sampling: every way in which the siblings can come out.

A response moves by its weight w(y) = E[A(y; siblings)], the siblings being drawn from π. For RLOO
w(y) = r(y) − E[r], which makes the mean update ∇E[r]. For GRPO without the deviation it is
(G − 1)/G of that. With the deviation, or with a denominator that the siblings share, there is no
formula; but siblings matter only through how many of them have which score, and those cases can
be counted.
"""

import itertools
import math
from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import require_total
from rlhf_lab.exact import Tables, sequence_logprobs, unflatten
from rlhf_lab.gradients import policy_gradient

Rule = Literal["leave_one_out", "none", "group"]
Shared = Literal["sum", "response", "batch"]

MOST_CASES = 20_000_000
"""Cases times scores: more take longer than a notebook should wait."""

_DRAWN = {"logprobs": "distribution (N,)", "scores": "scores (N,)"}
_GROUP = {"group_size": "count 2..10000", "rule": Rule, "eps": "coefficient"}


@takes(**_DRAWN, **_GROUP, how=Shared, lengths="float (N,) or None", result="finite")
def expected_weights(
    logprobs: Tensor,
    scores: Tensor,
    group_size: int,
    rule: Rule = "leave_one_out",
    *,
    eps: float = 1e-4,
    how: Shared = "sum",
    lengths: Tensor | None = None,
) -> Tensor:
    """w(y): what multiplies ∇log π(y) in the mean update, (N,), differentiable by `logprobs`.

    The mean over the other G − 1, drawn from π, of A(y), divided as the loss divides it.

    Args:
        logprobs: log π(y) of every response, (N,).
        scores: r(y), (N,).
        group_size: G ≥ 2.
        rule: "leave_one_out" as in `groups.leave_one_out`; "none" and "group" are the scales of
            `groups.group_advantages`.
        eps: floor under the deviation.
        how: "sum" for RLOO and every constant denominator; "response" divides by the length of y,
            "batch" by the mean length of the group, which is then the whole batch.
        lengths: tokens of each response, (N,); needed unless `how` is "sum".

    Raises:
        ValueError: the probabilities do not add up to 1; a length is missing or below 1; there are
            too many cases to count, because scores or lengths take too many values.

    >>> fair = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    >>> for rule in ("leave_one_out", "none", "group"):
    ...     print(expected_weights(fair, torch.tensor([0.0, 1.0]), 2, rule))
    tensor([-0.5000,  0.5000], dtype=torch.float64)
    tensor([-0.2500,  0.2500], dtype=torch.float64)
    tensor([-0.3535,  0.3535], dtype=torch.float64)
    """
    p = logprobs.double().exp()
    require_total("logprobs", p)
    # From the likeliest score on: squares of what is common to all would cost digits.
    r, L = scores.double() - scores[p.argmax()].double(), _lengths(lengths, how, scores)
    if rule != "group" and how != "batch":
        w = r - p @ r
        return w / L * (1 if rule == "leave_one_out" else (group_size - 1) / group_size)
    kinds, kind = torch.stack([r, L], dim=1).unique(dim=0, return_inverse=True)
    mass = p.new_zeros(len(kinds)).index_add(0, kind, p)
    r, L = kinds.T
    cases = _siblings(len(kinds), group_size - 1)  # (M, K), how many have which score
    chance = _chances(cases, mass)
    # Column k: one more of kind k, the response itself.
    mean = ((cases @ r).unsqueeze(1) + r) / group_size
    gain = r - mean
    if rule == "leave_one_out":
        gain = gain * (group_size / (group_size - 1))
    if rule == "group":
        square = ((cases @ r.square()).unsqueeze(1) + r.square()) / group_size
        variance = (square - mean.square()).clamp(min=0) * group_size / (group_size - 1)
        dead = variance <= 1e-14 * square  # rounding alone
        gain = (gain / (variance.sqrt() + eps)).masked_fill(dead, 0.0)
    shared = (((cases @ L).unsqueeze(1) + L) / group_size) if how == "batch" else L
    return (chance @ (gain / shared))[kind]


@takes(logprobs="logprobs tables", scores="scores (N,)", **_GROUP, result="finite")
def expected_update(
    logprobs: Tables,
    scores: Tensor,
    group_size: int,
    rule: Rule = "leave_one_out",
    *,
    eps: float = 1e-4,
) -> list[Tensor]:
    """E[mean over the group of A_i·∇log π(y_i)] in the logits, to ascend: T tables ((V−1)^t, V).

    Args:
        logprobs: log π(token | prefix), T tables.
        scores: r(y) of every response, (N,), in the order of `exact.flatten`.
        group_size, rule, eps: as in `expected_weights`.

    >>> fair = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    >>> expected_update([fair], torch.tensor([0.0, 1.0]), 2)  # ∇E[r]
    [tensor([[-0.2500,  0.2500]], dtype=torch.float64)]
    """
    V, T = logprobs[0].shape[1], len(logprobs)
    tables = [table.double() for table in logprobs]
    joint = unchecked(sequence_logprobs)(tables)
    if len(scores) != len(joint):
        raise ValueError(
            f"scores must have shape (N,) = ({len(joint)},), one for each response of logprobs, "
            f"got ({len(scores)},)"
        )
    w = unchecked(expected_weights)(joint, scores, group_size, rule, eps=eps)
    unpaid = [torch.zeros_like(table) for table in tables]
    return unchecked(policy_gradient)(tables, unpaid, unflatten(w, V, T))


@takes(**_DRAWN, group_size="count 2..10000")
def dead_share(logprobs: Tensor, scores: Tensor, group_size: int) -> Tensor:
    """The share of groups in which all scores are equal and teach nothing, (): Σ P(r)^G.

    Arguments as in `expected_weights`.

    >>> hard = torch.tensor([0.99, 0.01], dtype=torch.float64).log()
    >>> round(dead_share(hard, torch.tensor([0.0, 1.0]), 8).item(), 3)
    0.923
    """
    p = logprobs.double().exp()
    require_total("logprobs", p)
    levels, level = scores.unique(return_inverse=True)
    mass = p.new_zeros(len(levels)).index_add(0, level, p)
    return mass.pow(group_size).sum()


def _lengths(lengths: Tensor | None, how: Shared, scores: Tensor) -> Tensor:
    """What each response is divided by: 1 for "sum"."""
    if how == "sum":
        return torch.ones_like(scores, dtype=torch.float64)
    if lengths is None:
        raise ValueError(f'lengths are needed for how = "{how}": the tokens of each response, (N,)')
    if (lengths < 1).any():
        row = int((lengths < 1).nonzero()[0])
        raise ValueError(f"lengths must be at least 1, got {lengths[row].item():g} at row {row}")
    return lengths.double()


def _siblings(kinds: int, n: int) -> Tensor:
    """All ways to draw n of some kinds, as counts, (M, kinds)."""
    cases = math.comb(kinds + n - 1, n)
    if cases * kinds > MOST_CASES:
        raise ValueError(
            f"scores and lengths make {kinds} kinds of responses, and {n} siblings can come out of "
            f"them in {cases:,} ways; round scores to fewer values, or use a smaller group_size"
        )
    drawn = list(itertools.combinations_with_replacement(range(kinds), n))
    counts = torch.zeros(len(drawn), kinds, dtype=torch.float64)
    index = torch.tensor(drawn)
    return counts.scatter_add(1, index, torch.ones_like(index, dtype=torch.float64))


def _chances(cases: Tensor, mass: Tensor) -> Tensor:
    """The multinomial probability of each case, (M,)."""
    n = cases[0].sum()
    ways = torch.lgamma(n + 1) - torch.lgamma(cases + 1).sum(dim=1)
    return (ways + torch.xlogy(cases, mass).sum(dim=1)).exp()
