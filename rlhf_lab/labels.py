"""Figures in the reader's language: whoever draws writes English labels, and nothing else.

A label is looked up when the figure is drawn, before its layout is measured. Only what is composed
of pieces needs `tr` where it is written, and so do words at ticks, which are usually data.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from rlhf_lab.translation import language, tr

FONTS = Path(__file__).parent / "locale"
FALLBACK = "RLHF Lab CJK"
"""The family of each `font.otf` there, for characters that matplotlib's own font does not have."""


class LabelledFigure(Figure):
    """A figure outside pyplot whose texts are messages of the catalogue; arguments as `Figure`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        FigureCanvasAgg(self)

    def translate(self) -> None:
        """Say all labels in the reader's language, in letters that there are; before a layout."""
        if language() != "en":
            font = _has_font(language())
            for text in self.findobj(Text):
                text.set_text(tr(text.get_text()))
                if font and FALLBACK not in (families := text.get_fontfamily()):
                    text.set_fontfamily([*families, FALLBACK])

    def draw(self, renderer: Any) -> None:
        self.translate()
        super().draw(renderer)


@functools.cache
def _has_font(language: str) -> bool:
    """Tell matplotlib of the font that comes with a language; False if none does."""
    file = FONTS / language / "font.otf"
    if not file.exists():
        return False
    fontManager.addfont(file)
    # For bold labels, too: else matplotlib would say on stderr that it has no bold one.
    fontManager.ttflist.append(dataclasses.replace(fontManager.ttflist[-1], weight=700))
    return True
