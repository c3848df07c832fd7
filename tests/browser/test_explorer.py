"""The explorer in the first notebook: page, kernel and a computation of our own agree."""

from functools import partial

import pytest
import truth
from pages import Explorer, eventually
from playwright.sync_api import expect
from servers import RESULTS

from rlhf_lab import load_world
from rlhf_lab.world import response_text

KEYS = 40
WORLDS = [("staff", "reward model"), ("staff", "gold"), ("food", "gold"), ("food", "reward model")]


@pytest.fixture(scope="module")
def notebook(open_notebook):
    notebook = open_notebook("/lab/workspaces/explorer/tree/notebooks/00_start_here.ipynb")
    notebook.run()
    return notebook


@pytest.fixture(scope="module")
def explorer(notebook):
    return Explorer(notebook.page)


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def check(notebook, explorer, world):
    """Wait until the page and the kernel both show what is computed in this process."""

    def compare():
        prompt, score, eta, beta = notebook.python(
            "(lambda s: (s.prompt, s.score, s.eta, s.beta))(explorer.state)"
        )
        page = explorer.state
        assert [page[name] for name in ("prompt", "aim", "eta", "beta")] == [
            prompt, score, eta, beta,
        ]  # fmt: skip
        tables = world.tables(prompt)
        logprobs = truth.optimum(tables, eta, beta, score)
        numbers = [truth.text(x) for x in truth.numbers(tables, logprobs)]
        said = explorer.root.inner_text().replace("+", "")
        assert all(number in said for number in numbers), (numbers, said)
        drawn = [response_text(one["index"]) for one in page["drawn"]]
        first = (drawn or world.top(logprobs, 1)[0])[0]
        assert first in explorer.root.locator(".headline").inner_text()

    return partial(eventually, compare)


def test_keys_move_the_slider_and_all_that_it_shows(notebook, explorer, check, measured):
    """JupyterLab has its own use for arrow keys; here they are the slider's."""
    drawn = []
    explorer.slider("eta").focus()
    for key in ("ArrowLeft", "ArrowRight"):
        press = partial(notebook.page.keyboard.press, key)
        for _ in range(KEYS // 2):
            drawn.append(explorer.changes.next(press))
            notebook.page.wait_for_timeout(100)
        check()
    measured("explorer: arrow key to the new picture painted", drawn)
    explorer.slider("beta").focus()
    for _ in range(20):
        notebook.page.keyboard.press("ArrowUp")
    check()


def test_the_map_is_dragged(notebook, explorer, check):
    box = explorer.root.locator(".map svg").bounding_box()
    mouse = notebook.page.mouse
    mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"], steps=20)
    mouse.up()
    assert explorer.state["kind"] == "word salad"
    check()


def test_another_prompt_or_score_answers_at_once(notebook, explorer, check, measured):
    took = []
    for prompt, score in WORLDS:
        for word, now in ((prompt, explorer.state["prompt"]), (score, explorer.state["aim"])):
            if word != now:
                took.append(explorer.changes.next(partial(explorer.choose, word)))
        check()
    measured("explorer: click on another prompt or score to its picture", took)


def test_python_moves_it_too(notebook, explorer, check):
    notebook.python("explorer.set(prompt='food', score='reward model', eta=0.014, beta=0.0)")
    eventually(lambda: expect(explorer.root.locator(".chip")).to_have_text("collapse"))
    check()


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [800, 1280, 1920])
def test_screenshots(notebook, explorer, theme, width):
    notebook.page.set_viewport_size({"width": width, "height": 900})
    notebook.theme(f"JupyterLab {theme}")
    explorer.root.scroll_into_view_if_needed()
    notebook.page.wait_for_timeout(300)
    box = explorer.root.bounding_box()
    assert box["x"] + box["width"] <= width, "the explorer sticks out of the window"
    notebook.page.screenshot(path=RESULTS / f"explorer-{width}-{theme.lower()}.png")


def test_a_kernel_that_is_restarted_is_missed_in_one_sentence(notebook, explorer):
    notebook.restart()
    expect(explorer.root.locator(".trouble")).to_contain_text("The kernel was restarted")
    explorer.slider("eta").press("ArrowRight")
    eventually(lambda: expect(explorer.root.locator(".eta .typed")).to_have_value("0.016"))
