"""The five denominators, by hand and against each other."""

import pytest
import torch
from golden import masks, normal, property_test, seeds
from hypothesis import given
from torch.testing import assert_close

from rlhf_lab.aggregation import aggregate

HOWS = ("response", "batch", "tokens", "constant", "sum")


@property_test
@given(seeds, masks())
def test_against_loops(seed, mask):
    B, T = mask.shape
    losses = normal(seed, B, T)
    rows = [[losses[i, t].item() for t in range(T) if mask[i, t]] for i in range(B)]
    every, length, total = [x for row in rows for x in row], T + 2, T * B + 5
    wanted = {
        "response": sum(sum(row) / len(row) for row in rows) / B,
        "batch": sum(every) / len(every),
        "tokens": sum(every) / total,
        "constant": sum(every) / (B * length),
        "sum": sum(every) / B,
    }
    for how in HOWS:
        bad = losses.masked_fill(~mask, torch.nan)
        got = aggregate(bad, mask, how, total=total, length=length)
        assert got.item() == pytest.approx(wanted[how], abs=1e-12)


def test_what_a_token_weighs():
    """The bias: the same token counts less in a long response, in a long batch, or never."""
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    weight = {}
    for how in HOWS:
        losses = torch.zeros(2, 4, requires_grad=True)
        aggregate(losses, mask, how, total=20, length=4).backward()
        assert not losses.grad[0, 1:].any()
        weight[how] = (losses.grad[0, 0] / losses.grad[1, 0]).item()
    assert weight == {"response": 4, "batch": 1, "tokens": 1, "constant": 1, "sum": 1}
    longer = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])
    first = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    moved = {
        how: aggregate(first, longer, how, total=20, length=4).item()
        / aggregate(first, mask, how, total=20, length=4).item()
        for how in HOWS
    }
    assert moved == pytest.approx(
        {"response": 1, "batch": 5 / 3, "tokens": 1, "constant": 1, "sum": 1}
    )


def test_an_empty_row_adds_nothing_but_counts_as_a_row():
    losses, mask = torch.ones(2, 3), torch.tensor([[0, 0, 0], [1, 1, 1]])
    got = {how: aggregate(losses, mask, how, total=6, length=3).item() for how in HOWS}
    assert got == {"response": 0.5, "batch": 1, "tokens": 0.5, "constant": 0.5, "sum": 1.5}


def test_all_is_one_if_all_are_as_long_as_the_limit():
    losses, mask = normal(0, 3, 4), torch.ones(3, 4)
    same = [aggregate(losses, mask, how, total=12, length=4) for how in HOWS[:4]]
    assert_close(torch.stack(same), losses.mean().expand(4))
    assert_close(aggregate(losses, mask, "sum"), 4 * losses.mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "tokens"}, 'how = "tokens" needs total, the tokens of the whole generation'),
        ({"how": "constant"}, 'how = "constant" needs length, the most tokens'),
        ({"how": "constant", "length": 2}, "row 1 of the mask has 3 tokens, more than length = 2"),
        ({"how": "tokens", "total": 0}, "total must be finite and > 0, got 0"),
        ({"how": "constant", "length": 0}, "length must be a whole number >= 1, got 0"),
        ({"how": "mean"}, "how must be one of .*'response', 'batch', .*, got 'mean'"),
        ({"mask": torch.zeros(2, 3)}, "the mask selects nothing: there is no token"),
        ({"mask": torch.ones(1, 3)}, r"mask must have shape .* got \(1, 3\)"),
        ({"losses": torch.ones(0, 3), "mask": torch.ones(0, 3)}, "the mask selects nothing"),
        ({"losses": torch.full((2, 3), torch.nan)}, "losses is nan at row 0"),
    ],
)
def test_bad_calls_are_refused_in_words(change, message):
    given = {"losses": torch.ones(2, 3), "mask": torch.tensor([[1, 0, 0], [1, 1, 1]])}
    with pytest.raises(ValueError, match=message):
        aggregate(**given | change)
