"""Knobs without a browser: what is drawn follows the values, errors are shown."""

import pytest

from rlhf_lab import plots
from rlhf_lab.ui import Knobs


def line(power, kind):
    figure, (ax,) = plots.new_figure(3, 2)
    ax.plot([0, power], linestyle="-" if kind == "solid" else "--")
    return figure, f"power {power:g}, {kind} <line>"


@pytest.fixture
def knobs():
    return Knobs(line, start={"power": 2.0}, power=[1.0, 2.0, 4.0], kind=["solid", "dashed"])


def test_it_starts_where_it_is_told_and_redraws_when_turned(knobs):
    assert knobs.values == {"power": 2.0, "kind": "solid"}
    assert knobs.words == "power 2, solid <line>"
    assert "<line>" not in knobs._words.value  # escaped: text is not markup
    before = knobs.picture.value
    assert bytes(before).startswith(b"<svg")
    assert knobs.picture.format == "svg+xml"
    knobs.controls["power"].value = 4.0
    assert (knobs.picture.value != before, knobs.words[:7]) == (True, "power 4")
    knobs.set(power=2.0)
    assert knobs.picture.value == before


def test_set_moves_all_or_nothing(knobs):
    with pytest.raises(
        ValueError, match=r"kind must be one of \['solid', 'dashed'\], got 'dotted'"
    ):
        knobs.set(power=4.0, kind="dotted")
    assert knobs.values["power"] == 2.0
    with pytest.raises(ValueError, match="no knob is called 'colour'; there are"):
        knobs.set(colour="red")


def test_an_error_in_the_drawing_is_shown():
    def broken(x):
        raise RuntimeError("no luck")

    assert Knobs(broken, x=[1.0]).words == "RuntimeError: no luck"


def test_a_knob_needs_positions():
    with pytest.raises(ValueError, match="knob 'x' has no positions"):
        Knobs(line, x=[])


def test_its_text_form_says_where_it_stands(knobs):
    assert repr(knobs) == "Knobs(power=2.0, kind='solid')"
