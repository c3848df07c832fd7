"""Tell a student what an attempt is: right, not done yet, or which mistake."""

import dataclasses
import itertools
from collections.abc import Sequence

from rlhf_lab.exercises import facts
from rlhf_lab.exercises.exercise import Attempt, Choice, Exercise, Mistake
from rlhf_lab.exercises.observe import Trial, close, observe
from rlhf_lab.exercises.search import Step, known, search
from rlhf_lab.exercises.verdict import Verdict, difference


def diagnose(exercise: Exercise, attempt: Attempt) -> Verdict:
    """Compare an attempt with the reference on every case, then say what is wrong with it.

    First the known mistakes of the exercise, then the general slips, one or two at once, then what
    can be found by trying the attempt on other inputs.
    """
    trials = [
        Trial(
            exercise, case, observe(exercise, exercise.reference, case),
            observe(exercise, attempt, case),
        )
        for case in exercise.cases
    ]  # fmt: skip
    if all(t.right for t in trials):
        more = facts.beyond(trials, attempt)
        text = f"Right: {exercise.name} agrees on {_count(exercise)}."
        return Verdict("right", f"{text}\n{more}" if more else text)
    if all(t.got.unfinished for t in trials if not t.right):
        silent = all(t.got.silent for t in trials if not t.right)
        if not (silent and any(t.right for t in trials)):
            return _unfinished(exercise, attempt, trials)
    trials = [t for t in trials if t.got.silent or not t.got.unfinished]  # a blank is no mistake
    ordinary = [t for t in trials if not t.case.edge]
    trials = trials if all(t.right for t in ordinary) else ordinary
    wrong = [t for t in trials if not t.right]
    seen = f"Not yet. On {wrong[0].case.name}: {difference(wrong[0])}"
    if mistake := known(trials, exercise.mistakes):
        return _verdict(seen, exercise, [("", mistake)])
    if found := _explain(exercise, wrong, attempt):
        return _verdict(seen, exercise, found)
    whole = all(not t.got.error and not t.expected.error for t in wrong)
    part = facts.where(wrong, attempt) if whole else ""
    lines = [seen, part, f"Read again: {exercise.section}."]
    return Verdict("wrong", "\n".join(filter(None, lines)))


def _unfinished(exercise: Exercise, attempt: Attempt, trials: Sequence[Trial]) -> Verdict:
    code = getattr(attempt, "__code__", None)
    written = code is not None and (code.co_names or code.co_nlocals > code.co_argcount)
    text = f"Not done yet: write {exercise.name} in the cell above."
    if written and exercise.run is Exercise.run and all(t.got.silent for t in trials):
        text = f"Not done yet: {exercise.name} returned nothing. Is there a `return`?"
    return Verdict("not done yet", text)


Finding = tuple[str, Step | facts.Fact]
"""The name of an output ("" if there is only one), and what is wrong with it."""


def _explain(exercise: Exercise, wrong: Sequence[Trial], attempt: Attempt) -> list[Finding]:
    """What is wrong, output by output; empty where nothing can be said."""
    if any(t.got.silent for t in wrong):
        return [("", _NOTHING)]
    if fact := next((f for t in wrong if t.got.error and (f := facts.error(t))), None):
        return [("", fact)]
    whole = [t for t in wrong if not t.got.error and not t.expected.error]
    if len(whole) < len(wrong):
        return []
    if all(close(t.got.numbers, t.expected.numbers) for t in wrong):
        return [("", facts.beside_the_numbers(wrong))]
    if found := _other_outputs(exercise, wrong):
        return found
    if found := _by_output(exercise, wrong):
        return found
    for ask in (
        lambda: facts.not_a_number(wrong),
        lambda: facts.constant(wrong),
        lambda: facts.ignored(wrong, attempt),
        lambda: facts.right_gradient(wrong),
        lambda: facts.simpler(wrong, attempt),
    ):
        if fact := ask():
            return [("", fact)]
    return []


_NOTHING = facts.Fact(
    "returns nothing here", "Your function returned nothing in this case, and something in others: "
    "one of its ways to the end has no result.", "With which value does your search begin, and "
    "can every case beat it?",
)  # fmt: skip
_EXCHANGED = facts.Fact(
    "results exchanged", "Your results are in the wrong order.", "Which of them comes first?"
)


