"""Exercises of notebook 03: measuring a policy, the peak of the gold score, best-of-n."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlhf_lab.best_of_n import best_of_n, best_of_n_kl, best_of_n_kl_bound
from rlhf_lab.exact import evaluate, optimum
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.lessons.too_much_reward import gold_peak


def _policies(seed: int, responses: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log π, log π_ref, scores and gold scores; log-ratios of 1 to 2, float64."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(4, responses, generator=generator, dtype=torch.float64)
    policy, ref = (1.5 * numbers[:2]).log_softmax(dim=1)
    return policy, ref, numbers[2], numbers[2] + numbers[3]


def _measured_by(
    weights: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """`evaluate` with other weights than π's."""

    def wrong(
        logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, golds: Tensor
    ) -> tuple[Tensor, ...]:
        w = weights(logprobs, ref_logprobs)
        return w @ scores, w @ golds, w @ (logprobs - ref_logprobs), -(w @ logprobs)

    return wrong


def _kl_swapped(
    logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, golds: Tensor
) -> tuple[Tensor, ...]:
    score, gold, _, entropy = evaluate(logprobs, ref_logprobs, scores, golds)
    return score, gold, ref_logprobs.exp() @ (ref_logprobs - logprobs), entropy


_MEASURE = Exercise(
    name="measure",
    section="03_too_much_of_a_good_reward: Measure a policy without sampling",
    minutes=5,
    reference=evaluate,
    outputs=("score", "gold", "kl", "entropy"),
    cases=(
        Case("a policy over 4 responses", _policies(0, 4)),
        Case("a policy over 7 responses", _policies(1, 7)),
    ),
    mistakes=(
        Mistake(
            "weighted by π_ref",
            1,
            _measured_by(lambda logprobs, ref_logprobs: ref_logprobs.exp()),
            "Every mean is taken under π_ref. That describes π_SFT, whatever the policy says.",
            "Whose reviews would you read to judge π?",
        ),
        Mistake(
            "plain average",
            12,
            _measured_by(lambda logprobs, _: torch.full_like(logprobs, 1 / len(logprobs))),
            "All responses have the same weight. The mean over everything that could be said "
            "tells nothing about what π says.",
            "How often does π say each of them?",
        ),
        Mistake(
            "directions swapped",
            1,
            _kl_swapped,
            "Your KL is KL(π_ref ‖ π): its mean is taken under π_ref. The penalty is "
            "KL(π ‖ π_ref), over what π says.",
            "Which of the two policies gives the weights?",
        ),
        Mistake(
            "logs as weights",
            29,
            _measured_by(lambda logprobs, _: logprobs),
            "The weights are log-probabilities. They are negative, and do not add up to 1.",
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "cross-entropy for KL",
            1,
            lambda p, q, r, g: (*evaluate(p, q, r, g)[:2], -(p.exp() @ q), evaluate(p, q, r, g)[3]),
            "That is the cross-entropy −Σ π·log π_ref. KL(π ‖ π_ref) is what it exceeds H(π) by.",
            "What should the KL be if the two policies are equal?",
        ),
        Mistake(
            "entropy of π_ref",
            20,
            lambda p, q, r, g: (*evaluate(p, q, r, g)[:3], -(q.exp() @ q)),
            "That is the entropy of π_ref.",
            "Whose variety is asked for?",
        ),
        Mistake(
            "cross-entropy for entropy",
            20,
            lambda p, q, r, g: (*evaluate(p, q, r, g)[:3], -(p.exp() @ q)),
            "That is the cross-entropy −Σ π·log π_ref. The entropy is the mean of −log π.",
            "Which policy's log-probability is averaged?",
        ),
        Mistake(
            "scores for golds",
            27,
            lambda p, q, r, g: (p.exp() @ r, p.exp() @ r, *evaluate(p, q, r, g)[2:]),
            "Your E[gold] is E[score]: the reward model's opinion again.",
            "Which argument holds what the careful reader thinks?",
        ),
        Mistake(
            "ratio of the probabilities",
            1,
            lambda p, q, r, g: (
                *evaluate(p, q, r, g)[:2],
                p.exp() @ (p - q).exp(),
                evaluate(p, q, r, g)[3],
            ),
            "You average the ratio π/π_ref. The KL is the mean of its logarithm.",
            "What is log π − log π_ref the logarithm of?",
        ),
        Mistake(
            "difference of probabilities",
            1,
            lambda p, q, r, g: (
                *evaluate(p, q, r, g)[:2],
                p.exp() @ (p.exp() - q.exp()),
                evaluate(p, q, r, g)[3],
            ),
            "You average the difference of the probabilities. The KL is the mean of the difference "
            "of their logarithms.",
            "Which quantity adds up over the tokens of a review?",
        ),
        Mistake(
            "absolute log-ratios",
            3,
            lambda p, q, r, g: (
                *evaluate(p, q, r, g)[:2],
                p.exp() @ (p - q).abs(),
                evaluate(p, q, r, g)[3],
            ),
            "You average |log π − log π_ref|. The negative ones belong to the mean.",
            "Does a log-ratio have to be positive?",
        ),
    ),
)


