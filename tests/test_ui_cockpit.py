"""The cockpit without a browser: what it trains, how it is steered, and what it shows."""

import dataclasses
import re

import cockpits
import pytest
import torch
from cockpits import SMALL, until, weights, workers

from rlhf_lab import Trainer
from rlhf_lab.language import PROMPTS, decode
from rlhf_lab.report import metrics, optimum_at, optimum_logprobs
from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.dashboard import frontier

world, cockpit = cockpits.world, cockpits.cockpit


def test_building_it_starts_nothing(cockpit):
    assert not workers()
    assert not cockpit.state.running
    assert cockpit.state.iteration == 0
    assert cockpit.state.batch is None
    assert "Ready" in cockpit.status.value
    assert repr(cockpit) == "Cockpit(iteration=0, eta=0.1, beta=0)"


def test_run_is_the_trainer_itself_bit_for_bit(world, cockpit):
    plain = Trainer(world, SMALL)
    for _ in range(6):
        plain.step()
    assert cockpit.run(6) is None
    assert cockpit.trainer.history == plain.history
    assert torch.equal(weights(cockpit.trainer), weights(plain))


def test_a_slider_acts_from_the_next_iteration_on(world, cockpit):
    plain = Trainer(world, SMALL)
    plain.step()
    plain.eta, plain.beta = 0.5, 0.05
    plain.step()
    cockpit.run(1)
    cockpit.controls.eta.value = 0.5
    cockpit.controls.beta.value = 0.05
    cockpit.run(1)
    assert cockpit.trainer.history == plain.history
    assert cockpit.state[1:3] == (0.5, 0.05)


def test_a_slider_acts_on_a_running_loop(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 2)
    cockpit.controls.eta.value = 1.0
    moved_at = cockpit.state.iteration
    until(lambda: cockpit.state.iteration >= moved_at + 3)
    cockpit.pause()
    assert [s.eta for s in cockpit.trainer.history[:2]] == [0.1, 0.1]
    assert {s.eta for s in cockpit.trainer.history[moved_at + 1 :]} == {1.0}


def test_a_slider_shows_its_effect_before_the_next_piece_of_work(cockpit, monkeypatch):
    cockpit.fork()
    own_step, shown = cockpit.trainer.step, []

    def moved_meanwhile():
        cockpit.controls.eta.value = 0.5
        return own_step()

    monkeypatch.setattr(cockpit.trainer, "step", moved_meanwhile)
    monkeypatch.setattr(cockpit.parent, "step", lambda: shown.append(cockpit.numbers.value))
    cockpit.run(1)
    assert "for η = 0.5" in shown[0]
    assert cockpit.trainer.history[0].eta == 0.1


def test_set_takes_any_value_and_moves_the_slider(cockpit):
    cockpit.set(eta=0.123, beta=0.0)
    assert cockpit.controls.eta.value == 0.123
    positions = [value for _, value in cockpit.controls.eta.options]
    assert positions == sorted(set(positions))
    assert cockpit.state.eta == 0.123
    with pytest.raises(ValueError, match=r"beta.*-1"):
        cockpit.set(eta=0.2, beta=-1)
    assert cockpit.state.eta == 0.123


def test_on_its_way_to_a_new_position_a_slider_moves_nothing(cockpit, monkeypatch):
    """For a moment the widget stands at 0, which an adaptive η must never be."""
    asked = []
    monkeypatch.setattr(cockpit._engine, "ask", asked.append)
    cockpit.set(eta=0.123)
    assert asked == []


