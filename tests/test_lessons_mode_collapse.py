"""Notebook 08's flows, races and rescues against direct computations."""

import math

import pytest
import torch

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.lessons import mode_collapse as lesson
from rlhf_lab.ppo import gae
from rlhf_lab.report import said

START = torch.tensor([0.36, 0.24, 0.40], dtype=torch.float64)
SCORES = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)


def vanilla(logprobs):
    p = logprobs.exp()
    return p * (SCORES - p @ SCORES)


def natural(logprobs):
    return SCORES - logprobs.exp() @ SCORES


def test_the_natural_flow_is_the_tilt_by_time():
    """dθ/dt = r − E[r] has the solution π_t ∝ π_0·exp(t·r)."""
    flow = lesson.flow(START, natural, [0.5, 3.0])
    assert list(flow) == [0.0, 0.5, 3.0]
    for t, theta in flow.items():
        tilted = (START.log() + t * SCORES).softmax(0)
        torch.testing.assert_close(theta.softmax(0), tilted, rtol=0, atol=1e-5)


def test_the_vanilla_flow_keeps_its_invariant_and_parts_the_tied():
    flow = lesson.flow(START, vanilla, [1, 100, 10_000])
    kept = [((-theta[0]).exp() - (-theta[1]).exp()).item() for theta in flow.values()]
    assert kept == pytest.approx([1 / 0.36 - 1 / 0.24] * 4, abs=1e-4)
    ratios = [(theta[0] - theta[1]).exp().item() for theta in flow.values()]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 40


def score_function(theta, said, scores, baseline):
    """The sampled gradient of one run, answer by answer, with autograd."""
    theta = theta.clone().requires_grad_(True)
    logprobs = theta.log_softmax(0)
    paid = scores[said]
    paid = paid - baseline * paid.mean()
    (push,) = torch.autograd.grad((paid * logprobs[said]).mean(), theta, retain_graph=True)
    (pull,) = torch.autograd.grad(-(logprobs.exp() @ logprobs), theta)
    return push, pull


@pytest.mark.parametrize("baseline", [0.0, 1.0])
def test_a_race_takes_steps_of_the_sampled_gradient(baseline):
    scores = torch.tensor([1.0, 0.8], dtype=torch.float64)
    path = lesson.race(0.2, (1.0, 0.8), 0.3, batch=4, lr=2.0, steps=3, baseline=baseline)
    generator = torch.Generator().manual_seed(0)
    theta = torch.tensor([0.3, 0.7], dtype=torch.float64).log().repeat(400, 1)
    for p in path:
        torch.testing.assert_close(theta.softmax(1)[:, 0], p)
        dice = torch.rand(400, 4, generator=generator, dtype=torch.float64)
        for run in range(400):
            said = (dice[run] >= p[run]).long()
            push, pull = score_function(theta[run], said, scores, baseline)
            theta[run] += 2.0 * (push + 0.2 * pull)


def test_runs_count_as_collapsed_on_either_side():
    paths = torch.tensor([[0.5] * 5, [0.95, 0.05, 0.5, 0.89, 0.11]])
    assert lesson.collapsed(paths) == pytest.approx(0.4)


def slow_clipped_entropy(low, high, iterations, runs, seed):
    """The same, sample by sample, with autograd on the surrogate itself."""
    generator = torch.Generator().manual_seed(seed)
    start = 1 / torch.arange(1, 17, dtype=torch.float64)
    logits = (start / start.sum()).log().repeat(runs, 1)
    for _ in range(iterations):
        p = logits.softmax(1)
        uniforms = torch.rand(runs, 64, generator=generator, dtype=torch.float64)
        said = (uniforms.unsqueeze(2) > p.cumsum(1).unsqueeze(1)).sum(2).clamp(max=15)
        advantages = 2 * torch.randint(0, 2, said.shape, generator=generator).double() - 1
        old = logits.log_softmax(1).gather(1, said)
        for _ in range(8):
            logits = logits.detach().requires_grad_(True)
            ratio = (logits.log_softmax(1).gather(1, said) - old).exp()
            clipped = ratio.clamp(1 - low, 1 + high)
            gain = torch.minimum(ratio * advantages, clipped * advantages).mean(1).sum()
            logits = logits + 2.0 * torch.autograd.grad(gain, logits)[0]
    p = logits.detach().softmax(1)
    return torch.special.entr(p).sum(1).mean().item()


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, math.inf), (math.inf, 0.2)])
def test_the_clip_is_ppos(low, high):
    fast = lesson.clipped_entropy(low, high, iterations=3, runs=4, seed=2)
    assert fast[-1] == pytest.approx(slow_clipped_entropy(low, high, 3, 4, 2), abs=1e-9)


def test_the_upper_clip_lowers_entropy_and_the_lower_protects_it():
    free = math.inf
    upper, lower, both, higher = (
        lesson.clipped_entropy(*bounds, runs=30)[-1]
        for bounds in ((free, 0.2), (0.2, free), (0.2, 0.2), (0.2, 0.28))
    )
    assert upper + 0.5 < min(lower, both, higher)
    assert both < higher


