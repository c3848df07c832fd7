"""Sliders for η and β over the exact optimum: every move recomputes all 402,234 responses."""

import copy
import html
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
from matplotlib.figure import Figure

from rlhf_lab import plots
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import PROMPTS
from rlhf_lab.ui.explorer_marks import marks
from rlhf_lab.ui.explorer_panels import PANELS, Panel, check_panels, new_panels
from rlhf_lab.ui.explorer_words import STYLE, alt, table, words
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    ETA_POSITIONS,
    SCORES,
    Ghost,
    State,
    ghost,
    optima,
)
from rlhf_lab.world import World

_DPI = 200
"""About twice as many pixels as are shown, for sharpness when the page is enlarged."""
_POSITIONS = {
    "prompt": PROMPTS,
    "eta": ETA_POSITIONS,
    "beta": BETA_POSITIONS,
    "score": SCORES,
}


def optimum_figure(
    world: World,
    prompt: str,
    eta: float,
    beta: float,
    score: str = "reward model",
    panels: Sequence[str] = tuple(PANELS),
) -> Figure:
    """The explorer's picture at one (η, β), for pages that no kernel serves.

    Args:
        world, prompt, score, panels: as in `Explorer`.
        eta, beta: at least 0; here they need not be positions of the sliders.
    """
    source = optima(world, prompt, score)
    sft = ghost(world, prompt)
    figure, drawn = new_panels(source, panels, sft)
    for panel in drawn:
        panel.show(source.state(eta, beta, sft.logprobs))
    return figure


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Two sliders, a prompt and a score; what they show is the optimum, not a trained policy.

    Args:
        world: from `load_world()`.
        prompt: "food" or "staff".
        eta, beta: where the sliders start; one of `ETA_POSITIONS`, `BETA_POSITIONS`.
        score: what π* maximises, the "reward model"'s score or the "gold" score itself.
        panels: which of "responses", "frontier" and "map" to draw, from left to right.
        policy: to compare with, as it is now, such as `trainer.policy`; π_SFT if left out.
        policy_name: what to call it, in at most 6 letters.

    Raises:
        ValueError: no such prompt, score or panel, or not a position of the slider.

    `set` moves the controls from code, `state` reads what is shown:

        explorer = Explorer(load_world(), eta=0.3)
        explorer.set(beta=0.1, prompt="staff")
        explorer.state.metrics.gold
    """

    def __init__(
        self,
        world: World,
        prompt: str = "food",
        eta: float = 0.3,
        beta: float = 0.0,
        *,
        score: str = "reward model",
        panels: Sequence[str] = tuple(PANELS),
        policy: GPT2 | None = None,
        policy_name: str = "π_SFT",
    ) -> None:
        self.world = world
        check_panels(panels)
        self._table = "responses" in panels
        self._pictures = [name for name in panels if name != "responses"]
        self._policy, self._policy_name = copy.deepcopy(policy), policy_name
        self._ghosts: dict[str, Ghost] = {}
        self._lock = threading.RLock()
        self._drawn: dict[tuple[str, str], _Picture] = {}
        self.eta_slider = _slider("eta", "η, KL penalty")
        self.beta_slider = _slider("beta", "β, entropy bonus")
        self.prompt_buttons = _buttons("prompt", "prompt")
        self.score_buttons = _buttons("score", "maximise")
        self.words = widgets.HTML(layout=_share("440px")).add_class("rlhf-says")
        self.picture = widgets.Image(format="png")
        self.marks = widgets.HTML().add_class("rlhf-marks")
        both = widgets.Box(
            [self.picture, self.marks], layout=_share("380px", max_width="620px")
        ).add_class("rlhf-picture")
        shown = [self.words, both] if self._pictures else [self.words]
        rows = (
            [self.eta_slider, self.beta_slider],
            [self.prompt_buttons, self.score_buttons],
            shown,
        )
        super().__init__([widgets.HTML(STYLE), *map(widgets.HBox, rows)])
        self.add_class("rlhf-explorer")
        self.set(eta=eta, beta=beta, prompt=prompt, score=score)
        self._draw()
        for control in self._controls.values():
            control.observe(self._on_change, "value")

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={c.value!r}" for name, c in self._controls.items())
        return f"Explorer({values})"

    @property
    def _controls(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt_buttons,
            "eta": self.eta_slider,
            "beta": self.beta_slider,
            "score": self.score_buttons,
        }

    @property
    def state(self) -> State:
        """The exact numbers at the controls' present position."""
        prompt, eta, beta, score = (control.value for control in self._controls.values())
        ghost_logprobs = self._compared_with(prompt).logprobs
        return optima(self.world, prompt, score).state(eta, beta, ghost_logprobs)

    def set(
        self,
        *,
        eta: float | None = None,
        beta: float | None = None,
        prompt: str | None = None,
        score: str | None = None,
    ) -> None:
        """Move the controls from code; what is left out stays.

        Raises:
            ValueError: not one of a control's positions; the message names the nearest.
        """
        wanted = {"prompt": prompt, "eta": eta, "beta": beta, "score": score}
        moves = [(name, value) for name, value in wanted.items() if value is not None]
        for name, value in moves:
            _require_position(name, value, _POSITIONS[name])
        for name, value in moves:
            self._controls[name].value = value

    def _on_change(self, _: object) -> None:
        try:
            self._draw()
        except Exception as error:  # Jupyter shows what goes wrong in a callback nowhere
            said = html.escape(f"{type(error).__name__}: {error}")
            self.words.value = f'<p role="alert"><b>The picture is out of date.</b> {said}</p>'

    def _draw(self) -> None:
        # Two threads may come here: the last one in reads the controls last, so it is right.
        with self._lock:
            state = self.state
            says = table(state, self._policy_name) if self._table else ""
            self.words.value = words(state) + says
            if self._pictures:
                picture = self._picture(state.prompt, state.score)
                self.picture.value = picture.png
                for panel in picture.panels:
                    panel.show(state)
                self.marks.value = marks(picture.figure, picture.panels, alt(state))

    def _picture(self, prompt: str, score: str) -> "_Picture":
        if (prompt, score) not in self._drawn:
            source = optima(self.world, prompt, score)
            figure, panels = new_panels(source, self._pictures, self._compared_with(prompt))
            # Drawn before any `show`, so without marks.
            self._drawn[prompt, score] = _Picture(plots.png(figure, _DPI), figure, panels)
        return self._drawn[prompt, score]

    def _compared_with(self, prompt: str) -> Ghost:
        if prompt not in self._ghosts:
            self._ghosts[prompt] = ghost(self.world, prompt, self._policy, self._policy_name)
        return self._ghosts[prompt]


