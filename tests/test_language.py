"""The gold score against a scorer in plain Python, and a corpus that speaks the language."""

import random
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_lab.exact import enumerate_responses
from rlhf_lab.language import (
    EOS_ID,
    PROMPTS,
    RESPONSE_LENGTH,
    UNGRAMMATICAL,
    WORDS,
    corpus,
    decode,
    encode,
    gold_scores,
)

SENTIMENT = {
    "good": 1.2, "great": 2.0, "fresh": 1.5, "kind": 1.5, "bad": -1.4, "cold": -1.0, "rude": -1.6,
}  # fmt: skip
MISFITS = {("food", "kind"), ("food", "rude"), ("staff", "fresh")}
EVERYTHING = enumerate_responses(len(WORDS), RESPONSE_LENGTH)


def clause_score(subject: str, negated: bool, intensified: bool, adjective: str) -> float:
    if (subject, adjective) in MISFITS:
        return -1.5
    return SENTIMENT[adjective] * (1.4 if intensified else 1) * (-0.6 if negated else 1)


def review_score(clauses: list[tuple[str, bool, bool, str]]) -> float:
    adjectives = [clause[3] for clause in clauses]
    repeated = len(set(adjectives)) < len(adjectives)
    return sum(clause_score(*clause) for clause in clauses) / len(clauses) - repeated


