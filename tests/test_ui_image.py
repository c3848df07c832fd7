"""A figure in a cell's output: described, in both themes, and small."""

import base64
import io
import re

import pytest
from PIL import Image

from rlhf_lab import plots, theme
from rlhf_lab.ui import show


def figure():
    figure, (ax,) = plots.new_figure(2, 1)
    ax.plot([0, 1], [1, 0], color=plots.RED)
    ax.plot([0, 1], [0, 1], color="0.4")
    return figure


def test_a_figure_must_be_described():
    data, metadata = show(figure(), "bars")._repr_mimebundle_()
    assert metadata["image/png"] == {"alt": "bars", "width": 220}
    assert data["text/plain"] == "bars"
    assert 'alt="bars"' in data["text/html"]
    with pytest.raises(ValueError, match="alt must say what the figure shows"):
        show(figure(), " ")


def test_it_is_sharp_and_small_where_only_a_png_can_be_shown():
    drawn = figure()
    picture = show(drawn, "bars")
    assert Image.open(io.BytesIO(picture.data)).size == (330, 165)
    assert len(picture.data) < 0.7 * len(plots.png(drawn, dpi=165))


def test_every_colour_follows_the_theme():
    svg = show(figure(), "bars").svg
    used = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg.split("</style>", 1)[1]))
    assert {"var(--bad-fill)", "var(--ink)", "var(--bg)", "var(--soft)"} <= used
    assert not [colour for colour in used if colour.startswith("#")]
    names = set(re.findall(r"var\(--([\w-]+)\)", svg))
    assert names <= set(theme.COLOURS)


def test_the_same_figure_is_the_same_text():
    first, second = (show(figure(), "bars")._repr_mimebundle_()[0] for _ in range(2))
    assert first == second
    address = re.search(r"base64,([^\"]+)", first["text/html"])[1]
    assert base64.b64decode(address).startswith(b"<svg")
