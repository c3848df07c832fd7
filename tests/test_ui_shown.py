"""Pictures and tables show the right numbers in the right places, tested with made-up numbers.

No two numbers are alike, so that a mark at another's place is seen.
"""

import pytest

from rlhf_lab import plots
from rlhf_lab.report import Metrics
from rlhf_lab.ui.cockpit_panels import Curve, Gauge, Landscape, View

SEEN = [Metrics(0.1, 0.2, 0.3, 6.1), Metrics(0.5, 0.7, 1.1, 4.2), Metrics(0.9, -0.6, 2.5, 2.3)]
PARENT = [Metrics(0.15, 0.25, 0.35, 6.2), Metrics(0.55, 0.75, 1.2, 4.3)]
EXACT = {0: Metrics(0.0, -0.01, 0.0, 6.21), 2: Metrics(0.8, -0.5, 2.4, 2.2)}
OPTIMUM = Metrics(1.4, 1.8, 1.7, 3.0)
VIEW = View(SEEN, EXACT, PARENT, [(1, "η 0.3"), (2, "β 0.1")], OPTIMUM, 0.4, 0.45)
FRONTIER = [Metrics(2.0, -2.0, 20.0, 0.5), Metrics(1.5, 2.0, 2.0, 3.0), Metrics(0, 0, 0, 6.2)]


@pytest.fixture
def ax():
    return plots.new_figure(4, 3)[1][0]


def points(line):
    """Those that are drawn."""
    return [(x, y) for x, y in zip(*map(list, line.get_data()), strict=True) if y == y]


def two_tone(x):
    """What a curve of SEEN's gold scores looks like: above 0, and from the last point above on."""
    return [(x[0], 0.2), (x[1], 0.7)], [(x[1], 0.7), (x[2], -0.6)]


@pytest.mark.parametrize("quantity", Metrics._fields)
def test_a_curve_of_the_cockpit(ax, quantity):
    curve = Curve(ax, quantity, FRONTIER, labels=True)
    curve.update(VIEW)
    whole = [(k, getattr(m, quantity)) for k, m in enumerate(SEEN)], []
    expected = two_tone([0, 1, 2]) if quantity == "gold" else whole
    assert (points(curve.batch), points(curve.bad)) == expected
    assert points(curve.parent) == [(k, getattr(m, quantity)) for k, m in enumerate(PARENT)]
    assert points(curve.exact) == [(k, getattr(m, quantity)) for k, m in EXACT.items()]
    assert curve.optimum.get_ydata() == [getattr(OPTIMUM, quantity)] * 2
    labels = [(text.get_position()[0], text.get_text()) for text in curve.texts if text.get_text()]
    assert labels == VIEW.moves


def test_the_latest_moves_of_a_slider_are_labelled(ax):
    moves = [(k, f"η {k}") for k in range(1, 10)]
    curve = Curve(ax, "score", FRONTIER, labels=True)
    curve.update(VIEW._replace(moves=moves))
    assert [text.get_text() for text in curve.texts] == [f"η {k}" for k in range(4, 10)]


def test_the_landscape_of_the_cockpit(ax):
    landscape = Landscape(ax, FRONTIER)
    landscape.update(VIEW)
    for index, quantity in enumerate(("score", "gold")):
        for line, shown in (
            (landscape.paths, SEEN), (landscape.parents, PARENT), (landscape.heads, SEEN[-1:]),
            (landscape.exact, EXACT.values()),
        ):  # fmt: skip
            if (line, quantity) != (landscape.paths, "gold"):
                assert points(line[index]) == [(m.kl, getattr(m, quantity)) for m in shown]
    gold = points(landscape.paths[1]), points(landscape.bad)
    assert gold == two_tone([m.kl for m in SEEN])
    assert points(landscape.optimum) == [(OPTIMUM.kl, OPTIMUM.score)]


def test_the_landscape_has_room_for_what_it_shows(ax):
    landscape = Landscape(ax, FRONTIER)
    high = VIEW._replace(parent=[Metrics(1.0, 2.8, 40.0, 1.0)])
    landscape.set_limits(*landscape.limits(high))
    assert ax.get_xlim()[1] > 40
    assert ax.get_ylim()[0] < -2 < 2.8 < ax.get_ylim()[1]


def test_the_gauge_of_the_cockpit(ax):
    gauge = Gauge(ax)
    gauge.update(VIEW)
    assert (gauge.bar.get_width(), points(gauge.exact)) == (0.4, [(0.45, 0.0)])
    assert gauge.text.get_text() == "last batch 0.40   exact 0.45"
    gauge.update(VIEW._replace(regret=-0.1))
    assert gauge.bar.get_width() == 0
    assert "last batch −0.10" in gauge.text.get_text()
