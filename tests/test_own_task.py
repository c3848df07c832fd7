"""What docs/own_task.md and README show to strangers runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


def test_a_vocabulary_and_a_rule(capsys):
    exec(blocks("docs/own_task.md")[0], {"__name__": "page"})
    assert float(re.match(r"score ([\d.]+) of 6", capsys.readouterr().out)[1]) > 2


def make_gpt2(folder):
    """A tiny GPT-2 with a tokenizer of its own, as transformers writes them."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<eos>"])
    words.train_from_iterator(["The food was good and My neighbour and the staff agree"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=2, n_head=2,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of transformers are not ours
def test_a_gpt2_of_hugging_face_with_its_tokenizer_and_any_function(tmp_path, monkeypatch, capsys):
    make_gpt2(tmp_path / "my-gpt2")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in blocks("docs/own_task.md")[1:]:
        exec(block, names)
    said = capsys.readouterr().out
    assert said.startswith("1: score")
    assert "5: score" in said
    assert names["batch"]["attention_mask"].min() == 0  # the page does show padding
    trained, policy = names["trainer"].policy, names["policy"]
    tokens = names["batch"]["input_ids"]
    torch.testing.assert_close(trained(tokens), policy(tokens).logits)


def test_readme_shows_the_same_task(capsys):
    (block,) = (block for block in blocks("README.md") if "def score" in block)
    exec(block, {"__name__": "page"})
    assert float(capsys.readouterr().out.split()[-1]) > 2
