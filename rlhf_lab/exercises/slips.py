"""General slips, as data: what turns the right answer, or a known wrong one, into the attempt's?

A slip is a name, a sentence for the student, a question, and a change. A *twist* changes an output
of the reference (its sign, a factor, a sum for a mean). A *disguise* changes an input before the
reference sees it (a mask that is forgotten, two arguments exchanged). `search` tries one change
first, then two at once.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.observe import Trial, spoken
from rlhf_lab.translation import tr

Twist = Callable[[Tensor, Trial], Tensor]
Disguise = Callable[[dict[str, Any]], dict[str, Any]]
GREEK = {
    "eta": "η", "beta": "β", "gamma": "γ", "lam": "λ", "logprobs": "logprobs", "mask": "mask",
}  # fmt: skip


class Slip(NamedTuple):
    """A change that students make without meaning to."""

    name: str
    says: str
    """What the attempt computes, in English; {it} is "your result" or, if there are several, its
    name."""
    hint: str
    change: Callable[..., Any]
    values: Mapping[str, object] = {}
    """What stands for the other {placeholders} in `says` and `hint`."""
    backwards: bool = False
    """The twist is still to be made: made on the attempt's output, it gives the right one."""


def _mask(t: Trial) -> Tensor:
    if t.mask is None:
        raise ValueError("no mask here")
    return t.mask


def _over_mask(y: Tensor, t: Trial, dim: int | None) -> Tensor:
    mask = _mask(t)
    kept = y.masked_fill(~mask, 0.0)
    return kept.sum() if dim is None else kept.sum(dim)


