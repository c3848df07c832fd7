"""Explorer and cockpit in Notebook 7, the other front end that people have."""

import pytest
import servers
from pages import Cockpit, Explorer, eventually


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of its own: Jupyter confuses the files of two front ends that it has served."""
    with servers.lab(tmp_path_factory.mktemp("notebook7")) as address:
        yield address


def test_the_cockpit_runs_in_notebook_7(open_notebook):
    notebook = open_notebook("/notebooks/notebooks/cockpit.ipynb")
    notebook.run(until="cockpit")
    cockpit = Cockpit(notebook.page)
    cockpit.click_until("step", "iteration 1.")
    cockpit.eta.drag(120, moves=10)
    dragged = cockpit.eta.value
    # In Notebook 7 arrow keys go from heading to heading, but not those of our sliders.
    cockpit.eta.press("ArrowRight")

    def check():
        assert float(cockpit.eta.value) > float(dragged)
        assert float(cockpit.eta.value) == notebook.python("cockpit.state.eta") > 0
        assert f"η = {cockpit.eta.value} " in cockpit.numbers.inner_text()

    eventually(check)


def test_the_explorer_runs_in_notebook_7(open_notebook):
    """Arrow keys go from heading to heading there; those of a slider do not."""
    notebook = open_notebook("/notebooks/notebooks/07_entropy_bonus.ipynb")
    notebook.run(until="explorer")
    explorer = Explorer(notebook.page)
    explorer.slider("eta").focus()
    notebook.page.keyboard.press("ArrowRight")

    def check():
        assert explorer.state["eta"] == notebook.python("explorer.eta") == 0.11

    eventually(check)
