"""Notebook 11's experiments against direct computations, sampling, and known numbers."""

import math

import pytest
import torch

from rlhf_lab import exact, groups, kl_in_loss, load_world
from rlhf_lab.binary_groups import binary_rest
from rlhf_lab.gradients import kl_loss_gradient, kl_reward_gradient
from rlhf_lab.lessons import leash_today as lesson
from rlhf_lab.lessons.leash_runs import Record


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def tables(world):
    return world.tables("food")


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()


def test_rloo_advantages_are_rewards_beside_their_siblings():
    scores, p, q = random(6), random(6, 4, seed=1), random(6, 4, seed=2)
    mask = torch.cat([MASK, MASK.flip(0)])
    rewards = [(scores[i] - 0.3 * (p[i] - q[i])[mask[i]].sum()).item() for i in range(6)]
    expected = []
    for i, reward in enumerate(rewards):
        first = 3 * (i // 3)
        others = [rewards[j] for j in range(first, first + 3) if j != i]
        expected.append(reward - sum(others) / 2)
    got = lesson.rloo_advantages(scores, p.requires_grad_(), q, mask, 0.3, 3)
    assert got.tolist() == pytest.approx(expected)
    assert not got.requires_grad


@pytest.mark.parametrize("place", ["k3_ratio", "k3"])
def test_the_pull_in_the_loss_is_the_gradient_of_the_loss(place):
    p, q = random(3, 4).requires_grad_(), random(3, 4, seed=1)
    loss = 3 * kl_in_loss(p, q, MASK, estimator=place, how="sum")
    (gradient,) = torch.autograd.grad(loss, p)
    torch.testing.assert_close(lesson.kl_pull(p, q, MASK, place), gradient)


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("reward", lambda p, q: kl_reward_gradient(p, q, "kl")),
        ("k3_ratio", lambda p, q: kl_loss_gradient(p, q, "mse")),
        ("k3", lambda p, q: kl_loss_gradient(p, q, "k3")),
    ],
)
def test_the_mean_of_the_pull_is_the_exact_field(place, field):
    """Over all 40 responses, each with its probability: E[Σ_t pull_t·∇log π(y_t)]."""
    tree, _ = lesson.small_tree()
    ref = [random(*table.shape, seed=9).log_softmax(1) for table in tree]
    logits = [table.clone().requires_grad_() for table in tree]
    policy = [table.log_softmax(1) for table in logits]
    p, q, mask = (torch.stack(x) for x in zip(*_rows(policy, ref), strict=True))
    joint = exact.sequence_logprobs(tree).exp()
    pull = lesson.kl_pull(p, q, mask, place)
    (joint @ (pull * p * mask).sum(1)).backward()
    for wanted, leaf in zip(field(tree, ref), logits, strict=True):
        torch.testing.assert_close(leaf.grad, wanted)


def _rows(policy, ref):
    """log π, log π_ref and mask of every response, in the order of `exact.flatten`."""
    for tokens in exact.enumerate_responses(4, 3).tolist():
        prefix, row = 0, []
        for t, token in enumerate(tokens):
            row.append((policy[t][prefix, token], ref[t][prefix, token]))
            if token == 0:
                break
            prefix = prefix * 3 + token - 1
        p, q = (torch.stack(x) for x in zip(*row, strict=True))
        rest = p.new_zeros(3 - len(row))
        mask = torch.arange(3) < len(row)
        yield torch.cat([p, rest]), torch.cat([q, rest]), mask


def test_the_leash_in_the_reward_rests_at_the_optimum(tables):
    best = exact.optimum(tables.ref_logprobs, tables.scores, 0.3).logprobs
    assert torch.equal(lesson.rest_logprobs(tables, 0.3, "reward"), best)


