"""Sampling responses from a policy: temperature 1 and no top-k, so what is sampled is π itself."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import NotFinite, require_ids, require_room
from rlhf_lab.gpt2 import GPT2, KVCache
from rlhf_lab.masking import response_mask
from rlhf_lab.unembed import BLOCK, pick


class Sample(NamedTuple):
    """What `sample` returns; B prompts, T tokens."""

    responses: Tensor
    """Token ids, (B, T); behind the first `<eos>` only `<eos>`, as padding."""
    mask: Tensor
    """(B, T), bool, True up to and including the first `<eos>`."""
    logprobs: Tensor
    """log π of each sampled token, (B, T)."""
    hidden: Tensor
    """The hidden state each token was drawn from, (B, T, D): the value head's input."""


@takes(logprobs="distribution (B, V)", uniforms="float (B,)")
def draw(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one token per row by inverting the cumulative distribution.

    Args:
        logprobs: log π over the vocabulary, (B, V); −inf forbids a token.
        uniforms: numbers in [0, 1), (B,), float64.

    Returns:
        Token ids, (B,). The same uniforms give the same tokens on every device, which a device's
        own generator would not.

    >>> half = torch.tensor([[0.5, 0.0, 0.5]]).log().expand(3, 3)
    >>> draw(half, torch.tensor([0.1, 0.49, 0.9], dtype=torch.float64))
    tensor([0, 0, 2])
    """
    inside_unit = (uniforms >= 0) & (uniforms < 1)
    if uniforms.dtype != torch.float64 or not (inside_unit.is_meta or inside_unit.all()):
        raise ValueError(f"uniforms must be float64 numbers in [0, 1), got {uniforms.dtype}")
    return _draw(logprobs, uniforms)


def _draw(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    probs = logprobs.exp()
    V = probs.shape[1]
    if V <= BLOCK:
        return _search(probs.cumsum(dim=1, dtype=torch.float64), uniforms)
    # Running sums over a large vocabulary cost more than the model: first find the block, ...
    masses = torch.stack([part.sum(1, dtype=torch.float64) for part in probs.split(BLOCK, 1)], 1)
    cdf = masses.cumsum(dim=1)  # (B, V / BLOCK)
    block = _search(cdf, uniforms).unsqueeze(1)  # (B, 1)
    mass = masses.gather(1, block)
    rest = (uniforms.unsqueeze(1) * cdf[:, -1:] - cdf.gather(1, block) + mass) / mass
    # ... then the token in it, for which what is left of the number is uniform again.
    tokens = BLOCK * block + torch.arange(BLOCK, device=probs.device)  # (B, BLOCK)
    inside = probs.gather(1, tokens.clamp(max=V - 1)).masked_fill(tokens >= V, 0.0)
    found = _search(inside.cumsum(dim=1, dtype=torch.float64), rest.squeeze(1).clamp(min=0))
    return (BLOCK * block.squeeze(1) + found).clamp(max=V - 1)


def _search(cdf: Tensor, uniforms: Tensor) -> Tensor:
    """The first place of each row where the running sums exceed their share `uniforms`, (B,)."""
    # In float32 a running sum near 1 could not see probabilities below 6e-8.
    total = cdf[:, -1]
    # Strictly below the total, so that the search ends on a token of positive probability.
    targets = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cdf, targets.unsqueeze(1), right=True).squeeze(1)
    # NaN sorts behind everything, and an id outside the vocabulary would end a process on a GPU.
    return index.clamp(max=cdf.shape[1] - 1)


@takes(
    model=GPT2,
    prompts="integers (B, P)",
    n_tokens="count",
    generator="generator",
    eos_id="integer or None",
    attention_mask="mask (B, P) or None",
)
@torch.no_grad()
def sample(
    model: GPT2,
    prompts: Tensor,
    n_tokens: int,
    *,
    generator: torch.Generator,
    eos_id: int | None = None,
    attention_mask: Tensor | None = None,
) -> Sample:
    """Sample one response to each prompt, with a KV cache.

    Args:
        model: the policy.
        prompts: token ids, (B, P); pad on the left if lengths differ.
        n_tokens: the length limit T.
        generator: a **CPU** generator, on any device: one seed, one set of responses.
        eos_id: the token that ends a response; None samples exactly `n_tokens` tokens.
        attention_mask: (B, P), 0 on the padding of the prompts.

    Raises:
        ValueError: `n_tokens` < 1, a prompt that is padded on the right, or prompt and response
            do not fit into the model.
        FloatingPointError: the model's logits are NaN or infinite. It is a ValueError, too.
    """
    require_ids("prompts", prompts, model.config.vocab_size)
    end = prompts.shape[1] + n_tokens - 1
    require_room(end, model.config.n_positions, "the prompts or the response (n_tokens)")
    if attention_mask is not None and not attention_mask[:, -1].all():
        row = int((attention_mask[:, -1] == 0).nonzero()[0])
        raise ValueError(
            f"attention_mask: prompt {row} ends with padding, and its response would follow that; "
            "pad on the left"
        )

    def read(tokens: Tensor, cache: KVCache) -> Tensor:
        mask = attention_mask
        if mask is not None:
            answered = cache.length + tokens.shape[1] - prompts.shape[1]
            mask = F.pad(mask, (0, answered), value=1)
        return model.hidden(tokens, cache, attention_mask=mask)

    B = len(prompts)
    # One draw for the whole rollout keeps the stream independent of when responses end.
    uniforms = torch.rand(n_tokens, B, generator=generator, dtype=torch.float64).to(prompts.device)
    unembed = functools.partial(unchecked(type(model).logits), model)
    batch = decode(read, unembed, prompts, uniforms, eos_id)
    if (batch.mask & ~torch.isfinite(batch.logprobs)).any():
        raise NotFinite("log π of a sampled token", "not finite: π has overflowed")
    return batch


def decode(
    read: Callable[[Tensor, KVCache], Tensor],
    unembed: Callable[[Tensor], Tensor],
    prompts: Tensor,
    uniforms: Tensor,
    eos_id: int | None,
) -> Sample:
    """What `sample` does with its random numbers, for any model; it checks nothing.

    Args:
        read: hidden states of new tokens, given what came before: (B, T) -> (B, T, D).
        unembed: logits, (B, D) -> (B, V).
        uniforms: in [0, 1), (T, B), float64, on the device of the prompts.
    """
    cache, tokens = KVCache(), prompts
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    responses, logprobs, hidden = [], [], []
    for u in uniforms:
        hidden.append(read(tokens, cache)[:, -1])  # (B, D)
        logp = unembed(hidden[-1]).log_softmax(dim=-1)  # (B, V)
        token = _draw(logp, u)
        if eos_id is not None:
            token = token.masked_fill(finished, eos_id)
            finished = finished | (token == eos_id)
        tokens = token.unsqueeze(1)
        responses.append(token)
        logprobs.append(unchecked(pick)(logp, token))
    answer = torch.stack(responses, dim=1)
    mask = unchecked(response_mask)(answer, eos_id)
    return Sample(answer, mask, torch.stack(logprobs, dim=1), torch.stack(hidden, dim=1))
