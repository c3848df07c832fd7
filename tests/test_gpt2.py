"""Our GPT-2 is GPT-2: compared with transformers, with itself through the cache, and padded."""

import dataclasses
import json
import random
import re

import pytest
import torch
from golden import normal
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import GPT2Config as HFConfig
from transformers import GPT2LMHeadModel

from rlhf_lab.gpt2 import GPT2, GPT2Config, KVCache, ScalarHead, _left_padding

EXACT = {"rtol": 1e-12, "atol": 1e-12}
SIZES = GPT2Config(vocab_size=11, n_positions=9, n_embd=12, n_layer=2, n_head=3)


def randomise(model, seed: int):
    """Every parameter from N(0, 0.3²), biases and layer norms too: at their usual 0 and 1 a mix-up
    of two of them would not show, and GPT-2's own 0.02 would hide an exact GELU."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def random_tokens(seed: int, vocab_size: int, *shape: int) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


TOKENS = random_tokens(1, 11, 3, 9)
LENGTHS = [2, 5, 9]
LEFT = torch.arange(9) >= 9 - torch.tensor(LENGTHS).unsqueeze(1)  # padded on the left, (3, 9)


@pytest.fixture
def model() -> GPT2:
    return randomise(GPT2(SIZES), seed=0).double()


def hf_model(seed: int) -> GPT2LMHeadModel:
    """A GPT-2 of transformers with random sizes and weights, without its dropout."""
    pick = random.Random(seed)
    n_head = pick.choice([1, 2, 3, 4])
    config = HFConfig(
        vocab_size=pick.randint(5, 40), n_positions=pick.randint(9, 16), n_layer=pick.randint(1, 3),
        n_head=n_head, n_embd=n_head * pick.choice([3, 4, 5]), n_inner=pick.choice([None, 7, 20]),
        layer_norm_epsilon=pick.choice([1e-5, 1e-2]), bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return randomise(GPT2LMHeadModel(config), seed).eval()


@pytest.mark.parametrize("seed", range(6))
def test_loads_what_transformers_writes_and_writes_what_it_loads(seed, tmp_path):
    """float32 agrees to 1e-5, float64 to the last digits: nothing is "nearly" GPT-2's. With
    padding on the left, transformers must be told the positions; ours are right by themselves."""
    hf = hf_model(seed)
    x = random_tokens(seed, hf.config.vocab_size, 3, 9)
    positions = (LEFT.cumsum(dim=1) - 1).clamp(min=0)

    hf.save_pretrained(tmp_path / "theirs")
    ours = GPT2.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    back, report = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)

    assert_close(ours(x), hf(x).logits, rtol=1e-5, atol=1e-5)
    assert_close(back(x).logits, hf(x).logits, rtol=1e-5, atol=1e-5)
    padded = hf(x, attention_mask=LEFT.long(), position_ids=positions).logits
    assert_close(ours(x, attention_mask=LEFT)[LEFT], padded[LEFT], rtol=1e-5, atol=1e-5)
    assert_close(ours.double()(x), hf.double()(x).logits, **EXACT)

    assert not any(report.values()), report
    assert back.config.eos_token_id == ours.config.eos_token_id == 0
    shapes = [[(n, p.shape) for n, p in m.named_parameters()] for m in (ours, hf, back)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert ours.state_dict().keys() == load_file(tmp_path / "theirs/model.safetensors").keys()
    assert GPT2.from_pretrained(tmp_path / "ours").config == ours.config


def test_the_files_hold_what_other_versions_of_transformers_ask_for(tmp_path):
    """4.x refuses weights without the tag, and a text starts with bos, which in GPT-2 is eos."""
    GPT2(dataclasses.replace(SIZES, eos_token_id=3)).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["bos_token_id"] == 3


def test_an_exact_gelu_would_be_seen(model, monkeypatch):
    """nanoGPT's: up to 4.7e-4 away from the tanh form that GPT-2 was trained with."""
    before, gelu = model(TOKENS), F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, approximate: gelu(x))
    assert (model(TOKENS) - before).abs().max() > 1e-4