@pytest.mark.parametrize(
    ("eta", "place", "gold", "kl"),
    [
        (0.13, "reward", 2.24, 2.37), (0.13, "k3_ratio", -1.80, 12.40), (0.13, "k3", -1.38, 10.64),
        (0.2, "k3_ratio", 1.96, 2.03), (0.17, "k3_ratio", 0.14, 6.2), (0.3, "k3", -0.13, 4.6),
        (0.05, "reward", 1.31, 5.2), (0.04, "reward", -0.72, 9.3),
    ],
)  # fmt: skip
def test_rest_points_that_the_notebook_speaks_of(tables, eta, place, gold, kl):
    """As a second program gave them, which shares no line with this package."""
    p = lesson.rest(tables, eta, place)
    assert (p.gold, p.kl) == pytest.approx((gold, kl), abs=0.06)


def test_the_exact_flow_arrives_at_both_rest_points(tables):
    for leash, place in (("reward", "reward"), ("loss", "k3_ratio")):
        path = lesson.follow_exactly(tables, 0.13, leash, [0, 60])
        assert path[0].kl == pytest.approx(0, abs=1e-9)
        end, wanted = path[-1], lesson.rest(tables, 0.13, place)
        assert (end.gold, end.kl) == pytest.approx((wanted.gold, wanted.kl), abs=0.03)


def test_the_rest_point_does_not_move(tables):
    """A step from it leads nowhere: it is a fixed point of the update, not only of a recursion."""
    ends = exact.unflatten(tables.scores, 14, 5)
    fixed = exact.loss_kl_fixed_point(tables.tree, ends, 0.13).logprobs
    moved = lesson.natural_step(fixed, tables.tree, ends, 0.13, "loss")
    for before, after in zip(fixed, moved, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def test_what_the_policy_says_at_rest(world, tables):
    figure, words = lesson.says_at_rest(world, "food")(0.13)
    assert "gold +2.24, KL 2.4 nats" in words
    assert "gold −1.80, KL 12.4 nats" in words
    left, right = figure.axes
    assert left.get_yticklabels()[0].get_text() == "very great ."
    assert right.get_yticklabels()[0].get_text() == "very fresh but fresh food"


@pytest.mark.parametrize(("G", "eta", "gap"), [(2, 1.0, 1.0), (8, 0.5, 1.0), (64, 0.2, 10.0)])
def test_groups_figure_says_and_shows_where_training_rests(G, eta, gap):
    figure, words = lesson.groups_figure(G, eta, gap)
    grpo = binary_rest(G, eta, gap=gap)
    assert f"GRPO rests at log-odds {grpo:.2f}, RLOO at {gap / eta:.2f}" in words
    assert f"{0.99**G + 0.01**G:.0%} of its groups are dead" in words
    marks = [x.get_xdata()[0] for x in figure.axes[0].lines if x.get_marker() == "o"]
    assert marks == pytest.approx([x for x in (grpo, gap / eta) if x <= 40])


def test_what_students_find_with_the_knobs():
    """As `classroom.key` says it."""
    assert "GRPO rests at log-odds 4.90, RLOO at 5.00" in lesson.groups_figure(8, 0.5, 2.5)[1]
    assert "GRPO rests at log-odds 4.90, RLOO at 2.00" in lesson.groups_figure(8, 0.5, 1.0)[1]
    assert "RLOO at 5.00" in lesson.groups_figure(64, 0.5, 2.5)[1]


def test_figures_draw_every_point(tables):
    curves = {place: [lesson.rest(tables, eta, place) for eta in (1.0, 0.2)]
              for place in lesson.NAMES}  # fmt: skip
    gold, kl = lesson.rests_figure(curves, eta=0.13).axes
    for place, line in zip(curves, gold.lines, strict=False):
        assert list(line.get_ydata()) == [p.gold for p in curves[place]]
        assert line.get_linestyle() == lesson.STYLES[place][1]
    assert [list(line.get_ydata()) for line in kl.lines[:3]] == [
        [p.kl for p in points] for points in curves.values()
    ]
    records = [Record("reward", s, n, 0.0, s + n, 0.0, 0.0) for s in (0, 1) for n in (20, 0)]
    marked = lesson.rests_figure(curves, 0.13, records).axes[0]
    shape, beside = lesson.MARKS["reward"]
    dots = [line for line in marked.lines if line.get_marker() == shape]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in dots] == [
        (0.13 * beside, 20), (0.13 * beside, 21),
    ]  # fmt: skip
    records.sort(key=lambda r: r.iteration)
    flows = {"reward": curves["reward"]}
    left, right = lesson.arrival_figure(flows, records, {"reward": curves["reward"][0]}).axes
    assert list(left.lines[0].get_ydata()) == [p.gold for p in curves["reward"]]
    assert [list(line.get_ydata()) for line in right.lines[:2]] == [[0, 20], [1, 21]]


