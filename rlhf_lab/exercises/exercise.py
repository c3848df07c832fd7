"""The parts of an exercise: its solution, inputs to try it on, and the known mistakes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Attempt = Callable[..., Any]


class Case(NamedTuple):
    """One input on which an attempt is compared with the reference.

    A good case tells mistakes apart. Its rows have different lengths, there is garbage off the
    mask, |log-ratio| is 1 to 2 (near 0 wrong formulas agree with the right one), and numbers are
    float64.
    """

    name: str
    """What the case is, after the word "on": "two reviews of different length"."""
    inputs: tuple[Any, ...]
    """The arguments, in order; every attempt gets a fresh copy."""
    gradient: tuple[int, ...] = ()
    """Positions of the inputs whose gradients are compared, too."""
    edge: bool = False
    """An extreme input. It is looked at only if an attempt is right on all ordinary ones: else
    what is wrong there would hide what is wrong here."""


class Mistake(NamedTuple):
    """A wrong solution that students really write, and the message for it."""

    name: str
    """A name that is unique in its exercise, such as "directions swapped"."""
    row: int
    """Its number in docs/mistakes.md."""
    wrong: Any
    """The wrong implementation; for a `Choice`, the wrong answer."""
    diagnosis: str
    """What the attempt computes instead, and why that is wrong."""
    hint: str
    """A question or a pointer, never the solution."""


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function for the student to write."""

    name: str
    """Name of the function."""
    section: str
    """Notebook and heading of the explanation: "04_the_leash: The direction"."""
    minutes: int
    reference: Attempt
    """The package's own function, shown by `solution`."""
    cases: Sequence[Case]
    mistakes: Sequence[Mistake]
    run: Callable[..., Any] = lambda attempt, *inputs: attempt(*inputs)
    """Runs an attempt on the inputs of a case, if a plain call is not enough."""
    helpers: Sequence[Callable[..., Any]] = ()
    """Functions of the package that do the main work of the reference; shown below it."""
    slips: int = 2
    """How many slips at once to search for; 1 where the reference takes long."""
    simple: Callable[..., Any] | None = None
    """A short function with the same numbers, to be shown with blanks where the package's own is
    long."""
    outputs: Sequence[str] = ()
    """The names of its outputs, such as "kl", if it returns several."""
    arguments: Sequence[str] = ()
    """The names of the inputs of its cases, if they are not those of the reference."""
    over_logits: Sequence[int] = ()
    """Positions of log-probabilities of whole distributions. Their gradients are compared as those
    of the logits behind them: then it does not matter whether an attempt normalises once more."""
    curious: bool = False
    """Whether its section is *for the curious*: such exercises are counted apart."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A question with several answers, of which one is right."""

    name: str
    section: str
    minutes: int
    answer: str
    """The letter of the right answer."""
    reason: str
    """Why it is right, shown with it."""
    mistakes: Sequence[Mistake]
    """One for every other letter."""
    values: Sequence[float] = ()
    """What the letters a, b, … stand for, if that is a number."""
    curious: bool = False
    """Whether its section is *for the curious*: such exercises are counted apart."""
