"""Notebook 07's runs and figures against direct computations."""

import math

import numpy as np
import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.lessons import entropy_bonus as lesson
from rlhf_lab.lessons.entropy_bonus import two_answers
from rlhf_lab.report import Metrics


@pytest.mark.parametrize("gap", [0.001, 1.0, 1000.0])
def test_whitened_advantages_make_the_gap_irrelevant_and_β_critical(gap):
    """At rest β·x = 1/√(p(1 − p)), which has no solution below min cosh(u)/u = 1.50888."""
    assert two_answers(1.5, gap, whitened=True)[-1] > 0.999
    p = two_answers(1.52, gap, whitened=True)[-1]
    x = math.log(p / (1 - p))
    assert 1.52 * x == pytest.approx(1 / math.sqrt(p * (1 - p)), rel=1e-6)


@pytest.mark.parametrize(("beta", "gap"), [(0.5, 0.1), (1.0, 1.0), (2.0, 1.0)])
def test_advantages_left_alone_lead_to_the_optimum_of_the_objective(beta, gap):
    path = two_answers(beta, gap, whitened=False)
    assert path[0] == 0.5
    assert path[-1] == pytest.approx(1 / (1 + math.exp(-gap / beta)), abs=1e-9)


def test_runs_end_where_the_trainer_itself_ends():
    world = load_world()
    (run,) = lesson.ppo_runs(world, {(0.3, 0.1): 2}, seed=5)
    trainer = Trainer(world, PPOConfig(eta=0.3, beta=0.1, seed=5, dtype="float64"))
    spreads = []
    for _ in range(2):
        trainer.step()
        spreads.append(lesson.advantage_spread(trainer.rollout))
    with torch.no_grad():
        exact = [world.evaluate(trainer.policy, prompt) for prompt in ("food", "staff")]
    assert (run.eta, run.beta) == (0.3, 0.1)
    assert run.metrics == pytest.approx([(a + b).item() / 2 for a, b in zip(*exact, strict=True)])
    assert run.spreads == tuple(spreads)


def test_the_spread_is_what_whitening_divides_by():
    """The rollout keeps A/σ_A: its mean over the mask is 0, so A − mean A = σ_A·whitened."""
    trainer = Trainer(load_world(), PPOConfig(eta=0.3, dtype="float64"))
    for _ in range(2):  # the first critic says 0 everywhere
        trainer.step()
    r = trainer.rollout
    advantages = (r.returns - r.values)[r.mask]
    rebuilt = lesson.advantage_spread(r) * r.advantages[r.mask]
    torch.testing.assert_close(rebuilt, advantages - advantages.mean(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", [1.509, 1.6, 2.0, 5.0])
def test_whitened_the_first_crossing_holds_and_the_second_lets_go(beta):
    """Each solves β·x·√(p(1 − p)) = 1; just left of the second one comes back, just right not."""
    holds, lets_go = lesson.rest_points(beta)
    for p in (holds, lets_go):
        x = math.log(p / (1 - p))
        assert beta * x * math.sqrt(p * (1 - p)) == pytest.approx(1, abs=1e-9)
    for start in (0.5, holds + 0.9 * (lets_go - holds)):
        end = two_answers(beta, 1.0, whitened=True, steps=20_000, start=start)[-1]
        assert end == pytest.approx(holds, abs=1e-3)
    beyond = lets_go + 0.1 * (1 - lets_go)
    assert two_answers(beta, 1.0, whitened=True, start=beyond)[-1] > 0.9999


def test_below_the_critical_beta_nothing_holds():
    assert lesson.rest_points(1.5088) is None
    assert lesson.rest_points(1.5089) is not None


def test_the_force_figure_marks_both_crossings_and_starts_where_it_is_told():
    figure, words = lesson.force_figure(2.0, 1.0, "whitened", p0=0.99)
    marks = [line.get_xdata()[0] for line in figure.axes[0].lines[2:]]
    assert marks == pytest.approx([math.log(p / (1 - p)) for p in lesson.rest_points(2.0)])
    assert "from 0.99" in words
    assert "ends at 1.000" in words
    assert figure.axes[1].lines[0].get_ydata()[0] == pytest.approx(0.99)


@pytest.mark.parametrize("advantages", ["whitened", "as they are"])
def test_force_figure_says_where_the_better_answer_ends(advantages):
    figure, words = lesson.force_figure(2.0, 1.0, advantages)
    end = two_answers(2.0, 1.0, advantages == "whitened")[-1]
    assert f"ends at {end:.3f}" in words
    push, pull = figure.axes[0].lines[:2]
    x, crossing = push.get_xdata(), math.log(end / (1 - end))
    gaps = push.get_ydata() - pull.get_ydata()
    assert gaps[0] > 0
    assert x[np.argmax(gaps <= 0)] == pytest.approx(crossing, abs=0.03)


def test_small_figures_draw_what_they_are_given():
    figure = lesson.critical_figure([1.0, 3.0])
    assert [ax.get_title() for ax in figure.axes] == [
        "β = 1: ends at 1.000",
        "β = 3: ends at 0.670",
    ]
    ax = figure.axes[0]
    lesson.curves(ax, {"a": [1, 2], "b": [2, 1]}, "title", "steps", "nats")
    assert [list(line.get_ydata()) for line in ax.lines[-2:]] == [[1, 2], [2, 1]]
    assert ax.lines[-1].get_linestyle() != ax.lines[-2].get_linestyle()
    left, right = lesson.forces_figure({"a": [1.6, 1.9]}, {"a": [1.6, 2.6]}, math.log(14)).axes
    for ax, end in ((left, 1.9), (right, 2.6)):
        curve, most = ax.lines
        assert (curve.get_ydata()[-1], most.get_ydata()[0]) == (end, math.log(14))


def test_the_steps_lead_from_the_optimum_to_the_last_rest_point():
    start, best, rest, run = (
        Metrics(0.0, gold, 0.0, h) for gold, h in [(0, 6), (-1, 9), (1, 3), (2, 1)]
    )
    figure = lesson.two_steps_figure(start, [("best", best), ("rest", rest)], [("run", run)])
    (ax,) = figure.axes
    step, rest_of_the_way = [text for text in ax.texts if text.arrow_patch is not None]
    assert (*step.xyann, *step.xy) == (9, -1, 3, 1)
    assert (*rest_of_the_way.xyann, *rest_of_the_way.xy) == (3, 1, 1, 2)
    drawn = {text.get_text(): text.xy for text in ax.texts if text.arrow_patch is None}
    points = {"π_SFT": (6, 0), "best": (9, -1), "rest": (3, 1), "run": (1, 2)}
    assert drawn == points | {"not explained": (2, 1.5)}
