"""Exercises of notebook 01: tokens as actions; then the reward at the end, returns and credit."""

import torch
from torch import Tensor

from rlhf_lab.exercises import credit
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.masking import response_mask
from rlhf_lab.ppo import response_logprobs

_EOS, _PAD = 0, 9
_PADDED = torch.tensor([[5, 3, 0, 9, 9], [4, 4, 4, 4, 4], [0, 9, 9, 9, 9]])
_PAD_IS_EOS = torch.tensor([[5, 3, 0, 0, 0], [4, 4, 4, 4, 0]])


_MASK = Exercise(
    name="response_mask",
    section="01_a_score_at_the_end: Which tokens count",
    minutes=5,
    reference=response_mask,
    cases=(
        Case("three reviews padded with 9", (_PADDED, _EOS)),
        Case("two reviews padded with <eos> itself", (_PAD_IS_EOS, _EOS)),
    ),
    mistakes=(
        Mistake(
            "eos left out",
            8,
            lambda responses, eos_id: (responses == eos_id).cumsum(1) == 0,
            "Your mask ends before <eos>. Then nobody ever teaches the policy to stop: the token "
            "that ends a review is an action too.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "padding by its value",
            8,
            lambda responses, eos_id: responses != _PAD,
            "Your mask asks whether a token is the padding token. GPT-2 pads with <eos>, and "
            "then your mask counts the padding.",
            "What marks the end in both cases?",
        ),
        Mistake(
            "every token",
            8,
            lambda responses, eos_id: torch.ones_like(responses, dtype=torch.bool),
            "Your mask counts the padding. Every mean over tokens would depend on how long the "
            "longest review of the batch happens to be.",
            "Add a column of padding: what must not change?",
        ),
    ),
)


def _scored(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.log_softmax(dim=2).gather(2, tokens.unsqueeze(2)).squeeze(2)


_GENERATOR = torch.Generator().manual_seed(0)
_LOGITS = torch.randn(2, 6, 4, generator=_GENERATOR, dtype=torch.float64)
_TOKENS = torch.tensor([[1, 3, 2, 2, 0, 0], [3, 1, 1, 3, 2, 1]])

_LOGPROBS = Exercise(
    name="response_logprobs",
    section="01_a_score_at_the_end: Tokens are actions",
    minutes=8,
    reference=response_logprobs,
    cases=(
        Case("two reviews of a prompt of 2 tokens", (_LOGITS, _TOKENS, 2), (0,)),
        Case("two reviews of a prompt of 3 tokens", (_LOGITS, _TOKENS, 3), (0,)),
    ),
    mistakes=(
        Mistake(
            "no shift",
            6,
            lambda logits, tokens, n: _scored(logits[:, n:], tokens[:, n:]),
            "You score each token with the logits of its own position. Those have already read "
            "the token: they are about the next one.",
            "At which position does the model stand when it chooses the first word?",
        ),
        Mistake(
            "shifted twice",
            6,
            lambda logits, tokens, n: _scored(logits[:, n - 2 : -2], tokens[:, n:]),
            "Your logits come from two positions before the token. They do not know the word in "
            "between.",
            "How many tokens has the model read when it chooses the first word of the review?",
        ),
        Mistake(
            "prompt included",
            7,
            lambda logits, tokens, n: _scored(logits[:, :-1], tokens[:, 1:]),
            "Your result also holds tokens of the prompt. The policy never chose those.",
            "Which tokens are actions?",
        ),
        Mistake(
            "no gradient",
            14,
            lambda logits, tokens, n: response_logprobs(logits.detach(), tokens, n),
            "The values are right, but no gradient reaches the logits. A policy gradient "
            "differentiates log π, so nothing would be learned.",
            "Which of your calls cuts the graph?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_MASK, _LOGPROBS, *credit.EXERCISES)
