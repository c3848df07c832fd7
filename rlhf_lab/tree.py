"""Every prefix of a small language through a GPT-2, each computed once.

A response grows word by word; `<eos>` is token 0 and ends it, so a prefix is a string of tokens
1..V−1. Depth t has (V−1)^t prefixes, in lexicographic order: child w of prefix i is prefix
i·(V−1) + w − 1 of the next depth. All children of a prefix share its past, so they are sent
through the model together, as V siblings that see the past and themselves but not each other.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf_lab._checks import MOST, require, takes
from rlhf_lab._require import require_ids, require_room, said
from rlhf_lab.gpt2 import GPT2, KVCache, ScalarHead

CHUNK = 128
"""Prefixes per forward pass of the widest depth: few enough that activations stay in the cache."""


_TREE: dict[str, Any] = {"model": GPT2, "prompt": "integers (P,)", "depth": "count 1..10000"}


@takes(vocab_size="count", depth="count 0..")
def prefix_count(vocab_size: int, depth: int) -> int:
    """Number of prefixes of `depth` tokens.

    >>> [prefix_count(16, t) for t in range(5)]
    [1, 15, 225, 3375, 50625]
    """
    if depth * math.log2(max(vocab_size - 1, 1)) >= 63:
        raise ValueError(
            f"vocab_size {vocab_size} and depth {depth} make more prefixes than a tensor can hold"
        )
    return (vocab_size - 1) ** depth


@takes(**_TREE, result="finite")
def logits_tables(model: GPT2, prompt: Tensor, depth: int) -> list[Tensor]:
    """Next-token logits at every prefix.

    Args:
        model: the policy; gradients flow if they are enabled.
        prompt: (P,), token ids.
        depth: length limit T of a response.

    Returns:
        T tables, the t-th of shape ((V−1)^t, V).
    """
    return join(logits_parts(model, prompt, depth), depth)


@takes(**_TREE)
def logits_parts(model: GPT2, prompt: Tensor, depth: int) -> Iterator[tuple[int, Tensor]]:
    """A generator form of `logits_tables`, for callers with other work between two parts.

    It yields (t, the next rows of table t).
    """
    _require_size(model, prompt, len(prompt) + depth - 1, depth - 1)
    return _logits_parts(model, prompt, depth)


def _logits_parts(model: GPT2, prompt: Tensor, depth: int) -> Iterator[tuple[int, Tensor]]:
    words = torch.arange(1, model.config.vocab_size, device=prompt.device)
    for t, hidden in _walk(model, prompt, words, depth - 1):
        yield t, model.logits(hidden)


def _require_size(model: GPT2, prompt: Tensor, tokens: int, depth: int) -> None:
    """Refuse now what the walk could not finish."""
    require_ids("prompt", prompt, model.config.vocab_size)
    require_room(tokens, model.config.n_positions, "the prompt or the response (depth)")
    V = model.config.vocab_size
    if prefix_count(V, depth) * V > MOST:
        raise ValueError(
            f"depth {depth} of {V} tokens makes more than {MOST:,} numbers; use a smaller depth"
        )


@takes(depth="count 1..10000")
def join(parts: Iterable[tuple[int, Tensor]], depth: int) -> list[Tensor]:
    """The tables that parts (t, rows of table t) belong to; each table's in order."""
    tables: list[list[Tensor]] = [[] for _ in range(depth)]
    if not isinstance(parts, Iterable):
        raise ValueError(f"parts must be pairs (t, rows of table t), got {said(parts)}")
    for part in parts:
        if not isinstance(part, tuple) or len(part) != 2 or not isinstance(part[1], Tensor):
            raise ValueError(f"parts must be pairs (t, rows of table t), got {said(part)}")
        t = require("parts: t", part[0], "count 0..")
        if t >= depth:
            raise ValueError(f"parts hold rows of table {t}, but depth {depth} ends at {depth - 1}")
        tables[t].append(part[1])
    if not all(tables):
        raise ValueError(f"parts hold no rows of table {tables.index([])}, but depth is {depth}")
    return [torch.cat(rows) for rows in tables]


