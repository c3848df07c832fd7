"""The table of general slips is its own test: an attempt with a slip is told of that slip."""

import pytest
import torch

from rlhf_lab.exercises import EXERCISES, facts
from rlhf_lab.exercises.checker import diagnose
from rlhf_lab.exercises.exercise import Case, Exercise, Mistake
from rlhf_lab.exercises.observe import Trial, observe
from rlhf_lab.exercises.slips import TWISTS, disguises, factors


def random(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


MASKS = (
    torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]]).bool(),
    torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]).bool(),
)
SQUARE = MASKS[0][:, :3]


def exercise(reference, *cases, **more):
    return Exercise("made_up", "nowhere: At all", 1, reference, cases, **{"mistakes": (), **more})


def per_token(x, y, mask, eta):
    """A number for each token, positive and negative, that needs all of its arguments."""
    return ((x.exp() + eta * y**3) * mask).flip(1).cumsum(1).flip(1) * mask


def per_review(x, y, mask, eta):
    return ((x.exp() + eta * y**3) * mask).sum(1)


def per_batch(x, y, mask, eta):
    return ((x.exp() + eta * y**3) * mask).sum() / mask.sum()


def scaled(x, y, mask, eta):
    return x + eta * y


CASES = [
    Case(f"case {i}", (random(i, 3, 4), random(i + 9, 3, 4), mask, eta))
    for i, (mask, eta) in enumerate(zip(MASKS, (0.37, 1.31), strict=True))
]
SHAPES = [exercise(f, *CASES) for f in (scaled, per_token, per_review, per_batch)]
SHAPES.append(exercise(lambda x: 0.4 + x.abs(), Case("one row", (random(5, 5),))))
SHAPES.append(exercise(lambda x: 1.7 * x, Case("square", (random(6, 3, 3),))))

# What a student returns who has left a step out: the step gives the right answer.
BEFORE = {
    "a dimension too many": lambda y: y.unsqueeze(0),
    "not averaged": lambda y: torch.stack([y - 0.7, y + 0.7]),
    "not added up": lambda y: torch.stack([y - 0.7, 0.7 * torch.ones_like(y)]),
    "not added up over the last dimension": lambda y: torch.stack([y - 0.7, y * 0 + 0.7], -1),
    "not averaged over the last dimension": lambda y: torch.stack([y - 0.7, y + 0.7], -1),
    "not added up over the tokens": lambda y: torch.cat([y[:, None], random(3, len(y), 3)], 1),
    "not the largest": lambda y: torch.stack([y - 0.3, y, y - 2.1]),
    "every row for every row": lambda y: y.expand(len(y), -1) + 0.3 * (1 - torch.eye(len(y))),
    "repeated": lambda y: torch.stack([y, y, y], -1),
    "repeated for each": lambda y: torch.stack([y, y, y]),
}


def names(made_up, attempt):
    return diagnose(made_up, attempt).mistake


def twisted(made_up, slip):
    """The attempt of a student who makes this slip, or None where it does not apply."""

    def attempt(*inputs):
        right = made_up.reference(*inputs)
        case = Case("", inputs)
        trial = Trial(made_up, case, observe(made_up, made_up.reference, case), None)
        return BEFORE[slip.name](right) if slip.name in BEFORE else slip.change(right, trial)

    return attempt


ALL_TWISTS = {slip.name: slip for slip in TWISTS}


@pytest.mark.parametrize(
    "name",
    sorted(
        set(ALL_TWISTS)
        - {"padding not cleared", "not averaged over the mask", "not added up over the tokens"}
    ),
)
def test_every_twist_of_the_table_is_named_somewhere(name):
    """Somewhere, because on one shape two slips may be the same: a mean over the only dimension."""
    assert name in [names(shape, twisted(shape, ALL_TWISTS[name])) for shape in SHAPES]


def test_what_is_left_in_the_padding_is_named():
    assert names(SHAPES[1], lambda *i: per_token(*i) + 3.3 * ~i[2]) == "padding not cleared"


def test_numbers_that_were_never_added_up_are_named():
    def tokens(x, y, mask, eta):
        return x.exp() + eta * y**3

    assert names(SHAPES[2], tokens) == "not added up over the tokens"
    assert names(SHAPES[3], tokens) == "not averaged over the mask"


NUMBERS = {
    s.name
    for s in factors(Trial(SHAPES[1], CASES[0], observe(SHAPES[1], per_token, CASES[0]), None))
}


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_factor_and_term_is_named(name):
    def attempt(*inputs):
        case = Case("", inputs)
        t = Trial(SHAPES[1], case, observe(SHAPES[1], per_token, case), None)
        return {s.name: s for s in factors(t)}[name].change(per_token(*inputs), t)

    said = names(SHAPES[1], attempt)
    # The same number may have two names: 12 places are 12 entries of the result.
    assert said == name or said.startswith(("times", "divided", "added up")), said


HIDDEN = list(disguises(Trial(SHAPES[1], CASES[0], None, None)))


