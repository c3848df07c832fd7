"""Notebook 09's own pieces, compared with a direct computation."""

import math

import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.exercises.ppo_loop import _variant
from rlhf_lab.lessons import ppo_loop as loop
from rlhf_lab.lessons.ppo_loop import Run
from rlhf_lab.report import Metrics, metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.trainer import StepStats


def stats(**changed):
    numbers = dict.fromkeys(StepStats._fields, 0.0)
    return StepStats(**{**numbers, **changed})


def test_the_policy_learns_from_whitened_advantages_and_the_critic_does_not():
    rewards = torch.tensor([[0.0, 0.0, 6.0], [0.0, 2.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    zeros = torch.zeros_like(rewards)
    advantages, returns = loop.advantages_and_returns(rewards, zeros, mask, lam=1.0)
    assert returns.tolist() == [[6, 6, 6], [2, 2, 0]]
    chosen = advantages[mask.bool()]
    assert (chosen.mean().abs() < 1e-12, chosen.std().item()) == (True, pytest.approx(1))


def test_word_logprobs_by_hand():
    policy = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]], dtype=torch.float64)
    p = loop.word_logprobs(policy, torch.tensor([[1, 0], [0, 0], [1, 1]])).exp()
    expected = torch.tensor([[0.75, 0.8], [0.25, 0.8], [0.75, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(p, expected)


def test_one_update_by_hand():
    """One position, two words, one of each sampled; ratio 1, so the step is the plain gradient."""
    policy, mask = torch.zeros(1, 2, dtype=torch.float64), torch.ones(2, 1)
    responses, scores = torch.tensor([[0], [1]]), torch.tensor([1.0, -1.0]).double()
    new = loop.ppo_update(policy, policy, responses, mask, scores, 0.3, 0.2, 0.1, 1)
    a = 1 / math.sqrt(2)  # ±1 whitened, with Bessel's correction
    # ∇ of the mean gain: ½·(a·(½, −½) − a·(−½, ½)) = a·(½, −½)
    expected = 0.1 * a / 2 * torch.tensor([[1.0, -1.0]]).double()
    torch.testing.assert_close(new, expected)
    assert not new.requires_grad


def test_many_updates_come_to_the_optimum():
    generator, ref = torch.Generator().manual_seed(1), torch.zeros(1, 3, dtype=torch.float64)
    policy, mask = ref, torch.ones(512, 1, dtype=torch.bool)
    for _ in range(60):
        p = policy.softmax(1)
        responses = torch.multinomial(p, 512, replacement=True, generator=generator).T
        scores = (responses[:, 0] == 1).double()
        policy = loop.ppo_update(policy, ref, responses, mask, scores, 1.0, 0.2, 0.2, 4)
    best = math.e / (math.e + 2)
    assert policy.softmax(1)[0, 1].item() == pytest.approx(best, abs=0.06)


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def run(world):
    trainer = Trainer(world, PPOConfig(eta=0.3, seed=0, dtype="float64", batch_size=16))
    return loop.exact_run(world, trainer, at=(1, 3), every_step=True), trainer


def test_a_run_is_looked_at_exactly(world, run):
    run, trainer = run
    assert [i for i, _ in run.path] == [0, 1, 3]
    assert run.path[0][1].kl == pytest.approx(0, abs=1e-12)
    wanted = metrics(world, policy_logprobs(world, trainer.policy))
    assert run.path[-1][1] == pytest.approx(wanted, abs=1e-4)
    assert run.best == metrics(world, optimum_logprobs(world, 0.3, 0.0))
    assert len(run.history) == 3


def test_every_step_is_measured_from_the_policy_that_sampled_to_the_one_that_results(world, run):
    """KL(π_old ‖ π), the mean over both prompts; before the first step it is 0."""
    trainer = Trainer(world, PPOConfig(eta=0.3, seed=0, dtype="float64", batch_size=16))
    expected, old = [], policy_logprobs(world, trainer.policy)
    for _ in range(3):
        trainer.step()
        new = policy_logprobs(world, trainer.policy)
        expected.append(sum(old[p].exp() @ (old[p] - new[p]) for p in old).item() / 2)
        old = new
    assert run[0].moved == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 1e-3


def test_regret_is_what_is_missing_from_the_best_objective(run):
    run, _ = run
    assert run.regret(run.best) == 0
    start = run.path[0][1]
    best = run.best.score - 0.3 * run.best.kl
    assert run.regret(start) == pytest.approx(best - start.score)
    far = Run(0.5, [], [], Metrics(2.0, 0.0, 1.0, 0.0)).regret(Metrics(1.0, 0.0, 3.0, 0.0))
    assert far == (2.0 - 0.5) - (1.0 - 1.5)


def test_the_landscape_shows_frontier_path_optimum_and_gauge(world, run):
    figure = loop.landscape_figure(world, [run[0], run[0]])
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    path, best = lines["PPO"], lines["π*, optimum"]
    assert path.get_xdata().tolist() == [m.kl for _, m in run[0].path]
    assert best.get_ydata()[0] == run[0].best.score
    bottom, top = lines["regret"].get_ydata()
    assert top - bottom == pytest.approx(run[0].regret(run[0].path[-1][1]))
    assert ax.get_title() == f"η = 0.3: regret {top - bottom:.2f}"
    scores = lines["frontier: best score at each KL"].get_ydata()
    assert (scores[1:] > scores[:-1]).all()


def test_the_zoom_shows_the_whole_regret(world):
    home, far, best = Metrics(0, 0, 0, 6), Metrics(1.0, 0, 1.5, 2), Metrics(1.1, 0, 1.2, 3)
    run = Run(0.5, [], [(0, home), (9, far)], best)
    (inset,) = loop.landscape_figure(world, [run, run]).axes[0].child_axes
    (low, high), (left, right) = inset.get_ylim(), inset.get_xlim()
    assert low < far.score < far.score + run.regret(far) < high
    assert left < run.best.kl < far.kl < right


@pytest.mark.parametrize(
    ("bug", "ends"), [("none", 0.71), ("to reference", 0.4), ("old moves", 0.71)]
)
def test_of_two_broken_lines_the_last_loop_shows_one(bug, ends):
    """The exercise of the last section asks for this: 40 iterations, and where π(word 1) ends."""
    generator, ref = torch.Generator().manual_seed(0), torch.zeros(3, 4, dtype=torch.float64)
    policy, mask = ref.clone(), torch.ones(64, 3, dtype=torch.bool)
    for _ in range(40):
        responses = torch.multinomial(policy.softmax(1), 64, True, generator=generator).T
        scores = (responses == 1).double().sum(1)
        policy = _variant(policy, ref, responses, mask, scores, 0.5, 0.2, 0.5, 4, bug=bug)
    assert policy.softmax(1)[:, 1].mean().item() == pytest.approx(ends, abs=0.02)


def test_two_distances_are_per_response():
    history = [stats(iteration=1, kl=0.5, score=1.2)]
    left, right = loop.two_kls_figure(history, [0.4]).axes
    assert [line.get_ydata()[0] for line in left.lines] == [0.5, 0.4]
    assert [line.get_ydata()[0] for line in right.lines] == [1.2]  # and no loss beside it


def test_the_clip_is_flat_on_the_right_side_only():
    good, bad = (ax.lines[1].get_ydata() for ax in loop.clip_figure(0.2).axes)
    assert good[-1] == pytest.approx(-1.2)
    assert good[0] == pytest.approx(-0.4)
    assert bad[0] == pytest.approx(0.8)
    assert bad[-1] == pytest.approx(1.8)
