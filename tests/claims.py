"""What the claims share: the world's raw lists, and a handful of formulas in NumPy.

None of it calls the package's mathematics: the optimum, KL, entropy and best-of-n are written anew.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from rlhf_lab import load_world

CHECKS: dict[str, Callable[[], None]] = {}


def claim(function):
    """File a check under its name, which is the claim's name in the table."""
    CHECKS[function.__name__] = function
    return function


@cache
def lists(prompt="food"):
    tables = load_world().tables(prompt)
    return tuple(x.numpy() for x in (tables.ref_logprobs, tables.scores, tables.golds))


def tilt(eta, beta=0.0, prompt="food", scores=None):
    """π* ∝ π_SFT^(η/τ)·e^(r/τ) and log Z, straight from the formula."""
    ref, r, _ = lists(prompt)
    z = (eta * ref + (r if scores is None else scores)) / (eta + beta)
    top = z.max()
    log_z = top + math.log(np.exp(z - top).sum())
    return np.exp(z - log_z), log_z


def kl(p, ref):
    said = p > 0
    return float((p[said] * (np.log(p[said]) - ref[said])).sum())


def entropy(p):
    said = p > 0
    return float(-(p[said] * np.log(p[said])).sum())


def best_of(n):
    """Best of n by sorting: P(best ≤ v) = F(v)ⁿ; the winners of a score share it as under π_SFT."""
    ref, r, _ = lists()
    p, (values, where) = np.exp(ref), np.unique(r, return_inverse=True)
    mass = np.bincount(where, weights=p, minlength=len(values))
    above = np.concatenate([np.cumsum(mass[::-1])[::-1][1:], [0.0]])
    share = np.minimum(mass / (1 - above), 1.0)  # F(v)ⁿ − F₋(v)ⁿ without cancellation
    with np.errstate(divide="ignore"):
        wins = np.exp(n * np.log1p(-above)) * -np.expm1(n * np.log1p(-share))
    return p / mass[where] * wins[where]


def near(value, printed, places=2):
    assert abs(value - printed) <= 0.5001 * 10**-places, (value, printed)


def collapsed_races(beta, score, seed):
    """Share of 2,000 races between two equal answers in which one ends above 90 %."""
    rng, x = np.random.default_rng(seed), np.zeros(2000)  # log-odds of the first answer
    for _ in range(400):
        p = 1 / (1 + np.exp(-x))
        x += 2 * score * (rng.binomial(8, p) / 8 - p) - 2 * beta * p * (1 - p) * x
    p = 1 / (1 + np.exp(-x))
    return ((p > 0.9) | (p < 0.1)).mean()


def steps_back(rare):
    """Plain steps of size 1 with β = 0.1 from a rare answer to 0.1: the trapezium rule in p."""
    p = np.exp(np.linspace(math.log(rare), math.log(0.1), 400_001))
    speed = -2 * 0.1 * (p * (1 - p)) ** 2 * np.log(p / (1 - p))
    return (np.diff(p) * (1 / speed[1:] + 1 / speed[:-1]) / 2).sum()


def tied_answers(*times):
    """The logits at these times: r = (1, 1, 0), the softmax gradient in steps that grow."""
    theta, r, t = np.log([0.36, 0.24, 0.40]), np.array([1.0, 1.0, 0.0]), 0.0
    for end in times:
        while t < end:
            p = np.exp(theta) / np.exp(theta).sum()
            dt = min(0.002 * (1 + t), end - t)
            half = theta + dt / 2 * p * (r - p @ r)
            q = np.exp(half) / np.exp(half).sum()
            theta, t = theta + dt * q * (r - q @ r), t + dt
        yield theta
