"""Notebook 07: runs of PPO on the map of η and β, from a file of results in this folder.

`phase_diagram.csv` holds 8 × 8 runs of 150 iterations, all with one seed. To make it again, which
takes minutes, delete the file and run in the folder of the course (all in one line)

    python -m rlhf_lab sweep --etas 0,0.02,0.05,0.1,0.2,0.5,1,3
    --betas 0,0.02,0.05,0.1,0.2,0.3,0.5,1 --iterations 150
    --out rlhf_lab/lessons/phase_diagram.csv
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from rlhf_lab import exact, language, plots
from rlhf_lab.grids.results import add_outcomes, read_outcomes
from rlhf_lab.report import Metrics, metrics
from rlhf_lab.world import World

SHIPPED = Path(__file__).with_name("phase_diagram.csv")
SHAPES = (("v", plots.RED), ("o", plots.GREEN), ("s", plots.BLACK), ("X", plots.PINK))
"""Shape and colour of a run, in the order of the regions: collapse, useful, frozen, salad."""
FROM = 0.01
"""Where the figure's logarithmic axes begin."""
BESIDE = 1.5
"""Distance on the map, in grid steps, between the runs of two seeds at the same pair."""


class Mark(NamedTuple):
    """One run on the map."""

    eta: float
    beta: float
    ppo: str
    """Name of the region of PPO's policy."""
    best: str
    """Name of the region of π* at the same η and β."""


def own_results(place: str | Path, shipped: Path = SHIPPED) -> Path:
    """The student's own file of results: all shipped runs, and the runs that the student added.

    If both files hold a run, the shipped one is taken, because it may be newer. If the student may
    not write to `place`, the file is made in a temporary folder; after a restart it is gone.

    Args:
        place: path of the student's file; it is made if it does not exist.
        shipped: results to start from; this file is only read.

    Raises:
        ValueError: `place` exists, but holds something else; it is not changed.
    """
    file, outcomes = Path(place), read_outcomes(shipped)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        add_outcomes(file, outcomes, over=True)
    except OSError:
        file = Path(tempfile.mkdtemp(prefix="rlhf_lab_")) / file.name
        add_outcomes(file, outcomes, over=True)
    return file


def average_regions(
    etas: Sequence[float],
    betas: Sequence[float],
    maps: Sequence[np.ndarray],
    region: Callable[[float, float], int],
) -> np.ndarray:
    """The map of the average over prompts, from a map for each prompt.

    Where all prompts are in one region, their average is in it too, because the borders are limits
    on the numbers that are averaged. Only where the maps differ, `region` is called.

    Args:
        etas, betas: values of the grid.
        maps: for each prompt, the index of the region at each pair, (len(betas), len(etas)).
        region: computes that index for the average at (η, β).
    """
    regions = maps[0].copy()
    for row, column in np.argwhere(np.ptp(maps, axis=0) > 0):
        regions[row, column] = region(etas[column], betas[row])
    return regions


def resting_point(world: World, eta: float, beta: float) -> Metrics:
    """The fixed point of PPO with the KL in the reward and β·H in the loss, mean over prompts."""
    logprobs = {}
    for prompt in language.PROMPTS:
        tables = world.tables(prompt)
        vocab_size, depth = tables.tree[0].shape[1], len(tables.tree)
        scores = exact.unflatten(tables.scores, vocab_size, depth)
        fixed = exact.loss_bonus_fixed_point(tables.tree, scores, eta, beta)
        logprobs[prompt] = exact.sequence_logprobs(fixed.logprobs)
    return metrics(world, logprobs)


def first_salad(marks: Iterable[Mark], eta: float, who: str) -> float:
    """The smallest β at which the policy of "ppo" or "best" is word salad; inf if there is none."""
    found = [mark.beta for mark in marks if (mark.eta, getattr(mark, who)) == (eta, "word salad")]
    return min(found, default=float("inf"))


def phase_figure(
    etas: Sequence[float],
    betas: Sequence[float],
    regions: np.ndarray,
    names: Sequence[str],
    marks: Sequence[Mark],
) -> Figure:
    """The region of π* at each (η, β), and the region that each run of PPO ended in.

    Args:
        etas, betas, regions, names: the map, as in `plots.region_map`; it starts at `FROM`.
        marks: the runs; a second run at the same pair is drawn to the right of the first.
    """
    figure, (ax,) = plots.new_figure(9, 5)
    rows, columns = ([0, *(k for k, x in enumerate(v) if x >= FROM)] for v in (betas, etas))
    etas, betas = [etas[k] for k in columns], [betas[k] for k in rows]
    plots.region_map(ax, etas, betas, regions[np.ix_(rows, columns)], names)
    seen: Counter[tuple[float, float]] = Counter()
    places = []
    for mark in marks:
        x, y = plots.place(etas, mark.eta), plots.place(betas, mark.beta)
        places.append((x + BESIDE * seen[x, y], y))
        seen[x, y] += 1
    _between(ax.texts, sorted({y for _, y in places}))
    for name, (shape, colour) in zip(names, SHAPES, strict=True):
        chosen = [place for place, mark in zip(places, marks, strict=True) if mark.ppo == name]
        _dots(ax, chosen, name, marker=shape, color=colour, markersize=10, markeredgecolor="white")
    other = [place for place, mark in zip(places, marks, strict=True) if mark.ppo != mark.best]
    _dots(ax, other, label="not what π* is", marker="o", markersize=17, markerfacecolor="none",
          markeredgecolor=plots.BLACK)  # fmt: skip
    ax.legend(title="PPO's policy", loc="upper left", bbox_to_anchor=(1, 1), frameon=False,
              labelspacing=0.9, alignment="left")  # fmt: skip
    ax.set_title("areas: the optimum π*, exact; marks: what became of PPO's runs")
    return figure


def _between(names: Iterable[Text], rows: Sequence[float]) -> None:
    """Move each region's name to the middle of the nearest wide gap between two rows of marks."""
    pairs = list(itertools.pairwise(rows))
    wide = 0.6 * max((above - below for below, above in pairs), default=0)
    gaps = [(below + above) / 2 for below, above in pairs if above - below > wide]
    for name in names:
        y = name.get_position()[1]
        name.set_y(min(gaps, key=lambda gap: abs(gap - y), default=y))


def _dots(ax: Axes, places: Sequence[tuple[float, float]], label: str, **style: Any) -> None:
    x, y = [place[0] for place in places], [place[1] for place in places]
    ax.plot(x, y, linestyle="none", label=label, clip_on=False, zorder=3, **style)
