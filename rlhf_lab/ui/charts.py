"""What stands still behind the explorer's ring: the map, and the curves that have no bonus.

Those of the world that ships with the package are computed once and ship with it, because they
take two seconds for each prompt and score. For any other world they are computed when asked for.
"""

import functools
import json
import math
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from rlhf_lab.language import PROMPTS
from rlhf_lab.report import Metrics
from rlhf_lab.ui.optima import ETA_POSITIONS, SCORES, compared_policy, optima
from rlhf_lab.world import World

_FILE = "charts.json"
_TOLERANCE = 1e-7  # of the numbers of π_SFT; those of another seed differ by more than 1e-3
_DIGITS = 10


class Chart(NamedTuple):
    """What the explorer shows for one prompt and one score at every (η, β)."""

    reference: Metrics
    """The numbers of π_SFT."""
    curve: list[Metrics]
    """Those of π* at β = 0, for each of `ETA_POSITIONS`."""
    kinds: np.ndarray
    """Index into `KINDS` at each pair of positions, (len(betas), len(etas))."""


@functools.cache
def chart(world: World, prompt: str, score: str) -> Chart:
    """The chart of any world, without computing it where it has been shipped.

    Args:
        world, prompt, score: as for `optima`.
    """
    found = _shipped().get(prompt, {}).get(score)
    if found is not None and _same(found.reference, compared_policy(world, prompt).metrics):
        return found
    return computed_chart(world, prompt, score)


def computed_chart(world: World, prompt: str, score: str) -> Chart:
    """The chart, from the optimum at every pair; takes two seconds."""
    source = optima(world, prompt, score)
    curve = [source.point(eta, 0.0).metrics for eta in ETA_POSITIONS]
    return Chart(source.reference, curve, source.kinds())


def to_json(one: Chart) -> dict[str, Any]:
    """A chart as the page reads it; the map as one digit for each pair, row by row."""
    return {
        "reference": _numbers(one.reference),
        "curve": [_numbers(metrics) for metrics in one.curve],
        "map": "".join(str(kind) for kind in one.kinds.ravel()),
    }


def all_charts(world: World) -> str:
    """The file that ships: `tools/make_charts.py` writes it."""
    charts = {
        prompt: {score: to_json(computed_chart(world, prompt, score)) for score in SCORES}
        for prompt in PROMPTS
    }
    return json.dumps(charts, separators=(",", ":")) + "\n"


def front_file(name: str) -> str:
    """The text of a file of the front end."""
    return resources.files("rlhf_lab").joinpath("ui", "front", name).read_text(encoding="utf-8")


@functools.cache
def _shipped() -> dict[str, dict[str, Chart]]:
    charts = json.loads(front_file(_FILE))
    return {
        prompt: {score: _from_json(one) for score, one in scores.items()}
        for prompt, scores in charts.items()
    }


def _from_json(one: dict[str, Any]) -> Chart:
    kinds = np.array([int(kind) for kind in one["map"]]).reshape(-1, len(ETA_POSITIONS))
    return Chart(Metrics(**one["reference"]), [Metrics(**m) for m in one["curve"]], kinds)


def _numbers(metrics: Metrics) -> dict[str, float]:
    # `+ 0.0` turns −0.0 into 0.0.
    return {name: float(f"{x:.{_DIGITS}g}") + 0.0 for name, x in metrics._asdict().items()}


def _same(a: Metrics, b: Metrics) -> bool:
    return all(math.isclose(x, y, abs_tol=_TOLERANCE) for x, y in zip(a, b, strict=True))
