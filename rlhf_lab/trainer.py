"""The PPO loop: rollout, rewards, advantages, a few epochs of clipped losses; then again."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab._checks import require_coefficient, unchecked
from rlhf_lab._require import NotFinite
from rlhf_lab.adam import Adam
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import PPOConfig, kl_controller
from rlhf_lab.entropies import entropy_bonus
from rlhf_lab.gpt2 import ScalarHead
from rlhf_lab.interrupts import Interrupts
from rlhf_lab.masking import masked_sum
from rlhf_lab.ppo import policy_loss, value_loss
from rlhf_lab.rollout import (
    Rollout,
    Task,
    check_task,
    collect,
    prompts_in_turn,
    response_states,
)
from rlhf_lab.unembed import pick


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


class NonFiniteError(ArithmeticError):
    """A loss or weight became NaN or infinite; the trainer is back at its last good iteration."""


class Trainer:
    """PPO on one task. Each `step()` is one iteration, and either happens whole or not at all.

    >>> from rlhf_lab.world import load_world
    >>> trainer = Trainer(load_world(), PPOConfig(eta=0.3))
    >>> stats = trainer.step()
    >>> trainer.eta = 0.0  # from the next iteration on
    >>> stats.iteration, round(stats.kl, 6) + 0.0  # the policy starts at π_SFT
    (1, 0.0)
    """

    def __init__(self, task: Task, config: PPOConfig) -> None:
        self.config = config
        self.device, dtype = _usable_device(config.device), getattr(torch, config.dtype)
        check_task(task)
        self.task = task.to(self.device, dtype)
        self.policy = copy.deepcopy(self.task.sft).requires_grad_(True)
        self.value_head = ScalarHead(self.policy.config.n_embd).to(self.device, dtype)
        self.parameters = {
            **{f"policy.{name}": p for name, p in self.policy.named_parameters()},
            **{f"value_head.{name}": p for name, p in self.value_head.named_parameters()},
        }
        self.optimizer = Adam(self.parameters.values(), lr=config.lr, eps=config.adam_eps)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.controller = kl_controller(config)
        self.beta = config.beta
        self.history: list[StepStats] = []
        """One record per finished iteration."""
        self.rollout: Rollout | None = None
        """The responses that the last iteration learned from."""
        self._goal: tuple[dict[str, Tensor], Rollout | None] | None = None
        """State and rollout to go to before anything else, if an exception came in between."""

    @property
    def iteration(self) -> int:
        """How many iterations are finished."""
        return len(self.history)

    @property
    def eta(self) -> float:
        """η from the next iteration on."""
        return self.controller.value

    @eta.setter
    def eta(self, value: float) -> None:
        value = require_coefficient("eta (η)", value)
        if value == 0 and self.config.kl_target is not None:
            raise ValueError("eta must be > 0 while kl_target adapts it: no factor moves it from 0")
        self.controller.value = value

    @property
    def beta(self) -> float:
        """β from the next iteration on."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = require_coefficient("beta (β)", value)

    def step(self) -> StepStats:
        """Run one iteration.

        If it fails or is interrupted, however often, the trainer is put back to where the last one
        ended. An interrupt that comes after the last gradient step breaks off nothing any more: it
        is raised when the iteration is complete.

        Raises:
            NonFiniteError: a loss or a weight is NaN or infinite.
        """
        with Interrupts() as interrupts:
            gradients = torch.is_grad_enabled()
            self._goal = self.state(), self.rollout  # until this iteration is complete
            try:
                with interrupts.allowed():
                    rollout, stats = self._iterate()
                self.history.append(stats)
                if self.config.kl_target is not None:
                    penalty = masked_sum(rollout.kls, rollout.mask).item() / len(rollout.scores)
                    self.controller.update(penalty, len(rollout.scores))
                self.rollout, self._goal = rollout, None
                return stats
            except BaseException as error:
                torch.set_grad_enabled(gradients)  # it may have come when no_grad was ending
                self._reach_goal()
                if isinstance(error, NotFinite):  # finite weights, but numbers that overflow
                    raise self._non_finite(error.what) from error
                raise

    def _iterate(self) -> tuple[Rollout, StepStats]:
        """Experience and update, and the record of both."""
        prompts, attention_mask = prompts_in_turn(self.task, self.iteration, self.config.batch_size)
        rollout = collect(
            self.task, self.policy, self.value_head, prompts, attention_mask=attention_mask,
            eta=self.eta, config=self.config, generator=self.generator,
        )  # fmt: skip
        return rollout, self._stats(rollout, self._update(rollout))

    def _update(self, rollout: Rollout) -> Tensor:
        """A few epochs on one rollout; returns the mean of each part of the loss, (4,)."""
        config, parts = self.config, []
        everyone = torch.arange(config.batch_size)
        for _ in range(config.epochs):
            if config.minibatches > 1:
                everyone = torch.randperm(config.batch_size, generator=self.generator)
            for rows in everyone.to(self.device).tensor_split(config.minibatches):
                loss, part = self._loss(rollout if config.minibatches == 1 else rollout.rows(rows))
                loss.backward()
                self.optimizer.step()
                parts.append(part)
        means = torch.stack(parts)
        if not torch.isfinite(means).all():
            bad = int((~torch.isfinite(means)).any(dim=1).nonzero()[0])
            raise self._non_finite(f"the loss of gradient step {bad + 1}")
        if not torch.cat([p.flatten() for p in self.parameters.values()]).isfinite().all():
            name = next(n for n, p in self.parameters.items() if not p.isfinite().all())
            raise self._non_finite(f"weight {name}")
        return means.mean(dim=0)

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

    def _non_finite(self, what: str) -> NonFiniteError:
        return NonFiniteError(
            f"iteration {self.iteration + 1}: {what} is not finite (η = {self.eta:g}, "
            f"β = {self.beta:g}, lr = {self.config.lr:g}); the last good iteration is kept. "
            f"{self.config.overflow_remedy(self.eta, self.beta)}"
        )

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

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that changes, as tensors: weights, Adam, generator, η and β."""
        self._reach_goal()
        tensors = {name: p.detach().clone() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value.clone()
        tensors["generator"] = self.generator.get_state()
        tensors["progress"] = torch.tensor(
            [self.iteration, self.eta, self.beta], dtype=torch.float64
        )
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go back to a `state()` of a trainer with the same task and sizes.

        Raises:
            ValueError: this is no state of such a trainer, which is left as it was; or `history`
                is shorter than the state is old; set it first.
        """
        self._require_state(tensors)
        iteration = int(tensors["progress"][0])
        if len(self.history) < iteration:
            raise ValueError(
                f"this state is {iteration} iterations old, but history has "
                f"{len(self.history)}; set the history of the same run first"
            )
        with Interrupts():
            self._goal = tensors, self.rollout if len(self.history) == iteration else None
            self._reach_goal()

    def _reach_goal(self) -> None:
        """Take on the state that an iteration or `load_state` was to end in, if it did not.

        To do it twice is to do it once, so if this is broken off as well, the next call ends it.
        """
        if self._goal is None:
            return
        tensors, rollout = self._goal
        for name, parameter in self.parameters.items():
            parameter.detach().copy_(tensors[name])
            for key, value in self.optimizer.state[parameter].items():
                value.copy_(tensors[f"adam.{key}.{name}"])
        self.optimizer.zero_grad()
        self.generator.set_state(tensors["generator"].cpu())
        iteration, self.eta, self.beta = tensors["progress"].tolist()
        del self.history[int(iteration) :]
        self.rollout, self._goal = rollout, None

    def _require_state(self, tensors: dict[str, Tensor]) -> None:
        """Raise unless these could have come from `state()`: names, dtypes, shapes, progress."""
        own = self.state()
        if odd := sorted(own.keys() ^ tensors.keys()):
            raise ValueError(
                f"{odd[0]} is {'missing in' if odd[0] in own else 'no part of'} the state"
            )
        for name, mine in own.items():
            theirs = tensors[name]
            if (theirs.dtype, theirs.shape) != (mine.dtype, mine.shape):
                raise ValueError(
                    f"{name} must be {mine.dtype} of shape {tuple(mine.shape)}, got "
                    f"{theirs.dtype} of shape {tuple(theirs.shape)}"
                )
        iteration, eta, beta = tensors["progress"].tolist()
        if not (iteration >= 0 and float(iteration).is_integer()):
            raise ValueError(f"a state must be a whole number of iterations old, got {iteration}")
        require_coefficient("eta (η) of the state", eta)
        require_coefficient("beta (β) of the state", beta)
        try:
            torch.Generator().set_state(tensors["generator"].cpu())
        except RuntimeError as error:
            raise ValueError(f"generator is no state of a torch.Generator ({error})") from error


def train(task: Task, config: PPOConfig) -> Iterator[StepStats]:
    """Run PPO from the start, one record per iteration; break off whenever you have seen enough.

    To steer η and β, save, or look at the policy on the way, step a `Trainer` yourself.
    """
    trainer = Trainer(task, config)
    for _ in range(config.iterations):
        yield trainer.step()


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device {name!r} cannot be used ({str(error).splitlines()[0]}); use "cpu", or "cuda" '
            "with an NVIDIA GPU and a CUDA build of torch (`python -m rlhf_lab doctor` tells)"
        ) from error
    return device
