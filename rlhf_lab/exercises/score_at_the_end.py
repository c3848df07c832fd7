"""Exercises of notebook 01: tokens as actions, the reward at the end, returns, credit."""

import itertools

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.masking import last_index, response_mask, terminal_reward
from rlhf_lab.ppo import response_logprobs, returns_to_go

_EOS, _PAD = 0, 9
_PADDED = torch.tensor([[6, 7, 0, 9, 9], [8, 3, 9, 8, 8], [0, 9, 9, 9, 9]])
_PAD_IS_EOS = torch.tensor([[5, 7, 0, 0, 0], [8, 8, 8, 8, 0]])
_GOES_ON = torch.tensor([[8, 0, 8, 0, 9], [7, 7, 0, 8, 8]])

_MASK = Exercise(
    name="response_mask",
    section="01_a_score_at_the_end: Which tokens count",
    minutes=5,
    reference=response_mask,
    cases=(
        Case("three reviews padded with 9", (_PADDED, _EOS)),
        Case("two reviews padded with <eos> itself", (_PAD_IS_EOS, _EOS)),
        Case("two reviews with words and another <eos> behind the first", (_GOES_ON, _EOS)),
        Case("three reviews in which 9 is <eos>", (_PADDED, 9)),
    ),
    mistakes=(
        Mistake(
            "moved round the end",
            8,
            lambda responses, eos_id: ~((responses == eos_id).cumsum(1) > 0).roll(1, 1),
            "roll is circular: what leaves on the right comes back on the left, and a review that "
            "has ended loses its first token.",
            "What should stand before the first token?",
        ),
        Mistake(
            "counted down the batch",
            8,
            lambda responses, eos_id: (
                ((responses == eos_id).int().cumsum(0) - (responses == eos_id).int()) == 0
            ),
            "Your running count goes down the batch, from review to review. It should go along "
            "each row.",
            "Which dimension counts the tokens?",
        ),
        Mistake(
            "one place back",
            8,
            lambda responses, eos_id: torch.cat(
                [torch.ones_like(responses[:, :1], dtype=torch.bool), responses[:, :-1] != eos_id],
                dim=1,
            ),
            "You look only at the token before. Behind the first <eos>, a word makes your mask "
            "True again.",
            "Which of the tokens before a place have a say?",
        ),
        Mistake(
            "the eos of this notebook",
            8,
            lambda responses, eos_id: response_mask(responses, _EOS),
            "You compare with 0. In another vocabulary <eos> is another number: it comes as an "
            "argument.",
            "Which argument have you not used?",
        ),
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
        Mistake(
            "everything but eos",
            8,
            lambda responses, eos_id: responses != eos_id,
            "Your mask is False on <eos> and True everywhere else, so it drops the choice to stop "
            "and keeps whatever is written behind it.",
            "What should the mask say of a word that stands behind the first <eos>?",
        ),
        Mistake(
            "up to the second eos",
            8,
            lambda responses, eos_id: (responses == eos_id).cumsum(1) <= 1,
            "Your running count of <eos> is 1 at the first <eos> and stays 1 behind it, so the "
            "mask goes on until a second one comes.",
            "Which count tells what stands *before* a token, without the token itself?",
        ),
        Mistake(
            "counts what is not eos",
            8,
            lambda responses, eos_id: (
                torch.arange(responses.shape[1]) <= (responses != eos_id).sum(1, keepdim=True)
            ),
            "You take the number of tokens that are not <eos> for the length. That counts what "
            "stands behind the first <eos>, too.",
            "Where does a review end that is padded with another token?",
        ),
        Mistake(
            "only eos",
            30,
            lambda responses, eos_id: responses == eos_id,
            "Your mask is True only on <eos>. The words before it were chosen, too.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "the padding instead",
            8,
            lambda responses, eos_id: ~response_mask(responses, eos_id),
            "Your mask is turned round: True on the padding, False on the review.",
            "On which tokens should it be True?",
        ),
        Mistake(
            "up to the last eos",
            8,
            lambda responses, eos_id: (
                ((responses == eos_id).flip(1).cumsum(1).flip(1) > 0)
                | ~(responses == eos_id).any(1, keepdim=True)
            ),
            "You look for the last <eos>. The review ends at the first one.",
            "What if the padding is <eos> itself?",
        ),
        Mistake(
            "a full row is empty",
            8,
            lambda responses, eos_id: (
                torch.arange(responses.shape[1])
                <= (responses == eos_id).int().argmax(1, keepdim=True)
            ),
            "Where a row has no <eos>, argmax gives 0, and your mask keeps one token. Such a "
            "review fills the row, and all of it counts.",
            "What does argmax say of a row of zeros?",
        ),
    ),
)


