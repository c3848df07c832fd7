"""Experience: sample responses, score them, and turn the scores into rewards and advantages."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf_lab._checks import require
from rlhf_lab._require import require_ids
from rlhf_lab.collapse import distinct_rows
from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2, ScalarHead
from rlhf_lab.kl import KLMode, k1
from rlhf_lab.masking import masked_sum, masked_whiten
from rlhf_lab.ppo import gae
from rlhf_lab.rewards import compute_rewards
from rlhf_lab.sampling import Sample, sample


class Task(Protocol):
    """What PPO must know of a world; `rlhf_lab.World` is one. Any object with these names will do.

    Where prompts differ in length, pad them on the left and give the task one more attribute,
    `attention_mask`, (n, P), 0 on the padding: what a tokenizer returns under that name.
    """

    @property
    def sft(self) -> GPT2:
        """π_SFT: where the policy starts, and the reference π_ref."""

    @property
    def prompts(self) -> Tensor:
        """Token ids, (n, P), visited in turn."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends a response; None if all responses have full length."""

    @property
    def response_length(self) -> int:
        """T, the most tokens that a response may have."""

    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """The reward model's scalar for each response: (B, P), (B, T) -> (B,).

        Integers and bools, which rules tend to give, are taken as numbers. What follows a
        response's first `<eos>` is padding.
        """

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The task with its models on this device and in this dtype, and its prompts there too."""


class Rollout(NamedTuple):
    """One batch of experience; B responses of at most T tokens."""

    tokens: Tensor
    """Prompt and response, (B, P + T)."""
    responses: Tensor
    """(B, T)."""
    mask: Tensor
    """(B, T), bool: up to and including the first `<eos>`."""
    logprobs: Tensor
    """log π_old of the responses' tokens, (B, T)."""
    values: Tensor
    """The critic's V(s_t), (B, T)."""
    kls: Tensor
    """The penalty per token before η, (B, T)."""
    rewards: Tensor
    """Score and penalty, (B, T)."""
    advantages: Tensor
    """Whitened over the mask, (B, T)."""
    returns: Tensor
    """The critic's target, (B, T)."""
    scores: Tensor
    """The reward model's, (B,)."""
    log_ratios: Tensor
    """Σ_t k1, (B,)."""
    attention_mask: Tensor | None = None
    """(B, P), 0 on padding of the prompts; None if there is none."""

    def rows(self, rows: Tensor) -> "Rollout":
        """Some of the B responses, with all that belongs to them."""
        return Rollout._make(x if x is None else x[rows] for x in self)


def response_states(
    model: GPT2, tokens: Tensor, length: int, attention_mask: Tensor | None = None
) -> Tensor:
    """The hidden states that predict the last `length` of the `tokens`: (B, P + T) -> (B, T, D).

    A policy that collapses says the same again and again, so equal rows are read once. Their
    gradients add up, as if each row had been read.

    Args:
        model: policy or reference.
        tokens: prompts and responses, (B, P + T).
        length: T.
        attention_mask: (B, P), 0 on padding of the prompts.
    """
    if attention_mask is not None:
        attention_mask = F.pad(attention_mask, (0, length - 1), value=1)
    elif tokens.device.type == "cpu":  # to count rows on a GPU is to wait for it
        rows, of = distinct_rows(tokens)
        if len(rows) < len(tokens):
            return model.hidden(rows[:, :-1], last=length)[of]
    return model.hidden(tokens[:, :-1], attention_mask=attention_mask, last=length)


def prompts_in_turn(task: Task, iteration: int, n: int) -> tuple[Tensor, Tensor | None]:
    """The n prompts of an iteration, counted from 0, (n, P), and their attention mask, if any."""
    turn = torch.arange(iteration * n, (iteration + 1) * n, device=task.prompts.device)
    turn %= len(task.prompts)
    mask = attention_mask(task)
    return task.prompts[turn], None if mask is None else mask.to(turn.device)[turn]


def attention_mask(task: Task) -> Tensor | None:
    """That of the task's prompts, (n, P), if it has one."""
    mask: Tensor | None = getattr(task, "attention_mask", None)
    return mask


