"""A figure as a cell's output, with words for those who cannot see it."""

from IPython.display import Image
from matplotlib.figure import Figure

from rlhf_lab import plots

_DPI = 110


def show(figure: Figure, alt: str) -> Image:
    """The figure as a PNG with alternative text; make it the last expression of a cell.

    Args:
        figure: any matplotlib figure.
        alt: what it shows, in one or two sentences.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the figure shows: some students hear it instead")
    # Twice the pixels, so that it stays sharp on fine screens and when zoomed.
    width = round(figure.get_figwidth() * _DPI)
    data = plots.png(figure, dpi=2 * _DPI)
    # As metadata, since the IPython of Colab (7.34) knows no argument `alt`; every front end reads
    # it there, whichever way it came in.
    return Image(data=data, format="png", width=width, metadata={"alt": alt})