def _other_outputs(exercise: Exercise, wrong: Sequence[Trial]) -> list[Finding]:
    """The wrong number of outputs, or the right ones in another order."""
    n, m = len(wrong[0].expected.numbers), len(wrong[0].got.numbers)
    if m != n:
        says = f"You return {m} result{'s' * (m != 1)}, and {n} {'is' if n == 1 else 'are'} asked "
        hint = "What should stand behind `return`, and in which order?"
        return [("", facts.Fact("number of results", f"{says}for.", hint))]
    for order in itertools.permutations(range(n)):
        turned = [_in_order(t, order) for t in wrong]
        if all(close(t.got.numbers, t.expected.numbers) for t in turned):
            return [("", _EXCHANGED)]
    turned = [_in_order(t, range(n)[::-1]) for t in wrong]
    if n == 2 and not _shapes_fit(wrong) and _shapes_fit(turned):
        return [("", _EXCHANGED), *_by_output(exercise, turned)]
    return []


def _in_order(t: Trial, order: Sequence[int]) -> Trial:
    numbers = tuple(t.got.numbers[i] for i in order)
    return dataclasses.replace(t, got=t.got._replace(numbers=numbers))


def _shapes_fit(trials: Sequence[Trial]) -> bool:
    return all(
        a.shape == b.shape
        for t in trials
        for a, b in zip(t.got.numbers, t.expected.numbers, strict=True)
    )


def _by_output(exercise: Exercise, wrong: Sequence[Trial]) -> list[Finding]:
    found: list[Finding] = []
    for k in range(len(wrong[0].expected.numbers)):
        here = [t for t in wrong if not close([t.got.numbers[k]], [t.expected.numbers[k]])]
        if not here:
            continue
        explanation = search(here, k)
        if explanation is None:
            return []
        it = exercise.outputs[k] if exercise.outputs else ""
        found += [(it, step) for step in explanation.steps]
    return found


def _verdict(seen: str, exercise: Exercise, found: Sequence[Finding]) -> Verdict:
    outputs: dict[str, list[str]] = {}
    steps: dict[str, Step | facts.Fact] = {}
    for it, step in found:
        outputs.setdefault(step.name, []).append(it)
        steps[step.name] = step
    lines = [_sentence(step, outputs[name]) for name, step in steps.items()]
    if len(lines) > 1:
        lines = [f"{'And' if i else 'First'}: {line}" for i, line in enumerate(lines)]
    hints = [f"Hint: {step.hint}" for step in steps.values()]
    text = "\n".join([seen, *lines, *hints, f"Read again: {exercise.section}."])
    return Verdict("mistake", text, " and ".join(steps))


def _sentence(step: Step | facts.Fact, outputs: Sequence[str]) -> str:
    """What is wrong, with the names of the outputs in which it is."""
    names = " and ".join(f"`{it}`" for it in outputs if it)
    if isinstance(step, Mistake):
        return f"In your {names}: {step.diagnosis}" if names else step.diagnosis
    return step.says.replace("{it}", f"Your {names}" if names else "Your result")


def judge(question: Choice, answer: object) -> Verdict:
    """Compare an answer to a question with the right one, then with every mistake."""
    if answer is None or answer is ...:
        return Verdict("not done yet", f"Not done yet: answer {question.name} in the cell above.")
    letters = sorted([question.answer, *(m.wrong for m in question.mistakes)])
    letter, seen = str(answer).strip(" ()'\".\t\n").lower(), ""
    if letter not in letters and isinstance(answer, float) and answer in question.values:
        letter = letters[question.values.index(answer)]
        seen = f"{answer} is answer {letter}. "
    if letter == question.answer:
        return Verdict("right", f"Right. {seen}{question.reason}")
    for mistake in question.mistakes:
        if letter == mistake.wrong:
            lines = [f"Not yet. {seen or f'You chose {letter}.'}", mistake.diagnosis]
            lines += [f"Hint: {mistake.hint}", f"Read again: {question.section}."]
            return Verdict("mistake", "\n".join(lines), mistake.name)
    text = f"{answer!r} is not one of the answers: {', '.join(letters)}."
    return Verdict("wrong", f"{text} Write one of these letters in quotes.")


def _count(exercise: Exercise) -> str:
    n, gradients = len(exercise.cases), any(case.gradient for case in exercise.cases)
    what = "values and gradients" if gradients else "values"
    return f"all {what} of {n} case{'s' if n > 1 else ''}"
