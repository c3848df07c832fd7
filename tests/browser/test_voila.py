"""The page that `python3 course.py cockpit` serves for projecting."""

import urllib.error
import urllib.request

import nbformat.v4
import pytest
import servers
from pages import Cockpit, Explorer, eventually
from playwright.sync_api import expect
from servers import RESULTS


@pytest.fixture(scope="module")
def voila(tmp_path_factory):
    with servers.cockpit(tmp_path_factory.mktemp("voila")) as address:
        yield address.format("/")


def test_the_page_is_the_cockpit_alone_and_it_runs(voila, new_page, measured):
    page = new_page()
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(voila, wait_until="commit")  # it comes cell by cell
    cockpit = Cockpit(page)
    assert "import" not in page.locator("body").inner_text()
    cockpit.click_until("start", "Running")
    for _ in range(5):
        cockpit.changes.next(lambda: None)
    page.screenshot(path=RESULTS / "voila-1920-light.png")
    measured("voila: click on Pause to its effect", [cockpit.click_until("pause", "Paused")])
    cockpit.eta.press("ArrowRight", times=3)
    # The table of numbers is too small for a wall, but it is there.
    expect(cockpit.numbers).to_contain_text(f"η = {cockpit.eta.value} ")
    check_that_it_is_legible(page)


# In one go: between two questions the page may draw itself anew.
SHOWN = """part => [...document.querySelectorAll(`.rlhf-cockpit ${part}`)]
    .filter((e) => e.checkVisibility({ visibilityProperty: true }))
    .map((e) => [parseFloat(getComputedStyle(e).fontSize), e.getBoundingClientRect().bottom])"""


def check_that_it_is_legible(page):
    """From the last row: nothing below the fold, sentences of 28 px, controls of 18 px."""
    for part, least in ((".headline", 40), (".said li .voice", 28), ("button", 18), (".typed", 18)):
        shown = page.evaluate(SHOWN, part)
        assert shown
        assert min(size for size, _ in shown) >= least, part
        assert max(bottom for _, bottom in shown) <= 1080, part
    charts = page.locator(".rlhf-cockpit .charts").bounding_box()
    assert charts["y"] + charts["height"] <= 1080


def test_the_page_is_for_those_who_were_given_its_address(voila):
    with urllib.request.urlopen(voila.split("?")[0], timeout=10) as page:
        assert "/login" in page.url


def test_the_page_answers_to_no_other_name(voila):
    request = urllib.request.Request(voila, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)


def test_voila_serves_the_explorer_too(new_page, tmp_path):
    code = (
        "from rlhf_lab import load_world\nfrom rlhf_lab.ui import Explorer\n"
        "cockpit = Explorer(load_world(), eta=0.1)\ncockpit"  # .jupyter/voila.py shows this line
    )
    cells = [nbformat.v4.new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    with servers.cockpit(tmp_path, nbformat.writes(notebook)) as address:
        page = new_page()
        page.goto(address.format("/"), wait_until="commit")
        explorer = Explorer(page)
        explorer.choose("staff")
        explorer.slider("eta").focus()
        page.keyboard.press("ArrowLeft")

        def check():
            assert (explorer.state["prompt"], explorer.state["eta"]) == ("staff", 0.09)

        eventually(check)
        page.screenshot(path=RESULTS / "explorer-voila.png")
        page.close()  # before its server goes
