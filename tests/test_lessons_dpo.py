"""Notebook 12's helpers: on small worlds by hand, and on the world's own tables."""

import copy
import math

import pytest
import torch
from golden import normal, random_logprobs
from torch.testing import assert_close

from rlhf_lab import exact, load_world, plots
from rlhf_lab.dpo import dpo_loss
from rlhf_lab.language import RESPONSE_LENGTH, WORDS
from rlhf_lab.lessons import dialects
from rlhf_lab.lessons import dpo as lesson
from rlhf_lab.lessons.paths import Point, point
from rlhf_lab.population_dpo import dpo_optimum
from rlhf_lab.ppo import response_logprobs
from rlhf_lab.preferences import Comparisons, all_comparisons, sampled_comparisons


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def tables(world):
    return world.tables("food")


def test_the_most_frequent_are_a_language_of_their_own(tables):
    small = lesson.most_frequent(tables, 50)
    assert small.ref_logprobs.exp().sum().item() == pytest.approx(1)
    assert tables.ref_logprobs[small.numbers].min() >= tables.ref_logprobs.sort().values[-50]
    assert torch.equal(small.scores, tables.scores[small.numbers])
    assert torch.equal(small.golds, tables.golds[small.numbers])
    odds = tables.ref_logprobs[small.numbers]
    assert_close(small.ref_logprobs - small.ref_logprobs[0], odds - odds[0])


def test_scores_come_back_from_their_optimum():
    ref, scores = random_logprobs(0, 7), normal(1, 7)
    scores = scores - ref.exp() @ scores
    for eta in (0.2, 1.5):
        best = exact.optimum(ref, scores, eta).logprobs
        assert_close(lesson.recovered_scores(best, ref, eta), scores)


def test_off_and_kl_by_hand():
    a, b = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.9, 0.1]).double().log()
    assert lesson.off(a, b) == pytest.approx(0.4)
    wanted = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert lesson.kl(a, b) == pytest.approx(wanted)


def test_log_ratios_are_means_over_the_pairs(tables):
    pairs = Comparisons(
        torch.tensor([3, 5]), torch.tensor([4, 3]), torch.tensor([0.25, 0.75]).double()
    )
    moved = tables.ref_logprobs.clone()
    moved[3] += 1.0
    moved[5] -= 2.0
    assert lesson.log_ratios(tables, moved, pairs) == pytest.approx((0.25 - 1.5, 0.75))


def test_who_has_never_lost():
    pairs = Comparisons(
        torch.tensor([0, 1, 2]), torch.tensor([1, 3, 2]), torch.ones(3).double() / 3
    )
    found = lesson.never_lost(torch.tensor([0.5, 0.2, 0.2, 0.1]).double().log(), pairs)
    assert (found.responses, round(found.share, 9)) == (1, 0.5), (
        "2 beat itself, so it has lost, too"
    )


@pytest.fixture(scope="module")
def pairs(tables):
    generator = torch.Generator().manual_seed(3)
    return sampled_comparisons(tables.ref_logprobs, tables.scores, 500, generator)


def test_the_gpt2_takes_dpos_steps(world, tables, pairs):
    """Two steps by torch's own Adam, from all logits, on the pairs that the generator draws."""
    policy = copy.deepcopy(world.sft).double().requires_grad_(True)
    adam = torch.optim.Adam(policy.parameters(), lr=1e-3, eps=1e-5)
    generator = torch.Generator().manual_seed(0)
    responses = exact.enumerate_responses(len(WORDS), RESPONSE_LENGTH)
    for _ in range(2):
        rows = torch.randint(500, (128,), generator=generator)
        sums = []
        for ids in (pairs.chosen[rows], pairs.rejected[rows]):
            tokens = torch.cat([world.prompt("food").expand(128, 1), responses[ids]], dim=1)
            logprobs = response_logprobs(policy(tokens), tokens, 1)
            ends = (responses[ids] == 0).cumsum(1)
            mask = (ends == 0) | ((ends == 1) & (responses[ids] == 0))
            sums += [(logprobs * mask).sum(1), tables.ref_logprobs[ids]]
        adam.zero_grad()
        dpo_loss(sums[0], sums[2], sums[1], sums[3], 0.3).backward()
        adam.step()
    (moment,) = lesson.train(world, "food", pairs, 0.3, (2,))
    with torch.no_grad():
        wanted = point(tables, 2, world.logprobs(policy, "food"))
    assert moment.at[:4] == pytest.approx(wanted[:4], abs=1e-6)
    assert moment.at.kl > 1e-3


