"""The museum: its clean trainer is the package's mathematics, its bugs are one line each."""

import dataclasses
import inspect
import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch

from rlhf_lab import compute_rewards, exact, policy_loss
from rlhf_lab.lessons.museum import invariants as inv
from rlhf_lab.lessons.museum import language as lang
from rlhf_lab.lessons.museum import steps, symptoms
from rlhf_lab.lessons.museum.exhibits import (
    ADAPTIVE,
    EXHIBITS,
    IN_LOSS,
    PLAIN,
    WITH_BONUS,
    changed_lines,
)
from rlhf_lab.lessons.museum.figures import (
    exhibit_dashboard,
    matrix,
    panels_figure,
    placard,
    room,
    two_tests,
)
from rlhf_lab.lessons.museum.steps import CLEAN
from rlhf_lab.lessons.museum.trainer import BEST, ETA, run
from rlhf_lab.ui import Knobs

LETTERS = list(EXHIBITS)


def batch():
    return inv._collect(CLEAN)


def test_the_language_adds_up():
    L = lang.LANGUAGE
    p = L.ref_logprobs.exp()
    assert (len(L.responses), p.sum().item()) == (341, pytest.approx(1, abs=1e-12))
    assert (p @ L.scores).abs() < 1e-12
    assert p @ L.scores.square() == pytest.approx(1, abs=1e-12)
    assert lang.score(L.responses).equal(L.scores)
    best = L.scores.argmax().item()
    assert lang.text(best) == "very great very great"


def test_a_policy_is_the_same_row_by_row_and_as_tables():
    L, policy = lang.LANGUAGE, inv.PROBE
    picked = policy.log_softmax(1)[lang.states_of(L.responses)]
    logprobs = picked.gather(2, L.responses.unsqueeze(2)).squeeze(2)
    mask = steps.which_tokens(L.responses)
    expected = exact.sequence_logprobs(lang.tables_of(policy))
    torch.testing.assert_close((logprobs * mask).sum(1), expected)


def test_the_exact_batch_holds_each_response_as_often_as_the_policy_says_it():
    counts = torch.bincount(inv._NUMBER, minlength=341).double() / len(inv.BATCH)
    torch.testing.assert_close(counts, inv._LOGPROBS.exp())


def test_samples_follow_the_policy():
    responses = steps.sample(inv.PROBE, 50_000, torch.Generator().manual_seed(1))
    shares = torch.bincount(lang.LANGUAGE.number[tuple(responses.T)], minlength=341) / 50_000
    # 0.005 is at least 4 standard errors of any share up to 0.08, and no response has more.
    assert (shares - inv._LOGPROBS.exp()).abs().max() < 0.005


def test_what_the_steps_spell_out_is_the_packages_mathematics():
    b = batch()
    rewards = compute_rewards(b.scores, b.logprobs, b.ref_logprobs, b.mask, 0.2).rewards
    torch.testing.assert_close(steps.shaped_rewards(b.scores, b.kls, b.mask, 0.2), rewards)
    moved = b.logprobs + torch.linspace(-1, 1, b.logprobs.numel()).view_as(b.logprobs).double()
    expected = policy_loss(moved, b.logprobs, b.advantages, b.mask, clip=0.2).loss
    torch.testing.assert_close(steps.surrogate(moved, b, 0.2), expected)


@pytest.mark.parametrize("letter", LETTERS)
def test_every_exhibit_is_wrong_in_one_line_and_caught(letter):
    exhibit = EXHIBITS[letter]
    clean = getattr(CLEAN, exhibit.step)
    assert len(changed_lines(clean, exhibit.variant)) == 1
    assert inspect.signature(clean) == inspect.signature(exhibit.variant)
    assert all(line in placard(exhibit) for line in exhibit.lines)
    assert inv.caught_by(exhibit.steps)


def test_the_clean_trainer_breaks_nothing():
    assert inv.caught_by(CLEAN) == []


def test_every_invariant_is_needed_or_named_by_some_exhibit():
    caught = [name for e in EXHIBITS.values() for name in inv.caught_by(e.steps)]
    assert set(caught) == {i.name for i in inv.INVARIANTS}


def test_a_change_of_two_lines_is_seen():
    assert changed_lines(steps.penalty, steps.penalty) == []
    assert len(changed_lines(steps.which_tokens, steps.penalty)) == 1
    with pytest.raises(ValueError, match="zip"):
        changed_lines(steps.penalty, steps.surrogate)


@pytest.mark.parametrize("settings", [PLAIN, IN_LOSS, WITH_BONUS, ADAPTIVE])
def test_another_seed_of_the_clean_trainer_shows_no_symptom(settings):
    other = symptoms.clean_run(dataclasses.replace(settings, seed=1))
    signs = symptoms.signs(other, symptoms.clean_run(settings))
    assert not any(signs.values()), signs