def _scored(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.log_softmax(dim=2).gather(2, tokens.unsqueeze(2)).squeeze(2)


_GENERATOR = torch.Generator().manual_seed(0)
_LOGITS = torch.randn(2, 6, 4, generator=_GENERATOR, dtype=torch.float64)
_TOKENS = torch.tensor([[1, 3, 2, 2, 0, 0], [3, 1, 1, 3, 2, 1]])
_MORE_LOGITS = torch.randn(2, 8, 4, generator=_GENERATOR, dtype=torch.float64)
_MORE_TOKENS = torch.tensor([[1, 3, 2, 2, 0, 0, 1, 0], [3, 1, 1, 3, 2, 1, 3, 2]])

_LOGPROBS = Exercise(
    name="response_logprobs",
    section="01_a_score_at_the_end: For the curious: write the shift yourself",
    minutes=8,
    curious=True,
    reference=response_logprobs,
    cases=(
        Case("two reviews of a prompt of 2 tokens", (_LOGITS, _TOKENS, 2), (0,)),
        Case("two reviews of a prompt of 3 tokens", (_LOGITS, _TOKENS, 3), (0,)),
        Case("two longer reviews", (_MORE_LOGITS, _MORE_TOKENS, 2), (0,)),
    ),
    mistakes=(
        Mistake(
            "prompt of one token",
            7,
            lambda logits, tokens, n: _scored(logits[:, : tokens.shape[1] - n], tokens[:, n:]),
            "Your logits begin at the first position, whatever the prompt's length. They belong to "
            "the response only if the prompt has one token.",
            "At which position does the prompt end?",
        ),
        Mistake(
            "shifted the wrong way",
            6,
            lambda logits, tokens, n: _scored(logits[:, n:], tokens[:, n - 1 : -1]),
            "You moved the tokens back, and not the logits: each row of logits is asked for the "
            "token before it.",
            "Which token do the logits at a position choose?",
        ),
        Mistake(
            "the likeliest tokens",
            20,
            lambda logits, tokens, n: logits[:, n - 1 : -1].log_softmax(2).amax(2),
            "You score the likeliest token of each place. We want the token that was said.",
            "Which argument holds what was sampled?",
        ),
        Mistake(
            "as long as this notebook's reviews",
            7,
            lambda logits, tokens, n: _scored(logits[:, -6:-1], tokens[:, -5:]),
            "You always take the last five tokens. The response has as many as `tokens` has behind "
            "the prompt.",
            "Which argument have you not used?",
        ),
        Mistake(
            "no shift",
            6,
            lambda logits, tokens, n: _scored(logits[:, n:], tokens[:, n:]),
            "You score each token with the logits of its own position. There the model has already "
            "read the token, so its logits are for the next one.",
            "Which token has the model read last when it chooses the first word?",
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
        Mistake(
            "logits, not log-probabilities",
            29,
            lambda logits, tokens, n: (
                logits[:, n - 1 : -1].gather(2, tokens[:, n:].unsqueeze(2)).squeeze(2)
            ),
            "You return logits. They become log-probabilities only when the log of the sum of all "
            "their exponentials is subtracted.",
            "What must the exponentials over the vocabulary add up to?",
        ),
        Mistake(
            "sliced the batch",
            6,
            lambda logits, tokens, n: _scored(logits[n - 1 : -1], tokens[n:]),
            "Your slice takes rows of the batch. Tokens are the second dimension.",
            "What does the first index of a (B, P + T, V) tensor count?",
        ),
        Mistake(
            "last logits for the first token",
            6,
            lambda logits, tokens, n: _scored(logits.roll(1, 1)[:, n:].flip(1), tokens[:, n:]),
            "Your logits are in reversed order.",
            "Which logits choose the first token of the response?",
        ),
        Mistake(
            "normalised over the positions",
            6,
            lambda logits, tokens, n: (
                logits[:, n - 1 : -1]
                .log_softmax(1)
                .gather(2, tokens[:, n:].unsqueeze(2))
                .squeeze(2)
            ),
            "Your softmax runs over the positions. At each position it is the words that compete.",
            "Over which dimension do the probabilities of one choice add up to 1?",
        ),
    ),
)


def _at(scores: Tensor, mask: Tensor, offset: int) -> Tensor:
    index = (mask.sum(dim=1, keepdim=True) - 1 + offset).clamp(0, mask.shape[1] - 1)
    return torch.zeros(mask.shape, dtype=scores.dtype).scatter(1, index, scores.unsqueeze(1))


_SCORES = torch.tensor([1.5, -2.0, 0.75], dtype=torch.float64)
_LENGTHS_3_5_1 = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
_LENGTHS_3_4 = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]).bool()
_WITH_GAPS = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 1]]).bool()


