"""The cockpit's figure: curves, the run's path over the exact landscape, the regret."""

import functools
from collections.abc import Collection, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlhf_lab.report import Metrics, metrics, optimum_logprobs
from rlhf_lab.ui.cockpit_panels import (
    QUANTITIES,
    CockpitPanel,
    Curve,
    Gauge,
    Landscape,
    View,
    legend,
)
from rlhf_lab.ui.live import LiveFigure
from rlhf_lab.world import World

FRONTIER_ETAS = (
    0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1,
    0.15, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0, 10.0, 1000.0,
)  # fmt: skip


@functools.cache
def frontier(world: World) -> list[Metrics]:
    """π*_η from η = 0 to ∞ at β = 0: no policy with the same KL(π ‖ π_SFT) scores higher."""
    return [metrics(world, optimum_logprobs(world, eta, 0.0)) for eta in FRONTIER_ETAS]


class Dashboard:
    """The panels side by side; only the moving parts are drawn again.

    Args:
        panels: any of "curves", "landscape" and "regret", at least one.
        frontier: see `frontier`.
    """

    def __init__(self, panels: Collection[str], frontier: Sequence[Metrics]) -> None:
        columns = [panel for panel in ("curves", "landscape") if panel in panels]
        wide = len(columns) == 2
        self.figure = Figure(figsize=(9.6 if wide else 7.4, 5.6 if columns else 1.5))
        FigureCanvasAgg(self.figure)
        grid = self.figure.add_gridspec(
            1, len(columns) or 1, width_ratios=[1.5, 1] if wide else None, wspace=0.14, right=0.985,
            left=0.055 if wide else 0.08, bottom=0.1 if columns else 0.3, top=0.84,
        )  # fmt: skip
        last = grid[-1]
        if "regret" in panels and columns:
            halves = grid[-1].subgridspec(2, 1, height_ratios=[1, 0.12], hspace=0.42)
            last, low = halves[0], halves[1]
        elif "regret" in panels:
            low = grid[-1].subgridspec(2, 1, height_ratios=[0.4, 1], hspace=0)[1]
        self.panels: list[CockpitPanel] = []
        if "curves" in columns:
            place, gap = (grid[0], 0.3) if wide else (last, 0.42)
            cells = place.subgridspec(2, 2, hspace=gap, wspace=0.17)
            for n, quantity in enumerate(QUANTITIES):
                ax = self.figure.add_subplot(cells[n])
                ax.set_xlabel("updates of the policy" if n > 1 else "")
                self.panels.append(Curve(ax, quantity, frontier, labels=n == 0))
        if "landscape" in columns:
            self.panels.append(Landscape(self.figure.add_subplot(last), frontier))
        if "regret" in panels:
            self.panels.append(Gauge(self.figure.add_subplot(low)))
        for ax in self.figure.axes:
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=9)
        if columns:
            self._add_legend(4)
        moving = [artist for panel in self.panels for artist in panel.moving]
        self.live = LiveFigure(self.figure, moving, dpi=110)
        self._limits: list[tuple[float, ...]] = [()] * len(self.panels)

    def _add_legend(self, columns: int) -> None:
        handles = [*legend(), *(handle for panel in self.panels for handle in panel.handles)]
        self.figure.legend(
            handles=handles, ncols=columns, loc="upper left", frameon=False, fontsize=9,
            columnspacing=1.3, handletextpad=0.5,
        )  # fmt: skip

    def update(self, view: View, most: int | None = None) -> None:
        """Move everything to where the view has it; give new limits to at most `most` axes."""
        limits = [panel.limits(view) for panel in self.panels]
        outgrown = [n for n, these in enumerate(limits) if these != self._limits[n]]
        for n in outgrown[:most]:
            panel = self.panels[n]
            self.live.change(panel.ax, functools.partial(panel.set_limits, *limits[n]))
            self._limits[n] = limits[n]
        for panel in self.panels:
            panel.update(view)

    def png(self, view: View, most: int | None = None) -> bytes:
        """The picture of a view; new limits for one axes take longer than all the rest."""
        self.update(view, most)
        return self.live.png()
