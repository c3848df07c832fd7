"""GPT-2, whole and small: OpenAI's architecture under Hugging Face's parameter names.

    x = wte[tokens] + wpe[positions]
    x = x + attn(ln_1(x));  x = x + mlp(ln_2(x))      (n_layer times)
    hidden = ln_f(x);  logits = hidden @ wte.T         (tied embeddings)

There is no dropout: a policy that answers differently each time it is asked has ratio π/π_old ≠ 1
before the first step. The value head and the reward head are separate modules, so that a policy's
weights are a plain GPT-2. Shapes: B sequences, T new tokens, S tokens seen so far (S ≥ T),
D = n_embd, H = n_head, V = vocab_size.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from rlhf_lab._checks import require, takes
from rlhf_lab._require import require_ids, require_room
from rlhf_lab.files import write_whole
from rlhf_lab.unembed import chosen_logprobs

_SIZES = {
    **dict.fromkeys(
        ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"), "count 1..10000000"
    ),
    "n_inner": "count 1..10000000 or None",
    "layer_norm_epsilon": "coefficient",
    "eos_token_id": "integer or None",
}


@dataclasses.dataclass(frozen=True, slots=True)
class GPT2Config:
    """Sizes of a GPT-2, under the names of Hugging Face's `config.json`."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    """Width of the MLP; None is GPT-2's 4 · n_embd."""
    layer_norm_epsilon: float = 1e-5
    eos_token_id: int | None = None

    def __post_init__(self) -> None:
        for name, spec in _SIZES.items():
            object.__setattr__(self, name, require(name, getattr(self, name), spec))
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")


class KVCache:
    """Keys and values of the tokens seen so far, so that each new token costs one position."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        """Keys and values of each layer, (B, H, S, D/H) each."""

    @property
    def length(self) -> int:
        """S, the number of tokens seen."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values, (B, H, T, D/H), and return all of them, (B, H, S, D/H)."""
        # New tensors instead of writing into old ones: autograd may still need those.
        if layer == len(self.layers):
            self.layers.append((k, v))
        else:
            past_k, past_v = self.layers[layer]
            self.layers[layer] = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        return self.layers[layer]


