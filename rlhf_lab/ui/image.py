"""A figure as a cell's output, with words for those who cannot see it."""

import base64
import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from rlhf_lab import theme
from rlhf_lab.svg import DPI, saved, themed_svg

_FINE, _COLOURS = 165, 96


class Picture:
    """A figure in both themes, as a PNG where only that can be shown, and in words."""

    def __init__(self, figure: Figure, alt: str) -> None:
        self.alt, self.width = alt, round(figure.get_figwidth() * DPI)
        self.svg, self.data = themed_svg(figure), _small(figure)

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


def _small(figure: Figure) -> bytes:
    """A PNG with a palette: a fifth of the bytes, and no difference that one sees."""
    pixels, wide = saved(figure, "raw", dpi=_FINE), int(figure.get_figwidth() * _FINE)
    picture = Image.frombytes("RGBA", (wide, len(pixels) // (4 * wide)), pixels).convert("RGB")
    buffer = io.BytesIO()
    # This keeps rare colours. Pillow's default turns the yellow of a star into brown.
    few = picture.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()
