"""One peer: `rlhf_lab.Trainer`. Run by `bench_ppo.py`."""

from collections.abc import Callable
from typing import Self

import torch
from common import EPOCHS, ETA, LR, POSITIONS, PROMPT, SEED, Setting, random_prompts, reward, serve
from torch import Tensor

from rlhf_lab import GPT2, GPT2Config, PPOConfig, Trainer


class EvenTokens:
    """A `rlhf_lab.rollout.Task` with a random model and a reward that needs none."""

    eos_id = None

    def __init__(self, setting: Setting) -> None:
        self.response_length = setting.response
        vocab, width, layers, heads = setting[:4]
        positions = max(POSITIONS, PROMPT + setting.response)
        sizes = GPT2Config(vocab, positions, width, layers, heads)
        self.sft = GPT2(sizes, torch.Generator().manual_seed(SEED)).requires_grad_(False)
        self.prompts = random_prompts(setting)

    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        return reward(responses)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        self.sft.to(device, dtype)
        self.prompts = self.prompts.to(device)
        return self


def make(
    setting: Setting, device: torch.device | str = "cpu"
) -> tuple[Callable[[], Tensor], list[Tensor]]:
    config = PPOConfig(
        eta=ETA, batch_size=setting.batch, epochs=EPOCHS, lr=LR, adam_eps=1e-8, seed=SEED,
        device=str(device),
    )  # fmt: skip
    trainer = Trainer(EvenTokens(setting), config)

    def iterate() -> Tensor:
        trainer.step()
        assert trainer.rollout is not None
        return trainer.rollout.responses

    return iterate, list(trainer.parameters.values())


if __name__ == "__main__":
    serve(make)
