"""What several test files share: the golden cases of TRL, and random batches."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from rlhf_lab.masking import masked_mean, masked_whiten

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "trl_golden.json").read_text(encoding="utf-8"))["cases"]
USED: set[str] = set()
"""The cases that some test asked for, filled while pytest collects."""

with np.load(DATA / "trl_golden.npz", allow_pickle=False) as _file:
    _ARRAYS = dict(_file)


class Case(NamedTuple):
    """One call into TRL 0.11.4; see tests/data/README.md for its origin."""

    params: dict
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def use(*prefixes: str, without: tuple[str, ...] = ()) -> list[str]:
    """The names of the cases that start so, recorded as used."""
    names = [name for name in CASES if name.startswith(prefixes) and name not in without]
    assert names, f"no golden case starts with {prefixes}"
    USED.update(names)
    return names


def load(name: str) -> Case:
    """A golden case as fresh tensors, in the precision that TRL computed in."""

    def tensors(side: str) -> dict[str, Tensor]:
        return {key: torch.tensor(_ARRAYS[f"{name}/{side}/{key}"]) for key in CASES[name][side]}

    return Case(CASES[name]["params"], tensors("in"), tensors("out"))


def assert_agrees(ours: Tensor, trl: Tensor, mask: Tensor | None = None) -> None:
    """Equal to the last digits of TRL's precision, at the unmasked positions."""
    if mask is not None:
        ours, trl = ours[mask.bool()], trl[mask.bool()]
    tolerance = 1e-12 if trl.dtype == torch.float64 else 1e-5
    assert_close(ours, trl, rtol=tolerance, atol=tolerance, check_dtype=False)


def trl_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance with TRL's n / (n − 1): a float32 unless the mask is a float64."""
    n = mask.sum()
    bessel = n / (n - 1)
    assert bessel.dtype == (torch.float64 if mask.dtype == torch.float64 else torch.float32)
    return x[mask.bool()].var(correction=0) * bessel


def trl_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Our whitening, with nothing changed but the Bessel factor. 0 off the mask."""
    exact, rounded = x[mask.bool()].var(), trl_variance(x, mask)
    white = masked_whiten(x, mask) * torch.sqrt((exact + 1e-8) / (rounded + 1e-8))
    return white if shift_mean else (white + masked_mean(x, mask)) * mask


property_test = settings(derandomize=True, deadline=None, max_examples=30)
"""For tests with `@given`: the same examples in every run, so that red means a change."""

seeds = st.integers(0, 2**31 - 1)


@st.composite
def masks(draw, max_rows: int = 4, max_tokens: int = 6) -> Tensor:
    """A (B, T) bool mask with at least one token per row: padding left and right, and holes."""
    rows, tokens = draw(st.integers(1, max_rows)), draw(st.integers(1, max_tokens))
    row = st.lists(st.booleans(), min_size=tokens, max_size=tokens).filter(any)
    return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)))


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_logprobs(seed: int, *shape: int) -> Tensor:
    """Log-probabilities of random policies, normalised over the last dimension, in float64."""
    return (1.5 * normal(seed, *shape)).log_softmax(dim=-1)
