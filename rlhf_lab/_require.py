"""What values must be, whatever function they are given to: finite, in a vocabulary, a mask."""

import math
import numbers
import reprlib
from typing import Any

import torch
from torch import Tensor

FLOATS = torch.float32, torch.float64


class NotFinite(ValueError, FloatingPointError):
    """A number is NaN or infinite. The first argument, `what`, names it; training reports it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail

    def __str__(self) -> str:
        return f"{self.what} is {self.detail}"


def said(value: Any) -> str:
    """A value in an error: short, whatever it is."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, str | bytes | numbers.Number | None):
        try:
            return reprlib.repr(value)
        except ValueError:  # an integer of more digits than Python writes
            return "a number of more than 4,000 digits"
    return type(value).__name__


def require_float(name: str, x: Tensor) -> None:
    if x.dtype not in FLOATS:
        raise ValueError(
            f"{name} must hold numbers of torch.float32 or torch.float64, got {x.dtype}; "
            f"use {name}.float()"
        )


def require_finite(
    name: str, tensor: Tensor, mask: Tensor | None = None, remedy: str = "", below: bool = False
) -> None:
    """Raise if `tensor` holds NaN or inf, or if `below` is allowed anything but −inf, on `mask`."""
    if tensor.numel() and not tensor.is_meta and _all_in_range(tensor.detach(), below):
        return
    bad = ~torch.isfinite(tensor)
    if below:
        bad &= tensor != -torch.inf
    if mask is not None:
        bad &= mask
    if not bad.is_meta and bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        value = tensor[where].item()
        place = f" at row {where[0]}" if where else ""
        place += "".join(f", position {i}" for i in where[1:])
        raise NotFinite(name, f"{value}{place}" + (f"; {remedy}" if remedy else ""))


def _all_in_range(x: Tensor, below: bool) -> bool:
    """Is no number NaN or too large? One pass over the numbers in place of four."""
    low, high = (float(end) for end in x.aminmax())  # both are NaN if any number is
    return high < math.inf and (below or low > -math.inf)


def require_ids(
    name: str, tokens: Tensor, vocab_size: int | None, beside: dict[str, Tensor] | None = None
) -> None:
    """Raise unless all token ids lie in the vocabulary, or are at least not negative."""
    if not tokens.numel() or tokens.is_meta:
        return
    low, high = (int(x) for x in tokens.aminmax())
    if low < 0 or (vocab_size is not None and high >= vocab_size):
        among = "0, 1, 2, …" if vocab_size is None else f"the vocabulary 0..{vocab_size - 1}"
        others = [f"{other} has {tuple(t.shape)}" for other, t in (beside or {}).items()]
        raise ValueError(
            f"{name}: token id {low if low < 0 else high} is outside {among}"
            + (f": {', '.join(others)}" if others else "")
        )


def as_bool(name: str, mask: Tensor) -> Tensor:
    """A mask as bool. Integer and float masks (TRL's are integers) may hold only 0 and 1."""
    if mask.dtype == torch.bool:
        return mask
    if mask.is_complex():
        raise ValueError(f"{name} must be bool, or hold 0 and 1, got {mask.dtype}")
    valid = ((mask == 0) | (mask == 1)).all()
    if not valid.is_meta and not valid:
        raise ValueError(
            f"{name} may hold only 0 and 1; it selects tokens, it does not weight them"
        )
    return mask.bool()


def require_rows(mask: Tensor) -> None:
    """Raise unless the batch is non-empty and every row of the (B, T) mask selects a token."""
    if mask.numel() == 0:
        raise ValueError(f"the batch is empty: mask has shape {tuple(mask.shape)}")
    filled = mask.any(dim=-1)
    if not filled.is_meta and not filled.all():
        row = int((~filled).nonzero()[0])
        raise ValueError(
            f"row {row} of the mask selects no token: an empty response has no last token to carry "
            "the score; drop the row, or keep <eos> inside the mask"
        )


def require_total(name: str, p: Tensor) -> None:
    """Raise unless these probabilities add up to 1."""
    total = p.detach().sum()
    if not total.is_meta and not abs(float(total) - 1) < 1e-3:
        raise ValueError(
            f"{name} must be log-probabilities whose probabilities add up to 1, not to "
            f"{float(total):.4g}; normalise with {name}.log_softmax(-1)"
        )


def require_distribution(name: str, logprobs: Tensor) -> None:
    """Raise if a log-probability is above 0, or if a row forbids everything."""
    top = logprobs.detach().amax(dim=-1)
    if ((top <= 1e-3) & (top > -torch.inf)).all():
        return
    require_finite(
        name, logprobs, remedy="log-probabilities must be finite, or −inf if impossible", below=True
    )
    raise ValueError(
        f"{name} must hold log-probabilities, which are never above 0 and not −inf for everything, "
        f"got {logprobs.amax().item():.4g}; normalise with .log_softmax(-1)"
    )


def require_room(
    tokens: int, n_positions: int, shorten: str = "the prompt or the response"
) -> None:
    """Raise if a GPT-2 has fewer positions than it would have to read."""
    if tokens > n_positions:
        raise ValueError(
            f"{tokens} tokens do not fit into n_positions = {n_positions}; shorten {shorten}"
        )


def require_device(device: Any) -> torch.device:
    """The device of this name; raise unless this machine has it."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'device {said(device)} cannot be used ({str(error).splitlines()[0]}); use "cpu", or '
            '"cuda" with an NVIDIA GPU and a CUDA build of torch '
            "(`python -m rlhf_lab doctor` tells)"
        ) from error
    return found
