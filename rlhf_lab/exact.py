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

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import MOST, takes, unchecked
from rlhf_lab._require import NotFinite, require_total

_POLICY = {"logprobs": "distribution (N,)", "ref_logprobs": "distribution (N,)"}
_WEIGHTS = {"eta": "coefficient", "beta": "coefficient"}

Tables = Sequence[Tensor]
LossEstimator = Literal["k3", "k3_ratio", "k2"]


@takes(vocab_size="count", depth="count 1..10000")
def enumerate_responses(vocab_size: int, depth: int) -> Tensor:
    """All responses in the order of `flatten`, (N, T), padded with 0.

    >>> enumerate_responses(3, 2).tolist()
    [[0, 0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]
    """
    if _response_count(vocab_size, depth) * depth > MOST:
        raise ValueError(
            f"vocab_size {vocab_size} and depth {depth} make more than {MOST:,} tokens of "
            "responses; use a smaller vocabulary or shorter responses"
        )
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


def _response_count(vocab_size: int, depth: int) -> int:
    """N = Σ_t (V−1)^t + (V−1)^T, or something above MOST where it is above."""
    ended, prefixes = 0, 1
    for _ in range(depth):
        ended, prefixes = ended + prefixes, prefixes * (vocab_size - 1)
        if ended + prefixes > MOST:
            break
    return ended + prefixes


@takes(tables="any either")
def flatten(tables: Tables) -> Tensor:
    """One number per response, (N,): `<eos>`'s column at each depth, every column at the last."""
    return torch.cat([*(table[:, 0] for table in tables[:-1]), tables[-1].reshape(-1)])


@takes(values="any (N,)", vocab_size="count", depth="count")
def unflatten(values: Tensor, vocab_size: int, depth: int) -> list[Tensor]:
    """The inverse of `flatten`: ((V−1)^t, 1) for t < T − 1, then ((V−1)^(T−1), V)."""
    wanted = _response_count(vocab_size, min(depth, MOST))
    if len(values) != wanted:
        raise ValueError(
            f"values must have shape (N,), one number per response, = ({wanted},), got "
            f"({len(values)},), for vocab_size {vocab_size} and depth {depth}"
        )
    sizes = [(vocab_size - 1) ** t for t in range(depth - 1)]
    *ended, full = values.split([*sizes, len(values) - sum(sizes)])
    return [*(part.unsqueeze(1) for part in ended), full.view(-1, vocab_size)]


@takes(logprobs="logprobs tables", result="no nan")
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
    return unchecked(flatten)(joint)


class Evaluation(NamedTuple):
    """What `evaluate` returns; each (), differentiable, KL and H in nats."""

    score: Tensor
    gold: Tensor
    kl: Tensor
    entropy: Tensor


@takes(**_POLICY, scores="scores (N,)", golds="scores (N,)", result="no nan")
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
    p = logprobs.exp()
    require_total("logprobs", p)
    possible, ref = logprobs, ref_logprobs
    if not (p > 0).all():
        possible = logprobs.masked_fill(logprobs == -torch.inf, 0.0)  # 0 · log 0 is 0
        # An impossible response adds nothing even where the reference forbids it too.
        ref = ref_logprobs.masked_fill(p == 0, 0.0)
    # The difference is taken before the sum, so that KL(π_ref ‖ π_ref) is 0 whatever it is
    # multiplied by.
    kl = (p * (possible - ref)).sum()
    return Evaluation(p @ scores.to(p), p @ golds.to(p), kl, -(p @ possible))


@takes(**_POLICY, scores="scores (N,)", **_WEIGHTS)
def objective(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0
) -> Tensor:
    """J(π) = E_π[r] − η·KL(π ‖ π_ref) + β·H(π), (); arguments as in `evaluate` and `optimum`."""
    e = unchecked(evaluate)(logprobs.double(), ref_logprobs.double(), scores.double(), scores)
    kl = eta * e.kl if eta else 0.0  # 0 · ∞ would be NaN
    value = e.score - kl + beta * e.entropy
    return _not_too_large("J(π)", value, eta, beta, e.kl if eta else e.entropy)


class Optimum(NamedTuple):
    """What `optimum` returns."""

    logprobs: Tensor
    """log π*(y), (N,)."""
    value: Tensor
    """J* = τ·log Z, ()."""