class Reader:
    """Recursive descent: review → clause [(and|but) [the other subject] review]."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def accept(self, *options: str) -> str | None:
        return self.words.pop(0) if self.words and self.words[0] in options else None

    def review(self, subject: str) -> list[tuple[str, bool, bool, str]] | None:
        """The clauses; None if the words are no review."""
        negated, intensified = bool(self.accept("not")), bool(self.accept("very"))
        adjective = self.accept(*SENTIMENT)
        if adjective is None:
            return None
        clause = (subject, negated, intensified, adjective)
        if not self.words:
            return [clause]
        if not self.accept("and", "but"):
            return None
        rest = self.review(self.accept(*{*PROMPTS} - {subject}) or subject)
        return None if rest is None else [clause, *rest]


def read(prompt: str, response: list[int]) -> float:
    """The gold score, read word by word."""
    end = response.index(EOS_ID) if EOS_ID in response else len(response)
    clauses = Reader([WORDS[token] for token in response[:end]]).review(prompt)
    return UNGRAMMATICAL if clauses is None else review_score(clauses)


def write(subject: str, room: int):
    """Every grammatical review of at most `room` words: (words, clauses), from the grammar."""
    for negated, intensified, adjective in product([False, True], [False, True], SENTIMENT):
        words = ["not"] * negated + ["very"] * intensified + [adjective]
        clause = (subject, negated, intensified, adjective)
        if len(words) <= room:
            yield words, [clause]
        other = PROMPTS[1 - PROMPTS.index(subject)]
        for joint, turn in product(["and", "but"], [[], [other]]):
            begun = [*words, joint, *turn]
            if len(begun) < room:
                for more, clauses in write(other if turn else subject, room - len(begun)):
                    yield begun + more, [clause, *clauses]


def scores_of(prompt: str, responses: Tensor) -> list[float]:
    return gold_scores(torch.tensor(encode(prompt)).expand(len(responses)), responses).tolist()


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_short_response_has_the_score_of_a_plain_reader(prompt, length):
    """At the length limit a review may end without <eos>, but not behind "and" or "not"."""
    responses = enumerate_responses(len(WORDS), length)
    expected = [read(prompt, response) for response in responses.tolist()]
    assert scores_of(prompt, responses) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_sample_of_all_responses_has_the_score_of_a_plain_reader(prompt):
    rows = random.Random(0).sample(range(len(EVERYTHING)), 3_000)
    expected = [read(prompt, response) for response in EVERYTHING[rows].tolist()]
    assert scores_of(prompt, EVERYTHING[rows]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_grammar_writes_exactly_what_the_score_accepts(prompt):
    """Seven in a thousand of all responses are reviews, so a sample of 3,000 has few of them: here
    are all, made from the grammar instead of recognised, and everything else is word salad."""
    digits = len(WORDS) ** torch.arange(RESPONSE_LENGTH)
    expected = torch.full((len(WORDS) ** RESPONSE_LENGTH,), UNGRAMMATICAL, dtype=torch.float64)
    written = set()
    for words, clauses in write(prompt, RESPONSE_LENGTH):
        tokens = encode(" ".join(words)) + [EOS_ID] * (RESPONSE_LENGTH - len(words))
        number = (torch.tensor(tokens) @ digits).item()
        assert number not in written, "the grammar is not ambiguous"
        written.add(number)
        expected[number] = review_score(clauses)
    numbers = EVERYTHING @ digits
    assert len(written) == 2968
    assert written <= set(numbers.tolist())
    scores = gold_scores(torch.tensor(encode(prompt)).expand(len(EVERYTHING)), EVERYTHING)
    assert_close(scores, expected[numbers], rtol=0, atol=1e-12)
    assert decode(EVERYTHING[scores.argmax()]) == "very great ."
    worst = {"food": "very bad and very bad", "staff": "very rude and very rude"}[prompt]
    assert decode(EVERYTHING[scores.argmin()]) == worst


def test_what_stands_behind_eos_is_ignored():
    """Rollouts pad with <eos>; other samplers may not."""
    generator = torch.Generator().manual_seed(0)
    responses = torch.cat([EVERYTHING[:3000], EVERYTHING[::150]])
    ended = (responses == EOS_ID).cumsum(dim=1) - (responses == EOS_ID).int() > 0
    junk = torch.randint(len(WORDS), responses.shape, generator=generator)
    spoilt = torch.where(ended, junk, responses)
    assert (spoilt != responses).any(dim=1).sum() > 1000
    for prompt in PROMPTS:
        assert scores_of(prompt, spoilt) == scores_of(prompt, responses)


def test_rows_with_different_prompts_do_not_interact():
    responses = torch.tensor([encode("fresh"), encode("fresh"), encode("kind"), encode("kind")])
    prompts = torch.tensor(encode("food staff food staff"))
    assert gold_scores(prompts, responses).tolist() == [1.5, -1.5, -1.5, 1.5]


def test_text_and_tokens_are_the_same_thing():
    for response in EVERYTHING[::997].tolist():
        end = response.index(EOS_ID) + 1 if EOS_ID in response else RESPONSE_LENGTH
        assert encode(decode(response).replace(".", "<eos>")) == response[:end]
        assert decode(torch.tensor(response)) == decode(response)
    assert encode(" ".join(WORDS)) == list(range(len(WORDS)))
    assert decode([6, 7, -1, -1]) == "very good"  # −1 stands off the mask
    assert decode([]) == ""
    assert encode("") == []


def test_an_unknown_word_is_named_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"'awful' is not a word of this world; .*<eos>.* rude$"):
        encode("very awful food")


def grammatical(prompts: Tensor, responses: Tensor) -> float:
    """The share that a plain reader understands."""
    texts = [decode(y).removesuffix(" .").split() for y in responses]
    readings = [
        Reader(text).review(WORDS[x]) for x, text in zip(prompts.tolist(), texts, strict=True)
    ]
    return 1 - readings.count(None) / len(readings)


def test_the_corpus_is_made_of_reviews_with_a_slip_in_a_hundred_words():
    """Without slips all is grammatical; a slip in 1 % of the words breaks about 2 % of the reviews
    (1.8 % to 2.2 % in ten corpora of 20,000; the bounds are five standard errors away)."""
    clean = corpus(2_000, torch.Generator().manual_seed(1), noise=0)
    assert grammatical(*clean) == 1
    assert 0.974 < grammatical(*corpus(20_000, torch.Generator().manual_seed(1))) < 0.985
    assert grammatical(*corpus(2_000, torch.Generator().manual_seed(1), noise=1.0)) < 0.25


def test_the_corpus_covers_both_prompts_and_every_opinion():
    """Of 4,000 fair choices, 2,000 ± 190 are six standard errors: odds of 1 in 10^9."""
    prompts, responses = corpus(4_000, torch.Generator().manual_seed(2))
    assert prompts.shape == (4_000,)
    assert responses.shape == (4_000, RESPONSE_LENGTH)
    assert {WORDS[i] for i in prompts.unique()} == set(PROMPTS)
    assert abs((prompts == prompts[0]).sum().item() - 2_000) < 190
    assert responses.unique().tolist() == list(range(len(WORDS)))
    golds = gold_scores(prompts, responses)
    assert (golds > 0.5).double().mean() > 0.2
    assert (golds < -0.5).double().mean() > 0.2
    padding = (responses == EOS_ID).cumsum(dim=1) > 0
    assert (responses[padding] == EOS_ID).all()
    assert (responses[:, 0] != EOS_ID).all()  # nobody says nothing


def test_a_seed_makes_the_corpus():
    first, again, other = (corpus(500, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
