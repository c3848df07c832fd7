"""TRL 1.16.0's own trainers on review world, as they are: only watched. Used by `bench_bridge.py`.

They start from the world's GPT-2 folder, get the world's reward model as their reward function,
and run on a CPU in float32. Nothing of them is replaced; `Watched` keeps what a loss was made of.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    TOKENIZERS_PARALLELISM="false",
    ACCELERATE_USE_CPU="true",
)
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
)
from transformers.utils import logging  # noqa: E402
from trl import (  # noqa: E402
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RLOOConfig,
    RLOOTrainer,
)

from rlhf_lab import World  # noqa: E402
from rlhf_lab.language import EOS_ID, PROMPTS, RESPONSE_LENGTH, WORDS, encode  # noqa: E402

logging.disable_progress_bar()
logging.set_verbosity_error()
disable_progress_bars()

KINDS = {
    "RLOO": (RLOOTrainer, RLOOConfig),
    "GRPO": (GRPOTrainer, GRPOConfig),
    "DPO": (DPOTrainer, DPOConfig),
}
PLAIN = {
    "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "weight_decay": 0.0,
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
    "report_to": "none", "logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True,
}  # fmt: skip
"""What all runs have: as plain as our own trainer, and quiet."""


class Seen(NamedTuple):
    """One loss of a trainer, and all that it was made of."""

    inputs: dict[str, Any]
    """What TRL makes its loss of, groups in order."""
    scores: Tensor | None
    """What the reward function had answered, (B,)."""
    weights: dict[str, Tensor]
    """Of the policy at this moment."""
    loss: float
    gradient: dict[str, Tensor]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """The 14 words of review world."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>")


def write_folder(world: World, folder: Path) -> None:
    """The policy as TRL wants it: a Hugging Face folder with a tokenizer."""
    world.sft.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


class Reward:
    """The world's reward model as TRL calls it; keeps its last answer."""

    __name__ = "reward_model"

    def __init__(self, world: World) -> None:
        self.world, self.scores = world, torch.zeros(0)

    def __call__(
        self, prompts: list[str], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        rows = [ids + [EOS_ID] * (RESPONSE_LENGTH - len(ids)) for ids in completion_ids]
        asked = torch.tensor([encode(prompt) for prompt in prompts])
        self.scores = self.world.score(asked, torch.tensor(rows))
        return self.scores.tolist()


class Watcher(TrainerCallback):
    """Keeps the gradient of every step, and calls a function after it."""

    def __init__(self, after: Callable[[int, torch.nn.Module], None] | None) -> None:
        self.after, self.gradients = after, []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.after is None:
            named = kwargs["model"].named_parameters()
            self.gradients.append({name: p.grad.clone() for name, p in named})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.after is not None:
            self.after(state.global_step, kwargs["model"])


def watched(trainer: type) -> type:
    """The same trainer, which keeps what each of its losses was made of."""

    class Watched(trainer):
        rollout: dict | None = None

        def _generate_and_score_completions(self, inputs: Any) -> dict:
            self.rollout = super()._generate_and_score_completions(inputs)
            return self.rollout  # TRL shuffles a copy of it, and the order of the groups is lost

        def _compute_loss(self, model: torch.nn.Module, inputs: dict, *more: Any) -> Any:
            result = super()._compute_loss(model, inputs, *more)
            loss = result[0] if isinstance(result, tuple) else result
            weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
            kept = dict(self.rollout or inputs), weights, loss.item()
            self.kept = [*getattr(self, "kept", []), kept]
            return result

    return Watched


def prompts(n: int) -> Dataset:
    """n prompts, food and staff in turn, as our trainers take them."""
    return Dataset.from_dict({"prompt": [PROMPTS[i % len(PROMPTS)] for i in range(n)]})


def make(
    kind: str,
    folder: Path,
    data: Dataset,
    reward: Reward | None,
    after: Callable[[int, torch.nn.Module], None] | None = None,
    **settings: Any,
) -> tuple[Any, Watcher]:
    """One of TRL's trainers, ready to train, and who watches it.

    Args:
        kind: "RLOO", "GRPO" or "DPO".
        folder: from `write_folder`; policy and reference start there.
        data: prompts, or pairs.
        reward: None for DPO.
        after: called after each step with its number and the model; None keeps losses instead.
        settings: of TRL's config.
    """
    trainer, config = KINDS[kind]
    watcher = Watcher(after)
    args = config(output_dir=str(folder / "out"), **PLAIN, **settings)
    more = {} if reward is None else {"reward_funcs": reward}
    made = (watched(trainer) if after is None else trainer)(
        model=str(folder), args=args, train_dataset=data, processing_class=word_tokenizer(),
        callbacks=[watcher], **more,
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made, watcher


def one_rollout(
    kind: str, folder: Path, data: Dataset, reward: Reward | None, **settings: Any
) -> list[Seen]:
    """Train for one rollout; returns what each of its losses was made of."""
    trainer, watcher = make(kind, folder, data, reward, **settings)
    trainer.train()
    scores = None if reward is None else reward.scores
    return [
        Seen(inputs, scores, weights, loss, gradient)
        for (inputs, weights, loss), gradient in zip(trainer.kept, watcher.gradients, strict=True)
    ]
