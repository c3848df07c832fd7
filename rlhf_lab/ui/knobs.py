"""A figure with knobs: a function of a few values, drawn again whenever one of them changes."""

import html
import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from rlhf_lab import theme
from rlhf_lab.svg import themed_svg
from rlhf_lab.translation import tr

Value = float | str


class Knobs(widgets.VBox):  # type: ignore[misc]
    """Controls for the arguments of a drawing function, above its figure.

    Args:
        draw: takes one value per knob, by name, and returns a figure and a sentence with its
            numbers, which is also there for those who cannot see the figure.
        start: first values of some knobs; the others start at their first position.
        knobs: the positions of each knob: numbers become a slider, words become buttons.

    Raises:
        ValueError: a knob has no positions, or a first value is not one of its positions.
    """

    def __init__(
        self,
        draw: Callable[..., tuple[Figure, str]],
        *,
        start: dict[str, Any] | None = None,
        **knobs: Sequence[Value],
    ) -> None:
        self._draw_figure, self._lock = draw, threading.RLock()
        self.controls = {name: _control(name, list(positions)) for name, positions in knobs.items()}
        self._words = widgets.HTML()
        self.picture = widgets.Image(
            format="svg+xml", layout=widgets.Layout(max_width="100%", width="max-content")
        )
        self.picture.add_class("rlhf-drawing")
        themes = widgets.HTML(theme.THEMES, layout=widgets.Layout(display="none"))
        row = widgets.HBox(
            list(self.controls.values()),
            layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start"),
        )
        super().__init__([row, self._words, self.picture, themes])
        self.add_class("rlhf-knobs")
        self.set(**(start or {}))
        for control in self.controls.values():
            control.observe(self._draw, "value")
        self._draw()

    def __repr__(self) -> str:
        return f"Knobs({', '.join(f'{k}={v!r}' for k, v in self.values.items())})"

    @property
    def values(self) -> dict[str, Value]:
        """The present value of each knob."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def words(self) -> str:
        """The sentence above the figure."""
        return html.unescape(self._words.value)

    def set(self, **values: Value) -> None:
        """Turn knobs from code.

        Raises:
            ValueError: there is no such knob, or the value is not one of its positions. Then no
                knob has moved.
        """
        for name, value in values.items():
            if name not in self.controls:
                raise ValueError(f"no knob is called {name!r}; there are {list(self.controls)}")
            positions = [position for _, position in self.controls[name].options]
            if value not in positions:
                raise ValueError(f"{name} must be one of {positions}, got {value!r}")
        for name, value in values.items():
            self.controls[name].value = value

    def _draw(self, _: object = None) -> None:
        with self._lock:  # a kernel may hear sliders on a second thread
            try:
                figure, words = self._draw_figure(**self.values)
            except Exception as error:  # Jupyter shows nobody what an observer raises
                self._words.value = html.escape(f"{type(error).__name__}: {error}")
                return
            self._words.value = html.escape(words)
            self.picture.value = themed_svg(figure).encode()


_GREEK = {"eta": "η", "beta": "β", "gamma": "γ", "lam": "λ"}


def _control(name: str, positions: list[Value]) -> widgets.Widget:
    if not positions:
        raise ValueError(f"knob {name!r} has no positions")
    labels = [tr(p) if isinstance(p, str) else f"{p:g}" for p in positions]
    options = list(zip(labels, positions, strict=True))
    words = isinstance(positions[0], str)
    kind = widgets.ToggleButtons if words else widgets.SelectionSlider
    style = {"description_width": "initial"} | ({"button_width": "auto"} if words else {})
    label = _GREEK.get(name) or tr(name.replace("_", " "))
    return kind(
        options=options,
        value=positions[0],
        description=label,
        style=style,
        layout=widgets.Layout(width="auto" if words else "320px", max_width="100%"),
    )
