"""Validation at the public boundary: each error names the argument, its value and the remedy.

    @takes(logprobs="logprobs (B, T)", mask="mask (B, T)", eta="coefficient", result="finite")
    def shaped(logprobs, mask, eta): ...

says all that a function asks of its arguments. They are checked in that order, and the sizes that
an axis has within one call must agree, so nothing broadcasts. What a check returns is what the
function gets: a mask as bool, token ids as int64, a coefficient as a Python float. The words are

    float, scores       numbers in float32 or float64, finite on the mask
    rewards             the same, but NaN is allowed, for a response that was not scored
    logprobs, logits    the same, but −inf is allowed; logits not for every token of a row
    distribution        log-probabilities that are also never above 0
    mask, rows          bool, or 0 and 1; rows select a token in every row
    ids, integers       ids lie in 0..V−1 if an axis V is known
    any                 a tensor of this shape that is only laid out anew
    … tables, ends      one tensor for each depth of a tree, see `rlhf_lab.exact`; "any either"
    coefficient         a finite number ≥ 0; positive: > 0; fraction: in [0, 1]; number: of any sign
    count 1..9          a whole number; integer: of any sign
    generator           of random numbers, on the CPU

each with the axes of a tensor behind it, and with " or None" where None is an answer, too.
"""

import functools
import inspect
import math
import numbers
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, get_args, get_origin

import torch
from torch import Tensor

from rlhf_lab._require import (
    NotFinite,
    as_bool,
    require_distribution,
    require_finite,
    require_float,
    require_ids,
    require_rows,
    said,
)

P = ParamSpec("P")
R = TypeVar("R")

INTEGERS = torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8
MOST = 100_000_000
"""Rows of a table, draws, …: more would take hours and all memory, or never end."""

_FULL = frozenset("DNPTVn")
"""Axes that may not be empty."""
_REMEDIES = {
    "logprobs": "log-probabilities must be finite, or −inf where a token is impossible",
    "distribution": "log-probabilities must be finite, or −inf where a response is impossible",
    "logits": "logits must be finite or −inf, and not −inf for every token",
    "scores": "check the reward model; one bad score would spoil the whole batch",
    "rewards": "check the reward; NaN, and nothing else, says that a response was not scored",
}
_MAY_BE_LOW = "logprobs", "distribution", "logits"
"""Kinds that may hold −inf besides finite numbers."""


class _Call:
    """What the arguments of one call have in common, as far as they have been checked."""

    def __init__(self) -> None:
        self.sizes: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.floats: dict[str, tuple[Tensor, str]] = {}
        self.numbers: dict[str, float] = {}
        self.mask: Tensor | None = None
        self.device: torch.device | None = None

    def require_values(self) -> None:
        """Look at every number: the part of the checks that makes the CPU wait for a GPU."""
        for name, (x, kind) in self.floats.items():
            remedy = _REMEDIES.get(kind, "")
            mask = self.mask
            if mask is not None and x.shape[: mask.dim()] == mask.shape:
                mask = mask.view(*mask.shape, *[1] * (x.dim() - mask.dim())).expand(x.shape)
            else:
                mask = ~x.isnan() if kind == "rewards" else None
            try:
                require_finite(name, x, mask, remedy, below=kind in _MAY_BE_LOW)
            except NotFinite as error:
                # Given to a training run from outside: it has not overflowed.
                if kind in ("scores", "rewards"):
                    raise ValueError(str(error)) from None
                raise
            if kind == "logits" and ((x == -torch.inf).all(-1)).any():
                raise NotFinite(name, f"−inf for every token of a row; {remedy}")

    def explain(self, function: str, answer: Any, allowed: str) -> None:
        """Raise if `answer` holds what it must not, and name the argument that is to blame."""
        if self.mask is not None and not self.mask.any():
            raise ValueError("the mask selects nothing: the mean of no token is undefined")
        self.require_values()
        numbers = (f"{name} = {value:g}" for name, value in self.numbers.items())
        given = ", ".join([*self.floats, *numbers]) or "the model's weights"
        for part in _floating(answer):
            bad = ~part.isfinite()
            if allowed == "no nan":  # of finite numbers, infinity is made by overflow only
                same = [x for x, _ in self.floats.values() if x.shape == part.shape]
                whole = [x.isfinite().all() for x, _ in self.floats.values()]
                finite = torch.stack([x.isfinite() for x in same] or whole).all(dim=0)
                bad = part.isnan() | (bad & finite)
            if bad.any():
                raise NotFinite(
                    f"the result of {function}",
                    f"{part[bad][0].item()}: {given} are too large for {part.dtype}, or infinite "
                    "where only one of them may be; use smaller numbers, or .double()",
                )


