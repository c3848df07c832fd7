"""The museum's language: 341 responses to one prompt, small enough to train on in half a second.

A response is at most T = 4 tokens out of V = 5; token 0, `<eos>`, ends it. A policy is one table
of logits, (S + 1, V): a row for each of the S = 85 prefixes, and a last row for the padding behind
`<eos>`, because a language model gives probabilities there, too. All numbers are float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact

WORDS = ("<eos>", "good", "great", "very", "cold")
V, T = len(WORDS), 4
SIZES = [(V - 1) ** t for t in range(T)]
"""Prefixes of each length."""
END = sum(SIZES)
"""The row of the padding."""

_NEXT_IN_EIGHTHS = torch.tensor(
    [[1, 2, 1, 2, 2], [4, 1, 1, 1, 1], [4, 1, 1, 1, 1], [1, 2, 2, 1, 2], [4, 1, 1, 1, 1]]
)
"""π_SFT of the next word after nothing, good, great, very and cold, in eighths."""
_WORTH = torch.tensor([0.0, 1.0, 2.0, 0.0, -2.0], dtype=torch.float64)


def next_states() -> Tensor:
    """For each row and token, the row that comes next, (S + 1, V).

    >>> next_states()[0].tolist()  # after <eos> comes padding
    [85, 1, 2, 3, 4]
    """
    table = torch.full((END + 1, V), END)
    offset = 0
    for size in SIZES[:-1]:
        table[offset : offset + size, 1:] = (
            offset + size + torch.arange(size * (V - 1)).view(-1, V - 1)
        )
        offset += size
    return table


NEXT = next_states()


def states_of(responses: Tensor) -> Tensor:
    """The row in which each token of some responses was chosen, (B, T) -> (B, T)."""
    states = [torch.zeros(len(responses), dtype=torch.long)]
    for t in range(responses.shape[1] - 1):
        states.append(NEXT[states[-1], responses[:, t]])
    return torch.stack(states, dim=1)


def tables_of(policy: Tensor) -> list[Tensor]:
    """log π(token | prefix) as the tables of `rlhf_lab.exact`."""
    return list(policy[:END].log_softmax(dim=1).split(SIZES))


def sft_policy() -> Tensor:
    """π_SFT: the next word depends on the last one, (S + 1, V)."""
    last = torch.zeros(END + 1, dtype=torch.long)
    for row in range(END):
        last[NEXT[row, 1:]] = torch.arange(1, V)
    last[END] = 0
    return (_NEXT_IN_EIGHTHS[last].double() / 8).log()


def raw_scores(responses: Tensor) -> Tensor:
    """The raw score of the reward model, before it is standardised, (N, T) -> (N,).

    It is the mean worth of the judging words (great 2, good 1, cold −2), plus ½ for each "very"
    before a word of praise. So "very great very great" scores highest, and π_SFT hardly ever says
    it.
    """
    judging = (responses != 0) & (responses != 3)
    mean = _WORTH[responses].sum(1) / judging.sum(1).clamp(min=1)
    praised = (responses[:, :-1] == 3) & ((responses[:, 1:] == 1) | (responses[:, 1:] == 2))
    return mean + 0.5 * praised.sum(1)


class Language(NamedTuple):
    """Everything exact about the language; N responses in the order of `exact.flatten`."""

    responses: Tensor
    """(N, T)."""
    sft: Tensor
    """Logits of π_SFT, (S + 1, V)."""
    ref_logprobs: Tensor
    """log π_SFT(y), (N,)."""
    scores: Tensor
    """Mean 0 and standard deviation 1 under π_SFT, (N,)."""
    number: Tensor
    """Number of a response by its tokens: `number[a, b, c, d]`."""


def build_language() -> Language:
    """Enumerate the language and standardise its scores."""
    responses = exact.enumerate_responses(V, T)
    sft = sft_policy()
    ref_logprobs = exact.sequence_logprobs(tables_of(sft))
    raw, p = raw_scores(responses), ref_logprobs.exp()
    mean = p @ raw
    scores = (raw - mean) / (p @ (raw - mean).square()).sqrt()
    number = torch.full((V,) * T, -1)
    number[tuple(responses.T)] = torch.arange(len(responses))
    return Language(responses, sft, ref_logprobs, scores, number)


LANGUAGE = build_language()


def score(responses: Tensor) -> Tensor:
    """The reward model's score, however much padding follows: (B, T or more) -> (B,)."""
    return LANGUAGE.scores[LANGUAGE.number[tuple(responses[:, :T].T)]]


def text(index: int) -> str:
    """Response number `index` in words."""
    words = [WORDS[token] for token in LANGUAGE.responses[index].tolist() if token]
    return " ".join(words) or "(nothing)"
