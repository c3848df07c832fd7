"""A mask is a subset: nothing off it may change a number, and nothing on it may be lost."""

import pytest
import torch
from golden import masks, normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.masking import (
    last_token,
    masked_mean,
    masked_sum,
    masked_whiten,
    response_mask,
    terminal_reward,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ([7, 9, 0, 5, 5], [1, 1, 1, 0, 0]),
        ([7, 9, 0, 0, 0], [1, 1, 1, 0, 0]),  # GPT-2 pads with <eos>
        ([7, 9, 8, 7, 6], [1, 1, 1, 1, 1]),  # never stopped
        ([7, 9, 8, 7, 0], [1, 1, 1, 1, 1]),  # stopped on the last token
        ([0, 7, 0, 9, 8], [1, 0, 0, 0, 0]),  # said nothing: <eos> is still an action
    ],
)
def test_mask_ends_with_the_first_eos_included(response, expected):
    """With <eos> left out, the policy is never taught to stop."""
    mask = response_mask(torch.tensor([response]), eos_id=0)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [expected]


@property_test
@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_response_mask_equals_reading_token_by_token(responses):
    expected = []
    for response in responses:
        length = response.index(0) + 1 if 0 in response else len(response)
        expected.append([t < length for t in range(len(response))])
    assert response_mask(torch.tensor(responses), eos_id=0).tolist() == expected


@property_test
@given(masks(), seeds, st.sampled_from([NAN, INF, 1e30]))
def test_the_last_token_is_read_and_paid_whatever_pads_the_row(mask, seed, junk):
    x = normal(seed, *mask.shape).masked_fill(~mask, junk)
    last = [chosen.nonzero()[-1].item() for chosen in mask]
    assert last_token(x, mask).tolist() == [row[i].item() for row, i in zip(x, last, strict=True)]

    scores = normal(seed, len(mask))
    rewards = terminal_reward(scores, mask)
    assert_close(rewards.sum(dim=1), scores)
    assert not rewards[~mask].any()
    assert_close(last_token(rewards, mask), scores)


def test_without_an_eos_every_token_counts():
    assert response_mask(torch.tensor([[0, 1], [2, 0]]), eos_id=None).all()


@property_test
@given(masks(), seeds, st.sampled_from([NAN, INF, -INF, 1e30]))
def test_mask_equals_subset(mask, seed, junk):
    """Multiplying by the mask instead of replacing lets one NaN in the padding through."""
    x = normal(seed, *mask.shape).masked_fill(~mask, junk)
    subset, rows = x[mask], [row[chosen] for row, chosen in zip(x, mask, strict=True)]

    assert_close(masked_sum(x, mask), subset.sum())
    assert_close(masked_mean(x, mask), subset.mean())
    assert_close(masked_sum(x, mask, dim=1), torch.stack([row.sum() for row in rows]))
    assert_close(masked_mean(x, mask, dim=1), torch.stack([row.mean() for row in rows]))
    if len(subset) > 1:
        white = masked_whiten(x, mask)
        assert_close(white[mask], (subset - subset.mean()) / (subset.var() + 1e-8).sqrt())
        assert (white[~mask] == 0).all()
        kept = masked_whiten(x, mask, shift_mean=False)
        assert_close(kept, (white + subset.mean()) * mask)


@property_test
@given(masks(), seeds)
def test_gradients_are_those_of_the_subset(mask, seed):
    x = normal(seed, *mask.shape).masked_fill(~mask, NAN).requires_grad_()
    alone = x.detach()[mask].requires_grad_()

    (masked_mean(x, mask) + 2 * masked_sum(x, mask)).backward()
    (alone.mean() + 2 * alone.sum()).backward()
    if len(alone) > 1:
        masked_whiten(x, mask)[mask].pow(3).sum().backward()
        ((alone - alone.mean()) / (alone.var() + 1e-8).sqrt()).pow(3).sum().backward()

    assert_close(x.grad[mask], alone.grad)
    assert (x.grad[~mask] == 0).all()