def _all_in_each_row(scores: Tensor, mask: Tensor) -> Tensor:
    rewards = scores.new_zeros(mask.shape)
    rewards[:, mask.sum(1) - 1] = scores
    return rewards


_TERMINAL = Exercise(
    name="terminal_reward",
    section="01_a_score_at_the_end: The score comes once",
    minutes=5,
    reference=terminal_reward,
    helpers=(last_index,),
    cases=(
        Case("three reviews of different length", (_SCORES, _LENGTHS_3_5_1)),
        Case("two reviews", (_SCORES[:2], _LENGTHS_3_4)),
    ),
    mistakes=(
        Mistake(
            "last column",
            9,
            lambda scores, mask: _at(scores, torch.ones_like(mask), 0),
            "Your score is in the last column, which is padding if the review is short. The mask "
            "removes it later, so that review gets no reward.",
            "Where does each review end?",
        ),
        Mistake(
            "one past the end",
            9,
            lambda scores, mask: _at(scores, mask, 1),
            "Your score is behind <eos>, on a token that nobody chose. Some libraries do this on "
            "purpose and make the mask longer by one; with this mask the score is lost.",
            "What is the index of the last of n tokens?",
        ),
        Mistake(
            "one too early",
            9,
            lambda scores, mask: _at(scores, mask, -1),
            "Your score is on the token before the last one. Then the choice to stop gets no "
            "reward.",
            "Is <eos> a token of the review?",
        ),
        Mistake(
            "on every token",
            11,
            lambda scores, mask: scores.unsqueeze(1) * mask,
            "You pay the score on every token, so a review of five tokens earns five times its "
            "score. Length would be worth more than quality.",
            "What must the rewards of one review add up to?",
        ),
        Mistake(
            "spread evenly",
            11,
            lambda scores, mask: (scores / mask.sum(dim=1)).unsqueeze(1) * mask,
            "You divide the score among the tokens. The sum is right, but the first words are "
            "paid before anybody can know what the review will say.",
            "When is the score known?",
        ),
        Mistake(
            "all scores in each row",
            30,
            _all_in_each_row,
            "rewards[:, index] = scores writes every score into every row. The row and the column "
            "have to go together.",
            "How does rewards[torch.arange(B), index] differ from rewards[:, index]?",
        ),
        Mistake(
            "first token",
            9,
            lambda scores, mask: torch.nn.functional.pad(
                scores.unsqueeze(1), (0, mask.shape[1] - 1)
            ),
            "Your score is on the first token, before anything was said.",
            "When is the score known?",
        ),
        Mistake(
            "one for the score",
            30,
            lambda scores, mask: _at(torch.ones_like(scores), mask, 0),
            "Your place is right, but there is 1 or True where the score belongs. If you wrote the "
            "score there: zeros_like(mask) is boolean, as the mask is, and holds True or False.",
            "What is the dtype of your result?",
        ),
    ),
)