TWISTS: tuple[Slip, ...] = (
    Slip("sign", "{it} has the wrong sign everywhere.", "Should this number be positive or "
         "negative? Try it on one token.", lambda y, t: -y),
    Slip("probability for log", "{it} is e^x where x is right: a probability (or a ratio) where "
         "its logarithm is asked for.",
         "Does the text ask for a probability, or for its logarithm?",
         lambda y, t: y.exp()),
    Slip("log for probability", "{it} is the logarithm of the right number.",
         "Does the text ask for the number or for its log?", lambda y, t: y.log()),
    Slip("exponential twice", "{it} is e^x of the right number minus 1.", "How often does exp "
         "occur in the formula?", lambda y, t: y.expm1()),
    Slip("absolute value", "{it} has lost its signs: it is the absolute value of the right one.",
         "May this number be negative?", lambda y, t: y.abs()),
    Slip("negative numbers cut off", "{it} is right, but 0 where it should be negative.",
         "May this number be negative?", lambda y, t: y.clamp(min=0)),
    Slip("square", "{it} is the square of the right number.", "Is a root missing?",
         lambda y, t: y.square()),
    Slip("root", "{it} is the square root of the right number.", "Is there one root too many?",
         lambda y, t: y.sqrt()),
    Slip("upside down", "{it} is 1/x where x is right: a fraction stands upside down.",
         "Which of the two belongs above the line?", lambda y, t: 1 / y),
    Slip("one minus", "{it} is 1 − x where x is right.", "Which of the two events is meant?",
         lambda y, t: 1 - y),
    Slip("minus one", "{it} is smaller by 1 than the right number.",
         "At which value should it be 0?", lambda y, t: y - 1),
    Slip("plus one", "{it} is larger by 1 than the right number.",
         "At which value should it be 0?", lambda y, t: y + 1),
    Slip("softmax once more", "{it} is the softmax of the right one.",
         "Which of the numbers are normalised already?", lambda y, t: y.softmax(-1)),
    Slip("reversed", "{it} is right, but in reversed order.",
         "Did you flip it, and not flip it back?", lambda y, t: y.flip(-1)),
    Slip("added up along the row", "{it} is the running sum of the right one.",
         "Is there one cumsum too many?", lambda y, t: y.cumsum(-1)),
    Slip("one place late", "{it} is right, but one place too far to the right.",
         "Positions count from 0.", lambda y, t: torch.nn.functional.pad(y, (1, -1))),
    Slip("one place early", "{it} is right, but one place too far to the left.",
         "Positions count from 0.", lambda y, t: torch.nn.functional.pad(y, (-1, 1))),
    Slip("one place round", "{it} is right, but moved by one place, and round the end.",
         "Positions count from 0.", lambda y, t: y.roll(1, -1)),
    Slip("one place back round", "{it} is right, but moved by one place, and round the start.",
         "Positions count from 0.", lambda y, t: y.roll(-1, -1)),
    Slip("transposed", "{it} is transposed: rows and columns are exchanged.",
         "Which dimension comes first?", lambda y, t: y.transpose(-1, -2)),
    Slip("masked at the end", "{it} is multiplied by the mask at the end. That is too late: the "
         "padding has already been counted.", "What must the mask do before anything is added up?",
         lambda y, t: y * _mask(t)),
    Slip("the same for all", "{it} is the mean of all the right numbers, at every place.",
         "Should each have its own number?", lambda y, t: y.mean().expand_as(y)),
    Slip("mean removed", "{it} has mean 0: you subtracted the mean.",
         "Does the text ask for that?", lambda y, t: y - y.mean()),
    Slip("yes or no for a number", "{it} holds True where the right number is not 0: torch has "
         "turned numbers into booleans. zeros_like of a boolean tensor is boolean.",
         "What is the dtype of your result?", lambda y, t: y.bool().double()),
    Slip("whole numbers", "{it} is cut to whole numbers. zeros_like of an integer tensor is "
         "integer, and numbers written into it lose what stands behind the point.",
         "What is the dtype of your result?", lambda y, t: y.trunc()),
    Slip("mean over everything", "{it} is a single number: the mean over what should stay "
         "apart.", "Which dimension should be left?", lambda y, t: y.mean()),
    Slip("sum over everything", "{it} is a single number: the sum over what should stay "
         "apart.", "Which dimension should be left?", lambda y, t: y.sum()),
    Slip("reduced by the last dimension", "{it} is averaged over its last dimension, which should "
         "stay.", "Which dimension should be left?", lambda y, t: y.mean(-1)),
    Slip("summed over the last dimension", "{it} is summed over its last dimension, which should "
         "stay.", "Which dimension should be left?", lambda y, t: y.sum(-1)),
    Slip("averaged over the first dimension", "{it} is averaged over its first dimension, which "
         "should stay.", "Which dimension should be left?", lambda y, t: y.mean(0)),
    Slip("summed over the first dimension", "{it} is summed over its first dimension, which "
         "should stay.", "Which dimension should be left?", lambda y, t: y.sum(0)),
    Slip("the largest alone", "{it} is only the largest of the right numbers.",
         "Which dimension should be left?", lambda y, t: y.max()),
    Slip("a dimension too many", "{it} has the right numbers and one dimension of size 1 too many.",
         "squeeze or keepdim?", lambda y, t: y.squeeze(), backwards=True),
    Slip("repeated", "{it} repeats the right number.", "How many numbers are asked for?",
         lambda y, t: y[..., 0] if bool((y == y[..., :1]).all()) else y, backwards=True),
    Slip("repeated for each", "{it} repeats the right numbers.", "How many numbers are asked for?",
         lambda y, t: y[0] if bool((y == y[:1]).all()) else y, backwards=True),
    Slip("not averaged", "{it} holds the right numbers one by one: their mean is missing.",
         "How many numbers are asked for?", lambda y, t: y.mean(), backwards=True),
    Slip("not added up", "{it} holds the right numbers one by one: their sum is missing.",
         "How many numbers are asked for?", lambda y, t: y.sum(), backwards=True),
    Slip("not added up over the last dimension", "{it} holds the terms one by one: the sum over "
         "the last dimension is missing.", "How many numbers are asked for?",
         lambda y, t: y.sum(-1), backwards=True),
    Slip("not averaged over the last dimension", "{it} holds the terms one by one: the mean over "
         "the last dimension is missing.", "How many numbers are asked for?",
         lambda y, t: y.mean(-1), backwards=True),
    Slip("not added up over the tokens", "{it} holds one number per token: the sum over the "
         "mask is missing.", "How many numbers are asked for?",
         lambda y, t: _over_mask(y, t, 1), backwards=True),
    Slip("not averaged over the mask", "{it} holds one number per token: the mean over the "
         "mask is missing.", "How many numbers are asked for?",
         lambda y, t: _over_mask(y, t, None) / _mask(t).sum(), backwards=True),
    Slip("not the largest", "{it} holds all the numbers: their maximum is missing.",
         "How many numbers are asked for?", lambda y, t: y.max(), backwards=True),
    Slip("every row for every row", "{it} has one dimension too many: x[:, index] takes all "
         "places of `index` in every row. The right numbers stand on the diagonal.",
         "How does x[torch.arange(len(x)), index] differ?", lambda y, t: y.diagonal(),
         backwards=True),
    Slip("padding not cleared", "{it} is not 0 where the mask is False.",
         "What should stand where nobody chose a token?", lambda y, t: y.masked_fill(~_mask(t), 0),
         backwards=True),
)  # fmt: skip


