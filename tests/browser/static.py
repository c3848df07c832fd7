"""The explorer on a page of its own, without kernel and server; the host is a short script."""

import base64
import json
from pathlib import Path

import numpy as np

from rlhf_lab import load_world
from rlhf_lab.language import PROMPTS, WORDS
from rlhf_lab.ui.charts import front_file
from rlhf_lab.ui.explorer_still import PANELS
from rlhf_lab.ui.optima import BETA_POSITIONS, DRAWS, ETA_POSITIONS, SCORES

SCRIPTS = "".join(map(front_file, ("parts.js", "optimum.js", "explorer.js")))
HOST = """
const floats = (text) =>
  new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const tables = {};
for (const [prompt, columns] of Object.entries(DATA.tables)) {
  tables[prompt] = {};
  for (const [name, text] of Object.entries(columns)) tables[prompt][name] = floats(text);
}
const values = { prompt: "food", score: "reward model", eta: 0.1, beta: 0, ...START };
const callbacks = [], told = [];
let wait = 0, spoil = (table) => table;
const host = {
  constants: DATA.constants,
  get: (name) => values[name],
  set(name, value, done) {
    values[name] = value;
    told.push([name, value, done]);
    for (const tell of callbacks) tell();
  },
  on(name, callback) {
    callbacks.push(callback);
    return () => {};
  },
  async world(prompt, score) {
    if (prompt !== START.prompt) await new Promise((done) => setTimeout(done, wait));
    return { tables: spoil(tables[prompt]), still: DATA.charts[prompt][score] };
  },
  trouble: () => () => {},
};
"""


def write(folder: Path, *, before: str = "", **start: object) -> str:
    """Write the page into a folder; gives its address.

    Args:
        folder: where to write.
        before: script that runs before the explorer is drawn.
        start: first values of prompt, score, eta and beta.
    """
    world = load_world()
    data = {
        "tables": {prompt: _columns(world.tables(prompt)) for prompt in PROMPTS},
        "charts": json.loads(front_file("charts.json")),
        "constants": {
            "prompts": PROMPTS, "scores": SCORES, "etas": ETA_POSITIONS, "betas": BETA_POSITIONS,
            "words": WORDS, "panels": PANELS, "comparedName": "π_SFT", "draws": DRAWS,
        },
    }  # fmt: skip
    start = {"prompt": "food", **start}
    script = (
        f"const DATA = {json.dumps(data)}, START = {json.dumps(start)}; {HOST} {before};"
        'rlhfExplorer.mount(document.getElementById("root"), host);'
    )
    place = folder / "explorer.html"
    place.write_text(_page("Explorer", SCRIPTS, script), encoding="utf-8")
    return place.as_uri()


def write_cockpit(folder: Path, news: list[dict], constants: dict, *, before: str = "") -> str:
    """Write a page that shows what a cockpit sent, and keeps what the page orders in `told`."""
    scripts = "".join(map(front_file, ("parts.js", "optimum.js", "cockpit.js")))
    script = (
        f"const NEWS = {json.dumps(news)}, told = []; let hear; const host = {{"
        f"constants: {json.dumps(constants)}, send: (order) => told.push(order), "
        "listen: (callback) => { hear = callback; return () => {}; }, trouble: () => () => {} };"
        f"{before};"
        'rlhfCockpit.mount(document.getElementById("root"), host); NEWS.forEach(hear);'
    )
    place = folder / "cockpit.html"
    place.write_text(_page("Cockpit", scripts, script), encoding="utf-8")
    return place.as_uri()


def _page(title: str, *scripts: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>body { margin: 0; background: #fff; } @media (prefers-color-scheme: dark) "
        f"{{ body {{ background: #121317; }} }} {front_file('front.css')}</style>"
        '<div id="root"></div>' + "".join(f"<script>{script}</script>" for script in scripts)
    )


def _columns(tables) -> dict[str, str]:
    columns = {"ref": tables.ref_logprobs, "score": tables.scores, "gold": tables.golds}
    return {
        name: base64.b64encode(column.numpy().astype(np.float32).tobytes()).decode()
        for name, column in columns.items()
    }
