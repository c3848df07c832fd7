"""A figure of matplotlib as an SVG in both themes of `theme`, small and the same every time."""

import io
import re
import threading
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from rlhf_lab import theme
from rlhf_lab.labels import LabelledFigure
from rlhf_lab.translation import tr

DPI = 110
"""Pixels of a page for an inch of a figure."""
_SVG: Any = {"svg.hashsalt": "rlhf_lab", "svg.fonttype": "none"}
"""The same figure is the same text, ids and all; letters are letters, at a fifth of the bytes."""
_ONE_AT_A_TIME = threading.Lock()  # matplotlib keeps such settings for all threads
_NAMES = {light: name for name, (light, _) in reversed(theme.COLOURS.items())}


def themed_svg(figure: Figure) -> str:
    """The figure as an SVG in both themes: what is not coloured is ink on paper, light or dark.

    Args:
        figure: in the colours of `plots`; others stay as they are on a dark page.

    Returns:
        The text of the SVG, which follows `color-scheme` where it is shown as an image.
    """
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _ONE_AT_A_TIME, matplotlib.rc_context(_SVG):
        text = saved(figure, "svg", dpi=1.5 * DPI, metadata=nobody).decode()
    text = text[text.index("<svg") :]
    wide, high = (round(DPI * inches) for inches in figure.get_size_inches())
    text = _SIZE.sub(f'width="{wide}" height="{high}"', text, count=1)
    text = _PAINT.sub(lambda found: f"{found[1]}: {_themed(found[2])}", text)
    text = _IDLE.sub("", text)
    text = _FONTS.sub(lambda found: _family(found[1]), text)
    text = _DRAWN.sub(lambda found: _LONG.sub(lambda part: part[1] or "", found[0]), text)
    text = _SAID.sub(lambda found: theme.lowered(found[0]), text)
    style = f"<style>{theme.variables()}svg{{fill:var(--ink)}}text{{white-space:pre}}</style>"
    return text.replace(">", f"{theme.lang()}>{style}", 1)


def saved(figure: Figure, form: str, dpi: float, **how: Any) -> bytes:
    """What `Figure.savefig` writes in this format.

    To fit the axes to their labels, `savefig` first draws the whole figure without a pen. Here the
    layout alone is computed, which gives the same picture sooner.
    """
    buffer, engine = io.BytesIO(), figure.get_layout_engine()
    before = figure.canvas, figure.dpi
    if isinstance(figure, LabelledFigure):
        figure.translate()
    try:
        if engine is not None:
            if form == "svg":
                FigureCanvasSVG(figure)  # it measures letters as they will be written
            figure.dpi = dpi
            engine.execute(figure)
            figure.set_layout_engine(None)
            figure.canvas, figure.dpi = before
        figure.savefig(buffer, format=form, dpi=dpi, **how)
    finally:
        figure.canvas, figure.dpi = before
        figure.set_layout_engine(engine)
    return buffer.getvalue()


_SIZE = re.compile(r'width="[\d.]+pt" height="[\d.]+pt"')
_IDLE = re.compile(r'(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"|(?<=>)\s+(?=<)')
"""Names that nothing refers to, turns by nothing, and indentation."""
_FONTS = re.compile(r"'DejaVu (Sans|Serif)'(?:, (?:'[^']*'|[\w-]+))*")
_PAINT = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})")
_SAID = re.compile(r"(?<=>)[^<>]+(?=</text>)")
_DRAWN = re.compile(r'\b(?:d|x|y|points)="[^"]*"')
_LONG = re.compile(r"(\d\.\d)\d+|\n")  # a tenth of a point is enough


def _family(kind: str) -> str:
    """What a browser has in place of DejaVu; Verdana is as wide."""
    return theme.voice() if kind == "Serif" else f"'DejaVu Sans', Verdana, {tr('sans-serif')}"


def _themed(colour: str) -> str:
    """The variable of a colour; greys become the nearest grey that the theme has."""
    if colour in _NAMES:
        return f"var(--{_NAMES[colour]})"
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > 8:
        return colour
    greys = ((60, "ink"), (125, "soft"), (190, "ghost"), (236, "line"), (250, "sunk"), (256, "bg"))
    return f"var(--{next(name for most, name in greys if red < most)})"