@takes(ref_logprobs="distribution (N,)", scores="scores (N,)", **_WEIGHTS)
def optimum(ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0) -> Optimum:
    """The best of all policies: π*(y) = π_ref(y)^(η/τ)·exp(r(y)/τ)/Z with τ = η + β.

    Args:
        ref_logprobs: log π_ref(y), (N,).
        scores: r(y), (N,).
        eta: η ≥ 0, weight of KL(π ‖ π_ref).
        beta: β ≥ 0, weight of the entropy; η + β > 0.

    Raises:
        ValueError: shapes differ, a coefficient is negative or not finite, or both are 0: then
            nothing but the highest score matters, and `argmax_policy` says what is best.

    References:
        Korbak et al. 2022, https://arxiv.org/abs/2205.11275; Rafailov et al. 2023,
        https://arxiv.org/abs/2305.18290, eq. 4 (β = 0 here; their β is our η).

    >>> ref, r = torch.tensor([0.5, 0.5], dtype=torch.float64).log(), torch.tensor([0.0, 1.0])
    >>> optimum(ref, r, eta=1.0).logprobs.exp()  # the odds are e to 1
    tensor([0.2689, 0.7311], dtype=torch.float64)
    """
    best = _tilt(ref_logprobs, scores, eta, beta)
    return Optimum(best.logprobs, best.value)


@takes(scores="scores (N,)")
def argmax_policy(scores: Tensor) -> Tensor:
    """What η = β = 0 asks for: log-probabilities with all mass on the highest score, (N,).

    The limit of `optimum` as η → 0, if only one response has that score.
    """
    logprobs = torch.full(scores.shape, -torch.inf, dtype=torch.float64, device=scores.device)
    logprobs[scores.argmax()] = 0.0
    return logprobs


@takes(**_POLICY, scores="scores (N,)", **_WEIGHTS)
def regret(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float = 0.0
) -> Tensor:
    """J* − J(π) = τ·KL(π ‖ π*) ≥ 0: how much of the objective the policy leaves on the table, ().

    The right side is what is computed: at a large τ, J* and J(π) agree in all their digits.
    """
    best, tau = _tilt(ref_logprobs, scores, eta, beta), eta + beta
    ref, logprobs = ref_logprobs.double(), logprobs.double()
    p, q = logprobs.exp(), best.logprobs.exp()
    require_total("logprobs", p)
    never = p == 0
    ratio = best.log_ratio  # d = log π* − log π
    d = best.logprobs - logprobs if ratio is None else ref - logprobs + ratio
    d = d.masked_fill(never, 0.0)
    # Σ π·(e^d − 1 − d) is Σ −π·d, as both policies add up to 1; but no term of it is negative.
    small = d * d * (1 / 2 + d * (1 / 6 + d * (1 / 24 + d / 120)))
    excess = torch.where(d.abs() < 1e-3, small, d.clamp(max=1).expm1() - d)
    near = torch.where(never, q, torch.where(d > 1, q - p - p * d, p * excess))
    # −τ·d where d itself may be too large for a float, because τ is tiny.
    anchored = scores + eta * ref if eta else scores
    lost = (best.value - anchored + tau * logprobs).masked_fill(never, 0.0)
    total = torch.where(d < -1, tau * (q - p) + p * lost, tau * near).sum()
    forbidden = ref.masked_fill(never, 0.0) if eta else d.new_zeros(())
    return _not_too_large("J* − J(π)", total, eta, beta, forbidden)


class TreePolicy(NamedTuple):
    """A policy on the tree and what each prefix is worth under it."""

    logprobs: list[Tensor]
    """T tables of log π(token | prefix)."""
    values: list[Tensor]
    """T vectors, ((V−1)^t,): the value of each prefix; values[0] is that of the prompt."""


