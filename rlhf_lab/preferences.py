"""Labelled pairs of responses: all of them with their exact probabilities, or a sample.

Two responses are drawn from one distribution, and a reader says which is better. The reader's odds
are e to the difference of the rewards times a sharpness (Bradley–Terry); some labels may be turned
round, and a reader without noise always prefers the better one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import INTEGERS, takes
from rlhf_lab._require import require_total, said
from rlhf_lab.dpo import DPOKind

MOST_RESPONSES = 2_000
"""All pairs of more, or a Newton step with them, take more than seconds."""


class Comparisons(NamedTuple):
    """M labelled pairs of responses, each (M,)."""

    chosen: Tensor
    """Number of the preferred response."""
    rejected: Tensor
    """Number of the other."""
    weights: Tensor
    """How much each pair counts, float64, adding up to 1."""


_LABELS = {"sharpness": "positive or None", "flipped": "fraction"}


@takes(scores="scores (N,)", **_LABELS, result="finite")
def preference_probabilities(
    scores: Tensor, sharpness: float | None = 1.0, flipped: float = 0.0
) -> Tensor:
    """P(row is preferred to column), (N, N): (1 − f)·σ(s·(r_i − r_j)) + f·σ(s·(r_j − r_i)).

    Args:
        scores: r, (N,).
        sharpness: s > 0; None: no noise, the better one always wins, and equals are tossed for.
        flipped: f, the share of labels that are turned round afterwards.

    >>> preference_probabilities(torch.tensor([0.0, 1.0]))
    tensor([[0.5000, 0.2689],
            [0.7311, 0.5000]], dtype=torch.float64)
    """
    gap = scores.double().unsqueeze(1) - scores.double()
    wins = (gap.sign() + 1) / 2 if sharpness is None else (sharpness * gap).sigmoid()
    return (1 - flipped) * wins + flipped * (1 - wins)


@takes(logprobs="distribution (N,)", scores="scores (N,)", **_LABELS)
def all_comparisons(
    logprobs: Tensor, scores: Tensor, *, sharpness: float | None = 1.0, flipped: float = 0.0
) -> Comparisons:
    """Every ordered pair, with its exact probability: preference data without end.

    Args:
        logprobs: log-probability with which either response of a pair is drawn, (N,), such as
            log π_ref; −inf where a response is never compared.
        scores, sharpness, flipped: as in `preference_probabilities`.

    Raises:
        ValueError: more than 2,000 responses can be drawn.

    >>> pairs = all_comparisons(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 1.0]))
    >>> [[round(x, 3) for x in part.tolist()] for part in pairs]  # of a response with itself, too
    [[0, 0, 1, 1], [0, 1, 0, 1], [0.25, 0.134, 0.366, 0.25]]
    """
    p = logprobs.double().exp()
    require_total("logprobs", p)
    drawn = (p > 0).nonzero().flatten()
    require_few(len(drawn))
    wins = preference_probabilities(scores[drawn], sharpness, flipped)
    weights = 2 * wins * p[drawn].outer(p[drawn])  # drawn in either order
    weights = weights / weights.sum()
    chosen = drawn.unsqueeze(1).expand_as(wins).reshape(-1)
    return Comparisons(chosen, drawn.repeat(len(drawn)), weights.reshape(-1))


@takes(
    logprobs="distribution (N,)", scores="scores (N,)", n="count 1..10000000",
    generator="generator", **_LABELS,
)  # fmt: skip
def sampled_comparisons(
    logprobs: Tensor,
    scores: Tensor,
    n: int,
    generator: torch.Generator,
    *,
    sharpness: float | None = 1.0,
    flipped: float = 0.0,
) -> Comparisons:
    """n pairs, drawn and labelled as `all_comparisons` counts them; each weighs 1/n.

    Args:
        n: how many.
        generator: a CPU generator.
        logprobs, scores, sharpness, flipped: as in `all_comparisons`, of any number of responses.

    >>> g, fair = torch.Generator().manual_seed(0), torch.tensor([0.5, 0.5]).log()
    >>> sampled_comparisons(fair, torch.tensor([0.0, 9.0]), 4, g, sharpness=None).weights.sum()
    tensor(1., dtype=torch.float64)
    """
    p = logprobs.double().exp()
    require_total("logprobs", p)
    a, b = torch.multinomial(p, 2 * n, replacement=True, generator=generator).view(2, n)
    gap = scores.double()[a] - scores.double()[b]
    wins = (gap.sign() + 1) / 2 if sharpness is None else (sharpness * gap).sigmoid()
    wins = (1 - flipped) * wins + flipped * (1 - wins)
    first = torch.rand(n, generator=generator, dtype=torch.float64) < wins
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    return Comparisons(torch.where(first, a, b), torch.where(first, b, a), weights)


@takes(pairs=Comparisons, label_smoothing="fraction", kind=DPOKind)
def has_minimum(
    pairs: Comparisons, *, label_smoothing: float = 0.0, kind: DPOKind = "sigmoid"
) -> bool:
    """Does the loss have a minimum, or does it fall for ever as some log-ratios go to ±∞?

    A response that never lost to some others is pushed away from them without end, whatever β is:
    there is a minimum only if from each response one can walk to every other that it was compared
    with, from loser to winner. "ipo" always has one.

    Args:
        pairs: as in `population_loss`.
        label_smoothing, kind: as in `dpo.dpo_loss`; smoothing "sigmoid" counts a part of every
            label for the other side, and "robust" takes that part away.

    >>> fair, r = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 1.0])
    >>> has_minimum(all_comparisons(fair, r)), has_minimum(all_comparisons(fair, r, sharpness=None))
    (True, False)
    """
    require_pairs(pairs)
    seen, (chosen, rejected) = compared(pairs)
    require_few(len(seen))
    beats = torch.zeros(len(seen), len(seen), dtype=torch.float64)
    beats.index_put_((chosen, rejected), pairs.weights, accumulate=True)
    sign = -1.0 if kind == "robust" else 1.0
    force = (1 - label_smoothing) * beats + sign * label_smoothing * beats.T
    force.fill_diagonal_(0.0)
    if kind == "ipo":
        return True
    if (force < 0).any():
        return False
    up, either = force > 0, (force > 0) | (force.T > 0)
    for together in connected(either):
        node = int(together.int().argmax())
        if not torch.equal(reachable(up, node) & reachable(up.T, node), together):
            return False
    return True


def compared(pairs: Comparisons) -> tuple[Tensor, Tensor]:
    """The responses that are compared, (K,), and the pairs as places among them, (2, M)."""
    both = torch.stack([pairs.chosen, pairs.rejected]).long()
    seen, places = both.unique(return_inverse=True)
    return seen, places


def reachable(edges: Tensor, start: int) -> Tensor:
    """Where one can get from a node along the edges, (K, K) -> (K,), itself included."""
    reached = torch.zeros(len(edges), dtype=torch.bool)
    reached[start] = True
    while True:
        further = reached | edges[reached].any(dim=0)
        if torch.equal(further, reached):
            return reached
        reached = further


def connected(edges: Tensor) -> Iterator[Tensor]:
    """The sets of nodes that hang together by symmetric edges, each as a mask (K,)."""
    left = torch.ones(len(edges), dtype=torch.bool)
    while left.any():
        together = reachable(edges, int(left.int().argmax()))
        left = left & ~together
        yield together


def require_few(n: int) -> None:
    """Raise if all pairs of n responses are too many."""
    if n > MOST_RESPONSES:
        raise ValueError(
            f"logprobs or pairs compare {n:,} responses, and {MOST_RESPONSES:,} are the most: take "
            "the likeliest ones, normalised anew, or sampled_comparisons with dpo_path"
        )


def require_pairs(pairs: Comparisons, n: int | None = None) -> None:
    """Raise unless these are labelled pairs, of n responses if that is known."""
    for name, part in pairs._asdict().items():
        if not isinstance(part, Tensor) or part.dim() != 1 or len(part) != len(pairs.chosen):
            raise ValueError(f"pairs.{name} must have shape (M,) like the others, got {said(part)}")
    if not len(pairs.chosen):
        raise ValueError("pairs are empty: there is nothing to learn from")
    for name in ("chosen", "rejected"):
        ids = getattr(pairs, name)
        if ids.dtype not in INTEGERS:
            raise ValueError(f"pairs.{name} must hold whole numbers, got {ids.dtype}")
        low, high = (int(x) for x in ids.aminmax())
        if low < 0 or (n is not None and high >= n):
            bad = low if low < 0 else high
            raise ValueError(f"pairs.{name} names response {bad}, but there are 0..{(n or 0) - 1}")
    w = pairs.weights
    if w.dtype != torch.float64 or not (w >= 0).all() or not abs(w.sum().item() - 1) < 1e-6:
        raise ValueError("pairs.weights must be float64, not negative, and add up to 1")
