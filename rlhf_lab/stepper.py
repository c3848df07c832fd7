"""What every training loop keeps to: an iteration happens whole or not at all, and can be kept.

The loops themselves are `Trainer` (PPO) and `GroupTrainer` (RLOO, GRPO): read those first.
"""

import copy
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from rlhf_lab._checks import require_coefficient
from rlhf_lab._require import NotFinite, require_device
from rlhf_lab.adam import Adam
from rlhf_lab.config import GroupConfig, PPOConfig
from rlhf_lab.gpt2 import ScalarHead
from rlhf_lab.interrupts import Interrupts
from rlhf_lab.progress import doing
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController
from rlhf_lab.rollout import Task, check_task


class NonFiniteError(ArithmeticError):
    """A loss or weight became NaN or infinite; the trainer is back at its last good iteration."""


class Batch(Protocol):
    """The responses that an iteration learns from."""

    def rows(self, rows: Tensor) -> Self: ...


C = TypeVar("C", PPOConfig, GroupConfig)
B = TypeVar("B", bound=Batch)
R = TypeVar("R")


class Stepper(Generic[C, B, R]):
    """A policy, its optimizer and its random numbers, moved by one `step()` at a time.

    A loop derived from it says in `_iterate` what an iteration is, in `_loss` what the gradient is
    taken of, and in `_finish` what is left to do once the iteration counts.

    Args:
        task: the world; it is moved to the device and the precision of the settings.
        config: the settings.
        controller: holds η.
        heads: names of scalar heads that are trained besides the policy.
    """

    def __init__(
        self,
        task: Task,
        config: C,
        controller: FixedKLController | AdaptiveKLController,
        heads: tuple[str, ...] = (),
    ) -> None:
        self.config: C = config
        self.device, dtype = require_device(config.device), getattr(torch, config.dtype)
        check_task(task)
        self.task = task.to(self.device, dtype)
        self.policy = copy.deepcopy(self.task.sft).requires_grad_(True)
        self.parameters = {f"policy.{name}": p for name, p in self.policy.named_parameters()}
        width = self.policy.config.n_embd
        self.heads = {head: ScalarHead(width).to(self.device, dtype) for head in heads}
        for head, module in self.heads.items():
            self.parameters |= {f"{head}.{name}": p for name, p in module.named_parameters()}
        self.optimizer = Adam(self.parameters.values(), lr=config.lr, eps=config.adam_eps)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.controller = controller
        self.beta = config.beta
        self.history: list[R] = []
        """One record per finished iteration."""
        self.rollout: B | None = None
        """The responses that the last iteration learned from."""
        self._goal: tuple[dict[str, Tensor], B | None] | None = None
        """State and rollout to go to before anything else, if an exception came in between."""

    def _iterate(self) -> tuple[B, R]:
        """Experience and update, and the record of both."""
        raise NotImplementedError

    def _loss(self, rollout: B) -> tuple[Tensor, Tensor]:
        """The loss of some rows, and its parts."""
        raise NotImplementedError

    def _finish(self, rollout: B) -> None:
        """What is left to do when an iteration is complete."""

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
        if value == 0 and isinstance(self.controller, AdaptiveKLController):
            raise ValueError("eta must be > 0 while kl_target adapts it: no factor moves it from 0")
        self.controller.value = value

    @property
    def beta(self) -> float:
        """β from the next iteration on."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = require_coefficient("beta (β)", value)

    def step(self) -> R:
        """Run one iteration.

        If it fails or is interrupted, however often, the trainer is put back to where the last one
        ended. An interrupt that comes after the last gradient step breaks off nothing any more: it
        is raised when the iteration is complete.

        Raises:
            NonFiniteError: a loss or a weight is NaN or infinite.
        """
        at = {"n": self.iteration + 1, "eta": self.eta, "beta": self.beta}
        doing("iteration {n} at η = {eta:g}, β = {beta:g}", **at)
        with Interrupts() as interrupts:
            gradients = torch.is_grad_enabled()
            self._goal = self.state(), self.rollout  # until this iteration is complete
            try:
                with interrupts.allowed():
                    rollout, stats = self._iterate()
                self.history.append(stats)
                self._finish(rollout)
                self.rollout, self._goal = rollout, None
                return stats
            except BaseException as error:
                torch.set_grad_enabled(gradients)  # it may have come when no_grad was ending
                self._reach_goal()
                if isinstance(error, NotFinite):  # finite weights, but numbers that overflow
                    raise self._non_finite(error.what) from error
                raise

    def _update(self, rollout: B) -> Tensor:
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
        # A sum is finite if its numbers are; if it is not, it may have overflowed.
        if not torch.stack([p.detach().sum() for p in self.parameters.values()]).isfinite().all():
            for name, parameter in self.parameters.items():
                if not parameter.isfinite().all():
                    raise self._non_finite(f"weight {name}")
        return means.mean(dim=0)

    def _non_finite(self, what: str) -> NonFiniteError:
        return NonFiniteError(
            f"iteration {self.iteration + 1}: {what} is not finite (η = {self.eta:g}, "
            f"β = {self.beta:g}, lr = {self.config.lr:g}); the last good iteration is kept. "
            f"{self.config.overflow_remedy(self.eta, self.beta)}"
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
