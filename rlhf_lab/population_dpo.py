"""DPO on a whole population of pairs: what it finds if data never end, and what too few leave open.

Each of N responses has one log-ratio u(y) = log π(y) − log π_ref(y), and the loss sees differences
of them only, u(chosen) − u(rejected). If labels are Bradley–Terry with sharpness s the minimum is
π* at η = β/s, whatever the pairs are drawn from, as long as every response is drawn. Flipped
labels, labels without noise, responses that are never compared, and a finite number of pairs each
break that in their own way.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf_lab._checks import takes
from rlhf_lab.adam import Adam
from rlhf_lab.dpo import SETTINGS, DPOKind, dpo_terms
from rlhf_lab.preferences import (
    Comparisons,
    compared,
    connected,
    has_minimum,
    require_pairs,
)
from rlhf_lab.progress import doing

_ASKED: dict[str, Any] = {"ref_logprobs": "distribution (N,)", "pairs": Comparisons, **SETTINGS}
_Settings = tuple[float, float, DPOKind]


@takes(logprobs="float (N,)", **_ASKED, result="finite")
def population_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    pairs: Comparisons,
    beta: float,
    *,
    label_smoothing: float = 0.0,
    kind: DPOKind = "sigmoid",
) -> Tensor:
    """Σ over the pairs of weight · DPO loss, (), differentiable by `logprobs`.

    Args:
        logprobs: log π(y) of every response, (N,).
        ref_logprobs: log π_ref(y), (N,).
        pairs: from `all_comparisons` or `sampled_comparisons`.
        beta, label_smoothing, kind: as in `dpo.dpo_loss`.

    >>> from rlhf_lab.preferences import all_comparisons
    >>> fair = torch.tensor([0.5, 0.5]).log()
    >>> pairs = all_comparisons(fair, torch.tensor([0.0, 1.0]))
    >>> population_loss(fair, fair, pairs, beta=0.1)  # ln 2
    tensor(0.6931, dtype=torch.float64)
    """
    require_pairs(pairs, len(ref_logprobs))
    u = logprobs.double() - ref_logprobs.double()
    margin = u[pairs.chosen] - u[pairs.rejected]
    return pairs.weights @ dpo_terms(margin, beta, label_smoothing, kind)


@takes(
    **_ASKED, start="float (N,) or None", steps="count 1..10000000", every="count", lr="coefficient"
)
def dpo_path(
    ref_logprobs: Tensor,
    pairs: Comparisons,
    beta: float,
    *,
    steps: int,
    every: int = 1,
    lr: float = 0.05,
    label_smoothing: float = 0.0,
    kind: DPOKind = "sigmoid",
    start: Tensor | None = None,
) -> Iterator[Tensor]:
    """DPO by gradient steps of Adam with one logit per response: yields log π, (N,), on the way.

    Args:
        ref_logprobs: log π_ref(y), (N,); where the path starts unless `start` says otherwise.
        pairs, beta, label_smoothing, kind: as in `population_loss`.
        steps: how many, ≥ 1.
        every: steps between two policies that are yielded.
        lr: of Adam.
        start: logits to start from, (N,).
    """
    settings = beta, label_smoothing, kind
    dpo_terms(ref_logprobs[:0], *settings)
    return _walk(*_begin(ref_logprobs, pairs, start), pairs, steps, every, lr, settings)


def _walk(
    logits: Tensor, ref: Tensor, pairs: Comparisons, steps: int, every: int, lr: float,
    settings: _Settings,
) -> Iterator[Tensor]:  # fmt: skip
    seen, (chosen, rejected) = compared(pairs)
    u = (logits - ref)[seen].requires_grad_()
    optimizer = Adam([u], lr=lr, eps=1e-8)
    for step in range(1, steps + 1):
        doing("DPO, step {step} of {steps}", step=step, steps=steps)
        (pairs.weights @ dpo_terms(u[chosen] - u[rejected], *settings)).backward()
        optimizer.step()
        if step % every == 0:
            logits[seen] = ref[seen] + u.detach()
            yield logits.log_softmax(dim=0)


@takes(**_ASKED, start="float (N,) or None", result="no nan")
def dpo_optimum(
    ref_logprobs: Tensor,
    pairs: Comparisons,
    beta: float,
    *,
    label_smoothing: float = 0.0,
    kind: DPOKind = "sigmoid",
    start: Tensor | None = None,
) -> Tensor:
    """The policy that minimises `population_loss`, log π(y), (N,), by Newton's method.

    The loss leaves open what it cannot see: how much mass responses have that were never compared,
    or not with each other. As gradient steps do, this keeps the mean log-ratio of each set that was
    compared where it starts, and the rest untouched.

    Args:
        ref_logprobs: log π_ref(y), (N,).
        pairs, beta, label_smoothing, kind: as in `population_loss`; not "hinge".
        start: logits to start from, (N,); π_ref if None. Only the part left open depends on it.

    Raises:
        ValueError: there is no minimum, see `has_minimum`; more than 2,000 responses are compared.

    >>> from rlhf_lab.preferences import all_comparisons
    >>> ref, r = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.0, 1.0])
    >>> dpo_optimum(ref, all_comparisons(ref, r), beta=0.5).exp()  # ref · e^(r/0.5), normalised
    tensor([0.5491, 0.4509], dtype=torch.float64)
    """
    logits, ref = _begin(ref_logprobs, pairs, start)
    dpo_terms(ref[:0], beta, label_smoothing, kind)
    if kind == "hinge":
        raise ValueError('kind "hinge" has flat places: its minimum is no single policy')
    if not has_minimum(pairs, label_smoothing=label_smoothing, kind=kind):
        raise ValueError(
            'pairs have no minimum: some response never loses to others (or, for "robust", not '
            "often enough), and its log-ratio would grow for ever; follow dpo_path, or stop early"
        )
    seen, (chosen, rejected) = compared(pairs)
    u = _newton(
        (logits - ref)[seen], chosen, rejected, pairs.weights, (beta, label_smoothing, kind)
    )
    logits[seen] = ref[seen] + u
    return logits.log_softmax(dim=0)


def _newton(
    u: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor, settings: _Settings
) -> Tensor:
    """The minimum in u, with its sum over each set that is connected by comparisons kept."""
    touched = torch.eye(len(u), dtype=torch.bool)
    touched[chosen, rejected] = touched[rejected, chosen] = True
    sets = torch.stack(list(connected(touched))).double()  # (number of sets, K)

    def loss(u: Tensor) -> Tensor:
        return weights @ dpo_terms(u[chosen] - u[rejected], *settings)

    before = torch.inf
    for _ in range(200):
        step = _newton_step(u, chosen, rejected, weights, settings, sets)
        size, now = 1.0, loss(u)
        while size > 1e-6 and loss(u - size * step) > now + 1e-15:
            size /= 2
        u, moved = u - size * step, step.abs().max().item()
        if moved < 1e-11 or (moved < 1e-6 and moved > before / 2):  # rounding alone is left
            return u
        before = moved
    raise _no_end(settings)


def _newton_step(
    u: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor, settings: _Settings, sets: Tensor
) -> Tensor:
    """Gradient over curvature. Both are those of a graph: each pair pulls at its two ends alike."""
    K = len(u)
    h = (u[chosen] - u[rejected]).requires_grad_()
    total = weights @ dpo_terms(h, *settings)
    (slope,) = torch.autograd.grad(total, h, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), h)
    slope = slope.detach()
    gradient = u.new_zeros(K).index_add(0, chosen, slope).index_add(0, rejected, -slope)
    pull = u.new_zeros(K, K).index_put_((chosen, rejected), bend, accumulate=True)
    pull = (pull + pull.T).fill_diagonal_(0.0)
    stiffness = pull.sum(dim=1)
    # Rare responses pull weakly: in units of √stiffness all diagonals are 1.
    unit = torch.where(stiffness > 0, stiffness, 1.0).sqrt()
    curvature = torch.diag(stiffness / unit.square()) - pull / unit.outer(unit)
    free = sets * unit  # moving a whole set changes nothing, so that direction is fixed by hand
    free = free / free.norm(dim=1, keepdim=True)
    step, failed = torch.linalg.solve_ex(curvature + free.T @ free, gradient / unit)
    if failed or not step.isfinite().all():
        raise _no_end(settings)
    step = step / unit
    return step - sets.T @ ((sets @ step) / sets.sum(dim=1))


def _no_end(settings: _Settings) -> ValueError:
    return ValueError(
        f"no minimum was found at beta = {settings[0]:g}: some log-ratio of start or ref_logprobs "
        "is so large that its pairs exert no force a float can hold; begin nearer, or change beta"
    )


def _begin(ref_logprobs: Tensor, pairs: Comparisons, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits to begin with, and log π_ref; both can be written to."""
    require_pairs(pairs, len(ref_logprobs))
    ref = ref_logprobs.double().clone()
    for name in ("chosen", "rejected"):
        ids = getattr(pairs, name)
        if (ref[ids] == -torch.inf).any():
            never = int(ids[ref[ids] == -torch.inf][0])
            raise ValueError(
                f"pairs.{name} names response {never}, which ref_logprobs forbids: no loss can "
                "give it a log-ratio; leave it out"
            )
    return (ref.clone() if start is None else start.double().clone()), ref