def test_the_clean_trainer_comes_near_the_optimum_and_its_log_is_true():
    records = symptoms.clean_run(PLAIN)
    first, last = records[0], symptoms.end(records)
    assert first.exact_score == pytest.approx(0, abs=1e-12)
    assert (first.kl, first.exact_kl) == (0, pytest.approx(0, abs=1e-12))
    assert first.regret == pytest.approx(BEST.item(), abs=1e-12)
    assert 0 < last.regret < 0.05
    assert abs(last.kl - last.exact_kl) < 0.1
    assert last.score - ETA * last.exact_kl == pytest.approx(BEST.item() - last.regret, abs=0.02)


def test_runs_repeat():
    short = dataclasses.replace(PLAIN, iterations=3)
    assert run(CLEAN, short) == run(CLEAN, short)


def test_the_adaptive_trainer_holds_its_target():
    assert abs(symptoms.end(symptoms.clean_run(ADAPTIVE)).exact_kl - 1.5) < 0.2


def test_what_the_notebook_says_of_single_exhibits():
    a = symptoms.symptoms(EXHIBITS["A"])
    assert a.signs["score"] == 1
    assert a.kl_is_wrong
    assert a.regret > 0.3
    assert symptoms.symptoms(EXHIBITS["Q"]).silent
    assert not a.silent


@pytest.mark.slow
def test_two_tests_that_would_let_these_through():
    table, two = symptoms.all_symptoms(), {"update is ∇J", "samples are π's"}
    missed = [letter for letter, seen in table.items() if not two & set(seen.caught_by)]
    assert missed == [*"AFHJLNQRUVW"]


def test_few_tokens_reach_the_clip_so_its_side_hardly_matters():
    shares = []

    def watched(logprobs, batch, clip):
        log_ratio, good = (logprobs - batch.logprobs).detach(), batch.advantages > 0
        beyond = torch.where(good, log_ratio > math.log1p(clip), log_ratio < math.log1p(-clip))
        shares.append(beyond[batch.mask].double().mean().item())
        return steps.surrogate(logprobs, batch, clip)

    run(dataclasses.replace(CLEAN, surrogate=watched))
    assert 0 < sum(shares) / len(shares) < 0.05


def test_pictures_and_words_carry_the_numbers():
    figure, words = exhibit_dashboard("A")
    assert len(figure.axes) == 6
    assert len(figure.axes[1].lines) == 3
    assert f"regret {symptoms.end(symptoms.exhibit_run('A')).regret:.2f}" in words
    figure, words = exhibit_dashboard("A", exact=False)
    assert len(figure.axes[1].lines) == 2
    assert "Exact" not in words
    knobs = Knobs(room, exhibit=["A", "B"], exact=["hidden", "shown"], start={"exhibit": "B"})
    assert knobs.words.startswith("Exhibit B, ")
    assert "Exact" not in knobs.words
    assert [len(room("B", how)[0].axes[1].lines) for how in ("hidden", "shown")] == [2, 3]
    assert len(panels_figure([("A", "kl")], exact=False).axes[0].lines) == 2
    assert len(panels_figure([("A", "kl"), ("A", "eta")]).axes) == 2


@pytest.mark.slow
def test_the_matrix_shows_every_broken_invariant():
    (ax,) = matrix().axes
    squares = [line for line in ax.lines if line.get_marker() == "s"]
    table = symptoms.all_symptoms()
    bold = [text.get_text()[-1] for text in ax.get_yticklabels() if text.get_weight() == "bold"]
    assert bold == [letter for letter, seen in table.items() if seen.silent] == ["Q", "V", "X"]
    assert len(squares) == sum(len(s.caught_by) for s in table.values())
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    feet = [int(text.get_text()) for text in ax.texts]
    assert feet == [sum(i.name in s.caught_by for s in table.values()) for i in inv.INVARIANTS]
    bad = sum(s.kl_is_wrong + (s.regret > symptoms.EXCESS) for s in table.values())
    assert len(crosses) == bad


@pytest.mark.slow
def test_of_two_tests_the_picture_and_the_words_agree():
    figure, words = two_tests("update is ∇J", "bonus is −β·H")
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == LETTERS
    free = [text.get_text() for text in texts if text.get_fontweight() == "bold"]
    assert free == ["A", "E", "F", "H", "L", "N", "Q", "U", "V"]
    assert words.startswith("15 of 24 are caught. These get through: A (the reference moves along)")
    assert re.findall(r"\b([A-X]) \(", words) == free
    caught = [set(seen.caught_by) for seen in symptoms.all_symptoms().values()]
    pairs = itertools.combinations([invariant.name for invariant in inv.INVARIANTS], 2)
    counts = sorted(sum(bool(names & {*pair}) for names in caught) for pair in pairs)
    assert counts[-2] < counts[-1] == 15  # the notebook says that no other pair does as well
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert len(crosses) == sum(s.regret > symptoms.EXCESS for s in symptoms.all_symptoms().values())


def test_the_notebook_says_what_each_invariant_asks():
    path = Path(__file__).parent.parent / "notebooks" / "10_bug_museum.ipynb"
    cells = {c["id"]: "".join(c["source"]) for c in json.loads(path.read_text("utf-8"))["cells"]}
    names = set(re.findall(r"^\| (.+?) \| .+ \|$", cells["c52"], re.MULTILINE)) - {"name"}
    assert names == {invariant.name for invariant in inv.INVARIANTS}