@takes(ref_logprobs="logprobs tables", scores="scores ends", **_WEIGHTS)
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

    def best(ref: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return _tilt(ref, q, eta, beta)[:2]

    return _backward(ref_logprobs, scores, best)


@takes(ref_logprobs="logprobs tables", scores="scores ends", **_WEIGHTS)
def loss_bonus_fixed_point(
    ref_logprobs: Tables, scores: Tables, eta: float, beta: float
) -> TreePolicy:
    """Where "KL in the reward, entropy in the loss" comes to rest, which is not the optimum above.

    π(a|s) ∝ [π_ref(a|s)^η·e^(V(sa))]^(1/τ),   V(s) = E_π[V(sa)] − η·KL(π(·|s) ‖ π_ref(·|s))

    PPO's bonus Loss − β·H raises the entropy at the states it meets, but does not credit a token
    for the entropy it leads to. So the value lacks + β·H(π(·|s)), and later entropy is not paid
    for. For responses of one token, or β = 0, it is the optimum. Advantages are not whitened here;
    `Trainer` whitens them, which makes its bonus weaker by their standard deviation.

    Args:
        ref_logprobs, scores, beta: as in `soft_values`.
        eta: η ≥ 0, and at most 1e9 unless β = 0.

    Raises:
        ValueError: the arguments are bad, or η is so large that V(s) would be rounding alone.
    """
    if eta > 1e9 and beta:  # KL is exact to 16 digits, and η multiplies what is wrong with it
        raise ValueError(f"eta must be at most 1e9 where beta > 0, got {eta:g}: use a smaller one")

    def rest(ref: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        logprobs, _, log_ratio = _tilt(ref, q, eta, beta)
        log_ratio = logprobs - ref if log_ratio is None else log_ratio
        penalty = eta * log_ratio if eta else torch.zeros_like(q)
        kept = (q - penalty).masked_fill(logprobs == -torch.inf, 0.0)  # 0 · (−∞ + ∞) is NaN
        return logprobs, (logprobs.exp() * kept).sum(dim=1)

    return _backward(ref_logprobs, scores, rest)


@takes(
    ref_logprobs="logprobs tables", scores="scores ends", eta="coefficient", estimator=LossEstimator
)
def loss_kl_fixed_point(
    ref_logprobs: Tables, scores: Tables, eta: float, estimator: LossEstimator = "k3_ratio"
) -> TreePolicy:
    """Where "KL in the loss" comes to rest, which is not the optimum above either.

    "k3_ratio", "k2"   π(a|s) ∝ π_ref(a|s)·e^(V(sa)/η)
    "k3"               π(a|s) = η·π_ref(a|s)/(λ(s) − V(sa)), with λ(s) such that they add up to 1

    both with V(s) = E_π[V(sa)], the plain mean of r: no token is charged for the KL that it leads
    to. So a path to a high score is paid for token by token, but its worth is not reduced by what
    it costs, and the policy tears away from π_ref at a larger η than π* does. "k3" is a power law:
    it leaks towards high scores at every η. For responses of one token the first is the optimum.

    This holds for the mean gradient, the ratio of each token, and advantages that no deviation
    divides; GRPO divides by that of the group, which moves the rest point once more.

    Args:
        ref_logprobs, scores: as in `soft_values`.
        eta: η > 0. The means are over r − E[r]; with the mean of a group of G instead, which
            holds r itself, the rest point is that of η·G/(G − 1).
        estimator: of the KL term, see `rlhf_lab.group_loss.kl_in_loss`.

    Raises:
        ValueError: η is 0, tables do not fit, or all that a prefix may say is impossible.

    >>> fair, r = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 1.0]])
    >>> loss_kl_fixed_point([fair], [r], 0.5).logprobs[0].exp()  # the odds are e^2 to 1
    tensor([[0.1192, 0.8808]], dtype=torch.float64)
    >>> loss_kl_fixed_point([fair], [r], 0.5, "k3").logprobs[0].exp()
    tensor([[0.1910, 0.8090]], dtype=torch.float64)
    """

    def rest(ref: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = _tilt(ref, q, eta, 0.0).logprobs if estimator != "k3" else _leak(ref, q, eta)
        return logprobs, (logprobs.exp() * q.masked_fill(logprobs == -torch.inf, 0.0)).sum(dim=1)

    _temperature(eta, 0.0)
    return _backward(ref_logprobs, scores, rest)


def _leak(ref: Tensor, q: Tensor, eta: float) -> Tensor:
    """log of π(a) = π_ref(a)/(z + gap(a)/η), where gap is max q − q and z makes it add up to 1.

    The sum is convex and falls in z, and is at least 1 at the largest π_ref − gap/η: from there
    Newton's steps rise to the root and never pass it.
    """
    p = ref.exp()
    never = p == 0
    top = q.masked_fill(never, -torch.inf).amax(dim=-1, keepdim=True)
    if (top == -torch.inf).any():
        raise ValueError("ref_logprobs is −inf for all there is to choose from: leave one possible")
    gap = (2 * ((0.5 * top - 0.5 * q) / eta)).masked_fill(never, torch.inf)
    z = (p - gap).amax(dim=-1, keepdim=True)
    for _ in range(100):
        share = p / (z + gap)
        step = (share.sum(-1, keepdim=True) - 1) / (share / (z + gap)).sum(-1, keepdim=True)
        z, before = torch.where(step > 0, z + step, z), z
        if (z - before <= 1e-15 * z).all():
            break
    return (ref - (z + gap).log()).masked_fill(never, -torch.inf).log_softmax(dim=-1)


def _backward(
    ref_logprobs: Tables,
    scores: Tables,
    solve: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> TreePolicy:
    """Solve every prefix from the last depth to the first; `solve(ref, q)` gives (log π, V)."""
    V = ref_logprobs[0].shape[1]
    policy: list[Tensor] = []
    values: list[Tensor] = []
    q = scores[-1].double()
    for t in reversed(range(len(ref_logprobs))):
        logprobs, value = solve(ref_logprobs[t].double(), q)
        policy.insert(0, logprobs)
        values.insert(0, value)
        if t:
            q = torch.cat([scores[t - 1].to(value), value.view(-1, V - 1)], dim=1)
    return TreePolicy(policy, values)


class _Tilt(NamedTuple):
    """What `_tilt` returns."""

    logprobs: Tensor
    value: Tensor
    log_ratio: Tensor | None
    """log π* − log π_ref with digits of its own, where the two are close."""


def _tilt(ref: Tensor, q: Tensor, eta: float, beta: float) -> _Tilt:
    """π* ∝ π_ref^(η/τ)·e^(q/τ) over the last dimension and its τ·log Z, at every size of τ.

    Only differences from the highest score are divided by τ, so a tiny τ cannot overflow. At a
    large one, log Z is so near 0 that τ·log Z would lose q/τ behind the 1 that all probabilities
    add up to: with x = (q − max q − β·log π_ref)/τ, it is log1p(E_ref[expm1(x)]).
    """
    tau = _temperature(eta, beta)
    ref, q = ref.double(), q.double()
    # π_ref^0 is 1 even where π_ref is 0, but 0 · −inf is NaN.
    never = ref == -torch.inf if eta else torch.zeros_like(ref, dtype=torch.bool)
    some = bool(never.any())  # mostly there is none, and to fill in nothing takes time, too

    def where_never(x: Tensor, value: float) -> Tensor:
        return x.masked_fill(never, value) if some else x

    top = where_never(q, -torch.inf).amax(dim=-1, keepdim=True)
    if (top == -torch.inf).any():
        raise ValueError("ref_logprobs is −inf for all there is to choose from: leave one possible")
    # Halves, because the difference of two scores near 1e308 would overflow.
    gain = where_never(2 * ((0.5 * q - 0.5 * top) / tau), -torch.inf)
    x = where_never(gain - beta / tau * ref if beta else gain, 0.0) if eta else None
    if x is not None and x.abs().max() <= 1:
        p = ref.exp()
        total = p.sum(dim=-1, keepdim=True)
        if (total - 1).abs().max() < 1e-4:
            log_z = ((p * x.expm1()).sum(dim=-1, keepdim=True) / total).log1p()
            value = (top + tau * log_z).squeeze(-1)
            value = _not_too_large("J*", value, eta, beta, log_z)
            return _Tilt(ref + (x - log_z), value, x - log_z)
    if eta:
        gain = gain + where_never(eta / tau * ref, -torch.inf)
    log_z = gain.logsumexp(dim=-1, keepdim=True)
    value = (top + tau * log_z).squeeze(-1)
    return _Tilt(gain - log_z, _not_too_large("J*", value, eta, beta, log_z), None)


def _temperature(eta: float, beta: float) -> float:
    if eta + beta == math.inf:
        raise ValueError(f"eta + beta is too large for a float: {eta} and {beta}; use smaller ones")
    if eta + beta == 0:
        raise ValueError(
            "eta = beta = 0 leaves nothing to trade the score against: the optimum is whatever "
            "scores highest, argmax r; give one of them a positive value, such as eta = 0.01"
        )
    return eta + beta


def _not_too_large(what: str, value: Tensor, eta: float, beta: float, measured: Tensor) -> Tensor:
    """Raise if only the size of η and β makes `value` infinite: `measured` is finite."""
    too_large = value.isinf().any() and measured.isfinite().all()
    if too_large or value.isnan().any():
        raise NotFinite(
            what, f"too large for a float: eta = {eta:g} and beta = {beta:g}; use smaller ones"
        )
    return value
