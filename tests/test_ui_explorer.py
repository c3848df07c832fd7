"""The explorer without a browser: what Python keeps, checks, and answers to the page."""

import base64
import copy
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from rlhf_lab import load_world
from rlhf_lab.report import optimum_at
from rlhf_lab.ui import Explorer, optimum_figure
from rlhf_lab.ui.explorer_still import alt
from rlhf_lab.ui.optima import BETA_POSITIONS, ETA_POSITIONS


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def explorer(world):
    return Explorer(world)


@pytest.fixture
def ask(explorer, monkeypatch):
    """Ask the kernel as the page does; gives its answer and the tables in it."""
    sent = []
    monkeypatch.setattr(explorer, "send", lambda *message: sent.append(message))

    def ask(**question):
        explorer._handle_custom_msg({"ask": "a question", **question}, [])
        answer, buffers = sent.pop()
        assert answer.pop("answer") == "a question"
        return answer, [np.frombuffer(buffer, dtype=np.float32) for buffer in buffers]

    return ask


@pytest.mark.parametrize(("eta", "beta"), [(0.1, 0.0), (0.0, 0.5), (0.3, 0.2), (0.45, 1.6)])
def test_its_state_is_a_direct_computation(world, explorer, eta, beta):
    explorer.set(eta=eta, beta=beta)
    tables = world.tables("food")
    p = ((eta * tables.ref_logprobs + tables.scores) / (eta + beta)).softmax(0)
    kl = (p * (p.log() - tables.ref_logprobs)).sum()
    state = explorer.state
    assert state.metrics[:3] == pytest.approx(
        [(p @ tables.scores).item(), (p @ tables.golds).item(), kl.item()]
    )
    assert (state.eta, state.beta) == (eta, beta)
    best = world.top(optimum_at(tables, eta, beta), 7)
    assert [response.text for response in state.responses] == [text for text, _, _ in best]


@pytest.mark.parametrize("change", [{"prompt": "staff"}, {"score": "gold"}])
def test_prompt_and_score_count(explorer, change):
    gold = explorer.state.metrics.gold
    explorer.set(**change)
    assert explorer.state.metrics.gold != gold
    assert repr(*change.values()) in repr(explorer)


def test_both_at_zero_is_the_highest_score_not_an_error(world, explorer):
    explorer.set(eta=0.0, beta=0.0)
    state = explorer.state
    assert state.metrics.score == pytest.approx(world.tables("food").scores.max().item())
    assert (state.region, state.distinct, len(state.responses)) == ("collapse", 1.0, 1)


def test_only_positions_of_the_controls(world, explorer):
    with pytest.raises(ValueError, match=r"eta = 0.42 is not .*; the nearest are 0.4 and 0.45"):
        explorer.set(eta=0.42)
    with pytest.raises(ValueError, match=r"beta = 0.3001 is not a position"):
        explorer.beta = 0.3001
    with pytest.raises(ValueError, match=r"prompt must be one of \('food', 'staff'\), got 'bar'"):
        explorer.set(beta=0.1, prompt="bar")
    assert explorer.beta == 0.0  # nothing moves unless everything can
    with pytest.raises(ValueError, match="eta must be one of"):
        Explorer(world, eta="0.1")


def test_panels_are_a_choice(world):
    assert Explorer(world, panels=("frontier",)).constants["panels"] == ["frontier"]
    for wrong in ((), ("frontier", "map of everything"), "map"):
        with pytest.raises(ValueError, match="panels must be some of"):
            Explorer(world, panels=wrong)


def test_the_page_gets_the_tables_of_a_prompt(world, ask):
    _, buffers = ask(tables="staff")
    tables = world.tables("staff")
    for buffer, column in zip(
        buffers, (tables.ref_logprobs, tables.scores, tables.golds), strict=True
    ):
        assert np.array_equal(buffer, column.numpy().astype(np.float32))


def test_the_page_gets_the_map_and_the_curves(world, ask, explorer):
    answer, buffers = ask(still="food", score="gold")
    still = answer["still"]
    assert buffers == []
    assert json.loads(json.dumps(still)) == still
    assert len(still["map"]) == len(ETA_POSITIONS) * len(BETA_POSITIONS)
    explorer.set(score="gold", eta=0.1)
    at = ETA_POSITIONS.index(0.1)
    assert still["curve"][at] == pytest.approx(explorer.state.metrics._asdict())


def test_what_goes_wrong_is_said_to_the_page(ask):
    answer, _ = ask(tables="drinks")
    assert "ValueError: 'drinks' is not a prompt" in answer["trouble"]
    answer, _ = ask(nonsense=1)
    assert "Python could not compute this: KeyError" in answer["trouble"]


def test_another_policy_can_stand_beside(world, monkeypatch):
    """A copy of it: what is trained on afterwards stays in the picture as it was."""
    policy = copy.deepcopy(world.sft)
    explorer = Explorer(world, policy=policy, policy_name="<PPO>")
    with torch.no_grad():
        policy.transformer.wte.weight.zero_()
    assert explorer.constants["comparedName"] == "<PPO>"
    compared = np.frombuffer(explorer._tables("food")[3], dtype=np.float32)
    assert compared == pytest.approx(world.tables("food").ref_logprobs.numpy(), abs=1e-4)
    assert [response.compared for response in explorer.state.responses] == pytest.approx(
        [response.compared for response in Explorer(world).state.responses]
    )


def test_two_explorers_do_not_disturb_each_other(world, explorer):
    before = explorer.state
    Explorer(world, "staff", eta=0.02).set(beta=0.5)
    assert explorer.state == before


def test_a_page_without_a_kernel_shows_a_picture_with_words(explorer):
    explorer.set(eta=0.02)
    data, metadata = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width == pytest.approx(1.5 * metadata["image/png"]["width"], abs=1)
    first = explorer.state.responses[0].text
    for part in ("η = 0.02, β = 0", f"“{first}”", "collapse"):
        assert part in metadata["image/png"]["alt"]


def test_the_still_picture_shows_the_same(world):
    responses, frontier, region_map = optimum_figure(world, "food", 0.1, 0.0).axes
    best = world.top(optimum_at(world.tables("food"), 0.1, 0.0), 7)
    assert [label.get_text() for label in responses.get_yticklabels()] == [t for t, _, _ in best]
    widths = [bar.get_width() for bar in responses.patches]
    assert widths == pytest.approx([p for _, p, _ in best])
    state = Explorer(world, eta=0.1).state
    score, gold = frontier.lines[-2:]
    assert score.get_xydata().tolist() == [
        pytest.approx([state.metrics.kl**0.5, state.metrics.score])
    ]
    assert gold.get_xydata().tolist() == [
        pytest.approx([state.metrics.kl**0.5, state.metrics.gold])
    ]
    names = {text.get_text() for text in region_map.texts}
    assert names == {"collapse", "useful", "frozen", "word salad"}
    assert len(optimum_figure(world, "food", 0.123, 0.0, panels=("map",)).axes) == 1
    with pytest.raises(ValueError, match="panels must be some of"):
        optimum_figure(world, "food", 0.1, 0.0, panels=())


def test_a_bar_is_hatched_where_the_gold_score_is_negative(world):
    for eta, hatch in ((0.3, ""), (0.02, "///")):
        (ax,) = optimum_figure(world, "food", eta, 0.0, panels=("responses",)).axes
        assert {bar.get_hatch() for bar in ax.patches} == {hatch}


def test_a_collapse_that_readers_like_is_called_what_it_is(world):
    liked = Explorer(world, score="gold", eta=0.01)
    assert liked.state.region == "collapse"
    assert alt(liked.state).endswith("one good answer.")