_SPARSE = terminal_reward(_SCORES, _LENGTHS_3_5_1)
_DENSE = torch.tensor(
    [[0.513, -1.07, 2.21, 9.9, 9.7], [1.09, 0.257, -0.531, 1.57, 3.3], [2.3, -9.1, 9.3, 8.9, 9.4]],
    dtype=torch.float64,
)


def _cut_at_gaps(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    returns, running = torch.zeros_like(rewards), rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, 0.0)
        returns[:, t] = running
    return returns


def _gaps_closed(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    returns, running = torch.zeros_like(rewards), rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, running)
        returns[:, t] = torch.where(mask[:, t], running, 0.0)
    return returns


def _over_rows(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    returns, running = torch.zeros_like(rewards), torch.zeros(()).double()
    for row, t in itertools.product(range(len(rewards)), reversed(range(rewards.shape[1]))):
        if mask[row, t]:
            running = rewards[row, t] + gamma * running
            returns[row, t] = running
    return returns


_RETURNS = Exercise(
    name="returns_to_go",
    section="01_a_score_at_the_end: What each token gets",
    minutes=6,
    reference=returns_to_go,
    cases=(
        Case("a reward at the end and γ = 1", (_SPARSE, _LENGTHS_3_5_1, 1.0)),
        Case("rewards on every token and γ = 0.6", (_DENSE, _LENGTHS_3_5_1, 0.6)),
        Case("the same, padded on the left and with a gap", (_DENSE, _WITH_GAPS, 0.6)),
    ),
    mistakes=(
        Mistake(
            "last column left out",
            9,
            lambda rewards, mask, gamma: returns_to_go(
                torch.cat([rewards[:, :-1], 0 * rewards[:, -1:]], 1), mask, gamma
            ),
            "Your loop leaves out the last column, so a reward in it reaches nobody.",
            "At which position does the loop begin?",
        ),
        Mistake(
            "last column zero",
            9,
            lambda rewards, mask, gamma: torch.nn.functional.pad(
                returns_to_go(rewards, mask, gamma)[:, :-1], (0, 1)
            ),
            "Your last column stays 0. The last token has a return, too: its own reward.",
            "At which position does the loop begin, and where does it end?",
        ),
        Mistake(
            "running over the rows",
            13,
            _over_rows,
            "Your running sum is not set back to 0 for each review, so the return of one review "
            "flows into the next.",
            "What should the sum be when a new review begins?",
        ),
        Mistake(
            "only its own reward",
            11,
            lambda rewards, mask, gamma: torch.where(mask, rewards, 0.0),
            "You give each token its own reward, so with a score at the end the earlier tokens "
            "get nothing. But they decided what the review became.",
            "What does a return add up?",
        ),
        Mistake(
            "summed from the front",
            11,
            lambda rewards, mask, gamma: torch.where(mask, rewards, 0.0).cumsum(1) * mask,
            "You add up the rewards before each token. A token cannot change the past; it is "
            "responsible for what comes after it.",
            "In which direction does the sum run?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda rewards, mask, gamma: returns_to_go(rewards, torch.ones_like(mask), gamma),
            "Numbers in the padding reach your returns. With other padding the same review would "
            "be worth something else.",
            "Which rewards belong to the review?",
        ),
        Mistake(
            "cut at a gap",
            8,
            _cut_at_gaps,
            "Your running sum is set back to 0 where the mask is False, so a gap cuts a review in "
            "two. Write 0 there, and go on as with a reward of 0.",
            "Which value should the sum have when the loop comes out of a gap?",
        ),
        Mistake(
            "gaps closed",
            8,
            _gaps_closed,
            "You skip the gap. Here every column is one step of γ, also a masked one.",
            "How many columns lie between the two tokens beside the gap?",
        ),
        Mistake(
            "neither mask nor gamma",
            8,
            lambda rewards, mask, gamma: returns_to_go(rewards, torch.ones_like(mask), 1.0),
            "You add up without γ, and numbers in the padding reach your returns.",
            "Which two arguments have you not used?",
        ),
        Mistake(
            "gamma left out",
            28,
            lambda rewards, mask, gamma: returns_to_go(rewards, mask, 1.0),
            "You add up without γ. That is what RLHF does, but this function is asked for any γ: "
            "you will need it to see that γ < 1 pays for brevity.",
            "What is a reward two tokens ahead worth?",
        ),
        Mistake(
            "mask after the sum",
            8,
            lambda rewards, mask, gamma: (
                returns_to_go(rewards, torch.ones_like(mask), gamma) * mask
            ),
            "You mask at the end. By then the numbers in the padding have been added up.",
            "What must happen before the first addition?",
        ),
        Mistake(
            "mask after the sum, gamma left out",
            8,
            lambda rewards, mask, gamma: returns_to_go(rewards, torch.ones_like(mask), 1.0) * mask,
            "You add up without γ, and you mask at the end, when the numbers in the padding have "
            "been added up.",
            "What must happen before the first addition, and what at every one?",
        ),
        Mistake(
            "summed from the front, mask at the end",
            11,
            lambda rewards, mask, gamma: rewards.cumsum(1) * mask,
            "You add up the rewards before each token, and what stands in the padding with them. A "
            "token cannot change the past.",
            "In which direction does the sum run, and what must happen before it?",
        ),
        Mistake(
            "own reward left out",
            11,
            lambda rewards, mask, gamma: (returns_to_go(rewards, mask, gamma) - rewards) * mask,
            "Your return begins with the next reward. A token is paid for itself, too.",
            "With which reward does G_t begin?",
        ),
        Mistake(
            "discounted from the start",
            28,
            lambda rewards, mask, gamma: returns_to_go(
                rewards * gamma ** torch.arange(rewards.shape[1]).double(), mask, 1.0
            ),
            "You discount by the place in the review: γ^t. What counts is how far ahead of *this* "
            "token a reward is.",
            "What is the factor of a token's own reward?",
        ),
        Mistake(
            "not flipped back",
            11,
            lambda rewards, mask, gamma: (
                returns_to_go(rewards * mask, torch.ones_like(mask), gamma).flip(1) * mask
            ),
            "You summed from the back, and left the result in that order.",
            "Where should the return of the first token stand?",
        ),
        Mistake(
            "gamma once, not at every step",
            28,
            lambda rewards, mask, gamma: (
                rewards * mask + gamma * (returns_to_go(rewards, mask, 1.0) - rewards) * mask
            ),
            "You multiply by γ once, however far ahead a reward is. Two tokens ahead it is γ².",
            "What does G_t = r_t + γ·G_{t+1} do to a reward two tokens ahead?",
        ),
    ),
)

_LENGTH = Choice(
    name="shorter_reviews",
    section="01_a_score_at_the_end: λ: trust the critic, or wait",
    minutes=3,
    answer="b",
    reason="With a critic that predicts 0, token t of T gets λ^(T−t) times the score. Where "
    "<eos> comes, it is the last token and gets the full score; a word that goes on gets less.",
    mistakes=(
        Mistake(
            "the reward model",
            28,
            "a",
            "Their scores are alike for short and long reviews. A bias can come from the algorithm "
            "alone.",
            "Which run of section 6 had nothing to learn from its scores?",
        ),
        Mistake(
            "gamma",
            28,
            "c",
            "γ < 1 would shorten reviews, but it was 1.",
            "Which other number below 1 is raised to a power along the review?",
        ),
        Mistake(
            "nothing arrives",
            11,
            "d",
            "With γ = 1 the return of every token holds the whole score, and even with λ < 1 a "
            "part of it arrives. If no score arrived, the reviews would not change at all.",
            "Which tokens does λ^(T−t) favour?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_MASK, _LOGPROBS, _TERMINAL, _RETURNS, _LENGTH)
