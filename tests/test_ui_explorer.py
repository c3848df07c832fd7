"""The explorer without a browser: what it shows changes with the sliders and is what is true."""

import re
import threading
import time

import pytest

from rlhf_lab import load_world
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
    """What the words say of a quantity: "E[gold]" -> 1.82."""
    text = re.search(re.escape(name) + "<b>([^ <]*)", explorer.words.value)[1]
    return float(text.replace("−", "-").replace(",", ""))


def test_a_slider_redraws_the_picture_and_the_words(explorer):
    picture, words = explorer.picture.value, explorer.words.value
    explorer.eta_slider.value = 0.05
    assert explorer.picture.value != picture
    assert explorer.words.value != words
    explorer.eta_slider.value = 0.3
    assert (explorer.picture.value, explorer.words.value) == (picture, words)


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
    table = Explorer(world, panels=("responses",))
    assert "<table>" in table.words.value
    assert table.picture not in table.children[-1].children
    for wrong in ((), ("frontier", "map of everything"), "map"):
        with pytest.raises(ValueError, match="panels must be some of"):
            Explorer(world, panels=wrong)


def test_another_policy_can_stand_beside(world):
    explorer = Explorer(world, policy=world.sft, policy_name="<PPO>")
    assert "&lt;PPO&gt;" in explorer.words.value
    sft = Explorer(world)
    assert [said.ghost for said in explorer.state.responses] == pytest.approx(
        [said.ghost for said in sft.state.responses]
    )


def test_two_explorers_do_not_disturb_each_other(world, explorer):
    before = explorer.picture.value, explorer.words.value, explorer.state
    Explorer(world, "staff", eta=0.02).set(beta=0.5)
    assert (explorer.picture.value, explorer.words.value, explorer.state) == before


def test_what_goes_wrong_is_shown(explorer, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.explorer.words", lambda state: 1 / 0)
    explorer.set(eta=0.1)
    assert "out of date" in explorer.words.value
    assert "ZeroDivisionError" in explorer.words.value


def test_two_threads_take_turns_and_end_at_what_the_sliders_say(explorer, monkeypatch):
    """Jupyter may hand the moves of two sliders to two threads."""
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
    shown = explorer.picture.value, explorer.words.value
    explorer._draw()
    assert (explorer.picture.value, explorer.words.value) == shown


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
