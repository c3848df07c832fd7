"""One run in the cockpit: a trainer, and what has been seen of its policy so far."""

import copy
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import torch

from rlhf_lab import exact, report, runs
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import PROMPTS, decode
from rlhf_lab.report import Metrics
from rlhf_lab.trainer import Trainer
from rlhf_lab.tree import join, logits_parts
from rlhf_lab.world import World

PARTS = 4
"""Forward passes of an exact evaluation at a time: about half an iteration's time."""


class Said(NamedTuple):
    """One review of the last batch."""

    times: int
    text: str
    gold: float


class Branch:
    """A trainer with the batch estimates and the exact values along its way.

    Both are indexed by the updates that the policy had behind it: `seen[k]` describes the batch
    that it wrote after k updates, `exact[k]` all responses to both prompts at that moment.

    Args:
        world: where gold scores and exact values come from.
        trainer: at its start, or on its way.
    """

    def __init__(self, world: World, trainer: Trainer) -> None:
        self.world, self.trainer = world, trainer
        unknown = float("nan")  # a run read from disk does not say what readers thought of it
        self.seen = [Metrics(s.score, unknown, s.kl, s.entropy) for s in trainer.history]
        self.exact: dict[int, Metrics] = {}
        self._measuring: Iterator[None] = iter(())
        self._measuring_at = -1  # updates of the policy that is being measured

    @classmethod
    def start(cls, world: World, config: PPOConfig, policy: GPT2 | None = None) -> Self:
        """From a policy (default: π_SFT); the reference is π_SFT in any case."""
        trainer = Trainer(world, config)
        if policy is not None:
            trainer.policy.load_state_dict(policy.state_dict())
        return cls(world, trainer)

    @classmethod
    def load(cls, world: World, folder: str | Path) -> Self:
        """Where a run folder stopped."""
        return cls(world, runs.resume(folder, world))

    def fork(self) -> "Branch":
        """A copy that goes its own way from here; with the same η and β it is the same way."""
        trainer = Trainer(self.trainer.task, self.trainer.config)
        trainer.history = list(self.trainer.history)
        trainer.load_state(self.trainer.state())
        trainer.rollout = self.trainer.rollout
        other = Branch(self.world, trainer)
        other.seen, other.exact = list(self.seen), dict(self.exact)
        return other

    def step(self) -> None:
        """One iteration; if it fails, nothing has changed."""
        stats, rollout = self.trainer.step(), self.trainer.rollout
        if rollout is not None:
            gold = self.world.gold(rollout.tokens, rollout.responses).mean().item()
            self.seen.append(Metrics(stats.score, gold, stats.kl, stats.entropy))

    def begin_measuring(self) -> None:
        """Take the present policy aside, to be evaluated exactly while training goes on."""
        k = self.trainer.iteration
        if k not in self.exact and k != self._measuring_at:
            self._measuring_at = k
            self._measuring = self._evaluation(k, copy.deepcopy(self.trainer.policy))

    def measure(self) -> bool:
        """Go on with it for about half an iteration's time; False if nothing was to do."""
        return any([True for _ in islice(self._measuring, PARTS)])

    @torch.no_grad()
    def _evaluation(self, k: int, policy: GPT2) -> Iterator[None]:
        """What `exact[k]` takes, a forward pass at a time, on the policy's device."""
        measured, here, there = [], self.world.prompts.device, self.trainer.device
        for prompt in PROMPTS:
            parts, depth = [], self.world.response_length
            for t, logits in logits_parts(policy, self.world.prompt(prompt).to(there), depth):
                parts.append((t, logits.double().log_softmax(dim=1)))
                yield
            logprobs = exact.sequence_logprobs(join(parts, depth)).to(here)
            measured.append(report.metrics(self.world, {prompt: logprobs}))
        self.exact[k] = report.average(measured)
        yield  # so that whoever asks again gets False only when there is nothing new

    def finish_measuring(self) -> None:
        """Whatever is pending, then the present policy."""
        while self.measure():
            pass
        self.begin_measuring()
        while self.measure():
            pass

    def moves(self) -> list[tuple[int, str]]:
        """Where η or β was moved, and to what: (updates before it, "η 0.3").

        A slider pulled over several positions makes one move, where it came to rest.
        """
        if self.trainer.config.kl_target is not None:
            return []  # η moves by itself all the time
        found: list[tuple[int, str, str]] = []
        for before, now in zip(self.trainer.history, self.trainer.history[1:], strict=False):
            for letter, old, new in (("η", before.eta, now.eta), ("β", before.beta, now.beta)):
                if old != new:
                    k = now.iteration - 1
                    if found and found[-1][1] == letter and k - found[-1][0] <= 5:
                        found.pop()
                    found.append((k, letter, f"{letter} {new:g}"))
        return [(k, text) for k, _, text in found]

    def said(self, prompt: str, most: int) -> list[Said]:
        """The most frequent reviews of the last batch for one prompt."""
        rollout = self.trainer.rollout
        if rollout is None:
            return []
        token = self.world.prompt(prompt).to(rollout.tokens.device)
        rows = rollout.tokens[:, 0] == token
        responses, counts = count_responses(rollout.responses[rows], rollout.mask[rows])
        responses = responses[:most]
        golds = self.world.gold(token.expand(len(responses), 1), responses.clamp(min=0))
        return [
            Said(times, decode(response), gold)
            for response, times, gold in zip(
                responses, counts[:most].tolist(), golds.tolist(), strict=True
            )
        ]