@takes(**_TREE, head=ScalarHead, result="finite")
def score_tables(model: GPT2, head: ScalarHead, prompt: Tensor, depth: int) -> list[Tensor]:
    """The head's number for every response, read at the response's last token.

    Args:
        model: trunk of the reward model.
        head: its scalar head.
        prompt: (P,), token ids.
        depth: length limit T.

    Returns:
        T tables: for t < T − 1, ((V−1)^t, 1), the responses that end with `<eos>` there; for
        t = T − 1, ((V−1)^t, V), those that end there with any token. Side by side they are in
        the order of `rlhf_lab.exact.flatten`.
    """
    _require_size(model, prompt, len(prompt) + depth, depth - 1)
    V = model.config.vocab_size
    tokens = torch.arange(V, device=prompt.device)
    tables: list[list[Tensor]] = [[] for _ in range(depth)]
    for t, hidden in _walk(model, prompt, tokens, depth):
        if t > 0:
            # At the last depth every token ends the response, before it only <eos> does.
            ends = hidden.view(-1, V, hidden.shape[-1])
            tables[t - 1].append(head(ends if t == depth else ends[:, :1]))
    return [torch.cat(parts) for parts in tables]


def _walk(model: GPT2, prompt: Tensor, tokens: Tensor, depth: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (t, hidden states) for the prefixes of t tokens, parents before children, in order.

    `tokens` are the siblings tried at each prefix; where they include `<eos>`, it is not expanded.
    """
    cache = KVCache()
    yield 0, model.hidden(prompt.unsqueeze(0), cache)[0, -1:]
    pending = [(1, cache)]
    while pending:
        t, past = pending.pop()
        if t > depth:
            continue
        n = len(past.layers[0][0])
        if n > CHUNK:
            pending.extend((t, part) for part in reversed(_split(past)))
            continue
        hidden, family = _siblings(model, past, tokens)
        yield t, hidden
        if t < depth:
            pending.append((t + 1, _branch(past, family, tokens)))


def _siblings(model: GPT2, past: KVCache, tokens: Tensor) -> tuple[Tensor, KVCache]:
    """Hidden states of all children, (n·K, D), and the cache with the K siblings behind the past.

    The children of one prefix are K positions of one sequence, all at position S; the mask lets
    each see the past and itself.
    """
    n, S, K = len(past.layers[0][0]), past.length, len(tokens)
    family = KVCache()
    family.layers = list(past.layers)
    sees = torch.cat([torch.ones(K, S), torch.eye(K)], dim=1).bool().to(tokens.device)
    positions = torch.full((K,), S, device=tokens.device)
    hidden = model.hidden(tokens.expand(n, K), family, positions=positions, mask=sees)
    return hidden.flatten(0, 1), family


def _branch(past: KVCache, family: KVCache, tokens: Tensor) -> KVCache:
    """The cache of each child that is not `<eos>`: its parent's past and its own position."""
    children, S, words = KVCache(), past.length, tokens != 0

    def own_line(before: Tensor, with_siblings: Tensor) -> Tensor:
        own = with_siblings[:, :, S:][:, :, words].transpose(1, 2).unsqueeze(3)  # (n, K, H, 1, D/H)
        before = before.unsqueeze(1).expand(-1, own.shape[1], -1, -1, -1)  # (n, K, H, S, D/H)
        return torch.cat([before, own], dim=3).flatten(0, 1)  # (n·K, H, S + 1, D/H)

    for (k, v), (all_k, all_v) in zip(past.layers, family.layers, strict=True):
        children.layers.append((own_line(k, all_k), own_line(v, all_v)))
    return children


def _split(past: KVCache) -> list[KVCache]:
    parts = [KVCache() for _ in range(-(-len(past.layers[0][0]) // CHUNK))]
    for k, v in past.layers:
        for part, pair in zip(parts, zip(k.split(CHUNK), v.split(CHUNK), strict=True), strict=True):
            part.layers.append(pair)
    return parts
