"""The measurements of notebook 03 against direct computation on the world that ships."""

import pytest
from test_language import write

from rlhf_lab import exact, load_world, plots
from rlhf_lab.best_of_n import best_of_n
from rlhf_lab.language import RESPONSE_LENGTH
from rlhf_lab.lessons import too_much_reward as lesson
from rlhf_lab.lessons.paths import optimum_path
from rlhf_lab.world import response_text

ETAS, NS = (10.0, 1.0, 0.08, 0.03), (1, 16, 256)


@pytest.fixture(scope="module")
def tables():
    return load_world().tables("food")


@pytest.fixture(scope="module")
def knobs(tables):
    paths = optimum_path(tables, ETAS), lesson.best_of_n_path(tables, NS)
    return lesson.PressureKnobs({"food": paths})


def test_the_path_of_best_of_n_holds_its_exact_numbers(tables, knobs):
    for n, point in zip(NS, knobs.paths["food"][1], strict=True):
        e = exact.evaluate(best_of_n(tables.ref_logprobs, tables.scores, n), *tables[1:])
        assert point[:4] == pytest.approx([n, e.score.item(), e.gold.item(), e.kl.item()])


def test_the_peak_is_that_of_the_gold_score_of_policies_that_chase_the_score(tables):
    golds = {point.pressure: point.gold for point in optimum_path(tables, ETAS)}
    peak = lesson.gold_peak(tables.ref_logprobs, tables.scores, tables.golds, ETAS)
    assert peak == max(golds, key=golds.get) == 0.08


def test_the_knobs_draw_both_policies_and_say_their_numbers(knobs):
    figure, words = knobs.draw("food", eta=0.08, n=16)
    left, right = figure.axes
    for marks, value in ((left.lines[-2:], "score"), (right.lines[-2:], "gold")):
        points = [path[i] for path, i in zip(knobs.paths["food"], (2, 1), strict=True)]
        seen = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks]
        assert seen == [(point.distance, getattr(point, value)) for point in points]
    assert words.startswith("optimum at η = 0.08: E[score] 1.80, E[gold] 2.36, KL 2.97 nats")
    assert "best of 16" in words


def test_a_panel_shows_gold_and_the_pressures_asked_for(knobs):
    _, (ax,) = plots.new_figure(3, 3)
    knobs.panel(ax, "food", eta=1.0, n=256)
    golds = [knobs.paths["food"][0][1].gold, knobs.paths["food"][1][2].gold]
    assert [line.get_ydata()[0] for line in ax.lines[-2:]] == golds
    lesson.mark_pressure(ax, knobs.paths["food"][0], (0.08,), "η")
    assert [text.get_text() for text in ax.texts] == ["η = 0.08"]


def test_the_turn_is_marked_where_no_curve_runs(knobs):
    """The label of each η is beside the gold score: left before the peak, right behind it."""
    _, (ax,) = plots.new_figure(4, 3)
    path = knobs.paths["food"][0]
    lesson.draw_turn(ax, "food", path, marked=(1.0, 0.03))
    marks = [text for text in ax.texts if text.get_text().startswith("η")]
    assert [(text.get_text(), text.get_ha()) for text in marks] == [
        ("η = 1", "right"), ("η = 0.03", "right" if path[3].gold < -1.5 else "left"),
    ]  # fmt: skip
    assert [text.xy for text in marks] == [(path[i].distance, path[i].gold) for i in (1, 3)]
    assert {text.get_text() for text in ax.texts} >= {"reward model", "careful readers"}
    score, gold = ax.lines[0], next(line for line in ax.lines if line.get_gid() == "face")
    assert list(score.get_ydata()) == [point.score for point in path]
    assert gold.get_ydata()[-1] == path[-1].gold


def test_each_trick_breaks_the_grammar(tables):
    """Eight grammatical reviews have a gold score of exactly −2, too: none of them is a trick."""
    _, _, scores, golds = tables
    tricks = (scores > scores[golds.argmax()]).nonzero()[:, 0].tolist()
    grammatical = {" ".join(words) for words, _ in write("food", RESPONSE_LENGTH)}
    said = {text.removesuffix(" .") for text in map(response_text, range(len(golds)))}
    assert grammatical <= said
    assert len(tricks) == 4_344
    assert not grammatical & {response_text(i).removesuffix(" .") for i in tricks}