@functools.lru_cache(maxsize=16)
def sizes(t: Trial) -> dict[str, float]:
    """The counts and coefficients of a case, by their names in a sentence."""
    return dict(_sizes(t))


def _sizes(t: Trial) -> Iterator[tuple[str, float]]:
    yield from (("2", 2.0), ("ln 2", math.log(2)), ("ln 10", math.log(10)), ("e", math.e))
    for name, value in t.arguments.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            yield GREEK.get(name, name), float(value)
            yield f"{GREEK.get(name, name)} squared", float(value) ** 2
            yield f"1 − {GREEK.get(name, name)}", 1 - float(value)
            yield f"1 + {GREEK.get(name, name)}", 1 + float(value)
    if t.mask is not None:
        tokens, (rows, width) = int(t.mask.sum()), t.mask.shape
        yield from (("the number of tokens", tokens), ("the number of reviews", rows))
        yield from (("the width of the batch", width), ("the number of all places", rows * width))
        if tokens > 1:
            yield "√((n − 1)/n)", math.sqrt((tokens - 1) / tokens)
            yield "n/(n − 1)", tokens / (tokens - 1)
        yield "the mean length", tokens / rows
    else:
        first = next((x for x in t.case.inputs if isinstance(x, Tensor) and x.dim()), None)
        for dim, size in enumerate(first.shape if first is not None else ()):
            where = "n" if dim == 0 else "the size of the vocabulary"
            yield where if first is None or first.dim() == 1 or dim else "n", float(size)
            if size > 1:
                yield "√((n − 1)/n)", math.sqrt((size - 1) / size)
    yield "the number of its entries", float(t.expected.numbers[0].numel())


def _lengths(y: Tensor, t: Trial) -> Tensor:
    lengths = _mask(t).sum(1).double()
    return lengths.unsqueeze(1) if y.dim() == 2 else lengths


def factors(t: Trial) -> list[Slip]:
    """Twists by the numbers of this exercise: a factor, a divisor, a term."""
    found = [slip for name in sizes(t) for slip in _by_size(name)]
    if t.mask is not None:
        found += _BY_MASK
    for name, value in t.arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            found += _by_argument(name)
    return found


def _by_size(name: str) -> Iterator[Slip]:
    words = {"size": _size_in_words(name)}
    yield Slip(
        f"times {name}", "{it} is {size} times the right number.",
        "Where does {size} come from, and does the formula have it?",
        lambda y, t: y * sizes(t)[name], words,
    )  # fmt: skip
    yield Slip(
        f"divided by {name}", "{it} is the right number divided by {size}.",
        "Where is {size} divided out, and does the formula ask for it?",
        lambda y, t: y / sizes(t)[name], words,
    )  # fmt: skip