def score(task: Task, prompts: Tensor, responses: Tensor) -> Tensor:
    """The task's scores, (B,), as numbers of the policy's dtype.

    Raises:
        ValueError: the task gives something else.
    """
    scores = task.score(prompts, responses)
    require("what task.score returns", scores, f"any ({len(responses)},)")
    return scores.detach().to(responses.device, next(task.sft.parameters()).dtype)


def reference_logprobs(
    task: Task,
    unembed: Callable[[Tensor], Tensor],
    tokens: Tensor,
    batch: Sample,
    mode: KLMode,
    attention_mask: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """log π_ref of the sampled tokens, and the pair that a KL mode compares: log π and log π_ref.

    Args:
        task: its π_SFT is the reference.
        unembed: the policy's logits from its hidden states.
        tokens: prompts and responses, (B, P + T).
        batch: the responses as they were sampled.
        mode: "full" compares whole distributions, (B, T, V); the others chosen tokens, (B, T).
        attention_mask: (B, P), 0 on padding of the prompts.
    """
    ref_states = response_states(task.sft, tokens, task.response_length, attention_mask)
    ref_logprobs = task.sft.logprobs(ref_states, batch.responses)
    if mode != "full":
        return ref_logprobs, (batch.logprobs, ref_logprobs)
    logits, ref_logits = unembed(batch.hidden), task.sft.logits(ref_states)
    return ref_logprobs, (logits.log_softmax(dim=-1), ref_logits.log_softmax(dim=-1))


def check_task(task: Task) -> None:
    """Refuse in words what could not be trained on; `score` is not called.

    Raises:
        ValueError: an attribute is missing or has another form than `Task` says.
    """
    names = ("sft", "prompts", "eos_id", "response_length", "score", "to")
    if missing := [name for name in names if not hasattr(task, name)]:
        raise ValueError(
            f"the task has no {missing[0]!r}; it needs {', '.join(names)}: see rlhf_lab.Task"
        )
    if not isinstance(task.sft, GPT2):
        raise ValueError(f"task.sft must be a rlhf_lab.GPT2, got {type(task.sft).__name__}")
    V, n_positions = task.sft.config.vocab_size, task.sft.config.n_positions
    n, P = require("task.prompts", task.prompts, "integers (n, P)").shape
    require_ids("task.prompts", task.prompts, V)
    T, eos_id = task.response_length, task.eos_id
    if not isinstance(T, int) or not 1 <= T <= n_positions - P:
        raise ValueError(
            f"task.response_length must be a whole number from 1 to {n_positions - P}, because "
            f"prompt ({P} tokens) and response share n_positions = {n_positions}; got {T!r}"
        )
    if eos_id is not None and not (isinstance(eos_id, int) and 0 <= eos_id < V):
        raise ValueError(f"task.eos_id must be a token id in 0..{V - 1}, or None; got {eos_id!r}")
    mask = require("task.attention_mask", attention_mask(task), f"mask ({n}, {P}) or None")
    if mask is not None and not mask[:, -1].all():
        raise ValueError("task.attention_mask is 0 at the end of a prompt; pad on the left")


@torch.no_grad()
def collect(
    task: Task,
    policy: GPT2,
    value_head: ScalarHead,
    prompts: Tensor,
    *,
    attention_mask: Tensor | None = None,
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
        attention_mask: (B, P), 0 on padding of the prompts.
        eta: the η in force now.
        config: for the KL mode, γ and λ.
        generator: a CPU generator.
    """
    batch = sample(
        policy, prompts, task.response_length,
        generator=generator, eos_id=task.eos_id, attention_mask=attention_mask,
    )  # fmt: skip
    tokens = torch.cat([prompts, batch.responses], dim=1)
    values = value_head(batch.hidden)
    scores = score(task, prompts, batch.responses)
    ref_logprobs, pair = reference_logprobs(
        task, policy.logits, tokens, batch, config.kl_mode, attention_mask
    )
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
        attention_mask=attention_mask,
    )
