"""Exercises of notebook 04: rewards of whole responses, the direction of KL; then the optimum."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.exercises.the_leash_optimum import EXERCISES as OPTIMUM_EXERCISES
from rlhf_lab.kl import exact_kl
from rlhf_lab.lessons.the_leash import total_reward
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
            "You multiplied by the mask. What stands in the padding may be infinite, and ∞ · 0 is "
            "NaN: one such token spoils the reward.",
            "Which function of torch replaces numbers instead of multiplying them?",
        ),
        Mistake(
            "absolute values",
            3,
            _with_penalty(lambda ratios, mask: _kept(ratios.abs(), mask).sum(dim=1)),
            "You made negative log-ratios positive. A token that π says less often than π_ref "
            "has a negative one, and earns a bonus.",
            "Does log π(y) − log π_ref(y) have to be positive?",
        ),
        Mistake(
            "one KL for all",
            13,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1).mean().expand(len(r))),
            "Every response pays the same. A price that does not depend on what was said "
            "holds nobody back.",
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
            "A KL can never be negative. Who writes the samples?",
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

EXERCISES = (_TOTAL, _KL, _SAME, *OPTIMUM_EXERCISES)
