"""Sampling draws from π itself: the right frequencies, log-probabilities, ends and streams."""

import math

import pytest
import torch
from golden import normal, property_test, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from rlhf_lab import sampling
from rlhf_lab._checks import unchecked
from rlhf_lab.gpt2 import GPT2, GPT2Config
from rlhf_lab.sampling import draw, sample

LAST = 1 - 2**-53
"""The largest number in [0, 1)."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(seed: int, vocab_size: int = 7) -> GPT2:
    model = GPT2(GPT2Config(vocab_size, n_positions=10, n_embd=8, n_layer=2, n_head=2)).double()
    stream = generator(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6, generator=stream)
    return model


def full_logprobs(model: GPT2, tokens: Tensor, length: int) -> Tensor:
    """log π of the last `length` tokens, in one forward pass without a cache, (B, length)."""
    logprobs = model(tokens[:, :-1]).log_softmax(dim=-1)
    return logprobs.gather(2, tokens[:, 1:, None]).squeeze(2)[:, -length:]


def chi_square_odds(observed: Tensor, expected: Tensor) -> float:
    """P(χ² at least this large) if the counts are what they should be; cells − 1 must be even."""
    x = ((observed - expected) ** 2 / expected).sum().item() / 2
    terms = range((len(expected) - 1) // 2)
    return sum(math.exp(-x + k * math.log(x) - math.lgamma(k + 1)) for k in terms)


@pytest.fixture(params=[2, 3, 512])
def block(request, monkeypatch):
    """Draws with small vocabularies in one block and in several."""
    monkeypatch.setattr(sampling, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@property_test
@given(st.lists(st.integers(0, 4), min_size=2, max_size=8).filter(any))
def test_draw_divides_the_interval_in_proportion(counts):
    """Of n equal steps through [0, 1), token v gets as many as it has n-ths, in order."""
    n = sum(counts)
    logprobs = (torch.tensor(counts, dtype=torch.float64) / n).log().expand(n, -1)
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    expected = [token for token, count in enumerate(counts) for _ in range(count)]
    assert draw(logprobs, uniforms).tolist() == expected


@pytest.mark.usefixtures("block")
@property_test
@given(
    seeds, st.lists(st.booleans(), min_size=2, max_size=6).filter(any),
    st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_a_token_of_probability_0_is_never_drawn(seed, allowed, dtype):
    """At u = 0 a search from the left ends on a forbidden first token; at the largest u, a sum
    that misses 1 by a rounding ends on a forbidden last token, or behind the vocabulary."""
    allowed = torch.tensor(allowed)
    logits = (3 * normal(seed, len(allowed))).to(dtype).masked_fill(~allowed, -torch.inf)
    uniforms = torch.tensor([0.0, 2**-60, 0.5, LAST], dtype=torch.float64)
    uniforms = torch.cat([uniforms, torch.rand(60, generator=generator(seed)).double()])
    tokens = draw(logits.log_softmax(dim=0).expand(64, -1), uniforms)
    assert allowed[tokens].all()
    possible = allowed.nonzero().flatten()
    assert tokens[0] == possible[0]
    assert tokens[3] == possible[-1]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_below_1e_7_are_resolved(dtype):
    """In float32 the running sum near 1 has steps of 6e-8: no u would reach these tokens."""
    rare = torch.tensor([1 - 3e-9, 1e-9, 2e-9], dtype=torch.float64).log().to(dtype)
    uniforms = 1 - torch.tensor([4e-9, 2.5e-9, 1.5e-9, 0.5e-9], dtype=torch.float64)
    assert draw(rare.expand(4, -1), uniforms).tolist() == [0, 1, 2, 2]


def test_at_the_border_of_two_blocks_no_forbidden_token_is_drawn(monkeypatch):
    """Of u = 0.2 nothing is left for the second block, but rounding makes that −2e-16, and a search
    for a negative number ends on the block's first token whatever its probability is."""
    monkeypatch.setattr(sampling, "BLOCK", 2)
    logprobs = torch.tensor([[0.2, 0.0, 0.0, 0.6, 0.2, 0.0]], dtype=torch.float64).log()
    assert draw(logprobs, torch.tensor([0.2], dtype=torch.float64)).tolist() == [3]


