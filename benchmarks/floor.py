"""One peer: the matrix products of a PPO iteration and nothing else. Run by `bench_ppo.py`.

No program that computes the same with the same library can be faster. Let D = width,
d = D / heads, V = vocab, B = batch, and let P and T be the lengths of prompt and response. A pass
adds n new tokens, which look at s tokens, to each sequence. With R = B · n rows each layer makes

    qkv     (R, D) @ (D, 3D)                        projection  (R, D) @ (D, D)
    scores  B·heads times (n, d) @ (d, s)           MLP         (R, D) @ (D, 4D)
    mix     B·heads times (n, s) @ (s, d)                       (R, 4D) @ (4D, D)

The bias is added in the same call. Only some of the new tokens predict a token of the response, so
the last layer makes all products but qkv for these alone. They are followed by the products with
the vocabulary, (rows, D) @ (D, V), and with the policy's value head, (rows, D) @ (D, 1). An
iteration consists of

    sampling    the prompt, n = s = P, then T − 1 single tokens, n = 1, s = P + 1 .. P + T − 1
    reference   one pass, n = s = P + T − 1
    update      4 x that pass of the policy, and two more products backward for each of its own

Each sampled token needs one row of the vocabulary's product, because the draw gives its log π.
Norms, softmax, GELU, embeddings, gradients of biases, the draw, rewards, losses and Adam are not
counted. Products that the causal mask makes useless are counted. All memory is allocated in
advance: at S3, allocating the logits takes as long as their product, and a program that works in
blocks need not do it.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from common import EPOCHS, PROMPT, SEED, Setting, serve
from torch import Tensor

Call = Callable[[], Tensor]


@cache
def memory(*shape: int) -> Tensor:
    """One tensor for all results of a shape, so that it is in the processor's cache more often."""
    return torch.empty(shape)


def into(product: Callable[..., Tensor], *factors: Tensor) -> Call:
    """A call that writes the product of the last two factors into allocated memory."""
    shape = *factors[-2].shape[:-1], factors[-1].shape[-1]
    return partial(product, *factors, out=memory(*shape))


def linear(rows: int, inner: int, columns: int, *, backward: bool) -> list[Call]:
    """A linear layer with bias; with `backward` also the gradients of its input and weight."""
    x, weight, bias = torch.randn(rows, inner), torch.randn(inner, columns), torch.randn(columns)
    calls = [into(torch.addmm, bias, x, weight)]
    if backward:
        grad = torch.randn(rows, columns)
        calls += [into(torch.mm, grad, weight.T), into(torch.mm, x.T, grad)]
    return calls


def unembedding(rows: int, width: int, vocab: int, *, backward: bool) -> list[Call]:
    """A linear layer without bias, whose weight is the transposed embedding."""
    x, embedding = torch.randn(rows, width), torch.randn(vocab, width)
    calls = [into(torch.mm, x, embedding.T)]
    if backward:
        grad = torch.randn(rows, vocab)
        calls += [into(torch.mm, grad, embedding), into(torch.mm, x.T, grad)]
    return calls


def batched(count: int, rows: int, inner: int, columns: int, *, backward: bool) -> list[Call]:
    """`count` products of two activations; with `backward` also the gradients of both."""
    a, b = torch.randn(count, rows, inner), torch.randn(count, inner, columns)
    calls = [into(torch.bmm, a, b)]
    if backward:
        grad = torch.randn(count, rows, columns)
        calls += [into(torch.bmm, grad, b.mT), into(torch.bmm, a.mT, grad)]
    return calls


def model_pass(
    setting: Setting, new: int, seen: int, predicting: int, *, value: bool, backward: bool = False
) -> list[Call]:
    """All products of one pass; `predicting` of the new tokens predict a response token."""
    width, heads, batch, calls = setting.width, setting.heads, setting.batch, []
    for n in [new] * (setting.layers - 1) + [predicting]:
        calls += linear(batch * new, width, 3 * width, backward=backward)
        calls += batched(batch * heads, n, width // heads, seen, backward=backward)
        calls += batched(batch * heads, n, seen, width // heads, backward=backward)
        calls += linear(batch * n, width, width, backward=backward)
        calls += linear(batch * n, width, 4 * width, backward=backward)
        calls += linear(batch * n, 4 * width, width, backward=backward)
    calls += unembedding(batch * predicting, width, setting.vocab, backward=backward)
    if value:
        calls += linear(batch * predicting, width, 1, backward=backward)
    return calls


def make(setting: Setting) -> tuple[Callable[[], list[Tensor]], list[Tensor]]:
    torch.manual_seed(SEED)
    calls = model_pass(setting, PROMPT, PROMPT, 1, value=True)
    for seen in range(PROMPT + 1, PROMPT + setting.response):
        calls += model_pass(setting, 1, seen, 1, value=True)
    length = PROMPT + setting.response - 1
    calls += model_pass(setting, length, length, setting.response, value=False)
    calls += EPOCHS * model_pass(
        setting, length, length, setting.response, value=True, backward=True
    )

    def iterate() -> list[Tensor]:
        for call in calls:
            call()
        return []

    return iterate, []


if __name__ == "__main__":
    serve(make)