def _size_in_words(name: str) -> str:
    """A key of `sizes` in the reader's language."""
    root, squared, _ = name.partition(" squared")
    return tr("{x} squared", x=root) if squared else tr(name)


_BY_MASK = (
    Slip("times the length", "{it} is too large, by the length of each review.",
         "A sum or a mean over the tokens?", lambda y, t: y * _lengths(y, t)),
    Slip("divided by the length", "{it} is too small, by the length of each review: you averaged "
         "over its tokens where a sum is meant.", "A sum or a mean over the tokens?",
         lambda y, t: y / _lengths(y, t)),
    Slip("divided by all places", "{it} is divided by all places, padding included, where the "
         "number of tokens on the mask is meant.", "How many tokens did the policy choose?",
         lambda y, t: y * _mask(t).sum() / _mask(t).numel()),
    Slip("divided by the width", "{it} is divided by the width of the batch, padding included.",
         "A sum or a mean over the tokens?", lambda y, t: y / _mask(t).shape[1]),
)  # fmt: skip


def _by_argument(name: str) -> Iterator[Slip]:
    a = {"a": spoken(name)}
    yield Slip(f"without {name}", "{it} lacks `{a}`: add it, and it is right.",
               "Where should `{a}` come in?", lambda y, t: y - t.arguments[name], a)  # fmt: skip
    yield Slip(f"{name} on top", "{it} holds `{a}` once too often.",
               "Should `{a}` be added?", lambda y, t: y + t.arguments[name], a)  # fmt: skip
    yield Slip(f"multiplied by {name}", "{it} is multiplied by `{a}`.",
               "What has `{a}` to do with it?",
               lambda y, t: y * t.arguments[name], a)  # fmt: skip
    yield Slip(f"weighted by e^{name}", "{it} is weighted by e^`{a}`. What was sampled needs "
               "no weight: it comes as often as its probability says.",
               "Whose job is it to weigh a sample?",
               lambda y, t: y * t.arguments[name].exp(), a)  # fmt: skip


def _of(name: str, change: Callable[[Any], Any]) -> Disguise:
    return lambda inputs: inputs | {name: change(inputs[name])}


def _take(old: str, new: str) -> Disguise:
    return lambda inputs: inputs | {old: inputs[new]}


def _swap(a: str, b: str) -> Disguise:
    return lambda inputs: inputs | {a: inputs[b], b: inputs[a]}


