"""Tell a student what an attempt is: right, not done yet, or which mistake."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt, Case, Choice, Exercise, Mistake

TOLERANCE = 1e-5  # for float32: most attempts start from `torch.zeros(n)`
_SHOWN = 6  # rows of the table of differences


class Verdict(NamedTuple):
    """The answer of `check`; the notebook shows its text."""

    status: str
    """"right", "not done yet", "mistake" (a known one) or "wrong" (an unknown one)."""
    text: str
    mistake: str = ""
    """Name of a known mistake."""

    def __repr__(self) -> str:
        return self.text


class Observation(NamedTuple):
    """Everything that an attempt did on one case."""

    numbers: tuple[Tensor, ...]
    """Its outputs, float64."""
    gradients: tuple[Tensor, ...] = ()
    error: str = ""
    """The exception that it raised, such as "IndexError: …"."""
    unfinished: bool = False
    """It returned None or left an ellipsis."""
    silent: bool = False
    """It returned None."""


def observe(exercise: Exercise, attempt: Attempt, case: Case) -> Observation:
    """Try an attempt on a copy of a case's inputs."""
    inputs = [x.clone() if isinstance(x, Tensor) else x for x in case.inputs]
    leaves = [inputs[position].requires_grad_(True) for position in case.gradient]
    try:
        # Copies, because an attempt may work in place, which autograd forbids on a leaf.
        output = exercise.run(attempt, *(x.clone() if isinstance(x, Tensor) else x for x in inputs))
        if output is None or output is ...:
            return Observation((), unfinished=True, silent=output is None)
        numbers = _numbers(output)
        gradients = _gradients(numbers, leaves)
    except Exception as error:  # any exception of a student's code is a result to report
        text = f"{type(error).__name__}: {error}"
        return Observation((), error=text, unfinished="ellipsis" in text)
    return Observation(tuple(x.detach() for x in numbers), gradients)


def diagnose(exercise: Exercise, attempt: Attempt) -> Verdict:
    """Compare an attempt with the reference on every case, then with every mistake."""
    expected = [observe(exercise, exercise.reference, case) for case in exercise.cases]
    got = [observe(exercise, attempt, case) for case in exercise.cases]
    if all(map(agree, got, expected)):
        return Verdict("right", f"Right: {exercise.name} agrees on {_count(exercise)}.")
    if any(o.unfinished for o in got):
        code = getattr(attempt, "__code__", None)
        written = code is not None and (code.co_names or code.co_nlocals > code.co_argcount)
        if written and exercise.run is Exercise.run and all(o.silent for o in got):
            text = f"Not done yet: {exercise.name} returned nothing. Is there a `return`?"
            return Verdict("not done yet", text)
        return Verdict("not done yet", f"Not done yet: write {exercise.name} in the cell above.")
    first = [agree(g, e) for g, e in zip(got, expected, strict=True)].index(False)
    where, seen = exercise.cases[first].name, _difference(got[first], expected[first])
    for mistake in exercise.mistakes:
        wrong = (observe(exercise, mistake.wrong, case) for case in exercise.cases)
        if all(map(agree, got, wrong)):
            return Verdict(
                "mistake", _advice(f"On {where}: {seen}", mistake, exercise), mistake.name
            )
    text = f"Not yet. On {where}: {seen}\nRead again: {exercise.section}."
    return Verdict("wrong", text)


def judge(question: Choice, answer: object) -> Verdict:
    """Compare an answer to a question with the right one, then with every mistake."""
    if answer is None or answer is ...:
        return Verdict("not done yet", f"Not done yet: answer {question.name} in the cell above.")
    letter = str(answer).strip().lower()
    if letter == question.answer:
        return Verdict("right", f"Right. {question.reason}")
    for mistake in question.mistakes:
        if letter == mistake.wrong:
            text = _advice(f"You chose {letter}.", mistake, question)
            return Verdict("mistake", text, mistake.name)
    letters = ", ".join(sorted([question.answer, *(m.wrong for m in question.mistakes)]))
    return Verdict("wrong", f"{answer!r} is not one of the answers: {letters}.")


def agree(a: Observation, b: Observation) -> bool:
    """Did two attempts give the same numbers and gradients, or the same kind of error?"""
    if a.error or b.error or a.unfinished or b.unfinished:
        return bool(a.error) and a.error.split(":")[0] == b.error.split(":")[0]
    return _close(a.numbers, b.numbers) and _close(a.gradients, b.gradients)


def _close(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _numbers(output: Any) -> list[Tensor]:
    """Every number of an output, in order: a tensor, a number, or tuples and lists of them."""
    if isinstance(output, Tensor):
        return [output.double()]
    if isinstance(output, tuple | list):
        return [number for part in output for number in _numbers(part)]
    if output is ...:
        raise TypeError("an ellipsis (...) is still there")
    return [torch.tensor(float(output), dtype=torch.float64)]


def _gradients(numbers: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of a fixed mixture of the outputs by each input; 0 where there is none."""
    if not inputs:
        return ()
    # Each number has another weight, because a plain sum would hide errors that cancel.
    mixed = [
        (x * torch.arange(1, x.numel() + 1).view(x.shape).double().sin()).sum() for x in numbers
    ]
    total = torch.stack(mixed).sum()
    if not total.requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    found = torch.autograd.grad(total, list(inputs), allow_unused=True)
    return tuple(
        torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)
    )


def _advice(seen: str, mistake: Mistake, exercise: Exercise | Choice) -> str:
    lines = [f"Not yet. {seen}", mistake.diagnosis, f"Hint: {mistake.hint}"]
    return "\n".join([*lines, f"Read again: {exercise.section}."])


def _count(exercise: Exercise) -> str:
    n, gradients = len(exercise.cases), any(case.gradient for case in exercise.cases)
    what = "values and gradients" if gradients else "values"
    return f"all {what} of {n} case{'s' if n > 1 else ''}"


def _difference(got: Observation, expected: Observation) -> str:
    """The difference between an attempt and the reference, as a sentence or a small table."""
    if got.error:
        return f"your function stopped with {got.error}"
    if expected.error:
        return f"your function should refuse this input with a {expected.error.split(':')[0]}"
    shapes = [tuple(x.shape) for x in got.numbers], [tuple(x.shape) for x in expected.numbers]
    if shapes[0] != shapes[1]:
        return f"the shapes are {_list(shapes[0])}, expected {_list(shapes[1])}."
    what, pair = "value", (got.numbers, expected.numbers)
    if _close(*pair):
        what, pair = "gradient", (got.gradients, expected.gradients)
    a, b = (torch.cat([x.reshape(-1) for x in part]) for part in pair)
    apart = ~torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    indices = apart.nonzero()[:, 0].tolist()
    if len(a) == 1:
        return f"your {what} is {a.item():.4g}, expected {b.item():.4g}."
    lines = [f"{len(indices)} of {len(a)} {what}s differ.", "   element      yours   expected"]
    lines += [f"  {i:8d} {a[i].item():10.4g} {b[i].item():10.4g}" for i in indices[:_SHOWN]]
    return "\n".join(lines + (["  …"] if len(indices) > _SHOWN else []))


def _list(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "none"
