"""The live figure shows what a full drawing shows, and draws again only what moves."""

import io
import threading

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rlhf_lab import plots
from rlhf_lab.ui.live import LiveFigure


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.fixture
def parts():
    margins = {"left": 0.2, "right": 0.95, "bottom": 0.2, "top": 0.9}
    figure, (ax,) = plots.new_figure(3, 2, margins=margins)
    ax.set(xlim=(0, 1), ylim=(0, 1), title="still")
    (line,) = ax.plot([0.1, 0.9], [0.1, 0.9], color=plots.RED)
    return figure, ax, line


def test_it_is_what_a_full_drawing_shows(parts):
    """Colours may differ by a few of 256 levels, because the palette is small."""
    figure, _, line = parts
    full = pixels(plots.png(figure, dpi=100))
    live = LiveFigure(figure, [line], dpi=100)
    for _ in range(2):  # with a new background and with a kept one
        shown = pixels(live.png())
        assert shown.shape == full.shape == (200, 300, 3)
        assert np.abs(shown - full).max() <= 20
        assert np.abs(shown - full).mean() < 0.3


def test_nothing_is_left_of_where_something_was(parts):
    figure, _, line = parts
    live = LiveFigure(figure, [line])
    first = live.png()
    line.set_ydata([0.9, 0.1])
    assert live.png() != first
    line.set_ydata([0.1, 0.9])
    assert live.png() == first


def test_the_background_is_drawn_anew_only_when_asked(parts):
    figure, ax, line = parts
    live = LiveFigure(figure, [line])
    first = live.png()
    ax.set_title("something else")
    assert live.png() == first
    live.invalidate()
    assert live.png() != first


def test_one_axes_is_drawn_anew_without_the_others():
    """Nothing of the old axes remains; the picture is the same as if everything were drawn."""

    def figure():
        figure, axes = plots.new_figure(6, 2, columns=2, margins={"left": 0.1, "wspace": 0.4})
        return LiveFigure(figure, [ax.plot([0, 1], [0, 1])[0] for ax in axes]), axes

    live, (left, right) = figure()
    live.png()
    right.set_title("not drawn")
    live.change(left, lambda: left.set(ylim=(0, 1e6), title="drawn"))
    whole, (left, _) = figure()
    left.set(ylim=(0, 1e6), title="drawn")
    difference = pixels(live.png()) - pixels(whole.png())
    assert np.abs(difference).max() < 40, "more than the two palettes differ"


@pytest.mark.parametrize(
    "colour",
    [plots.BLACK, plots.ORANGE, plots.SKY, plots.GREEN, plots.YELLOW, plots.BLUE, plots.RED,
     plots.PINK, "white"],
)  # fmt: skip
def test_the_courses_colours_are_exact_wherever_they_turn_up(parts, colour):
    """Even if the background, which the palette is made from, has none of them."""
    figure, ax, line = parts
    (dot,) = ax.plot([0.5], [0.5], "s", color=colour, markersize=40)
    line.set_visible(False)
    shown = pixels(LiveFigure(figure, [dot], dpi=100).png())
    wanted = np.round(255 * np.array(to_rgb(colour)))
    assert shown[90, 170].tolist() == wanted.tolist()
    assert shown[0, 0].tolist() == [255, 255, 255]


def test_a_large_area_keeps_its_colour(parts):
    figure, ax, line = parts
    ax.set_facecolor("#A8DCC5")  # close to what lies between green and white
    shown = pixels(LiveFigure(figure, [line], dpi=100).png())
    assert shown[150, 100].tolist() == [0xA8, 0xDC, 0xC5]


def test_two_threads_do_not_mix_their_pictures(parts):
    figure, _, line = parts
    live = LiveFigure(figure, [line])

    def draw(height):
        with live.lock:
            line.set_ydata([0, height])
            return live.png()

    alone = {height: draw(height) for height in (0.25, 0.75)}
    wrong = []

    def often(height):
        wrong.extend(height for _ in range(30) if draw(height) != alone[height])

    threads = [threading.Thread(target=often, args=(height,)) for height in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
