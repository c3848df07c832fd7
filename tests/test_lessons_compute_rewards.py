"""Notebook 06's helpers against closed forms and direct computations."""

import math

import pytest
import torch
from trees import close, random_tree

from rlhf_lab import exact, load_world, plots
from rlhf_lab.kl import exact_kl
from rlhf_lab.language import encode
from rlhf_lab.lessons import compute_rewards as lesson
from rlhf_lab.rewards import AdaptiveKLController, compute_rewards

ONE_BETTER = [torch.tensor([[1.0, 0.0]], dtype=torch.float64)]


@pytest.fixture(scope="module")
def short():
    return lesson.short_reviews(load_world(), "food")


def test_short_reviews_are_the_world_cut_at_three_words(short):
    """The first three tables are the world's; "very good ." is read and scored as in the world."""
    world = load_world()
    for ours, full in zip(short.ref, world.tables("food").tree, strict=False):
        close(ours, full, 1e-5)
    responses = exact.enumerate_responses(14, 3)
    assert len(exact.flatten(short.scores)) == len(responses) == 2380
    wanted = torch.tensor([encode("very good <eos>")])
    index = (responses == wanted).all(1).nonzero().item()
    ours = exact.flatten(short.scores)[index : index + 1]
    close(ours, world.score(world.prompt("food")[None], wanted), 1e-5)


def test_read_agrees_with_the_enumerated_tables():
    world = load_world()
    tokens = torch.tensor([[*encode("food very good"), 0, 0, 0]])
    every = lesson.read(world.sft, tokens, 5)
    tree = world.tables("food").tree
    very, good = encode("very good")
    close(every[0, 0], tree[0][0], 1e-5)
    close(every[0, 1], tree[1][very - 1], 1e-5)
    close(every[0, 2], tree[2][(very - 1) * 13 + good - 1], 1e-5)


def test_tree_kl_is_the_kl_of_whole_responses():
    policy, ref = random_tree(1, 4, 3), random_tree(7, 4, 3)
    log_p, log_ref = exact.sequence_logprobs(policy), exact.sequence_logprobs(ref)
    assert lesson.tree_kl(policy, ref) == pytest.approx(exact_kl(log_p, log_ref).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("mode", "end"), [("kl", 0.5), ("abs", 1), ("mse", 1), ("k3", 1), ("full", 0.6)]
)
def test_who_comes_home_from_06(mode, end):
    flow = lesson.flow(
        lesson.two_tokens(0.6), lesson.two_tokens(0.5), mode, lesson.first_probability,
        steps=400, lr=0.3,
    )  # fmt: skip
    assert flow.measured[0] == pytest.approx(0.6)
    assert flow.measured[-1] == pytest.approx(end, abs=2e-3)
    assert lesson.first_probability(flow.policy) == flow.measured[-1]
    assert len(flow.measured) == 401


def test_with_a_reward_kl_ends_at_the_optimum():
    """Two words, r = (1, 0), η = 2: the odds are e^(1/2)."""
    flow = lesson.flow(
        lesson.two_tokens(0.9), lesson.two_tokens(0.5), "kl", lesson.first_probability,
        scores=ONE_BETTER, eta=2.0, steps=300, lr=0.5,
    )  # fmt: skip
    assert flow.measured[-1] == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-9)


def test_an_ideal_trainer_under_the_controller_rests_at_the_target(short):
    ends = []
    for scale in (1, 10):
        controller = AdaptiveKLController(0.2 * scale, target=1.0)
        path = lesson.follow(controller, short, scale, updates=500, batch=256)
        assert path[-1][1] == pytest.approx(1.0, abs=1e-3)
        ends.append(path[-1][0] / scale)
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
    assert plots.png(lesson.controller_figure({"a": path, "b": path}, target=1.0))


def test_aim_compares_length_and_direction():
    wanted = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for gradient, length, cosine in (
        ([6.0, 8.0], 2, 1), ([-3.0, -4.0], 1, -1), ([-4.0, 3.0], 1, 0), ([0.0, 0.0], 0, 0),
    ):  # fmt: skip
        tables = [torch.tensor([[x]], dtype=torch.float64) for x in gradient]
        assert lesson.aim(tables, wanted) == pytest.approx((length, cosine))


def test_the_strip_shows_what_ppo_sees():
    d = torch.tensor([[0.5, -1.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0]])
    shaped = compute_rewards(torch.tensor([2.0]), d, torch.zeros_like(d), mask, eta=0.5)
    figure = lesson.strips_figure({"kl": (["a", "b"], shaped, 2.0)})
    (diamonds,) = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert list(diamonds.get_ydata()) == [-0.25, 2.5]


@pytest.mark.parametrize(
    ("mode", "home", "begin", "end"),
    [
        ("mse", 0.5, 0.6, 1.0),
        ("mse", 0.7, 0.4, 0.68),
        ("full", 0.9, 0.2, 0.2),
        ("kl", 0.9, 0.2, 0.9),
    ],
)
def test_the_knobs_follow_two_words(mode, home, begin, end):
    figure, said = lesson.draw_two_words(mode, home, begin)
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == mode)
    path = line.get_ydata()
    assert (path[0], path[-1]) == (pytest.approx(begin), pytest.approx(end, abs=0.006))
    assert said.startswith(f"{mode}, home {home:g}: the two words are charged")
    assert said.endswith(f"p {begin:g} → {path[-1]:.3f}")


def test_the_knobs_say_what_is_charged():
    assert "charged +0.18 and -0.22 at" in lesson.draw_two_words("kl", 0.5, 0.6)[1]
    assert "charged +0.02 and +0.02 at" in lesson.draw_two_words("full", 0.5, 0.6)[1]


def test_the_figure_to_remember_has_a_line_per_mode():
    runs = {mode: [0.1, 0.2] for mode in ("kl", "abs", "mse", "full")}
    left, right = lesson.four_modes_figure(runs, runs).axes
    assert [line.get_label() for line in right.lines] == list(runs)
    styles = {(line.get_color(), line.get_linestyle()) for line in right.lines}
    assert len(styles) == 4
    assert left.get_xlabel() == "update"
