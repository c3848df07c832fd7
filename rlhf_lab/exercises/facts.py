"""What can be said about an attempt that no slip explains: facts, found by trying it out.

A fact is true whatever the student meant: the attempt stops with this error, does not use that
argument, is right where nothing is padded. The tables are in the order in which they are asked.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt
from rlhf_lab.exercises.observe import Observation, Trial, agree, close, observe, spoken
from rlhf_lab.translation import tr

Inputs = dict[str, Any]


class Fact(NamedTuple):
    """Something true about an attempt."""

    name: str
    says: str
    """In English, and so is `hint`."""
    hint: str
    values: Mapping[str, object] = {}
    """What stands for the {placeholders} in `says` and `hint`."""


ERRORS: tuple[tuple[str, Fact], ...] = (
    (r"IndexError: index (\d+) is out of bounds.* size \1$",
     Fact("one past the end", "Your index is the number of places itself: one too large.",
          "Positions count from 0. Which is the last of n?")),
    (r"IndexError: .*out of (bounds|range)",
     Fact("index out of range", "You ask for a place that is not there.",
          "How many places are there, and from which number do they count?")),
    (r"('|got )(Optimum|Evaluation|PolicyLoss|Advantages|Rewards)\b|"
     r"'(tuple|torch.return_types.\w+)'|"
     r"has no attribute 'backward'|element [1-9]\d* of tensors does not require grad",
     Fact("several results taken for one", "A function of the package that you call returns "
          "several results at once. Take one by its name, such as .value, .loss or .logprobs.",
          "What does help(…) of that function say under Returns?")),
    (r"positional arguments? but \d+ (was|were) given",
     Fact("argument by place", "You give more arguments by their place than the function takes. "
          "Those behind the * in its signature are given by name, such as clip=clip.",
          "What does help(…) of that function show?")),
    (r"missing \d+ required",
     Fact("argument missing", "A call lacks an argument.", "What does help(…) of it show?")),
    (r"only one element tensors|only tensors with one element|only integer tensors of a single|"
     r"a Tensor with \d+ elements cannot be converted to Scalar|must be real number, not Tensor",
     Fact("math for tensors", "A function for single numbers (math.exp, float, int, .item) met a "
          "tensor with many.", "Which function of torch does the same to every element?")),
    (r"Boolean value of Tensor with more than one value",
     Fact("if for tensors", "`if`, `and`, min or max met a whole tensor. A tensor has no single "
          "truth.", "torch.where, torch.minimum and & work element by element.")),
    (r"(must match the size|shape mismatch|broadcast|size mismatch|"
     r"inconsistent tensor size|must match the existing size|cannot be multiplied|Dimension out)",
     Fact("shapes do not fit", "Two tensors of different shape meet. A number per review, (B,), "
          "does not fit to (B, T) until it is (B, 1): x.unsqueeze(1) or x[:, None].",
          "Print the .shape of both.")),
    (r"condition to be a boolean tensor",
     Fact("0 and 1 for True and False", "torch.where wants True and False. Your mask holds the "
          "numbers 0 and 1.", "What does mask.bool() give?")),
    (r"Bool for the destination|dtype torch.bool|expected.*[Bb]ool.*(but|and) (got|found)|"
     r"Subtraction, the `-` operator, with",
     Fact("booleans for numbers", "A boolean tensor stands where numbers are needed. zeros_like of "
          "a boolean mask is boolean, too, and masks cannot be subtracted.",
          "What is the dtype of each tensor in that line?")),
    (r"(same dtype|dtypes? .*match|dtype .*(but|and)|result type .* can't be cast|"
     r"cannot be cast|can only be .*floating|must be .*(Long|int64|floating))",
     Fact("dtypes do not fit", "Two tensors of different dtype meet, such as integers and floats.",
          "What is the dtype of each tensor in that line?")),
    (r"does not require grad|does not have a grad_fn|One of the differentiated Tensors",
     Fact("no gradient to follow", "The gradient has no path: something between was detached, or "
          "made a plain number.", "Which tensor needs requires_grad, and which call cuts it?")),
    (r"backward through the graph a second time|modified by an inplace|leaf Variable",
     Fact("graph used twice", "Autograd cannot follow: the graph was used up, or changed in place, "
          "after the first step.", "What must be computed anew in every step?")),
    (r"NameError: name '(\w+)' is not defined",
     Fact("name unknown", "That name is not defined: is it imported, or spelt differently?",
          "Which name does the cell above use?")),
    (r"argument 'input' .*must be Tensor, not|received an invalid combination of arguments",
     Fact("a number for a tensor", "A function of torch met a plain number. min and max of Python "
          "do the same for numbers.", "Which of the two is your argument?")),
    (r"cannot be converted to type int64_t",
     Fact("NaN among integers", "Tokens are integers, and there is no integer NaN or ∞.",
          "Which integer is no token?")),
    (r"is not in list", Fact("nothing found", "You look for something that not every row has.",
                             "What if a review fills its row and has no <eos>?")),
    (r"only supports? boolean masks|expected condition to be a boolean",
     Fact("integers where bool is asked", "`mask` holds the integers 0 and 1, and this function of "
          "torch wants booleans.", "What does mask.bool() change?")),
    (r"ZeroDivisionError", Fact("divided by 0", "Something is divided by 0.",
                                "Which number below the line can be 0?")),
)  # fmt: skip


def error(t: Trial) -> Fact | None:
    """What an exception most often means."""
    seen, mask = t.got, t.arguments.get("mask")
    if "[mask" in seen.line and isinstance(mask, Tensor) and mask.dtype != torch.bool:
        return Fact("integers used as a mask", "`mask` holds the integers 0 and 1, so x[mask] "
                    "takes rows 0 and 1 instead of choosing places.",
                    "What does mask.bool() change?")  # fmt: skip
    return next((fact for pattern, fact in ERRORS if re.search(pattern, seen.error)), None)


def gradient(trials: Sequence[Trial]) -> Fact:
    """How the gradient is wrong of an attempt whose values are right."""
    pairs = [
        (name, g, e)
        for t in trials
        for name, g, e in zip(
            (list(t.arguments)[i] for i in t.case.gradient), t.got.gradients,
            t.expected.gradients, strict=True,
        )
        if not close([g], [e])
    ]  # fmt: skip
    names = _listed(name for name, _, _ in pairs)
    if any(g.isnan().any() for _, g, _ in pairs):
        return Fact("NaN in the gradient", "Your values are right, but the gradient is NaN.",
                    "Replace what is infinite before you multiply, not after.")  # fmt: skip
    if all(not e.any() for _, _, e in pairs):
        return Fact("not detached", "Your values are right, but a gradient flows through them, "
                    "and none should.", "What does .detach() do?")  # fmt: skip
    if all(not g.any() for _, g, _ in pairs):
        return Fact("detached", "Your values are right, but no gradient reaches {names}: to "
                    "autograd your result is a constant.", "Which call cuts the graph? .detach(), "
                    ".item(), no_grad and torch.tensor(…) do.", {"names": names})  # fmt: skip
    ratios = [g[e != 0] / e[e != 0] for _, g, e in pairs]
    if all(bool((r - ratios[0][0]).abs().max() < 1e-5) for r in ratios):
        return Fact("gradient by a factor", "Your values are right, but the gradient is {c:.4g} "
                    "times the right one.", "What counts twice, or only half?",
                    {"c": ratios[0][0].item()})  # fmt: skip
    return Fact("another gradient", "Your values are right, but the gradient by {names} is "
                "another: a part of the formula is cut off (detached, or made a plain number), or "
                "a path counts that should not.", "Through which of its places should the "
                "gradient flow?", {"names": names})  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    """The names of arguments, each once."""
    return ", ".join(dict.fromkeys(f"`{spoken(name)}`" for name in names))


def _everything(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def _clean(inputs: Inputs) -> Inputs:
    """With zeros in the padding."""
    mask = inputs["mask"].bool()
    return {
        k: v.masked_fill(~mask.view(*mask.shape, *[1] * (v.dim() - 2)), 0.0)
        if isinstance(v, Tensor) and v.is_floating_point() and v.shape[:2] == mask.shape
        else v
        for k, v in inputs.items()
    }


def _moved_left(inputs: Inputs) -> Inputs:
    """Each row moved to the left, so that all of its padding is on the right."""
    mask = inputs["mask"].bool()
    order = (~mask).int().argsort(1, stable=True)
    return {
        k: v.gather(1, order.view(*order.shape, *[1] * (v.dim() - 2)).expand(v.shape))
        if isinstance(v, Tensor) and v.dim() > 1 and v.shape[:2] == mask.shape
        else v
        for k, v in inputs.items()
    }


def _first_row(inputs: Inputs) -> Inputs:
    rows = inputs["mask"].shape[0] if "mask" in inputs else _rows(inputs)
    return {k: v[:1] if isinstance(v, Tensor) and v.dim() and len(v) == rows else v
            for k, v in inputs.items()}  # fmt: skip


def _rows(inputs: Inputs) -> int:
    return next(len(v) for v in inputs.values() if isinstance(v, Tensor) and v.dim())


def _turned(inputs: Inputs) -> Inputs:
    """Each row in reverse, so that it is padded on the left."""
    mask = inputs["mask"]
    return {
        k: v.flip(1) if isinstance(v, Tensor) and v.dim() > 1 and v.shape[:2] == mask.shape else v
        for k, v in inputs.items()
    }


class Simpler(NamedTuple):
    """Other inputs, and what it says of an attempt if it is right, or wrong, on them."""

    fact: Fact
    change: Callable[[Inputs], Inputs]


SIMPLER = (
    Simpler(
        Fact("integers used as a mask", "Your code is right for a boolean mask. Here `mask` holds "
             "the integers 0 and 1, and x[mask] takes rows 0 and 1 instead of choosing places.",
             "What does mask.bool() change?"),
        lambda i: i | {"mask": i["mask"].bool()}),
    Simpler(
        Fact("padded on the right only", "Your code is right where all padding is on the right. "
             "Here some of it is on the left, or in between.",
             "Where does the mask begin, and where does it end?"),
        _moved_left),
    Simpler(
        Fact("padding counts", "With zeros in the padding your code would be right: what stands "
             "there reaches your result.", "Which positions did the policy choose?"),
        _clean),
)  # fmt: skip
"""Simpler inputs that say what is wrong."""
BEYOND = (
    Simpler(
        Fact("left padding", "One thing more, which is not asked here: it fails where a review is "
             "padded on the left. Either something of the padding reaches your result, or you "
             "take the number of tokens for the place of the last one.", ""),
        _turned),
    Simpler(
        Fact("integer mask", "One thing more, which is not asked here: it fails for a mask of the "
             "integers 0 and 1, because torch does not read them as no and yes. mask.bool() "
             "repairs that.", ""),
        lambda i: i | {"mask": i["mask"].long()}),
)  # fmt: skip
"""Inputs that an exercise does not ask for; a right answer that fails on them is told so."""


def _where(t: Trial) -> Iterator[Simpler]:
    """Simpler inputs that say in which part the mistake is, and not which it is."""
    yield Simpler(
        Fact("", "Where nothing is padded your code is right: look at what you do with the mask.",
             ""), lambda i: i | {"mask": torch.ones_like(i["mask"])},
    )  # fmt: skip
    yield Simpler(
        Fact("", "For a single review your code is right: look at how you put the batch together.",
             ""), _first_row,
    )  # fmt: skip
    for name, value in t.arguments.items():
        if isinstance(value, float | int):
            for special in (1, 0):
                yield Simpler(
                    Fact("", "For {name} = {value} your code is right: look at where `{name}` "
                         "comes in, and at what it multiplies.", "",
                         {"name": name, "value": special}),
                    _with(name, _constant(type(value)(special))),
                )  # fmt: skip
        elif isinstance(value, Tensor) and value.is_floating_point():
            yield Simpler(
                Fact("", "Where all `{name}` are 0 your code is right: look at where `{name}` "
                     "comes in.", "", {"name": spoken(name)}), _with(name, torch.zeros_like),
            )  # fmt: skip


def _tried(t: Trial, function: Attempt, change: Callable[[Inputs], Inputs]) -> Observation:
    inputs = change(dict(t.arguments))
    case = t.case._replace(inputs=tuple(inputs.values()), gradient=())
    return observe(t.exercise, function, case)


def simpler(trials: Sequence[Trial], attempt: Attempt) -> Fact | None:
    """Simpler inputs on which the attempt is right, and which therefore tell what is wrong."""
    return _first_right(SIMPLER, trials, attempt)


def where(trials: Sequence[Trial], attempt: Attempt) -> str:
    """A sentence on the part of the attempt in which the mistake is; "" if none is known."""
    fact = _first_right([*_where(trials[0])], trials, attempt)
    return tr(fact.says, **fact.values) if fact else ""


def beyond(trials: Sequence[Trial], attempt: Attempt) -> str:
    """A sentence on inputs that are not asked for and on which a right attempt fails."""
    for fact, change in BEYOND:
        try:
            if not all(_right_on(t, attempt, change) for t in trials):
                return tr(fact.says)
        except Exception:  # not every exercise has a mask
            continue
    return ""


def _first_right(
    table: Sequence[Simpler], trials: Sequence[Trial], attempt: Attempt
) -> Fact | None:
    for fact, change in table:
        try:
            if all(_right_on(t, attempt, change) for t in trials):
                return fact
        except Exception:  # not every exercise has a mask, or a batch
            continue
    return None


def _right_on(t: Trial, attempt: Attempt, change: Callable[[Inputs], Inputs]) -> bool:
    wanted = _tried(t, t.exercise.reference, change)
    telling = any(((x != 0) & (x != 1)).any() for x in wanted.numbers)
    return telling and agree(_tried(t, attempt, change), wanted)


def _with(name: str, change: Callable[[Any], Any]) -> Callable[[Inputs], Inputs]:
    return lambda inputs: inputs | {name: change(inputs[name])}


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _others(value: Any) -> list[Any]:
    """Other values of the same kind."""
    if isinstance(value, Tensor) and value.is_floating_point():
        ripple = torch.arange(1, value.numel() + 1, dtype=value.dtype).view(value.shape).sin()
        return [value * (1 + 0.3 * ripple), value * (2 + ripple), value * 0.1]
    if isinstance(value, float):
        return [0.8 * value, 0.1 * value, 3 * value]
    return [value + 1, 1, 3 * value] if isinstance(value, int) else []


def ignored(trials: Sequence[Trial], attempt: Attempt) -> Fact | None:
    """An argument whose change changes the right answer, but not the attempt's."""
    if any(isinstance(value, tuple | list) for value in trials[0].case.inputs):
        return None  # what is chosen from a list often stays the same by chance
    for name, value in trials[0].arguments.items():
        if not _others(value):
            continue

        def moves(t: Trial, function: Attempt, name: str = name) -> bool:
            before = _tried(t, function, lambda inputs: inputs).numbers
            seen = [
                _tried(t, function, _with(name, _constant(other)))
                for other in _others(t.arguments[name])
            ]
            return any(not o.error and not _equal(o.numbers, before) for o in seen)

        reference = trials[0].exercise.reference
        if any(moves(t, reference) for t in trials) and not any(moves(t, attempt) for t in trials):
            return Fact(f"{name} ignored", "Your result does not depend on `{name}`: with other "
                        "numbers in it, yours stays the same.", "What is `{name}` for?",
                        {"name": spoken(name)})  # fmt: skip
    return None