def test_loads_the_first_uploads_of_gpt2(tmp_path):
    """The files of 2019: no prefix, causal masks among the weights, the tied matrix twice."""
    hf = hf_model(3)
    old = {k.removeprefix("transformer."): v.clone() for k, v in hf.state_dict().items()}
    for layer in range(hf.config.n_layer):
        old[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 9, 9).tril()
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(old, tmp_path / "model.safetensors")
    config = {f.name: getattr(hf.config, f.name) for f in dataclasses.fields(GPT2Config)}
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_ctx": 9}))

    x = random_tokens(0, hf.config.vocab_size, 2, 7)
    assert_close(GPT2.from_pretrained(tmp_path)(x), hf(x).logits, rtol=1e-5, atol=1e-5)


def change(**settings):
    return lambda old: json.dumps(json.loads(old) | settings).encode()


NEEDS = "needs a readable config.json and model.safetensors"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        (CONFIG, lambda old: None, NEEDS),
        (CONFIG, lambda old: old[:-5], NEEDS),
        (CONFIG, lambda old: b"[]", CONFIG),
        (CONFIG, lambda old: b"\xff{}", NEEDS),
        (WEIGHTS, lambda old: None, NEEDS),
        (WEIGHTS, lambda old: old[:-100], NEEDS),
        (CONFIG, change(activation_function="gelu"), "is 'gelu', only 'gelu_new' is GPT-2"),
        (CONFIG, change(model_type="opt"), "model_type is 'opt', only 'gpt2'"),
        (CONFIG, change(tie_word_embeddings=False), "is False, only True is GPT-2"),
        (CONFIG, change(scale_attn_by_inverse_layer_idx=True), "is True, only False"),
        (CONFIG, change(n_layer=3), "do not fit config.json.*Missing key.*h.2"),
        (CONFIG, change(n_embd=24), "do not fit config.json.*mismatch for transformer.wte"),
        (CONFIG, change(n_head=5), "n_embd 12 must be a multiple of n_head 5"),
        (CONFIG, change(n_embd="wide"), CONFIG),
    ],
)
def test_a_bad_folder_is_named_and_so_is_what_it_lacks(file, harm, message, tmp_path):
    GPT2(SIZES).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")  # sharded, if WEIGHTS is absent
    GPT2.from_pretrained(tmp_path)
    harmed = harm((tmp_path / file).read_bytes())
    (tmp_path / file).unlink()
    if harmed is not None:
        (tmp_path / file).write_bytes(harmed)
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(tmp_path))}.*{message}"):
        GPT2.from_pretrained(tmp_path)


@pytest.mark.parametrize("cuts", [[9], [1] * 9, [3, 1, 1, 4], [1, 8], [5, 4]])
def test_cache_equals_the_full_forward_in_value_and_gradient(cuts, model):
    """Off by one in the positions; a chunk of several tokens that sees its own future; a cache
    written in place, which breaks the graph, or detached, which loses part of the gradient."""
    cache, weights = KVCache(), normal(2, 3, 9, 11)
    cached = torch.cat([model(part, cache) for part in TOKENS.split(cuts, dim=1)], dim=1)
    full, parameters = model(TOKENS), list(model.parameters())
    gradients = [torch.autograd.grad((y * weights).sum(), parameters) for y in (cached, full)]
    assert cache.length == 9
    assert_close(cached, full, **EXACT)
    assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("position", range(9))
def test_a_token_changes_its_own_logits_and_later_ones_only(position, model):
    """Causality, and so padding on the right needs no mask, whatever it consists of."""
    other = TOKENS.clone()
    other[:, position] = (other[:, position] + 1) % SIZES.vocab_size
    difference = (model(other) - model(TOKENS)).abs().amax(dim=(0, 2))
    assert (difference[:position] < 1e-13).all()
    assert (difference[position:] > 1e-3).all()


@pytest.mark.parametrize("cuts", [[9], [4, 1, 3, 1]])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_padding_on_either_side_changes_nothing(cuts, dtype, model):
    """Positions that count the padding (TRL's), and padding that attention can see."""
    cache, done, parts = KVCache(), 0, []
    for part in TOKENS.split(cuts, dim=1):
        done += part.shape[1]
        parts.append(model(part, cache, attention_mask=LEFT[:, :done].to(dtype)))
    left, right = torch.cat(parts, dim=1), model(TOKENS)
    assert left.isfinite().all()
    for i, length in enumerate(LENGTHS):
        assert_close(left[i, -length:], model(TOKENS[[i], -length:])[0], **EXACT)
        assert_close(right[i, :length], model(TOKENS[[i], :length])[0], **EXACT)


