"""The cockpit without a browser: what it trains, shows, and survives."""

import copy
import math
import threading
import time

import pytest
import torch

from rlhf_lab import NonFiniteError, PPOConfig, Trainer, load_world
from rlhf_lab.language import PROMPTS
from rlhf_lab.report import metrics, optimum_at, optimum_logprobs
from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.dashboard import frontier

SMALL = PPOConfig(eta=0.1, batch_size=32, epochs=1)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def cockpit(world):
    cockpit = Cockpit(world, SMALL)
    yield cockpit
    cockpit.pause()


def workers():
    return [t for t in threading.enumerate() if t.name == "rlhf_lab"]


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])


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
    assert cockpit.state.eta == 0.123
    with pytest.raises(ValueError, match=r"beta.*-1"):
        cockpit.set(eta=0.2, beta=-1)
    assert cockpit.state.eta == 0.123


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


def test_exact_values_come_on_the_way_too(cockpit, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.engine.EXACT_EVERY", 13)
    cockpit.run(39)
    assert list(cockpit._engine.branch.exact) == [0, 13, 26, 39]


def test_a_fork_leaves_a_parent_that_goes_on_unsteered(world, cockpit):
    cockpit.run(3)
    cockpit.fork()
    cockpit.set(eta=2.0)
    cockpit.run(3)
    plain = Trainer(world, SMALL)
    for _ in range(6):
        plain.step()
    assert cockpit.parent.trainer.history == plain.history
    assert cockpit.trainer.history[:3] == plain.history[:3]
    assert cockpit.trainer.history[3] != plain.history[3]
    view = cockpit._engine.view()
    assert len(view.parent) == len(view.seen) == 6
    assert view.parent[:3] == view.seen[:3]
    assert "parent" in cockpit.numbers.value


def test_a_fork_that_is_not_steered_stays_with_its_parent(cockpit):
    cockpit.run(2)
    cockpit.controls.fork.click()
    cockpit.run(2)
    assert cockpit.parent.trainer.history == cockpit.trainer.history
    assert cockpit.parent.trainer is not cockpit.trainer


def test_reset_starts_again_with_the_settings_of_the_fields(world, cockpit):
    cockpit.run(2)
    first = cockpit.trainer.history
    cockpit.fork()
    cockpit.reset()
    assert cockpit.state.iteration == 0
    assert cockpit.parent is None
    cockpit.run(2)
    assert cockpit.trainer.history == first
    c = cockpit.controls
    c.seed.value, c.kl_mode.value, c.rate.value = 5, "mse", 3e-3
    assert cockpit.trainer.config == SMALL  # not before the reset
    c.reset.click()
    cockpit.pause()
    config = cockpit.trainer.config
    assert (config.seed, config.kl_mode, config.lr) == (5, "mse", 3e-3)
    assert config.batch_size == SMALL.batch_size


@pytest.mark.parametrize("lr", [1e30, 1e39])  # weights that overflow later, and at once
def test_an_exception_is_shown_and_the_last_good_state_kept(cockpit, lr):
    cockpit.run(2)
    cockpit.trainer.optimizer.lr = lr
    with pytest.raises(NonFiniteError):
        cockpit.run(5)
    k = cockpit.state.iteration
    assert k == len(cockpit.trainer.history) == len(cockpit._engine.view().seen)
    assert weights(cockpit.trainer).isfinite().all()
    assert f"Stopped</b> at iteration {k};" in cockpit.status.value
    assert "not finite" in cockpit.status.value
    assert cockpit.state.error in cockpit.status.value
    cockpit.reset()
    cockpit.run(1)
    assert cockpit.state.error is None
    assert "Paused" in cockpit.status.value


def test_an_exception_in_the_thread_is_shown_too(world, cockpit, monkeypatch):
    monkeypatch.setattr(cockpit.trainer, "step", lambda: {}["<b>no such thing"])
    cockpit.controls.start.click()
    until(lambda: "KeyError" in cockpit.status.value)
    assert "&lt;b&gt;no such thing" in cockpit.status.value
    assert not cockpit.state.running


def test_a_picture_that_cannot_be_drawn_is_not_tried_for_ever(cockpit, monkeypatch):
    tried = []

    def broken(*view):
        tried.append(view)
        raise RuntimeError("no ink")

    monkeypatch.setattr(cockpit._dashboard, "png", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        cockpit.run(1)
    until(lambda: not workers())
    assert 1 <= len(tried) < 6
    assert cockpit.state.error == "RuntimeError: no ink"
    monkeypatch.undo()


def test_a_mistake_stays_readable_while_it_runs(cockpit, tmp_path):
    cockpit.controls.start.click()
    with pytest.raises(ValueError, match="no complete run"):
        cockpit._engine.now(lambda: cockpit._engine.load(tmp_path))
    k = cockpit.state.iteration
    until(
        lambda: cockpit.state.iteration > k + 5 and f"role=alert>{tmp_path}" in cockpit.status.value
    )
    assert "Running" in cockpit.status.value


def test_a_forgotten_run_ends_by_itself_and_says_so(world):
    cockpit = Cockpit(world, SMALL, limit=3)
    assert "at most 3 iterations" in cockpit.status.value
    cockpit.controls.start.click()
    until(lambda: "by itself after 3" in cockpit.status.value)
    assert cockpit.state.iteration == 3
    until(lambda: not workers())


def test_start_and_pause_by_button(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 3 and "Running" in cockpit.status.value)
    assert cockpit.state.running
    assert len(workers()) == 1
    cockpit.controls.pause.click()
    until(lambda: "Paused" in cockpit.status.value)
    until(lambda: not workers())
    k = cockpit.state.iteration
    assert cockpit.state.exact_iteration == k
    time.sleep(0.2)
    assert cockpit.state.iteration == k


def test_run_takes_over_from_a_running_thread(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 1)
    cockpit.run(2)
    assert not cockpit.state.running
    assert not workers() or not cockpit._engine.running


def test_ctrl_c_pauses(cockpit, monkeypatch):
    calls = []

    def interrupted(done):
        calls.append(done)
        if len(calls) == 3:  # the two of the pause before, then the run itself
            raise KeyboardInterrupt
        done.result(timeout=PATIENCE)

    monkeypatch.setattr("rlhf_lab.ui.cockpit.wait", interrupted)
    monkeypatch.setattr("rlhf_lab.ui.engine.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cockpit.run(10**6)
    assert not cockpit.state.running


def test_step_by_button(cockpit):
    cockpit.controls.step.click()
    cockpit.controls.step.click()
    cockpit.pause()
    assert cockpit.state.iteration == 2


def test_hammering_leaves_one_thread(cockpit):
    c = cockpit.controls
    for _ in range(7):
        for button in (c.start, c.reset, c.start, c.fork, c.pause, c.start, c.step, c.start):
            button.click()
            assert len(workers()) <= 1
    until(lambda: cockpit.state.iteration >= 1)
    assert len(workers()) == 1
    cockpit.pause()
    assert cockpit.state.error is None
    until(lambda: not workers())


def test_two_cockpits_do_not_disturb_each_other(world, cockpit):
    alone = Trainer(world, SMALL)
    for _ in range(4):
        alone.step()
    with_company = Cockpit(world, PPOConfig(eta=0.0, batch_size=32, epochs=1, seed=9))
    with_company.controls.start.click()
    cockpit.run(4)
    assert len(workers()) <= 2
    with_company.pause()
    assert cockpit.trainer.history == alone.history
    assert with_company.trainer.history[0].eta == 0.0


def test_save_and_load(world, cockpit, tmp_path):
    cockpit.run(2)
    cockpit.set(eta=0.7)
    cockpit.run(1)
    cockpit.save(tmp_path / "run")
    cockpit.run(1)
    cockpit.save(tmp_path / "run")  # brought up to date
    assert "Saved 4 iterations" in cockpit.status.value
    other = Cockpit(world, PPOConfig(seed=8))
    other.load(tmp_path / "run")
    assert other.trainer.history == cockpit.trainer.history
    assert torch.equal(weights(other.trainer), weights(cockpit.trainer))
    assert (other.controls.eta.value, other.controls.seed.value) == (0.7, 0)
    assert other._engine.view().moves == [(2, "η 0.7")]
    cockpit.run(1)
    other.run(1)
    assert other.trainer.history == cockpit.trainer.history
    assert math.isnan(other._engine.view().seen[0].gold)  # not in the file
    assert not math.isnan(other._engine.view().seen[-1].gold)


def test_a_folder_that_is_no_run_is_reported_in_words(cockpit, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    cockpit.controls.folder.value = str(tmp_path)
    for button in (cockpit.controls.save, cockpit.controls.load):
        button.click()
        until(lambda: f"role=alert>{tmp_path}" in cockpit.status.value)
        cockpit.run(1)
    with pytest.raises(ValueError, match="already in use"):
        cockpit.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_another_policy_to_start_from(world, cockpit):
    cockpit.run(3)
    other = Cockpit(world, SMALL, policy=copy.deepcopy(cockpit.trainer.policy))
    assert other.state.exact == cockpit.state.exact
    assert other.state.exact.kl > 0.01  # the reference is still π_SFT
    other.run(1)
    other.reset()
    assert torch.equal(weights(other.trainer), weights(cockpit.trainer))


def test_reviews_are_grouped_and_counted(world, cockpit):
    assert "first reviews" in cockpit.reviews[0].value
    cockpit.run(2)
    rollout = cockpit.trainer.rollout
    food = rollout.tokens[rollout.tokens[:, 0] == world.prompt("food")]
    said = cockpit._engine.branch.said("food", most=6)
    assert sum(s.times for s in cockpit._engine.branch.said("food", most=99)) == len(food)
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


def test_the_numbers_are_in_words_for_those_who_listen(cockpit):
    cockpit.run(1)
    s = cockpit.state
    assert "aria-live=polite" in cockpit.heard.value
    for text in ("Paused, iteration 1", "eta 0.1", f"{s.batch.distinct} different", "Regret"):
        assert text in cockpit.heard.value


@pytest.mark.parametrize("panels", [("curves",), ("landscape", "regret"), ("regret",)])
def test_panels_and_snapshots(world, panels):
    cockpit = Cockpit(world, SMALL, panels=panels)
    cockpit.run(1)
    assert cockpit.snapshot("what it shows").alt == "what it shows"
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


def test_pictures_are_the_same_each_time(world):
    def picture():
        cockpit = Cockpit(world, SMALL)
        cockpit.run(4)
        return cockpit.picture.value, cockpit.numbers.value, cockpit.snapshot("x").data

    assert picture() == picture()
