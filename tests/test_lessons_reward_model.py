"""The word-pair reward model against autograd and counting; the bins against a loop."""

import pytest
import torch
from golden import normal
from torch.testing import assert_close

from rlhf_lab import load_world, plots
from rlhf_lab.language import encode
from rlhf_lab.lessons import reward_model as lesson
from rlhf_lab.pretrain import bradley_terry_loss


@pytest.fixture(scope="module")
def pairs():
    return lesson.draw_pairs(load_world(), "food", 60, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trials(pairs):
    tables = load_world().tables("food")
    return lesson.Trials(tables, pairs, torch.Generator().manual_seed(1))


def test_a_score_is_the_sum_over_neighbours_up_to_eos():
    weights = normal(0, 14, 14)
    stop, very, great = encode("<eos> very great")
    review = torch.tensor([[very, great, stop, 5, 5]])
    expected = weights[stop, very] + weights[very, great] + weights[great, stop]
    assert_close(lesson.word_pair_scores(weights, review), expected.view(1))


def test_newton_ends_where_the_gradient_of_the_loss_is_0(pairs):
    chosen, rejected = lesson.sort_pairs(pairs, pairs.gold_a > pairs.gold_b)
    weights = lesson.fit_word_pairs(chosen, rejected, ridge=0.01).requires_grad_(True)
    scores = [lesson.word_pair_scores(weights, r) for r in (chosen, rejected)]
    (bradley_terry_loss(*scores) + 0.005 * weights.square().sum()).backward()
    assert weights.grad.abs().max() < 1e-10
    assert weights.abs().max() > 0.1


def test_pairs_are_sorted_by_the_readers_choice(pairs):
    first = torch.arange(60) % 2 == 0
    chosen, rejected = lesson.sort_pairs(pairs, first)
    assert torch.equal(chosen[0], pairs.a[0])
    assert torch.equal(chosen[1], pairs.b[1])
    assert torch.equal(rejected[1], pairs.a[1])


def test_the_strongest_weights_come_with_their_words():
    weights = torch.zeros(14, 14)
    weights[0, encode("great")[0]], weights[encode("not")[0], 0] = 2.0, -3.0
    assert lesson.strongest(weights, 1) == "best  · great +2.0\nworst not . -3.0"


def test_bins_equal_a_loop_over_responses():
    nats = torch.tensor([0.5, 2.9, 7.0, 8.9, 8.0], dtype=torch.float64)
    bins, x = lesson.rarity(-nats), normal(0, 5)
    assert bins.nats.tolist() == [1.5, 7.5]  # nothing lies between 3 and 6 nats
    members = [[0, 1], [2, 3, 4]]
    assert_close(bins.total(x), torch.stack([x[m].sum() for m in members]))
    assert_close(bins.quantiles(x, 0.5), torch.stack([x[m].quantile(0.5) for m in members]))


def test_accuracy_leaves_out_ties_of_gold():
    golds = torch.tensor([1.0, 2.0, 3.0, 3.0]), torch.tensor([0.0, 3.0, 1.0, 3.0])
    scores = torch.tensor([5.0, 0.0, 0.0, 9.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert lesson.pairwise_accuracy(scores, golds) == pytest.approx(2 / 3)


def test_a_fit_to_gold_itself_would_be_perfect(trials):
    perfect = trials.measure(3 * trials.golds + 1)
    assert (perfect.common, perfect.rare) == pytest.approx((0.0, 0.0))
    assert perfect.by_rarity.abs().max() < 1e-9


def test_wrong_labels_turn_the_fit_round(trials):
    right, wrong = trials.scores(60, 0.0), trials.scores(60, 1.0)
    assert torch.stack([right, wrong]).corrcoef()[0, 1] < -0.9
    assert trials.measure(right).common < 0.9 < trials.measure(wrong).common
    assert trials.scores(60, 0.0) is right


def test_common_and_rare_reviews_are_measured_apart(trials):
    off = torch.where(-trials.ref_logprobs < lesson.COMMON, 0.0, 2.0)
    quality = trials.measure(trials.golds + off)
    assert quality.common < 0.5 < 1 < quality.rare


@pytest.mark.parametrize(
    ("review", "said"),
    [
        ("great .", "score +1.71, gold +2.0, 3.3 nats rare; 7,"),
        ("great great great great great", "gold −2.0, "),
    ],
)
def test_a_review_is_judged_in_words(review, said):
    assert said in lesson.judged(load_world().tables("food"), review)


@pytest.mark.parametrize(
    ("review", "says"),
    [
        ("very very very very very good", "at most 5 tokens.*got 'very very"),
        ("great . great", "full stop only at its end"),
        ("superb .", "'superb' is not a word of this world"),
    ],
)
def test_what_is_no_review_is_refused(review, says):
    with pytest.raises(ValueError, match=says):
        lesson.judged(load_world().tables("food"), review)


def test_the_knob_says_the_numbers_it_draws(trials):
    figure, words = lesson.quality_knob(trials)(60, 0.0)
    quality = trials.fit(60, 0.0)
    assert f"{quality.common:.2f} for common reviews, {quality.rare:.2f} for rare" in words
    assert_close(torch.tensor(figure.axes[0].lines[0].get_ydata()), quality.by_rarity)


def test_the_picture_of_errors_and_shares():
    _, (left, right) = plots.new_figure(6, 3, columns=2)
    nats = torch.tensor([0.5, 1.0, 7.0], dtype=torch.float64)
    bins, errors = lesson.rarity(-nats), torch.tensor([0.5, -0.1, -2.0]).double()
    lesson.draw_errors(left, bins, errors)
    assert left.lines[0].get_ydata() == pytest.approx([0.3, 2.0])
    lesson.draw_shares(right, bins, (-nats).softmax(dim=0))
    heights = torch.tensor([bar.get_height() for bar in right.patches]).view(2, 2)
    assert heights.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert heights[1].tolist() == pytest.approx([2 / 3, 1 / 3])
