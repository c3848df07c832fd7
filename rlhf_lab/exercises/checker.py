"""Tell a student what an attempt is: right, not done yet, or which mistake."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from rlhf_lab.exercises import facts
from rlhf_lab.exercises.exercise import Attempt, Choice, Exercise, Mistake
from rlhf_lab.exercises.observe import Trial, close, observe
from rlhf_lab.exercises.search import Step, known, search
from rlhf_lab.exercises.verdict import Verdict, difference, section
from rlhf_lab.translation import tr


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
        text = _agrees(exercise)
        return Verdict("right", f"{text}\n{more}" if more else text)
    if all(t.got.unfinished for t in trials if not t.right):
        silent = all(t.got.silent for t in trials if not t.right)
        if not (silent and any(t.right for t in trials)):
            return _unfinished(exercise, attempt, trials)
    trials = [t for t in trials if t.got.silent or not t.got.unfinished]  # a blank is no mistake
    ordinary = [t for t in trials if not t.case.edge]
    trials = trials if all(t.right for t in ordinary) else ordinary
    wrong = [t for t in trials if not t.right]
    case, how = tr(wrong[0].case.name), difference(wrong[0])
    seen = tr("Not yet. On {case}: {difference}", case=case, difference=how)
    if mistake := known(trials, exercise.mistakes):
        return _verdict(seen, exercise, [("", mistake)])
    if found := _explain(exercise, wrong, attempt):
        return _verdict(seen, exercise, found)
    whole = all(not t.got.error and not t.expected.error for t in wrong)
    part = facts.where(wrong, attempt) if whole else ""
    return Verdict("wrong", "\n".join(filter(None, [seen, part, _read_again(exercise)])))


def _unfinished(exercise: Exercise, attempt: Attempt, trials: Sequence[Trial]) -> Verdict:
    code = getattr(attempt, "__code__", None)
    written = code is not None and (code.co_names or code.co_nlocals > code.co_argcount)
    text = "Not done yet: write {name} in the cell above."
    if written and exercise.run is Exercise.run and all(t.got.silent for t in trials):
        text = "Not done yet: {name} returned nothing. Is there a `return`?"
    return Verdict("not done yet", tr(text, name=exercise.name))


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
        return [("", _number_of_results(m, n))]
    for order in itertools.permutations(range(n)):
        turned = [_in_order(t, order) for t in wrong]
        if all(close(t.got.numbers, t.expected.numbers) for t in turned):
            return [("", _EXCHANGED)]
    turned = [_in_order(t, range(n)[::-1]) for t in wrong]
    if n == 2 and not _shapes_fit(wrong) and _shapes_fit(turned):
        return [("", _EXCHANGED), *_by_output(exercise, turned)]
    return []


def _number_of_results(returned: int, asked: int) -> facts.Fact:
    says = "You return {m} results, and {n} are asked for."
    if asked == 1:
        says = "You return {m} results, and 1 is asked for."
    elif returned == 1:
        says = "You return 1 result, and {n} are asked for."
    hint = "What should stand behind `return`, and in which order?"
    return facts.Fact("number of results", says, hint, {"m": returned, "n": asked})


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
        first, *others = lines
        lines = [tr("First: {line}", line=first), *(tr("And: {line}", line=x) for x in others)]
    hints = [_hint(step) for step in steps.values()]
    text = "\n".join([seen, *lines, *hints, _read_again(exercise)])
    return Verdict("mistake", text, " and ".join(steps))


def _hint(step: Step | facts.Fact) -> str:
    values = {} if isinstance(step, Mistake) else step.values
    return tr("Hint: {hint}", hint=tr(step.hint, **values))


def _sentence(step: Step | facts.Fact, outputs: Sequence[str]) -> str:
    """What is wrong, with the names of the outputs in which it is."""
    quoted = [f"`{it}`" for it in outputs if it]
    names = functools.reduce(lambda a, b: tr("{a} and {b}", a=a, b=b), quoted) if quoted else ""
    if isinstance(step, Mistake):
        said = tr(step.diagnosis)
        return tr("In your {names}: {diagnosis}", names=names, diagnosis=said) if names else said
    it = tr("Your {names}", names=names) if names else tr("Your result")
    return tr(step.says, it=it, **step.values)


def _read_again(exercise: Exercise | Choice) -> str:
    # No full stop: a heading may be a question.
    return tr("Read again: {section}", section=section(exercise))


def judge(question: Choice, answer: object) -> Verdict:
    """Compare an answer to a question with the right one, then with every mistake."""
    if answer is None or answer is ...:
        text = tr("Not done yet: answer {name} in the cell above.", name=question.name)
        return Verdict("not done yet", text)
    letters = sorted([question.answer, *(m.wrong for m in question.mistakes)])
    letter, seen = str(answer).strip(" ()'\".\t\n").lower(), ""
    if letter not in letters and isinstance(answer, float) and answer in question.values:
        letter = letters[question.values.index(answer)]
        seen = tr("{answer} is answer {letter}. ", answer=answer, letter=letter)
    if letter == question.answer:
        return Verdict("right", tr("Right. {seen}{reason}", seen=seen, reason=tr(question.reason)))
    for mistake in question.mistakes:
        if letter == mistake.wrong:
            seen = seen or tr("You chose {letter}.", letter=letter)
            lines = [tr("Not yet. {seen}", seen=seen), tr(mistake.diagnosis)]
            lines += [_hint(mistake), _read_again(question)]
            return Verdict("mistake", "\n".join(lines), mistake.name)
    text = tr(
        "{answer!r} is not one of the answers: {letters}. Write one of these letters in quotes.",
        answer=answer, letters=", ".join(letters),
    )  # fmt: skip
    return Verdict("wrong", text)


_AGREES = {
    (False, False): "Right: {name} agrees on all values of 1 case.",
    (False, True): "Right: {name} agrees on all values of {n} cases.",
    (True, False): "Right: {name} agrees on all values and gradients of 1 case.",
    (True, True): "Right: {name} agrees on all values and gradients of {n} cases.",
}
"""By whether it has gradients, and several cases."""


def _agrees(exercise: Exercise) -> str:
    n, gradients = len(exercise.cases), any(case.gradient for case in exercise.cases)
    return tr(_AGREES[gradients, n > 1], name=exercise.name, n=n)