def test_what_it_calls_exact_is_exact(world, cockpit):
    cockpit.set(eta=0.2, beta=0.1)
    cockpit.run(2)
    state = cockpit.state
    parts = [world.evaluate(cockpit.trainer.policy, prompt) for prompt in PROMPTS]
    assert state.exact_iteration == state.iteration == 2
    assert state.exact.kl == pytest.approx(sum(p.kl.item() for p in parts) / 2, rel=1e-9)
    regrets = []
    for prompt in PROMPTS:
        logprobs = world.logprobs(cockpit.trainer.policy, prompt).detach()
        best = optimum_at(world.tables(prompt), 0.2, 0.1)
        regrets.append((0.2 + 0.1) * (logprobs.exp() @ (logprobs - best)).item())
    assert state.regret == pytest.approx(sum(regrets) / 2, rel=1e-6)
    rows = dict(
        re.findall("<th scope=row>(.*?)</th>.*?<td>([^<]*)</td></tr>", cockpit.numbers.value)
    )
    assert rows["exact, after update 2"] == f"{state.regret:.2f}"
    assert rows["exact optimum π*"] == "0.00"


def test_the_optimum_follows_the_sliders(world, cockpit):
    before = cockpit.numbers.value
    cockpit.controls.eta.value = 0.5
    cockpit.pause()  # waits for what the slider asked for
    assert cockpit.numbers.value != before
    best = metrics(world, optimum_logprobs(world, 0.5, 0.0))
    assert cockpit.state.optimum == best
    assert f"<td>{best.score:.2f}</td>" in cockpit.numbers.value
    cockpit.set(eta=0.0)
    assert cockpit.state.optimum.score == pytest.approx(frontier(world)[0].score)


def test_the_last_batch_has_a_regret_of_its_own(cockpit):
    cockpit.run(2)
    state, batch = cockpit.state, cockpit._engine.view().seen[-1]
    goal = state.optimum.objective(state.eta, state.beta)
    assert state.regret_estimate == pytest.approx(goal - batch.objective(state.eta, state.beta))
    assert state.regret_estimate != state.regret
    assert cockpit._engine.view().regret == state.regret_estimate