def test_a_training_starts_at_home_and_its_margin_grows(world, pairs):
    start, *later = lesson.train(world, "food", pairs, 0.3, (0, 5, 20))
    assert (start.at.kl, start.chosen, start.rejected) == pytest.approx((0, 0, 0), abs=1e-6)
    margins = [moment.chosen - moment.rejected for moment in (start, *later)]
    assert margins == sorted(margins)
    assert margins[-1] > 0.3
    (again,) = lesson.train(world, "food", pairs, 0.3, (20,))
    assert again == later[-1], "to measure on the way changes nothing"


def test_logprobs_of_responses_by_their_numbers(world, tables):
    ids = torch.tensor([0, 7, 1000, 300_000])
    responses = exact.enumerate_responses(len(WORDS), RESPONSE_LENGTH)[ids]
    ours = lesson._response_logprobs(world, world.sft, "food", responses)
    assert_close(ours.double(), tables.ref_logprobs[ids], rtol=1e-4, atol=1e-4)


def test_what_falls_at_the_optimum_is_what_scores_below_j_star(tables):
    """The claim of section 5: mean log-ratio of the preferred = (mean score − J*)/η."""
    small = lesson.most_frequent(tables, 100)
    pairs = all_comparisons(small.ref_logprobs, small.scores)
    star = exact.optimum(small.ref_logprobs, small.scores, 0.3)
    ratio = star.logprobs - small.ref_logprobs
    for ids in (pairs.chosen, pairs.rejected):
        mean = pairs.weights @ small.scores[ids]
        assert (pairs.weights @ ratio[ids]).item() == pytest.approx(
            ((mean - star.value) / 0.3).item()
        )
    assert pairs.weights @ ratio[pairs.chosen] < 0
    short = exact.optimum(small.ref_logprobs, small.scores, 3.0).logprobs - small.ref_logprobs
    assert pairs.weights @ short[pairs.chosen] > 0 > pairs.weights @ short[pairs.rejected]


def test_rest_points_are_those_of_exact(tables):
    rests = lesson.rest_points(tables, (1.0, 0.13))
    reward, ratio, plain = (rests[kind][1] for kind in ("reward", "k3_ratio", "k3"))
    best = exact.optimum(tables.ref_logprobs, tables.scores, 0.13).logprobs
    assert reward.gold == pytest.approx((best.exp() @ tables.golds).item())
    assert [at.pressure for at in rests["k3"]] == [1.0, 0.13]
    assert (reward.gold > 2.2, ratio.gold < -1.7, -1.5 < plain.gold < -1.2) == (True,) * 3


def points(*golds):
    return [Point(eta, 0.0, gold, 1.0, "good .") for eta, gold in zip((1, 0.3), golds, strict=True)]


def test_the_card_marks_the_chosen_setting():
    rests = {"reward": points(1.0, 2.0), "k3_ratio": points(1.0, -1.0), "k3": points(0.5, -2.0)}
    card = lesson.DialectKnobs(rests, dialects.SETTINGS)
    figure, words = card.draw("TRL GRPO, not scaled", 0.3)
    (ax,) = figure.axes
    widths = {line.get_label(): line.get_linewidth() for line in ax.lines[:4]}
    assert max(widths, key=widths.get) == "k3 · ratio in the loss"
    (mark,) = (line for line in ax.lines if line.get_marker() == "o")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.3, -1.0)
    assert words == card.settings["TRL GRPO, not scaled"].card(0.3)
    assert card.draw("TRL RLOO", 1)[0].axes[0].get_title() == "TRL RLOO"