class _Picture(NamedTuple):
    """What stands still for one prompt and one score, and the panels that place its marks."""

    png: bytes
    figure: Figure
    panels: list[Panel]


def _share(basis: str, **more: str) -> widgets.Layout:
    """Room in a row that wraps: at least about `basis`, more if there is more."""
    return widgets.Layout(flex=f"1 1 {basis}", width="auto", min_width="0", **more)


def _slider(name: str, description: str) -> widgets.SelectionSlider:
    slider = widgets.SelectionSlider(
        options=[(f"{x:g}", x) for x in _POSITIONS[name]],
        description=description,
        style={"description_width": "initial"},
        layout=_share("360px", max_width="560px"),
    )
    return slider.add_class(f"rlhf-{name}")


def _buttons(name: str, description: str) -> widgets.ToggleButtons:
    buttons = widgets.ToggleButtons(
        options=_POSITIONS[name],
        description=description,
        style={"button_width": "auto", "description_width": "initial"},
    )
    return buttons.add_class(f"rlhf-{name}")


def _require_position(name: str, value: Any, positions: Sequence[Any]) -> None:
    if value in positions:
        return
    if isinstance(value, str) or isinstance(positions[0], str):
        raise ValueError(f"{name} must be one of {tuple(positions)}, got {value!r}")
    nearest = sorted(sorted(positions, key=lambda x: abs(x - value))[:2])
    raise ValueError(
        f"{name} = {value!r} is not a position of the slider; the nearest are "
        f"{' and '.join(f'{x:g}' for x in nearest)}"
    )
