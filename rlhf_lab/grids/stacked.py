"""E GPT-2s of one size as one model: the ensemble is the leading dimension of every weight.

The rows of a batch are those of run 0, then those of run 1, and so on: (E · B, T). Attention, GELU
and the KV cache work row by row and are `rlhf_lab.gpt2`'s own; only the layers with weights are
replaced, by ones that give each run's rows its own. So E models cost as many calls as one, and a
gradient of one run never meets another's.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlhf_lab._checks import takes
from rlhf_lab.gpt2 import GPT2, Conv1D, KVCache, ScalarHead


class _Stacked(nn.Module):
    """E copies of a layer, each of its parameters with a leading dimension E."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, runs: int) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters():
            copies = parameter.detach().expand(runs, *parameter.shape).clone()
            setattr(self, name, nn.Parameter(copies))

    def by_run(self, x: Tensor) -> Tensor:
        """(E · B, …, D) -> (E, B · …, D)."""
        return x.reshape(len(self.weight), -1, x.shape[-1])


class _StackedLinear(_Stacked):
    """(E, in, out): y = x W + b, as in `Conv1D`."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.baddbmm(self.bias.unsqueeze(1), self.by_run(x), self._matrix())
        return y.view(*x.shape[:-1], -1)

    def _matrix(self) -> Tensor:
        return self.weight


class _StackedTransposed(_StackedLinear):
    """(E, out, in), as in `nn.Linear`."""

    def _matrix(self) -> Tensor:
        return self.weight.transpose(1, 2)


class _StackedLayerNorm(_Stacked):
    def __init__(self, layer: nn.LayerNorm, runs: int) -> None:
        super().__init__(layer, runs)
        self.shape, self.eps = layer.normalized_shape, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        normal = self.by_run(F.layer_norm(x, self.shape, eps=self.eps))
        return torch.addcmul(self.bias.unsqueeze(1), normal, self.weight.unsqueeze(1)).view_as(x)


class _StackedEmbedding(_Stacked):
    def forward(self, tokens: Tensor) -> Tensor:
        E, V, _ = self.weight.shape
        # One table of E · V rows: the token 0 of run e is its row e · V.
        rows = tokens.reshape(E, -1) + V * torch.arange(E, device=tokens.device).unsqueeze(1)
        return F.embedding(rows, self.weight.flatten(0, 1)).view(*tokens.shape, -1)


def _stack(module: nn.Module, runs: int) -> None:
    """Replace every layer with weights, in place."""
    for name, child in module.named_children():
        match child:
            case Conv1D():
                setattr(module, name, _StackedLinear(child, runs))
            case nn.Linear():
                setattr(module, name, _StackedTransposed(child, runs))
            case nn.LayerNorm():
                setattr(module, name, _StackedLayerNorm(child, runs))
            case nn.Embedding():
                setattr(module, name, _StackedEmbedding(child, runs))
            case _:
                _stack(child, runs)


@takes(head=ScalarHead, runs="count 1..100000")
def stack_head(head: ScalarHead, runs: int) -> ScalarHead:
    """E value heads as one: (E · B, T, D) -> (E · B, T)."""
    head = copy.deepcopy(head)
    _stack(head, runs)
    return head


class StackedGPT2(nn.Module):
    """E copies of a policy, from here on each with weights of its own.

    Its parameters have the names of the GPT-2's: `model.load_state_dict` of one slice of them
    takes a run out again. Token ids are not checked, since that would make the CPU wait for a GPU:
    they must be below the model's vocab_size.

    >>> from rlhf_lab.gpt2 import GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=16, n_positions=6, n_embd=32, n_layer=2, n_head=2))
    >>> tokens = torch.tensor([[1, 7, 8], [2, 3, 3]])
    >>> both = StackedGPT2(model, runs=2)
    >>> both.logits(both.hidden(tokens)).shape, both.transformer.ln_f.weight.shape
    (torch.Size([2, 3, 16]), torch.Size([2, 32]))
    """

    @takes(model=GPT2, runs="count 1..100000")
    def __init__(self, model: GPT2, runs: int) -> None:
        super().__init__()
        self.runs = runs
        self.transformer = copy.deepcopy(model.transformer)
        _stack(self.transformer, runs)

    def hidden(
        self, tokens: Tensor, cache: KVCache | None = None, *, last: int | None = None
    ) -> Tensor:
        """As `GPT2.hidden`: (E · B, T) -> (E · B, T, D); with a cache that is not empty, T = 1."""
        past = cache.length if cache else 0
        T = tokens.shape[1]
        words = self.transformer.wte(tokens)
        places = self.transformer.wpe.weight[:, past : past + T]  # (E, T, D)
        x = (words.view(self.runs, -1, T, words.shape[-1]) + places.unsqueeze(1)).view_as(words)
        *blocks, final = self.transformer.h
        for block in blocks:
            x = block(x, cache, None)
        return self.transformer.ln_f(final(x, cache, None, last))

    def logits(self, hidden: Tensor) -> Tensor:
        """Unembed with each run's own embedding: (E · B, …, D) -> (E · B, …, V)."""
        wte = self.transformer.wte.weight
        by_run = hidden.reshape(self.runs, -1, hidden.shape[-1])
        return torch.bmm(by_run, wte.transpose(1, 2)).view(*hidden.shape[:-1], -1)
