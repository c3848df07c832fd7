"""A policy in plain text: what it says, and how far it is from the exact optimum."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact, language
from rlhf_lab._checks import require, takes
from rlhf_lab.collapse import count_responses, effective_responses
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.rollout import Rollout
from rlhf_lab.world import World, WorldTables


class Metrics(NamedTuple):
    """What is asked of one policy, exactly or from a batch: E[score], E[gold], KL, H."""

    score: float
    gold: float
    kl: float
    entropy: float

    @takes(eta="coefficient", beta="coefficient", result="finite")
    def objective(self, eta: float, beta: float) -> float:
        """J = E[score] − η·KL(π ‖ π_SFT) + β·H(π)."""
        return self.score - eta * self.kl + beta * self.entropy


def average(points: Iterable[Sequence[Any]]) -> Metrics:
    """The mean over prompts of each number."""
    rows = []
    for point in require("points", points, Iterable):
        numbers = require("points: each", point, list | tuple)
        rows.append([require("points: each number", x, "number") for x in numbers])
    if not rows or any(len(row) != len(Metrics._fields) for row in rows):
        raise ValueError(
            f"points must be rows of {', '.join(Metrics._fields)}, at least one, got rows of "
            f"{[len(row) for row in rows]} numbers"
        )
    return Metrics(*torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist())


@takes(world=World, logprobs=dict)
def metrics(world: World, logprobs: dict[str, Tensor]) -> Metrics:
    """E[score], E[gold], KL(π ‖ π_SFT) and H(π), the mean over prompts.

    Args:
        world: where the policy lives.
        logprobs: for each prompt, log π of every response, (N,).
    """
    if not logprobs or set(logprobs) - set(language.PROMPTS):
        raise ValueError(
            f"logprobs must hold log π of every response to one or more of {language.PROMPTS}"
        )
    return average(exact.evaluate(lp, *world.tables(prompt)[1:]) for prompt, lp in logprobs.items())


@takes(world=World, policy=GPT2)
def policy_logprobs(world: World, policy: GPT2) -> dict[str, Tensor]:
    """log π of every response to every prompt."""
    with torch.no_grad():
        return {prompt: world.logprobs(policy, prompt) for prompt in language.PROMPTS}


_WEIGHTS: dict[str, Any] = {"eta": "coefficient", "beta": "coefficient"}


@takes(tables=WorldTables, **_WEIGHTS)
def optimum_at(tables: WorldTables, eta: float, beta: float) -> Tensor:
    """log π* of every response, (N,); at η = β = 0 its limit, all mass on the highest score."""
    if eta + beta == 0:
        return exact.argmax_policy(tables.scores)
    return exact.optimum(tables.ref_logprobs, tables.scores, eta, beta).logprobs


@takes(world=World, **_WEIGHTS)
def optimum_logprobs(world: World, eta: float, beta: float) -> dict[str, Tensor]:
    """`optimum_at` for every prompt."""
    return {prompt: optimum_at(world.tables(prompt), eta, beta) for prompt in language.PROMPTS}


@takes(world=World, policy=GPT2, **_WEIGHTS)
def compare(world: World, policy: GPT2, eta: float, beta: float) -> str:
    """A table: π_SFT, the trained policy and the exact optimum π* for (η, β), side by side."""
    reference = {prompt: world.tables(prompt).ref_logprobs for prompt in language.PROMPTS}
    trained, best = policy_logprobs(world, policy), optimum_logprobs(world, eta, beta)
    columns = [metrics(world, logprobs) for logprobs in (reference, trained, best)]
    objectives = [m.objective(eta, beta) for m in columns]
    rows = {
        "E[score]": [m.score for m in columns],
        "E[gold]": [m.gold for m in columns],
        "KL(π ‖ π_SFT), nats": [m.kl for m in columns],
        "H(π), nats": [m.entropy for m in columns],
        "exp H, responses": [effective_responses(m.entropy) for m in columns],
        "J = E[score] − η·KL + β·H": objectives,
        "regret J* − J": [objectives[2] - j for j in objectives],
    }
    lines = [f"{f'η = {eta:g}, β = {beta:g}, exact':28}{'π_SFT':>10}{'policy':>10}{'optimum':>10}"]
    # + 0.0 turns a rounded −0.00 into 0.00
    lines += [
        f"{name:28}" + "".join(f"{round(x, 2) + 0.0:10.2f}" for x in row)
        for name, row in rows.items()
    ]
    for prompt in language.PROMPTS:
        says = ", ".join(f"{text} {p:.0%}" for text, p, _ in world.top(trained[prompt], 3))
        lines.append(f"{prompt}: {says}")
    return "\n".join(lines)


@takes(rollout=Rollout, k="count")
def said(rollout: Rollout, k: int = 3) -> str:
    """The most frequent responses of a batch with their counts: "62 × great . | 9 × good ."."""
    responses, counts = count_responses(rollout.responses, rollout.mask)
    pairs = zip(responses[:k], counts[:k].tolist(), strict=True)
    return " | ".join(f"{n} × {language.decode(response)}" for response, n in pairs)