def _equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def constant(trials: Sequence[Trial]) -> Fact | None:
    """All numbers of an output off by one constant, or by one factor, in each case."""
    pairs = [(t.got.numbers[0], t.expected.numbers[0]) for t in trials]
    if any(g.shape != e.shape or g.numel() < 3 for g, e in pairs):
        return None
    if all(close([g - g.mean()], [e - e.mean()]) for g, e in pairs):
        by = {"by": (pairs[0][0] - pairs[0][1]).mean().item()}
        if all(close([e.exp().sum()], [torch.ones(()).double()]) for _, e in pairs):
            return Fact("not normalised", "All your numbers are off by the same constant, here "
                        "{by:.4g}. As log-probabilities they do not add up to 1.", "What must be "
                        "subtracted so that Σ exp of your result is 1?", by)  # fmt: skip
        return Fact("off by a constant", "All your numbers are off by the same constant, here "
                    "{by:.4g}.", "Where is it lost?", by)  # fmt: skip
    ratios = [g[e != 0] / e[e != 0] for g, e in pairs]
    zeros = all(close([g[e == 0]], [e[e == 0]]) for g, e in pairs)  # no factor moves a 0
    if zeros and all(close([r], [r.mean().expand_as(r)]) for r in ratios):
        return Fact("off by a factor", "All your numbers are off by the same factor, here "
                    "{by:.4g}.", "By what do you divide or multiply?",
                    {"by": ratios[0].mean().item()})  # fmt: skip
    return None