Check = Callable[[str, Any, _Call], Any]


def takes(*, result: str = "", **specs: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the named arguments of every call before it runs.

    Args:
        result: "finite" or "no nan", which the result is if the arguments are right. Then their
            numbers are looked at only if it is not. That costs one sum and one wait for the device
            in place of several for each argument. "" looks at them before the call.
        specs: a class, a `Literal` or one of the words above for each argument.
    """
    checks = [(name, _parse(spec)) for name, spec in specs.items()]

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            call, given = _Call(), dict(zip(names, args, strict=False))
            given.update(kwargs)
            for name, check in checks:
                if name in given:
                    given[name] = check(name, given[name], call)
            if not result:
                call.require_values()
            positional = (*(given[name] for name in names[: len(args)]), *args[len(names) :])
            keywords = {name: given[name] for name in kwargs}
            answer = function(*positional, **keywords)  # type: ignore[arg-type]
            if result and not _all_finite(answer):
                call.explain(function.__qualname__, answer, result)
            return answer

        return checked

    return decorate


def unchecked(function: Callable[P, R]) -> Callable[P, R]:
    """The function behind `takes`, for callers whose arguments are known to be right."""
    plain: Callable[P, R] = getattr(function, "__wrapped__", function)
    return plain


def _parse(spec: Any) -> Check:
    if not isinstance(spec, str):
        return _one_of(get_args(spec)) if get_origin(spec) is Literal else _instance(spec)
    if spec.endswith(" or None"):
        some = _parse(spec.removesuffix(" or None"))
        return lambda name, value, call: None if value is None else some(name, value, call)
    if tensor := re.fullmatch(r"(\w+) (\(.*\))", spec):
        kind, axes = tensor.groups()
        if kind in ("mask", "rows"):
            return _mask(axes, every_row=kind == "rows")
        if kind in ("ids", "integers"):
            return _ids(axes, known=kind == "ids")
        return _floats(axes, kind)
    kind, *rest = spec.split()
    if kind == "integer":
        return _count(-(2**63), 2**63 - 1)
    if kind == "count":
        low, high = rest[0].split("..") if rest else ("1", "")
        return _count(int(low), int(high or 2**63 - 1))
    if rest:
        return _tables(kind, layout=rest[0])
    return _generator if kind == "generator" else _number(kind)


def _fits(axes: str) -> Check:
    """Is it a tensor with these axes, each as long as in the tensors before it?"""
    names = axes.strip("(),").split(", ")
    spread = names.index("...") if "..." in names else None
    least = len(names) - (spread is not None)
    fixed = {axis: int(axis) for axis in names if axis.isdigit()}

    def check(name: str, x: Any, call: _Call) -> None:
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{name} must be a torch.Tensor of shape {axes}, got {said(x)}; "
                "torch.as_tensor makes one of numbers"
            )
        shape: tuple[Any, ...] = x.shape
        if spread is not None and len(shape) >= least:
            end = len(shape) - (least - spread)
            shape = (*shape[:spread], shape[spread:end], *shape[end:])
        if len(shape) != len(names):
            _unlike(name, x, axes, names, call)
        sizes = call.sizes
        if fixed:
            sizes.update(fixed)
        for axis, size in zip(names, shape, strict=True):
            if sizes.setdefault(axis, size) != size and axis != "_":
                _unlike(name, x, axes, names, call)
            if not size and axis in _FULL:
                raise ValueError(f"{name} must have shape {axes}, not empty; got {tuple(x.shape)}")
        if x.layout is not torch.strided:
            raise ValueError(f"{name} is {x.layout}; make it dense with .to_dense()")
        if call.device is None:
            call.device = x.device
        elif x.device != call.device:
            on = ", ".join(f"{other} on {t.device}" for other, t in call.tensors.items())
            raise ValueError(
                f"all tensors must be on one device, got {on} and {name} on {x.device}; move them "
                "with .to(device)"
            )
        call.tensors[name] = x

    return check


def _unlike(name: str, x: Tensor, axes: str, names: list[str], call: _Call) -> NoReturn:
    known = call.sizes
    sizes: list[Any] = []
    for axis in names:
        sizes += known.get(axis, ["..."]) if axis == "..." else [known.get(axis, axis)]
    if any(axis in known for axis in names):
        axes += f" = ({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})"
    others = ", ".join(f"{other} has {tuple(t.shape)}" for other, t in call.tensors.items())
    raise ValueError(
        f"{name} must have shape {axes}, got {tuple(x.shape)}" + (f": {others}" if others else "")
    )


def _floats(axes: str, kind: str) -> Check:
    fits = _fits(axes)

    def check(name: str, x: Any, call: _Call) -> Tensor:
        fits(name, x, call)
        if kind == "any":
            return x
        require_float(name, x)
        if kind == "distribution" and not x.is_meta:
            require_distribution(name, x)
        call.floats[name] = x, kind
        return x

    return check


def _mask(axes: str, every_row: bool) -> Check:
    fits = _fits(axes)

    def check(name: str, x: Any, call: _Call) -> Tensor:
        fits(name, x, call)
        call.mask = as_bool(name, x)
        if every_row:
            require_rows(call.mask)
        return call.mask

    return check


def _ids(axes: str, known: bool) -> Check:
    fits = _fits(axes)

    def check(name: str, x: Any, call: _Call) -> Tensor:
        if isinstance(x, Tensor) and x.dtype not in INTEGERS:
            raise ValueError(
                f"{name} must be integer token ids of shape {axes}, got {x.dtype} of shape "
                f"{tuple(x.shape)}; use {name}.long()"
            )
        fits(name, x, call)
        if known:
            require_ids(name, x, call.sizes.get("V"), call.tensors)
        return x.long()

    return check


def _number(kind: str) -> Check:
    low, high = {
        "coefficient": (0.0, math.inf),
        "positive": (0.0, math.inf),
        "fraction": (0.0, 1.0),
        "number": (-math.inf, math.inf),
    }[kind]

    def check(name: str, value: Any, call: _Call) -> float:
        if type(value) is not float:
            value = _as_float(name, value)
        if kind == "fraction" and not low <= value <= high:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if kind == "positive" and not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and > 0, got {value}")
        if not math.isfinite(value) or value < low:
            at_least = " >= 0" if kind == "coefficient" else ""
            raise ValueError(f"{name} must be a finite number{at_least}, got {value}")
        call.numbers[name] = value
        return value

    return check


def _count(low: int, high: int) -> Check:
    bounds = f" >= {low}" if high == 2**63 - 1 else f" in {low}..{high}"
    bounds = "" if low == -(2**63) else bounds

    def check(name: str, value: Any, call: _Call) -> int:
        try:
            n = operator.index(value)
        except (TypeError, ValueError, RuntimeError):
            n = low - 1
        if not low <= n <= high:
            raise ValueError(f"{name} must be a whole number{bounds}, got {said(value)}")
        call.numbers[name] = n
        return n

    return check


def _tables(kind: str, layout: str) -> Check:
    """T tables ((V−1)^t, V), the columns of them that "ends" a response, or "either"."""
    what, each = "the numbers of one tree, T tables ((V−1)^t, V)", _floats("(_, _)", kind)

    def check(name: str, tables: Any, call: _Call) -> list[Tensor]:
        if not isinstance(tables, list | tuple) or not all(isinstance(x, Tensor) for x in tables):
            raise ValueError(f"{name} must be a list of tensors, {what}, got {said(tables)}")
        last = tables[-1] if tables else None
        if last is None or last.dim() != 2 or not last.shape[1]:
            shape = None if last is None else tuple(last.shape)
            raise ValueError(f"{name} must be {what}, not empty; its last has shape {shape}")
        V = call.sizes.setdefault("V", last.shape[1])
        T = call.sizes.setdefault("T", len(tables))
        full = [((V - 1) ** t, V) for t in range(T)]
        ends = [*((rows, 1) for rows, _ in full[:-1]), full[-1]]
        wanted, shapes = ends if layout == "ends" else full, [tuple(x.shape) for x in tables]
        if shapes != wanted and (layout != "either" or shapes != ends):
            first = call.sizes.setdefault("tree", name)
            raise ValueError(
                f"{name} must be tables of shapes {wanted}"
                + (f", as {first} has, got {shapes}" if first != name else f", got {shapes}")
            )
        call.sizes.setdefault("tree", name)
        for t, table in enumerate(tables):
            each(f"{name}[{t}]", table, call)
        return list(tables)

    return check


def _one_of(allowed: tuple[Any, ...]) -> Check:
    def check(name: str, value: Any, call: _Call) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {said(value)}")
        return value

    return check


def _instance(kind: Any) -> Check:
    called = getattr(kind, "__name__", str(kind))

    def check(name: str, value: Any, call: _Call) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {called}, got {said(value)}")
        return value

    return check


def _generator(name: str, value: Any, call: _Call) -> torch.Generator:
    if not isinstance(value, torch.Generator) or value.device.type != "cpu":
        raise ValueError(
            f"{name} must be a torch.Generator on the CPU, such as "
            f"torch.Generator().manual_seed(0), got {said(value)}"
        )
    return value


def _as_float(name: str, value: Any) -> float:
    try:
        # Text, too: settings come from files and command lines.
        if isinstance(value, numbers.Real | str) or (isinstance(value, Tensor) and not value.dim()):
            return float(value)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        pass
    raise ValueError(f"{name} must be a finite number, got {said(value)}")


def _floating(answer: Any) -> Iterator[Tensor]:
    """The tensors of floating numbers in what a function returns."""
    if isinstance(answer, Tensor):
        if answer.is_floating_point():
            yield answer.detach()
    elif isinstance(answer, list | tuple):
        for part in answer:
            yield from _floating(part)
    elif isinstance(answer, float):
        yield torch.tensor(answer, dtype=torch.float64)


def _all_finite(answer: Any) -> bool:
    """True only if all numbers are finite: their sum is. One wait for a GPU, however many."""
    if isinstance(answer, Tensor):
        total = answer.detach().sum()
    else:
        parts = [part.sum() for part in _floating(answer)]
        if not parts:
            return True
        total = torch.stack(parts).sum()
    return total.is_meta or math.isfinite(total)


@functools.cache
def _parsed(spec: str) -> Check:
    return _parse(spec)


def require(name: str, value: Any, spec: Any) -> Any:
    """Check one value as `takes` would, and return what the function would get."""
    return (_parsed if isinstance(spec, str) else _parse)(spec)(name, value, _Call())


def require_coefficient(name: str, value: float) -> float:
    """Return `value` as a float; raise unless it is finite and not negative."""
    number: float = require(name, value, "coefficient")
    return number
