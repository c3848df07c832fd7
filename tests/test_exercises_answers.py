"""The checks understand what students write: the answers of tests/answers/ hold them to it."""

import importlib.util
import time
from pathlib import Path

import pytest
from answers import newcomers, reviews, students

from rlhf_lab.exercises import check

ROOT = Path(__file__).parent.parent
SETS = {part.__name__: part.ANSWERS for part in (reviews, students, newcomers)}
FLOOR = 0.8
"""The share of the wrong answers that must be told what is wrong, in each of the sets."""


@pytest.fixture(scope="module")
def verdicts():
    found = {}
    for name, answers in SETS.items():
        found[name] = []
        for answer in answers:
            begin = time.process_time()
            verdict = check(answer.attempt, answer.exercise)
            found[name].append((answer, verdict, time.process_time() - begin))
    return found


def label(answer):
    return answer.exercise, answer.says


@pytest.mark.parametrize("name", SETS)
def test_no_right_answer_is_refused(name, verdicts):
    assert not [label(a) for a, v, _ in verdicts[name] if not a.accepts and v.status != "right"]


@pytest.mark.parametrize("name", SETS)
def test_no_wrong_answer_is_accepted(name, verdicts):
    assert not [label(a) for a, v, _ in verdicts[name] if a.accepts and v.status == "right"]


@pytest.mark.parametrize("name", SETS)
def test_no_diagnosis_is_wrong(name, verdicts):
    """Silence is allowed; a diagnosis that was not judged to be true of the answer is not."""
    said = [(a, v.mistake) for a, v, _ in verdicts[name] if v.mistake]
    assert not [(label(a), mistake) for a, mistake in said if mistake not in a.accepts]


@pytest.mark.parametrize("name", SETS)
def test_most_wrong_answers_are_told_what_is_wrong(name, verdicts):
    told = [bool(v.mistake) for a, v, _ in verdicts[name] if a.accepts]
    assert sum(told) >= FLOOR * len(told)


def test_a_check_costs_less_than_a_second(verdicts):
    """The median, because a busy machine makes single ones slow; the slowest may cost some."""
    costs = sorted(cost for found in verdicts.values() for *_, cost in found)
    assert costs[len(costs) // 2] < 0.2
    assert costs[int(0.98 * len(costs))] < 1


def test_the_page_of_counts_is_up_to_date(verdicts):
    spec = importlib.util.spec_from_file_location("checkers", ROOT / "tools" / "checkers.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.page(*([(a, v) for a, v, _ in verdicts[name]] for name in SETS))
    assert text == (ROOT / tool.PAGE).read_text("utf-8"), "run python tools/checkers.py"
