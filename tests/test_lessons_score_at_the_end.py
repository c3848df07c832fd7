"""Values and credit, compared with a loop over all responses; the words of the figures."""

import pytest
import torch
from golden import normal, property_test, seeds
from hypothesis import given
from torch.testing import assert_close

from rlhf_lab import exact, load_world, plots
from rlhf_lab.language import encode
from rlhf_lab.lessons import score_at_the_end as lesson
from rlhf_lab.masking import response_mask

V, T = 4, 3
RESPONSES = exact.enumerate_responses(V, T)


def policy(seed):
    return [normal(seed + t, (V - 1) ** t, V).log_softmax(dim=1) for t in range(T)]


@property_test
@given(seeds)
def test_values_are_means_over_all_responses_that_begin_so(seed):
    tree, scores = policy(seed), normal(seed + 9, len(RESPONSES))
    worth = lesson.prefix_values(tree, exact.unflatten(scores, V, T))
    p = exact.sequence_logprobs(tree).exp()
    for prefix in ([], [1], [3], [2, 1]):
        begins = (RESPONSES[:, : len(prefix)] == torch.tensor(prefix)).all(dim=1)
        index = 0 if not prefix else prefix[0] - 1
        index = index if len(prefix) < 2 else index * (V - 1) + prefix[1] - 1
        mean = p[begins] @ scores[begins] / p[begins].sum()
        assert_close(worth.values[len(prefix)][index], mean)
        follow = begins & (RESPONSES[:, len(prefix)] == 2)
        assert_close(worth.q[len(prefix)][index, 2], p[follow] @ scores[follow] / p[follow].sum())


@property_test
@given(seeds)
def test_a_discount_shrinks_what_a_response_brings_by_its_length(seed):
    tree, scores = policy(seed), normal(seed + 9, len(RESPONSES))
    value = lesson.prefix_values(tree, exact.unflatten(scores, V, T), discount=0.9).values[0]
    lengths = response_mask(RESPONSES, 0).sum(dim=1)
    p = exact.sequence_logprobs(tree).exp()
    assert_close(value[0], p @ (0.9 ** (lengths - 1).double() * scores))


def test_tables_are_read_along_the_way_of_each_response():
    tree = policy(0)
    mask = response_mask(RESPONSES, 0)
    logprobs = lesson.along(tree, RESPONSES)
    assert_close(logprobs.sum(dim=1), exact.sequence_logprobs(tree))
    assert not logprobs[~mask].any()
    numbers = [torch.arange((V - 1.0) ** t) for t in range(T)]
    assert lesson.along(numbers, torch.tensor([[3, 2, 1]])).tolist() == [[0, 2, 7]]


def test_prefix_means_count_only_responses_that_begin_so():
    texts = ["great <eos> <eos>", "great and bad", "very bad <eos>"]
    responses = torch.tensor([encode(text) for text in texts])
    means = lesson.prefix_means(responses, torch.tensor([1.0, 2.0, 6.0]), ["", "great", "not"])
    assert_close(means, torch.tensor([3.0, 1.5, torch.nan]).double(), equal_nan=True)


def test_prefix_worth_finds_the_prefix_in_the_tables():
    world = load_world()
    tables = world.tables("food")
    worth = lesson.prefix_values(tables.tree, exact.unflatten(tables.scores, 14, 5))
    found = lesson.prefix_worth(worth.values, ["", "not", "not very"])
    review = torch.tensor([encode("not very good <eos> <eos>")])
    assert_close(found, lesson.along(worth.values, review)[0, :3])


@pytest.fixture(scope="module")
def worth():
    tables = load_world().tables("food")
    return lesson.prefix_values(tables.tree, exact.unflatten(tables.scores, 14, 5))


def test_an_exact_critic_with_lambda_0_gives_each_token_its_due(worth):
    words, given, due = lesson.credit(
        load_world(), "food", worth, "not very good .", "exact", 1.0, 0.0
    )
    assert words == ["not", "very", "good", "."]
    assert_close(given, due, rtol=0, atol=1e-6)  # float32; torch 2.15 rounds in another way


def test_a_zero_critic_dims_the_score_and_a_constant_one_its_surprise(worth):
    score = load_world().score(torch.tensor([encode("food")]), torch.tensor([[8, 0, 0, 0, 0]]))
    for critic, surprise in (("zero", score), ("constant", score - worth.values[0])):
        given = lesson.credit(load_world(), "food", worth, "great .", critic, 1.0, 0.5)[1]
        assert_close(given, surprise.double() * torch.tensor([0.5, 1.0]).double())


def test_an_unknown_critic_is_refused():
    with pytest.raises(ValueError, match=r"critic must be one of .*exact.*, got 'good'"):
        lesson.critic_values("good", torch.zeros(1, 2), 0.0, torch.ones(1, 2).bool())


def test_the_knob_says_the_numbers_it_draws(worth):
    draw = lesson.credit_knob(load_world(), "food", worth)
    figure, words = draw("great .", "zero", 1.0, 0.5)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert words.startswith(
        f"Advantage given to each token (and deserved): great {heights[0]:+.2f}"
    )
    assert f". {heights[1]:+.2f}" in words
    assert draw("great .", "zero", 1.0, 1.0)[1] != words


def test_the_tree_leaves_unvisited_cells_empty():
    _, (ax,) = plots.new_figure(4, 3)
    columns = {"1": torch.tensor([0.3, torch.nan]), "exact": torch.tensor([0.2, -0.5])}
    lesson.value_tree(ax, ["", "not"], columns)
    assert [t.get_text() for t in ax.texts] == ["+0.3", "+0.2", "", "−0.5"]
    assert [t.get_text().strip() for t in ax.get_yticklabels()] == ["food: …", "└ not …"]


def test_the_funnel_is_std_over_root_n():
    _, (ax,) = plots.new_figure(4, 3)
    lesson.spread(ax, (1, 100), (torch.zeros(3), torch.zeros(3)), exact=0.5, std=2.0)
    upper = next(line for line in ax.lines if line.get_label().startswith("exact ±"))
    n, height = upper.get_xdata(), upper.get_ydata()
    assert height == pytest.approx(0.5 + 2.0 / n**0.5)


def test_each_run_is_a_line_of_its_own_style():
    _, (ax,) = plots.new_figure(4, 3)
    lesson.length_runs(ax, {"a": [4.0, 3.0], "b": [4.0, 5.0]})
    assert [list(line.get_ydata()) for line in ax.lines] == [[4.0, 3.0], [4.0, 5.0]]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 2


def test_the_constant_task_pays_every_response_alike():
    task = lesson.ConstantScore(load_world(), 0.5).to(torch.device("cpu"), torch.float64)
    scores = task.score(task.prompts, torch.tensor([[8, 0, 0, 0, 0], [5, 6, 7, 3, 9]]))
    assert scores.dtype == torch.float64
    assert scores.tolist() == [0.5, 0.5]
