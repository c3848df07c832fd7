"""Compute the explorer's maps and curves again, for the world that ships with the package.

    python tools/make_charts.py

A test compares the file with the exact optimum, so run this when the world or a slider changes.
"""

from pathlib import Path

from rlhf_lab import files, load_world
from rlhf_lab.ui import charts

PLACE = Path(charts.__file__).parent / "front" / "charts.json"

if __name__ == "__main__":
    files.write_whole(PLACE, charts.all_charts(load_world()).encode())
