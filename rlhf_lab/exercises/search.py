"""Which known mistake, which slip, or which two at once give what an attempt gave?

An explanation must give every number of an output in every case in which the attempt is wrong. Two
steps at once are believed only where there are enough numbers that this is no chance.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt, Mistake
from rlhf_lab.exercises.observe import TOLERANCE, Trial, close, observe, parts_of
from rlhf_lab.exercises.slips import TWISTS, Slip, disguises, factors

Step = Slip | Mistake
Source = Callable[[Trial], Tensor | None]
"""What the twists start from: the right output, a mistake's, or that of a disguised input."""


class Explanation(NamedTuple):
    """The steps that lead from the right output to the attempt's."""

    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return " and ".join(step.name for step in self.steps)


def known(trials: Sequence[Trial], mistakes: Sequence[Mistake]) -> Mistake | None:
    """The known mistake that does what the attempt does wherever that is wrong.

    One that agrees in the other cases, too, goes first. Where the attempt only stops with an error,
    a mistake has to agree everywhere: many lead to the same error.
    """
    wrong, right = [t for t in trials if not t.right], [t for t in trials if t.right]
    found = [m for m in mistakes if all(_same(t, m) for t in wrong)]
    if all(t.got.error for t in wrong):
        found = [m for m in found if all(_same(t, m) for t in right)]
    return max(found, key=lambda m: sum(_same(t, m) for t in right), default=None)


def _same(t: Trial, mistake: Mistake) -> bool:
    seen, got = observe(t.exercise, mistake.wrong, t.case), t.got
    if seen.error or got.error:
        return seen.error == got.error
    if not close(seen.numbers, got.numbers):
        return False
    # Where its values are right, the gradient is what is wrong.
    return close(seen.gradients, got.gradients) or not close(got.numbers, t.expected.numbers)


def search(trials: Sequence[Trial], output: int) -> Explanation | None:
    """The first explanation of one output in these trials, in all of which it is wrong."""
    got = [t.got.numbers[output] for t in trials]
    sources = _sources(trials[0], output)
    for steps in range(1, 1 + min(_believable(trials, got), trials[0].exercise.slips)):
        endings = _endings(trials[0], steps)
        for begin, source in sources:
            for end in endings.get(steps - len(begin), ()):
                if all(_gives(source(t), end, t, t.got.numbers[output]) for t in trials):
                    return Explanation((*begin, *end))
    return None


def _believable(trials: Sequence[Trial], got: Sequence[Tensor]) -> int:
    """How many steps these numbers can bear witness to: 0, 1 or 2."""
    listed = {x for t in trials for v in t.case.inputs if isinstance(v, tuple | list) for x in v}
    numbers = {round(x, 6) for y in got for x in y.reshape(-1).tolist()}
    telling = [x for x in numbers if x not in listed and not _is_simple(x)]
    if not telling and not any(x in listed for x in numbers):
        return int(len(numbers) > 1 and sum(y.numel() for y in got) > 3)
    return min(len(telling), 2)


def _is_simple(x: float) -> bool:
    """Is it a fraction such as 2/3, which many wrong ways lead to by chance?"""
    return not math.isfinite(x) or abs(x - Fraction(x).limit_denominator(30)) < 2e-6


def _sources(first: Trial, output: int) -> list[tuple[tuple[Step, ...], Source]]:
    exercise, hidden = first.exercise, list(disguises(first))
    found: list[tuple[tuple[Step, ...], Source]] = [
        ((m,), _of(m.wrong, output)) for m in exercise.mistakes
    ]
    found.append(((), lambda t: t.expected.numbers[output]))
    found += [((slip,), _of(exercise.reference, output, slip)) for slip in hidden]
    found += [
        ((m, slip), _of(m.wrong, output, slip))
        for m, slip in itertools.product(exercise.mistakes, hidden)
    ]
    return found + _both(first, output)


def _both(first: Trial, output: int) -> list[tuple[tuple[Step, ...], Source]]:
    """Two known mistakes at once: what both of them change is added up, or multiplied."""
    single = [(m, _of(m.wrong, output)) for m in first.exercise.mistakes]

    def source(a: Source, b: Source, factor: bool) -> Source:
        def both(t: Trial) -> Tensor | None:
            x, y, right = a(t), b(t), t.expected.numbers[output]
            if x is None or y is None or not x.shape == y.shape == right.shape:
                return None
            return x * y / right if factor else x + y - right

        return both

    return [
        ((m, n), source(a, b, factor))
        for (m, a), (n, b) in itertools.combinations(single, 2)
        for factor in (False, True)
    ]


def _of(function: Attempt, output: int, slip: Slip | None = None) -> Source:
    """An output of a function, on disguised inputs if there is a slip, computed once per case."""
    known: dict[int, Tensor | None] = {}

    def source(t: Trial) -> Tensor | None:
        if id(t.case) not in known:
            known[id(t.case)] = compute(t)
        return known[id(t.case)]

    def compute(t: Trial) -> Tensor | None:
        inputs = {k: v.clone() if isinstance(v, Tensor) else v for k, v in t.arguments.items()}
        if slip and t.mask is not None:
            inputs["mask"] = t.mask
        try:
            inputs = slip.change(inputs) if slip else inputs
            return parts_of(t.exercise.run(inspect.unwrap(function), *inputs.values()))[
                output
            ].double()
        except Exception:  # a disguise need not make sense to the function
            return None

    return source


def _endings(first: Trial, steps: int) -> dict[int, list[tuple[Slip, ...]]]:
    """Twists to append to a source, by their number."""
    numbers = factors(first)
    single = [*TWISTS, *numbers]
    found: dict[int, list[tuple[Slip, ...]]] = {0: [()], 1: [(slip,) for slip in single]}
    if steps == 2:
        found[2] = [*itertools.product(TWISTS, [TWISTS[0], *numbers])]
    return found


def _gives(base: Tensor | None, twists: Sequence[Slip], t: Trial, got: Tensor) -> bool:
    if base is None:
        return False
    # What is still to be reduced leads to the right shape, never to one that is reduced too far.
    if any(s.backwards for s in twists) and all(base.shape != x.shape for x in t.expected.numbers):
        return False
    try:
        for slip in twists:
            if slip.backwards:
                got = slip.change(got, t)
            else:
                base = slip.change(base, t)
    except Exception:  # a twist need not fit the shape
        return False
    if base.shape != got.shape or not base.numel():
        return False
    one = base.flatten()[0].item() - got.flatten()[0].item()
    return not abs(one) > TOLERANCE * (1 + abs(got.flatten()[0].item())) and close([base], [got])
