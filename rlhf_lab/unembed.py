"""log π of chosen tokens, without ever building the logits of all the others.

PPO looks at one token per position, so of the (N, V) logits it needs one column and the
normaliser. With GPT-2's vocabulary of 50,257 the matrix is larger than the model that makes it,
and writing it costs more time than computing it: here it exists one block of columns at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rlhf_lab._checks import takes, unchecked

BLOCK = 512
"""Columns at a time: this many columns of a thousand rows fit into a processor's own cache."""


@takes(logprobs="any (..., V)", tokens="ids (...)")
def pick(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """log π of the given tokens out of all: (..., V), (...) -> (...)."""
    return logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


@takes(hidden="float (..., D)", weight="float (V, D)", tokens="ids (...)", result="finite")
def chosen_logprobs(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """log π of the chosen tokens, in nats: log softmax(hidden @ weight.T) picked at `tokens`.

    log π(y) = z_y − log Σ_v exp z_v,  z_v = hidden · weight_v

    A vocabulary of one block is treated as the definition says. Of a larger one the backward pass
    computes the blocks a second time, which is cheaper than to keep them.

    Args:
        hidden: last hidden states, (..., D).
        weight: the unembedding, (V, D).
        tokens: ids in [0, V), (...).

    Returns:
        (...), differentiable once with respect to `hidden` and `weight`.

    >>> hidden, weight = torch.zeros(1, 2, 3), torch.ones(5, 3)
    >>> chosen_logprobs(hidden, weight, torch.tensor([[0, 4]]))  # five words, equally likely
    tensor([[-1.6094, -1.6094]])
    """
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden is {hidden.dtype}, weight {weight.dtype}; give both one dtype")
    if len(weight) <= BLOCK:
        return unchecked(pick)(F.linear(hidden, weight).log_softmax(dim=-1), tokens)
    flat: Tensor = _Chosen.apply(hidden.flatten(0, -2), weight, tokens.flatten())
    return flat.view(tokens.shape)


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
        parts = []
        for rows in weight.split(BLOCK):
            logits = hidden @ rows.T  # (N, BLOCK)
            highest = logits.amax(dim=1, keepdim=True)
            # torch.logsumexp would write two more blocks on the way.
            sums = logits.sub_(highest).exp_().sum(dim=1)
            parts.append(sums.log_() + highest.squeeze(1))
        normaliser = torch.stack(parts).logsumexp(dim=0)  # (N,)
        ctx.save_for_backward(hidden, weight, tokens, normaliser)
        return (hidden * weight[tokens]).sum(dim=1) - normaliser

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """d log π(y) / dz_v = 1[v = y] − π(v), block by block."""
        hidden, weight, tokens, normaliser = ctx.saved_tensors
        grad = grad.unsqueeze(1)  # (N, 1)
        grad_hidden, grad_weight = grad * weight[tokens], torch.empty_like(weight)
        for rows, grad_rows in zip(weight.split(BLOCK), grad_weight.split(BLOCK), strict=True):
            probs = (hidden @ rows.T).sub_(normaliser.unsqueeze(1)).exp_()  # (N, BLOCK)
            pull = probs.mul_(-grad)
            grad_hidden.addmm_(pull, rows)
            torch.mm(pull.T, hidden, out=grad_rows)
        return grad_hidden, grad_weight.index_add_(0, tokens, grad * hidden), None
