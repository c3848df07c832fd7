"""The explorer without a browser: what it shows follows the sliders and is right."""

import copy
import io
import re
import threading
import time

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from rlhf_lab import load_world, plots
from rlhf_lab.report import optimum_at
from rlhf_lab.ui import Explorer, optimum_figure
from rlhf_lab.ui.explorer_words import share, words


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def explorer(world):
    return Explorer(world)


def number(explorer, name):
    """The number that the words give for a quantity: "E[gold]" -> 1.82."""
    text = re.search(re.escape(name) + "<b>([^ <]*)", explorer.words.value)[1]
    return float(text.replace("−", "-").replace(",", ""))


def shown(explorer):
    return explorer.picture.value, explorer.marks.value, explorer.words.value


def marks(explorer):
    """Places and colours of the marks; places are fractions of the picture, from its top left."""
    svg = explorer.marks.value
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    found = re.findall(r'translate\((\S+) (\S+)\)" fill="\S+" stroke="(\S+)"', svg)
    return [(float(x) / width, float(y) / height, colour.upper()) for x, y, colour in found]


def test_a_slider_moves_the_marks_and_the_words_not_the_picture(explorer):
    picture, *before = shown(explorer)
    explorer.eta_slider.value = 0.05
    assert explorer.picture.value == picture
    assert explorer.marks.value != before[0]
    assert explorer.words.value != before[1]
    explorer.eta_slider.value = 0.3
    assert shown(explorer) == (picture, *before)


@pytest.mark.parametrize(("eta", "beta"), [(0.3, 0.0), (0.05, 0.0), (0.01, 0.5), (10.0, 2.0)])
def test_the_marks_lie_where_matplotlib_would_draw_them(world, eta, beta):
    """The centre of a mark is the centre of the pixels that change when matplotlib draws it."""
    explorer = Explorer(world, eta=eta, beta=beta)
    panels = ("frontier", "map")
    figure = optimum_figure(world, "food", eta, beta, panels=panels)
    drawn = np.asarray(Image.open(io.BytesIO(plots.png(figure, 200))).convert("RGB"), int)
    still = np.asarray(Image.open(io.BytesIO(explorer.picture.value)).convert("RGB"), int)
    assert still.shape == drawn.shape
    changed = (drawn != still).any(-1)
    for x, y, colour in marks(explorer):
        paint = (np.abs(drawn - 255 * np.array(to_rgb(colour))) < 3).all(-1) & changed
        if colour == "#FFFFFF":  # mostly under the black ring
            continue
        rows, columns = np.nonzero(paint)
        assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(x * still.shape[1], abs=1.5)
        assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(y * still.shape[0], abs=1.5)


def test_the_marks_say_in_words_what_they_show(explorer):
    explorer.set(eta=0.1, beta=0.02)
    metrics = explorer.state.metrics
    label = re.search('role="img" aria-label="(.*?)"', explorer.marks.value)[1]
    for part in ("η = 0.1, β = 0.02", f"E[gold] {metrics.gold:.2f}", explorer.state.region):
        assert part in label


@pytest.mark.parametrize(("eta", "beta"), [(0.1, 0.0), (0.0, 0.5), (0.3, 0.2), (0.45, 1.6)])
def test_what_it_says_is_a_direct_computation(world, explorer, eta, beta):
    explorer.set(eta=eta, beta=beta)
    tables = world.tables("food")
    p = ((eta * tables.ref_logprobs + tables.scores) / (eta + beta)).softmax(0)
    kl = (p * (p.log() - tables.ref_logprobs)).sum()
    assert number(explorer, "E[score]") == pytest.approx((p @ tables.scores).item(), abs=0.0051)
    assert number(explorer, "E[gold]") == pytest.approx((p @ tables.golds).item(), abs=0.0051)
    assert number(explorer, "KL(π* ‖ π_SFT)") == pytest.approx(kl.item(), abs=0.0051)
    assert explorer.state.metrics.score == pytest.approx((p @ tables.scores).item())
    assert (explorer.state.eta, explorer.state.beta) == (eta, beta)


def test_the_table_holds_the_likeliest_responses(world, explorer):
    rows = re.findall("<th scope=row>(.*?)</th>.*?<td>(.*?)</td>", explorer.words.value)
    best = world.top(optimum_at(world.tables("food"), 0.3, 0.0), 7)
    assert rows == [(text, share(p)) for text, p, _ in best]


def test_a_bar_is_hatched_where_the_gold_score_is_negative(explorer):
    assert "rlhf-bad" not in explorer.words.value
    explorer.set(eta=0.02)
    assert explorer.words.value.count("rlhf-bad") == 7
    assert "rlhf-good" not in explorer.words.value


