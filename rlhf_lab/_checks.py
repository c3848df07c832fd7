"""Validation shared by the public functions: each error names value, row and remedy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def require_rank(name: str, tensor: Tensor, rank: int, axes: str) -> tuple[int, ...]:
    """Return the shape of `tensor`; raise unless it is one with `rank` dimensions."""
    if not isinstance(tensor, Tensor) or tensor.dim() != rank:
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(f"{name} must have shape {axes.rstrip(',')}, got {got}")
    return tuple(tensor.shape)


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], axes: str) -> None:
    """Raise unless `tensor` has exactly `shape`; `axes` names it in words, such as "(B, T)"."""
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"{name} must be a torch.Tensor of shape {axes}, got {type(tensor).__name__}"
        )
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {axes} = {shape}, got {tuple(tensor.shape)}")


def require_same_device(**tensors: Tensor) -> None:
    """Raise unless all tensors live on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(
            f"tensors must be on one device, got {devices}; move them with .to(device)"
        )


def require_finite(name: str, tensor: Tensor, mask: Tensor | None = None, remedy: str = "") -> None:
    """Raise if `tensor` holds NaN or inf where `mask` (default: everywhere) is true."""
    bad = ~torch.isfinite(tensor)
    if mask is not None:
        bad &= mask
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        value = tensor[where].item()
        place = f"row {where[0]}" + "".join(f", position {i}" for i in where[1:])
        raise ValueError(f"{name} is {value} at {place}" + (f"; {remedy}" if remedy else ""))


def require_coefficient(name: str, value: float) -> float:
    """Return `value` as a float; raise unless it is finite and not negative."""
    value = float(value)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number >= 0, got {value}")
    return value


def as_mask(mask: Tensor, shape: tuple[int, ...], axes: str = "(B, T)") -> Tensor:
    """Return `mask` as bool. Integer and float masks (TRL's are integers) may hold only 0 and 1."""
    require_shape("mask", mask, shape, axes)
    if mask.dtype == torch.bool:
        return mask
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask may hold only 0 and 1; it selects tokens, it does not weight them")
    return mask.bool()


def require_rows(mask: Tensor) -> None:
    """Raise unless the batch is non-empty and every row of the (B, T) mask selects a token."""
    if mask.numel() == 0:
        raise ValueError(f"the batch is empty: mask has shape {tuple(mask.shape)}")
    filled = mask.any(dim=-1)
    if not filled.all():
        row = int((~filled).nonzero()[0])
        raise ValueError(
            f"row {row} of the mask selects no token: an empty response has no last token to carry "
            "the score; drop the row, or keep <eos> inside the mask"
        )


def require_tables(
    logprobs: Sequence[Tensor], scores: Sequence[Tensor] | None = None, **others: Sequence[Tensor]
) -> None:
    """Raise unless all are tables of one tree, laid out as `rlhf_lab.exact` says."""
    V = logprobs[0].shape[-1]
    full = [((V - 1) ** t, V) for t in range(len(logprobs))]
    ends = [*((rows, 1) for rows, _ in full[:-1]), full[-1]]
    named = {"logprobs": logprobs, **others} | ({} if scores is None else {"scores": scores})
    for name, tables in named.items():
        wanted, shapes = ends if name == "scores" else full, [tuple(x.shape) for x in tables]
        if shapes != wanted:
            raise ValueError(f"{name} must be tables of shapes {wanted}, got {shapes}")
