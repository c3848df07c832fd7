"""Rewards 0 and 1 in groups of G: what GRPO then climbs, and where a leash brings it to rest."""

import math

from rlhf_lab._checks import takes
from rlhf_lab.group_updates import Rule


@takes(p="fraction", group_size="count 2..1000", eps="coefficient")
def binary_slope(p: float, group_size: int, eps: float = 1e-4) -> float:
    """f_G(p): for rewards 0 and 1 GRPO's mean update is f_G(p)·∇p, p being P(reward 1).

    So it climbs not p but ∫f_G, which for G → ∞ is 2·arcsin √p. The weight of a hard question grows
    as 1/√(p(1 − p)) only in that limit; it is capped at (G − 1)/√G.

    Args:
        p: probability of reward 1.
        group_size: G.
        eps: floor under the deviation. Without the deviation f would be (G − 1)/G for every p.

    >>> [round(binary_slope(p, 8), 2) for p in (0.001, 0.01, 0.1, 0.5)]
    [2.47, 2.44, 2.18, 1.74]
    >>> round(7 / 8**0.5, 2)
    2.47
    """
    G, slope = group_size, 0.0
    for k in range(G):  # of the other G − 1 have reward 1
        # The advantage that a 1 has beside them, less that of a 0.
        up, down = (
            (i - n / G) / (_deviation(n, G) + eps) if 0 < n < G else 0.0
            for i, n in ((1, k + 1), (0, k))
        )
        slope += _binomial(G - 1, k, p) * (up - down)
    return slope


@takes(
    group_size="count 2..1000", eta="positive", ref_log_odds="number", gap="positive",
    rule=Rule, eps="coefficient",
)  # fmt: skip
def binary_rest(
    group_size: int,
    eta: float,
    ref_log_odds: float = 0.0,
    *,
    gap: float = 1.0,
    rule: Rule = "group",
    eps: float = 1e-4,
) -> float:
    """Log-odds of the better of two answers where reward and exact KL are in balance.

    η·(x − x_ref) = gap for RLOO, gap·(G − 1)/G for "none", f_G(σ(x)) for "group". In the last the
    size of the reward is lost. For small η x − x_ref is near (G − 1)/(√G·η): G is a second leash.

    Args:
        group_size: G ≥ 2.
        eta: η > 0.
        ref_log_odds: x_ref, log-odds under π_ref.
        gap: how much better the better answer's reward is.
        rule, eps: as in `expected_weights`.

    Returns:
        The first rest point on the way up from x_ref.

    >>> [round(binary_rest(G, 0.5), 2) for G in (2, 4, 8, 16, 64)]
    [1.41, 2.96, 4.9, 7.48, 15.74]
    >>> [round(binary_rest(8, 0.5, gap=g, rule="leave_one_out"), 2) for g in (0.01, 1, 100)]
    [0.02, 2.0, 200.0]
    """
    if rule != "group":
        scale = 1.0 if rule == "leave_one_out" else (group_size - 1) / group_size
        return ref_log_odds + scale * gap / eta

    span = math.sqrt(group_size) / eta
    if not (span < 1e300 and eps / gap < 1e300):
        raise ValueError(
            f"1/eta or eps/gap is too large for a float: eta = {eta:g}, eps = {eps:g}, "
            f"gap = {gap:g}"
        )

    def pull(x: float) -> float:
        rare = 1 / (1 + math.exp(min(abs(x), 700.0)))  # f_G(p) = f_G(1 − p): keep its digits
        return binary_slope(rare, group_size, eps / gap) - eta * (x - ref_log_odds)

    # f_G is at most (G − 1) / √G, reached towards p = 0 and 1, with a valley between.
    grid = [ref_log_odds + span * i / 400 for i in range(401)]
    high = next((x for x in grid if pull(x) <= 0), grid[-1])
    low = high - span / 400
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if pull(middle) > 0 else (low, middle)
    return low


def _deviation(n: int, G: int) -> float:
    """The standard deviation (G − 1) of n ones and G − n zeros."""
    return math.sqrt(n * (G - n) / (G * (G - 1)))


def _binomial(n: int, k: int, p: float) -> float:
    if p in (0.0, 1.0):
        return float(k == n * p)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
