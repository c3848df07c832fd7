"""Review world: a language of 14 words, small enough to write down every response in it.

A review answers a prompt ("food" or "staff") with at most five words, and `<eos>` if it is
shorter. 402,234 responses are possible for each prompt. What people write follows a small grammar,
of which they use one or two clauses,

    review → clause | clause (and|but) [other subject] review
    clause → [not] [very] adjective

and what people think of a review is the *gold score*: a written rule that no model in this course
ever sees. It is what the reward model should have learned.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from rlhf_lab._checks import require, takes
from rlhf_lab._require import require_ids, said

WORDS = (
    "<eos>", "food", "staff", "and", "but", "not", "very",
    "good", "great", "fresh", "kind", "bad", "cold", "rude",
)  # fmt: skip
EOS_ID = 0
"""Ends a review, and pads what follows it, as in GPT-2."""
PROMPTS = ("food", "staff")
RESPONSE_LENGTH = 5

_ID = {word: i for i, word in enumerate(WORDS)}
_AND, _BUT, _NOT, _VERY = (_ID[word] for word in ("and", "but", "not", "very"))
_FIRST_ADJECTIVE = _ID["good"]
_SENTIMENT = {
    "good": 1.2, "great": 2.0, "fresh": 1.5, "kind": 1.5,
    "bad": -1.4, "cold": -1.0, "rude": -1.6,
}  # fmt: skip
_FITS = {
    "food": ("good", "great", "fresh", "bad", "cold"),
    "staff": ("good", "great", "kind", "bad", "cold", "rude"),
}
UNGRAMMATICAL = -2.0
"""Gold score of word salad."""
_MISFIT, _REPEAT = -1.5, -1.0


@takes(text=str)
def encode(text: str) -> list[int]:
    """Token ids of a text in review world.

    >>> encode("very good <eos>")
    [6, 7, 0]

    Raises:
        ValueError: a word is not in the vocabulary.
    """
    unknown = [word for word in text.split() if word not in _ID]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a word of this world; it has {', '.join(WORDS)}")
    return [_ID[word] for word in text.split()]


def decode(tokens: Sequence[int] | Tensor) -> str:
    """The text of one response up to its `<eos>`, which is shown as a full stop.

    >>> decode([6, 7, 0, 0, 0]), decode([7, 3, 6, 7, 3])
    ('very good .', 'good and very good and')
    """
    if isinstance(tokens, Tensor):
        tokens = require("tokens", tokens, "integers (T,)").tolist()
    elif not isinstance(tokens, list | tuple | range):
        raise ValueError(f"tokens must be a list of token ids or a tensor (T,), got {said(tokens)}")
    words: list[str] = []
    for token in (require("tokens: each", token, "integer") for token in tokens):
        if token == EOS_ID:
            return " ".join([*words, "."])
        if token < 0:  # off the mask, see `collapse.count_responses`
            break
        if token >= len(WORDS):
            raise ValueError(f"tokens: token id {token} is outside 0..{len(WORDS) - 1}")
        words.append(WORDS[token])
    return " ".join(words)


@takes(prompts="integers (N,)", responses="integers (N, T)")
def gold_scores(prompts: Tensor, responses: Tensor) -> Tensor:
    """The gold score of each response: what a reader who reads carefully would give it.

    The mean over clauses of the adjective's sentiment · 1.4 if "very" · −0.6 if "not", or −1.5
    if the adjective does not fit what the clause is about; −1 if an adjective is said twice; −2
    for everything that the grammar does not allow.

    Args:
        prompts: the prompt's token, (N,).
        responses: (N, T), anything behind the first `<eos>` is ignored.

    Returns:
        (N,), float64, between −3.24 and 2.8.

    Raises:
        ValueError: a prompt is neither "food" nor "staff".

    >>> texts = ["very great <eos>", "great and rude", "great great great"]
    >>> responses = torch.tensor([encode(text) for text in texts])
    >>> gold_scores(torch.tensor(encode("food food food")), responses)
    tensor([ 2.8000,  0.2500, -2.0000], dtype=torch.float64)
    """
    tables = _TRANSITIONS, _ADJECTIVE_SENTIMENT, _ADJECTIVE_FITS
    transitions, sentiment, fits = (table.to(responses.device) for table in tables)
    N = len(responses)
    # What is behind the first <eos> is ignored, and may be no token of this world.
    responses = responses.masked_fill((responses == EOS_ID).cumsum(dim=1) > 0, EOS_ID)
    require_ids("responses", responses, len(WORDS))
    if not ((prompts == _ID["food"]) | (prompts == _ID["staff"])).all():
        raise ValueError(f"prompts must be the tokens of {PROMPTS}: a review is about one of them")
    about = prompts.clone()
    negated, intensified = torch.zeros(2, N, dtype=torch.bool, device=responses.device)
    said, repeated = torch.zeros(2, N, dtype=torch.long, device=responses.device)
    total, clauses = torch.zeros(2, N, dtype=torch.float64, device=responses.device)
    state = torch.full((N,), _START, device=responses.device)
    for token in responses.unbind(dim=1):
        done = (state == _END) | (state == _BROKEN)
        noun = ((token == _ID["food"]) | (token == _ID["staff"])) & ~done
        state = transitions[state, token]
        # A clause may change the subject once, and only to the other one.
        state = state.masked_fill(noun & (token == about), _BROKEN)
        about = torch.where(noun, token, about)
        negated |= (token == _NOT) & ~done
        intensified |= (token == _VERY) & ~done
        adjective = (token >= _FIRST_ADJECTIVE) & ~done
        value = sentiment[token]
        value = torch.where(intensified, 1.4 * value, value)
        value = torch.where(negated, -0.6 * value, value)
        value = torch.where(fits[about, token], value, _MISFIT)
        total += value.masked_fill(~adjective, 0.0)
        clauses += adjective
        bit = 1 << token
        repeated |= adjective & ((said & bit) != 0)
        said = torch.where(adjective, said | bit, said)
        negated &= ~adjective
        intensified &= ~adjective
    score = total / clauses.clamp(min=1) + _REPEAT * repeated
    return torch.where((state == _END) | (state == _CLAUSE), score, UNGRAMMATICAL)


# States of the grammar: at the start of a clause (the first, or a later one, which may name the
# other subject), behind "not", behind "very", behind the subject, behind a whole clause, ended.
_START, _LATER, _AFTER_NOT, _AFTER_VERY, _AFTER_NOUN, _CLAUSE, _END, _BROKEN = range(8)


def _transitions() -> Tensor:
    table = torch.full((8, len(WORDS)), _BROKEN)
    for state in (_START, _LATER, _AFTER_NOUN):
        table[state, _NOT], table[state, _VERY] = _AFTER_NOT, _AFTER_VERY
    table[_AFTER_NOT, _VERY] = _AFTER_VERY
    for state in (_START, _LATER, _AFTER_NOT, _AFTER_VERY, _AFTER_NOUN):
        table[state, _FIRST_ADJECTIVE:] = _CLAUSE
    table[_LATER, [_ID["food"], _ID["staff"]]] = _AFTER_NOUN
    table[_CLAUSE, [_AND, _BUT]], table[_CLAUSE, EOS_ID] = _LATER, _END
    table[_END] = _END
    return table


def _adjectives() -> tuple[Tensor, Tensor]:
    sentiment = torch.zeros(len(WORDS), dtype=torch.float64)
    fits = torch.zeros(len(WORDS), len(WORDS), dtype=torch.bool)
    for word, value in _SENTIMENT.items():
        sentiment[_ID[word]] = value
    for subject, words in _FITS.items():
        fits[_ID[subject], [_ID[word] for word in words]] = True
    return sentiment, fits


_TRANSITIONS = _transitions()
_ADJECTIVE_SENTIMENT, _ADJECTIVE_FITS = _adjectives()


@takes(n="count 1..10000000", generator="generator", noise="fraction")
def corpus(n: int, generator: torch.Generator, noise: float = 0.01) -> tuple[Tensor, Tensor]:
    """Reviews as people write them: mostly grammatical, of both subjects, of every opinion.

    Args:
        n: how many.
        generator: CPU generator.
        noise: probability that a word is a slip, drawn uniformly from the vocabulary.

    Returns:
        Prompts (n,) and responses (n, 5), padded with `<eos>`.
    """
    choose = _Chooser(generator)
    reviews: list[list[int]] = []
    while len(reviews) < n:
        subject = choose(PROMPTS)
        words = _review(subject, choose)
        if len(words) > RESPONSE_LENGTH:
            continue
        tokens = [_ID[word] for word in words]
        slips = [choose.chance(noise) for _ in tokens]
        tokens = [
            choose(range(1, len(WORDS))) if slip else t
            for t, slip in zip(tokens, slips, strict=True)
        ]
        reviews.append([_ID[subject], *tokens, *[EOS_ID] * (RESPONSE_LENGTH - len(tokens))])
    table = torch.tensor(reviews)
    return table[:, 0], table[:, 1:]


T = TypeVar("T")


class _Chooser:
    """Draws from a generator in blocks: one torch call a word would take most of the time."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.uniforms: Iterator[float] = iter(())

    def uniform(self) -> float:
        for u in self.uniforms:
            return u
        self.uniforms = iter(torch.rand(4096, generator=self.generator).tolist())
        return next(self.uniforms)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def __call__(self, options: Sequence[T]) -> T:
        return options[int(self.uniform() * len(options))]


def _clause(subject: str, choose: _Chooser) -> tuple[list[str], float]:
    fitting = choose.chance(0.95)
    adjective = choose(_FITS[subject] if fitting else tuple(_SENTIMENT))
    negated, intensified = choose.chance(0.25), choose.chance(0.35)
    words = ["not"] * negated + ["very"] * intensified + [adjective]
    return words, _SENTIMENT[adjective] * (-1 if negated else 1)


def _review(subject: str, choose: _Chooser) -> list[str]:
    words, opinion = _clause(subject, choose)
    if choose.chance(0.35):
        return words
    other = PROMPTS[1 - PROMPTS.index(subject)]
    turn = choose.chance(0.2)
    more, second = _clause(other if turn else subject, choose)
    agree = opinion * second > 0
    joint = ("and" if agree else "but") if choose.chance(0.9) else ("but" if agree else "and")
    return [*words, joint, *([other] if turn else []), *more]