class Conv1D(nn.Module):
    """A linear layer with its weight stored (in, out), as GPT-2's checkpoints have it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)


class Attention(nn.Module):
    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer = config.n_head, layer
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, cache: KVCache | None, mask: Tensor | None) -> Tensor:
        B, T, D = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, D // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(D, dim=2)
        )  # (B, H, T, D/H) each
        causal = mask is None and T > 1
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        n_inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Conv1D(config.n_embd, n_inner)
        self.c_proj = Conv1D(n_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        # GPT-2 was trained with the tanh form; the exact GELU differs by up to 5e-4.
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cache: KVCache | None, mask: Tensor | None, last: int | None = None
    ) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, mask)
        if last is not None:
            x = x[:, -last:]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)


class GPT2(nn.Module):
    """A GPT-2 language model.

    Args:
        config: its sizes.
        generator: draws the initial weights as GPT-2's were, N(0, 0.02²), the projections back
            into the residual stream divided by √(2·n_layer). None uses torch's global state.

    >>> model = GPT2(GPT2Config(vocab_size=16, n_positions=6, n_embd=32, n_layer=2, n_head=2))
    >>> model(torch.tensor([[1, 7, 8]])).shape
    torch.Size([1, 3, 16])
    """

    @takes(config=GPT2Config, generator="generator or None")
    def __init__(self, config: GPT2Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        for name, parameter in self.named_parameters():
            if name.endswith(("c_proj.weight",)):
                std = 0.02 / math.sqrt(2 * config.n_layer)
                nn.init.normal_(parameter, std=std, generator=generator)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    @takes(result="finite")
    def forward(
        self, tokens: Tensor, cache: KVCache | None = None, *, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Logits of the next token at every position.

        Args:
            tokens: (B, T); with a cache, only the new ones.
            cache: what came before; it is extended by `tokens`.
            attention_mask: (B, S), 0 on padding: needed for padding on the left only, because
                padding on the right is never looked at.

        Returns:
            (B, T, V).
        """
        return self._unembed(self.hidden(tokens, cache, attention_mask=attention_mask))

    @takes(hidden="float (..., D)", result="finite")
    def logits(self, hidden: Tensor) -> Tensor:
        """Unembed: (..., D) -> (..., V), with the token embedding itself."""
        self._check_hidden(hidden)
        return self._unembed(hidden)

    def _unembed(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.transformer.wte.weight)

    def logprobs(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """log π of the chosen tokens, (..., D), (...) -> (...), without building all logits."""
        return chosen_logprobs(hidden, self.transformer.wte.weight, tokens)

    @takes(
        tokens="integers (B, T)",
        cache=KVCache | None,
        attention_mask="mask (B, S) or None",
        positions="integers (...) or None",
        mask=Tensor | None,
        last="count or None",
    )
    def hidden(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        *,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        last: int | None = None,
    ) -> Tensor:
        """The last hidden state, after `ln_f`: what the heads read.

        Args:
            tokens, cache, attention_mask: as in `forward`.
            positions: (T,) or (B, T), instead of counting on from the cache.
            mask: bool, broadcastable to (B, H, T, S), True where a new token may look, instead of
                the causal one. `rlhf_lab.tree` uses both to walk all children of a node at once.
            last: return this many positions only; the final MLP is then spared the others.

        Returns:
            (B, T, D), or (B, last, D).

        Raises:
            ValueError: wrong shapes or dtype, token ids outside the vocabulary, too many tokens,
                two masks.
        """
        past = cache.length if cache else 0
        T = self._check(tokens, past, positions)
        self._check_options(tokens, cache, mask, last)
        if attention_mask is not None:
            if mask is not None:
                raise ValueError("give attention_mask or mask: one of them would be ignored")
            counted, mask = _left_padding(attention_mask, tokens, past)
            positions = counted if positions is None else positions
        if mask is None and past and T > 1:
            mask = torch.ones(T, past + T, dtype=torch.bool, device=tokens.device).tril(past)
        wpe = self.transformer.wpe
        places = wpe.weight[past : past + T] if positions is None else wpe(positions)
        x = self.transformer.wte(tokens) + places
        *blocks, final = self.transformer.h
        for block in blocks:
            x = block(x, cache, mask)
        return self.transformer.ln_f(final(x, cache, mask, last))

    def _check(self, tokens: Tensor, past: int, positions: Tensor | None) -> int:
        B, T = tokens.shape
        if not B:
            raise ValueError(f"tokens must have shape (B, T), not empty; got {(B, T)}")
        if tokens.device != self.transformer.wte.weight.device:
            raise ValueError(
                f"tokens are on {tokens.device} and the model on "
                f"{self.transformer.wte.weight.device}; move one of them with .to(device)"
            )
        require_ids("tokens", tokens, self.config.vocab_size)
        end = past + T
        if positions is not None:
            if tuple(positions.shape) not in ((T,), (B, T)):
                raise ValueError(
                    f"positions must have shape (T,) = {(T,)} or (B, T) = {(B, T)}, got "
                    f"{tuple(positions.shape)}"
                )
            low, high = (int(x) for x in positions.aminmax())
            if low < 0:
                raise ValueError(f"positions must count from 0, got {low}")
            end = high + 1
        require_room(end, self.config.n_positions)
        return T

    def _check_options(
        self, tokens: Tensor, cache: KVCache | None, mask: Tensor | None, last: int | None
    ) -> None:
        B, T = tokens.shape
        if last is not None and last > T:
            raise ValueError(f"last must be a whole number in 1..{T} for {T} tokens, got {last}")
        if cache is not None and cache.layers:
            shapes = {tuple(x.shape[:2]) for layer in cache.layers for x in layer}
            if shapes != {(B, self.config.n_head)} or len(cache.layers) != self.config.n_layer:
                raise ValueError(
                    f"the cache of {len(cache.layers)} layers holds keys of (B, H) = {shapes}, and "
                    f"tokens {(B, T)} need {(B, self.config.n_head)} in {self.config.n_layer}; "
                    "start with an empty KVCache"
                )
        if mask is None:
            return
        seen = B, self.config.n_head, T, T + (cache.length if cache else 0)
        fits = (
            mask.layout is torch.strided
            and 2 <= mask.dim() <= 4
            and all(
                size in (1, whole)
                for size, whole in zip(mask.shape[::-1], seen[::-1], strict=False)
            )
        )
        if mask.dtype != torch.bool or not fits:
            raise ValueError(
                f"mask must be bool and broadcast to (B, H, T, S) = {seen}, got {mask.dtype} of "
                f"shape {tuple(mask.shape)}"
            )
        if not mask.is_meta and not mask.any(dim=-1).all():
            raise ValueError("mask lets some token look nowhere; let each see at least itself")

    def _check_hidden(self, hidden: Tensor) -> None:
        weight = self.transformer.wte.weight
        if hidden.shape[-1] != weight.shape[1] or hidden.dtype != weight.dtype:
            raise ValueError(
                f"hidden must have shape (..., D = {weight.shape[1]}) in {weight.dtype}, as this "
                f"model's hidden states have, got {tuple(hidden.shape)} in {hidden.dtype}"
            )

    @takes(directory=str | os.PathLike)
    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` as Hugging Face's `GPT2LMHeadModel` does."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            **dataclasses.asdict(self.config),
            **_HF_FIXED,
            "bos_token_id": self.config.eos_token_id,
        }
        config |= {
            "architectures": ["GPT2LMHeadModel"],
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }
        write_whole(directory / "config.json", json.dumps(config, indent=2).encode() + b"\n")
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        write_whole(directory / "model.safetensors", save(tensors, metadata={"format": "pt"}))

    @classmethod
    @takes(directory=str | os.PathLike)
    def from_pretrained(cls, directory: str | Path) -> Self:
        """Load a `GPT2LMHeadModel` folder: `config.json` and `model.safetensors`.

        Raises:
            ValueError: a file is missing or broken, the architecture differs from GPT-2's, or
                the weights do not fit the sizes in `config.json`.
        """
        directory = Path(directory)
        try:
            settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            tensors = load_file(directory / "model.safetensors")
            if not isinstance(settings, dict):
                raise ValueError("config.json holds no settings")
        except (OSError, ValueError, SafetensorError) as error:  # broken JSON is a ValueError
            raise ValueError(
                f"{directory} is no GPT-2 folder: it needs a readable config.json and "
                f"model.safetensors ({error})"
            ) from error
        for key, expected in _HF_FIXED.items():
            if settings.get(key, expected) != expected:
                raise ValueError(
                    f"{directory}: {key} is {settings[key]!r}, only {expected!r} is GPT-2"
                )
        names = {field.name for field in dataclasses.fields(GPT2Config)}
        try:
            model = cls(GPT2Config(**{k: v for k, v in settings.items() if k in names}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{directory}: config.json makes no GPT-2: {error}") from error
        # The first GPT-2 uploads lack the prefix, and carry the causal mask and the tied lm_head.
        tensors = {
            name if name.startswith("transformer.") else f"transformer.{name}": t
            for name, t in tensors.items()
            if not name.endswith((".attn.bias", ".attn.masked_bias")) and name != "lm_head.weight"
        }
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{directory}: the weights do not fit config.json: {error}") from error
        return model


_HF_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def _left_padding(attention_mask: Tensor, tokens: Tensor, past: int) -> tuple[Tensor, Tensor]:
    """Positions that start at the first real token, and a causal mask that hides the padding."""
    B, T = tokens.shape
    S = past + T
    if attention_mask.shape != (B, S):  # a shorter one would broadcast, and show the padding
        raise ValueError(
            f"attention_mask {tuple(attention_mask.shape)} must cover the cached and the new "
            f"tokens, (B, S) = {(B, S)}"
        )
    real = attention_mask.bool()
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)[:, -T:]  # (B, T)
    causal = torch.ones(T, S, dtype=torch.bool, device=tokens.device).tril(S - T)
    itself = torch.eye(S, dtype=torch.bool, device=tokens.device)[-T:]  # no row may be empty
    return positions, ((causal & real[:, None, :]) | itself).unsqueeze(1)  # (B, 1, T, S)


class ScalarHead(nn.Module):
    """One number per hidden state: the value head of a policy, the reward head of a reward model.

    It starts at 0: a critic without opinions, which leaves the first advantages unbiased.
    """

    @takes(n_embd="count 1..10000000")
    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.summary = nn.Linear(n_embd, 1)
        nn.init.zeros_(self.summary.weight)
        nn.init.zeros_(self.summary.bias)

    @takes(hidden="float (..., D)", result="finite")
    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (...)."""
        weight = self.summary.weight
        if hidden.shape[-1] != weight.shape[-1] or hidden.dtype != weight.dtype:
            raise ValueError(
                f"hidden must have shape (..., D = {weight.shape[-1]}) in {weight.dtype}, as this "
                f"head reads them, got {tuple(hidden.shape)} in {hidden.dtype}"
            )
        return self.summary(hidden).squeeze(-1)
