"""The cockpit in JupyterLab: what its buttons and sliders do to a run, and that none survives."""

from functools import partial
from itertools import pairwise

import psutil
import pytest
import truth
from pages import Cockpit, eventually, time_to_text
from playwright.sync_api import expect
from servers import RESULTS

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.ui.optima import ETA_POSITIONS

THREADS = "[t.name for t in __import__('threading').enumerate()]"


@pytest.fixture(scope="module")
def notebook(open_notebook):
    notebook = open_notebook("/lab/workspaces/cockpit/tree/notebooks/cockpit.ipynb")
    notebook.run(until="cockpit")
    return notebook


@pytest.fixture
def cockpit(notebook):
    """At its start, and at rest."""
    cockpit = Cockpit(notebook.page)
    cockpit.click("reset")
    expect(cockpit.status).to_contain_text("Ready")
    notebook.wait_for("cockpit.state.iteration == 0")
    return cockpit


def run_for(cockpit, iterations, notebook):
    """Press Start, and wait until this number of further iterations is done."""
    goal = notebook.python("cockpit.state.iteration") + iterations
    cockpit.click_until("start", "Running")
    notebook.wait_for(f"cockpit.state.iteration >= {goal}")


def test_steps_and_sliders_do_what_the_trainer_does(notebook, cockpit):
    """The same seeds, so the same run, to the last digit shown."""
    world = load_world()
    settings = notebook.python("__import__('dataclasses').asdict(cockpit.config)")
    trainer = Trainer(world, PPOConfig(**settings))

    def check():
        shown = cockpit.rows()
        assert shown == shown | truth.cockpit_rows(world, trainer)

    for presses, steps in ((6, 3), (3, 1)):
        before = cockpit.changes.count()
        cockpit.eta.press("ArrowRight", times=presses)
        cockpit.beta.press("ArrowRight")
        trainer.eta, trainer.beta = float(cockpit.eta.value), float(cockpit.beta.value)
        eventually(check)
        assert cockpit.changes.count() > before
        for _ in range(steps):
            trainer.step()
            cockpit.click_until("step", f"iteration {trainer.iteration}.")
        eventually(check)


def test_a_run_is_drawn_steered_and_paused(notebook, cockpit, measured):
    seen = cockpit.changes.count()
    started = cockpit.click_until("start", "Running")
    cockpit.page.wait_for_timeout(3000)
    measured(
        "cockpit: between two pictures, training",
        [b - a for a, b in pairwise(cockpit.changes.times()[seen:])],
    )
    steps = [f"{eta:g}" for eta in ETA_POSITIONS]
    now, delays = steps.index(cockpit.eta.value), []
    for key, change in [("ArrowRight", 1), ("ArrowLeft", -1)] * 15:
        now += change
        press = partial(cockpit.eta.press, key)
        delays.append(time_to_text(cockpit.numbers, f"η = {steps[now]} ", press))
    measured("cockpit: arrow key to its effect, training", delays)
    paused = cockpit.click_until("pause", "Paused")
    measured("cockpit: click to its effect", [started, paused])
    etas = notebook.python("sorted({record.eta for record in cockpit.trainer.history})")
    assert len(etas) == 2, "both positions were in force"
    done = notebook.python("cockpit.state.iteration")
    cockpit.page.wait_for_timeout(1000)
    assert notebook.python("cockpit.state.iteration") == done
    assert "rlhf_lab" not in notebook.python(THREADS)


def test_a_fork_leaves_the_parent_its_own_way(notebook, cockpit):
    run_for(cockpit, 5, notebook)
    time_to_text(cockpit.numbers, "parent", lambda: cockpit.click("fork"))
    cockpit.eta.press("ArrowRight", times=5)
    forked = notebook.python("cockpit.state.iteration")
    notebook.wait_for(f"cockpit.state.iteration >= {forked} + 10")
    cockpit.click_until("pause", "Paused")
    ways = "[(t.iteration, t.eta) for t in (cockpit.trainer, cockpit.parent.trainer)]"
    (iteration, eta), (parents, parents_eta) = notebook.python(ways)
    assert iteration == parents > forked
    assert eta > parents_eta
    rows = cockpit.rows()
    assert rows["last batch"] != rows["the parent’s last batch"]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [800, 1280, 1920])
def test_screenshots(notebook, theme, width):
    notebook.page.set_viewport_size({"width": width, "height": 1000})
    notebook.theme(f"JupyterLab {theme}")
    cockpit = Cockpit(notebook.page)
    cockpit.page.wait_for_timeout(300)
    box = cockpit.root.bounding_box()
    assert box["x"] + box["width"] <= width, "the cockpit sticks out of the window"
    notebook.page.screenshot(path=RESULTS / f"cockpit-{width}-{theme.lower()}.png")


def test_restarting_the_kernel_in_mid_run_leaves_nothing_running(notebook, cockpit):
    run_for(cockpit, 3, notebook)
    notebook.restart()
    assert notebook.python("'cockpit' in globals()") is False
    kernel = psutil.Process(notebook.python("__import__('os').getpid()"))
    before = sum(kernel.cpu_times()[:2])
    notebook.page.wait_for_timeout(1000)
    assert sum(kernel.cpu_times()[:2]) - before < 0.3, "seconds of work in one second"
    notebook.run(until="cockpit")
    again = Cockpit(notebook.page)
    expect(again.status).to_contain_text("Ready")
    again.click_until("step", "iteration 1.")