@pytest.mark.parametrize("change", [{"prompt": "staff"}, {"score": "gold"}])
def test_prompt_and_score_count(explorer, change):
    gold, picture = explorer.state.metrics.gold, explorer.picture.value
    explorer.set(**change)
    assert explorer.state.metrics.gold != gold
    assert explorer.picture.value != picture
    assert repr(*change.values()) in repr(explorer)


def test_both_at_zero_is_the_highest_score_not_an_error(world, explorer):
    explorer.set(eta=0.0, beta=0.0)
    state = explorer.state
    assert "nothing holds π*" in explorer.words.value
    assert state.metrics.score == pytest.approx(world.tables("food").scores.max().item())
    assert (state.region, state.distinct, len(state.responses)) == ("collapse", 1.0, 1)
    assert explorer.words.value.count("<tr>") == 8  # the empty rows keep their place


def test_only_positions_of_the_controls(explorer):
    with pytest.raises(ValueError, match=r"eta = 0.42 is not .*; the nearest are 0.4 and 0.45"):
        explorer.set(eta=0.42)
    with pytest.raises(ValueError, match=r"prompt must be one of \('food', 'staff'\), got 'bar'"):
        explorer.set(beta=0.1, prompt="bar")
    assert explorer.state.beta == 0.0  # nothing moves unless everything can


def test_panels_are_a_choice(world):
    pictures = Explorer(world, panels=("frontier",))
    assert "<table>" not in pictures.words.value
    assert pictures.picture.value
    assert [colour for _, _, colour in marks(pictures)] == [plots.BLUE, plots.RED]
    table = Explorer(world, panels=("responses",))
    assert "<table>" in table.words.value
    assert table.children[-1].children == (table.words,)
    for wrong in ((), ("frontier", "map of everything"), "map"):
        with pytest.raises(ValueError, match="panels must be some of"):
            Explorer(world, panels=wrong)


def test_another_policy_can_stand_beside(world):
    explorer = Explorer(world, policy=world.sft, policy_name="<PPO>")
    assert "&lt;PPO&gt;" in explorer.words.value
    sft = Explorer(world)
    assert [response.compared for response in explorer.state.responses] == pytest.approx(
        [response.compared for response in sft.state.responses]
    )


def test_a_policy_that_is_trained_on_stays_in_the_picture_as_it_was(world):
    policy = copy.deepcopy(world.sft)
    explorer = Explorer(world, panels=["responses"], policy=policy)
    with torch.no_grad():
        policy.transformer.wte.weight.zero_()
    explorer.set(prompt="staff")
    sft = Explorer(world, "staff", panels=["responses"])
    assert [response.compared for response in explorer.state.responses] == pytest.approx(
        [response.compared for response in sft.state.responses]
    )


def test_two_explorers_do_not_disturb_each_other(world, explorer):
    before = shown(explorer), explorer.state
    Explorer(world, "staff", eta=0.02).set(beta=0.5)
    assert (shown(explorer), explorer.state) == before


def test_what_goes_wrong_is_shown(explorer, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.explorer.words", lambda state: 1 / 0)
    explorer.set(eta=0.1)
    assert "out of date" in explorer.words.value
    assert "ZeroDivisionError" in explorer.words.value


def test_two_threads_take_turns_and_end_at_what_the_sliders_say(explorer, monkeypatch):
    """Jupyter may run the callbacks of two sliders on two threads."""
    drawing, together = [], []

    def slowly(state):
        drawing.append(state)
        time.sleep(0.002)
        together.append(len(drawing))
        return words(drawing.pop())

    def drag(slider):
        for _, value in slider.options[5:25]:
            slider.value = value

    monkeypatch.setattr("rlhf_lab.ui.explorer.words", slowly)
    sliders = explorer.eta_slider, explorer.beta_slider
    threads = [threading.Thread(target=drag, args=(slider,)) for slider in sliders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 40
    assert max(together) == 1
    before = shown(explorer)
    explorer._draw()
    assert shown(explorer) == before


def test_controls_have_the_names_that_tests_in_a_browser_look_for(explorer):
    for control, name in (
        (explorer, "explorer"),
        (explorer.eta_slider, "eta"),
        (explorer.beta_slider, "beta"),
        (explorer.prompt_buttons, "prompt"),
        (explorer.score_buttons, "score"),
    ):
        assert f"rlhf-{name}" in control._dom_classes


def test_the_figure_for_paper_shows_the_same(world):
    responses, frontier, region_map = optimum_figure(world, "food", 0.1, 0.0).axes
    best = world.top(optimum_at(world.tables("food"), 0.1, 0.0), 7)
    assert [label.get_text() for label in responses.get_yticklabels()] == [t for t, _, _ in best]
    widths = [bar.get_width() for bar in responses.patches]
    assert widths == pytest.approx([p for _, p, _ in best])
    assert frontier.get_xlabel().startswith("KL(π* ‖ π_SFT)")
    assert region_map.get_xlabel().startswith("η")
    assert len(optimum_figure(world, "food", 0.123, 0.0, panels=("map",)).axes) == 1
