"""The tree computes each prefix once: equal to one full forward pass for every single prefix."""

from itertools import product

import pytest
import torch
from golden import normal
from torch import Tensor
from torch.testing import assert_close

from rlhf_lab import exact, tree
from rlhf_lab.gpt2 import GPT2, GPT2Config, ScalarHead
from rlhf_lab.masking import response_mask
from rlhf_lab.tree import logits_tables, prefix_count, score_tables

SHAPES = [(2, 5), (3, 4), (4, 3), (7, 2), (5, 1)]  # vocabulary, depth


@pytest.fixture(params=[1, 3, 128])
def chunk(request, monkeypatch):
    """At 128 no depth of these small trees is split, at 1 every prefix is on its own."""
    monkeypatch.setattr(tree, "CHUNK", request.param)


def random_models(seed: int, vocab_size: int) -> tuple[GPT2, ScalarHead]:
    generator = torch.Generator().manual_seed(seed)
    trunk = GPT2(GPT2Config(vocab_size, n_positions=8, n_embd=8, n_layer=2, n_head=2))
    head = ScalarHead(8)
    for parameter in (*trunk.parameters(), *head.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return trunk.double(), head.double()


def prompt_of(length: int, vocab_size: int) -> Tensor:
    return torch.arange(length) % vocab_size  # <eos>, token 0, may stand in a prompt


def direct_logits(model: GPT2, prompt: Tensor, depth: int) -> list[Tensor]:
    """One forward pass per prefix, in the order that the module's docstring names."""
    words = range(1, model.config.vocab_size)
    return [
        torch.stack(
            [
                model(torch.cat([prompt, torch.tensor(prefix).long()]).unsqueeze(0))[0, -1]
                for prefix in product(words, repeat=t)
            ]
        )
        for t in range(depth)
    ]


def direct_scores(trunk: GPT2, head: ScalarHead, prompt: Tensor, depth: int) -> Tensor:
    """One forward pass per response, cut behind its end, in the order of `exact.flatten`."""
    responses = exact.enumerate_responses(trunk.config.vocab_size, depth)
    return torch.stack(
        [
            head(trunk.hidden(torch.cat([prompt, response[mask]]).unsqueeze(0))[0, -1])
            for response, mask in zip(responses, response_mask(responses, 0), strict=True)
        ]
    )


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("prompt_length", [1, 3])
@pytest.mark.parametrize(("vocab_size", "depth"), SHAPES)
def test_logits_equal_one_full_forward_per_prefix(vocab_size, depth, prompt_length):
    """Siblings that see each other; a child with its uncle's keys; parts out of order."""
    model, _ = random_models(0, vocab_size)
    prompt = prompt_of(prompt_length, vocab_size)
    tables = logits_tables(model, prompt, depth)
    assert [len(table) for table in tables] == [prefix_count(vocab_size, t) for t in range(depth)]
    assert_close(tables, direct_logits(model, prompt, depth), rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("prompt_length", [1, 3])
@pytest.mark.parametrize(("vocab_size", "depth"), SHAPES)
def test_scores_equal_one_full_forward_per_response(vocab_size, depth, prompt_length):
    """Read before `<eos>` instead of at it; the last depth, where any token ends, cut to one."""
    trunk, head = random_models(1, vocab_size)
    prompt = prompt_of(prompt_length, vocab_size)
    tables = score_tables(trunk, head, prompt, depth)
    assert [t.shape[1] for t in tables] == [1] * (depth - 1) + [vocab_size]
    direct = direct_scores(trunk, head, prompt, depth)
    assert_close(exact.flatten(tables), direct, rtol=1e-11, atol=1e-11)
    assert_close(tables, exact.unflatten(direct, vocab_size, depth), rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(("vocab_size", "depth"), [(3, 4), (4, 3)])
def test_gradients_equal_those_of_the_full_forwards(vocab_size, depth):
    """A cache that is detached on its way down would train on the last token only."""
    trunk, head = random_models(2, vocab_size)
    prompt, parameters = prompt_of(2, vocab_size), [*trunk.parameters(), *head.parameters()]

    def gradients(logits: list[Tensor], scores: Tensor) -> list[Tensor]:
        logprobs = exact.sequence_logprobs([table.log_softmax(dim=1) for table in logits])
        weights = normal(3, *logprobs.shape)
        loss = (weights * logprobs).sum() + (weights.flip(0) * scores).sum()
        return list(torch.autograd.grad(loss, parameters))

    walked = gradients(
        logits_tables(trunk, prompt, depth),
        exact.flatten(score_tables(trunk, head, prompt, depth)),
    )
    direct = gradients(
        direct_logits(trunk, prompt, depth), direct_scores(trunk, head, prompt, depth)
    )
    assert all(g.any() for g in direct)
    assert_close(walked, direct, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(("vocab_size", "depth"), SHAPES)
def test_log_probabilities_of_whole_responses_have_the_order_of_enumeration(vocab_size, depth):
    """Tree and enumeration are two routes; numbers in another order would still add up to 1."""
    model, _ = random_models(4, vocab_size)
    prompt = prompt_of(2, vocab_size)
    tables = [t.log_softmax(dim=1) for t in logits_tables(model, prompt, depth)]
    responses = exact.enumerate_responses(vocab_size, depth)
    tokens = torch.cat([prompt.expand(len(responses), -1), responses], dim=1)
    logprobs = model(tokens[:, :-1])[:, 1:].log_softmax(dim=-1)
    logprobs = logprobs.gather(2, responses.unsqueeze(2)).squeeze(2)
    expected = (logprobs * response_mask(responses, 0)).sum(dim=1)

    walked = exact.sequence_logprobs(tables)

    assert_close(walked, expected, rtol=1e-11, atol=1e-11)
    assert_close(walked.exp().sum().item(), 1.0)


def test_each_prefix_is_computed_once(monkeypatch):
    """The point of the tree: 1 + 3 + 9 tokens for V = 4, T = 3 and a prompt of one token."""
    model, _ = random_models(5, 4)
    read, hidden = [], model.hidden

    def counting(tokens, *args, **kwargs):
        read.append(tokens.numel())
        return hidden(tokens, *args, **kwargs)

    monkeypatch.setattr(model, "hidden", counting)
    logits_tables(model, torch.tensor([1]), 3)
    assert sum(read) == 1 + 3 + 9


@pytest.mark.parametrize("tables", [logits_tables, score_tables])
def test_a_tree_deeper_than_the_model_is_refused_in_words(tables):
    """Not with the bare IndexError of an embedding, which on a GPU ends the process."""
    model, head = random_models(6, 3)
    arguments = (model,) if tables is logits_tables else (model, head)
    with pytest.raises(ValueError, match=r"(9|10) tokens do not fit into n_positions = 8"):
        tables(*arguments, prompt_of(5, 3), 5)