def test_the_wait_is_that_of_the_bonus_step_by_step():
    """Two logits, each pushed by −β·p·(log p + H), in small steps of time."""
    theta = torch.tensor([0.01, 0.99], dtype=torch.float64).log()
    time = 0.0
    while theta.softmax(0)[0] < 0.1:
        logprobs = theta.log_softmax(0)
        p = logprobs.exp()
        theta = theta - 0.02 * 0.1 * p * (logprobs - p @ logprobs)
        time += 0.02
    assert lesson.wait(0.01) == pytest.approx(time, rel=1e-3)
    assert lesson.wait(0.01, beta=0.2) == pytest.approx(lesson.wait(0.01) / 2)


@pytest.mark.parametrize("rule", ["plain", "natural", "adam"])
def test_a_late_bonus_takes_steps_along_the_gradient_of_the_entropy(rule):
    """Against autograd and, for Adam, torch's own."""
    theta = torch.tensor([1e-3, 1 - 1e-3], dtype=torch.float64).log().requires_grad_(True)
    adam = torch.optim.Adam([theta], lr=0.02, eps=1e-7)
    for _ in range(30):
        bonus = 0.3 * torch.special.entr(theta.softmax(0)).sum()
        (gradient,) = torch.autograd.grad(bonus, theta)
        if rule == "adam":
            theta.grad = -gradient
            adam.step()
        else:
            divided = gradient / theta.detach().softmax(0) if rule == "natural" else gradient
            theta.data += 0.02 * divided
    found = lesson.revive(1e-3, 0.3, rule, lr=0.02, eps=1e-7, steps=30)
    assert found == pytest.approx(theta.softmax(0)[0].item(), rel=1e-9)


def test_of_a_dead_answer_only_plain_steps_and_a_large_epsilon_say_never():
    ends = {
        (rule, eps): lesson.revive(1e-9, 0.1, rule, lr=lr, eps=eps, steps=600)
        for rule, lr, eps in (
            ("plain", 1.0, 1e-8), ("natural", 1.0, 1e-8), ("adam", 0.01, 1e-5), ("adam", 0.01, 1e-8)
        )
    }  # fmt: skip
    back = {pair for pair, p in ends.items() if p > 0.1}
    assert back == {("natural", 1e-8), ("adam", 1e-8)}
    assert max(p for pair, p in ends.items() if pair not in back) < 2e-9


def test_equal_runs_are_the_trainers_on_a_score_of_one():
    world = load_world()
    (run,) = lesson.equal_runs(world, "food", seeds=[4], iterations=2, lam=0.9)
    fields = (world.sft, world.reward_trunk, world.reward_head, world.prompts)
    trainer = Trainer(
        lesson.EqualScores(*fields), PPOConfig(eta=0.0, seed=4, lam=0.9, dtype="float64")
    )
    for _ in range(2):
        stats = trainer.step()
        assert stats.score == 1
    with torch.no_grad():
        p = world.logprobs(trainer.policy, "food").exp()
    assert run.entropy == pytest.approx(torch.special.entr(p).sum().item(), abs=1e-6)
    assert run.share == pytest.approx(p.max().item(), abs=1e-6)
    rollout = trainer.rollout
    raw = gae(rollout.rewards, rollout.values, rollout.mask, gamma=1.0, lam=0.9).advantages
    assert run.spread == pytest.approx(raw[rollout.mask].std().item(), rel=1e-6)


def test_ppo_moves_although_there_is_nothing_to_learn():
    """Every response scores 1, and five iterations take more than two nats of entropy away."""
    for run in lesson.equal_runs(load_world(), "food", seeds=[0, 1], iterations=5):
        assert run.entropy < 6.11 - 2


def test_a_rescue_starts_from_the_policy_it_is_given():
    world = load_world()
    collapsed = Trainer(world, PPOConfig(eta=0.0, seed=3, dtype="float64"))
    for _ in range(12):
        collapsed.step()
    before = {name: p.clone() for name, p in collapsed.policy.named_parameters()}
    found = lesson.rescue(world, collapsed.policy, eta=0.3, beta=0.1, iterations=2, seed=1)

    own = Trainer(world, PPOConfig(eta=0.3, beta=0.1, seed=1, dtype="float64"))
    own.policy.load_state_dict(collapsed.policy.state_dict())
    for at in found:
        stats = own.step()
        assert at[1:] == (stats.entropy, stats.distinct, said(own.rollout, 1))
        assert at.gold == world.gold(own.rollout.tokens, own.rollout.responses).mean().item()
    for name, p in collapsed.policy.named_parameters():
        assert torch.equal(p, before[name])


def test_figures_draw_what_they_are_given():
    paths = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.1, 0.6]], dtype=torch.float64)
    left, right = lesson.fate_figure(paths).axes
    assert left.images[0].get_array()[:, -1].tolist() == [0.1, 0.6, 0.9]
    assert sum(bar.get_height() for bar in right.patches) == 3
    assert [ax.get_title() for ax in lesson.fates_figure({"x": paths, "y": paths}).axes] == [
        "x",
        "y",
    ]
    run = [lesson.Rescue(-2.0, 1.0, 3, "a"), lesson.Rescue(1.0, 2.0, 9, "b")]
    left, right = lesson.rescue_figure({"η": run}).axes
    assert list(left.lines[0].get_ydata()) == [-2.0, 1.0]
    assert list(right.lines[0].get_ydata()) == [1.0, 2.0]
