"""A figure in a cell's output: described, in both themes, and small."""

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image, ImageColor

from rlhf_lab import plots, theme
from rlhf_lab.svg import saved
from rlhf_lab.ui import show

SVG = "{http://www.w3.org/2000/svg}"


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


def test_a_rare_colour_keeps_its_hue_in_the_png():
    drawn, (ax,) = plots.new_figure(4, 3)
    ax.imshow([[x * y for x in range(20)] for y in range(20)], cmap="viridis")
    ax.plot(5, 5, "*", color=plots.RED, markersize=9)
    pixels = Image.open(io.BytesIO(show(drawn, "a star").data)).convert("RGB")
    red, green, blue = ImageColor.getrgb(plots.RED)
    assert any(
        max(abs(r - red), abs(g - green), abs(b - blue)) < 10 for _, (r, g, b) in pixels.getcolors()
    )


@pytest.mark.parametrize("form", ["png", "raw", "svg"])
@pytest.mark.parametrize("margins", [None, {"left": 0.2}])
def test_a_figure_laid_out_at_once_is_the_one_that_matplotlib_saves(form, margins):
    def labelled():
        figure, axes = plots.new_figure(5, 2, columns=2, margins=margins)
        for ax in axes:
            ax.plot([0, 1000], [1, 0], label="a line")
            ax.set(title="KL(π ‖ π_SFT)", xlabel="nats", ylabel="score")
            ax.legend()
        return figure

    how = {"metadata": {"Date": None}} if form == "svg" else {}
    drawn, wanted = labelled(), io.BytesIO()
    before = drawn.canvas, drawn.dpi, drawn.get_layout_engine()
    with matplotlib.rc_context({"svg.hashsalt": "same"}):
        got = saved(drawn, form, dpi=165, **how)
        labelled().savefig(wanted, format=form, dpi=165, **how)
    assert got == wanted.getvalue()
    assert (drawn.canvas, drawn.dpi, drawn.get_layout_engine()) == before


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


def test_the_sft_of_pi_is_a_subscript_and_what_follows_stands_on_the_line_again():
    figure, (ax,) = plots.new_figure(2, 1)
    ax.set_title("KL(π ‖ π_SFT), nats & <more>")
    svg = ElementTree.fromstring(show(figure, "empty").svg)
    (title,) = (text for text in svg.iter(f"{SVG}text") if "KL" in (text.text or ""))
    low, after = title
    assert "".join(title.itertext()) == "KL(π ‖ πSFT), nats & <more>"
    assert (low.text, after.text) == ("SFT", "), nats & <more>")
    down, size = (float(low.get(name).strip("em%")) for name in ("dy", "font-size"))
    assert down * size / 100 == pytest.approx(-float(after.get("dy").strip("em")))