def test_lengths_world_is_what_its_words_say():
    world = lesson.lengths_world()
    p = exact.sequence_logprobs(world.tree).exp()
    assert len(p) == 127
    assert p.sum() == pytest.approx(1)
    assert p @ world.right == pytest.approx(0.4)
    assert p @ world.wrong == pytest.approx(0.4)
    later = sum(0.7**t for t in range(5))  # after the first word
    assert (p * world.right) @ world.tokens / 0.4 == pytest.approx(1 + later)


@pytest.mark.parametrize("rule", ["none", "group"])
@pytest.mark.parametrize(
    ("how", "right", "wrong"),
    [("response", 0.162, -0.108), ("batch", 0.036, -0.022), ("sum", 0.0, 0.0)],
)
def test_pushes_on_the_end_of_an_answer(how, right, wrong, rule):
    """As a second program gave them; the deviation changes none of the three."""
    assert lesson.end_pushes(how, rule) == pytest.approx((right, wrong), abs=6e-4)


def test_the_first_push_agrees_with_sampled_groups():
    """20,000 groups of 8, each response divided by its own length."""
    world, G, n = lesson.lengths_world(), 8, 20_000
    joint = exact.sequence_logprobs(world.tree)
    generator = torch.Generator().manual_seed(0)
    rows = torch.multinomial(joint.exp(), n * G, replacement=True, generator=generator)
    advantages = groups.group_advantages(world.right[rows], G)
    w = torch.zeros_like(joint).index_add(0, rows, advantages / world.tokens[rows]) / (n * G)
    tables = exact.unflatten(w / joint.exp(), 3, 6)
    unpaid = [torch.zeros_like(table) for table in world.tree]
    update = lesson.policy_gradient(world.tree, unpaid, tables)
    right = sum(table[: len(table) // 2, 0].sum() for table in update[1:])
    norm = math.sqrt(sum(table.square().sum() for table in update))
    assert right / norm == pytest.approx(lesson.end_pushes("response")[0], abs=0.005)


def test_only_a_constant_denominator_leaves_length_alone():
    own, constant = lesson.length_path("response", 100), lesson.length_path("sum", 100)
    assert own[0] == constant[0] == pytest.approx((0.4, 3.773, 3.773), abs=1e-3)
    assert own[-1].right < own[0].right - 0.2
    assert own[-1].wrong > own[0].wrong + 0.1
    assert constant[-1][1:] == pytest.approx(constant[0][1:], abs=1e-9)
    assert own[-1].solved > 0.9
    assert constant[-1].solved > 0.9
    figure = lesson.lengths_figure({"own": own, "constant": constant})
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]


def test_drawn_reviews_are_those_of_the_policy(tables):
    batch = lesson.drawn(tables, n=4000, eta=0.5)
    best = exact.optimum(tables.ref_logprobs, tables.scores, 0.5).logprobs
    e = exact.evaluate(best, *tables[1:])
    assert batch.mask[:, 0].all()
    kl = ((batch.logprobs - batch.ref_logprobs) * batch.mask).sum(1)
    entropy = (batch.entropies * batch.mask).sum(1)
    for seen, wanted in ((batch.scores, e.score), (kl, e.kl), (entropy, e.entropy)):
        assert seen.mean() == pytest.approx(wanted.item(), abs=5 * seen.std().item() / 4000**0.5)


def test_drawn_scores_belong_to_their_reviews(tables):
    """Under π*, r − η·log(π/π_ref) is the same number for every review."""
    batch = lesson.drawn(tables, n=200, eta=0.5)
    kl = ((batch.logprobs - batch.ref_logprobs) * batch.mask).sum(1)
    total = batch.scores - 0.5 * kl
    assert (total - total[0]).abs().max() < 1e-9
