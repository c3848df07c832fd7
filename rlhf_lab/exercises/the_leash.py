"""Exercises of notebook 04: the price of a response, the direction of KL, the optimum."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlhf_lab.exact import evaluate, optimum, regret
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.kl import exact_kl
from rlhf_lab.lessons.the_leash import eta_for_budget, total_reward
from rlhf_lab.masking import masked_sum


def _numbers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _distributions(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """log π and log π_ref whose log-ratios are of size 1 to 2."""
    policy, ref = (1.5 * _numbers(seed, 2, *shape)).log_softmax(dim=-1)
    return policy, ref


def _with_penalty(
    penalty: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]:
    """scores − η · penalty(log-ratios, mask)."""

    def wrong(
        scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
    ) -> Tensor:
        return scores - eta * penalty(logprobs - ref_logprobs, mask)

    return wrong


def _kept(ratios: Tensor, mask: Tensor) -> Tensor:
    return ratios.masked_fill(~mask, 0.0)


_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
_LOGPROBS, _REF_LOGPROBS = -_numbers(1, 2, 3, 4).abs() - 0.5
_LOGPROBS[1, 3] = -torch.inf  # padding that a model finds impossible; 0 · ∞ is NaN
_TOKENS = (_numbers(0, 3), _LOGPROBS, _REF_LOGPROBS, _MASK)

_TOTAL = Exercise(
    name="total_reward",
    section="04_the_leash: The price of one response",
    minutes=6,
    reference=total_reward,
    helpers=(masked_sum,),
    cases=(
        Case("three responses of 4, 2 and 1 tokens, η = 0.3", (*_TOKENS, 0.3)),
        Case("the same with η = 2", (*_TOKENS, 2.0)),
    ),
    mistakes=(
        Mistake(
            "plus",
            2,
            _with_penalty(lambda ratios, mask: -_kept(ratios, mask).sum(dim=1)),
            "You added the penalty. That pays the policy for leaving π_ref.",
            "A response has become likelier than under π_ref: should it gain or lose?",
        ),
        Mistake(
            "mean over tokens",
            12,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1) / mask.sum(dim=1)),
            "You divided by the number of tokens. log π(y) of a response is the sum over its "
            "tokens, so η would weigh less the longer the response is.",
            "What is the probability of a response in terms of those of its tokens?",
        ),
        Mistake(
            "padding counted",
            8,
            _with_penalty(lambda ratios, mask: ratios.sum(dim=1)),
            "You summed over the padding too. The policy never chose those tokens.",
            "Which argument have you not used?",
        ),
        Mistake(
            "multiplied by the mask",
            8,
            _with_penalty(lambda ratios, mask: (ratios * mask).sum(dim=1)),
            "You multiplied by the mask. Log-probabilities in the padding may be infinite, and "
            "∞ · 0 is NaN: one such token spoils the reward.",
            "Which function of torch replaces numbers instead of multiplying them?",
        ),
        Mistake(
            "absolute values",
            3,
            _with_penalty(lambda ratios, mask: _kept(ratios.abs(), mask).sum(dim=1)),
            "You made negative log-ratios positive. A token that π says less often than π_ref "
            "has a negative log-ratio and earns a bonus.",
            "Does log π(y) − log π_ref(y) have to be positive?",
        ),
        Mistake(
            "one KL for all",
            13,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1).mean().expand(len(r))),
            "Every response pays the same penalty. A penalty that does not depend on the response "
            "cannot keep the policy near π_ref.",
            "Which response left π_ref, and which did not?",
        ),
    ),
)


def _jeffreys(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return (exact_kl(logprobs, ref_logprobs) + exact_kl(ref_logprobs, logprobs)) / 2


_KL = Exercise(
    name="exact_kl",
    section="04_the_leash: KL has a direction",
    minutes=5,
    reference=exact_kl,
    cases=(
        Case("one distribution over 4 tokens", _distributions(2, 4), (0,)),
        Case("a batch of 3 over 5 tokens", _distributions(3, 3, 5), (0,)),
    ),
    mistakes=(
        Mistake(
            "directions swapped",
            1,
            lambda logprobs, ref_logprobs: exact_kl(ref_logprobs, logprobs),
            "That is KL(π_ref ‖ π): the mean is taken under π_ref. The text comes from π.",
            "Whose probabilities are the weights?",
        ),
        Mistake(
            "weights of π_ref",
            1,
            lambda lp, ref: (ref.exp() * (lp - ref)).sum(dim=-1),
            "The log-ratio is right, the weights are not: under π_ref its mean is "
            "−KL(π_ref ‖ π), which is negative.",
            "A KL can never be negative. Which policy writes the samples?",
        ),
        Mistake(
            "minus",
            2,
            lambda logprobs, ref_logprobs: -exact_kl(logprobs, ref_logprobs),
            "You have −KL(π ‖ π_ref). Subtracted from the reward, it would push away from π_ref.",
            "Where π says more than π_ref, is your log-ratio positive?",
        ),
        Mistake(
            "a distance",
            23,
            _jeffreys,
            "You averaged the two directions. That is symmetric, as a distance is, but it is not "
            "KL(π ‖ π_ref).",
            "The formula has one weight per token. Which?",
        ),
        Mistake(
            "mean over the vocabulary",
            12,
            lambda lp, ref: (lp.exp() * (lp - ref)).mean(dim=-1),
            "You divided by the size of the vocabulary. The probabilities are weights already.",
            "What do the weights add up to?",
        ),
    ),
)

_SAME = Choice(
    name="same_objective",
    section="04_the_leash: KL has a direction",
    minutes=2,
    answer="b",
    reason="Same formula, other letters: their β is our η. Names and letters differ from text to "
    "text, the formula does not.",
    mistakes=(
        Mistake(
            "the letter η",
            23,
            "a",
            "The letter is ours, the weights are not: this mean is taken under π_SFT.",
            "Whose probabilities are the weights?",
        ),
        Mistake(
            "the letter β",
            23,
            "c",
            "That is an entropy bonus: π_SFT does not occur in it.",
            "What would hold the policy near π_SFT?",
        ),
        Mistake(
            "a distance",
            23,
            "d",
            "This one is symmetric. KL(π ‖ π_SFT) is not, which is why its direction is written.",
            "Exchange π and π_SFT: does our penalty stay the same?",
        ),
    ),
)


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
            "You have J(π) − J*, which is never positive. The regret is never negative.",
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
            "Your function always returns the smallest η. Its optimum scores highest, but it is "
            "farther from π_ref than the budget allows.",
            "Which argument have you not used?",
        ),
    ),
)

EXERCISES = (_TOTAL, _KL, _SAME, _OPTIMAL, _REGRET, _BUDGET)
