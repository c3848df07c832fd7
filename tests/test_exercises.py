"""The list of mistakes is the test: each is answered by its own message, correct solutions pass."""

import dataclasses
import json
import re
from pathlib import Path

import alternatives
import pytest
import torch
from torch.nn import functional as F

from rlhf_lab.exercises import EXERCISES, check, solution
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.exercises.observe import TOLERANCE, agree, observe
from rlhf_lab.masking import masked_sum, terminal_reward
from rlhf_lab.ppo import policy_loss

ROOT = Path(__file__).parent.parent
FUNCTIONS = [e for e in EXERCISES.values() if isinstance(e, Exercise)]
CHOICES = [e for e in EXERCISES.values() if isinstance(e, Choice)]
MISTAKES = [(e, m) for e in EXERCISES.values() for m in e.mistakes]


def by_name(item):
    return getattr(item, "name", None)


def headings(notebook):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text("utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return {re.sub(r"^[\d. ]+", "", line) for line in re.findall(r"^#+ +(.+)$", text, re.M)}


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=by_name)
def test_every_mistake_is_answered_by_its_own_message(exercise, mistake):
    verdict = check(mistake.wrong, exercise.name)
    assert (verdict.status, verdict.mistake) == ("mistake", mistake.name)
    for part in (mistake.diagnosis, mistake.hint, exercise.section):
        assert part in verdict.text


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_name)
def test_two_correct_solutions_pass(exercise):
    for attempt in (exercise.reference, getattr(alternatives, exercise.name)):
        assert check(attempt, exercise.name).status == "right"


def in_float32(output):
    """The output of a student who writes the right numbers into `torch.zeros(n)`."""
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, tuple | list):
        return [in_float32(part) for part in output]
    return torch.tensor(output) if isinstance(output, float) else output


@pytest.mark.parametrize("exercise", [e for e in FUNCTIONS if e.run is Exercise.run], ids=by_name)
def test_a_correct_solution_passes_in_float32(exercise):
    solution = getattr(alternatives, exercise.name)
    verdict = check(lambda *inputs: in_float32(solution(*inputs)), exercise.name)
    assert verdict.status == "right"


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_name)
def test_an_untouched_stub_is_not_done_yet(exercise):
    for stub in (lambda *_: None, lambda *_: ..., lambda *_: 1 + ...):
        assert check(stub, exercise.name).status == "not done yet"


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_name)
def test_another_wrong_answer_shows_where_it_differs(exercise):
    verdict = check(lambda *inputs: torch.full((1, 7), 12345.0), exercise.name)
    assert verdict.status in ("wrong", "mistake")
    assert exercise.section in verdict.text
    assert "stopped with ZeroDivisionError" in check(lambda *inputs: 1 / 0, exercise.name).text


@pytest.mark.parametrize("question", CHOICES, ids=by_name)
def test_a_question_accepts_one_letter(question):
    assert check(None, question.name).status == "not done yet"
    assert check(f" {question.answer.upper()} ", question.name).status == "right"
    assert check("z", question.name).status == "wrong"
    letters = [question.answer, *(m.wrong for m in question.mistakes)]
    assert sorted(letters) == list("abcdef"[: len(letters)])


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=by_name)
def test_its_section_exists(exercise):
    notebook, heading = exercise.section.split(": ", 1)
    assert heading in headings(notebook)


def test_names_are_unique():
    assert len({(e.name, m.name) for e, m in MISTAKES}) == len(MISTAKES)
    for name, exercise in EXERCISES.items():
        assert name == exercise.name


DOUBLE = Exercise(
    name="double", section="nowhere", minutes=1,
    reference=lambda x: 2 * x,
    cases=(Case("two numbers", (torch.tensor([1.0, -2.0], dtype=torch.float64),), (0,)),),
    mistakes=(
        Mistake("square", 1, lambda x: x**2, "You squared it.", "Twice what?"),
        Mistake("detached", 2, lambda x: 2 * x.detach(), "No gradient.", "What follows x?"),
    ),
)  # fmt: skip


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setitem(EXERCISES, "double", DOUBLE)


@pytest.mark.usefixtures("double")
def test_gradients_count_even_where_values_agree():
    verdict = check(lambda x: 2 * x.detach(), "double")
    assert verdict.mistake == "detached"
    half = check(lambda x: x + x.detach(), "double")
    assert (half.mistake, "2 of 2 gradients differ" in half.text) == ("gradient by a factor", True)


@pytest.mark.usefixtures("double")
def test_gradients_that_have_changed_places_are_seen():
    """A plain sum of the outputs has the same gradient by each input."""
    verdict = check(lambda x: 2 * x.detach() + 2 * (x - x.detach()).flip(0), "double")
    assert (verdict.mistake, "2 of 2 gradients differ" in verdict.text) == (
        "another gradient",
        True,
    )


@pytest.mark.usefixtures("double")
def test_an_attempt_must_not_write_into_its_input():
    def in_place(x):
        x *= 2
        return x

    verdict = check(in_place, "double")
    assert verdict.mistake == "writes into its input"
    assert "`x`, which belongs to the caller" in verdict.text
    assert check(lambda x: x.clone().mul_(2), "double").status == "right"


@pytest.mark.usefixtures("double")
def test_a_forgotten_return_is_named():
    def forgets(x):
        y = 2 * x  # noqa: F841

    assert "returned nothing. Is there a `return`?" in check(forgets, "double").text
    for stub in (lambda x: None, lambda x: x.foo if x is None else ...):
        assert "write double in the cell above" in check(stub, "double").text