def not_a_number(trials: Sequence[Trial]) -> Fact | None:
    """NaN or ∞ where a finite number is expected."""
    for t in trials:
        for got, expected in zip(t.got.numbers, t.expected.numbers, strict=False):
            if not got.isfinite().all() and expected.isfinite().all():
                what = tr("NaN" if got.isnan().any() else "infinite")
                return Fact("not a number", "Some of your numbers are {what}. That comes from the "
                            "log of a number that is not positive, from 0 · ∞, or from 0/0.",
                            "Which step makes it: print what goes in.",
                            {"what": what})  # fmt: skip
    return None


def right_gradient(trials: Sequence[Trial]) -> Fact | None:
    """Wrong values whose gradients are right."""
    if all(
        t.got.gradients and close(t.got.gradients, t.expected.gradients)
        and any(g.any() for g in t.expected.gradients)
        for t in trials
    ):  # fmt: skip
        return Fact("right gradient, another value", "Your gradient is right, and the value is "
                    "another. A step would be the same; the number that you log would not.",
                    "Which number does the text ask for?")  # fmt: skip
    return None


def beside_the_numbers(trials: Sequence[Trial]) -> Fact:
    """What is wrong where all numbers are right."""
    if any(not close(t.got.gradients, t.expected.gradients) for t in trials):
        return gradient(trials)
    written = [list(t.arguments)[i] for t in trials for i in t.got.overwritten]
    if written:
        return Fact("writes into its input", "Your numbers are right, but you write them into "
                    "{names}, which belongs to the caller and is lost.",
                    "Which line changes it, and what does .clone() do?",
                    {"names": _listed(written)})  # fmt: skip
    return Fact("integers for booleans", "Your numbers are right, but the text asks for bool. "
                "x[mask] with integers takes rows 0 and 1, and ~mask gives −1 and −2.",
                "Which dtype does a comparison such as == have?")  # fmt: skip
