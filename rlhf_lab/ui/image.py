"""A figure as a cell's output, with words for those who cannot see it."""

import base64
import io
import re
import threading
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from rlhf_lab import plots, theme

_DPI, _FINE, _COLOURS = 110, 165, 64
_SVG: Any = {"svg.hashsalt": "rlhf_lab", "svg.fonttype": "none"}
"""The same figure is the same text, ids and all; letters are letters, at a fifth of the bytes."""
_ONE_AT_A_TIME = threading.Lock()  # matplotlib keeps such settings for all threads
_NAMES = {light: name for name, (light, _) in reversed(theme.COLOURS.items())}


class Picture:
    """A figure in both themes, as a PNG where only that can be shown, and in words."""

    def __init__(self, figure: Figure, alt: str) -> None:
        self.alt, self.width = alt, round(figure.get_figwidth() * _DPI)
        self.svg, self.data = themed_svg(figure), _small(plots.png(figure, dpi=_FINE))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown = theme.picture(self.svg, self.alt, self.width)
        # As metadata, where every front end reads the words for a PNG.
        about = {"image/png": {"alt": self.alt, "width": self.width}}
        data = base64.b64encode(self.data).decode()
        return {"text/html": shown, "image/png": data, "text/plain": self.alt}, about


def show(figure: Figure, alt: str) -> Picture:
    """The figure with alternative text; make it the last expression of a cell.

    Args:
        figure: any matplotlib figure.
        alt: what it shows, in one or two sentences.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the figure shows: some students hear it instead")
    return Picture(figure, alt)


def themed_svg(figure: Figure) -> str:
    """The figure as an SVG in both themes: what is not coloured is ink on paper, light or dark."""
    buffer = io.StringIO()
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _ONE_AT_A_TIME, matplotlib.rc_context(_SVG):
        figure.savefig(buffer, format="svg", metadata=nobody, dpi=_FINE)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    wide, high = (round(_DPI * inches) for inches in figure.get_size_inches())
    text = _SIZE.sub(f'width="{wide}" height="{high}"', text, count=1)
    text = _PAINT.sub(lambda found: f"{found[1]}: {_themed(found[2])}", text)
    text = _IDLE.sub("", text)
    text = _FONTS.sub(lambda found: _FAMILIES[found[1]], text)
    text = _DRAWN.sub(lambda found: _LONG.sub(lambda part: part[1] or "", found[0]), text)
    style = f"<style>{theme.variables()}svg{{fill:var(--ink)}}text{{white-space:pre}}</style>"
    return text.replace(">", f">{style}", 1)


_SIZE = re.compile(r'width="[\d.]+pt" height="[\d.]+pt"')
_IDLE = re.compile(r'(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"|(?<=>)\s+(?=<)')
"""Names that nothing refers to, turns by nothing, and indentation."""
_FONTS = re.compile(r"'DejaVu (Sans|Serif)'(?:, (?:'[^']*'|[\w-]+))*")
_FAMILIES = {
    "Sans": "'DejaVu Sans', Verdana, sans-serif",  # Verdana is as wide
    "Serif": theme.VOICE,
}
_PAINT = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})")
_DRAWN = re.compile(r'\b(?:d|x|y|points)="[^"]*"')
_LONG = re.compile(r"(\d\.\d)\d+|\n")  # a tenth of a point is enough


def _themed(colour: str) -> str:
    """The variable of a colour; greys become the nearest grey that the theme has."""
    if colour in _NAMES:
        return f"var(--{_NAMES[colour]})"
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > 8:
        return colour
    greys = ((60, "ink"), (125, "soft"), (190, "ghost"), (236, "line"), (250, "sunk"), (256, "bg"))
    return f"var(--{next(name for most, name in greys if red < most)})"


def _small(png: bytes) -> bytes:
    """The PNG with a palette: a fifth of the bytes, and no difference that one sees."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
