"""The cockpit's buttons, sliders and fields; the cockpit decides what they do."""

from collections.abc import Sequence
from typing import get_args

import ipywidgets as widgets

from rlhf_lab.config import PPOConfig
from rlhf_lab.kl import KLMode
from rlhf_lab.ui.optima import BETAS, ETAS

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


class Controls:
    """The widgets, with the values of a configuration.

    Args:
        config: gives their first values.
        limit: a run that nobody stops ends by itself after this number of iterations.
    """

    def __init__(self, config: PPOConfig, limit: int) -> None:
        self.start = _button("Start", "play", f"Train until Pause, {limit:,} iterations at most")
        self.start.button_style = "primary"
        self.pause = _button("Pause", "pause", "Stop after the iteration that is under way")
        self.step = _button("Step", "step-forward", "One iteration")
        self.reset = _button("Reset", "undo", "Back to the start, with the settings below")
        self.fork = _button(
            "Fork", "code-fork", "The run so far goes on in grey, with η and β as they are now; "
            "you steer a copy"
        )  # fmt: skip
        self.eta = _slider("η  (KL penalty)", ETAS, config.eta)
        self.beta = _slider("β  (entropy bonus)", BETAS, config.beta)
        self.kl_mode = widgets.Dropdown(
            options=get_args(KLMode), value=config.kl_mode, description="KL mode", **_field("150px")
        )
        self.rate = widgets.Dropdown(
            options=_options(RATES, config.lr), value=config.lr, description="learning rate",
            **_field("190px"),
        )  # fmt: skip
        self.seed = widgets.BoundedIntText(
            min=0, max=2**31 - 1, value=config.seed, description="seed", **_field("130px")
        )
        self.folder = widgets.Text(
            value="runs/cockpit", description="run folder", continuous_update=False,
            **_field("270px"),
        )  # fmt: skip
        self.save = _button("Save", "save", "Write records, checkpoint and policy to the folder")
        self.load = _button("Load", "folder-open", "Go on where the run in the folder stopped")
        for name, widget in vars(self).items():
            widget.add_class(f"rlhf-{name.replace('_', '-')}")

    def rows(self) -> list[widgets.Widget]:
        """The two rows above the picture and the one below it."""
        return [
            _row(self.start, self.pause, self.step, self.reset, self.fork),
            _row(self.eta, self.beta),
            _row(
                widgets.HTML("At the next Reset:"), self.kl_mode, self.rate, self.seed,
                self.folder, self.save, self.load,
            ),
        ]  # fmt: skip

    def light(self, running: bool) -> None:
        """Colour one button: Pause while the cockpit is running, Start while it is not."""
        self.start.button_style = "" if running else "primary"
        self.pause.button_style = "warning" if running else ""

    def show(self, config: PPOConfig, eta: float, beta: float) -> None:
        """Set every field to the value that a run has."""
        put(self.eta, eta)
        put(self.beta, beta)
        put(self.rate, config.lr)
        self.kl_mode.value, self.seed.value = config.kl_mode, config.seed


def put(selection: widgets.Widget, value: float) -> None:
    """Choose a value; add it to the slider's positions if it is not one of them yet."""
    if value not in [x for _, x in selection.options]:
        selection.options = _options([x for _, x in selection.options], value)
    selection.value = value


def _options(values: Sequence[float], one_more: float) -> list[tuple[str, float]]:
    return [(f"{x:g}", x) for x in sorted({*values, one_more})]


def _button(name: str, icon: str, tooltip: str) -> widgets.Button:
    return widgets.Button(
        description=name, icon=icon, tooltip=tooltip, layout=widgets.Layout(width="96px")
    )


def _slider(name: str, positions: Sequence[float], value: float) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=_options(positions, value), value=value, description=name,
        layout=widgets.Layout(width="440px", max_width="100%"),
        style={"description_width": "130px"},
    )  # fmt: skip


def _field(width: str) -> dict[str, object]:
    return {
        "layout": widgets.Layout(width=width), "style": {"description_width": "initial"}
    }  # fmt: skip


def _row(*children: widgets.Widget) -> widgets.Box:
    """Side by side where there is room, below each other where there is not."""
    return widgets.Box(
        children, layout=widgets.Layout(display="flex", flex_flow="row wrap", align_items="center")
    )