_OF_MASK = (
    ("{a} forgotten", "You did not use the mask: the padding counts.", "Which positions did the "
     "policy choose?", torch.ones_like),
    ("{a} inverted", "Your mask is inverted: it keeps the padding and drops the review.",
     "Is `mask` true on the tokens or on the padding?", lambda m: ~m),
    ("last token left out", "You leave out the last token of each review, its <eos>.",
     "Is <eos> a token of the review?",
     lambda m: m & ~(m & (m.flip(1).cumsum(1).flip(1) == 1))),
    ("first token left out", "You leave out the first token of each review.",
     "Which token has index 0?", lambda m: m & (m.cumsum(1) > 1)),
    ("one token too many", "You count one token behind the end of each review.",
     "What is the index of the last of n tokens?", lambda m: m | m.roll(1, 1)),
    ("padded on the right only", "You take the first n places for the n tokens of a review. That "
     "is wrong as soon as a review is padded on the left.", "Where does the mask begin?",
     lambda m: torch.arange(m.shape[1]) < m.sum(1, keepdim=True)),
)  # fmt: skip
_OF_TENSOR = (
    ("{a} with the wrong sign", "You use −`{a}` for `{a}`.", "Which sign does `{a}` have in the "
     "formula?", lambda x: -x),
    ("e^{a} for {a}", "You use e^`{a}` where `{a}` itself belongs.", "Is `{a}` a logarithm, and "
     "what does the formula ask for?", torch.exp),
    ("{a} ignored", "You do not use `{a}`: the result is that for 0.", "What should change with "
     "`{a}`?", torch.zeros_like),
    ("{a} averaged", "You use the mean of `{a}` for each of its numbers.", "Should each have its "
     "own?", lambda x: x.mean().expand_as(x)),
    ("|{a}|", "You use the absolute value of `{a}`.", "May `{a}` be negative?", torch.abs),
    ("softmax of {a}", "You take the softmax of `{a}` first.", "What is normalised already?",
     lambda x: x.softmax(-1)),
    ("{a} not normalised", "You use `{a}` as if it were normalised (or normalise it twice).",
     "What must e^`{a}` add up to?", lambda x: x.log_softmax(-1)),
    ("{a} reversed", "You read `{a}` from the wrong end.", "In which order do tokens come?",
     lambda x: x.flip(-1)),
    ("{a} one place late", "You use `{a}` one place too far to the right.", "Which number belongs "
     "to which token?", lambda x: x.roll(1, -1)),
    ("{a} one place early", "You use `{a}` one place too far to the left.", "Which number belongs "
     "to which token?", lambda x: x.roll(-1, -1)),
    ("{a} twice", "`{a}` counts twice.", "How often does `{a}` stand in the formula?",
     lambda x: 2 * x),
    ("{a} halved", "`{a}` counts half.", "Which factor belongs to `{a}`?", lambda x: x / 2),
)  # fmt: skip
_OF_NUMBER = (
    ("{a} ignored", "You do not use {a}, or it has no effect.", "What should change with {a}?",
     lambda x: type(x)(1)),
    ("{a} as if 0", "Your result is that for {a} = 0.", "What should change with {a}?",
     lambda x: type(x)(0)),
    ("1/{a} for {a}", "You divide by {a} where you should multiply, or the other way round.",
     "What should happen as {a} grows?", lambda x: 1 / x),
    ("{a} with the wrong sign", "You use −{a} for {a}.", "Which sign has {a} in the formula?",
     lambda x: -x),
    ("{a} squared", "{a} counts twice: its square stands where {a} belongs.",
     "How often is {a} multiplied in?", lambda x: x * x),
    ("{a} twice", "You use 2·{a}.", "Which factor belongs to {a}?", lambda x: 2 * x),
    ("{a} halved", "You use {a}/2.", "Which factor belongs to {a}?", lambda x: x / 2),
    ("{a} plus one", "You use {a} + 1: one too many.", "Do you count from 0 or from 1?",
     lambda x: x + 1),
    ("{a} minus one", "You use {a} − 1: one too few.", "Do you count from 0 or from 1?",
     lambda x: x - 1),
)  # fmt: skip


def disguises(t: Trial) -> Iterator[Slip]:
    """The changes of inputs that fit the arguments of an exercise."""
    kinds = {name: _kind(name, value) for name, value in t.arguments.items()}
    for name, table in kinds.items():
        a = GREEK.get(name, name)
        for title, says, hint, change in table:
            yield Slip(title.format(a=a), says, hint, _of(name, change), {"a": spoken(a)})
    alike = [n for n, v in t.arguments.items() if isinstance(v, Tensor) and v.is_floating_point()]
    for a, b in itertools.combinations(alike, 2):
        x, y = t.arguments[a], t.arguments[b]
        if x.shape == y.shape:
            yield Slip(f"{a} and {b} exchanged", "You exchanged `{a}` and `{b}`.",
                       "Which of the two comes first in the formula?", _swap(a, b),
                       {"a": spoken(a), "b": spoken(b)})  # fmt: skip
            for old, new in ((a, b), (b, a)):
                yield Slip(f"{new} for {old}", "You use `{new}` where `{old}` belongs.",
                           "What is `{old}` for?", _take(old, new),
                           {"old": spoken(old), "new": spoken(new)})  # fmt: skip


def _kind(name: str, value: Any) -> Sequence[tuple[str, str, str, Callable[[Any], Any]]]:
    if name == "mask":
        return _OF_MASK
    if isinstance(value, Tensor):
        return _OF_TENSOR if value.is_floating_point() else ()
    return _OF_NUMBER if isinstance(value, float | int) else ()
