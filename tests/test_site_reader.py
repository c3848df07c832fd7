"""How outputs of a notebook become a page: figures are files in both themes, with words."""

import base64
import json
import re

import pytest
from scripts import ROOT, load

from rlhf_lab import plots
from rlhf_lab.ui import show

pytest.importorskip("latex2mathml")
pytest.importorskip("sphinx")


@pytest.fixture
def reader(tmp_path, monkeypatch):
    reader = load("site/reader.py")
    monkeypatch.setattr(reader, "_static", tmp_path)
    return reader


def notebook(data, metadata, source="x"):
    output = {"output_type": "display_data", "data": data, "metadata": metadata}
    cell = {
        "cell_type": "code", "id": "c", "source": source, "outputs": [output], "metadata": {},
        "execution_count": 1,
    }  # fmt: skip
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_a_figure_is_a_file_that_follows_the_theme(reader, tmp_path):
    figure, (ax,) = plots.new_figure(2, 1)
    ax.plot([0, 1])
    picture = show(figure, "a line")
    read = reader.read_notebook(notebook(*picture._repr_mimebundle_()))
    shown = read.cells[0].outputs[0].data["text/html"]
    assert "data:" not in shown
    assert 'alt="a line"' in shown
    name = re.search(r'src="\.\./_static/(figures/\w+\.svg)"', shown)[1]
    assert (tmp_path / name).read_text("utf-8") == picture.svg


def test_a_still_without_html_becomes_a_picture_with_its_words(reader, tmp_path):
    figure, _ = plots.new_figure(2, 1)
    data, about = show(figure, "nothing")._repr_mimebundle_()
    read = reader.read_notebook(notebook({"image/png": data["image/png"]}, about))
    shown = read.cells[0].outputs[0].data["text/html"]
    assert 'alt="nothing"' in shown
    name = re.search(r"figures/\w+\.webp", shown)[0]
    assert (tmp_path / name).stat().st_size < len(base64.b64decode(data["image/png"])) + 1000


@pytest.mark.parametrize(
    ("path", "says"), [("", "may not move"), ("zh/", "滑块可能不会动")], ids=["en", "zh"]
)
def test_the_site_does_not_say_that_its_sliders_do_not_move(reader, path, says):
    text = (ROOT / "notebooks" / path / "00_start_here.ipynb").read_text(encoding="utf-8")
    assert says in text
    read = reader.read_notebook(text)
    assert says not in "".join(cell.source for cell in read.cells)
