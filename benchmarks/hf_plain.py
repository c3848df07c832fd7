"""One peer: `generate` of Hugging Face and a PPO update in plain torch. Run by `bench_ppo.py`.

A careful engineer would write it like this without a framework: no dropout, no search for `<eos>`,
sampling with a cache, logits of the response only, Adam's fused kernel. It imports nothing of
rlhf_lab.
"""

import os
from collections.abc import Callable
from itertools import cycle

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch
from common import (
    EPOCHS,
    ETA,
    LR,
    POSITIONS,
    PROMPT,
    SEED,
    Setting,
    random_prompts,
    reward,
    serve,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

LAM, CLIP, VALUE_COEF = 0.95, 0.2, 0.1  # γ is 1


def gae(rewards: Tensor, values: Tensor) -> Tensor:
    """Advantages, (B, T)."""
    length, last, advantages = rewards.shape[1], torch.zeros(len(rewards)), []
    for t in reversed(range(length)):
        following = values[:, t + 1] if t + 1 < length else 0.0
        last = rewards[:, t] + following - values[:, t] + LAM * last
        advantages.append(last)
    return torch.stack(advantages[::-1], dim=1)


class PlainPPO:
    """A policy with a value head, its frozen reference and its optimiser."""

    def __init__(self, setting: Setting, lr: float = LR) -> None:
        torch.manual_seed(SEED)
        sizes = GPT2Config(
            vocab_size=setting.vocab, n_positions=POSITIONS, n_embd=setting.width,
            n_layer=setting.layers, n_head=setting.heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        self.policy, self.reference = GPT2LMHeadModel(sizes), GPT2LMHeadModel(sizes)
        self.reference.load_state_dict(self.policy.state_dict())
        self.reference.requires_grad_(False)
        self.value_head = nn.Linear(setting.width, 1)
        self.parameters = [*self.policy.parameters(), *self.value_head.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, fused=True)

    def sample(self, prompts: Tensor, length: int) -> Tensor:
        """Prompts with responses, (B, P + T)."""
        return self.policy.generate(
            prompts, max_new_tokens=length, do_sample=True, top_k=0, top_p=1.0, use_cache=True
        )

    def judge(self, model: GPT2LMHeadModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """log π of the response's tokens, (B, T), and the hidden states that predict them."""
        hidden = model.transformer(tokens[:, :-1], use_cache=False)[0][:, PROMPT - 1 :]
        logits, targets = model.lm_head(hidden), tokens[:, PROMPT:]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return -losses.view_as(targets), hidden

    def update(self, tokens: Tensor, scores: Tensor) -> None:
        """Train for a few epochs on one batch."""
        with torch.no_grad():
            old, hidden = self.judge(self.policy, tokens)
            old_values = self.value_head(hidden).squeeze(-1)
            rewards = -ETA * (old - self.judge(self.reference, tokens)[0])
            rewards[:, -1] += scores
            advantages = gae(rewards, old_values)
            returns = advantages + old_values
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        for _ in range(EPOCHS):
            logprobs, hidden = self.judge(self.policy, tokens)
            ratio = (logprobs - old).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
            values = self.value_head(hidden).squeeze(-1)
            near = old_values + (values - old_values).clamp(-CLIP, CLIP)
            errors = torch.maximum((values - returns).square(), (near - returns).square())
            self.optimizer.zero_grad()
            (policy_loss + VALUE_COEF * 0.5 * errors.mean()).backward()
            self.optimizer.step()


def make(setting: Setting) -> tuple[Callable[[], Tensor], list[Tensor]]:
    ppo = PlainPPO(setting)
    batches = cycle(random_prompts(setting).split(setting.batch))

    def iterate() -> Tensor:
        tokens = ppo.sample(next(batches), setting.response)
        responses = tokens[:, PROMPT:]
        ppo.update(tokens, reward(responses))
        return responses

    return iterate, ppo.parameters


if __name__ == "__main__":
    serve(make)