@pytest.mark.parametrize("slip", HIDDEN, ids=lambda slip: slip.name)
def test_every_disguise_of_an_input_is_named(slip):
    def attempt(x, y, mask, eta):
        return per_token(*slip.change({"x": x, "y": y, "mask": mask, "eta": eta}).values())

    verdict = diagnose(SHAPES[1], attempt)
    same = {
        "η as if 0": ("y ignored",), "η with the wrong sign": ("y with the wrong sign",),
    }  # fmt: skip
    assert verdict.mistake in (slip.name, *same.get(slip.name, ()))


def test_two_slips_at_once_are_named():
    twice = exercise(per_token, *CASES)
    assert names(twice, lambda *i: -2 * per_token(*i)) == "sign and times 2"
    forgot = Mistake(
        "cube forgotten",
        1,
        lambda x, y, m, e: per_token(x, y.sign() * y.abs() ** (1 / 3), m, e),
        "…",
        "?",
    )
    known = exercise(per_token, *CASES, mistakes=(forgot,))
    assert names(known, lambda *i: -forgot.wrong(*i)) == "cube forgotten and sign"


def test_two_known_mistakes_at_once_are_named():
    one = Mistake("x alone", 1, lambda x, y, m, e: per_token(x, 0 * y, m, e) + 0.1 * m, "…", "?")
    two = Mistake("y doubled", 1, lambda x, y, m, e: per_token(x, y, m, e) + 0.7 * y * m, "…", "?")
    both = exercise(per_token, *CASES, mistakes=(one, two))
    verdict = diagnose(both, lambda x, y, m, e: one.wrong(x, y, m, e) + 0.7 * y * m)
    assert verdict.mistake == "x alone and y doubled"


def test_an_explanation_must_hold_in_every_case():
    def sometimes(x, y, mask, eta):
        return per_token(x, y, mask, eta) * (-1 if eta < 1 else 2.2)

    assert "sign" not in names(SHAPES[1], sometimes)


def test_fractions_prove_nothing():
    """1/5 is (1 − 3/5)/2 and 1/4 is (1 − 2/4)/2, but no student thought so."""
    rows = torch.tensor([1.0, 1, 1, 0, 0]).double(), torch.tensor([1.0, 1, 0, 0]).double()
    shares = exercise(lambda x: x.mean(), *(Case(f"{len(x)} numbers", (x,)) for x in rows))
    assert diagnose(shares, lambda x: x[0] / len(x)).status == "wrong"


def test_a_coefficient_that_is_ignored_is_named():
    made_up = exercise(per_token, *CASES)
    verdict = diagnose(made_up, lambda x, y, mask, eta: (x * mask).sin() + y.cos())
    assert verdict.mistake == "eta ignored"
    assert "does not depend on `eta`" in verdict.text


def test_a_mask_of_integers_is_named():
    cases = [
        case._replace(inputs=(*case.inputs[:2], case.inputs[2].long(), case.inputs[3]))
        for case in CASES
    ]
    made_up = exercise(per_batch, *cases)
    verdict = diagnose(made_up, lambda x, y, mask, eta: (x.exp() + eta * y**3)[mask].mean())
    assert verdict.mistake == "integers used as a mask"
    right = diagnose(
        exercise(per_batch, *CASES), lambda x, y, mask, eta: (x.exp() + eta * y**3)[mask].mean()
    )
    assert (right.status, "One thing more" in right.text) == ("right", True)


def test_where_the_mistake_is_without_a_name():
    def wavy(x, y, mask, eta):
        return per_token(x, y.sin(), mask, eta)

    verdict = diagnose(exercise(per_token, *CASES), wavy)
    assert verdict.status == "wrong"
    assert "Where all `y` are 0 your code is right" in verdict.text


ERRORS = {
    "one past the end": lambda x, *_: x[torch.arange(3), torch.tensor([1, 4, 2])],
    "index out of range": lambda x, *_: [1, 2][7],
    "several results taken for one": lambda x, *_: x.max(1) - x,
    "argument by place": lambda x, *_: per_batch(x, x, x, 1, 2, 3),
    "argument missing": lambda x, *_: per_batch(x),
    "math for tensors": lambda x, *_: float(x),
    "if for tensors": lambda x, *_: max(x, 0),
    "shapes do not fit": lambda x, *_: x + x[:, :3],
    "booleans for numbers": lambda x, y, mask, eta: mask - mask,
    "0 and 1 for True and False": lambda x, y, mask, eta: torch.where(mask.long(), x, 0.0),
    "dtypes do not fit": lambda x, *_: x @ torch.ones(4, dtype=torch.int64),
    "no gradient to follow": lambda x, *_: x.detach().sum().backward(),
    "graph used twice": lambda x, *_: graph_used_twice(x),
    "name unknown": lambda x, *_: nowhere_defined(x),  # noqa: F821
    "nothing found": lambda x, *_: [1].index(2),
    "divided by 0": lambda x, *_: 1 / 0,
    "integers where bool is asked": lambda x, y, mask, eta: x.masked_fill(mask.long(), 0.0),
    "a number for a tensor": lambda x, *_: torch.clamp(0.3, 0.1, 0.2),
    "NaN among integers": lambda x, *_: x.long().masked_fill(x > 0, float("nan")),
}


