"""One run in the cockpit: a trainer, and all measurements of its policy so far."""

import copy
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import torch

from rlhf_lab import exact, report, runs
from rlhf_lab._require import NotFinite
from rlhf_lab.collapse import count_responses
from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import PROMPTS, decode
from rlhf_lab.report import Metrics
from rlhf_lab.trainer import Trainer
from rlhf_lab.tree import join, logits_parts
from rlhf_lab.world import World

PARTS = 4
"""Forward passes of an exact evaluation between two iterations; they take half an iteration."""


class Review(NamedTuple):
    """One review of the last batch."""

    times: int
    text: str
    gold: float


class Branch:
    """A trainer with the batch estimates and the exact values of its policies.

    Both are indexed by the number of updates: `seen[k]` is the estimate from the batch that the
    policy wrote after k updates, `exact[k]` counts all responses to both prompts.

    Args:
        world: gives gold scores and exact values.
        trainer: fresh, or already trained.
    """

    def __init__(self, world: World, trainer: Trainer) -> None:
        self.world, self.trainer = world, trainer
        unknown = float("nan")  # a run folder holds no gold scores
        self.seen = [Metrics(s.score, unknown, s.kl, s.entropy) for s in trainer.history]
        self.exact: dict[int, Metrics] = {}
        self.forked: int | None = None  # updates when a parent was left behind
        self._golds: dict[tuple[str, str], float] = {}  # by prompt and review
        self._measuring: Iterator[None] = iter(())
        self._measuring_at = -1  # updates of the policy that is being measured

    @classmethod
    def start(cls, world: World, config: PPOConfig, policy: GPT2 | None = None) -> Self:
        """A new run from a policy (default: π_SFT); the reference is π_SFT in any case."""
        branch = cls(world, Trainer(world, config))
        if policy is None:
            known = {prompt: world.tables(prompt).ref_logprobs for prompt in PROMPTS}
            branch.exact[0] = report.metrics(world, known)
        else:
            branch.trainer.policy.load_state_dict(policy.state_dict())
        return branch

    @classmethod
    def load(cls, world: World, folder: str | Path) -> Self:
        """The run in a folder, at the point where it stopped."""
        return cls(world, runs.resume(folder, world))

    def fork(self) -> "Branch":
        """A copy that trains on independently; with the same η and β it does exactly the same."""
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
        """Copy the present policy; `measure` evaluates the copy exactly while training goes on."""
        k = self.trainer.iteration
        if k not in self.exact and k != self._measuring_at:
            self._measuring_at = k
            self._measuring = self._evaluation(k, copy.deepcopy(self.trainer.policy))

    def measure(self) -> bool:
        """Go on with the evaluation for half the time of an iteration; False if there is none."""
        try:
            return any([True for _ in islice(self._measuring, PARTS)])
        except NotFinite:  # weights that are finite, but whose logits overflow: nothing to measure
            return False

    @torch.no_grad()
    def _evaluation(self, k: int, policy: GPT2) -> Iterator[None]:
        """Compute `exact[k]`, one forward pass at a time, on the policy's device."""
        measured, here, there = [], self.world.prompts.device, self.trainer.device
        for prompt in PROMPTS:
            parts, depth = [], self.world.response_length
            for t, logits in logits_parts(policy, self.world.prompt(prompt).to(there), depth):
                parts.append((t, logits.double().log_softmax(dim=1)))
                yield
            logprobs = exact.sequence_logprobs(join(parts, depth)).to(here)
            measured.append(report.metrics(self.world, {prompt: logprobs}))
        self.exact[k] = report.average(measured)
        yield  # so that the call of `measure` that sets exact[k] returns True

    def finish_measuring(self) -> None:
        """Finish a pending evaluation, then evaluate the present policy."""
        while self.measure():
            pass
        self.begin_measuring()
        while self.measure():
            pass

    def moves(self) -> list[tuple[int, str]]:
        """The moves of η and β, each as (updates before it, "η 0.3").

        Pulling a slider over several positions counts as one move, to where it stopped.
        """
        if self.trainer.config.kl_target is not None:
            return []  # the controller moves η all the time
        found: list[tuple[int, str, str]] = []
        for before, now in zip(self.trainer.history, self.trainer.history[1:], strict=False):
            for letter, old, new in (("η", before.eta, now.eta), ("β", before.beta, now.beta)):
                if old != new:
                    k = now.iteration - 1
                    if found and found[-1][1] == letter and k - found[-1][0] <= 5:
                        found.pop()
                    found.append((k, letter, f"{letter} {new:g}"))
        return [(k, text) for k, _, text in found]

    def written(self, prompt: str) -> int:
        """How many reviews of the last batch are for one prompt."""
        rollout = self.trainer.rollout
        if rollout is None:
            return 0
        token = self.world.prompt(prompt).to(rollout.tokens.device)
        return int((rollout.tokens[:, 0] == token).sum())

    def reviews(self, prompt: str, most: int) -> list[Review]:
        """The most frequent reviews of the last batch for one prompt."""
        rollout = self.trainer.rollout
        if rollout is None:
            return []
        token = self.world.prompt(prompt).to(rollout.tokens.device)
        rows = rollout.tokens[:, 0] == token
        responses, counts = count_responses(rollout.responses[rows], rollout.mask[rows])
        said = [
            (decode(response), times, response)
            for response, times in zip(responses[:most], counts[:most].tolist(), strict=True)
        ]
        # Twenty times a second, and mostly the same reviews as before.
        if fresh := [(text, row) for text, _, row in said if (prompt, text) not in self._golds]:
            rows = torch.stack([row for _, row in fresh]).clamp(min=0)
            golds = self.world.gold(token.expand(len(rows), 1), rows).tolist()
            self._golds |= {
                (prompt, text): gold for (text, _), gold in zip(fresh, golds, strict=True)
            }
        return [Review(times, text, self._golds[prompt, text]) for text, times, _ in said]
