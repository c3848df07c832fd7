"""The explorer without a browser: what it shows changes with the sliders and is what is true."""

import pytest
import torch

from rlhf_lab import exact, load_world
from rlhf_lab.report import Metrics, optimum_at
from rlhf_lab.ui import Explorer, landscape, optimum_figure, show
from rlhf_lab.ui.explorer import BETAS, ETAS, region


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def explorer(world):
    return Explorer(world)


def test_a_slider_redraws_the_picture_and_the_words(explorer):
    picture, words = explorer.picture.value, explorer.words.value
    explorer.eta_slider.value = 0.05
    assert explorer.picture.value != picture
    assert explorer.words.value != words
    explorer.eta_slider.value = 0.3
    assert (explorer.picture.value, explorer.words.value) == (picture, words)


@pytest.mark.parametrize(("eta", "beta"), [(0.1, 0.0), (0.0, 0.5), (0.3, 0.2)])
def test_what_it_says_is_a_direct_computation(world, explorer, eta, beta):
    explorer.set(eta=eta, beta=beta)
    tables = world.tables("food")
    logprobs = (eta * tables.ref_logprobs + tables.scores) / (eta + beta)
    p = logprobs.softmax(0)
    assert f"E[gold] {p @ tables.golds:.2f}" in explorer.words.value
    assert explorer.point.metrics.score == pytest.approx((p @ tables.scores).item())


def test_the_prompt_counts(explorer):
    gold = explorer.point.metrics.gold
    explorer.prompt_buttons.value = "staff"
    assert explorer.point.metrics.gold != gold
    assert "staff" in repr(explorer)


def test_both_at_zero_is_the_highest_score_not_an_error(world, explorer):
    explorer.set(eta=0.0, beta=0.0)
    assert "Nothing holds the policy" in explorer.words.value
    assert explorer.point.metrics.score == pytest.approx(world.tables("food").scores.max().item())
    assert explorer.point.region == "collapse"


def test_only_the_sliders_positions(explorer):
    with pytest.raises(ValueError, match=r"eta must be one of .*, got 0.4"):
        explorer.set(eta=0.4)


def test_the_map_has_all_four_places(world):
    for prompt in ("food", "staff"):
        points = landscape(world, prompt)
        assert len(points) == len(ETAS) * len(BETAS)
        assert {point.region for point in points.values()} == {
            "collapse",
            "useful",
            "frozen",
            "word salad",
        }
        assert points[0.01, 0.0].region == "collapse"
        assert points[0.1, 0.0].region == "useful"
        assert points[10.0, 0.0].region == "frozen"
        assert points[0.0, 0.5].region == "word salad"


def test_names_of_regions_follow_their_rule():
    reference = Metrics(score=0, gold=0, kl=0, entropy=6)
    assert region(Metrics(0, 0.1, 0.1, 6), reference) == "frozen"
    assert region(Metrics(1, 1.0, 1.5, 3), reference) == "useful"
    assert region(Metrics(2, -2.0, 20, 1), reference) == "collapse"
    assert region(Metrics(1, -2.0, 10, 12), reference) == "word salad"


def test_optimum_at_agrees_with_the_exact_module(world):
    tables = world.tables("food")
    expected = exact.optimum(tables.ref_logprobs, tables.scores, 0.2, 0.1).logprobs
    assert torch.equal(optimum_at(tables, 0.2, 0.1), expected)


def test_the_figure_shows_the_likeliest_responses(world):
    left, right = optimum_figure(world, "food", 0.1, 0.0).axes
    best = world.top(optimum_at(world.tables("food"), 0.1, 0.0), 7)
    assert [label.get_text() for label in left.get_yticklabels()] == [text for text, _, _ in best]
    widths = [bar.get_width() for bar in left.patches]
    assert widths == pytest.approx([p for _, p, _ in best])
    assert right.get_xlabel().startswith("η")


def test_a_figure_must_be_described(world):
    figure = optimum_figure(world, "food", 0.1, 0.0)
    assert show(figure, "bars").alt == "bars"
    with pytest.raises(ValueError, match="alt must say what the figure shows"):
        show(figure, " ")
