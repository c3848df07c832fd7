"""Run a trainer of the museum, and record its log together with the exact numbers."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.adam import Adam
from rlhf_lab.lessons.museum.language import LANGUAGE, score, states_of, tables_of
from rlhf_lab.lessons.museum.steps import CLEAN, Batch, Parts, Steps
from rlhf_lab.masking import masked_sum
from rlhf_lab.ppo import value_loss

CLIP = 0.2
"""Half-width of the clipped loss's band."""
ETA = 0.2
"""η of the objective of every trainer in the museum."""
BEST = exact.optimum(LANGUAGE.ref_logprobs, LANGUAGE.scores, ETA).value


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one run; an exhibit and the clean run beside it have the same."""

    eta: float = ETA
    """η of the penalty in the reward."""
    beta: float = 0.0
    loss_eta: float = 0.0
    """η of a trainer that keeps its penalty in the loss; then `eta` is 0."""
    kl_target: float | None = None
    """KL in nats per response that an adaptive η aims at."""
    iterations: int = 40
    batch: int = 256
    epochs: int = 4
    lr: float = 0.1
    seed: int = 0


class Record(NamedTuple):
    """One iteration before its update: the trainer's log, and the exact numbers."""

    score: float
    kl: float
    """Σ_t of the trainer's own penalty, per response."""
    entropy: float
    """Mean of −log π(y)."""
    length: float
    value_loss: float
    eta: float
    exact_score: float
    exact_kl: float
    """KL(π ‖ π_SFT)."""
    exact_entropy: float
    regret: float
    """J* − J(π) of J(π) = E[r] − 0.2·KL(π ‖ π_SFT)."""


def rollout(
    steps: Steps,
    policy: Tensor,
    critic: Tensor,
    ref: Tensor,
    responses: Tensor,
    eta: float,
    generator: torch.Generator,
) -> Batch:
    """Everything that the update needs to know about a batch of responses of π."""
    with torch.no_grad():
        states, mask = states_of(responses), steps.which_tokens(responses)
        logprobs = steps.token_logprobs(steps.forward(policy, states, generator), responses)
        ref_logprobs = steps.token_logprobs(ref[states], responses)
        values, scores = critic[states], score(responses)
        kls = steps.penalty(logprobs, ref_logprobs)
        rewards = steps.shaped_rewards(scores, kls, mask, eta)
        advantages, returns = steps.advantages_and_returns(rewards, values, mask)
        return Batch(
            responses, states, mask, logprobs, ref_logprobs, values, scores, kls, rewards,
            advantages, returns,
        )  # fmt: skip


def loss_parts(
    steps: Steps,
    policy: Tensor,
    critic: Tensor,
    batch: Batch,
    beta: float,
    generator: torch.Generator,
) -> Parts:
    """The parts of the loss of one gradient step."""
    logits = steps.forward(policy, batch.states, generator)
    logprobs = steps.token_logprobs(logits, batch.responses)
    return Parts(
        steps.surrogate(logprobs, batch, CLIP),
        value_loss(critic[batch.states], batch.values, batch.returns, batch.mask, clip=10).loss,
        steps.loss_penalty(logprobs, batch.ref_logprobs, batch.mask),
        steps.bonus(logits, logprobs, batch.mask, beta) if beta else torch.zeros(()),
    )


def run(steps: Steps = CLEAN, settings: Settings | None = None) -> list[Record]:
    """Train from π_SFT; one record per iteration."""
    s = settings or Settings()
    generator = torch.Generator().manual_seed(s.seed)
    policy = LANGUAGE.sft.clone().requires_grad_(True)
    critic = torch.zeros(len(policy), dtype=policy.dtype, requires_grad=True)
    optimizer = Adam([policy, critic], lr=s.lr, eps=1e-5)
    ref, eta, records = LANGUAGE.sft, s.eta, []
    for _ in range(s.iterations):
        responses = steps.sample(policy.detach(), s.batch, generator)
        batch = rollout(steps, policy, critic, ref, responses, eta, generator)
        before = policy.detach().clone()
        for _ in range(s.epochs):
            parts = loss_parts(steps, policy, critic, batch, s.beta, generator)
            loss = steps.total_loss(parts, eta, s.loss_eta)
            loss.backward()
            optimizer.step()
        records.append(measure(before, batch, parts, eta))
        ref = steps.next_reference(ref, policy.detach().clone())
        if s.kl_target is not None:
            eta = steps.next_eta(eta, batch.kls, batch.mask, s.kl_target)
    return records


def measure(policy: Tensor, batch: Batch, parts: Parts, eta: float) -> Record:
    """One record: the first half from the batch, as a trainer would log it, the second exact."""
    n, language = len(batch.scores), LANGUAGE
    logprobs = exact.sequence_logprobs(tables_of(policy))
    e = exact.evaluate(logprobs, language.ref_logprobs, language.scores, language.scores)
    return Record(
        score=batch.scores.mean().item(),
        kl=masked_sum(batch.kls, batch.mask).item() / n,
        entropy=-masked_sum(batch.logprobs, batch.mask).item() / n,
        length=batch.mask.sum().item() / n,
        value_loss=parts.value.item(),
        eta=eta,
        exact_score=e.score.item(),
        exact_kl=e.kl.item(),
        exact_entropy=e.entropy.item(),
        regret=(BEST - (e.score - ETA * e.kl)).item(),
    )
