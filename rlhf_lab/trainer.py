"""The PPO loop: rollout, rewards, advantages, a few epochs of clipped losses; then again."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import unchecked
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import PPOConfig, kl_controller
from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.masking import masked_sum
from rlhf_lab.ppo import policy_loss, value_loss
from rlhf_lab.rollout import Rollout, Task, collect, prompts_in_turn, response_states
from rlhf_lab.stepper import NonFiniteError, Stepper
from rlhf_lab.unembed import pick

__all__ = ["NonFiniteError", "StepStats", "Trainer", "train"]


class StepStats(NamedTuple):
    """One iteration. All but the losses describe the responses *before* the update."""

    iteration: int
    """1, 2, …"""
    eta: float
    beta: float
    """η and β in force during this iteration."""
    score: float
    """Mean reward-model score."""
    kl: float
    """Mean over responses of Σ_t k1: estimates KL(π ‖ π_ref), nats per response."""
    entropy: float
    """Mean of −log π(y): estimates H(π), nats per response."""
    reward: float
    """Mean of Σ_t rewards: score − η · penalty."""
    length: float
    """Mean number of tokens, `<eos>` included."""
    distinct: int
    """Different responses in the batch."""
    top_share: float
    """Share of the most frequent one: 1.0 is total collapse."""
    policy_loss: float
    value_loss: float
    clip_fraction: float
    approx_kl: float
    """The losses' parts, averaged over the gradient steps."""


class Trainer(Stepper[PPOConfig, Rollout, StepStats]):
    """PPO on one task. Each `step()` is one iteration, and either happens whole or not at all.

    >>> from rlhf_lab.world import load_world
    >>> trainer = Trainer(load_world(), PPOConfig(eta=0.3))
    >>> stats = trainer.step()
    >>> trainer.eta = 0.0  # from the next iteration on
    >>> stats.iteration, round(stats.kl, 6) + 0.0  # the policy starts at π_SFT
    (1, 0.0)
    """

    def __init__(self, task: Task, config: PPOConfig) -> None:
        super().__init__(task, config, kl_controller(config), heads=("value_head",))
        self.value_head = self.heads["value_head"]

    def _iterate(self) -> tuple[Rollout, StepStats]:
        """Experience and update, and the record of both."""
        prompts, attention_mask = prompts_in_turn(self.task, self.iteration, self.config.batch_size)
        rollout = collect(
            self.task, self.policy, self.value_head, prompts, attention_mask=attention_mask,
            eta=self.eta, config=self.config, generator=self.generator,
        )  # fmt: skip
        return rollout, self._stats(rollout, self._update(rollout))

    def _finish(self, rollout: Rollout) -> None:
        if self.config.kl_target is not None:
            penalty = masked_sum(rollout.kls, rollout.mask).item() / len(rollout.scores)
            self.controller.update(penalty, len(rollout.scores))

    def _loss(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """The loss of some rows: clipped policy loss + vf_coef · value loss − β·H.

        The two losses are not checked here: shapes fit, and `_update` looks at all of them.
        """
        hidden = response_states(
            self.policy, rollout.tokens, self.task.response_length, rollout.attention_mask
        )
        if self.beta:  # the entropy asks about every token, log π about the chosen ones only
            logits = self.policy.logits(hidden)  # (B, T, V)
            logprobs = pick(logits.log_softmax(dim=-1), rollout.responses)  # (B, T)
        else:
            logprobs = self.policy.logprobs(hidden, rollout.responses)
        policy = unchecked(policy_loss)(
            logprobs, rollout.logprobs, rollout.advantages, rollout.mask, clip=self.config.cliprange
        )
        value = unchecked(value_loss)(
            self.value_head(hidden),
            rollout.values,
            rollout.returns,
            rollout.mask,
            clip=self.config.cliprange_value,
        )
        loss = policy.loss + self.config.vf_coef * value.loss
        if self.beta:
            try:
                loss = loss + entropy_bonus(logits, rollout.mask, self.beta)
            except ValueError as error:  # its shapes fit, so its logits have overflowed
                raise self._non_finite("the entropy") from error
        return loss, torch.stack(
            [policy.loss, value.loss, policy.clip_fraction, policy.approx_kl]
        ).detach()

    def _stats(self, rollout: Rollout, losses: Tensor) -> StepStats:
        counts = count_responses(rollout.responses, rollout.mask)[1]
        n = len(rollout.scores)
        return StepStats(
            self.iteration + 1,
            self.eta,
            self.beta,
            rollout.scores.mean().item(),
            rollout.log_ratios.mean().item(),
            -masked_sum(rollout.logprobs, rollout.mask).item() / n,
            rollout.rewards.sum().item() / n,
            rollout.mask.sum().item() / n,
            len(counts),
            counts[0].item() / n,
            *losses.tolist(),
        )


def train(task: Task, config: PPOConfig) -> Iterator[StepStats]:
    """Run PPO from the start, one record per iteration; break off whenever you have seen enough.

    To steer η and β, save, or look at the policy on the way, step a `Trainer` yourself.
    """
    trainer = Trainer(task, config)
    for _ in range(config.iterations):
        yield trainer.step()
