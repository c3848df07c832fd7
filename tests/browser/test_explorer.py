"""The explorer in the first notebook: what it shows follows the sliders and is right."""

import re
from functools import partial
from itertools import pairwise

import pytest
import truth
from pages import Picture, Slider, Watch, eventually
from servers import RESULTS

from rlhf_lab import load_world
from rlhf_lab.ui import Explorer

KEYS = 40
AS_THE_BROWSER_WRITES_IT = """html => {
  const box = document.createElement("div");
  box.innerHTML = html;
  return box.innerHTML;
}"""


@pytest.fixture(scope="module")
def notebook(open_notebook):
    notebook = open_notebook("/lab/workspaces/explorer/tree/notebooks/00_start_here.ipynb")
    notebook.run()
    return notebook


@pytest.fixture(scope="module")
def root(notebook):
    root = notebook.page.locator(".rlhf-explorer")
    root.scroll_into_view_if_needed()
    return root


@pytest.fixture(scope="module")
def picture(root):
    return Picture(root.locator("img"))


@pytest.fixture(scope="module")
def marks(root):
    """They change last: once they have, so has all else that a move changes."""
    return Watch(root.locator(".rlhf-marks"), "watchMarks")


@pytest.fixture(scope="module")
def sliders(root):
    return {name: Slider(root.locator(f".rlhf-{name}")) for name in ("eta", "beta")}


@pytest.fixture(scope="module")
def world():
    return load_world()


def position(notebook):
    """Where the kernel thinks the controls are."""
    return notebook.python("(lambda s: (s.prompt, s.score, s.eta, s.beta))(explorer.state)")


@pytest.fixture
def check(notebook, root, picture, sliders, world):
    """Wait until all that is on the page agrees with a computation in this process."""

    def compare():
        prompt, score, eta, beta = position(notebook)
        assert [sliders["eta"].value, sliders["beta"].value] == [f"{eta:g}", f"{beta:g}"]

        tables = world.tables(prompt)
        logprobs = truth.optimum(tables, eta, beta, score)
        names = ["E[score]", "E[gold]", "KL(π* ‖ π_SFT)", "H(π*)"]
        said = root.inner_text()
        shown = [re.search(rf"{re.escape(name)}\s*([−\d.]+)", said)[1] for name in names]
        assert shown == [truth.text(x) for x in truth.numbers(tables, logprobs)]
        assert world.top(logprobs, 1)[0][0] in said

        here = Explorer(world, prompt, eta, beta, score=score)
        assert picture.png() == bytes(here.picture.value)
        assert root.get_by_role("img", name="the optimum has").evaluate("e => e.outerHTML") == (
            notebook.page.evaluate(AS_THE_BROWSER_WRITES_IT, here.marks.value)
        )

    return partial(eventually, compare)


def test_keys_move_a_slider_and_what_it_shows(notebook, marks, sliders, check, measured):
    drawn = []
    for key in ("ArrowLeft", "ArrowRight"):
        press = partial(sliders["eta"].press, key)
        for _ in range(KEYS // 2):
            drawn.append(marks.next(press))
            notebook.page.wait_for_timeout(100)
        check()
    changed = marks.watch.evaluate("watch => watch.changes")[-KEYS:]
    measured("explorer: arrow key to new marks in the page", changed)
    measured("explorer: arrow key to new marks drawn, with the next frame", drawn)
    sliders["beta"].press("ArrowRight", times=20)
    check()


@pytest.mark.parametrize(("name", "pixels"), [("eta", -110), ("beta", 90), ("eta", 70)])
def test_dragging_ends_with_the_marks_where_it_ended(
    notebook, marks, sliders, check, measured, name, pixels
):
    before, seen = position(notebook), marks.count()
    sliders[name].drag(pixels, moves=45)
    assert position(notebook) != before
    check()
    gaps = [b - a for a, b in pairwise(marks.times()[seen:])]
    measured(f"explorer: between two pictures, dragging {name} by {pixels} px", gaps)


def test_buttons_change_the_picture_for_another_prompt_or_score(notebook, root, picture, check):
    for label, index in (("staff", 0), ("gold", 1)):
        picture.next(root.get_by_role("button", name=label, exact=True).click)
        assert position(notebook)[index] == label
        check()


@pytest.mark.parametrize("zoom", [1, 2])
def test_the_marks_cover_the_picture(notebook, root, picture, zoom):
    """So they are where they belong, however large the picture is shown."""
    notebook.page.evaluate("zoom => { document.body.style.zoom = zoom; }", zoom)
    box = picture.image.bounding_box()
    over = root.locator(".rlhf-marks svg").bounding_box()
    notebook.page.evaluate("() => { document.body.style.zoom = 1; }")
    assert over == pytest.approx(box, abs=0.6)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_screenshots(notebook, root, picture, theme, width):
    notebook.page.set_viewport_size({"width": width, "height": 1000})
    notebook.theme(f"JupyterLab {theme}")
    root.scroll_into_view_if_needed()
    box = picture.image.bounding_box()
    assert box["x"] + box["width"] <= width, "the picture sticks out of the window"
    notebook.page.screenshot(path=RESULTS / f"explorer-{width}-{theme.lower()}.png")
