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
    return Image(data=plots.png(figure, dpi=2 * _DPI), format="png", alt=alt, width=width)