def _peak_of(
    number: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Sequence[float]], float]:
    """The η at which some number of (π*, log π_ref, scores, golds, η) is highest."""

    def wrong(ref: Tensor, scores: Tensor, golds: Tensor, etas: Sequence[float]) -> float:
        def height(eta: float) -> float:
            policy = optimum(ref, scores, eta).logprobs
            return number(policy, ref, scores, golds, eta).item()

        return max(etas, key=height)

    return wrong


# A good review that π_ref says, a bad one, and a rare one that only the score likes.
_PLANTED = (
    torch.tensor([0.3, 0.699, 0.001], dtype=torch.float64).log(),
    torch.tensor([1.0, 0.0, 1.6], dtype=torch.float64),
    torch.tensor([2.0, 0.0, -2.0], dtype=torch.float64),
)
_ETAS = (3.0, 1.0, 0.3, 0.15, 0.05)


def _shuffled(seed: int) -> tuple[Tensor, Tensor, Tensor, tuple[float, ...]]:
    """Four reviews that all have bad golds, and a shuffled list.

    The seeds were searched for: each of the known mistakes ends at another η in one of them. With
    all golds negative, a search that starts at 0 finds nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = [torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(3)]
    scores = 1.5 * numbers[1]
    order = torch.randperm(6, generator=generator).tolist()
    etas = tuple((3.0, 1.2, 0.6, 0.3, 0.15, 0.05)[i] for i in order)
    return (2 * numbers[0]).log_softmax(0), scores, scores + 2 * numbers[2] - 3, etas


def _gold_at(ref: Tensor, scores: Tensor, golds: Tensor, eta: float) -> float:
    return (optimum(ref, scores, eta).logprobs.exp() @ golds).item()


def _by_logs(ref: Tensor, scores: Tensor, golds: Tensor, eta: float) -> float:
    return (optimum(ref, scores, eta).logprobs @ golds).item()


def _from_zero(ref: Tensor, scores: Tensor, golds: Tensor, etas: Sequence[float]) -> float | None:
    best, chosen = 0.0, 0.0
    for eta in etas:
        if _gold_at(ref, scores, golds, eta) > best:
            best, chosen = _gold_at(ref, scores, golds, eta), eta
    return chosen


def _until_it_falls(ref: Tensor, scores: Tensor, golds: Tensor, etas: Sequence[float]) -> float:
    for eta, following in itertools.pairwise(etas):
        if _gold_at(ref, scores, golds, following) < _gold_at(ref, scores, golds, eta):
            return eta
    return etas[-1]


_PEAK = Exercise(
    name="gold_peak",
    section="03_too_much_of_a_good_reward: More pressure",
    minutes=7,
    reference=gold_peak,
    cases=(
        Case("three reviews, one of them a trick", (*_PLANTED, _ETAS)),
        Case("the same with the list turned round", (*_PLANTED, _ETAS[::-1])),
        Case("four bad reviews and a shuffled list", _shuffled(1138)),
        Case("four others", _shuffled(1819)),
        Case("and four more", _shuffled(2774)),
    ),
    mistakes=(
        Mistake(
            "gold of the likeliest review",
            26,
            lambda ref, scores, golds, etas: max(
                etas, key=lambda eta: golds[optimum(ref, scores, eta).logprobs.argmax()].item()
            ),
            "You judge the policy by its likeliest review alone. E[gold] is the mean over all that "
            "it says.",
            "How often does the policy say something else?",
        ),
        Mistake(
            "logs as weights, and the index",
            29,
            lambda ref, scores, golds, etas: etas.index(
                max(etas, key=lambda eta: _by_logs(ref, scores, golds, eta))
            ),
            "You weigh the gold scores with log-probabilities, and return the place in the list.",
            "What turns a log-probability into a probability, and which η has that index?",
        ),
        Mistake(
            "peak of the score",
            27,
            _peak_of(lambda policy, ref, scores, golds, eta: policy.exp() @ scores),
            "Your function always returns the smallest η. E[score] always rises as η falls, and so "
            "does E[gold] if `optimum` gets the gold scores.",
            "Which score does the policy maximise, and which one can show that things got worse?",
        ),
        Mistake(
            "gold taken from π_ref",
            22,
            _peak_of(lambda policy, ref, scores, golds, eta: ref.exp() @ golds),
            "Your E[gold] is that of π_ref, which does not move: it is the same for every η.",
            "Which policy should you measure at each η?",
        ),
        Mistake(
            "η multiplied",
            23,
            _peak_of(
                lambda policy, ref, scores, golds, eta: (ref + eta * scores).softmax(dim=0) @ golds
            ),
            "You multiplied the score by η. In some texts β is an inverse temperature; here η is "
            "the price of a nat, and a small η means more pressure.",
            "Where does η stand in the formula of π*?",
        ),
        Mistake(
            "the lowest gold score",
            2,
            lambda ref, scores, golds, etas: min(
                etas, key=lambda eta: _gold_at(ref, scores, golds, eta)
            ),
            "You look for the η at which E[gold] is lowest.",
            "Is the best place a maximum or a minimum?",
        ),
        Mistake(
            "the height, not the η",
            30,
            lambda ref, scores, golds, etas: max(_gold_at(ref, scores, golds, eta) for eta in etas),
            "You return how high E[gold] is at its peak. We want the η at which that is.",
            "What does max(etas, key=…) return?",
        ),
        Mistake(
            "the index, not the η",
            30,
            lambda ref, scores, golds, etas: etas.index(gold_peak(ref, scores, golds, etas)),
            "You return the place in the list. We want the η that stands there.",
            "Which η has that index?",
        ),
        Mistake(
            "a search from 0",
            27,
            _from_zero,
            "Your search begins with a best E[gold] of 0, so it finds nothing where all are "
            "negative.",
            "With which number can a search for a maximum begin?",
        ),
        Mistake(
            "until it falls",
            27,
            _until_it_falls,
            "You stop as soon as E[gold] falls in the order of the list. The list need not be "
            "sorted.",
            "What if the list is shuffled?",
        ),
        Mistake(
            "gold of a plain average",
            29,
            lambda ref, scores, golds, etas: max(
                etas, key=lambda eta: _by_logs(ref, scores, golds, eta)
            ),
            "You weigh the gold scores with log-probabilities.",
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "score and gold added",
            27,
            _peak_of(lambda policy, ref, scores, golds, eta: policy.exp() @ (scores + golds)),
            "You look for the highest sum of score and gold. The gold score alone is the judge.",
            "Which of the two can be fooled?",
        ),
        Mistake(
            "the largest gap",
            27,
            _peak_of(lambda policy, ref, scores, golds, eta: policy.exp() @ (scores - golds)),
            "You look for the largest gap between score and gold: the worst place, not the best.",
            "What is highest at the peak?",
        ),
    ),
)


def _best_of_n_kl_swapped(ref_logprobs: Tensor, scores: Tensor, n: int) -> Tensor:
    return ref_logprobs.exp() @ (ref_logprobs - best_of_n(ref_logprobs, scores, n))


_FEW = _policies(3, 5)[1:3]
_TIES = (_policies(4, 6)[1], torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], dtype=torch.float64))

_BON = Exercise(
    name="best_of_n_kl",
    section="03_too_much_of_a_good_reward: Best-of-n",
    curious=True,
    minutes=5,
    reference=best_of_n_kl,
    cases=(
        Case("the best of 2 among 5 responses", (*_FEW, 2)),
        Case("the best of 16 where two share every score", (*_TIES, 16)),
    ),
    mistakes=(
        Mistake(
            "the bound taken for the value",
            26,
            lambda ref_logprobs, scores, n: best_of_n_kl_bound(n),
            "log n − (n − 1)/n is an upper bound. It grows without limit, but the KL stops growing "
            "once best-of-n says the same thing every time.",
            "Your function never looks at π_ref. Can that be?",
        ),
        Mistake(
            "the largest log-ratio",
            26,
            lambda ref_logprobs, scores, n: (
                best_of_n(ref_logprobs, scores, n) - ref_logprobs
            ).max(),
            "That is the largest log-ratio, nearly log n. The KL is the mean of the log-ratio "
            "under best-of-n.",
            "Weigh each log-ratio by how often that response wins.",
        ),
        Mistake(
            "directions swapped",
            1,
            _best_of_n_kl_swapped,
            "You took the mean under π_ref: that is KL(π_ref ‖ π_bon), the other direction.",
            "Which of the two policies writes the samples?",
        ),
        Mistake(
            "logs as weights",
            29,
            lambda ref, scores, n: best_of_n(ref, scores, n) @ (best_of_n(ref, scores, n) - ref),
            "You weigh with log π_bon. Weights are probabilities: positive, and 1 in sum.",
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "weights of π_ref",
            1,
            lambda ref, scores, n: ref.exp() @ (best_of_n(ref, scores, n) - ref),
            "The log-ratio is right, the weights are not: under π_ref its mean is "
            "−KL(π_ref ‖ π_bon).",
            "Which of the two policies writes the samples?",
        ),
        Mistake(
            "plain average",
            12,
            lambda ref, scores, n: (best_of_n(ref, scores, n) - ref).mean(),
            "You give every response the same weight.",
            "How often does best-of-n say each of them?",
        ),
        Mistake(
            "sum without weights",
            12,
            lambda ref, scores, n: (best_of_n(ref, scores, n) - ref).sum(),
            "You add up the log-ratios of all responses. Each needs its weight.",
            "How often does best-of-n say each of them?",
        ),
        Mistake(
            "log n",
            26,
            lambda ref, scores, n: math.log(n),
            "log n is the largest that a log-ratio can become. The KL is the mean of the log-ratio "
            "under best-of-n, which is less.",
            "Your function never looks at π_ref. Can that be?",
        ),
        Mistake(
            "cross-entropy",
            1,
            lambda ref, scores, n: -(best_of_n(ref, scores, n).exp() @ ref),
            "That is the cross-entropy −Σ π_bon·log π_ref. The KL is what it exceeds H(π_bon) by.",
            "What should the KL be for n = 1?",
        ),
        Mistake(
            "entropy",
            20,
            lambda ref, scores, n: -(best_of_n(ref, scores, n).exp() @ best_of_n(ref, scores, n)),
            "That is the entropy of best-of-n: π_ref does not occur in it.",
            "What should the KL be for n = 1?",
        ),
    ),
)

_HACKING = Choice(
    name="kl_and_hacking",
    section="03_too_much_of_a_good_reward: What is commonly said",
    minutes=2,
    answer="c",
    reason="η decides how far the optimum moves, not what it says there. Only the gold score can "
    "tell, and for a real model this means that people must read samples.",
    mistakes=(
        Mistake(
            "a penalty is a guarantee",
            26,
            "a",
            "There was a penalty at η = 0.04 too, and E[gold] was below 0 for one prompt.",
            "Look at the last rows of the table of “More pressure”.",
        ),
        Mistake(
            "score is progress",
            27,
            "b",
            "The score rose at every η of the table, also where the gold score fell.",
            "Compare the two columns below the peak.",
        ),
        Mistake(
            "entropy guards",
            26,
            "d",
            "There are thousands of tricks, and an entropy bonus would only have the policy vary "
            "among them.",
            "How many reviews score higher than the best good one?",
        ),
    ),
)

EXERCISES = (_MEASURE, _PEAK, _BON, _HACKING)
