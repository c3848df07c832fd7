"""The site in Firefox: it trains, its explorer is right, and it fits."""

import firefox
import pytest
from servers import RESULTS

from rlhf_lab import load_world
from rlhf_lab.ui.optima import optima

pytestmark = pytest.mark.skipif(firefox.find() is None, reason="no Firefox here")
COLLAPSE = "document.querySelector('.rlhf-collapse')"
EXPLORER = "document.querySelector('.rlhf-explorer')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with firefox.tab(tmp_path_factory.mktemp("firefox")) as tab:
        yield tab


@pytest.mark.parametrize("width", [360, 1280])
def test_the_front_page_collapses(site, tab, width):
    tab.resize(width, 800)
    tab.goto((site / "index.html").as_uri())
    record = tab.wait_for(f"{COLLAPSE}?.state?.iteration === 45 && {COLLAPSE}.state.records.at(-1)")
    assert record["gold"] < -1.5 < 1.5 < record["score"]
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    tab.screenshot(RESULTS / f"firefox-front-{width}.png")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_explorer_is_right(site, tab, width):
    tab.resize(width, 900)
    tab.goto((site / "notebooks" / "00_start_here.html").as_uri())
    tab.evaluate("document.querySelector('.rlhf-live').scrollIntoView()")
    tab.wait_for(f"{EXPLORER}?.state?.said")
    slider = f"{EXPLORER}.querySelector('.eta input[type=range]')"
    draws = tab.evaluate(f"{EXPLORER}.draws")
    event = "new Event('change', { bubbles: true })"
    tab.evaluate(f"({slider}.value = 20, {slider}.dispatchEvent({event}))")
    state = tab.wait_for(f"{EXPLORER}.draws > {draws} && {EXPLORER}.state")
    world = load_world()
    exact = optima(world, "food").point(state["eta"], 0.0).metrics
    shown = [state[name] for name in ("score", "gold", "kl", "entropy")]
    assert shown == pytest.approx(tuple(exact), abs=2e-3)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    tab.screenshot(RESULTS / f"firefox-explorer-{width}.png")
