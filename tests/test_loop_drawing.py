"""The drawing of the loop: one, made by code, the same in notebooks, README and on the site."""

import ast
import html
import json
import math
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlhf_lab import load_world, loop_drawing, theme
from rlhf_lab.loop_drawing import ALT, FILES, PARTS, Loop, draw
from rlhf_lab.translation import set_language
from rlhf_lab.world import response_text

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SVG = "{http://www.w3.org/2000/svg}"


def head(path):
    """The drawing of a notebook: near its title, as its source says, and its output."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    cell = next(c for c in cells if "Loop(" in "".join(c["source"]))
    assert cells.index(cell) == (3 if path.stem == "00_start_here" else 1)
    call = ast.parse("".join(cell["source"])).body[-1].value
    (output,) = cell["outputs"]
    return Loop(*(ast.literal_eval(arg) for arg in call.args)), output["data"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_begins_with_it(path):
    loop, data = head(path)
    shown = loop._repr_mimebundle_()
    assert {kind: "".join(text) for kind, text in data.items()} == shown
    assert f'alt="{html.escape(loop.alt)}"' in shown["text/html"]


def test_each_notebook_lights_its_own_part():
    lit = {path.stem[:2]: head(path)[0] for path in NOTEBOOKS}
    assert len({loop.about for loop in lit.values()}) == len(NOTEBOOKS)
    assert {part for loop in lit.values() if loop.lit != PARTS for part in loop.lit} == set(PARTS)
    assert lit["04"].lit == ("rope",)


def test_what_is_not_lit_is_pale():
    whole, rope = ElementTree.fromstring(draw()), ElementTree.fromstring(draw(["rope"]))
    assert not whole.findall(f"{SVG}g[@class='off']")
    pale = "".join("".join(g.itertext()) for g in rope.findall(f"{SVG}g[@class='off']"))
    assert "tokens are paid" in pale
    assert "the leash" not in pale


@pytest.mark.parametrize("narrow", [False, True])
def test_labels_are_large_and_inside(narrow):
    svg = ElementTree.fromstring(draw(about="The whole loop, in words", narrow=narrow))
    width, height = (float(svg.get(side)) for side in ("width", "height"))
    assert width <= (344 if narrow else 850)
    texts = svg.findall(f".//{SVG}text")
    assert len(texts) > 12
    for text in texts:
        size = float(text.get("font-size") or re.search(r"size:([\d.]+)px", text.get("style"))[1])
        assert size >= 13
        # In DejaVu Sans, the widest font that a page may have, a letter is 0.6 em wide.
        x, wide = float(text.get("x")), 0.6 * size * len("".join(text.itertext()))
        left = x - wide / 2 if text.get("text-anchor") else x
        assert 0 <= left < left + wide <= width, "".join(text.itertext())
        assert size <= float(text.get("y")) <= height - 5


@pytest.mark.parametrize("narrow", [False, True])
def test_the_score_fits_into_its_circle(narrow):
    """Even in DejaVu Sans Bold, where a letter is at most 0.7 em wide."""
    shapes = list(ElementTree.fromstring(draw(narrow=narrow)).iter())
    at = next(k for k, shape in enumerate(shapes) if shape.text == "+1.8")
    size = float(shapes[at].get("font-size"))
    half = (0.7 * size * 4 / 2, 0.36 * size)
    assert math.hypot(*half) < float(shapes[at - 1].get("r")), shapes[at - 1].tag


@pytest.mark.parametrize("narrow", [False, True])
def test_sft_is_a_subscript(narrow):
    svg = ElementTree.fromstring(draw(narrow=narrow))
    texts = ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]
    assert "πSFT" in texts
    assert not any("_" in text for text in texts)
    (low,) = svg.iter(f"{SVG}tspan")
    assert low.text == "SFT"
    assert low.get("dy") == ".25em"


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_readme_and_site_are_up_to_date(name):
    """If not: python -m rlhf_lab.loop_drawing docs, and with RLHF_LAB_LANGUAGE=zh docs/zh."""
    assert (ROOT / "docs" / name).read_text("utf-8") == draw(narrow=FILES[name])
    set_language("zh")
    chinese = draw(narrow=FILES[name])
    set_language("en")
    assert (ROOT / "docs" / "zh" / name).read_text("utf-8") == chinese
    for page in ("README.md", "site/index.md"):
        text = (ROOT / page).read_text("utf-8")
        assert f"{name}" in text
        assert f'alt="{ALT}"' in text


def test_its_numbers_are_those_of_the_tables():
    tables = load_world().tables("food")
    index = next(i for i in range(1000) if response_text(i) == loop_drawing.SAYS)
    assert round(tables.scores[index].item(), 1) == loop_drawing.SCORE
    assert round(tables.golds[index].item(), 1) == loop_drawing.GOLD


def test_each_part_has_an_icon_of_its_own_in_the_colours_of_the_course():
    icon = runpy.run_path(str(ROOT / "site" / "icons.py"))["icon"]
    icons = [icon(part) for part in ("π", "cockpit", *PARTS)]
    assert len(set(icons)) == 2 + len(PARTS)
    for shapes in icons:
        svg = ElementTree.fromstring(f"<svg>{shapes}</svg>")
        paints = {shape.get(kind) for shape in svg.iter() for kind in ("fill", "stroke")}
        names = {
            paint.removeprefix("var(--").removesuffix(")") for paint in paints - {None, "none"}
        }
        assert names
        assert names <= set(theme.COLOURS) - {"leash-line"}  # front.css has no such colour


def test_a_part_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"parts must be some of .*'leash'"):
        Loop("The leash", "leash")
