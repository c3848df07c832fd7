"""Sliders for η and β over the exact optimum: every move recomputes all 402,234 responses."""

import functools
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, plots
from rlhf_lab.collapse import effective_responses
from rlhf_lab.language import PROMPTS
from rlhf_lab.report import Metrics, optimum_at
from rlhf_lab.world import World, response_text

ETAS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
BETAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
REGIONS = ("collapse", "useful", "frozen", "word salad")


class Point(NamedTuple):
    """The optimum at one (η, β) for one prompt."""

    metrics: Metrics
    region: str


def region(point: Metrics, reference: Metrics) -> str:
    """A name for what an optimum is like; the borders are ours, the numbers are exact.

    frozen: KL(π ‖ π_SFT) < 0.2 nats, as good as untrained. Otherwise, where careful readers
    dislike it (gold < 0): word salad if it is more random than π_SFT, collapse if it is less.
    The rest is useful.
    """
    if point.kl < 0.2:
        return "frozen"
    if point.gold >= 0:
        return "useful"
    return "word salad" if point.entropy > reference.entropy else "collapse"


@functools.cache
def landscape(world: World, prompt: str) -> dict[tuple[float, float], Point]:
    """The optimum at every pair of slider positions; about a second, then kept."""
    tables = world.tables(prompt)

    def measure(logprobs: Tensor) -> Metrics:
        return Metrics(*(x.item() for x in exact.evaluate(logprobs, *tables[1:])))

    reference = measure(tables.ref_logprobs)
    pairs = [(eta, beta) for eta in ETAS for beta in BETAS]
    metrics = [measure(optimum_at(tables, *pair)) for pair in pairs]
    return {pair: Point(m, region(m, reference)) for pair, m in zip(pairs, metrics, strict=True)}


def optimum_figure(world: World, prompt: str, eta: float, beta: float, k: int = 7) -> Figure:
    """What the optimal policy for (η, β) says, beside the map of all pairs of positions."""
    tables = world.tables(prompt)
    logprobs = optimum_at(tables, eta, beta)
    chosen = logprobs.topk(k).indices
    chosen = chosen[logprobs[chosen] > -torch.inf]
    # Fixed margins: under a moving slider nothing but the bars and the mark may move.
    margins = {"left": 0.19, "right": 0.99, "bottom": 0.15, "top": 0.91, "wspace": 0.2}
    figure, (left, right) = plots.new_figure(10.5, 3.6, columns=2, margins=margins)
    plots.top_responses(
        left,
        [response_text(i) for i in chosen.tolist()],
        logprobs[chosen].exp().tolist(),
        tables.golds[chosen].tolist(),
        tables.ref_logprobs[chosen].exp().tolist(),
        rows=k,
    )
    left.set_title(f"“{prompt}”: the likeliest responses of π*", fontsize=11)
    points = landscape(world, prompt)
    grid = np.array([[REGIONS.index(points[eta, beta].region) for eta in ETAS] for beta in BETAS])
    plots.region_map(right, ETAS, BETAS, grid, REGIONS, (ETAS.index(eta), BETAS.index(beta)))
    right.set_title("what π* is like at each (η, β)", fontsize=11)
    return figure


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Two sliders and a prompt; what they show is the optimum itself, not a trained policy.

    Args:
        world: from `load_world()`.
        prompt: "food" or "staff".
        eta, beta: where the sliders start; one of `ETAS`, `BETAS`.
    """

    def __init__(
        self, world: World, prompt: str = "food", eta: float = 0.3, beta: float = 0.0
    ) -> None:
        self.world = world
        wide = {"layout": widgets.Layout(width="420px"), "style": {"description_width": "150px"}}
        self.eta_slider = widgets.SelectionSlider(
            options=[(f"{x:g}", x) for x in ETAS], value=eta, description="η  (KL penalty)", **wide
        )
        self.beta_slider = widgets.SelectionSlider(
            options=[(f"{x:g}", x) for x in BETAS], value=beta, description="β  (entropy)", **wide
        )
        self.prompt_buttons = widgets.ToggleButtons(
            options=PROMPTS, value=prompt, description="prompt", style={"button_width": "80px"}
        )
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(width="1155px", max_width="100%")
        )
        self.words = widgets.HTML()
        sliders = widgets.HBox([self.eta_slider, self.beta_slider])
        super().__init__([sliders, self.prompt_buttons, self.words, self.picture])
        for control in (self.eta_slider, self.beta_slider, self.prompt_buttons):
            control.observe(self._draw, "value")
        self._draw()

    def __repr__(self) -> str:
        eta, beta = self.eta_slider.value, self.beta_slider.value
        return f"Explorer(prompt={self.prompt_buttons.value!r}, eta={eta:g}, beta={beta:g})"

    @property
    def point(self) -> Point:
        """The exact numbers at the sliders' position."""
        points = landscape(self.world, self.prompt_buttons.value)
        return points[self.eta_slider.value, self.beta_slider.value]

    def set(self, *, eta: float | None = None, beta: float | None = None) -> None:
        """Move the sliders from code.

        Raises:
            ValueError: not one of the sliders' positions.
        """
        for name, slider, value in (
            ("eta", self.eta_slider, eta),
            ("beta", self.beta_slider, beta),
        ):
            positions = [x for _, x in slider.options]
            if value is not None and value not in positions:
                raise ValueError(f"{name} must be one of {positions}, got {value}")
            if value is not None:
                slider.value = value

    def _draw(self, _: object = None) -> None:
        (score, gold, kl, entropy), region = self.point
        eta, beta = self.eta_slider.value, self.beta_slider.value
        note = ""
        if eta + beta == 0:
            note = " Nothing holds the policy: π* is the one response that scores highest."
        self.words.value = (
            f"<b>{region}</b>: E[score] {score:.2f}, <b>E[gold] {gold:.2f}</b>, "
            f"KL(π* ‖ π_SFT) {kl:.2f} nats, H {entropy:.2f} nats = as varied as "
            f"{effective_responses(entropy):,.0f} equally likely responses.{note}"
        )
        figure = optimum_figure(self.world, self.prompt_buttons.value, eta, beta)
        self.picture.value = plots.png(figure)