@property_test
@given(masks(), st.sampled_from([torch.int64, torch.int32, torch.float32, torch.float64]))
def test_any_dtype_of_zeros_and_ones_is_the_same_mask(mask, dtype):
    x = normal(0, *mask.shape)
    assert torch.equal(masked_mean(x, mask.to(dtype)), masked_mean(x, mask))


def test_means_of_other_libraries():
    """tests/test_core.py of TRL and tests/torchtune/rlhf/test_rewards.py of torchtune."""
    x, middle = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 1, 1, 0])
    assert masked_mean(x, middle) == 2.5
    assert_close(masked_whiten(x, middle), torch.tensor([0.0, -(0.5**0.5), 0.5**0.5, 0.0]))
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 5.0, 6.0]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    assert masked_mean(x[0], mask[0]) == 2
    assert masked_mean(x, mask, dim=1).tolist() == [2, 5]


@property_test
@given(seeds, st.floats(0.1, 100), st.floats(-100, 100))
def test_whitening_forgets_scale_and_shift(seed, scale, shift):
    """TRL's test of whitening compares sums, which are 0 whatever the variance is."""
    x = normal(seed, 4, 5)
    mask = normal(seed + 1, 4, 5) > -0.5
    white = masked_whiten(x, mask, eps=0)
    assert_close(masked_mean(white, mask).item(), 0.0, rtol=0, atol=1e-12)
    assert_close(white[mask].var().item(), 1.0)
    assert_close(masked_whiten(scale * x + shift, mask, eps=0), white)
    kept = masked_whiten(x, mask, shift_mean=False, eps=0)
    assert_close(masked_mean(kept, mask), masked_mean(x, mask))
    assert_close(kept[mask].var().item(), 1.0)


def test_equal_numbers_whiten_to_zero_and_not_to_nan():
    white = masked_whiten(torch.full((2, 3), 2.5), torch.ones(2, 3))
    assert (white == 0).all()


X = torch.zeros(2, 3)
MASK_OF_ROW_0 = torch.tensor([[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: response_mask(X, 0), r"integer token ids of shape \(B, T\), got torch.float32"),
        (lambda: response_mask(X[0].long(), 0), r"responses must have shape \(B, T\), got \(3,\)"),
        (lambda: masked_sum(X, X[0]), r"mask must have shape .* \(2, 3\), got \(3,\)"),
        (lambda: masked_sum(X, [[1, 1, 1]] * 2), r"mask must be a torch.Tensor .* got list"),
        (lambda: masked_mean(X, X + 0.5), "only 0 and 1; it selects tokens, it does not weight"),
        (lambda: masked_mean(X, X + NAN), "only 0 and 1"),
        (lambda: masked_whiten(X, X.long() + 2), "only 0 and 1"),
        (lambda: masked_mean(X, X), "selects nothing: the mean of no token is undefined"),
        (lambda: masked_mean(X, MASK_OF_ROW_0, dim=1), r"nothing at index \(1,\)"),
        (lambda: masked_mean(X[:0], X[:0]), "selects nothing"),
        (lambda: last_token(X, MASK_OF_ROW_0), "row 1 of the mask selects no token"),
        (lambda: last_token(X[0], MASK_OF_ROW_0), r"x must have shape \(B, T\)"),
        (lambda: terminal_reward(X[:, 0], MASK_OF_ROW_0), "row 1 of the mask selects no token"),
        (lambda: terminal_reward(X, X == X), r"scores must have shape \(B,\) = \(2,\), got"),
        (lambda: masked_whiten(X, X), "selects 0 entries .* use a larger batch or do not whiten"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_token_is_too_few_to_whiten():
    """TRL 0.11.4 answers NaN, which then reaches every advantage of the batch."""
    one = torch.tensor([[0, 0, 1]])
    with pytest.raises(ValueError, match="selects 1 entries and a variance needs at least 2"):
        masked_whiten(normal(0, 1, 3), one)
    assert masked_mean(torch.tensor([[NAN, INF, 3.0]]), one) == 3
