"""One peer: the matrix products of a PPO iteration and nothing else. Run by `bench_ppo.py`.

Who computes the same thing with the same library cannot be faster, whatever else he saves. With
D = width, d = D / heads, V = vocab, B = batch, P = 2, T = 8, a pass over n new tokens of each
sequence that look at s tokens is, in each layer and with R = B · n rows,

    qkv     (R, D) @ (D, 3D)                        projection  (R, D) @ (D, D)
    scores  B·heads times (n, d) @ (d, s)           MLP         (R, D) @ (D, 4D)
    mix     B·heads times (n, s) @ (s, d)                       (R, 4D) @ (4D, D)

with the bias added in the same call, and in the end, for the positions that predict a response
token only, the vocabulary (rows, D) @ (D, V) and the policy's value head (rows, D) @ (D, 1).
An iteration is

    sampling    the prompt, n = s = P, then T − 1 single tokens, n = 1, s = P + 1 .. P + T − 1
    reference   one pass, n = s = P + T − 1
    update      4 x that pass of the policy, and two more products backward for each of its own

Not counted: norms, softmax, GELU, embeddings, gradients of biases, the draw, rewards, losses,
Adam. Nor is the causal half of the attention left out. The inputs are made beforehand; each
product returns a new tensor, as in any PyTorch program.
"""

from collections.abc import Callable
from functools import partial

import torch
from common import EPOCHS, PROMPT, RESPONSE, SEED, Setting, serve
from torch import Tensor

Call = Callable[[], Tensor]


def product(rows: int, inner: int, columns: int, *, backward: bool) -> list[Call]:
    """A linear layer with bias; backward, the gradients of its input and of its weight."""
    x, weight, bias = torch.randn(rows, inner), torch.randn(inner, columns), torch.randn(columns)
    calls = [partial(torch.addmm, bias, x, weight)]
    if backward:
        grad = torch.randn(rows, columns)
        calls += [partial(torch.mm, grad, weight.T), partial(torch.mm, x.T, grad)]
    return calls


def batched(count: int, rows: int, inner: int, columns: int, *, backward: bool) -> list[Call]:
    """`count` products of two activations; backward, the gradients of both."""
    a, b = torch.randn(count, rows, inner), torch.randn(count, inner, columns)
    calls = [partial(torch.bmm, a, b)]
    if backward:
        grad = torch.randn(count, rows, columns)
        calls += [partial(torch.bmm, grad, b.mT), partial(torch.bmm, a.mT, grad)]
    return calls


def model_pass(
    setting: Setting, new: int, seen: int, predicting: int, *, value: bool, backward: bool = False
) -> list[Call]:
    """All products of one pass; `predicting` of the new tokens predict a response token."""
    vocab, width, layers, heads, batch, _ = setting
    rows, calls = batch * new, []
    for _ in range(layers):
        calls += product(rows, width, 3 * width, backward=backward)
        calls += batched(batch * heads, new, width // heads, seen, backward=backward)
        calls += batched(batch * heads, new, seen, width // heads, backward=backward)
        calls += product(rows, width, width, backward=backward)
        calls += product(rows, width, 4 * width, backward=backward)
        calls += product(rows, 4 * width, width, backward=backward)
    calls += product(batch * predicting, width, vocab, backward=backward)
    if value:
        calls += product(batch * predicting, width, 1, backward=backward)
    return calls


def make(setting: Setting) -> tuple[Callable[[], list[Tensor]], int]:
    torch.manual_seed(SEED)
    calls = model_pass(setting, PROMPT, PROMPT, 1, value=True)
    for seen in range(PROMPT + 1, PROMPT + RESPONSE):
        calls += model_pass(setting, 1, seen, 1, value=True)
    length = PROMPT + RESPONSE - 1
    calls += model_pass(setting, length, length, RESPONSE, value=False)
    calls += EPOCHS * model_pass(setting, length, length, RESPONSE, value=True, backward=True)

    def iterate() -> list[Tensor]:
        for call in calls:
            call()
        return []

    return iterate, 0


if __name__ == "__main__":
    serve(make)
