"""Exercises of notebook 01: tokens as actions, the reward at the end, returns and credit."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Exercise, Mistake
from rlhf_lab.masking import response_mask

_EOS, _PAD = 0, 9
_PADDED = torch.tensor([[5, 3, 0, 9, 9], [4, 4, 4, 4, 4], [0, 9, 9, 9, 9]])
_PAD_IS_EOS = torch.tensor([[5, 3, 0, 0, 0], [4, 4, 4, 4, 0]])


def _response_mask(responses: Tensor, eos_id: int) -> Tensor:
    mask = torch.zeros_like(responses, dtype=torch.bool)
    for row, tokens in enumerate(responses.tolist()):
        length = tokens.index(eos_id) + 1 if eos_id in tokens else len(tokens)
        mask[row, :length] = True
    return mask


_MASK = Exercise(
    name="response_mask",
    section="01_a_score_at_the_end: Which tokens count",
    minutes=5,
    reference=response_mask,
    alternative=_response_mask,
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

EXERCISES = (_MASK,)
