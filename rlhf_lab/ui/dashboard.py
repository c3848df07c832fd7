"""The cockpit as a still figure: curves, the run's path over the exact landscape, the regret."""

import functools
from collections.abc import Collection, Sequence

from matplotlib.figure import Figure

from rlhf_lab.labels import LabelledFigure
from rlhf_lab.report import Metrics, metrics, optimum_logprobs
from rlhf_lab.translation import tr
from rlhf_lab.ui.cockpit_panels import (
    QUANTITIES,
    CockpitPanel,
    Curve,
    Gauge,
    Landscape,
    View,
    legend,
)
from rlhf_lab.world import World

FRONTIER_ETAS = (
    0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1,
    0.15, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0, 10.0, 1000.0,
)  # fmt: skip


@functools.cache
def frontier(world: World) -> list[Metrics]:
    """π*_η from η = 0 to ∞ at β = 0: no policy with the same KL(π ‖ π_SFT) scores higher."""
    return [metrics(world, optimum_logprobs(world, eta, 0.0)) for eta in FRONTIER_ETAS]


def flight_figure(panels: Collection[str], frontier: Sequence[Metrics], view: View) -> Figure:
    """The panels side by side, as they are in a view.

    Args:
        panels: any of "curves", "landscape" and "regret", at least one.
        frontier: see `frontier`.
        view: what to draw.
    """
    columns = [panel for panel in ("curves", "landscape") if panel in panels]
    wide = len(columns) == 2
    figure = LabelledFigure(figsize=(9.6 if wide else 7.4, 5.6 if columns else 1.5))
    grid = figure.add_gridspec(
        1, len(columns) or 1, width_ratios=[1.5, 1] if wide else None, wspace=0.14, right=0.985,
        left=0.055 if wide else 0.08, bottom=0.1 if columns else 0.3, top=0.84,
    )  # fmt: skip
    last = grid[-1]
    if "regret" in panels and columns:
        halves = grid[-1].subgridspec(2, 1, height_ratios=[1, 0.12], hspace=0.42)
        last, low = halves[0], halves[1]
    elif "regret" in panels:
        low = grid[-1].subgridspec(2, 1, height_ratios=[0.4, 1], hspace=0)[1]
    drawn: list[CockpitPanel] = []
    if "curves" in columns:
        place, gap = (grid[0], 0.3) if wide else (last, 0.42)
        cells = place.subgridspec(2, 2, hspace=gap, wspace=0.17)
        for n, quantity in enumerate(QUANTITIES):
            ax = figure.add_subplot(cells[n])
            ax.set_xlabel(tr("updates of the policy") if n > 1 else "")
            drawn.append(Curve(ax, quantity, frontier, labels=n == 0))
    if "landscape" in columns:
        drawn.append(Landscape(figure.add_subplot(last), frontier))
    if "regret" in panels:
        drawn.append(Gauge(figure.add_subplot(low)))
    for panel in drawn:
        panel.ax.spines[["top", "right"]].set_visible(False)
        panel.ax.tick_params(labelsize=9)
        panel.set_limits(*panel.limits(view))
        panel.update(view)
    if columns:
        _add_legend(figure, drawn, forked=bool(view.parent))
    return figure


def _add_legend(figure: Figure, panels: Sequence[CockpitPanel], forked: bool) -> None:
    handles = [*legend(forked), *(handle for panel in panels for handle in panel.handles)]
    figure.legend(
        handles=handles, ncols=4, loc="upper left", frameon=False, fontsize=9, columnspacing=1.3,
        handletextpad=0.5,
    )  # fmt: skip
