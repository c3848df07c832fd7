"""What must hold in any trainer before it has learned anything. Each check caught a real bug.

All checks but one are free of noise. The probabilities of the probe policy are multiples of 1/8,
so a batch of 8⁴ rows can hold every response exactly as often as π says it. A mean over this batch
is then an expectation.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.gradients import entropy_loss_gradient, kl_loss_gradient
from rlhf_lab.lessons.museum.language import END, LANGUAGE, NEXT, T, V, tables_of
from rlhf_lab.lessons.museum.steps import Batch, Steps
from rlhf_lab.lessons.museum.trainer import loss_parts, rollout
from rlhf_lab.masking import masked_sum, response_mask
from rlhf_lab.ppo import returns_to_go
from rlhf_lab.translation import tr

ETA, BETA = 0.2, 0.3
_EIGHTHS = torch.tensor([3, 2, 1, 1, 1])


def probe_policy() -> Tensor:
    """A policy unlike π_SFT, with probabilities in eighths, (S + 1, V)."""
    rows = torch.stack([_EIGHTHS.roll(row) for row in range(END + 1)])
    return (rows.double() / 8).log()


def exact_batch() -> Tensor:
    """8⁴ = 4096 rows that hold every response in exact proportion to the probe, (4096, T)."""
    eighths = (probe_policy().exp() * 8).round().long()
    slots = torch.stack([torch.arange(V).repeat_interleave(row) for row in eighths])  # (S + 1, 8)
    state, tokens = torch.zeros(8**T, dtype=torch.long), []
    for choice in torch.cartesian_prod(*[torch.arange(8)] * T).T:
        tokens.append(slots[state, choice].masked_fill(state == END, 0))
        state = NEXT[state, tokens[-1]]
    return torch.stack(tokens, dim=1)


PROBE, BATCH = probe_policy(), exact_batch()
CRITIC = torch.arange(END + 1, dtype=torch.float64).sin()
"""A critic of arbitrary numbers, because the invariants must hold for any critic."""
_NUMBER = LANGUAGE.number[tuple(BATCH.T)]
_LOGPROBS = exact.sequence_logprobs(tables_of(PROBE))
_MASK = response_mask(BATCH, 0)


def _collect(steps: Steps, responses: Tensor = BATCH, eta: float = ETA) -> Batch:
    return rollout(steps, PROBE, CRITIC, LANGUAGE.sft, responses, eta, _generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _gradient(steps: Steps, batch: Batch, beta: float = 0.0) -> Tensor:
    """Gradient of the whole loss in the policy's logits at the first gradient step, (S + 1, V)."""
    policy = PROBE.clone().requires_grad_(True)
    parts = loss_parts(steps, policy, CRITIC, batch, beta, _generator())
    loss = steps.total_loss(parts, ETA, 0.0)
    return torch.autograd.grad(loss, policy)[0]


def same_twice(steps: Steps) -> float:
    """max |π/π − 1| of two forward passes with the same weights."""
    batch, generator = _collect(steps), _generator()
    again = steps.token_logprobs(steps.forward(PROBE, batch.states, generator), batch.responses)
    other = steps.token_logprobs(steps.forward(PROBE, batch.states, generator), batch.responses)
    return ((again - other).exp() - 1).abs().max().item()


def loss_starts_at_zero(steps: Steps) -> float:
    """|policy loss| before the first gradient step: ratio 1 times advantages of mean 0."""
    batch = _collect(steps)
    return steps.surrogate(batch.logprobs, batch, 0.2).abs().item()


def logprobs_add_up(steps: Steps) -> float:
    """max |Σ_t log π(y_t|s_t) − log π(y)|."""
    batch = _collect(steps)
    return ((batch.logprobs * batch.mask).sum(1) - _LOGPROBS[_NUMBER]).abs().max().item()


def reward_gap(
    rewards: Tensor, scores: Tensor, log_ratios: Tensor, mask: Tensor, eta: float
) -> Tensor:
    """max over the responses of |Σ_t r_t − (score − η·log-ratio)|, (); 0 in a correct trainer.

    Args:
        rewards: the rewards of the trainer per token, (B, T).
        scores: (B,).
        log_ratios: log π(y) − log π_ref(y) of each response, (B,).
        mask: (B, T), bool or 0/1.
        eta: η.
    """
    wanted = scores - eta * log_ratios
    return (masked_sum(rewards, mask, dim=1) - wanted).abs().max()


def rewards_add_up(steps: Steps) -> float:
    """`reward_gap`, with the exact log-ratio of every response."""
    batch, log_ratios = _collect(steps), (_LOGPROBS - LANGUAGE.ref_logprobs)[_NUMBER]
    return reward_gap(batch.rewards, batch.scores, log_ratios, _MASK, ETA).item()


def samples_are_the_policys(steps: Steps) -> float:
    """|mean of π_SFT(y)/π(y) over 20,000 samples − 1|, in standard errors beyond the fourth."""
    responses = steps.sample(PROBE, 20_000, _generator())
    weights = (LANGUAGE.ref_logprobs - _LOGPROBS).exp()[LANGUAGE.number[tuple(responses.T)]]
    error = (weights.mean() - 1).abs() / (weights.std() / len(weights) ** 0.5)
    return max(error.item() - 4, 0.0)


