"""One browser, one JupyterLab, and a tab of it for each notebook; what was measured is kept."""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import psutil
import pytest
import servers
from pages import Notebook
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from servers import RESULTS

HARMLESS = {
    "Cannot read properties of undefined (reading 'schema')": "a race in Notebook 7 (issue 7862)",
    "Command 'filebrowser:open-path' not registered": "Notebook 7 has no file browser",
    "cdn.jsdelivr.net/npm/@fortawesome": "Voilà asks for a second copy of the icons that it brings",
}
"""Parts of messages in the browser's console that are nobody's fault here, each with its reason."""
# Whatever the machine: no page may need more than the server that it comes from.
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site, built anew."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, root / "tools" / "site.py"], check=True)
    return root / "build" / "site"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With the fonts of our languages in a user's folder, for machines that have none of them."""
    home = tmp_path_factory.mktemp("home")
    for font in (Path(__file__).parents[2] / "rlhf_lab" / "locale").glob("*/font.otf"):
        (home / "fonts").mkdir(exist_ok=True)
        shutil.copy(font, home / "fonts" / f"{font.parent.name}.otf")
    env: dict[str, str | float | bool] = {**os.environ, "XDG_DATA_HOME": str(home)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.find(), args=[NO_NETWORK], env=env
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.lab(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
def new_page(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Opens tabs; at the end none of them may have seen an error in its console."""
    errors: list[str] = []
    contexts = []

    def listen(text: str) -> None:
        if not any(part in text for part in HARMLESS):
            errors.append(text)

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            listen(f"{message.text} ({message.location['url']})")

    def new() -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", console)
        page.on("pageerror", lambda error: listen(str(error)))
        page.add_init_script(path=Path(__file__).parent / "page.js")
        return page

    yield new
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def open_notebook(lab: str, new_page: Callable[[], Page]) -> Iterator[Callable[..., Notebook]]:
    """open_notebook(path) opens a notebook; at the end no kernel may have seen an error."""
    opened = []

    def open_notebook(path: str) -> Notebook:
        opened.append(Notebook(new_page(), lab.format(path)))
        return opened[-1]

    yield open_notebook
    for notebook in opened:
        assert notebook.errors() == []


@pytest.fixture(scope="session")
def measured() -> Iterator[Callable[[str, list[float]], None]]:
    """measured(what, values) keeps times, in ms, for latencies.json; they differ by machine."""
    found: dict[str, dict[str, float]] = {}

    def keep(what: str, values: list[float]) -> None:
        found[what] = {
            "count": len(values),
            "median": statistics.median(values),
            "p95": sorted(values)[int(0.95 * len(values))],
            "max": max(values),
        }

    yield keep
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "load": psutil.getloadavg()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine, "ms": found}, indent=2)
    (RESULTS / "latencies.json").write_text(text, encoding="utf-8")
