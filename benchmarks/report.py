"""How the benchmarks print: medians with their spread, ratios, and how busy the machine was."""

import os
import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], form: str = "7.1f") -> str:
    """The median, with quartiles if there are at least 8 values, otherwise with the range."""
    if len(values) < 8:
        name, low, high = "range", min(values), max(values)
    else:
        name, (low, _, high) = "p25–p75", statistics.quantiles(values, n=4)
    return f"{statistics.median(values):{form}} ({name} {low:{form}} –{high:{form}})"


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Median and range of the ratios of values that were measured in pairs."""
    values = [a / b for a, b in zip(theirs, ours, strict=True)]
    return f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})"


def load() -> str:
    """Number of cores, and the load average if the system reports it."""
    average = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores{average}"