def test_nan_is_no_id_behind_a_large_vocabulary(monkeypatch):
    """Its last block is larger than what is left of the vocabulary."""
    monkeypatch.setattr(sampling, "BLOCK", 4)
    nan = torch.full((1, 6), torch.nan)
    assert unchecked(draw)(nan, torch.tensor([0.5], dtype=torch.float64)) < 6


def test_frequencies_are_the_models_probabilities():
    """Pairs of tokens, so that one uniform shared by both steps would show. Right code fails for
    one seed in a million."""
    model, n = random_model(0, vocab_size=5), 20_000
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    expected = full_logprobs(model, F.pad(pairs, (1, 0), value=3), 2).sum(dim=1).exp()
    assert_close(expected.sum().item(), 1.0)

    drawn = sample(model, torch.full((n, 1), 3), 2, generator=generator()).responses

    counts = (drawn[:, 0] * 5 + drawn[:, 1]).bincount(minlength=25)
    assert (expected * n).min() > 5
    assert chi_square_odds(counts, expected * n) > 1e-6
    assert chi_square_odds(counts, expected.roll(1) * n) < 1e-6


@pytest.mark.parametrize("eos_id", [None, 0])
def test_what_is_returned_equals_one_full_forward_pass(eos_id):
    """PPO keeps these numbers instead of computing them again: the ratio must start at 1."""
    model, prompts = random_model(1), torch.tensor([[1, 2], [3, 4]]).repeat(20, 1)
    batch = sample(model, prompts, 5, generator=generator(), eos_id=eos_id)
    tokens = torch.cat([prompts, batch.responses], dim=1)
    assert_close(batch.logprobs, full_logprobs(model, tokens, 5), rtol=1e-11, atol=1e-11)
    assert_close(batch.hidden, model.hidden(tokens[:, :-1])[:, -5:], rtol=1e-11, atol=1e-11)
    assert not batch.logprobs.requires_grad
    assert not batch.hidden.requires_grad


def test_eos_ends_a_response_and_nothing_else_changes():
    """The stream of random numbers must not depend on when responses end."""
    model, prompts = random_model(2), torch.ones(60, 1).long()
    endless, ended = (
        sample(model, prompts, 6, generator=generator(), eos_id=eos_id) for eos_id in (None, 0)
    )
    lengths = []
    for free, response, mask in zip(
        endless.responses.tolist(), ended.responses.tolist(), ended.mask.tolist(), strict=True
    ):
        length = free.index(0) + 1 if 0 in free else 6
        assert response == free[:length] + [0] * (6 - length)
        assert mask == [True] * length + [False] * (6 - length)
        lengths.append(length)
    assert set(lengths) >= {1, 2, 3, 6}
    assert endless.mask.all()
    assert torch.equal(endless.logprobs[ended.mask], ended.logprobs[ended.mask])


class Successor(GPT2):
    """The next token is the previous one plus 1, of ten."""

    def hidden(self, tokens, cache=None, *, attention_mask=None):
        return F.one_hot(tokens, 10).double()

    def logits(self, hidden):
        return hidden.roll(1, dims=-1).log()


def test_a_model_that_counts_counts():
    model = Successor(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1))
    prompts = torch.tensor([[5, 0], [4, 6]])
    batch = sample(model, prompts, 5, generator=generator())
    assert batch.responses.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 1]]
    assert not batch.logprobs.any()
    batch = sample(model, prompts, 5, generator=generator(), eos_id=9)
    assert batch.responses.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 9, 9]]
    assert batch.mask.tolist() == [[True] * 5, [True, True, True, False, False]]


