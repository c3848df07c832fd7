"""Exercises of notebook 10: name the bug, mend the line, write the invariant that catches it."""

import torch
from torch import Tensor

from rlhf_lab.exercises.bug_museum_choices import CHOICES
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.kl import k1, k2, k3
from rlhf_lab.lessons.museum.invariants import reward_gap
from rlhf_lab.lessons.museum.steps import loss_penalty, next_eta
from rlhf_lab.masking import masked_mean, masked_sum, terminal_reward

_MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
_LOGPROBS = -torch.tensor(
    [[0.3, 1.9, 0.7, 5.0], [2.2, 0.4, 9.0, 3.0], [1.1, 0.2, 2.5, 0.6]], dtype=torch.float64
)
_REF_LOGPROBS = -torch.tensor(
    [[1.6, 0.5, 2.1, 1.0], [0.9, 1.8, 2.0, 7.0], [2.3, 1.7, 0.8, 1.9]], dtype=torch.float64
)
_SCORES = torch.tensor([1.5, -0.7, 0.4], dtype=torch.float64)
_LOG_RATIOS = masked_sum(_LOGPROBS - _REF_LOGPROBS, _MASK, dim=1)
_ETA = 0.3


def _paid(extra: Tensor) -> Tensor:
    """Rewards whose sums over the mask are right up to `extra` per response; garbage off it."""
    wanted = _SCORES - _ETA * _LOG_RATIOS + extra
    rewards = torch.tensor(
        [[0.2, -0.1, 0.0, 7.0], [0.4, 0.0, -8.0, 9.0], [0.1, 0.3, -0.6, 0.0]], dtype=torch.float64
    )
    return rewards + terminal_reward(wanted - masked_sum(rewards, _MASK, dim=1), _MASK)


def _gap_case(name: str, *extra: float) -> Case:
    rewards = _paid(torch.tensor(extra, dtype=torch.float64))
    return Case(name, (rewards, _SCORES, _LOG_RATIOS, _MASK, _ETA))


_GAP = Exercise(
    name="reward_gap",
    section="10_bug_museum: What would have caught it",
    minutes=7,
    reference=reward_gap,
    cases=(
        _gap_case("a correct trainer's rewards", 0.0, 0.0, 0.0),
        _gap_case("a batch whose errors cancel", 0.8, -0.5, -0.3),
        _gap_case("a trainer that pays too little", 0.0, -0.9, 0.1),
    ),
    mistakes=(
        Mistake(
            "mean over the batch",
            13,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores + eta * log_ratios).mean().abs()
            ),
            "You compare the mean over the batch. One KL subtracted from every sample keeps that "
            "mean and still regularises nothing, so your test would pass exhibit G.",
            "Must the sum be right on average, or for each response?",
        ),
        Mistake(
            "no absolute value",
            2,
            lambda rewards, scores, log_ratios, mask, eta: (
                masked_sum(rewards, mask, dim=1) - scores + eta * log_ratios
            ).max(),
            "Your gap keeps its sign, so a trainer that pays too little has a gap below 0 and "
            "passes.",
            "In which direction may a trainer be wrong?",
        ),
        Mistake(
            "penalty added",
            2,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores - eta * log_ratios).abs().max()
            ),
            "You expect score + η·log-ratio. That pays for leaving π_ref: your test fails the "
            "clean trainer and passes exhibit B.",
            "What does a response lose that π says more often than π_ref?",
        ),
        Mistake(
            "padding included",
            8,
            lambda rewards, scores, log_ratios, mask, eta: (
                (rewards.sum(1) - scores + eta * log_ratios).abs().max()
            ),
            "You add up the padding too. What stands there is never used, so a correct trainer "
            "may fail your test.",
            "Which positions does the mask select?",
        ),
        Mistake(
            "mean over tokens",
            12,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_mean(rewards, mask, dim=1) - scores + eta * log_ratios).abs().max()
            ),
            "You average the rewards over the tokens. The score is paid once per response, so "
            "it is the sum that must equal score − η·log-ratio.",
            "What does a reward of 0, 0, 1 add up to?",
        ),
    ),
)


