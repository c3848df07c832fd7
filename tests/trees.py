"""Random policies over small languages, as tables; several test files use them."""

import pytest
import torch
from golden import normal, random_logprobs
from torch.testing import assert_close

from rlhf_lab import exact

shapes = pytest.mark.parametrize(("V", "T"), [(2, 1), (2, 4), (6, 1), (3, 3), (5, 2), (4, 4)])
coefficients = pytest.mark.parametrize(("eta", "beta"), [(0.3, 0.2), (1, 0), (0, 0.4), (0.05, 2)])


def close(a, b, atol=1e-10):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    assert_close(a, b.expand_as(a), rtol=0, atol=atol)


def random_tree(seed, V, T):
    """A policy, T tables of log-probabilities in float64."""
    return [random_logprobs(1000 * seed + t, (V - 1) ** t, V) for t in range(T)]


def random_language(V, T):
    """π_ref as tables and flat, and a score for each response."""
    tree = random_tree(7, V, T)
    ref = exact.sequence_logprobs(tree)
    return tree, ref, normal(8, len(ref))
