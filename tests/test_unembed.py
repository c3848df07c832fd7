"""log π of chosen tokens, block by block, is what the definition says, in value and gradient."""

import pytest
import torch
from golden import normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_lab import unembed
from rlhf_lab.gpt2 import GPT2, GPT2Config
from rlhf_lab.unembed import BLOCK, chosen_logprobs, pick


def case(seed: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight = normal(seed, 2, 3, 4), normal(seed + 1, vocab_size, 4)
    tokens = torch.randint(vocab_size, (2, 3), generator=torch.Generator().manual_seed(seed))
    return hidden.requires_grad_(), weight.requires_grad_(), tokens


def definition(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    return pick((hidden @ weight.T).log_softmax(dim=-1), tokens)


@property_test
@given(seeds, st.integers(1, 13), st.integers(1, 5))
def test_any_number_of_blocks_gives_the_definition_and_its_gradient(seed, vocab_size, block):
    hidden, weight, tokens = case(seed, vocab_size)
    upstream = normal(seed + 2, 2, 3)
    expected = definition(hidden, weight, tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unembed, "BLOCK", block)
        ours = chosen_logprobs(hidden, weight, tokens)
        ours_grad = torch.autograd.grad(ours, (hidden, weight), upstream)
    assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    expected_grad = torch.autograd.grad(expected, (hidden, weight), upstream)
    assert_close(ours_grad, expected_grad, rtol=1e-11, atol=1e-12)


def test_logits_of_thousands_overflow_in_no_block():
    hidden, weight, tokens = case(0, 2 * BLOCK + 3)
    with torch.no_grad():
        weight[:: BLOCK - 1] *= 1e4
    ours = chosen_logprobs(hidden, weight, tokens)
    assert_close(ours, definition(hidden, weight, tokens))
    assert ours.min() < -1000
    assert all(x.isfinite().all() for x in torch.autograd.grad(ours.sum(), (hidden, weight)))


class Largest(TorchDispatchMode):
    """Watches the size of every tensor that any operation returns."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dim() == 2 and len(out) == 6:
            self.rows = max(self.rows, out.shape[1])
        return out


def test_neither_pass_ever_holds_the_logits_of_more_than_one_block():
    hidden, weight, tokens = case(0, 4 * BLOCK)
    with Largest() as largest:
        chosen_logprobs(hidden, weight, tokens).sum().backward()
    assert largest.rows == BLOCK


def test_a_gpt2_with_a_large_vocabulary_uses_it_on_its_tied_embedding():
    """The embedding has two gradients, of the token that comes in and of those that may go out."""
    model = GPT2(
        GPT2Config(BLOCK + 5, n_positions=4, n_embd=8, n_layer=1, n_head=2),
        torch.Generator().manual_seed(0),
    ).double()
    tokens = torch.tensor([[1, BLOCK + 4, 3], [7, 0, BLOCK]])
    grads = []
    for logprobs in (
        model.logprobs(model.hidden(tokens[:, :-1]), tokens[:, 1:]),
        pick(model(tokens[:, :-1]).log_softmax(dim=-1), tokens[:, 1:]),
    ):
        model.zero_grad()
        logprobs.sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert_close(*grads, rtol=1e-10, atol=1e-12)