def test_a_place_that_holds_padding_sees_itself_at_least():
    """Attention to nothing is 0 in new versions of torch, but NaN in those that we allow, too."""
    padded = torch.tensor([[0, 0, 0], [0, 1, 1]])
    _, visible = _left_padding(padded, torch.ones(2, 3).long(), past=0)
    assert visible.any(dim=-1).all()


def test_every_parameter_learns_and_the_embedding_twice(model):
    """Tied: a token that the input lacks still has a gradient, from the logits."""
    logits = model(TOKENS.clamp(max=9))
    (logits.log_softmax(dim=-1) * normal(3, *logits.shape)).sum().backward()
    for name, parameter in model.named_parameters():
        assert 0 < parameter.grad.abs().max() < torch.inf, name
    assert model.transformer.wte.weight.grad[10].any()
    assert_close(model(TOKENS), model.hidden(TOKENS) @ model.transformer.wte.weight.T, **EXACT)


def test_first_weights_are_gpt2s_and_come_from_the_generator():
    """Projections back into the residual stream start at 0.02 / √(2·n_layer). The tolerance is
    six standard errors of a standard deviation from 4,096 numbers: odds of 1 in 10^8 a weight."""
    config = GPT2Config(vocab_size=64, n_positions=64, n_embd=64, n_layer=8, n_head=1, n_inner=64)
    first, again, other = (GPT2(config, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    for name, p in first.named_parameters():
        if p.dim() == 1:
            assert (p == ("ln" in name and name.endswith("weight"))).all(), name
        else:
            std = 0.005 if name.endswith("c_proj.weight") else 0.02
            assert abs(p.std().item() / std - 1) < 6 / (2 * 4096) ** 0.5, name
            assert not torch.equal(p, other.get_parameter(name))


def two_masks(model, ones):
    return model.hidden(ones.long(), attention_mask=ones, mask=ones.bool())


def with_cache(model, past: int, new: int, mask: int | None = None) -> None:
    cache, ones = KVCache(), torch.ones(1, 9).long()
    model(ones[:, :past], cache)
    model(ones[:, :new], cache, attention_mask=ones[:, :mask] if mask else None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.ones(1, 3)), r"integer token ids of shape \(B, T\), got torch.float32"),
        (lambda m: m(torch.ones(3).long()), r"tokens must have shape \(B, T\), got \(3,\)"),
        (lambda m: m(torch.ones(1, 0).long()), r"not empty; got \(1, 0\)"),
        (lambda m: m(torch.tensor([[0, 11]])), r"token id 11 is outside the vocabulary 0..10"),
        (lambda m: m(torch.tensor([[-1, 3]])), r"token id -1 is outside the vocabulary 0..10"),
        (lambda m: m(torch.ones(1, 10).long()), "10 tokens do not fit into n_positions = 9; shor"),
        (lambda m: with_cache(m, 6, 4), "10 tokens do not fit into n_positions = 9; shorten"),
        (lambda m: with_cache(m, 3, 1, mask=1), r"attention_mask \(1, 1\) must cover"),
        (lambda m: with_cache(m, 3, 1, mask=5), r"attention_mask \(1, 5\) must cover"),
        (lambda m: m(torch.ones(1, 3).long(), attention_mask=torch.ones(3)), "attention_mask"),
        (lambda m: two_masks(m, torch.ones(1, 3)), "attention_mask or mask"),
        (lambda m: GPT2Config(n_embd=10, n_head=3), "n_embd 10 must be a multiple of n_head 3"),
        (lambda m: GPT2Config(n_layer=0), "n_layer must be a whole number in .*, got 0"),
    ],
)
def test_bad_input_is_refused_in_words(call, message, model):
    """A mask of the new tokens only, beside a cache, would broadcast: every past token visible,
    every position 0."""
    with pytest.raises(ValueError, match=message):
        call(model)


def test_a_head_is_a_module_of_its_own(model):
    """A value head inside the policy would end up in its checkpoint."""
    head = ScalarHead(SIZES.n_embd).double()
    hidden = model.hidden(TOKENS)
    assert not head(hidden).any()  # a critic without opinions
    randomise(head, seed=4)
    assert_close(head(hidden), hidden @ head.summary.weight[0] + head.summary.bias)
    assert head(hidden).shape == (3, 9)
    assert {name.split(".")[0] for name in model.state_dict()} == {"transformer"}
    assert set(head.state_dict()) == {"summary.weight", "summary.bias"}
