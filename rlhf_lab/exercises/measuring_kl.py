"""Exercises of notebook 05: estimating KL(π ‖ π_ref) from samples of π."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.kl import k1, k3, mean_inverse_ratio, response_kl
from rlhf_lab.masking import masked_sum

# log π and log π_ref of sampled tokens. |d| is 1 to 2 in places, and what lies off the mask is
# what a model says about padding: plausible numbers that nobody asked for.
_LOGPROBS = torch.tensor(
    [
        [-1.617, -0.403, -2.129, -0.311],
        [-0.709, -2.437, -0.113, -0.227],
        [-0.307, -0.131, -0.139, -0.149],
    ],
    dtype=torch.float64,
)
_REF = torch.tensor(
    [
        [-0.521, -1.951, -2.633, -1.153],
        [-1.811, -0.907, -0.419, -3.167],
        [-1.723, -2.293, -0.617, -2.939],
    ],
    dtype=torch.float64,
)
_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
_BATCH = Case("three reviews of 4, 2 and 1 tokens", (_LOGPROBS, _REF, _MASK))
_ONE = Case("one review of 2 tokens", (_LOGPROBS[1:2], _REF[1:2], _MASK[1:2]))
_GAPS = Case(
    "the same three, padded on the left or with a gap",
    (_LOGPROBS, _REF, torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]])),
)


def _d(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    return (logprobs - ref_logprobs) * mask


_K3 = Exercise(
    name="k3",
    section="05_measuring_kl: Three ways to estimate one number",
    minutes=5,
    reference=k3,
    cases=(
        Case("twelve tokens with |d| up to 2.9", (_LOGPROBS, _REF), (0,)),
        Case("a token that π likes less than π_ref", (_LOGPROBS[0, :1], _REF[0, :1]), (0,)),
    ),
    mistakes=(
        Mistake(
            "the ratio for its log, the 1 left out",
            17,
            lambda logprob, ref_logprob: (
                (-(logprob - ref_logprob).exp()).exp() + (logprob - ref_logprob).exp()
            ),
            "Your d is the ratio π/π_ref. It should be its logarithm; and you did not subtract 1.",
            "Is log π − log π_ref a ratio, or the log of one?",
        ),
        Mistake(
            "the ratio for its log",
            17,
            lambda logprob, ref_logprob: (
                (-(logprob - ref_logprob).exp()).exp() - 1 + (logprob - ref_logprob).exp()
            ),
            "Your d is the ratio π/π_ref. It should be its logarithm.",
            "Is log π − log π_ref a ratio, or the log of one?",
        ),
        Mistake(
            "ratio detached",
            14,
            lambda logprob, ref_logprob: (
                torch.expm1(ref_logprob - logprob).detach() + logprob - ref_logprob
            ),
            "Your values are right. With the ratio detached, the gradient is that of k1.",
            "Which of the two terms should have a gradient?",
        ),
        Mistake(
            "ratio upside down",
            17,
            lambda logprob, ref_logprob: k3(ref_logprob, logprob),
            "You used π/π_ref where π_ref/π belongs. Near d = 0 both are d²/2, so small tests "
            "pass; but the mean of yours is χ²(π ‖ π_ref) − KL(π ‖ π_ref).",
            "Which of the two ratios has mean 1 when the token comes from π?",
        ),
        Mistake(
            "ratio upside down, d as it was",
            17,
            lambda logprob, ref_logprob: torch.expm1(logprob - ref_logprob) + logprob - ref_logprob,
            "You added e^d − 1 to d. Its mean under π is χ²(π ‖ π_ref), not 0, and the sum can be "
            "negative.",
            "The term you add to d must have mean 0 under π. Which exponential does?",
        ),
        Mistake(
            "d subtracted",
            17,
            lambda logprob, ref_logprob: torch.expm1(ref_logprob - logprob) - logprob + ref_logprob,
            "Your d has the wrong sign: e^−d − 1 has mean 0, so the mean of the whole is "
            "−KL(π ‖ π_ref).",
            "Which sign of d has KL(π ‖ π_ref) as its mean?",
        ),
        Mistake(
            "the 1 left out",
            17,
            lambda logprob, ref_logprob: (ref_logprob - logprob).exp() + logprob - ref_logprob,
            "You did not subtract 1. The mean of e^−d is 1, so your estimate is 1 nat too large, "
            "and a policy at π_ref would seem to have left.",
            "What should k3 be where π and π_ref agree?",
        ),
        Mistake(
            "negative numbers cut off",
            3,
            lambda logprob, ref_logprob: k1(logprob, ref_logprob).clamp(min=0),
            "You cut the negative values of k1. They belong to its mean: without them it is "
            "larger than KL(π ‖ π_ref).",
            "k3 is never negative, but not because anything was cut. What is added to d?",
        ),
        Mistake(
            "logs taken for probabilities",
            29,
            lambda logprob, ref_logprob: ref_logprob / logprob - 1 + (logprob / ref_logprob).log(),
            "You divide one logarithm by the other. `logprob` is log π already, so d is a "
            "difference.",
            "What is log(a/b) in terms of log a and log b?",
        ),
        Mistake(
            "logs divided",
            29,
            lambda logprob, ref_logprob: (-logprob / ref_logprob).exp() - 1 + logprob / ref_logprob,
            "You divide one logarithm by the other. `logprob` is log π already, so d is a "
            "difference.",
            "What is log(a/b) in terms of log a and log b?",
        ),
        Mistake(
            "k2",
            17,
            lambda logprob, ref_logprob: (logprob - ref_logprob) ** 2 / 2,
            "That is k2, d²/2. Near d = 0 the two agree, but the mean of k2 is not the KL.",
            "Which term of mean 0 is added to d in k3?",
        ),
        Mistake(
            "k1",
            17,
            lambda logprob, ref_logprob: logprob - ref_logprob,
            "That is d itself, k1. It may be negative.",
            "What is added to d in k3, and is 0 on average?",
        ),
        Mistake(
            "d left out",
            17,
            lambda logprob, ref_logprob: torch.expm1(ref_logprob - logprob),
            "You return e^−d − 1 alone. Its mean under π is 0.",
            "What carries the KL: this term, or the one it is added to?",
        ),
        Mistake(
            "the inverse ratio for d",
            17,
            lambda logprob, ref_logprob: (
                (logprob - ref_logprob).exp() - 1 + (ref_logprob - logprob).exp()
            ),
            "You add the ratio where its logarithm belongs.",
            "Which of the three terms is a logarithm?",
        ),
    ),
)

_RESPONSE_KL = Exercise(
    name="response_kl",
    section="05_measuring_kl: Sum or mean",
    curious=True,
    minutes=3,
    reference=response_kl,
    cases=(_BATCH, _ONE, _GAPS),
    mistakes=(
        Mistake(
            "negative tokens cut off",
            3,
            lambda p, q, mask: ((p - q).clamp(min=0) * mask).sum(1),
            "You cut off the negative terms. They belong to k1: without them its mean is larger "
            "than the KL.",
            "What is the mean of k1 where π = π_ref up to a little noise?",
        ),
        Mistake(
            "probabilities added up",
            29,
            lambda p, q, mask: ((p.exp() * mask).sum(1) / (q.exp() * mask).sum(1)).log(),
            "You add up the probabilities of the tokens. The probability of a review is their "
            "product: it is the logs that add up.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "probabilities added up, upside down",
            29,
            lambda p, q, mask: ((q.exp() * mask).sum(1) / (p.exp() * mask).sum(1)).log(),
            "You add up the probabilities of the tokens, where it is their logs that add up; and "
            "your ratio is π_ref/π.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda logprobs, ref_logprobs, mask: k1(logprobs, ref_logprobs).sum(1),
            "You added up the padding too. A model gives a probability at every position, but "
            "nobody chose those tokens. Your KL grows with the longest review of the batch.",
            "Add a column of padding: what must not change?",
        ),
        Mistake(
            "mean over the tokens",
            12,
            lambda logprobs, ref_logprobs, mask: (
                masked_sum(k1(logprobs, ref_logprobs), mask, dim=1) / mask.sum(1)
            ),
            "You divided by the length. log π(y) is a sum over tokens, and so is the KL. After "
            "your division η has less effect on a long review than on a short one.",
            "Write log π(y|x) with the product rule. Where would a 1/T come from?",
        ),
        Mistake(
            "mean over the padded width",
            12,
            lambda logprobs, ref_logprobs, mask: (k1(logprobs, ref_logprobs) * mask).mean(1),
            "You masked, and then divided by the width of the batch. Your KL of one review "
            "depends on how long the others are.",
            "Should the KL of a review change when a longer review joins the batch?",
        ),
        Mistake(
            "arguments swapped",
            1,
            lambda logprobs, ref_logprobs, mask: response_kl(ref_logprobs, logprobs, mask),
            "Your sign is wrong: the mean over samples of π would be −KL(π ‖ π_ref), and "
            "the penalty would pay for leaving.",
            "A token that π likes more than π_ref: should its k1 be positive?",
        ),
        Mistake(
            "negative tokens made positive",
            3,
            lambda logprobs, ref_logprobs, mask: masked_sum(
                k1(logprobs, ref_logprobs).abs(), mask, dim=1
            ),
            "You took |d|. The mean of |d| is far larger than KL(π ‖ π_ref) near home: the "
            "negative numbers are needed to cancel the positive ones.",
            "What is the mean of k1 where π = π_ref up to a little noise?",
        ),
        Mistake(
            "weighted by π",
            29,
            lambda p, q, mask: (p.exp() * _d(p, q, mask)).sum(1),
            "You weigh each d by π, as in the formula of KL. These tokens were *sampled* from π: "
            "they come as often as π says, so weighted again they count twice.",
            "In the formula the sum runs over all words. Over what does yours run?",
        ),
        Mistake(
            "k3 for k1",
            17,
            lambda p, q, mask: (k3(p, q) * mask).sum(1),
            "You added up k3. Its mean is right, too, but we want log π − log π_ref.",
            "Which of k1, k2 and k3 is a difference of logs?",
        ),
        Mistake(
            "k2 for k1",
            17,
            lambda p, q, mask: (_d(p, q, mask) ** 2 / 2).sum(1),
            "You added up k2, d²/2. We want log π(y|x) − log π_ref(y|x).",
            "Which of k1, k2 and k3 is a difference of logs?",
        ),
        Mistake(
            "integer mask as an index",
            8,
            lambda p, q, mask: (p[mask] - q[mask]).sum(-1),
            "The mask holds the integers 0 and 1, so x[mask] is not a choice of places: it takes "
            "rows 0 and 1 again and again.",
            "What does mask.bool() change?",
        ),
        Mistake(
            "summed down the columns",
            13,
            lambda p, q, mask: _d(p, q, mask).sum(0),
            "You add up over the reviews, one number for each place. A review is a row: its tokens "
            "stand side by side.",
            "Which dimension counts the reviews, and which the tokens?",
        ),
        Mistake(
            "all tokens of the batch",
            13,
            lambda p, q, mask: _d(p, q, mask).sum(),
            "You added up the whole batch. Each review has a number of its own.",
            "Over which dimension do the tokens of a review run?",
        ),
        Mistake(
            "ratio of probabilities",
            1,
            lambda p, q, mask: _d(p, q, mask).sum(1).exp(),
            "You return the ratio π(y|x)/π_ref(y|x). We want its logarithm.",
            "Is the last step needed?",
        ),
        Mistake(
            "ratios added up",
            1,
            lambda p, q, mask: ((p - q).exp() * mask).sum(1),
            "You add up the ratios of the tokens. It is their logarithms that add up.",
            "What does a product become under the log?",
        ),
    ),
)

_INVERSE_RATIO = Exercise(
    name="mean_inverse_ratio",
    section="05_measuring_kl: What if the samples come from somewhere else?",
    minutes=7,
    reference=mean_inverse_ratio,
    cases=(_BATCH, _ONE, _GAPS),
    mistakes=(
        Mistake(
            "ratio upside down",
            4,
            lambda logprobs, ref_logprobs, mask: (
                response_kl(logprobs, ref_logprobs, mask).exp().mean()
            ),
            "You averaged π/π_ref. Under π its mean is 1 + χ²(π ‖ π_ref), which says how far π "
            "has gone and nothing about the sampler.",
            "Write the mean under π as a sum over y. Which ratio makes π(y) cancel?",
        ),
        Mistake(
            "mean before the exponential",
            4,
            lambda logprobs, ref_logprobs, mask: (
                (-response_kl(logprobs, ref_logprobs, mask)).mean().exp()
            ),
            "You took the mean first. e^(−KL) is below 1 for a perfectly honest sampler too "
            "(Jensen's inequality), so the check would always fire.",
            "Each review has its own ratio. Average those.",
        ),
        Mistake(
            "the mean of k1",
            3,
            lambda logprobs, ref_logprobs, mask: response_kl(logprobs, ref_logprobs, mask).mean(),
            "That is the mean of k1: it estimates KL(π ‖ π_ref), which is 0 only at home. It "
            "cannot tell a wrong sampler from a policy that has moved.",
            "Which function of d has the same mean wherever π is?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda logprobs, ref_logprobs, mask: (-k1(logprobs, ref_logprobs).sum(1)).exp().mean(),
            "The padding is in your ratio. Those tokens were not sampled, so their ratios have no "
            "reason to average 1.",
            "What does the mask select?",
        ),
        Mistake(
            "mean over the tokens",
            12,
            lambda logprobs, ref_logprobs, mask: (
                (-response_kl(logprobs, ref_logprobs, mask) / mask.sum(1)).exp().mean()
            ),
            "You divided d by the length. π_ref(y)/π(y) is a product over tokens, so its log is a "
            "sum. The mean of the root of that product is not 1.",
            "Which d gives π_ref(y)/π(y) of the whole review?",
        ),
        Mistake(
            "mean of token ratios",
            12,
            lambda p, q, mask: ((q - p).exp() * mask).sum() / mask.sum(),
            "You average the ratios of single tokens. At each place they have mean 1, too, but "
            "this is another check. We want the ratio of whole reviews, their product.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "mean of token ratios, padding too",
            12,
            lambda p, q, mask: (q - p).exp().mean(),
            "You average the ratios of single tokens, and of the padding, too. We want the "
            "ratio of whole reviews, the product over their tokens.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "sum of token ratios",
            12,
            lambda p, q, mask: ((q - p).exp() * mask).sum(1).mean(),
            "You add up the ratios of the tokens. The ratio of a review is their product.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "mean of token ratios, review by review",
            12,
            lambda p, q, mask: (((q - p).exp() * mask).sum(1) / mask.sum(1)).mean(),
            "You average the ratios of the tokens. The ratio of a review is their product.",
            "What is π(y|x) in terms of its tokens?",
        ),
        Mistake(
            "zeros in the product",
            8,
            lambda p, q, mask: ((q - p).exp() * mask).prod(1).mean(),
            "You multiply by the mask and then take the product: one 0 in the padding makes the "
            "whole review 0.",
            "Which number changes nothing in a product?",
        ),
        Mistake(
            "exponential left out",
            4,
            lambda p, q, mask: (-_d(p, q, mask).sum(1)).mean(),
            "You average the logarithm of the ratio. It is the ratio itself that has mean 1.",
            "What turns −k1 into π_ref/π?",
        ),
        Mistake(
            "mean over words, then the exponential",
            4,
            lambda p, q, mask: (-_d(p, q, mask).sum() / mask.sum()).exp(),
            "You average the log-ratio over all tokens first. Each review has its own ratio.",
            "Which comes first, the exponential or the mean?",
        ),
    ),
)

_NEGATIVE = Choice(
    name="negative_k1",
    section="05_measuring_kl: A negative number is not a bug",
    minutes=3,
    answer="c",
    reason=(
        "Where π says a review less often than π_SFT, k1 is negative, and a mean over a batch "
        "may be too, by its standard error. Only a mean that stays negative over many batches "
        "contradicts KL(π ‖ π_ref) ≥ 0, and then the samples did not come from π, or "
        "something else was scored, such as padding."
    ),
    mistakes=(
        Mistake(
            "clip it",
            3,
            "a",
            "Cut at 0, or made positive with |·|, the estimate is biased upwards: near home by "
            "many times the KL itself.",
            "Compare E[k1] and E|k1| in the table above.",
        ),
        Mistake(
            "a bug in the log-probabilities",
            3,
            "b",
            "Every policy except π_SFT itself has reviews that it says less often than π_SFT: "
            "probabilities add up to 1. Their k1 is negative, and that is right.",
            "Can π raise the probability of every review?",
        ),
        Mistake(
            "ignore it for ever",
            3,
            "d",
            "One negative sample means nothing, but a mean that stays negative does: no two "
            "distributions have a negative KL.",
            "What is E[k1] if the samples come from another q?",
        ),
    ),
)

_LOGS = Choice(
    name="three_logs",
    section="05_measuring_kl: What if the samples come from somewhere else?",
    minutes=3,
    answer="c",
    reason=(
        "In A the mean of e^(−k1) is about 1 in every batch, and the mean of k1 is not below 0. "
        "B forbade the end of a review before the fifth word: the mean of k1 is below 0 by more "
        "than its noise. (So far from π_SFT a correct e^(−k1) comes out below 1 rather than above, "
        "and it is far above 1 here.) C sampled at temperature 0.7: its k1 looks healthy, and only "
        "e^(−k1) shows it."
    ),
    mistakes=(
        Mistake(
            "just noise",
            3,
            "a",
            "A has a negative mean once, of −0.01, and its mean of e^(−k1) is 1: that is noise "
            "near home. B and C have no such excuse.",
            "Which number must be 1 for every policy that scores its own samples?",
        ),
        Mistake(
            "looks healthy",
            4,
            "b",
            "B is one of them. But a positive mean of k1 proves nothing, it only looks healthy.",
            "Is the mean of e^(−k1) equal to 1 in C?",
        ),
        Mistake(
            "every negative mean",
            3,
            "d",
            "You took the logs with a negative mean of k1. A mean of one batch may be negative by "
            "noise, and a wrong sampler may show a positive one.",
            "Compare the second lines of the three logs.",
        ),
    ),
)

EXERCISES = (_NEGATIVE, _K3, _RESPONSE_KL, _INVERSE_RATIO, _LOGS)