def test_a_blank_beside_a_mistake_hides_nothing():
    def filled_in_part(logprobs, ref_logprobs, mask, place):
        d = (logprobs - ref_logprobs) * mask
        return {"reward": d.cumsum(1) * mask, "k3_ratio": d, "k3": ...}[place]

    assert "You add up the d of the tokens *before* t." in check(filled_in_part, "kl_pull").text


@pytest.mark.usefixtures("double")
def test_the_table_shows_position_yours_and_expected():
    text = check(lambda x: torch.stack([2 * x[0], 3 * x[1]]), "double").text
    assert "1 of 2 values differ" in text
    assert "  element 1         -6         -4" in text


@pytest.mark.usefixtures("double")
def test_an_attempt_cannot_change_the_fixture():
    def spoils(x):
        with torch.no_grad():
            x.mul_(0)
        return x

    check(spoils, "double")
    assert check(lambda x: 2 * x, "double").status == "right"


@pytest.mark.usefixtures("double")
def test_the_solution_opens_after_a_try(monkeypatch):
    monkeypatch.setattr("rlhf_lab.exercises._tried", set())
    assert "Try first" in solution("double")
    check(lambda x: None, "double")
    assert "Try first" in solution("double")
    check(lambda x: x, "double")
    assert "2 * x" in solution("double")


@pytest.mark.usefixtures("double")
def test_a_check_leaves_the_inputs_of_its_cases_alone():
    """Some cases share a tensor, and not all of them ask for its gradient."""
    check(lambda x: 2 * x, "double")
    assert not DOUBLE.cases[0].inputs[0].requires_grad


def test_a_solution_shows_what_it_calls():
    check(lambda *_: 0.0, "clipped_loss")
    assert "def policy_terms" in solution("clipped_loss")


def test_a_gradient_that_is_missing_is_shown_as_a_number():
    verdict = check(lambda chosen, rejected: -F.logsigmoid(chosen - rejected.detach()).mean(),
                    "bradley_terry_loss")  # fmt: skip
    assert verdict.mistake == "half the gradient"
    assert "3 of 6 gradients differ" in verdict.text


@pytest.mark.parametrize(("n", "cut"), [(6, False), (7, True)])
def test_a_long_table_ends_with_dots(n, cut, monkeypatch):
    zeros = Case("zeros", (torch.zeros(n),))
    monkeypatch.setitem(EXERCISES, "double", dataclasses.replace(DOUBLE, cases=(zeros,)))
    assert check(lambda x: x + 1, "double").text.count("…") == cut


def test_a_refusal_counts_whatever_its_words(monkeypatch):
    def refuses(x):
        raise ValueError(f"no {len(x)} numbers")

    monkeypatch.setitem(EXERCISES, "double", dataclasses.replace(DOUBLE, reference=refuses))
    assert check(lambda x: int("in other words"), "double").status == "right"
    assert check(lambda x: [][1], "double").mistake == "index out of range"


# Solutions that are wrong for some inputs only; each exercise has a case that tells.
ALMOST_RIGHT = [
    (
        "clipped_loss",
        lambda logprobs, old, advantages, mask, clip: (
            policy_loss(logprobs, old, advantages, mask, clip=0.2).loss
        ),
    ),
    (
        "next_eta",
        lambda eta, kls, mask, target: (
            eta * (1 + max(-0.1, masked_sum(kls, mask).item() / len(kls) / target - 1))
        ),
    ),
    (
        "compute_rewards",
        lambda scores, logprobs, ref_logprobs, mask, eta: (
            terminal_reward(scores, mask) - eta * (logprobs.detach() - ref_logprobs) * mask
        ),
    ),
]


def test_the_lines_of_notebook_06_pass_their_exercise():
    """With the .detach() that the exercise asks for."""
    file = ROOT / "notebooks" / "06_compute_rewards.ipynb"
    cells = json.loads(file.read_text("utf-8"))["cells"]
    lines = next("".join(cell["source"]) for cell in cells if cell["id"] == "c08")

    def attempt(scores, logprobs, ref_logprobs, mask, eta):
        given = {"scores": scores, "logprobs": logprobs, "ref_logprobs": ref_logprobs, "mask": mask}
        exec(lines.replace("eta = 0.5\n", ""), given, done := {"eta": eta})
        return done["reward"].detach()

    assert check(attempt, "compute_rewards").status == "right"


@pytest.mark.parametrize(("name", "attempt"), ALMOST_RIGHT, ids=[name for name, _ in ALMOST_RIGHT])
def test_a_solution_that_is_right_for_some_inputs_is_not_right(name, attempt):
    assert check(attempt, name).status in ("wrong", "mistake")


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="no exercise is called 'nonsense'; there are response"):
        check(lambda: None, "nonsense")
    with pytest.raises(ValueError, match="no exercise is called"):
        solution("nonsense")
    with pytest.raises(ValueError, match="leave out its"):
        check(3, "response_mask")


def test_observations_agree_to_the_tolerance():
    a = observe(DOUBLE, lambda x: 2 * x + TOLERANCE / 10, DOUBLE.cases[0])
    b = observe(DOUBLE, lambda x: 2 * x + TOLERANCE * 10, DOUBLE.cases[0])
    expected = observe(DOUBLE, DOUBLE.reference, DOUBLE.cases[0])
    assert agree(a, expected)
    assert not agree(b, expected)
