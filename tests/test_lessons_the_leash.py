"""Notebook 04's helpers, compared with direct computations on small trees and worlds."""

import math

import pytest
import torch

from rlhf_lab import exact, plots
from rlhf_lab.lessons import the_leash as lesson
from rlhf_lab.lessons.paths import Point
from rlhf_lab.rewards import compute_rewards

V, T = 4, 3


def numbers(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.fixture
def tree():
    """log π_ref as tables, scores as tables, and both as vectors."""
    ref = [numbers(t, (V - 1) ** t, V).log_softmax(dim=1) for t in range(T)]
    joint = exact.sequence_logprobs(ref)
    scores = numbers(9, len(joint))
    return ref, exact.unflatten(scores, V, T), joint, scores


@pytest.fixture
def optima(tree):
    _, _, ref, scores = tree
    points = []
    for eta in (4.0, 2.0, 1.0, 0.5, 0.25):
        policy = exact.optimum(ref, scores, eta).logprobs
        e = exact.evaluate(policy, ref, scores, scores)
        points.append(Point(eta, e.score.item(), e.gold.item(), e.kl.item(), "great ."))
    return points


def test_total_reward_of_responses_of_different_length():
    """By hand: 2 − 0.5·(0.4 + 0.1) and −1 − 0.5·(−0.6); numbers off the mask do not count."""
    logprobs = torch.tensor([[-1.0, -0.5], [-2.0, -9.0]], dtype=torch.float64)
    ref = torch.tensor([[-1.4, -0.6], [-1.4, -1.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    total = lesson.total_reward(torch.tensor([2.0, -1.0]), logprobs, ref, mask, eta=0.5)
    torch.testing.assert_close(total, torch.tensor([1.75, -0.7], dtype=torch.float64))


def test_total_reward_is_the_sum_of_the_rewards_of_the_tokens():
    logprobs, ref = -numbers(3, 2, 4, T).abs()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    logprobs[2, 2] = -torch.inf
    args = numbers(4, 4), logprobs, ref, mask, 0.3
    torch.testing.assert_close(
        lesson.total_reward(*args), compute_rewards(*args).rewards.sum(dim=1)
    )


def test_the_budget_is_kept_and_used(tree):
    _, _, ref, scores = tree
    etas = [2.0, 1.0, 0.7, 0.5, 0.3]

    def kl(eta):
        p = (ref + scores / eta).log_softmax(dim=0)
        return (p.exp() * (p - ref)).sum().item()

    for eta, tighter in zip(etas[1:], etas, strict=False):
        assert lesson.eta_for_budget(ref, scores, etas, kl(eta) + 1e-9) == eta
        assert lesson.eta_for_budget(ref, scores, etas[::-1], kl(eta) - 1e-9) == tighter
    with pytest.raises(ValueError, match="add a larger one"):
        lesson.eta_for_budget(ref, scores, etas, 1e-6)


def test_natural_steps_follow_the_optimum_of_eta_1_over_t(tree):
    """Halving the step halves the distance; a bandit needs no small steps at all."""
    tables, score_tables, ref, scores = tree
    best = exact.optimum(ref, scores, eta=0.5).logprobs.exp()
    apart = []
    for steps in (50, 100):
        end = lesson.walk(lesson.natural_step, tables, score_tables, 2 / steps, steps)[-1]
        apart.append(0.5 * (end.exp() - best).abs().sum().item())
    assert apart[1] == pytest.approx(apart[0] / 2, rel=0.05)
    assert apart[1] < 0.01
    bandit, r = [numbers(5, 1, V).log_softmax(dim=1)], numbers(6, 1, V)
    one = lesson.walk(lesson.natural_step, bandit, [r], 2.0, 1)[-1]
    torch.testing.assert_close(one, exact.optimum(bandit[0][0], r[0], eta=0.5).logprobs)


def test_an_ordinary_step_ascends_the_gradient(tree):
    """Its direction, compared with autograd through E[r], with the logits as leaves."""
    tables, score_tables, _, scores = tree
    logits = [table.clone().requires_grad_(True) for table in tables]
    joint = exact.sequence_logprobs([z.log_softmax(dim=1) for z in logits])
    gradient = torch.autograd.grad(joint.exp() @ scores, logits)
    stepped = lesson.ordinary_step(tables, score_tables, 0.1)
    for table, g, after in zip(tables, gradient, stepped, strict=True):
        torch.testing.assert_close((table + 0.1 * g).log_softmax(dim=1), after)


def test_a_walk_shows_its_start_and_every_step(tree):
    tables, score_tables, ref, scores = tree
    seen = lesson.walk(lesson.ordinary_step, tables, score_tables, 0.5, 3)
    assert len(seen) == 4
    torch.testing.assert_close(seen[0], ref)
    rewards = [(logprobs.exp() @ scores).item() for logprobs in seen]
    assert rewards == sorted(rewards)
    assert all(logprobs.exp().sum().item() == pytest.approx(1) for logprobs in seen)


def test_the_tangent_touches_the_frontier_at_the_optimum_only(tree, optima):
    _, _, ref, scores = tree
    _, (ax,) = plots.new_figure(4, 3)
    value, here = lesson.tangent(ax, optima, 1.0)
    assert value == pytest.approx(exact.optimum(ref, scores, 1.0).value.item())
    gaps = [value + at.kl - at.score for at in optima]
    assert gaps[2] == pytest.approx(0, abs=1e-12)
    assert min(gaps[:2] + gaps[3:]) > 0.01
    assert (here.pressure, ax.get_title()) == (1.0, f"η = 1, J* = {value:.2f}")
    line = ax.lines[1]
    assert (line.get_ydata()[1] - line.get_ydata()[0]) / line.get_xdata()[1] == pytest.approx(1)


def test_the_knob_says_the_numbers(optima):
    figure, words = lesson.LeashKnobs({"food": optima}).draw("food", 0.5)
    at = optima[3]
    assert f"E[score] {at.score:.2f} − η · KL {at.kl:.2f} nats" in words
    assert f"J* {at.score - 0.5 * at.kl:.2f}" in words
    assert figure.axes[0].get_xlabel() == "KL(π ‖ π_SFT), nats"


def test_stars_and_regret_have_the_colours_of_the_roads(optima):
    """The bar of η = 2 goes from the end of its road up to J* + η·KL, so its length is J* − J."""
    _, (ax,) = plots.new_figure(4, 3)
    paths = {2.0: optima[:4], 0.5: optima[:2]}
    lesson.roads(ax, {f"η = {eta:g}": points for eta, points in paths.items()})
    roads = [line.get_color() for line in ax.lines[::2]]
    lesson.stars(ax, optima, paths)
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [line.get_markeredgecolor() for line in stars] == roads
    assert {line.get_color() for line in stars} == {plots.YELLOW}
    assert [(s.get_xdata()[0], s.get_ydata()[0]) for s in stars] == [
        (optima[i].kl, optima[i].score) for i in (1, 3)
    ]
    assert [text.get_text() for text in ax.texts] == ["π*, η = 2", "π*, η = 0.5"]
    bars = [line for line in ax.lines if line.get_zorder() == 4]
    for bar, (eta, points), i in zip(bars, paths.items(), (1, 3), strict=True):
        low, high = bar.get_ydata()
        star, end = optima[i], points[-1]
        regret = star.score - eta * star.kl - (end.score - eta * end.kl)
        assert (low, high - low) == pytest.approx((end.score, regret))
        assert high > low + 0.001


def test_roads_end_in_a_larger_mark(optima):
    _, (ax,) = plots.new_figure(4, 3)
    lesson.frontier(ax, optima)
    lesson.roads(ax, {"PPO, η = 1": optima[:3], "PPO, η = 0.5": optima[:4]})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "optimum π*", "PPO, η = 1", "PPO, η = 0.5",
    ]  # fmt: skip
    assert ax.lines[2].get_xdata() == [optima[2].kl]
    assert ax.lines[2].get_markersize() > ax.lines[1].get_markersize()
    assert math.isclose(ax.lines[4].get_ydata()[0], optima[3].score)