_PENALTY = Exercise(
    name="loss_penalty",
    section="10_bug_museum: Mend the line",
    minutes=6,
    reference=loss_penalty,
    cases=(
        Case("three responses of different length", (_LOGPROBS, _REF_LOGPROBS, _MASK), (0,)),
        Case("a policy far from its reference", (2 * _LOGPROBS, _REF_LOGPROBS, _MASK), (0,)),
    ),
    mistakes=(
        Mistake(
            "k1",
            16,
            lambda logprobs, ref_logprobs, mask: masked_mean(k1(logprobs, ref_logprobs), mask),
            "You differentiate k1. Its gradient is that of log π alone: π_ref drops out of it, "
            "and its mean over samples of π is 0. This is exhibit L again.",
            "Change ref_logprobs: which gradient must change with it?",
        ),
        Mistake(
            "detached",
            14,
            lambda logprobs, ref_logprobs, mask: loss_penalty(
                logprobs.detach(), ref_logprobs, mask
            ),
            "Your value is right and your gradient is 0. A constant in the loss moves no weight: "
            "this is exhibit U again.",
            "What does loss.backward() see of it?",
        ),
        Mistake(
            "k3",
            17,
            lambda logprobs, ref_logprobs, mask: masked_mean(k3(logprobs, ref_logprobs), mask),
            "You differentiate k3. Its mean gradient is that of KL(π_ref ‖ π): it pulls towards "
            "π_ref too, but by the other divergence.",
            "Which of the three estimators has d as its derivative?",
        ),
        Mistake(
            "k3 with roles swapped",
            17,
            lambda logprobs, ref_logprobs, mask: masked_mean(k3(ref_logprobs, logprobs), mask),
            "You take k3 of π_ref against π. Its mean is χ²(π ‖ π_ref) − KL(π ‖ π_ref), and one "
            "token that π_ref finds unlikely outweighs all others.",
            "Which estimator needs no exponential at all?",
        ),
        Mistake(
            "padding included",
            8,
            lambda logprobs, ref_logprobs, mask: k2(logprobs, ref_logprobs).mean(),
            "You average over the padding too. The penalty then depends on how long the longest "
            "response of the batch is.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "sum instead of mean",
            12,
            lambda logprobs, ref_logprobs, mask: masked_sum(k2(logprobs, ref_logprobs), mask),
            "You add up where the other losses average. Next to them your η grows with the batch "
            "and with the length of its responses.",
            "What happens to the clipped loss when you double the batch?",
        ),
    ),
)


def _moved(eta: float, error: float) -> float:
    return eta * (1 + min(0.1, max(-0.1, error)))


def _eta_case(name: str, target: float) -> Case:
    return Case(name, (0.2, _LOGPROBS - _REF_LOGPROBS, _MASK, target))


_STEER = Exercise(
    name="next_eta",
    section="10_bug_museum: Mend the line",
    minutes=6,
    reference=next_eta,
    cases=(
        _eta_case("a policy a little nearer than its target", 1.3),
        _eta_case("a policy a little further than its target", 1.2),
        _eta_case("a policy much too far", 0.2),
        _eta_case("a policy much too near", 6.0),
    ),
    mistakes=(
        Mistake(
            "wrong way",
            25,
            lambda eta, kls, mask, target: _moved(
                eta, 1 - masked_sum(kls, mask).item() / len(kls) / target
            ),
            "Your η falls when the policy is too far away. That lets it go further, which lowers "
            "η again: this is exhibit H.",
            "KL is above the target: should the leash be stronger or weaker?",
        ),
        Mistake(
            "nats per token",
            25,
            lambda eta, kls, mask, target: _moved(eta, masked_mean(kls, mask).item() / target - 1),
            "You hold nats per token against a target in nats per response. The policy then "
            "settles at length × target: this is exhibit N.",
            "The KL of a response is which sum of the KLs of its tokens?",
        ),
        Mistake(
            "no limit",
            25,
            lambda eta, kls, mask, target: eta * masked_sum(kls, mask).item() / len(kls) / target,
            "You move η by the whole error. One batch with twice the target doubles η, and a "
            "negative estimate of the KL turns η negative.",
            "By how much may one noisy batch move η?",
        ),
        Mistake(
            "padding included",
            8,
            lambda eta, kls, mask, target: _moved(eta, kls.sum().item() / len(kls) / target - 1),
            "You add up the padding. Whatever stands there now steers η.",
            "Which positions does the mask select?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (*CHOICES, _GAP, _PENALTY, _STEER)
