"""Mode collapse in numbers: how many different things does the policy still say?

Exact counterparts over the whole language (entropy H, exp H, the most probable responses) come
from `rlhf_lab.exact`; the functions here describe a sample.
"""

import math

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked


@takes(responses="ids (N, T)", mask="rows (N, T)")
def count_responses(responses: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The different responses of a sample and how often each occurs, most frequent first.

    Args:
        responses: token ids, (N, T).
        mask: (N, T), bool or 0/1; what lies off the mask does not tell responses
            apart, but where the mask starts does: pad all on the same side.

    Returns:
        Unique responses (K, T), with −1 off the mask, and their counts (K,). Equal counts are
        ordered by token ids, so that the answer does not depend on the order of the sample.

    >>> responses = torch.tensor([[5, 0, 9], [4, 4, 0], [5, 0, 3]])
    >>> count_responses(responses, torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 0]]))[1]
    tensor([2, 1])
    """
    unique, counts = responses.masked_fill(~mask, -1).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return unique[order], counts[order]


def distinct_rows(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of `tokens`, and which of them each row is: (N, L) -> (K, L), (N,).

    It is `tokens.unique(dim=0, return_inverse=True)` in another order, for the training loop.
    That one compares rows word by word, which takes two to seven times as long as making one
    number of each row.

    Args:
        tokens: integers on the CPU, (N, L).

    >>> distinct_rows(torch.tensor([[4, 2], [1, 1], [4, 2]]))
    (tensor([[1, 1],
            [4, 2]]), tensor([1, 0, 1]))
    """
    powers = 1_000_003 ** torch.arange(tokens.shape[1])  # may overflow: see below
    numbers, of = (tokens * powers).sum(dim=1).unique(return_inverse=True)
    rows = tokens[torch.empty_like(numbers).scatter_(0, of, torch.arange(len(tokens)))]
    if not torch.equal(rows[of], tokens):  # two different rows have the same number
        return tokens.unique(dim=0, return_inverse=True)
    return rows, of


@takes(responses="ids (N, T)", mask="rows (N, T)")
def top_share(responses: Tensor, mask: Tensor) -> float:
    """Share of the sample taken by its most frequent response: 1.0 is total collapse."""
    counts = unchecked(count_responses)(responses, mask)[1]
    return counts[0].item() / len(responses)


@takes(responses="ids (N, T)", mask="mask (N, T)", n="count")
def distinct_n(responses: Tensor, mask: Tensor, n: int) -> float:
    """Different n-grams over all n-grams of the sample, between 0 and 1.

    It falls with the sample's size whatever the policy does: compare equal sizes only.

    Args:
        responses: token ids, (N, T).
        mask: (N, T), bool or 0/1, contiguous in each row.
        n: length of the n-grams, 1 ≤ n ≤ T.

    Raises:
        ValueError: n is out of range, or no response is n tokens long.

    References:
        Li et al. 2016, https://arxiv.org/abs/1510.03055 (distinct-1, distinct-2).

    >>> distinct_n(torch.tensor([[1, 2], [1, 3]]), torch.ones(2, 2), 1)
    0.75
    """
    if n > responses.shape[1]:
        raise ValueError(f"n must lie in 1..{responses.shape[1]}, got {n}")
    windows = responses.unfold(1, n, 1)[mask.unfold(1, n, 1).all(dim=-1)]  # (M, n)
    if len(windows) == 0:
        raise ValueError(
            f"no response is {n} tokens long on the mask: there is no {n}-gram to count"
        )
    return len(windows.unique(dim=0)) / len(windows)


@takes(entropy="number")
def effective_responses(entropy: float) -> float:
    """exp(H): the number of equally likely responses that would have the same entropy (nats).

    >>> round(effective_responses(math.log(8)), 6)
    8.0
    """
    if not -1e-6 <= entropy <= 700:
        raise ValueError(f"entropy must lie in 0..700 nats, got {entropy}: exp H is no number else")
    return math.exp(entropy)


@takes(logprobs="logprobs (N,)", samples="count")
def expected_distinct(logprobs: Tensor, samples: int) -> float:
    """How many different responses to expect among `samples` draws: Σ_y 1 − (1 − π(y))^n.

    Args:
        logprobs: log π of every response, (N,), normalised.
        samples: n ≥ 1.

    >>> round(expected_distinct(torch.tensor([0.5, 0.5]).log(), 2), 6)
    1.5
    """
    # log1p keeps the digits of tiny probabilities; π = 1 gives −inf, whose expm1 is the right −1.
    missed = samples * torch.log1p(-logprobs.exp().clamp(max=1.0))
    return -torch.expm1(missed).sum().item()
