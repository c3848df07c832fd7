"""The fast numbers behind the explorer equal those of the exact module everywhere."""

import itertools

import pytest
import torch

from rlhf_lab import exact, load_world
from rlhf_lab.collapse import expected_distinct
from rlhf_lab.report import Metrics, optimum_at
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    BETAS,
    ETA_POSITIONS,
    ETAS,
    REGIONS,
    SCORES,
    Optima,
    compared_policy,
    contenders,
    kind,
    landscape,
    optima,
    region,
)

PLACES = [(0.3, 0.0), (0.01, 0.0), (0.02, 0.01), (0.0, 0.5), (0.3, 0.2), (10.0, 2.0), (0.0, 0.0)]


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("prompt", ["food", "staff"])
def test_a_state_is_what_the_exact_module_says(world, prompt, score):
    tables = world.tables(prompt)
    aim = tables if score == "reward model" else tables._replace(scores=tables.golds)
    source = optima(world, prompt, score)
    for eta, beta in PLACES:
        logprobs = optimum_at(aim, eta, beta)
        state = source.state(eta, beta, tables.ref_logprobs)
        expected = exact.evaluate(logprobs, *tables[1:])
        assert state.metrics == pytest.approx([x.item() for x in expected], abs=1e-10)
        assert state.metrics == pytest.approx(source.point(eta, beta).metrics, abs=1e-12)
        assert state.distinct == pytest.approx(expected_distinct(logprobs, 128), abs=1e-6)
        best = [p for _, p, _ in world.top(logprobs, 7) if p > 0]
        assert [said.probability for said in state.responses] == pytest.approx(best, rel=1e-9)


def test_a_response_comes_with_what_is_true_of_it(world):
    tables = world.tables("food")
    policy = torch.full_like(tables.ref_logprobs, -3.0)
    state = optima(world, "food").state(0.1, 0.0, policy)
    for said, (text, p, i) in zip(
        state.responses, world.top(optimum_at(tables, 0.1, 0.0), 7), strict=True
    ):
        assert said.text == text
        numbers = [p, torch.tensor(-3.0).exp(), tables.scores[i], tables.golds[i]]
        assert said[1:] == pytest.approx([float(x) for x in numbers])


def test_contenders_leave_out_nobody_who_could_win():
    """The k most probable responses at some (η, β) are among them; many scores are equal."""
    generator = torch.Generator().manual_seed(0)
    ref = torch.randint(12, (400,), generator=generator).double()
    scores = torch.randint(12, (400,), generator=generator).double()
    kept = contenders(ref, scores, k=5)
    assert len(kept) < 100
    for eta in (0.0, 0.01, 0.3, 1.0, 7.0, 1000.0):
        logits = eta * ref + scores
        assert logits[kept].topk(5).values.tolist() == logits.topk(5).values.tolist()


@pytest.mark.parametrize("prompt", ["food", "staff"])
def test_the_map_agrees_with_its_points(world, prompt):
    """Only a fifth of the map is computed, so check the rest, too."""
    source = optima(world, prompt)
    grid = source.regions()
    assert grid.shape == (len(BETA_POSITIONS), len(ETA_POSITIONS))
    rows = {*range(4), *range(4, len(BETA_POSITIONS), 7)}
    for j, i in itertools.product(rows, range(0, len(ETA_POSITIONS), 2)):
        name = source.point(ETA_POSITIONS[i], BETA_POSITIONS[j]).region
        assert REGIONS[grid[j, i]] == name


def test_the_landscape_has_all_four_places(world):
    for prompt in ("food", "staff"):
        points = landscape(world, prompt)
        assert len(points) == len(ETAS) * len(BETAS)
        assert {point.region for point in points.values()} == set(REGIONS)
        assert points[0.01, 0.0].region == "collapse"
        assert points[0.1, 0.0].region == "useful"
        assert points[10.0, 0.0].region == "frozen"
        assert points[0.0, 0.5].region == "word salad"


def test_a_perfect_score_collapses_too(world):
    """Without a leash even the optimum for the gold score says one single response."""
    point = landscape(world, "food", "gold")[0.01, 0.0]
    assert point.region == "collapse"
    assert point.metrics.gold == pytest.approx(2.8)
    assert point.metrics.entropy == pytest.approx(0.0, abs=1e-6)
    assert kind(point) == "one good answer"
    assert kind(landscape(world, "food")[0.01, 0.0]) == "collapse"


def test_names_of_regions_follow_their_rule():
    reference = Metrics(score=0, gold=0, kl=0, entropy=6)
    assert region(Metrics(0, 0.1, 0.1, 6), reference) == "frozen"
    assert region(Metrics(1, 1.0, 1.5, 3), reference) == "useful"
    assert region(Metrics(2, -2.0, 20, 1), reference) == "collapse"
    assert region(Metrics(2, 2.8, 4, 0.6), reference) == "collapse"
    assert region(Metrics(1, -2.0, 10, 12), reference) == "word salad"


def test_tables_use_positions_of_the_sliders():
    assert set(ETAS) <= set(ETA_POSITIONS)
    assert set(BETAS) <= set(BETA_POSITIONS)
    assert list(ETA_POSITIONS) == sorted(set(ETA_POSITIONS))


def test_the_compared_policy_is_an_exact_evaluation(world):
    assert compared_policy(world, "food").metrics.kl == pytest.approx(0.0, abs=1e-12)
    same = compared_policy(world, "food", world.sft, "a copy")
    assert same.name == "a copy"
    assert torch.allclose(same.logprobs, world.tables("food").ref_logprobs)


def test_it_says_what_cannot_be(world):
    with pytest.raises(ValueError, match=r"score must be one of .* got 'likes'"):
        Optima(world, "food", "likes")
    with pytest.raises(ValueError, match="'drinks' is not a prompt"):
        Optima(world, "drinks", "gold")
    with pytest.raises(ValueError, match=r"at least 0, got -1.0 and 0.0"):
        optima(world, "food").point(-1.0, 0.0)
