"""Which tokens count: the response mask, its last token, and sums, means and whitening on it.

Every function here replaces what is off the mask instead of multiplying it by 0, because NaN · 0
is NaN: one bad number in the padding would otherwise poison a whole batch.
"""

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import NotFinite


@takes(responses="integers (B, T)", eos_id="integer or None")
def response_mask(responses: Tensor, eos_id: int | None) -> Tensor:
    """True on the tokens the policy chose: up to **and including** the first `<eos>`.

    The first `<eos>` is an action like any other: without it the policy would never learn to stop.
    What follows it is padding, also when the padding token is `<eos>` itself, as in GPT-2.

    Args:
        responses: token ids without the prompt, (B, T), integer.
        eos_id: the token that ends a response; None if responses have a fixed length.

    Returns:
        (B, T), bool.

    Raises:
        ValueError: `responses` is not a two-dimensional integer tensor.

    >>> eos = 0
    >>> response_mask(torch.tensor([[7, 9, eos, eos], [7, 9, 8, 7], [eos, 5, 5, eos]]), eos).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1],
            [1, 0, 0, 0]], dtype=torch.int32)
    """
    if eos_id is None:
        return torch.ones_like(responses, dtype=torch.bool)
    is_eos = responses == eos_id
    return (is_eos.cumsum(dim=1) - is_eos.long()) == 0  # no <eos> strictly before this token


@takes(x="float (B, T)", mask="rows (B, T)", result="finite")
def last_token(x: Tensor, mask: Tensor) -> Tensor:
    """The value of `x` at the last selected token of each row: where a reward model is read.

    Args:
        x: (B, T), such as the scalar that a reward head gives at every position.
        mask: (B, T), bool or 0/1; padding on either side does not matter.

    Returns:
        (B,), differentiable.

    Raises:
        ValueError: shapes differ, or a row of the mask selects nothing.

    >>> last_token(torch.tensor([[1.0, 2.0, 99.0], [1.0, 2.0, 3.0]]),
    ...            torch.tensor([[1, 1, 0], [1, 1, 1]]))
    tensor([2., 3.])
    """
    return x.gather(1, unchecked(last_index)(mask)).squeeze(1)


@takes(mask="rows (B, T)", scores="scores (B,)", result="finite")
def terminal_reward(scores: Tensor, mask: Tensor) -> Tensor:
    """One number per response as a reward per token: 0, …, 0, score, and 0 off the mask.

    A reward model judges a whole review, so nothing is known before its last token.

    Args:
        scores: (B,).
        mask: (B, T), bool or 0/1.

    Returns:
        (B, T), the score on the last selected token of each row.

    Raises:
        ValueError: shapes differ, or a row of the mask selects nothing.

    >>> terminal_reward(torch.tensor([4.0, -1.0]), torch.tensor([[1, 1, 0], [1, 1, 1]]))
    tensor([[ 0.,  4.,  0.],
            [ 0.,  0., -1.]])
    """
    rewards = scores.new_zeros(mask.shape)
    return rewards.scatter(1, unchecked(last_index)(mask), scores.unsqueeze(1))


@takes(mask="rows (B, T)")
def last_index(mask: Tensor) -> Tensor:
    """The position of the last selected token of each row of a mask, (B, T) -> (B, 1)."""
    return mask.shape[1] - 1 - mask.flip(dims=(1,)).int().argmax(dim=1, keepdim=True)


@takes(x="float (...)", mask="mask (...)", dim="integer or None", result="finite")
def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Σ of `x` over the mask, over all of it or along `dim`.

    Args:
        x: any shape.
        mask: same shape, bool or 0/1.
        dim: None for one number, else the dimension to sum away.

    >>> masked_sum(torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([1, 1, 0]))
    tensor(3.)
    """
    kept = x.masked_fill(~mask, 0.0)
    return kept.sum() if dim is None else kept.sum(_axis(dim, x))


@takes(x="float (...)", mask="mask (...)", dim="integer or None", result="finite")
def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of `x` over the mask: each token weighs the same, padding weighs nothing.

    Args:
        x: any shape.
        mask: same shape, bool or 0/1.
        dim: None for one number, else the dimension to average away.

    Raises:
        ValueError: nothing is selected (along `dim`), so there is no mean.

    >>> masked_mean(torch.tensor([[1.0, 3.0], [8.0, 99.0]]), torch.tensor([[1, 1], [1, 0]]))
    tensor(4.)
    """
    if dim is None:
        return unchecked(masked_sum)(x, mask) / mask.sum()
    count = mask.sum(_axis(dim, x))
    if not count.all():
        where = tuple((count == 0).nonzero()[0].tolist())
        raise ValueError(
            f"the mask selects nothing at index {where}: the mean of no token is undefined"
        )
    return unchecked(masked_sum)(x, mask, dim) / count


@takes(x="float (...)", mask="mask (...)", eps="coefficient", result="finite")
def masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Scale `x` to variance 1 over the mask, and to mean 0 if `shift_mean`; 0 off the mask.

    (x − m) / √(s² + eps), plus m again if not `shift_mean`, with the mean m and the unbiased
    variance s² (Bessel's n / (n − 1)) of the selected entries.

    Args:
        x: any shape, (B, T) in the loop.
        mask: same shape, bool or 0/1.
        shift_mean: False keeps the mean m, as TRL does for *rewards*. Neither choice leaves
            whitened rewards neutral to length: beside what it had, scaled by 1/s, each token gets
            −m/s if the mean is shifted, and m·(1 − 1/s) if it is kept.
        eps: added to the variance, so that equal entries become 0 and not NaN.

    Raises:
        ValueError: fewer than two entries are selected.

    Notes:
        TRL 0.11.4 forms n / (n − 1) in float32 (up to 6e-8 off in float64), answers NaN for one
        entry, and leaves numbers off the mask, which its optional reward whitening then counts.

    >>> masked_whiten(torch.tensor([1.0, 3.0, 99.0]), torch.tensor([1, 1, 0]))
    tensor([-0.7071,  0.7071,  0.0000])
    """
    if eps > torch.finfo(x.dtype).max:
        raise ValueError(f"eps is {eps}, too large for {x.dtype}; use 1e-8")
    n = int(mask.sum())
    if n < 2:
        raise ValueError(
            f"the mask selects {n} entries and a variance needs at least 2; "
            "use a larger batch or do not whiten"
        )
    mean = unchecked(masked_mean)(x, mask)
    centred = (x - mean).masked_fill(~mask, 0.0)
    variance = centred.square().sum() / (n - 1)
    if variance.isinf():
        raise NotFinite(
            "the variance of x", f"too large for {x.dtype}: rescale x, or use .double()"
        )
    whitened = centred * torch.rsqrt(variance + eps)
    return whitened if shift_mean else (whitened + mean).masked_fill(~mask, 0.0)


def _axis(dim: int, x: Tensor) -> int:
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be a dimension of x {tuple(x.shape)} or None, got {dim}")
    return dim
