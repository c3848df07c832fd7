"""One peer: the PPOTrainer of TRL 0.11.4, the last release that has it. Run by `bench_ppo.py`.

It runs with its fastest settings: no dropout, an `<eos>` outside the vocabulary, so that nothing
has to be masked or searched for, and all responses sampled in one batch. `trl_classic.py S1 4`
samples four at a time instead, as TRL does by default.
"""

import os
import sys
import warnings
from collections.abc import Callable
from itertools import cycle

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    TOKENIZERS_PARALLELISM="false",
    ACCELERATE_USE_CPU="true",
)
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from common import (  # noqa: E402
    EPOCHS,
    ETA,
    LR,
    POSITIONS,
    SEED,
    Setting,
    random_prompts,
    reward,
    serve,
)
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast  # noqa: E402
from trl import (  # noqa: E402
    AutoModelForCausalLMWithValueHead,
    PPOConfig,
    PPOTrainer,
    create_reference_model,
)


def word_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """A tokenizer, which PPOTrainer demands although it uses only the padding token."""
    words = {f"word{i}": i for i in range(vocab)} | {"<eos>": vocab}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<eos>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


def make(setting: Setting) -> tuple[Callable[[], list[Tensor]], list[Tensor]]:
    vocab, width, layers, heads, batch = setting[:5]
    torch.manual_seed(SEED)
    sizes = GPT2Config(
        vocab_size=vocab, n_positions=POSITIONS, n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=vocab, eos_token_id=vocab, pad_token_id=vocab,
    )  # fmt: skip
    model = AutoModelForCausalLMWithValueHead(GPT2LMHeadModel(sizes), summary_dropout_prob=0.0)
    model.is_peft_model = False  # what `from_pretrained` would set
    config = PPOConfig(
        batch_size=batch, mini_batch_size=batch, ppo_epochs=EPOCHS, learning_rate=LR,
        adap_kl_ctrl=False, init_kl_coef=ETA, kl_penalty="kl", seed=SEED,
    )  # fmt: skip
    trainer = PPOTrainer(config, model, create_reference_model(model), word_tokenizer(vocab))
    settings = {
        "max_new_tokens": setting.response, "do_sample": True, "top_k": 0, "top_p": 1.0,
        "eos_token_id": vocab, "pad_token_id": vocab,
    }  # fmt: skip
    at_once = int(sys.argv[2]) if len(sys.argv) > 2 else batch
    batches = cycle(list(part) for part in random_prompts(setting).split(batch))

    def iterate() -> list[Tensor]:
        prompts = next(batches)
        responses = trainer.generate(prompts, return_prompt=False, batch_size=at_once, **settings)
        trainer.step(prompts, responses, list(reward(torch.stack(responses))))
        return responses

    return iterate, [p for p in model.parameters() if p.requires_grad]


if __name__ == "__main__":
    serve(make)
