"""One set of colours for widgets and stills, which can be read on light and on dark pages."""

import re

import pytest

from rlhf_lab import plots, theme
from rlhf_lab.ui.charts import front_file

COLOUR = re.compile(
    r"^  --([\w-]+): (?:var\([^()]*, )?(?:light-dark\((#\w+), (#\w+)\)|(#\w+))\)?;$", re.MULTILINE
)


def test_the_colours_are_those_of_the_widgets():
    widgets = {
        name: (light or both, dark or both)
        for name, light, dark, both in COLOUR.findall(front_file("front.css").split("@supports")[0])
    }
    shared = set(theme.COLOURS) - {"leash-line", "leash-tint"}
    assert {name: widgets[name] for name in shared} == {n: theme.COLOURS[n] for n in shared}


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#111111", "#121317"])
def test_text_and_lines_stand_out_on_the_page(page):
    """WCAG 2: 4.5 to 1 for text, 3 to 1 for lines and shapes."""
    dark = page != "#ffffff"
    for name in ("ink", "soft", "score", "liked", "bad", "leash", "many"):
        assert contrast(theme.COLOURS[name][dark], page) >= 4.5, name
    for name in ("ghost", "liked-fill", "bad-fill", "leash-dark", "leash-line", "many-fill"):
        assert contrast(theme.COLOURS[name][dark], page) >= 3, name


def test_what_figures_draw_with_stands_out_in_both_themes():
    """YELLOW has an edge of ink wherever it is drawn."""
    dark = {light: both for light, both in theme.COLOURS.values()}
    lines = {getattr(plots, name) for name in ("BLACK", "ORANGE", "SKY", "GREEN", "BLUE", "RED")}
    for colour in lines | {plots.PINK}:
        assert contrast(colour, "#ffffff") >= 3, colour
        assert contrast(dark.get(colour, colour), "#121317") >= 3, colour
    for colour in plots.WORDS.values():
        assert contrast(colour, "#ffffff") >= 4.5, colour
        assert contrast(dark[colour], "#121317") >= 4.5, colour


def test_a_picture_has_words_and_both_themes():
    shown = theme.picture("<svg/>", 'a "loop"', 850, narrow="<svg></svg>")
    assert 'alt="a &quot;loop&quot;"' in shown
    assert "(max-width: 620px)" in shown
    for page in ('data-jp-theme-light="false"', 'data-theme="dark"', ".vscode-dark"):
        assert f"{page}" in shown.partition("color-scheme:dark")[0].partition("light}")[2]
    assert "prefers-color-scheme:dark" in theme.variables()
