"""Exercises of notebook 02: preferences, the unit of a score, and where it is read."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.masking import last_index, last_token
from rlhf_lab.pretrain import bradley_terry_loss, standardise

_CHOSEN = torch.tensor([1.5, -0.5, 2.0], dtype=torch.float64)
_REJECTED = torch.tensor([-0.5, 1.0, 0.75], dtype=torch.float64)

_LOSS = Exercise(
    name="bradley_terry_loss",
    section="02_the_reward_models_scalar: From preferences to a number",
    minutes=6,
    reference=bradley_terry_loss,
    cases=(
        Case("three pairs", (_CHOSEN, _REJECTED), (0, 1)),
        Case("one pair", (_CHOSEN[1:2], _REJECTED[1:2]), (0, 1)),
    ),
    mistakes=(
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
    ),
)


def _unweighted(scores: Tensor, logprobs: Tensor) -> Tensor:
    return (scores - scores.mean()) / scores.std(correction=0)


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
            "every response counts the same",
            24,
            _unweighted,
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
    [[0.7, 0.1, 1.8, 9.0, 7.0], [0.2, -0.4, 0.9, 1.1, -1.5], [-1.2, 8.0, 8.5, 8.0, 6.0]],
    dtype=torch.float64,
)
_MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()

_READ = Exercise(
    name="last_token",
    section="02_the_reward_models_scalar: Where the number is read",
    minutes=5,
    reference=last_token,
    helpers=(last_index,),
    cases=(
        Case("three reviews of different length", (_AT_EACH, _MASK), (0,)),
        Case("two of them", (_AT_EACH[:2], _MASK[:2]), (0,)),
    ),
    mistakes=(
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
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_LOSS, _UNIT, _SHIFT, _READ)