def test_figures_show_what_they_are_given():
    moments = [
        lesson.Moment(Point(step, 0, gold, kl, "bad ."), up, down)
        for step, gold, kl, up, down in ((0, 0.1, 0, 0, 0), (10, 1.0, 2.0, -0.5, -3.0))
    ]
    margin, chosen, rejected, _ = lesson.falling_figure(moments).axes[0].lines
    assert list(margin.get_ydata()) == [0, 2.5]
    assert list(chosen.get_ydata()) == [0, -0.5]
    assert list(rejected.get_ydata()) == [0, -3.0]
    speed = lesson.speed_figure({"β = 1": [1.0, 2.0]}, 50, 3.5).axes[0]
    assert list(speed.lines[0].get_xdata()) == [50, 100]
    assert speed.lines[1].get_ydata()[0] == 3.5
    _, (ax,) = plots.new_figure(4, 3)
    lesson.gold_roads(ax, points(1, 2), {"DPO": [moment.at for moment in moments]})
    assert list(ax.lines[1].get_xdata()) == [0, 2.0]
    assert ax.lines[2].get_markersize() > ax.lines[1].get_markersize()


@pytest.mark.parametrize("wins", [0.5, 0.73, 0.95])
def test_the_loss_of_a_pair_is_lowest_at_the_log_odds(wins):
    margin = torch.tensor(wins, dtype=torch.float64).logit().requires_grad_()
    loss = lesson.loss_of_a_pair(wins, margin)
    loss.backward()
    assert abs(margin.grad) < 1e-12
    assert loss < lesson.loss_of_a_pair(wins, margin + 0.1)
    figure, said = lesson.draw_pair(wins)
    (dot,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (margin.item(), loss.item())
    assert f"β·margin {margin.item():.1f}, with loss {loss.item():.2f}" in said


def test_a_pair_that_is_always_won_has_no_lowest_point():
    far = torch.tensor([0.0, 3.0, 30.0], dtype=torch.float64)
    first, second, third = lesson.loss_of_a_pair(1.0, far).tolist()
    assert first > second > third > 0
    figure, said = lesson.draw_pair(1)
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert "no lowest point" in said


def test_the_knobs_mark_the_policy_at_which_one_stops():
    optima = points(1, 2)
    path = [Point(step, 0.0, gold, 3.0, "cold .") for step, gold in ((0, 0.5), (25, 1.5))]
    figure, words = lesson.EarlyKnobs(optima, {2000: path}).draw(2000, 25)
    face = figure.axes[0].lines[-1]
    assert (face.get_markeredgecolor(), face.get_xdata()[0], face.get_ydata()[0]) == (
        plots.GREEN, 3.0, 1.5,
    )  # fmt: skip
    assert words == "2,000 pairs, 25 steps: E[gold] 1.50, KL 3.00 nats, mostly “cold .”"


def test_the_loss_is_the_one_of_the_package():
    """Notebook section 2, by hand: −log σ(0.5 · 2)."""
    one, zero = torch.tensor([1.0]), torch.tensor([0.0])
    assert dpo_loss(one, -one, zero, zero, 0.5).item() == pytest.approx(math.log1p(math.exp(-1)))


@pytest.mark.parametrize(("sharpness", "eta"), [(0.5, 0.6), (1.0, 0.3), (2.0, 0.15)])
def test_sharpness_sets_the_leash_in_the_world(tables, sharpness, eta):
    small = lesson.most_frequent(tables, 300)
    pairs = all_comparisons(small.ref_logprobs, small.scores, sharpness=sharpness)
    found = dpo_optimum(small.ref_logprobs, pairs, 0.3)
    star = exact.optimum(small.ref_logprobs, small.scores, eta).logprobs
    assert lesson.off(found, star) < 1e-7
