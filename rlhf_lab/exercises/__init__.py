"""Exercises with checkers that name the mistake; `check` and `solution` are all a student needs."""

import inspect
import textwrap
from collections import Counter

from rlhf_lab.exercises import (
    bug_museum,
    compute_rewards,
    dpo,
    entropy_bonus,
    leash_today,
    measuring_kl,
    mode_collapse,
    ppo_loop,
    reward_model,
    score_at_the_end,
    the_leash,
    too_much_reward,
)
from rlhf_lab.exercises.cells import watch
from rlhf_lab.exercises.checker import diagnose, judge
from rlhf_lab.exercises.exercise import Choice, Exercise
from rlhf_lab.exercises.hints import more_help
from rlhf_lab.exercises.verdict import Verdict
from rlhf_lab.translation import tr

__all__ = ["EXERCISES", "check", "solution"]

EXERCISES: dict[str, Exercise | Choice] = {
    exercise.name: exercise
    for module in (
        score_at_the_end, reward_model, too_much_reward, the_leash, measuring_kl,
        compute_rewards, entropy_bonus, mode_collapse, ppo_loop, bug_museum, leash_today, dpo,
    )
    for exercise in module.EXERCISES
}  # fmt: skip
_tried: set[str] = set()
_done: set[str] = set()
_unnamed: Counter[str] = Counter()
"""How often an exercise has failed for a reason that nobody knows."""
_cells = watch()


class Source(str):
    """Source code that a notebook shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


def check(attempt: object, name: str | None = None) -> Verdict:
    """Say whether an attempt is right, not done yet, or which mistake it makes.

    Args:
        attempt: the function you wrote, or your answer to a question.
        name: name of the exercise; if left out, the name of the function.

    Raises:
        ValueError: there is no such exercise.

    >>> check(lambda responses, eos_id: None, "response_mask")
    Not done yet: write response_mask in the cell above.
    """
    exercise = _find(str(name or getattr(attempt, "__name__", "")))
    if _cells is not None and (error := _cells.failure(exercise.name)):
        text = tr(
            "Not done yet: the cell that sets {name} has stopped with {error}, and this check "
            "would judge an older answer. Correct that cell and run it again.",
            name=exercise.name, error=error,
        )  # fmt: skip
        return Verdict("not done yet", text)
    return _remember(exercise, verdict_on(attempt, exercise))


def verdict_on(attempt: object, exercise: Exercise | Choice) -> Verdict:
    """What `check` says to somebody of whom it knows nothing else: for those who grade.

    Raises:
        ValueError: the exercise wants a function, and the attempt is none.
    """
    if isinstance(exercise, Choice):
        return judge(exercise, attempt)
    if not callable(attempt):
        raise ValueError(f"{exercise.name} wants a function, got {attempt!r}; leave out its ( )")
    return diagnose(exercise, attempt)


def solution(name: str) -> Source:
    """The source of the package's own function, after `check` has seen an attempt of yours.

    Raises:
        ValueError: there is no such exercise.
    """
    exercise = _find(name)
    if name not in _tried:
        text = "Try first: solution({name!r}) opens once check has seen an attempt of yours."
        return Source(tr(text, name=name))
    if isinstance(exercise, Choice):
        return Source(f"{exercise.answer}. {tr(exercise.reason)}")
    shown = (exercise.reference, *exercise.helpers)
    return Source("\n\n".join(textwrap.dedent(inspect.getsource(f)) for f in shown))


def _remember(exercise: Exercise | Choice, verdict: Verdict) -> Verdict:
    """Keep what was done, and add to a verdict what follows from all before it."""
    name = exercise.name
    if isinstance(exercise, Exercise):
        _done.discard(name)  # a choice stays done while one reads why the others are wrong
    if verdict.status == "not done yet":
        return verdict
    _tried.add(name)
    if verdict.status == "right":
        _done.add(name)
        _unnamed.pop(name, None)
        notebook = exercise.section.split(":")[0]
        here = [
            e.name
            for e in EXERCISES.values()
            if e.section.startswith(f"{notebook}:") and e.curious == exercise.curious
        ]
        counted = (
            "{n} of {total} exercises for the curious are done."
            if exercise.curious
            else "{n} of {total} exercises of this notebook are done."
        )
        more = tr(counted, n=len(_done.intersection(here)), total=len(here))
        return verdict._replace(text=f"{verdict.text}\n{more}")
    if verdict.status == "wrong" and isinstance(exercise, Exercise):
        _unnamed[name] += 1
        more = more_help(exercise, _unnamed[name])
        return verdict._replace(text="\n".join(filter(None, [verdict.text, more])))
    return verdict


def _find(name: str) -> Exercise | Choice:
    if name not in EXERCISES:
        raise ValueError(f"no exercise is called {name!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[name]
