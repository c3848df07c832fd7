"""Every response of a small language at once: what sampling only estimates, computed in float64.

A policy is a list of T tables, one per depth: `tables[t]` has shape ((V−1)^t, V) and holds, for
each prefix of t tokens, one number per next token. Token 0 is `<eos>` and ends a response; so
does any token at depth T − 1. Child w ≥ 1 of prefix i is prefix i·(V−1) + w − 1 of the next depth.
The N = Σ_t (V−1)^t + (V−1)^T responses are numbered by depth, as `flatten` lays them out.

With τ = η + β, the objective of the whole course and its optimum over all policies are

    J(π) = E_π[r] − η·KL(π ‖ π_ref) + β·H(π)
    π*(y) = π_ref(y)^(η/τ) · exp(r(y)/τ) / Z,   J* = τ·log Z
    J* − J(π) = τ·KL(π ‖ π*)                    for every π: the regret
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import (
    require_coefficient,
    require_finite,
    require_shape,
    require_tables,
)

Tables = Sequence[Tensor]


def enumerate_responses(vocab_size: int, depth: int) -> Tensor:
    """All responses in the order of `flatten`, (N, T), padded with 0.

    >>> enumerate_responses(3, 2).tolist()
    [[0, 0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]
    """
    words = torch.arange(1, vocab_size)
    prefixes, ended = torch.zeros(1, 0, dtype=torch.long), []
    for t in range(depth - 1):
        ended.append(torch.nn.functional.pad(prefixes, (0, depth - t)))
        prefixes = torch.cat(
            [prefixes.repeat_interleave(len(words), 0), words.repeat(len(prefixes)).unsqueeze(1)], 1
        )
    last = torch.arange(vocab_size).repeat(len(prefixes)).unsqueeze(1)
    full = torch.cat([prefixes.repeat_interleave(vocab_size, 0), last], dim=1)
    return torch.cat([*ended, full])


def flatten(tables: Tables) -> Tensor:
    """One number per response, (N,): `<eos>`'s column at each depth, every column at the last."""
    return torch.cat([*(table[:, 0] for table in tables[:-1]), tables[-1].reshape(-1)])


def unflatten(values: Tensor, vocab_size: int, depth: int) -> list[Tensor]:
    """The inverse of `flatten`: ((V−1)^t, 1) for t < T − 1, then ((V−1)^(T−1), V)."""
    sizes = [(vocab_size - 1) ** t for t in range(depth - 1)]
    wanted = sum(sizes) + (vocab_size - 1) ** (depth - 1) * vocab_size
    require_shape("values", values, (wanted,), "(N,), one number per response,")
    *ended, full = values.split([*sizes, len(values) - sum(sizes)])
    return [*(part.unsqueeze(1) for part in ended), full.view(-1, vocab_size)]


def sequence_logprobs(logprobs: Tables) -> Tensor:
    """log π(y) = Σ_t log π(y_t | y_<t) of every response, (N,).

    Args:
        logprobs: T tables of log π(token | prefix), normalised over tokens.

    >>> half = torch.full((1, 2), 0.5, dtype=torch.float64).log()
    >>> sequence_logprobs([half, half]).exp()  # "<eos>", "1 <eos>", "1 1"
    tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    prefix, joint = logprobs[0].new_zeros(1), []
    for table in logprobs:
        joint.append(prefix.unsqueeze(1) + table)
        prefix = joint[-1][:, 1:].reshape(-1)
    return flatten(joint)


class Evaluation(NamedTuple):
    """What `evaluate` returns; each (), differentiable, KL and H in nats."""

    score: Tensor
    gold: Tensor
    kl: Tensor
    entropy: Tensor


def evaluate(logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, golds: Tensor) -> Evaluation:
    """E[score], E[gold], KL(π ‖ π_ref) and H(π) over all responses, without sampling.

    Args:
        logprobs: log π(y), (N,); −inf where π(y) = 0.
        ref_logprobs: log π_ref(y), (N,).
        scores, golds: the reward model's and the gold score of each response, (N,).

    >>> p = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    >>> ref = torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    >>> [round(x.item(), 4) for x in evaluate(p, ref, torch.tensor([0.0, 1.0]), torch.zeros(2))]
    [0.5, 0.0, 0.5108, 0.6931]
    """
    _require_vectors(logprobs=logprobs, ref_logprobs=ref_logprobs, scores=scores, golds=golds)
    p = logprobs.exp()
    possible = logprobs.masked_fill(logprobs == -torch.inf, 0.0)  # 0 · log 0 is 0
    entropy = -(p @ possible)
    # An impossible response adds nothing even where the reference forbids it too.
    cross_entropy = -(p * ref_logprobs.masked_fill(p == 0, 0.0)).sum()
    return Evaluation(p @ scores.to(p), p @ golds.to(p), cross_entropy - entropy, entropy)


def objective(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0
) -> Tensor:
    """J(π) = E_π[r] − η·KL(π ‖ π_ref) + β·H(π), (); arguments as in `evaluate` and `optimum`."""
    eta, beta = require_coefficient("eta", eta), require_coefficient("beta", beta)
    e = evaluate(logprobs, ref_logprobs, scores, scores)
    kl = eta * e.kl if eta else 0.0  # 0 · ∞ would be NaN
    return e.score - kl + beta * e.entropy


class Optimum(NamedTuple):
    """What `optimum` returns."""

    logprobs: Tensor
    """log π*(y), (N,)."""
    value: Tensor
    """J* = τ·log Z, ()."""


def optimum(ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0) -> Optimum:
    """The best of all policies: π*(y) = π_ref(y)^(η/τ)·exp(r(y)/τ)/Z with τ = η + β.

    Args:
        ref_logprobs: log π_ref(y), (N,).
        scores: r(y), (N,).
        eta: η ≥ 0, weight of KL(π ‖ π_ref).
        beta: β ≥ 0, weight of the entropy; η + β > 0.

    Raises:
        ValueError: shapes differ, a coefficient is negative or not finite, or both are 0: then
            nothing but the highest score matters and the optimum is no longer unique.

    References:
        Korbak et al. 2022, https://arxiv.org/abs/2205.11275; Rafailov et al. 2023,
        https://arxiv.org/abs/2305.18290, eq. 4 (β = 0 here; their β is our η).

    >>> ref, r = torch.tensor([0.5, 0.5], dtype=torch.float64).log(), torch.tensor([0.0, 1.0])
    >>> optimum(ref, r, eta=1.0).logprobs.exp()  # the odds are e to 1
    tensor([0.2689, 0.7311], dtype=torch.float64)
    """
    _require_vectors(ref_logprobs=ref_logprobs, scores=scores)
    require_finite("scores", scores, remedy="a response without a score has no place in an optimum")
    tau = _temperature(eta, beta)
    # π_ref^0 is 1 even where π_ref is 0, but 0 · −inf is NaN.
    anchored = eta * ref_logprobs + scores if eta else scores.to(ref_logprobs)
    logits = anchored / tau
    log_z = logits.logsumexp(dim=0)
    return Optimum(logits - log_z, tau * log_z)


def argmax_policy(scores: Tensor) -> Tensor:
    """What η = β = 0 asks for: log-probabilities with all mass on the highest score, (N,).

    The limit of `optimum` as η → 0, if only one response has that score.
    """
    _require_vectors(scores=scores)
    logprobs = torch.full(scores.shape, -torch.inf, dtype=torch.float64, device=scores.device)
    logprobs[scores.argmax()] = 0.0
    return logprobs


def regret(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0
) -> Tensor:
    """J* − J(π) ≥ 0: how much of the objective the policy leaves on the table, ()."""
    best = optimum(ref_logprobs, scores, eta, beta).value
    return best - objective(logprobs, ref_logprobs, scores, eta, beta)


class TreePolicy(NamedTuple):
    """A policy on the tree and what each prefix is worth under it."""

    logprobs: list[Tensor]
    """T tables of log π(token | prefix)."""
    values: list[Tensor]
    """T vectors, ((V−1)^t,): the value of each prefix; values[0] is that of the prompt."""


def soft_values(ref_logprobs: Tables, scores: Tables, eta: float, beta: float = 0.0) -> TreePolicy:
    """The same optimum token by token, by backward recursion:

    V(s) = τ·log Σ_a π_ref(a|s)^(η/τ)·e^(V(sa)/τ),   π*(a|s) = π_ref(a|s)^(η/τ)·e^((V(sa) − V(s))/τ)

    with V = r at the leaves and V(prompt) = J*. For β = 0, V(s) = η·log E_ref[e^(r/η) | s], which
    runs from the mean under π_ref (η → ∞) to the maximum (η → 0).

    Args:
        ref_logprobs: T tables of log π_ref(token | prefix).
        scores: r of each response as tables, see `unflatten`.
        eta, beta: as in `optimum`.
    """
    tau = _temperature(eta, beta)

    def best(ref: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        logits = (eta * ref + q if eta else q) / tau
        log_z = logits.logsumexp(dim=1)
        return logits - log_z.unsqueeze(1), tau * log_z

    return _backward(ref_logprobs, scores, best)


def loss_bonus_fixed_point(
    ref_logprobs: Tables, scores: Tables, eta: float, beta: float
) -> TreePolicy:
    """Where "KL in the reward, entropy in the loss" comes to rest, which is not the optimum above.

    π(a|s) ∝ [π_ref(a|s)^η·e^(V(sa))]^(1/τ),   V(s) = E_π[V(sa)] − η·KL(π(·|s) ‖ π_ref(·|s))

    PPO's bonus Loss − β·H raises the entropy at the states it meets, but does not credit a token
    for the entropy it leads to. So the value lacks + β·H(π(·|s)), and later entropy is not paid
    for. For responses of one token, or β = 0, it is the optimum.

    Args:
        ref_logprobs, scores, eta, beta: as in `soft_values`.
    """
    tau = _temperature(eta, beta)

    def rest(ref: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = ((eta * ref + q if eta else q) / tau).log_softmax(dim=1)
        penalty = eta * (logprobs - ref) if eta else torch.zeros_like(q)
        kept = (q - penalty).masked_fill(logprobs == -torch.inf, 0.0)  # 0 · (−∞ + ∞) is NaN
        return logprobs, (logprobs.exp() * kept).sum(dim=1)

    return _backward(ref_logprobs, scores, rest)


def _backward(
    ref_logprobs: Tables,
    scores: Tables,
    solve: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> TreePolicy:
    """Solve every prefix from the last depth to the first; `solve(ref, q)` gives (log π, V)."""
    require_tables(ref_logprobs, scores)
    V = ref_logprobs[0].shape[1]
    policy: list[Tensor] = []
    values: list[Tensor] = []
    q = scores[-1]
    for t in reversed(range(len(ref_logprobs))):
        logprobs, value = solve(ref_logprobs[t], q.to(ref_logprobs[t]))
        policy.insert(0, logprobs)
        values.insert(0, value)
        if t:
            q = torch.cat([scores[t - 1].to(value), value.view(-1, V - 1)], dim=1)
    return TreePolicy(policy, values)


def _temperature(eta: float, beta: float) -> float:
    eta, beta = require_coefficient("eta (η)", eta), require_coefficient("beta (β)", beta)
    if eta + beta == 0:
        raise ValueError(
            "eta = beta = 0 leaves nothing to trade the score against: the optimum is whatever "
            "scores highest, argmax r; give one of them a positive value, such as eta = 0.01"
        )
    return eta + beta


def _require_vectors(**vectors: Tensor) -> None:
    shapes = {name: tuple(v.shape) for name, v in vectors.items()}
    if len(set(shapes.values())) > 1 or any(
        len(shape) != 1 or not shape[0] for shape in shapes.values()
    ):
        raise ValueError(f"need vectors (N,) of one number per response, not empty; got {shapes}")
