"""Try an attempt on the cases of an exercise, and compare what two attempts did."""

import dataclasses
import functools
import inspect
import linecache
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt, Case, Exercise
from rlhf_lab.translation import tr

TOLERANCE = 1e-5  # for float32: most attempts start from `torch.zeros(n)`
MOST_TEXT = 2000  # letters of an exception: a student's may be of any length


class Observation(NamedTuple):
    """Everything that an attempt did on one case."""

    numbers: tuple[Tensor, ...]
    """Its outputs, float64."""
    gradients: tuple[Tensor, ...] = ()
    error: str = ""
    """The exception that it raised, such as "IndexError: …"."""
    line: str = ""
    """The line of the attempt's own code in which it was raised."""
    unfinished: bool = False
    """It returned None or left an ellipsis."""
    silent: bool = False
    """It returned None."""
    booleans: tuple[bool, ...] = ()
    """Which of its outputs are boolean tensors."""
    overwritten: tuple[int, ...] = ()
    """Positions of the inputs into which it wrote."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One case, with what the reference and an attempt gave on it."""

    exercise: Exercise
    case: Case
    expected: Observation
    got: Observation

    @functools.cached_property
    def arguments(self) -> dict[str, Any]:
        """The inputs of the case by their names."""
        return dict(zip(argument_names(self.exercise), self.case.inputs, strict=False))

    @functools.cached_property
    def right(self) -> bool:
        """Does the attempt agree with the reference here?"""
        return agree(self.got, self.expected)

    @functools.cached_property
    def mask(self) -> Tensor | None:
        """The mask of the case, boolean, if it has one."""
        mask = self.arguments.get("mask")
        return mask.bool() if isinstance(mask, Tensor) else None


def argument_names(exercise: Exercise) -> list[str]:
    """The names of the inputs of its cases."""
    return list(exercise.arguments or inspect.signature(exercise.reference).parameters)


def spoken(name: str) -> str:
    """The name of an argument for the reader: what is no name in code is said in words."""
    return tr(name) if " " in name else name


def observe(exercise: Exercise, attempt: Attempt, case: Case) -> Observation:
    """Try an attempt on a copy of a case's inputs.

    Cases are float64. An attempt that mixes them with its own float32, from `torch.zeros(n)`,
    stops with an error of torch. It is tried again in float32, because its numbers may be right.
    """
    seen = _observe(exercise, attempt, case)
    if not seen.error:
        return seen
    inputs = [x.float() if _is_float(x) else x for x in case.inputs]
    again = _observe(exercise, attempt, case._replace(inputs=tuple(inputs)))
    mixed = any(word in seen.error for word in ("dtype", "Float", "Double", "float"))
    return again if mixed or not (again.error or again.unfinished) else seen


def _observe(exercise: Exercise, attempt: Attempt, case: Case) -> Observation:
    inputs = [x.clone() if isinstance(x, Tensor) else x for x in case.inputs]
    leaves = [inputs[position].requires_grad_(True) for position in case.gradient]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as requires_grad, which no student asked for
            # Copies: an attempt may work in place, which autograd forbids on a leaf.
            copies = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
            output = exercise.run(attempt, *copies)
            if output is None or output is ...:
                return Observation((), unfinished=True, silent=output is None)
            parts = list(parts_of(output))
            numbers = [x.double() for x in parts]
            gradients = _gradients(numbers, leaves)
    except Exception as error:  # any exception of a student's code is a result to report
        text = f"{type(error).__name__}: {str(error)[:MOST_TEXT]}"
        return Observation(
            (), error=text, line=_own_line(error, attempt), unfinished="ellipsis" in text
        )
    gradients = tuple(
        # The chain rule through log-softmax.
        g - x.detach().exp() * g.sum(-1, keepdim=True) if i in exercise.over_logits else g
        for i, x, g in zip(case.gradient, leaves, gradients, strict=True)
    )
    return Observation(
        tuple(x.detach() for x in numbers),
        tuple(g.double() for g in gradients),
        booleans=tuple(x.dtype == torch.bool for x in parts),
        overwritten=tuple(i for i, x in enumerate(inputs) if not _is_same(x, copies[i])),
    )


def agree(got: Observation, expected: Observation) -> bool:
    """Did two attempts give the same numbers and gradients, or the same kind of error?"""
    if got.error or expected.error or got.unfinished or expected.unfinished:
        same = got.error.split(":")[0] == expected.error.split(":")[0]
        return bool(got.error) and same
    wanted = zip(got.booleans, expected.booleans, strict=False)
    return (
        close(got.numbers, expected.numbers)
        and close(got.gradients, expected.gradients)
        and all(is_bool or not promised for is_bool, promised in wanted)
        and not got.overwritten
    )


def close(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Are these the same numbers up to rounding?"""
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _is_same(x: object, copy: Any) -> bool:
    return not isinstance(x, Tensor) or close([x.detach()], [copy.detach()])


def _is_float(x: object) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float64


def parts_of(output: Any) -> list[Tensor]:
    """Every tensor or number of an output, in order, also out of tuples and lists."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple | list):
        return [part for item in output for part in parts_of(item)]
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


def _own_line(error: Exception, attempt: Attempt) -> str:
    """The last line of the attempt's own source that an exception passed through."""
    code = getattr(inspect.unwrap(attempt), "__code__", None)
    step, line = error.__traceback__, ""
    while step is not None and code is not None:
        if step.tb_frame.f_code.co_filename == code.co_filename:
            line = linecache.getline(code.co_filename, step.tb_lineno).strip()
        step = step.tb_next
    return line
