"""What the page gets of the course's world: the package's own numbers, packed."""

import base64
import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from scripts import load

from rlhf_lab import GPT2, GPT2Config, language, load_world

export = load("site/export.py")


@pytest.fixture(scope="module")
def data():
    text = export.script(load_world())
    assert text.startswith("window.RLHF_DATA = ")
    return json.loads(text[text.index("{") : text.rindex(";")])


def unpacked(text: str, dtype: str) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return planes.reshape(np.dtype(dtype).itemsize, -1).T.copy().view(dtype).ravel()


def test_weights_are_exact(data):
    weights = unpacked(data["weights"], "<f4")
    expected = np.concatenate([p.detach().numpy().ravel() for p in load_world().sft.parameters()])
    assert (weights[: len(expected)] == expected).all()
    assert (weights[len(expected) :] == 0).all()  # the value head's, which starts at 0
    assert len(weights) == 26_148


@pytest.mark.parametrize("i", range(len(language.PROMPTS)))
def test_scores_are_rounded_to_sixteen_bits_and_golds_are_exact(data, i):
    tables = load_world().tables(language.PROMPTS[i])
    score, gold = data["score"][i], data["gold"][i]
    scores = score["low"] + score["step"] * unpacked(score["data"], "<u2").astype(float)
    assert np.abs(scores - tables.scores.numpy()).max() < 3.1e-5
    assert (np.array(gold["levels"])[unpacked(gold["data"], "<u2")] == tables.golds.numpy()).all()


def test_the_explorer_is_told_what_the_notebook_s_is_told(data):
    assert data["explorer"]["prompts"] == list(language.PROMPTS) == data["prompts"]
    assert {*data["charts"]["food"]} == {*data["explorer"]["scores"]}
    assert len(data["charts"]["food"]["gold"]["curve"]) == len(data["explorer"]["etas"])


def test_a_world_of_other_sizes_is_refused_in_words():
    sizes = GPT2Config(vocab_size=14, n_positions=6, n_embd=64, n_layer=2, n_head=2)
    other = SimpleNamespace(sft=GPT2(sizes))
    with pytest.raises(ValueError, match=r"sizes\.h is written for .*n_embd=32.*n_embd=64"):
        export.data(other)
