"""More exercises of notebook 04: π*, its value, the regret, and an η for a budget of nats."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlhf_lab.exact import evaluate, optimum, regret
from rlhf_lab.exercises.exercise import Case, Exercise, Mistake
from rlhf_lab.kl import exact_kl
from rlhf_lab.lessons.the_leash import eta_for_budget


def _numbers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _from_logits(
    logits: Callable[[Tensor, Tensor, float], Tensor],
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """Normalised logits and η·log Z."""

    def wrong(ref_logprobs: Tensor, scores: Tensor, eta: float) -> tuple[Tensor, Tensor]:
        z = logits(ref_logprobs, scores, eta)
        return z.log_softmax(dim=0), eta * z.logsumexp(dim=0)

    return wrong


_REVIEWS = (_numbers(4, 5).log_softmax(dim=0), _numbers(5, 5))

_OPTIMAL = Exercise(
    name="optimal_policy",
    section="04_the_leash: The best policy there is",
    minutes=7,
    reference=optimum,
    cases=(
        Case("five responses, η = 0.5", (*_REVIEWS, 0.5)),
        Case("the same, η = 2", (*_REVIEWS, 2.0)),
    ),
    mistakes=(
        Mistake(
            "log Z missing",
            13,
            lambda ref, r, eta: (ref + r / eta, eta * (ref + r / eta).logsumexp(dim=0)),
            "J* is right, but your π* lacks − log Z. It is the same number for every response, "
            "so the odds are right, and yet the probabilities do not add up to 1.",
            "What must Σ exp of your first result be?",
        ),
        Mistake(
            "η multiplied",
            23,
            _from_logits(lambda ref, r, eta: ref + eta * r),
            "You multiplied the score by η. A large η is a short leash: it has to make the score "
            "count for less.",
            "What should happen to π* as η grows?",
        ),
        Mistake(
            "π_ref left out",
            18,
            _from_logits(lambda ref, r, eta: r / eta),
            "Your π* does not know π_ref. Rare and common responses with the same score come out "
            "equally likely.",
            "For a very large η, what should π* be?",
        ),
        Mistake(
            "minus",
            2,
            _from_logits(lambda ref, r, eta: ref - r / eta),
            "Your π* prefers low scores.",
            "Which response should gain, one with a high score or one with a low score?",
        ),
        Mistake(
            "log Z for J*",
            12,
            lambda ref, r, eta: (optimum(ref, r, eta).logprobs, (ref + r / eta).logsumexp(dim=0)),
            "π* is right. Your second result is log Z, in nats; J* is in units of score.",
            "Which factor turns nats into score?",
        ),
    ),
)


_POLICIES = tuple((1.5 * _numbers(seed, 6)).log_softmax(dim=0) for seed in (6, 7))

_REGRET = Exercise(
    name="regret",
    section="04_the_leash: What is left on the table",
    minutes=6,
    reference=regret,
    cases=(
        Case("six responses, η = 0.3", (*_POLICIES, _numbers(8, 6), 0.3)),
        Case("the same, η = 2", (*_POLICIES, _numbers(8, 6), 2.0)),
    ),
    mistakes=(
        Mistake(
            "directions swapped",
            1,
            lambda lp, ref, r, eta: eta * exact_kl(optimum(ref, r, eta).logprobs, lp),
            "You took η·KL(π* ‖ π): its mean is over what π* says. Regret is about what π says.",
            "Whose samples does π earn its reward with?",
        ),
        Mistake(
            "distance to π_ref",
            22,
            lambda lp, ref, r, eta: eta * exact_kl(lp, ref),
            "That is η·KL(π ‖ π_ref), the penalty. A policy that never moved would have no regret.",
            "Which policy has regret 0?",
        ),
        Mistake(
            "penalty left out",
            18,
            lambda lp, ref, r, eta: optimum(ref, r, eta).value - lp.exp() @ r,
            "You compared J* with E[r]. J(π) also pays for its KL.",
            "What is J(π), in full?",
        ),
        Mistake(
            "η left out",
            12,
            lambda lp, ref, r, eta: exact_kl(lp, optimum(ref, r, eta).logprobs),
            "You have KL(π ‖ π*), in nats. The regret is in units of score.",
            "Which factor turns nats into score?",
        ),
        Mistake(
            "turned round",
            2,
            lambda lp, ref, r, eta: -regret(lp, ref, r, eta),
            "You have J(π) − J*, which is never positive. Regret is what is missing.",
            "Which of the two is larger?",
        ),
    ),
)


def _within(
    cost: Callable[[Tensor, Tensor, float], Tensor],
) -> Callable[[Tensor, Tensor, Sequence[float], float], float]:
    """The smallest η whose cost(log π*, log π_ref, η) is within the budget."""

    def wrong(ref: Tensor, scores: Tensor, etas: Sequence[float], budget: float) -> float:
        return min(
            eta for eta in etas if cost(optimum(ref, scores, eta).logprobs, ref, eta) <= budget
        )

    return wrong


def _largest(ref: Tensor, scores: Tensor, etas: Sequence[float], budget: float) -> float:
    policies = {eta: optimum(ref, scores, eta).logprobs for eta in etas}
    return max(e for e, p in policies.items() if evaluate(p, ref, scores, scores).kl <= budget)


_ETAS = (5.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1)

_BUDGET = Exercise(
    name="eta_for_budget",
    section="04_the_leash: What a nat buys",
    minutes=6,
    reference=eta_for_budget,
    cases=(
        Case("five responses and a budget of 0.55 nats", (*_REVIEWS, _ETAS, 0.55)),
        Case("the same list turned round and 1.4 nats", (*_REVIEWS, _ETAS[::-1], 1.4)),
        Case("a list that ends at η = 0.3 and 0.35 nats", (*_REVIEWS, _ETAS[:5], 0.35)),
    ),
    mistakes=(
        Mistake(
            "the largest η",
            25,
            _largest,
            "Your η keeps the budget, but so does a smaller one, and it scores higher.",
            "A short leash or a long one: which spends more nats?",
        ),
        Mistake(
            "directions swapped",
            1,
            _within(lambda policy, ref, eta: exact_kl(ref, policy)),
            "You charged KL(π_ref ‖ π*). The budget is for KL(π* ‖ π_ref).",
            "Which of the two policies is sampled from?",
        ),
        Mistake(
            "the penalty for the KL",
            23,
            _within(lambda policy, ref, eta: eta * exact_kl(policy, ref)),
            "You compared η·KL with the budget. The budget is in nats, the penalty in units of "
            "score.",
            "Does the budget mention η?",
        ),
        Mistake(
            "budget left out",
            18,
            lambda ref, scores, etas, budget: min(etas),
            "Your η is always the smallest. It scores highest, but its optimum is farther from "
            "π_ref than the budget allows.",
            "Which argument have you not used?",
        ),
    ),
)

EXERCISES = (_OPTIMAL, _REGRET, _BUDGET)