def graph_used_twice(x):
    loss = (x.clone().requires_grad_(True) ** 2).sum()
    loss.backward()
    loss.backward()


@pytest.mark.parametrize("name", [fact.name for _, fact in facts.ERRORS])
def test_every_error_of_the_table_is_explained(name):
    verdict = diagnose(exercise(per_token, *CASES), ERRORS[name])
    assert verdict.mistake == name
    assert "in your line" in verdict.text


GRADIENTS = {
    "detached": lambda x, y: (x**2 * y).detach(),
    "gradient by a factor": lambda x, y: 2 * x**2 * y - (x**2 * y).detach(),
    "another gradient": lambda x, y: x**2 * y + (x - x.detach()).sin(),
    "NaN in the gradient": lambda x, y: x**2 * y + 0 * (x - x).abs().sqrt(),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_wrong_gradient_is_explained(name):
    made_up = exercise(lambda x, y: x**2 * y, Case("five", (random(1, 5), random(2, 5)), (0, 1)))
    assert names(made_up, GRADIENTS[name]) == name


def test_a_gradient_that_none_should_follow_is_explained():
    made_up = exercise(lambda x: 2 * x.detach(), Case("five", (random(1, 5),), (0,)))
    assert names(made_up, lambda x: 2 * x) == "not detached"


def test_a_right_gradient_with_another_value_is_said():
    made_up = exercise(lambda x: x**2 / 2, Case("five", (random(1, 5),), (0,)))
    assert names(made_up, lambda x: x.detach() * x) in ("times 2", "right gradient, another value")
    verdict = diagnose(made_up, lambda x: x.detach() * x + x.detach().sin())
    assert verdict.mistake == "right gradient, another value"


def test_results_in_another_order_are_named():
    two = exercise(lambda x: (x.sum(), x.exp()), Case("five", (random(1, 5),)), outputs=("a", "b"))
    assert names(two, lambda x: (x.exp(), x.sum())) == "results exchanged"
    assert names(two, lambda x: x.sum()) == "number of results"
    verdict = diagnose(two, lambda x: (x.sum(), -x.exp()))
    assert verdict.mistake == "sign"
    assert "Your `b` has the wrong sign" in verdict.text
    assert "b, element 0" in verdict.text


def test_integers_for_booleans_are_named():
    made_up = exercise(lambda x: x > 0, Case("five", (random(1, 5),)))
    assert names(made_up, lambda x: (x > 0).long()) == "integers for booleans"


def test_numbers_off_by_one_constant_or_factor_are_named():
    logs = exercise(lambda x: x.log_softmax(0), *(Case(f"{n}", (random(n, n),)) for n in (5, 4)))
    assert names(logs, lambda x: x.log_softmax(0) + x.sum().sin()) == "not normalised"
    plain = exercise(lambda x: x.exp(), *(Case(f"{n}", (random(n, n),)) for n in (5, 4)))
    assert names(plain, lambda x: x.exp() + x.sum().sin()) == "off by a constant"
    assert names(plain, lambda x: x.exp() * x.sum().sin()) == "off by a factor"


def test_numbers_that_are_right_but_for_zeros_are_off_by_no_factor():
    cut = exercise(lambda x: x.relu(), *(Case(f"{n}", (random(n, n),)) for n in (6, 8)))
    assert names(cut, lambda x: torch.where(x > 0, x, 0.3)) != "off by a factor"


def test_what_is_returned_in_some_cases_only_is_named():
    plain = exercise(lambda x: x.exp(), *(Case(f"{n}", (random(n, n),)) for n in (5, 4)))
    assert names(plain, lambda x: x.exp() if len(x) == 5 else None) == "returns nothing here"


def distorted(numbers):
    """Every number a little wrong, each by another amount: no slip does that."""
    if isinstance(numbers, tuple | list):
        return [distorted(part) for part in numbers]
    y = torch.as_tensor(numbers, dtype=torch.float64)
    places = torch.arange(1, y.numel() + 1).view(y.shape)
    return y + 0.13 * (1.3 * places + 1.7 + y.nan_to_num()).sin() * (y.abs() + 0.2)


PLAIN = [
    e for e in EXERCISES.values()
    if isinstance(e, Exercise) and e.run is Exercise.run and e.name != "ppo_update"
]  # fmt: skip


@pytest.mark.parametrize("made", PLAIN, ids=lambda e: e.name)
def test_what_no_slip_explains_is_given_no_diagnosis(made):
    verdict = diagnose(made, lambda *inputs: distorted(made.reference(*inputs)))
    assert (verdict.status, verdict.mistake) == ("wrong", "")
