"""Exercises of notebook 02: preferences, the unit of a score, and where it is read."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.masking import last_index, last_token
from rlhf_lab.pretrain import bradley_terry_loss, standardise

_CHOSEN = torch.tensor([1.53, -0.47, 2.11], dtype=torch.float64)
_REJECTED = torch.tensor([-0.52, 1.04, 0.73], dtype=torch.float64)

_LOSS = Exercise(
    name="bradley_terry_loss",
    section="02_the_reward_models_scalar: From preferences to a number",
    minutes=6,
    reference=bradley_terry_loss,
    cases=(
        Case("three pairs", (_CHOSEN, _REJECTED), (0, 1)),
        Case("one pair", (_CHOSEN[1:2], _REJECTED[1:2]), (0, 1)),
        Case("a pair that is very wrong", (_CHOSEN[1:2], _REJECTED[1:2] + 900), (0, 1), edge=True),
    ),
    mistakes=(
        Mistake(
            "β of another loss, and a sum",
            12,
            lambda chosen, rejected: (
                -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).sum()
            ),
            "You multiply the difference by 0.1, as in a DPO loss, and sum over the pairs.",
            "What is P(chosen wins) here, and what is the loss of two equal pairs?",
        ),
        Mistake(
            "β of another loss",
            12,
            lambda chosen, rejected: bradley_terry_loss(0.1 * chosen, 0.1 * rejected),
            "You multiply the difference by 0.1, as in a DPO loss. That changes the unit of the "
            "score.",
            "What is P(chosen wins) here?",
        ),
        Mistake(
            "softmax over the pairs",
            12,
            lambda chosen, rejected: -torch.stack([chosen, rejected]).log_softmax(1)[0].mean(),
            "Your softmax runs over the pairs of the batch. In each pair it is the two reviews "
            "that compete.",
            "Which numbers should add up to 1?",
        ),
        Mistake(
            "log of zero",
            31,
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).log().mean(),
            "Your formula is right, and it breaks down for a pair that is very wrong: e^x "
            "overflows or the probability is 0, and its log is −∞.",
            "What does logsigmoid do with a large difference?",
        ),
        Mistake(
            "the wrong way round",
            2,
            lambda chosen, rejected: bradley_terry_loss(rejected, chosen),
            "Your loss falls when the rejected review scores higher. The reward model would learn "
            "what people dislike.",
            "Which of the two must win for the loss to be near 0?",
        ),
        Mistake(
            "sigmoid of the sum",
            2,
            lambda chosen, rejected: bradley_terry_loss(chosen, -rejected),
            "You add the two scores. Raising both would lower your loss, although it does not "
            "change which review wins.",
            "Add 5 to both scores: what should happen to the loss?",
        ),
        Mistake(
            "no logarithm",
            27,
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).mean(),
            "You maximise the probability and not its logarithm. Then a pair that is badly wrong "
            "has almost no gradient.",
            "What is the slope of σ far to the left?",
        ),
        Mistake(
            "sum over pairs",
            12,
            lambda chosen, rejected: bradley_terry_loss(chosen, rejected) * len(chosen),
            "You sum over the pairs. With a batch twice as large the step would be twice as large.",
            "What is the loss of two equal pairs?",
        ),
        Mistake(
            "half the gradient",
            14,
            lambda chosen, rejected: bradley_terry_loss(chosen, rejected.detach()),
            "The value is right, but the rejected score is a constant in it. Half of the gradient "
            "is lost.",
            "Which scores does the reward model produce?",
        ),
        Mistake(
            "log of the mean",
            12,
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).mean().log(),
            "You took the log of the mean probability. The likelihood of all pairs is a product, "
            "so it is the logs that are averaged.",
            "What is the log of a product of σ's?",
        ),
        Mistake(
            "probability of being wrong",
            27,
            lambda chosen, rejected: torch.sigmoid(rejected - chosen).mean(),
            "You average 1 − σ, the probability that the wrong one wins, without a logarithm. A "
            "pair that is badly wrong then has almost no gradient.",
            "What is the slope of σ far to the left?",
        ),
        Mistake(
            "the difference alone",
            30,
            lambda chosen, rejected: -(chosen - rejected).mean(),
            "Your loss is a plain difference. It can be lowered without end, by one pair alone, "
            "and there is no probability in it.",
            "What is P(chosen wins), and what is its log?",
        ),
        Mistake(
            "squared difference",
            27,
            lambda chosen, rejected: ((chosen - rejected) ** 2).mean(),
            "You square the difference, so it does not matter which of the two wins.",
            "Exchange the two reviews: should the loss stay the same?",
        ),
        Mistake(
            "margin loss",
            27,
            lambda chosen, rejected: (1 - (chosen - rejected)).clamp(min=0).mean(),
            "That is a hinge loss, max(0, 1 − difference). It belongs to another model: here the "
            "loss is −log of a probability.",
            "What is P(chosen wins) in the Bradley–Terry model?",
        ),
        Mistake(
            "log of logs",
            27,
            lambda chosen, rejected: (
                -(torch.sigmoid(chosen) / torch.sigmoid(rejected)).log().mean()
            ),
            "You put each score through σ by itself. The probability is σ of the difference.",
            "What do the two scores become before σ sees them?",
        ),
    ),
)


def _with(weights: Tensor, spread: Tensor, scores: Tensor) -> Tensor:
    """Centred by one mean, divided by another number."""
    return (scores - weights @ scores) / spread


def _spread(scores: Tensor, logprobs: Tensor) -> Tensor:
    """The standard deviation under the policy."""
    p = logprobs.exp()
    return (p @ (scores - p @ scores) ** 2).sqrt()


def _twice_divided(scores: Tensor, p: Tensor) -> Tensor:
    mean = (p * scores).mean()
    return (scores - mean) / (p * (scores - mean) ** 2).mean().sqrt()


def _even(scores: Tensor) -> Tensor:
    return torch.full_like(scores, 1 / len(scores))


_SCORES = torch.tensor([2.0, -1.0, 0.5, 6.0], dtype=torch.float64)
_SAID = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()

_UNIT = Exercise(
    name="standardise",
    section="02_the_reward_models_scalar: A zero and a unit",
    minutes=6,
    reference=standardise,
    cases=(
        Case("four responses", (_SCORES, _SAID)),
        Case("four responses in other units", (10 * _SCORES + 3, _SAID)),
    ),
    mistakes=(
        Mistake(
            "logs as weights, root of the absolute value",
            29,
            lambda scores, logprobs: (
                (scores - logprobs @ scores)
                / (logprobs @ (scores - logprobs @ scores) ** 2).abs().sqrt()
            ),
            "You weigh with log-probabilities. They are negative: that is why the root needed abs.",
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "mean of the weighted numbers",
            24,
            lambda scores, logprobs: _twice_divided(scores, logprobs.exp()),
            "You average what is weighted already. The weights add up to 1, so it is the *sum* of "
            "p·r that is the mean; .mean() divides by N once more.",
            "What do the weights add up to?",
        ),
        Mistake(
            "every response counts the same",
            24,
            lambda scores, logprobs: _with(_even(scores), scores.std(correction=0), scores),
            "You give all responses the same weight. The policy never says most of them, and yet "
            "they would decide where 0 is.",
            "Over whose reviews should the mean be 0?",
        ),
        Mistake(
            "mean kept",
            24,
            lambda scores, logprobs: (
                scores / (logprobs.exp() @ (scores - logprobs.exp() @ scores) ** 2).sqrt()
            ),
            "The unit is right, but the mean under the policy is not 0.",
            "Two things are arbitrary about a score. Which one is left?",
        ),
        Mistake(
            "divided by the variance",
            24,
            lambda scores, logprobs: (
                standardise(scores, logprobs)
                / (logprobs.exp() @ (scores - logprobs.exp() @ scores) ** 2).sqrt()
            ),
            "You divide by the variance. Scores in other units then give another result, but "
            "standardising should remove the unit.",
            "What are the units of a variance?",
        ),
        Mistake(
            "every response counts the same, n − 1",
            24,
            lambda scores, logprobs: _with(_even(scores), scores.std(), scores),
            "You give all responses the same weight: .mean() and .std() know nothing of the "
            "policy. It never says most of them, and yet they would decide where 0 is.",
            "Over whose reviews should the mean be 0?",
        ),
        Mistake(
            "the plain standard deviation",
            24,
            lambda scores, logprobs: _with(
                logprobs.exp(), scores.std() if len(scores) > 1 else scores, scores
            ),
            "Your mean is right. Your standard deviation gives every response the same weight.",
            "How often does the policy say each of them?",
        ),
        Mistake(
            "the plain standard deviation, divided by n",
            24,
            lambda scores, logprobs: _with(logprobs.exp(), scores.std(correction=0), scores),
            "Your mean is right. Your standard deviation gives every response the same weight.",
            "How often does the policy say each of them?",
        ),
        Mistake(
            "the plain mean",
            24,
            lambda scores, logprobs: _with(_even(scores), _spread(scores, logprobs), scores),
            "Your standard deviation is right. Your mean gives every response the same weight.",
            "How often does the policy say each of them?",
        ),
        Mistake(
            "deviations from the plain mean",
            24,
            lambda scores, logprobs: _with(
                _even(scores), (logprobs.exp() @ (scores - scores.mean()) ** 2).sqrt(), scores
            ),
            "You subtract a mean that gives every response the same weight.",
            "How often does the policy say each of them?",
        ),
        Mistake(
            "p inside the square",
            24,
            lambda scores, logprobs: _with(
                logprobs.exp(),
                ((logprobs.exp() * (scores - logprobs.exp() @ scores)) ** 2).sum().sqrt(),
                scores,
            ),
            "You square the probabilities, too. A variance is Σ p·(…)², not Σ (p·…)².",
            "What is weighted: the deviation, or its square?",
        ),
        Mistake(
            "mean not squared off",
            24,
            lambda scores, logprobs: _with(
                logprobs.exp(), (logprobs.exp() @ scores**2).sqrt(), scores
            ),
            "You divide by √E[r²]. Without subtracting the mean that is no standard deviation.",
            "From where are deviations measured?",
        ),
        Mistake(
            "logs as weights",
            29,
            lambda scores, logprobs: _with(
                logprobs, (logprobs @ (scores - logprobs @ scores) ** 2).sqrt(), scores
            ),
            "You weigh with log-probabilities. They are negative, and the root of a negative "
            "number is NaN.",
            "What turns a log-probability into a probability?",
        ),
    ),
)

_SHIFT = Choice(
    name="times_three_plus_ten",
    section="02_the_reward_models_scalar: A zero and a unit",
    minutes=3,
    answer="c",
    reason="Only r/η matters for π*, and a constant cancels in Z. So 3r + 10 with η is r with η/3.",
    mistakes=(
        Mistake(
            "nothing matters",
            12,
            "a",
            "The order of the reviews is the same, but π* weighs them with e^(r/η): three times "
            "the score is three times the exponent.",
            "Which other number would you have to triple?",
        ),
        Mistake(
            "the constant",
            12,
            "b",
            "A constant multiplies every e^(r/η) by the same factor, and Z divides it out again.",
            "What happens to Z?",
        ),
        Mistake(
            "the wrong way",
            12,
            "d",
            "A larger score pulls harder against the same leash.",
            "Is π* now nearer to π_SFT or farther away?",
        ),
    ),
)


def _read(x: Tensor, mask: Tensor, offset: int) -> Tensor:
    index = (mask.sum(dim=1, keepdim=True) - 1 + offset).clamp(0, mask.shape[1] - 1)
    return x.gather(1, index).squeeze(1)


_AT_EACH = torch.tensor(
    [[0.71, 0.13, 1.83, 9.1, 7.3], [0.23, -0.41, 0.92, 1.12, -1.53], [-1.21, 8.2, 8.53, 8.07, 6.1]],
    dtype=torch.float64,
)
_MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
_GAPS = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 1]]).bool()

_READ = Exercise(
    name="last_token",
    section="02_the_reward_models_scalar: Where the number is read",
    minutes=5,
    reference=last_token,
    helpers=(last_index,),
    cases=(
        Case("three reviews of different length", (_AT_EACH, _MASK), (0,)),
        Case("two of them", (_AT_EACH[:2], _MASK[:2]), (0,)),
        Case("three reviews padded on the left or with a gap", (_AT_EACH, _GAPS), (0,), edge=True),
    ),
    mistakes=(
        Mistake(
            "last column, masked",
            10,
            lambda x, mask: (x * mask)[:, -1],
            "You set the padding to 0 and read the last column: a short review gets 0.",
            "Where does each review end?",
        ),
        Mistake(
            "last token by its count",
            10,
            lambda x, mask: _read(x, mask, 0),
            "Your index is the number of tokens minus 1. That is the last place only if a review "
            "begins at place 0 and has no gap. The text asks for the last *selected* token.",
            "How can you find the last place at which the mask is true?",
        ),
        Mistake(
            "counted from the end",
            10,
            lambda x, mask: x.gather(1, mask.flip(1).int().argmax(1, keepdim=True)).squeeze(1),
            "Your index is counted from the end, and used as if it were counted from the start.",
            "Which index is 0 from the end?",
        ),
        Mistake(
            "last column",
            10,
            lambda x, mask: x[:, -1],
            "You read the last column, which for a short review is padding. The score would "
            "depend on the longest review of the batch.",
            "Append a column of padding: which scores change?",
        ),
        Mistake(
            "one past the end",
            10,
            lambda x, mask: _read(x, mask, 1),
            "You read one position behind <eos>, which is padding if there is any.",
            "What is the index of the last of n tokens?",
        ),
        Mistake(
            "before eos",
            10,
            lambda x, mask: _read(x, mask, -1),
            "You read before <eos>, where the review may still go on. The reward model was never "
            "trained there.",
            "Where was it read in training?",
        ),
        Mistake(
            "first token",
            10,
            lambda x, mask: x[:, 0],
            "You read at the first token, which has seen nothing of what follows it.",
            "Which position of a causal model has read the whole review?",
        ),
        Mistake(
            "mean over tokens",
            10,
            lambda x, mask: (x * mask).sum(dim=1) / mask.sum(dim=1),
            "You average over the tokens. A reward model that was trained at the last token gives "
            "meaningless numbers at the others.",
            "Which of these numbers did the comparisons train?",
        ),
        Mistake(
            "sum over tokens",
            10,
            lambda x, mask: (x * mask).sum(dim=1),
            "You add up all tokens. A reward model is read at one place, the last.",
            "Which of these numbers did the comparisons train?",
        ),
        Mistake(
            "the largest",
            10,
            lambda x, mask: x.masked_fill(~mask, -torch.inf).amax(1),
            "You take the largest number of each review, not the last.",
            "Which position has read the whole review?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_LOSS, _UNIT, _SHIFT, _READ)
