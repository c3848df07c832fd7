"""Run the notebooks from top to bottom and keep their outputs: text and pictures, no widget state.

Readers on the web see what is committed, and nbval compares it with what the next run prints.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
os.environ["RLHF_LAB_PROGRESS"] = "off"  # what is kept does not say how long it took


def run(path: Path) -> None:
    """Execute one notebook in place; it is written only if every cell succeeds."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,  # one output per cell, however the prints were buffered
        record_timing=False,
        store_widget_state=False,  # a browser that could show it would have run the notebook
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        # Without a kernel a page shows "Loading widget…" for ever, and not the words beside it.
        output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    everything = sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("[a-z]*/*.ipynb")])
    for path in [Path(name) for name in sys.argv[1:]] or everything:
        print(path, flush=True)
        run(path)