def test_padding_on_the_left_changes_nothing():
    """The same rows with and without padding, whatever it consists of, in one batch of both."""
    model, prompts, padding = random_model(3), torch.tensor([[1, 2], [5, 3]]), [[4, 0, 6], [1] * 3]
    padded = torch.cat([torch.tensor(padding), prompts], dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1]] * 2)
    bare, left = (
        sample(model, p.repeat(30, 1), 5, generator=generator(), attention_mask=m)
        for p, m in ((prompts, None), (padded, mask.repeat(30, 1)))
    )
    assert torch.equal(bare.responses, left.responses)
    assert_close(bare.logprobs, left.logprobs, rtol=1e-11, atol=1e-11)


def test_prompts_of_different_lengths_share_a_batch():
    model, prompts = random_model(4), torch.tensor([[6, 6, 1], [6, 5, 2], [3, 1, 4]])
    lengths = torch.tensor([1, 2, 3])
    mask = torch.arange(3) >= 3 - lengths.unsqueeze(1)
    batch = sample(model, prompts, 6, generator=generator(), eos_id=0, attention_mask=mask)
    for row, length in enumerate(lengths):
        tokens = torch.cat([prompts[row, -length:], batch.responses[row]]).unsqueeze(0)
        expected = full_logprobs(model, tokens, 6)[0]
        assert_close(batch.logprobs[row], expected, rtol=1e-11, atol=1e-11)


def test_a_generator_makes_the_sample_and_torchs_own_state_is_left_alone():
    """Another seed draws the same sample with the probability of that sample, below 1e-8."""
    model, prompts = random_model(5), torch.ones(30, 1).long()
    before = torch.random.get_rng_state()
    first, again, other = (
        sample(model, prompts, 6, generator=generator(seed), eos_id=0) for seed in (7, 7, 8)
    )
    for ours, same in zip(first, again, strict=True):
        assert torch.equal(ours, same)
    assert not torch.equal(first.responses, other.responses)
    assert first.logprobs[first.mask].sum() < math.log(1e-8)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_float32_and_float64_draw_the_same_tokens():
    """1,000 tokens, each with a chance of about 1e-6 that rounding moves it across a border."""
    model, prompts = random_model(6), torch.ones(200, 1).long()
    double = sample(model, prompts, 5, generator=generator())
    single = sample(model.float(), prompts, 5, generator=generator())
    assert single.logprobs.dtype == torch.float32
    assert torch.equal(single.responses, double.responses)


def test_the_last_token_needs_no_position():
    """It is drawn but not read: a prompt of 4 and a response of 7 fit into 10 positions."""
    model, prompts = random_model(7), torch.ones(2, 4).long()
    assert sample(model, prompts, 7, generator=generator()).responses.shape == (2, 7)
    with pytest.raises(ValueError, match="11 tokens do not fit into n_positions = 10; shorten"):
        sample(model, prompts, 8, generator=generator())
    with pytest.raises(ValueError, match="n_tokens must be a whole number >= 1, got 0"):
        sample(model, prompts, 0, generator=generator())


def test_a_prompt_that_is_padded_on_the_right_is_refused():
    """Its first token would be drawn from what the model makes of the padding."""
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    with pytest.raises(ValueError, match=r"prompt 1 ends with padding.* pad on the left"):
        sample(
            random_model(7), torch.ones(2, 3).long(), 2, generator=generator(), attention_mask=mask
        )


@pytest.mark.parametrize("eos_id", [None, 0])
def test_a_policy_that_overflows_is_no_index_error(eos_id):
    """Finite weights can give NaN logits; a search in NaN ends behind the vocabulary, which on a
    GPU ends the process."""
    model = random_model(8).float()
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(3e38)
    with pytest.raises(ArithmeticError, match="not finite"):
        sample(model, torch.ones(3, 1).long(), 4, generator=generator(), eos_id=eos_id)