def test_exact_values_come_on_the_way_too(cockpit, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.engine.EXACT_EVERY", 13)
    cockpit.run(39)
    assert list(cockpit._engine.branch.exact) == [0, 13, 26, 39]


def test_an_exact_value_on_the_way_is_that_of_its_own_policy(world, cockpit, monkeypatch):
    """Which is trained on while it is measured."""
    monkeypatch.setattr("rlhf_lab.ui.engine.EXACT_EVERY", 13)
    cockpit.run(25)
    at_rest = Cockpit(world, SMALL)
    at_rest.run(13)
    assert cockpit._engine.branch.exact[13] == at_rest.state.exact


def test_reviews_are_grouped_and_counted(world, cockpit):
    assert "first reviews" in cockpit.reviews[0].value
    cockpit.run(2)
    rollout = cockpit.trainer.rollout
    food = rollout.tokens[rollout.tokens[:, 0] == world.prompt("food")]
    said = cockpit._engine.branch.reviews("food", most=6)
    everything = cockpit._engine.branch.reviews("food", most=99)
    assert sum(s.times for s in everything) == len(food)
    assert {s.text for s in everything} == {decode(tokens[1:]) for tokens in food}
    assert [s.times for s in said] == sorted((s.times for s in said), reverse=True)
    assert f"{said[0].times} × {said[0].text}" in cockpit.reviews[0].value


def test_one_drag_of_a_slider_is_one_move(cockpit):
    cockpit.run(1)
    for eta in (0.2, 0.3, 0.5):
        cockpit.set(eta=eta)
        cockpit.run(1)
    cockpit.run(6)
    cockpit.set(eta=0.1, beta=0.2)
    cockpit.run(1)
    assert cockpit._engine.view().moves == [(3, "η 0.5"), (10, "η 0.1"), (10, "β 0.2")]


def test_an_eta_that_moves_by_itself_is_no_move_of_a_slider(world):
    cockpit = Cockpit(world, dataclasses.replace(SMALL, kl_target=0.01, horizon=50))
    cockpit.run(3)
    assert len({stats.eta for stats in cockpit.trainer.history}) == 3
    assert cockpit._engine.view().moves == []


def test_an_eta_that_moves_by_itself_is_left_alone_after_a_slider(world):
    cockpit = Cockpit(world, dataclasses.replace(SMALL, kl_target=0.01, horizon=50))
    cockpit.set(eta=0.5)
    cockpit.run(3)
    first, *later = [stats.eta for stats in cockpit.trainer.history]
    assert first == 0.5
    assert len({first, *later}) == 3


def test_the_numbers_are_in_words_for_those_who_listen(cockpit):
    cockpit.run(1)
    s = cockpit.state
    assert "aria-live=polite" in cockpit.heard.value
    for text in (
        "Paused, iteration 1", "eta 0.1", f"{s.batch.distinct} different", "Regret",
        f"score {s.batch.score:.2f}", f"KL {abs(s.batch.kl):.2f}", f"entropy {s.batch.entropy:.2f}",
    ):  # fmt: skip
        assert text.replace("-", "−") in cockpit.heard.value


@pytest.mark.parametrize("panels", [("curves",), ("landscape", "regret"), ("regret",)])
def test_panels_and_snapshots(world, panels):
    cockpit = Cockpit(world, SMALL, panels=panels)
    cockpit.run(1)
    assert cockpit.snapshot("what it shows").metadata == {"alt": "what it shows"}
    assert not cockpit.reviews
    with pytest.raises(ValueError, match="alt must say"):
        cockpit.snapshot(" ")


def test_samples_only(world):
    cockpit = Cockpit(world, SMALL, panels=("samples",))
    cockpit.run(1)
    with pytest.raises(ValueError, match="no picture"):
        cockpit.snapshot("nothing")
    with pytest.raises(ValueError, match="panels must be some of"):
        Cockpit(world, SMALL, panels=("curve",))


def test_the_figure_shows_the_numbers(cockpit):
    cockpit.run(3)
    cockpit.fork()
    cockpit.set(eta=1.0)
    cockpit.run(2)
    view, score = cockpit._engine.view(), cockpit._dashboard.panels[0]
    assert score.batch.get_ydata().tolist() == [m.score for m in view.seen]
    assert score.parent.get_ydata().tolist() == [m.score for m in view.parent]
    assert score.exact.get_xdata().tolist() == list(view.exact)
    assert score.optimum.get_ydata()[0] == cockpit.state.optimum.score
    assert score.marks.get_xdata()[0] == 3
    landscape, gauge = cockpit._dashboard.panels[-2:]
    assert landscape.optimum.get_xdata()[0] == cockpit.state.optimum.kl
    assert gauge.bar.get_width() == pytest.approx(max(cockpit.state.regret_estimate, 0))


def test_new_limits_may_come_one_axes_at_a_time(cockpit):
    cockpit.run(1)
    view, dashboard = cockpit._engine.view(), cockpit._dashboard
    longer = view._replace(seen=view.seen * 60)
    ends = []
    for most in (1, 1, None):
        dashboard.update(longer, most)
        ends.append([panel.ax.get_xlim()[1] for panel in dashboard.panels[:4]])
    assert ends == [[100, 50, 50, 50], [100, 100, 50, 50], [100] * 4]


def test_only_a_picture_of_a_running_loop_may_lack_room(cockpit, monkeypatch):
    asked, png = set(), cockpit._dashboard.png

    def watched(view, most):
        asked.add((cockpit.state.running, most))
        return png(view, most)

    monkeypatch.setattr(cockpit._dashboard, "png", watched)
    cockpit.run(2)
    assert asked == {(True, 1), (False, None)}


def test_pictures_are_the_same_each_time(world):
    def picture():
        cockpit = Cockpit(world, SMALL)
        cockpit.run(4)
        return cockpit.picture.value, cockpit.numbers.value, cockpit.snapshot("x").data

    assert picture() == picture()
