"""Experience: sample responses, score them, and turn the scores into rewards and advantages."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2, ScalarHead
from rlhf_lab.kl import KLMode, k1
from rlhf_lab.masking import masked_sum, masked_whiten
from rlhf_lab.ppo import gae
from rlhf_lab.rewards import compute_rewards
from rlhf_lab.sampling import Sample, sample


class Task(Protocol):
    """What PPO must know of a world: `rlhf_lab.world.World` is one."""

    @property
    def sft(self) -> GPT2:
        """π_SFT: where the policy starts, and the reference π_ref."""

    @property
    def prompts(self) -> Tensor:
        """Token ids, (n, P), visited in turn."""

    @property
    def eos_id(self) -> int | None: ...

    @property
    def response_length(self) -> int: ...

    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """The reward model's scalar for each response: (B, P), (B, T) -> (B,)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Self: ...


class Rollout(NamedTuple):
    """One batch of experience; B responses of at most T tokens."""

    tokens: Tensor
    """Prompt and response, (B, P + T)."""
    responses: Tensor
    mask: Tensor
    logprobs: Tensor
    values: Tensor
    kls: Tensor
    rewards: Tensor
    advantages: Tensor
    """Whitened over the mask."""
    returns: Tensor
    """(B, T) each."""
    scores: Tensor
    log_ratios: Tensor
    """Σ_t k1, (B,) each."""


def response_states(model: GPT2, tokens: Tensor, length: int) -> Tensor:
    """The hidden states that predict the last `length` of the `tokens`: (B, P + T) -> (B, T, D)."""
    return model.hidden(tokens[:, :-1], last=length)


def prompts_in_turn(task: Task, iteration: int, n: int) -> Tensor:
    """The n prompts of an iteration, counted from 0: all of the task's in turn, (n, P)."""
    turn = torch.arange(iteration * n, (iteration + 1) * n, device=task.prompts.device)
    return task.prompts[turn % len(task.prompts)]


def beside_reference(
    task: Task, unembed: Callable[[Tensor], Tensor], tokens: Tensor, batch: Sample, mode: KLMode
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """log π_ref of the sampled tokens, and what a KL mode compares: log π and log π_ref.

    Args:
        task: its π_SFT is the reference.
        unembed: the policy's logits from its hidden states.
        tokens: prompts and responses, (B, P + T).
        batch: the responses as they were sampled.
        mode: "full" compares whole distributions, (B, T, V); the others chosen tokens, (B, T).
    """
    ref_states = response_states(task.sft, tokens, task.response_length)
    ref_logprobs = task.sft.logprobs(ref_states, batch.responses)
    if mode != "full":
        return ref_logprobs, (batch.logprobs, ref_logprobs)
    logits, ref_logits = unembed(batch.hidden), task.sft.logits(ref_states)
    return ref_logprobs, (logits.log_softmax(dim=-1), ref_logits.log_softmax(dim=-1))


@torch.no_grad()
def collect(
    task: Task,
    policy: GPT2,
    value_head: ScalarHead,
    prompts: Tensor,
    *,
    eta: float,
    config: PPOConfig,
    generator: torch.Generator,
) -> Rollout:
    """One response to each prompt, with everything the update needs.

    The log-probabilities and values are those of sampling itself; nothing is computed twice.

    Args:
        task: its reward model scores, its π_SFT is the reference.
        policy, value_head: the actor and the critic on top of it.
        prompts: (B, P).
        eta: the η in force now.
        config: for the KL mode, γ and λ.
        generator: a CPU generator.
    """
    batch = sample(policy, prompts, task.response_length, generator=generator, eos_id=task.eos_id)
    tokens = torch.cat([prompts, batch.responses], dim=1)
    values = value_head(batch.hidden)
    scores = task.score(prompts, batch.responses)
    ref_logprobs, pair = beside_reference(task, policy.logits, tokens, batch, config.kl_mode)
    shaped = compute_rewards(scores, *pair, batch.mask, eta, config.kl_mode)
    advantages, returns = gae(
        shaped.rewards, values, batch.mask, gamma=config.gamma, lam=config.lam
    )
    return Rollout(
        tokens=tokens,
        responses=batch.responses,
        mask=batch.mask,
        logprobs=batch.logprobs,
        values=values,
        kls=shaped.kls,
        rewards=shaped.rewards,
        advantages=masked_whiten(advantages, batch.mask),
        returns=returns,
        scores=scores,
        log_ratios=masked_sum(k1(batch.logprobs, ref_logprobs), batch.mask, dim=1),
    )
