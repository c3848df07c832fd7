"""Where a rule of training leads if it is followed exactly, and whether it climbs anything."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab.exact import Tables
from rlhf_lab.gradients import action_values

Leash = Literal["reward", "loss"]


@takes(
    logprobs="logprobs tables",
    ref_logprobs="logprobs tables",
    scores="scores ends",
    eta="coefficient",
    leash=Leash,
    rate="positive",
    result="no nan",
)
def natural_step(
    logprobs: Tables,
    ref_logprobs: Tables,
    scores: Tables,
    eta: float,
    leash: Leash = "reward",
    *,
    rate: float = 1.0,
) -> list[Tensor]:
    """One step of the exact natural policy gradient: log π ← log π + rate·A, normalised.

    A(s, a) is the advantage with the leash in it. An ordinary gradient weighs it by d(s)·π(a|s), so
    what is hardly ever said hardly moves; here everything moves at its own worth, however
    rarely it is said. In the "reward", −η·k1 counts for all tokens before it, and the flow ends at
    π*. In the "loss" it counts for its own token alone (k3·ratio, k2), and the flow ends at
    `exact.loss_kl_fixed_point`.

    Args:
        logprobs: log π(token | prefix), T tables.
        ref_logprobs: log π_ref, same shapes.
        scores: r of each response as tables (see `exact.unflatten`).
        eta: η ≥ 0.
        leash: where the KL stands.
        rate: the step, > 0. Below 1/η the flow is followed closely; above 2/η it does not settle.

    References:
        Kakade 2001, https://papers.nips.cc/paper/2073-a-natural-policy-gradient

    >>> fair, r = torch.full((1, 2), 0.5).log(), torch.tensor([[0.0, 1.0]])
    >>> natural_step([fair], [fair], [r], eta=0.5, rate=2.0)[0].exp()  # rate 1/η: there at once
    tensor([[0.1192, 0.8808]])
    """
    pairs = list(zip(logprobs, ref_logprobs, strict=True))
    penalty = [-eta * (table - ref).masked_fill(table == -torch.inf, 0.0) for table, ref in pairs]
    if leash == "reward":
        q = unchecked(action_values)(logprobs, penalty, scores)
    else:
        unpaid = [torch.zeros_like(table) for table in logprobs]
        plain = unchecked(action_values)(logprobs, unpaid, scores)
        q = [value + paid for value, paid in zip(plain, penalty, strict=True)]
    return [(x + rate * y).log_softmax(dim=1) for x, y in zip(logprobs, q, strict=True)]


@takes(logprobs="logprobs tables")
def curl(field: Callable[[list[Tensor]], list[Tensor]], logprobs: Tables) -> float:
    """‖J − Jᵀ‖/‖J‖ of a field of updates with Jacobian J: 0 only for the gradient of a function.

    A field with curl is the gradient of no function, though it may still climb one. Where it comes
    to rest is found by following it, or by a recursion, not by minimising.

    Args:
        field: from T tables of log π to T tables in the logits, in float64, such as
            `expected_update`; differentiable.
        logprobs: where to measure, T tables ((V−1)^t, V).

    >>> from rlhf_lab.gradients import entropy_loss_gradient
    >>> half = torch.tensor([[0.4, 0.6]], dtype=torch.float64).log()
    >>> round(curl(entropy_loss_gradient, [half]), 10)  # one token: ∇H
    0.0
    """
    shapes = [table.shape for table in logprobs]
    sizes = [table.numel() for table in logprobs]

    def flat(logits: Tensor) -> Tensor:
        parts = [x.view(s) for x, s in zip(logits.split(sizes), shapes, strict=True)]
        return torch.cat([x.flatten() for x in field([x.log_softmax(dim=1) for x in parts])])

    at = torch.cat([table.double().flatten() for table in logprobs])
    J = torch.autograd.functional.jacobian(flat, at)
    return ((J - J.T).norm() / J.norm()).item()
