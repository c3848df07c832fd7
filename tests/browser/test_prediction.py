"""A prediction box in JupyterLab: the keyboard commits, and no words touch at any width."""

import json

import pytest
import servers
from pages import eventually
from playwright.sync_api import expect

CELLS = [
    "from rlhf_lab.ui import Prediction\n"
    'number = Prediction("t_number", "How many of 128?", low=1, high=128)\nnumber',
    'choice = Prediction("t_choice", "What does it do?", choices=["it rises, then falls below '
    'where it began", "it rises, then falls a little", "it rises"])\nchoice',
    "number.reveal(42)",
    'choice.reveal("it rises")',
]
OVERLAPS = """() => {
  const words = ".rlhf-prediction label, .rlhf-prediction button, .rlhf-prediction .widget-html," +
    ".rlhf-chip, .rlhf-strip > span:first-child, .rlhf-line > span:not(.rlhf-track)," +
    ".rlhf-track div > span, .rlhf-track .rlhf-guessed i";
  const seen = [...document.querySelectorAll(words)].filter(e => e.innerText || e.tagName == "I");
  const boxes = seen.map(e => [e.innerText, e.getBoundingClientRect()]);
  const touch = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  return boxes.flatMap(([text, a], i) => boxes.slice(i + 1)
    .filter(([_, b]) => touch(a, b)).map(([other]) => [text, other]));
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of its own, with a notebook that holds nothing but boxes."""
    folder = tmp_path_factory.mktemp("boxes")
    with servers.lab(folder) as address:
        cells = [
            {"cell_type": "code", "execution_count": None, "id": f"c{i}", "metadata": {},
             "outputs": [], "source": source}
            for i, source in enumerate(CELLS)
        ]  # fmt: skip
        kernel = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        }
        notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (folder / "notebooks" / "boxes.ipynb").write_text(json.dumps(notebook), "utf-8")
        yield address


def test_a_guess_by_keyboard_and_what_is_shown_of_it(open_notebook):
    notebook = open_notebook("/lab/workspaces/boxes/tree/notebooks/boxes.ipynb")
    notebook.run(until="choice")
    number, choice = (notebook.page.locator(".rlhf-prediction").nth(i) for i in (0, 1))
    field = number.locator("input[type=text]")

    field.fill("many")
    field.press("Enter")
    said = number.locator(".rlhf-said")
    expect(said).to_contain_text("“many” is not a number")
    field.fill("40")
    field.press("Enter")
    expect(said).to_have_text("You guessed 40. Run on to see.")
    choice.get_by_text("a little").click()
    choice.locator("button").press("Space")
    expect(choice.locator("button")).to_have_text("✓ Committed")
    notebook.run()
    strips = notebook.page.locator(".rlhf-reveal")
    expect(strips.nth(0)).to_contain_text("your guess 40")
    expect(strips.nth(1)).to_contain_text("✓ it rises answer")

    def check():
        assert notebook.page.evaluate(OVERLAPS) == []

    for width in (1920, 1280, 800, 360):
        notebook.page.set_viewport_size({"width": width, "height": 900})
        eventually(check)
