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
