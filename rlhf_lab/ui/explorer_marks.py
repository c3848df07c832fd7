"""The marks that move on the explorer's picture, as an SVG that lies over it.

A browser draws five marks at once. Drawing, sending and decoding a new picture takes over 10 ms.
"""

import html
from collections.abc import Sequence

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlhf_lab.ui.explorer_panels import ExplorerPanel

_POINTS = 72  # per inch: the unit of sizes in matplotlib, and here in the SVG
_DOTTED = 1, 1.65  # matplotlib's dots and gaps, in line widths


def marks(figure: Figure, panels: Sequence[ExplorerPanel], label: str) -> str:
    """An SVG as large as the figure, with the marks of its panels at their present places.

    Args:
        figure: the figure of the panels.
        panels: the panels, after `show`.
        label: what the picture shows, for those who cannot see it.
    """
    width, height = figure.get_size_inches() * _POINTS
    shapes = "".join(_shape(line, figure) for panel in panels for line in panel.moving)
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none">{shapes}</svg>'
    )


def _shape(line: Line2D, figure: Figure) -> str:
    """The line between its points, or the marker at its only point; in SVG y runs downwards."""
    pixels = line.get_transform().transform(line.get_xydata())
    points = (pixels - [0, figure.bbox.height]) * [1, -1] * _POINTS / figure.dpi
    places = [f"{x:.2f} {y:.2f}" for x, y in points]
    colour = to_hex(line.get_color())
    if line.get_marker() == "None":
        width = line.get_linewidth()
        dots = " ".join(f"{width * x:g}" for x in _DOTTED)
        paint = f'stroke-width="{width:g}" stroke-dasharray="{dots}"'
        return f'<path d="M{"L".join(places)}" stroke="{colour}" {paint}/>'
    fill = "none" if line.get_fillstyle() == "none" else colour
    paint = f'fill="{fill}" stroke="{colour}" stroke-width="{line.get_markeredgewidth():g}"'
    r = line.get_markersize() / 2
    outline = _OUTLINES[str(line.get_marker())].format(r=r, side=2 * r)
    return f'<g transform="translate({places[0]})" {paint}>{outline}</g>'


_OUTLINES = {
    "o": '<circle r="{r:g}"/>',
    "D": '<rect x="-{r:g}" y="-{r:g}" width="{side:g}" height="{side:g}" transform="rotate(45)"/>',
}
"""Markers of matplotlib, around the origin; r is half their size."""
