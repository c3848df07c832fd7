"""What figures share: a gold score changes its colour at 0, names stay apart, areas are exact."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rlhf_lab import plots


def axes():
    _, (ax,) = plots.new_figure(4.5, 3.2)
    return ax


def test_a_gold_score_is_teal_above_zero_and_vermilion_below():
    ax = axes()
    above, below = plots.gold_curve(ax, [0, 1, 2, 3], [1.0, 2.0, -2.0, -1.0])
    assert (above.get_color(), above.get_linestyle()) == (plots.GREEN, "-")
    assert (below.get_color(), below.get_linestyle()) == (plots.RED, "--")
    assert below.get_label() == "careful readers"  # its end is below
    for line, sign in ((above, 1), (below, -1)):
        y = line.get_ydata()
        assert (sign * y[np.isfinite(y)] >= 0).all()
        assert (1.5, 0.0) in zip(line.get_xdata(), y, strict=True)  # they meet where it crosses


@pytest.mark.parametrize(
    ("gold", "colour"), [(2.0, plots.GREEN), (0.0, plots.GREEN), (-1.0, plots.RED)]
)
def test_a_face_smiles_at_what_readers_like(gold, colour):
    ax = axes()
    plots.face(ax, 0, 0, gold)
    marker = ax.lines[-1]
    assert marker.get_markeredgecolor() == colour
    corners, middle, _ = marker.get_marker().vertices[-3:]
    assert np.sign(corners[1] - middle[1]) == np.sign(gold)


def test_names_stand_at_the_ends_of_their_curves_and_apart():
    ax = axes()
    for k in range(4):
        ax.plot([0, 1], [0, 1 + 0.01 * k], color=plots.WAYS[k][0], label=f"line {k}")
    ax.plot([0, 1], [0, 9], label="_not named")
    plots.name_ends(ax)
    ax.figure.canvas.draw()
    texts = ax.texts
    assert [text.get_text() for text in texts] == [f"line {k}" for k in range(4)]
    boxes = [text.get_window_extent() for text in texts]
    for lower, upper in itertools.pairwise(boxes):
        assert upper.y0 > lower.y0 + 0.6 * lower.height
    assert min(box.x0 for box in boxes) > ax.transData.transform((1, 1))[0]
    assert max(box.x1 for box in boxes) < ax.figure.bbox.width


def test_what_readers_dislike_is_tinted_and_the_limits_stay():
    ax = axes()
    ax.plot([0, 1], [-2, 3])
    before = ax.get_ylim()
    plots.dislike(ax)
    assert ax.get_ylim() == before
    (area,) = ax.patches
    assert to_hex(area.get_facecolor()) == plots.REGION_COLOURS[0].lower()


def test_a_map_has_the_colour_of_each_cell():
    ax = axes()
    regions = np.array([[0, 1, 1], [2, 2, 1]])
    plots.region_map(ax, [0, 0.1, 1], [0, 0.1], regions, ("a", "b", "c"))
    for row, y in enumerate((-1, 1.5)):
        bars = ax.collections[row]
        assert len(bars.get_paths()) == 2
        for kind, x in zip(regions[row], (-1, 1.5, 2.5), strict=True):
            inside = [p.contains_point((x, y)) for p in bars.get_paths()]
            colour = to_hex(bars.get_facecolors()[inside.index(True)])
            assert colour == plots.REGION_COLOURS[kind].lower()
