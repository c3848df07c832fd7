"""Time the cockpit in a headless Chromium: `python3 course.py bench cockpit`.

It measures the time from the click on Start, with η = β = 0, until the page shows that the policy
has collapsed: H(π) is below log 2, so exp H is below two reviews. It waits for both rows of the
cockpit's table: the estimate from the last batch, which comes with every picture, and the exact
number. Each run is fresh and has its own seed. At the end it measures the kernel's memory during
150 iterations more.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import report
from playwright.sync_api import JSHandle, expect, sync_playwright

BROWSER = Path(__file__).resolve().parent.parent / "tests" / "browser"
sys.path.insert(0, str(BROWSER))

import chromium  # noqa: E402
import servers  # noqa: E402
from pages import Cockpit, Notebook  # noqa: E402

ROWS = ("last batch", "exact, after")
SECONDS, MEGABYTES = 3.0, 700  # the aims
NOTEBOOK = "/lab/workspaces/bench/tree/notebooks/cockpit.ipynb"

# For each row of the table, when it first showed an entropy below log 2: the seconds after the
# click, and the iteration that the cockpit showed at that time.
COLLAPSED = """(cockpit, names) => {
  const numbers = cockpit.querySelector(".numbers");
  const iteration = () =>
    Number(cockpit.querySelector(".status").innerText.match(/iteration ([\\d,]+)/)[1]
      .replace(",", ""));
  let clicked = NaN;
  document.addEventListener(
    "click", () => { clicked = performance.now(); }, {capture: true, once: true});
  const find = name => [...numbers.querySelectorAll("tbody tr")]
    .find(row => row.innerText.startsWith(name));
  const entropy = row => parseFloat(row?.cells[4].innerText.replace("−", "-"));
  const wait = name => new Promise(resolve => new MutationObserver((_, observer) => {
    if (isNaN(clicked) || !(entropy(find(name)) < 0.69)) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(
      () => resolve([(performance.now() - clicked) / 1000, iteration()])));
  }).observe(numbers, {childList: true, subtree: true, characterData: true}));
  return {times: names.map(wait)};
}"""


@contextmanager
def opened() -> Iterator[Notebook]:
    """Open the cockpit's notebook in a JupyterLab of its own and run it until the cockpit shows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.lab(Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium.find())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(path=BROWSER / "page.js")
        notebook = Notebook(page, address.format(NOTEBOOK))
        notebook.run(until="cockpit")
        yield notebook
        browser.close()


def collapse(notebook: Notebook, cockpit: Cockpit, seed: int) -> list[tuple[float, int]]:
    """Seconds from the click to the collapse, and its iteration, for each of ROWS."""
    cockpit.root.locator(".settings").evaluate("details => { details.open = true; }")
    cockpit.root.locator("[name=seed]").fill(str(seed))
    for slider in (cockpit.eta, cockpit.beta):
        slider.press("Home")
    cockpit.click("reset")
    expect(cockpit.status).to_contain_text("Ready")
    start = f"cockpit.trainer.config.seed == {seed} and cockpit.state[:3] == (0, 0, 0)"
    notebook.wait_for(start)
    watch: JSHandle = cockpit.root.evaluate_handle(COLLAPSED, ROWS)
    cockpit.click("start")
    found = [tuple(watch.evaluate("(w, i) => w.times[i]", i)) for i in range(len(ROWS))]
    cockpit.click_until("pause", "Paused")
    return found


def peak_megabytes(notebook: Notebook) -> float | None:
    """Peak memory of the kernel's process; None if the system does not report it."""
    process = notebook.python("__import__('os').getpid()")
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print(f"{report.load()} at the start")
    with opened() as notebook:
        cockpit, found = Cockpit(notebook.page), []
        print(f"peak memory of the kernel before Start: {peak_megabytes(notebook) or 0:.0f} MB")
        for seed in range(runs):
            found.append(collapse(notebook, cockpit, seed))
            texts = [
                f"{name} … {s:.2f} s, iteration {k}"
                for name, (s, k) in zip(ROWS, found[-1], strict=True)
            ]
            print(f"seed {seed}: exp H < 2 in {'; '.join(texts)}", flush=True)
        cockpit.click("start")
        done = notebook.python("cockpit.state.iteration")
        notebook.wait_for(f"cockpit.state.iteration >= {done + 150}", seconds=120)
        cockpit.click_until("pause", "Paused")
        for i, name in enumerate(ROWS):
            seconds = report.spread([row[i][0] for row in found], ".2f")
            print(f"{name + ' …':15s} {seconds} s   aim: at most {SECONDS:g}")
        peak = peak_megabytes(notebook)
        if peak:
            print(f"peak memory of the kernel: {peak:.0f} MB   aim: at most {MEGABYTES}")
        else:
            print("peak memory of the kernel: not reported by this system")
    print(f"{report.load()} at the end")


if __name__ == "__main__":
    main()
