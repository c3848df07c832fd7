"""The loop of RLOO and GRPO: G responses to each prompt, an advantage beside siblings, one update.

No critic, no GAE, no whitening. The leash stands in the reward (RLOO) or in the loss (GRPO), and
this moves the place where the policy comes to rest: `exact.loss_kl_fixed_point` has it for
advantages that no deviation divides. GRPO's division moves it once more.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import unchecked
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import GroupConfig
from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.group_loss import group_policy_loss, kl_in_loss
from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.kl import response_kl
from rlhf_lab.masking import masked_mean, masked_sum
from rlhf_lab.ratios import importance_ratios
from rlhf_lab.rewards import FixedKLController
from rlhf_lab.rollout import Task, prompts_in_turn, reference_logprobs, response_states, score
from rlhf_lab.sampling import sample
from rlhf_lab.stepper import Stepper
from rlhf_lab.unembed import pick


class GroupRollout(NamedTuple):
    """One batch of experience: B responses of at most T tokens, G in a row to the same prompt."""

    tokens: Tensor
    """Prompt and response, (B, P + T)."""
    responses: Tensor
    """(B, T)."""
    mask: Tensor
    """(B, T), bool: up to and including the first `<eos>`."""
    logprobs: Tensor
    """log π_old of the responses' tokens, (B, T)."""
    ref_logprobs: Tensor
    """log π_ref of the same, (B, T)."""
    scores: Tensor
    """The reward model's, (B,); NaN where it had none."""
    rewards: Tensor
    """Score with the leash in it, if it stands in the reward, (B,)."""
    advantages: Tensor
    """(B,)."""
    total: float
    """Tokens of the whole rollout that fall to one gradient step, for how "tokens"."""
    attention_mask: Tensor | None = None
    """(B, P), 0 on padding of the prompts; None if there is none."""

    def rows(self, rows: Tensor) -> "GroupRollout":
        """Some of the B responses, with all that belongs to them."""
        return GroupRollout._make(x[rows] if isinstance(x, Tensor) else x for x in self)


class GroupStats(NamedTuple):
    """One iteration. All but the losses describe the responses *before* the update."""

    iteration: int
    """1, 2, …"""
    eta: float
    beta: float
    """η and β in force during this iteration."""
    score: float
    """Mean score of the responses that have one."""
    kl: float
    """Mean over responses of Σ_t k1: estimates KL(π ‖ π_ref), nats per response."""
    entropy: float
    """Mean of −log π(y): estimates H(π), nats per response."""
    length: float
    """Mean number of tokens, `<eos>` included."""
    distinct: int
    """Different responses in the batch."""
    top_share: float
    """Share of the most frequent one."""
    dead: float
    """Share of groups whose advantages are all 0."""
    policy_loss: float
    kl_loss: float
    """The KL term before η; 0 where the leash stands in the reward."""
    clip_fraction: float
    """Share of tokens whose ratio a clip has stopped."""
    approx_kl: float
    """½·E[(log π − log π_old)²]. The four are averaged over the gradient steps."""