def padding_changes_nothing(steps: Steps) -> float:
    """max |difference of the gradients| when two columns of padding are appended."""
    ended = BATCH[(BATCH == 0).any(dim=1)]  # in the other rows, padding 0 would be a new <eos>
    padded = torch.nn.functional.pad(ended, (0, 2))
    one, other = (_gradient(steps, _collect(steps, rows)) for rows in (ended, padded))
    return (one - other).abs().max().item()


def returns_are_returns(steps: Steps) -> float:
    """max |returns − Σ_{k≥t} r_k|: with γ = λ = 1 the target is the sum of future rewards."""
    batch = _collect(steps)
    to_go = returns_to_go(batch.rewards, batch.mask)
    return (batch.returns - to_go).mul(batch.mask).abs().max().item()


def reference_stands_still(steps: Steps) -> float:
    """max |π_ref after the update − π_ref before|."""
    return (steps.next_reference(LANGUAGE.sft, PROBE) - LANGUAGE.sft).abs().max().item()


def update_is_the_gradient(steps: Steps) -> float:
    """1 − cosine between the first update and ∇(E[r] − η·KL(π ‖ π_ref)), computed exactly."""
    policy = PROBE.clone().requires_grad_(True)
    logprobs = exact.sequence_logprobs(tables_of(policy))
    objective = exact.objective(logprobs, LANGUAGE.ref_logprobs, LANGUAGE.scores, ETA)
    wanted = torch.autograd.grad(objective, policy)[0].flatten()
    got = -_gradient(steps, _collect(steps)).flatten()
    return 1 - torch.nn.functional.cosine_similarity(got, wanted, dim=0).item()


def penalty_in_the_loss_pulls(steps: Steps) -> float:
    """max |∇ of the loss penalty − local ∇KL(π ‖ π_ref)|, per token."""
    policy, batch = PROBE.clone().requires_grad_(True), _collect(steps)
    parts = loss_parts(steps, policy, CRITIC, batch, 0.0, _generator())
    if not parts.kl.requires_grad:
        return torch.inf
    got = torch.autograd.grad(parts.kl, policy)[0][:END]
    wanted = torch.cat(kl_loss_gradient(tables_of(PROBE), tables_of(LANGUAGE.sft), "mse"))
    return (got - wanted / _mean_length()).abs().max().item()


def bonus_raises_entropy(steps: Steps) -> float:
    """max |∇loss with β − ∇loss without − (−β·∇H)|, per token."""
    batch = _collect(steps)
    got = (_gradient(steps, batch, BETA) - _gradient(steps, batch))[:END]
    wanted = -BETA * torch.cat(entropy_loss_gradient(tables_of(PROBE))) / _mean_length()
    return (got - wanted).abs().max().item()


def eta_finds_its_target(steps: Steps) -> float:
    """|Change of η| at the target, plus 1 if a KL of twice the target does not raise η."""
    kls, mask = torch.full((4, 3), 0.5, dtype=torch.float64), torch.ones(4, 3, dtype=torch.bool)
    stays = steps.next_eta(ETA, kls, mask, 1.5)  # 3 tokens of 0.5 nats are 1.5 nats a response
    rises = steps.next_eta(ETA, 2 * kls, mask, 1.5)
    return abs(stays - ETA) + float(rises <= ETA)


def clip_lets_go(steps: Steps) -> float:
    """max |∇surrogate − the right gradient| at tokens beyond the band, on either side."""
    logprobs = torch.tensor([[0.5, 0.5, -0.5, -0.5]], dtype=torch.float64, requires_grad=True)
    zeros, signs = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    batch = _collect(steps)._replace(
        logprobs=zeros, ref_logprobs=zeros, advantages=signs.double(), mask=zeros == 0
    )
    got = torch.autograd.grad(steps.surrogate(logprobs, batch, 0.2), logprobs)[0]
    asked_for = torch.tensor([[True, False, False, True]])  # moved where the advantage wants it
    wanted = (-signs * logprobs.detach().exp() / 4).masked_fill(asked_for, 0.0)
    return (got - wanted).abs().max().item()


def _mean_length() -> float:
    return _MASK.sum().item() / len(_MASK)


class Invariant(NamedTuple):
    """A statement that must hold before training, and the gap by which a trainer breaks it."""

    name: str
    gap: Callable[[Steps], float]
    """0 up to rounding in a correct trainer."""

    @property
    def title(self) -> str:
        """The name, in the reader's language."""
        return tr(self.name)


TOLERANCE = 1e-9
INVARIANTS = (
    Invariant("same twice", same_twice),
    Invariant("loss starts at 0", loss_starts_at_zero),
    Invariant("log-probs add up", logprobs_add_up),
    Invariant("rewards add up", rewards_add_up),
    Invariant("samples are π's", samples_are_the_policys),
    Invariant("padding is nothing", padding_changes_nothing),
    Invariant("returns are returns", returns_are_returns),
    Invariant("π_ref stands still", reference_stands_still),
    Invariant("update is ∇J", update_is_the_gradient),
    Invariant("KL loss has the right gradient", penalty_in_the_loss_pulls),
    Invariant("bonus is −β·H", bonus_raises_entropy),
    Invariant("η finds its target", eta_finds_its_target),
    Invariant("clip on the right side", clip_lets_go),
)


def caught_by(steps: Steps) -> list[str]:
    """The names of the invariants that a trainer breaks."""
    return [i.name for i in INVARIANTS if not i.gap(steps) < TOLERANCE]
