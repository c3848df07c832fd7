"""What an exercise is made of: solutions, inputs to try them on, and the mistakes it knows."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Attempt = Callable[..., Any]


class Case(NamedTuple):
    """One input on which an attempt is compared with the reference.

    A good case tells mistakes apart: rows of different length, garbage off the mask, |log-ratio| of
    1 to 2 (near 0 the wrong formulas agree with the right one), float64.
    """

    name: str
    """Completes "on …": "two reviews of different length"."""
    inputs: tuple[Any, ...]
    """The arguments, in order; every attempt gets a fresh copy."""
    gradient: tuple[int, ...] = ()
    """Positions of the inputs by which the output is also differentiated."""


class Mistake(NamedTuple):
    """A wrong solution that students really write, and the answer they get."""

    name: str
    """Unique in its exercise, such as "directions swapped"."""
    row: int
    """Its number in docs/mistakes.md."""
    wrong: Any
    """The wrong implementation itself; of a `Choice`, the wrong answer."""
    diagnosis: str
    """What the attempt computes instead, and why that is not what was asked for."""
    hint: str
    """One question or pointer; never the solution."""


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function for the student to write."""

    name: str
    """Of the function."""
    section: str
    """Where it is explained: "04_the_leash: The direction", notebook and heading."""
    minutes: int
    reference: Attempt
    """The package's own function, shown by `solution`."""
    cases: Sequence[Case]
    mistakes: Sequence[Mistake]
    run: Callable[..., Any] = lambda attempt, *inputs: attempt(*inputs)
    """How an attempt is tried on a case's inputs, where calling it is not enough."""
    helpers: Sequence[Callable[..., Any]] = ()
    """Functions of the package that hold the heart of the reference, shown below it."""


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
