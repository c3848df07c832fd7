"""The cockpit's runs: forked, reset, stopped by an error, started and paused, saved and loaded."""

import copy
import math
import shutil
import time

import cockpits
import pytest
import torch
from cockpits import PATIENCE, SMALL, until, weights, workers

from rlhf_lab import GPT2, NonFiniteError, PPOConfig, Trainer
from rlhf_lab.runs import read_records
from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.runner import wait

world, cockpit = cockpits.world, cockpits.cockpit


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


def test_a_fork_takes_along_what_was_seen_and_shares_nothing(cockpit):
    cockpit.run(2)
    said = cockpit._engine.branch.reviews("food", most=6)
    cockpit.fork()
    assert cockpit.parent.reviews("food", most=6) == said != []
    cockpit.set(eta=2.0)
    cockpit.run(1)
    assert (list(cockpit.parent.exact), list(cockpit._engine.branch.exact)) == ([0, 2], [0, 2, 3])


def test_a_fork_takes_a_slider_along_that_has_just_been_moved(cockpit):
    cockpit._engine.moved["eta"] = 2.0
    cockpit.fork()
    assert cockpit.parent.trainer.eta == cockpit.trainer.eta == 2.0


def test_a_parent_that_runs_into_nan_stays_where_it_was(cockpit):
    cockpit.run(1)
    cockpit.fork()
    cockpit.parent.trainer.optimizer.lr = 1e39
    cockpit.run(2)
    assert (cockpit.trainer.iteration, cockpit.parent.trainer.iteration) == (3, 1)
    assert cockpit.state.error is None


def test_step_takes_over_from_a_running_loop(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 2)
    cockpit.controls.step.click()
    until(lambda: not cockpit.state.running)


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
    assert f"kept as it was after iteration {k}." in cockpit.status.value
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


def test_who_pauses_is_not_told_that_it_stopped_by_itself(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 1)
    cockpit.controls.pause.click()
    until(lambda: not workers())
    assert "Paused" in cockpit.status.value
    assert "by itself" not in cockpit.status.value


def test_the_first_iteration_is_drawn_even_if_pictures_are_dear(cockpit, monkeypatch):
    drawn = []
    monkeypatch.setattr(cockpit._engine, "_draw", lambda: drawn.append(cockpit.state.iteration))
    cockpit._engine._budget.spend(1e9)  # seconds
    wait(cockpit._engine.start(3))
    assert drawn[0] == 1


def test_start_and_pause_by_button(cockpit):
    cockpit.controls.start.click()
    until(lambda: cockpit.state.iteration >= 3 and "Running" in cockpit.status.value)
    assert cockpit.state.running
    assert len(workers()) == 1
    c = cockpit.controls
    assert (c.start.button_style, c.pause.button_style) == ("", "warning")
    cockpit.controls.pause.click()
    until(lambda: "Paused" in cockpit.status.value)
    assert (c.start.button_style, c.pause.button_style) == ("primary", "")
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
        if len(calls) == 3:  # the pause before makes two calls, the run the third
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


def test_a_step_takes_an_old_error_off_the_screen(cockpit, tmp_path):
    with pytest.raises(ValueError, match="no complete run"):
        cockpit.load(tmp_path)
    until(lambda: "no complete run" in cockpit.status.value)
    cockpit.controls.step.click()
    cockpit.pause()
    assert cockpit.state.error is None
    assert "no complete run" not in cockpit.status.value


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


def test_a_visitor_of_a_served_page_writes_below_its_runs_folder_only(
    cockpit, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.8")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "way_out").symlink_to(tmp_path)
    for outside in ("../x", str(tmp_path / "x"), "runs", "runs/../x", "runs/way_out/x", "x", ""):
        cockpit.controls.folder.value = outside
        for button in (cockpit.controls.save, cockpit.controls.load):
            button.click()
            until(lambda: "on this page runs are kept in" in cockpit.status.value)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    cockpit.controls.folder.value = "runs/mine"
    cockpit.controls.save.click()
    until(lambda: "Saved 0 iterations in runs/mine" in cockpit.status.value)


def test_save_and_load(world, cockpit, tmp_path):
    cockpit.run(2)
    cockpit.set(eta=0.7)
    cockpit.run(1)
    cockpit.save(tmp_path / "run")
    cockpit.run(1)
    cockpit.save(tmp_path / "run")  # saved again
    assert "Saved 4 iterations" in cockpit.status.value
    policy = GPT2.from_pretrained(tmp_path / "run" / "policy")
    assert torch.equal(policy.transformer.wte.weight, cockpit.trainer.policy.transformer.wte.weight)
    other = Cockpit(world, PPOConfig(seed=8, batch_size=16, lr=3e-3))
    other.controls.start.click()
    other._engine.moved["eta"] = 2.0  # a move of the run that is replaced
    other.load(tmp_path / "run")
    assert not other.state.running
    assert other.trainer.history == cockpit.trainer.history
    assert torch.equal(weights(other.trainer), weights(cockpit.trainer))
    assert (other.controls.eta.value, other.controls.seed.value) == (0.7, 0)
    assert other.controls.rate.value == SMALL.lr
    assert other._engine.view().moves == [(2, "η 0.7")]
    cockpit.run(1)
    other.run(1)
    assert other.trainer.history == cockpit.trainer.history
    assert math.isnan(other._engine.view().seen[0].gold)  # not in the file
    assert not math.isnan(other._engine.view().seen[-1].gold)
    other.reset()
    assert other.trainer.config.batch_size == SMALL.batch_size


def test_a_folder_that_is_no_run_is_reported_in_words(cockpit, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    cockpit.controls.folder.value = str(tmp_path)
    for button in (cockpit.controls.save, cockpit.controls.load):
        button.click()
        until(lambda: f"role=alert>{tmp_path}" in cockpit.status.value)
        cockpit.run(1)
    with pytest.raises(ValueError, match="holds no complete run"):
        cockpit.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_save_never_takes_another_run_away(world, cockpit, tmp_path):
    cockpit.run(2)
    cockpit.save(tmp_path / "run")
    other = Cockpit(world, SMALL)
    other.load(tmp_path / "run")
    other.run(2)
    other.save(tmp_path / "run")
    with pytest.raises(ValueError, match="holds another run, or more of this one"):
        cockpit.save(tmp_path / "run")
    assert len(read_records(tmp_path / "run")) == 4
    shutil.rmtree(tmp_path / "run")
    cockpit.save(tmp_path / "run")
    assert read_records(tmp_path / "run") == cockpit.trainer.history


@pytest.mark.parametrize("n", [2.5, -1])
def test_a_number_of_iterations_that_is_none_is_refused(cockpit, n):
    with pytest.raises(ValueError, match="iterations must be a whole number >= 0"):
        cockpit.run(n)


def test_another_policy_to_start_from(world, cockpit):
    cockpit.run(3)
    other = Cockpit(world, SMALL, policy=copy.deepcopy(cockpit.trainer.policy))
    assert other.state.exact == cockpit.state.exact
    assert other.state.exact.kl > 0.01  # the reference is still π_SFT
    other.run(1)
    other.reset()
    assert torch.equal(weights(other.trainer), weights(cockpit.trainer))