class GroupTrainer(Stepper[GroupConfig, GroupRollout, GroupStats]):
    """RLOO or GRPO on one task. Each `step()` is one iteration, whole or not at all.

    >>> from rlhf_lab.world import load_world
    >>> trainer = GroupTrainer(load_world(), GroupConfig.grpo(eta=0.1))
    >>> stats = trainer.step()
    >>> stats.iteration, stats.clip_fraction, round(stats.kl, 6) + 0.0
    (1, 0.0, 0.0)
    """

    def __init__(self, task: Task, config: GroupConfig) -> None:
        super().__init__(task, config, FixedKLController(config.eta))

    def _iterate(self) -> tuple[GroupRollout, GroupStats]:
        rollout = self._collect()
        return rollout, self._stats(rollout, self._update(rollout))

    @torch.no_grad()
    def _collect(self) -> GroupRollout:
        """G responses to each of the next prompts, with their advantages."""
        G, T = self.config.group_size, self.task.response_length
        prompts, attention_mask = prompts_in_turn(
            self.task, self.iteration, self.config.batch_size // G
        )
        prompts = prompts.repeat_interleave(G, dim=0)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat_interleave(G, dim=0)
        batch = sample(
            self.policy, prompts, T,
            generator=self.generator, eos_id=self.task.eos_id, attention_mask=attention_mask,
        )  # fmt: skip
        tokens = torch.cat([prompts, batch.responses], dim=1)
        ref_logprobs, _ = reference_logprobs(
            self.task, self.policy.logits, tokens, batch, "kl", attention_mask
        )
        scores = score(self.task, prompts, batch.responses)
        if scores.isnan().all():
            raise ValueError("task.score gave NaN for every response: there is nothing to learn")
        eta = self.eta if self.config.leash == "reward" else 0.0
        rewards = shaped_scores(scores, batch.logprobs, ref_logprobs, batch.mask, eta)
        return GroupRollout(
            tokens, batch.responses, batch.mask, batch.logprobs, ref_logprobs, scores, rewards,
            self._advantages(rewards), batch.mask.sum().item() / self.config.minibatches,
            attention_mask,
        )  # fmt: skip

    def _advantages(self, rewards: Tensor) -> Tensor:
        """(B,) -> (B,)."""
        G, rule = self.config.group_size, self.config.advantage
        if rule == "leave_one_out":
            return leave_one_out(rewards, G)
        return group_advantages(rewards, G, scale=rule)

    def _loss(self, rollout: GroupRollout) -> tuple[Tensor, Tensor]:
        """The loss of some rows: policy loss + η · KL term, if the leash stands here, − β·H."""
        config, mask = self.config, rollout.mask
        hidden = response_states(
            self.policy, rollout.tokens, self.task.response_length, rollout.attention_mask
        )
        if self.beta:
            logits = self.policy.logits(hidden)  # (B, T, V)
            logprobs = pick(logits.log_softmax(dim=-1), rollout.responses)  # (B, T)
        else:
            logprobs = self.policy.logprobs(hidden, rollout.responses)
        divided: dict[str, Any] = {
            "how": config.how, "total": rollout.total, "length": self.task.response_length,
        }  # fmt: skip
        policy = group_policy_loss(
            logprobs, rollout.logprobs, rollout.advantages, mask,
            clip=config.clip, clip_high=config.clip_high, level=config.level, **divided,
        )  # fmt: skip
        loss, kl = policy, torch.zeros_like(policy)
        if config.leash != "reward":
            kl = kl_in_loss(
                logprobs, rollout.ref_logprobs, mask, old_logprobs=rollout.logprobs,
                estimator=config.leash, level=config.level, **divided,
            )  # fmt: skip
            loss = loss + self.eta * kl
        if self.beta:
            loss = loss + entropy_bonus(logits, mask, self.beta)
        moved = masked_mean(0.5 * (logprobs - rollout.logprobs).square(), mask)
        parts = [policy, kl, self._clipped(logprobs, rollout), moved]
        return loss, torch.stack(parts).detach()

    def _clipped(self, logprobs: Tensor, rollout: GroupRollout) -> Tensor:
        """The share of tokens whose ratio has left the band in the direction of its advantage."""
        clip, high = self.config.clip, self.config.clip_high
        if clip is None:
            return logprobs.new_zeros(())
        ratio = unchecked(importance_ratios)(
            logprobs.detach(), rollout.logprobs, rollout.mask, self.config.level
        )
        gain = rollout.advantages.unsqueeze(1)
        over = (ratio > 1 + (clip if high is None else high)) & (gain > 0)
        under = (ratio < 1 - clip) & (gain < 0)
        return unchecked(masked_mean)((over | under).to(ratio), rollout.mask)

    def _stats(self, rollout: GroupRollout, losses: Tensor) -> GroupStats:
        counts = count_responses(rollout.responses, rollout.mask)[1]
        n = len(rollout.scores)
        groups = rollout.advantages.view(-1, self.config.group_size)
        return GroupStats(
            self.iteration + 1,
            self.eta,
            self.beta,
            rollout.scores.nanmean().item(),
            response_kl(rollout.logprobs, rollout.ref_logprobs, rollout.mask).mean().item(),
            -masked_sum(rollout.logprobs, rollout.mask).item() / n,
            rollout.mask.sum().item() / n,
            len(counts),
            counts[0].item() / n,
            (groups == 0).all(dim=1).float().mean().item(),
            *losses.tolist(),
        )
