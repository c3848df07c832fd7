"""Many runs as one: E policies, each with its own η, β and seed, trained by the same calls.

What `rlhf_lab.trainer` does to a batch of B rows is done here to E · B, run after run. No two runs
share a weight, so the sum of E losses gives each its own gradient; and Adam is elementwise, so one
optimiser over stacked weights is E optimisers. Each run draws from a CPU generator of its own, as
its `Trainer` would have, and the two agree up to rounding.

No number of a run can reach another. So nothing is checked on the way, where the CPU would wait
for the device: a run that is no longer finite is found when the iteration ends, and stays in the
batch as rows of NaN.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab._require import said
from rlhf_lab.adam import Adam
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import PPOConfig, kl_controller
from rlhf_lab.gpt2 import GPT2, ScalarHead
from rlhf_lab.grids.stacked import StackedGPT2, stack_head
from rlhf_lab.kl import kl_penalty
from rlhf_lab.masking import masked_sum, terminal_reward
from rlhf_lab.ppo import gae, policy_terms, value_terms
from rlhf_lab.progress import doing
from rlhf_lab.rollout import (
    Rollout,
    Task,
    attention_mask,
    prompts_in_turn,
    reference_logprobs,
    score,
)
from rlhf_lab.sampling import Sample, decode
from rlhf_lab.trainer import NonFiniteError, StepStats, Trainer
from rlhf_lab.unembed import pick


@takes(config=PPOConfig)
def shared_settings(config: PPOConfig) -> dict[str, Any]:
    """The settings that runs must have in common to be trained together: all but η, β and seed."""
    settings = dataclasses.asdict(config)
    return {name: settings[name] for name in settings if name not in ("eta", "beta", "seed")}


class Ensemble:
    """E runs on one task; each `step()` is one iteration of all of them.

    After an exception in `step()` an ensemble is unusable: make a new one. (A `Trainer` goes back.)

    Args:
        task: as for `Trainer`.
        configs: of the E runs; they may differ in η, β and seed.

    Raises:
        ValueError: there are none, they differ in another setting, or the task's prompts are
            padded.

    >>> from rlhf_lab.world import load_world
    >>> runs = Ensemble(load_world(), [PPOConfig(eta=eta) for eta in (0.0, 0.3)])
    >>> [round(stats.kl, 6) + 0.0 for stats in runs.step()]  # all policies start at π_SFT
    [0.0, 0.0]
    """

    def __init__(self, task: Task, configs: Sequence[PPOConfig]) -> None:
        _require_shared(configs)
        self.configs, self.config = list(configs), configs[0]
        first = Trainer(task, self.config)
        self.task, self.device = first.task, first.device
        if attention_mask(task) is not None:
            raise ValueError(
                "prompts with padding cannot be trained together yet; train each run by a Trainer, "
                "in a sweep with together=1"
            )
        self.policies = StackedGPT2(first.policy, len(configs))
        self.value_heads = stack_head(first.value_head, len(configs))
        self.parameters = [*self.policies.parameters(), *self.value_heads.parameters()]
        self.optimizer = Adam(self.parameters, lr=self.config.lr, eps=self.config.adam_eps)
        self.generators = [torch.Generator().manual_seed(c.seed) for c in configs]
        self.controllers = [kl_controller(c) for c in configs]
        self.betas = self._per_run([c.beta for c in configs])
        self.iteration = 0
        """How many iterations are finished."""
        self.errors: dict[int, NonFiniteError] = {}
        """Of each run that has failed, by its number, what was wrong."""

    @takes(run="count 0..")
    def policy(self, run: int) -> GPT2:
        """One run's policy as a plain GPT-2, a copy."""
        if run >= len(self.configs):
            raise ValueError(f"run must lie in 0..{len(self.configs) - 1}, got {run}")
        model = copy.deepcopy(self.task.sft)
        model.load_state_dict({n: stack[run] for n, stack in self.policies.state_dict().items()})
        return model

    def step(self) -> list[StepStats | NonFiniteError]:
        """One iteration of all; for a run that has failed, now or earlier, its error."""
        doing("iteration {n} of {k} runs together", n=self.iteration + 1, k=len(self.configs))
        rollout = self._collect()
        parts = self._update(rollout)
        self.iteration += 1
        return [self._record(run, row) for run, row in enumerate(self._numbers(rollout, parts))]

    def _per_run(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=getattr(torch, self.config.dtype), device=self.device)

    @torch.no_grad()
    def _collect(self) -> Rollout:
        """As `rlhf_lab.rollout.collect`, but with an η for each run's rows."""
        config, E, B = self.config, len(self.configs), self.config.batch_size
        prompts = prompts_in_turn(self.task, self.iteration, B)[0].repeat(E, 1)  # (E · B, P)
        batch = self._sample(prompts)
        responses, mask, logprobs, hidden = batch
        tokens = torch.cat([prompts, responses], dim=1)
        values, scores = self._values(hidden), score(self.task, prompts, responses)
        ref_logprobs, pair = reference_logprobs(
            self.task, self.policies.logits, tokens, batch, config.kl_mode
        )
        kls = unchecked(kl_penalty)(*pair, config.kl_mode).masked_fill(~mask, 0.0)
        etas = self._per_run([controller.value for controller in self.controllers])
        paid = unchecked(terminal_reward)(scores, mask)
        rewards = paid - etas.repeat_interleave(B).unsqueeze(1) * kls
        advantages, returns = unchecked(gae)(
            rewards, values, mask, gamma=config.gamma, lam=config.lam
        )
        log_ratios = unchecked(masked_sum)(logprobs - ref_logprobs, mask, dim=1)
        experience = tokens, responses, mask, logprobs, values, kls, rewards
        return Rollout(*experience, _whiten(advantages, mask, E), returns, scores, log_ratios)

    def _values(self, hidden: Tensor) -> Tensor:
        return unchecked(ScalarHead.forward)(self.value_heads, hidden)

    def _sample(self, prompts: Tensor) -> Sample:
        """As `rlhf_lab.sampling.sample`, but with a generator for each run's rows."""
        T, B = self.task.response_length, self.config.batch_size
        draws = [torch.rand(T, B, generator=g, dtype=torch.float64) for g in self.generators]
        uniforms = torch.cat(draws, dim=1).to(self.device)  # (T, E · B)
        return decode(
            self.policies.hidden, self.policies.logits, prompts, uniforms, self.task.eos_id
        )

    def _update(self, rollout: Rollout) -> Tensor:
        """A few epochs on one rollout; the mean of each part of each run's loss, (E, 4)."""
        parts = []
        for _ in range(self.config.epochs):
            for part in self._minibatches(rollout):
                loss, numbers = self._loss(part)
                loss.sum().backward()
                self.optimizer.step()
                parts.append(numbers)
        return torch.stack(parts).mean(dim=0)

    def _minibatches(self, rollout: Rollout) -> list[Rollout]:
        """What each gradient step of an epoch learns from, in each run's own order."""
        E, B, n = len(self.configs), self.config.batch_size, self.config.minibatches
        if n == 1:
            return [rollout]
        orders = torch.stack([torch.randperm(B, generator=g) for g in self.generators])  # (E, B)
        rows = (orders + B * torch.arange(E).unsqueeze(1)).to(self.device).tensor_split(n, dim=1)
        return [rollout.rows(part.flatten()) for part in rows]

    def _loss(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """As `Trainer._loss` of each run, (E,), and its parts, (E, 4)."""
        config, mask, E = self.config, rollout.mask, len(self.configs)
        hidden = self.policies.hidden(rollout.tokens[:, :-1], last=self.task.response_length)
        logprobs = self.policies.logits(hidden).log_softmax(dim=-1)  # (E · B, T, V)
        chosen = unchecked(pick)(logprobs, rollout.responses)
        log_ratio = (chosen - rollout.logprobs).masked_fill(~mask, 0.0)
        policy = policy_terms(log_ratio, rollout.advantages, config.cliprange)
        values = self._values(hidden)
        value = value_terms(values, rollout.values, rollout.returns, config.cliprange_value)
        per_token = policy.loss, value.loss, policy.clip_fraction, policy.approx_kl
        parts = [_means(x, mask, E) for x in per_token]
        loss = parts[0] + config.vf_coef * parts[1]
        if any(c.beta for c in self.configs):
            entropy = -(logprobs.exp() * logprobs).sum(dim=-1)  # (E · B, T)
            loss = loss - self.betas * _means(entropy, mask, E)
        return loss, torch.stack(parts, dim=1).detach()

    @torch.no_grad()
    def _numbers(self, rollout: Rollout, parts: Tensor) -> list[list[float]]:
        """One row for each run, in the order that `_record` takes them."""
        E, mask = len(self.configs), rollout.mask
        # A sum over weights is finite if all of them are, and cheaper than to look at each.
        weights = torch.stack([p.flatten(1).sum(dim=1) for p in self.parameters])
        finite = torch.cat([weights, parts.T]).isfinite().all(dim=0)
        per_response = [
            rollout.scores,
            rollout.log_ratios,
            -unchecked(masked_sum)(rollout.logprobs, mask, dim=1),
            rollout.rewards.sum(dim=1),
            mask.sum(dim=1),
            rollout.kls.sum(dim=1),
        ]
        means = [x.double().view(E, -1).mean(dim=1) for x in per_response]
        return torch.stack([finite, *means, *_distinct(rollout, E), *parts.T]).T.tolist()

    def _record(self, run: int, numbers: list[float]) -> StepStats | NonFiniteError:
        finite, score, kl, entropy, reward, length, penalty, distinct, most, *losses = numbers
        n, eta, beta = self.config.batch_size, self.controllers[run].value, self.configs[run].beta
        if not finite and run not in self.errors:
            self.errors[run] = NonFiniteError(
                f"iteration {self.iteration}: a loss or a weight is not finite (η = {eta:g}, "
                f"β = {beta:g}, lr = {self.config.lr:g}). {self.config.overflow_remedy(eta, beta)}"
            )
        if run in self.errors:
            return self.errors[run]
        if self.config.kl_target is not None:
            self.controllers[run].update(penalty, n)
        means = score, kl, entropy, reward, length
        return StepStats(self.iteration, eta, beta, *means, int(distinct), most / n, *losses)


def _require_shared(configs: Sequence[PPOConfig]) -> None:
    if not isinstance(configs, list | tuple) or not all(isinstance(c, PPOConfig) for c in configs):
        raise ValueError(f"configs must be a list of PPOConfig, got {said(configs)}")
    if not configs:
        raise ValueError("configs: an ensemble needs the settings of at least one run, got none")
    for name, first in shared_settings(configs[0]).items():
        others = {run: getattr(config, name) for run, config in enumerate(configs)}
        if odd := [run for run, value in others.items() if value != first]:
            raise ValueError(
                "runs that are trained together may differ in eta, beta and seed only; "
                f"{name} is {first!r} in run 0 and {others[odd[0]]!r} in run {odd[0]}"
            )


def _means(x: Tensor, mask: Tensor, runs: int) -> Tensor:
    """`masked_mean` of each run's rows: (E · B, T) -> (E,)."""
    x, mask = x.reshape(runs, -1), mask.reshape(runs, -1)
    return unchecked(masked_sum)(x, mask, dim=1) / mask.sum(dim=1)


def _whiten(x: Tensor, mask: Tensor, runs: int) -> Tensor:
    """`masked_whiten` of each run's rows: (E · B, T) -> (E · B, T)."""
    by_run, by_run_mask = x.reshape(runs, -1), mask.reshape(runs, -1)
    centred = (by_run - _means(x, mask, runs).unsqueeze(1)).masked_fill(~by_run_mask, 0.0)
    variance = centred.square().sum(dim=1) / (by_run_mask.sum(dim=1) - 1)
    return (centred * torch.rsqrt(variance + 1e-8).unsqueeze(1)).view_as(x)


def _distinct(rollout: Rollout, runs: int) -> tuple[Tensor, Tensor]:
    """The number of different responses of each run, and of its most frequent one; (E,) each."""
    rows, mask = len(rollout.responses), rollout.mask
    run = torch.arange(runs, device=mask.device).repeat_interleave(rows // runs).unsqueeze(1)
    # The number of the run as a first token: then one search does for all.
    named, always = torch.cat([run, rollout.responses], dim=1), torch.ones_like(mask[:, :1])
    unique, counts = unchecked(count_responses)(named, torch.cat([always, mask], dim=1))
    none = counts.new_zeros(runs)
    different = none.index_add(0, unique[:, 0], torch.ones_like(counts))
    return different, none.scatter_reduce(0, unique[:, 0], counts, "amax")
