"""Sliders for η and β: every move computes the exact optimum over all 402,234 responses."""

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
from rlhf_lab.ui.explorer_panels import PANELS, ExplorerPanel, check_panels, new_panels
from rlhf_lab.ui.explorer_words import STYLE, alt, table, words
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    ETA_POSITIONS,
    SCORES,
    ComparedPolicy,
    ExplorerState,
    compared_policy,
    optima,
)
from rlhf_lab.world import World

_DPI = 200
"""About twice as many pixels as are shown: the picture stays sharp when the page is zoomed."""
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
    """The explorer's picture at one (η, β), for pages without a kernel.

    Args:
        world, prompt, score, panels: as in `Explorer`.
        eta, beta: any values ≥ 0, also between the positions of the sliders.
    """
    source = optima(world, prompt, score)
    sft = compared_policy(world, prompt)
    figure, drawn = new_panels(source, panels, sft)
    for panel in drawn:
        panel.show(source.state(eta, beta, sft.logprobs))
    return figure


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Two sliders, a prompt and a score. They show the optimum, not a trained policy.

    Args:
        world: from `load_world()`.
        prompt: "food" or "staff".
        eta, beta: first values of the sliders, among `ETA_POSITIONS` and `BETA_POSITIONS`.
        score: what π* maximises: the score of the "reward model", or the "gold" score.
        panels: which of "responses", "frontier" and "map" to draw, from left to right.
        policy: a policy to compare with, such as `trainer.policy`; π_SFT if left out. A copy is
            kept, so later training does not change the picture.
        policy_name: its name, at most 6 letters.

    Raises:
        ValueError: there is no such prompt, score or panel, or no such position of a slider.

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
        self._compared: dict[str, ComparedPolicy] = {}
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
    def state(self) -> ExplorerState:
        """The exact numbers for the present values of the controls."""
        prompt, eta, beta, score = (control.value for control in self._controls.values())
        compared_logprobs = self._compared_with(prompt).logprobs
        return optima(self.world, prompt, score).state(eta, beta, compared_logprobs)

    def set(
        self,
        *,
        eta: float | None = None,
        beta: float | None = None,
        prompt: str | None = None,
        score: str | None = None,
    ) -> None:
        """Move the controls from code; those that are left out stay where they are.

        Raises:
            ValueError: a control has no such position; the message names the nearest ones.
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
        except Exception as error:  # Jupyter shows nobody what a callback raises
            message = html.escape(f"{type(error).__name__}: {error}")
            self.words.value = f'<p role="alert"><b>The picture is out of date.</b> {message}</p>'

    def _draw(self) -> None:
        # Two threads may draw: the last to enter reads the controls last, so it draws what is true.
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
            # The PNG has no marks, because it is made before the first `show`.
            self._drawn[prompt, score] = _Picture(plots.png(figure, _DPI), figure, panels)
        return self._drawn[prompt, score]

    def _compared_with(self, prompt: str) -> ComparedPolicy:
        if prompt not in self._compared:
            self._compared[prompt] = compared_policy(
                self.world, prompt, self._policy, self._policy_name
            )
        return self._compared[prompt]


class _Picture(NamedTuple):
    """The still picture for one prompt and one score, and the panels that place its marks."""

    png: bytes
    figure: Figure
    panels: list[ExplorerPanel]


def _share(basis: str, **more: str) -> widgets.Layout:
    """A place in a row that wraps: about `basis` wide, and wider if there is room."""
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
