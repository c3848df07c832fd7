"""The cockpit's runs: forked, reset, stopped by an error, started and paused, saved and loaded."""

import copy
import math
import shutil
import time

import cockpits
import pytest
import torch
from cockpits import PATIENCE, SMALL, order, said, until, weights, workers

from rlhf_lab import GPT2, NonFiniteError, PPOConfig, Trainer
from rlhf_lab.runs import read_records
from rlhf_lab.ui.cockpit import Cockpit

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
    assert cockpit.news["parentFrom"] + len(cockpit.news["parent"]) == 6


def test_a_fork_that_is_not_steered_stays_with_its_parent(cockpit):
    cockpit.run(2)
    order(cockpit, do="fork")
    cockpit.run(2)
    assert cockpit.parent.trainer.history == cockpit.trainer.history
    assert cockpit.parent.trainer is not cockpit.trainer


def test_a_fork_takes_along_what_was_seen_and_shares_nothing(cockpit):
    cockpit.run(2)
    told = cockpit._engine.branch.reviews("food", most=6)
    cockpit.fork()
    assert cockpit.parent.reviews("food", most=6) == told != []
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
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration >= 2)
    order(cockpit, do="step")
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
    fields = {"seed": "5", "kl_mode": "mse", "lr": 3e-3, "kl_target": ""}
    order(cockpit, do="reset", settings=fields, eta=0.25, beta=None)
    cockpit.pause()
    config = cockpit.trainer.config
    assert (config.seed, config.kl_mode, config.lr) == (5, "mse", 3e-3)
    assert (config.kl_target, config.eta, config.beta) == (None, 0.25, 0.0)
    order(cockpit, do="reset", settings={**fields, "kl_target": "0.5"})
    cockpit.pause()
    assert cockpit.trainer.config.kl_target == cockpit.news["settings"]["kl_target"] == 0.5
    order(cockpit, do="reset", settings={**fields, "seed": "five"})
    cockpit.pause()
    assert "seed must be a whole number, got 'five'" in said(cockpit)
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
    assert f"kept as it was after iteration {k}." in said(cockpit)
    assert "not finite" in said(cockpit)
    assert cockpit.state.error in said(cockpit)
    cockpit.reset()
    cockpit.run(1)
    assert cockpit.state.error is None
    assert "Paused" in said(cockpit)


def test_an_exception_in_the_thread_is_shown_too(world, cockpit, monkeypatch):
    monkeypatch.setattr(cockpit.trainer, "step", lambda: {}["<b>no such thing"])
    order(cockpit, do="start")
    until(lambda: "KeyError" in said(cockpit))
    assert "<b>no such thing" in said(cockpit)
    assert not cockpit.state.running


def test_news_that_cannot_be_sent_are_not_tried_for_ever(cockpit, monkeypatch):
    tried = []

    def broken(*news):
        tried.append(news)
        raise RuntimeError("no ink")

    monkeypatch.setattr(cockpit, "send", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        cockpit.run(1)
    until(lambda: not workers())
    assert 1 <= len(tried) < 6
    assert cockpit.state.error == "RuntimeError: no ink"
    monkeypatch.undo()


def test_a_mistake_stays_readable_while_it_runs(cockpit, tmp_path):
    order(cockpit, do="start")
    with pytest.raises(ValueError, match="no complete run"):
        cockpit._engine.now(lambda: cockpit._engine.load(tmp_path))
    k = cockpit.state.iteration
    until(lambda: cockpit.state.iteration > k + 5 and str(tmp_path) in said(cockpit))
    assert "Running" in said(cockpit)


def test_a_forgotten_run_ends_by_itself_and_says_so(world):
    cockpit = Cockpit(world, SMALL, limit=3)
    assert "Ready." in said(cockpit)
    order(cockpit, do="start")
    until(lambda: "by itself after 3" in said(cockpit))
    assert cockpit.state.iteration == 3
    until(lambda: not workers())


def test_who_pauses_is_not_told_that_it_stopped_by_itself(cockpit):
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration >= 1)
    order(cockpit, do="pause")
    until(lambda: not workers())
    assert "Paused" in said(cockpit)
    assert "by itself" not in said(cockpit)


def test_start_and_pause_by_button(cockpit):
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration >= 3 and "Running" in said(cockpit))
    assert cockpit.state.running
    assert len(workers()) == 1
    assert cockpit.news["running"]
    order(cockpit, do="pause")
    until(lambda: "Paused" in said(cockpit))
    assert not cockpit.news["running"]
    until(lambda: not workers())
    k = cockpit.state.iteration
    assert cockpit.state.exact_iteration == k
    time.sleep(0.2)
    assert cockpit.state.iteration == k


def test_run_takes_over_from_a_running_thread(cockpit):
    order(cockpit, do="start")
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
    order(cockpit, do="step")
    order(cockpit, do="step")
    cockpit.pause()
    assert cockpit.state.iteration == 2


def test_steps_in_the_middle_of_a_measurement_are_measured_in_the_end(cockpit):
    for k in (1, 2, 3):
        order(cockpit, do="step")
        until(lambda k=k: f"Paused at iteration {k}." in said(cockpit))
    until(lambda: cockpit.news["exactAt"] == 3)


def test_a_step_takes_an_old_error_off_the_screen(cockpit, tmp_path):
    with pytest.raises(ValueError, match="no complete run"):
        cockpit.load(tmp_path)
    until(lambda: "no complete run" in said(cockpit))
    order(cockpit, do="step")
    cockpit.pause()
    assert cockpit.state.error is None
    assert "no complete run" not in said(cockpit)


def test_hammering_leaves_one_thread(cockpit):
    for _ in range(7):
        for do in ("start", "reset", "start", "fork", "pause", "start", "step", "start"):
            order(cockpit, do=do)
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
    order(with_company, do="start")
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
        for do in ("save", "load"):
            order(cockpit, do=do, folder=outside)
            until(lambda: "on this page runs are kept in" in said(cockpit))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    order(cockpit, do="save", folder="runs/mine")
    until(lambda: "Saved 0 iterations in runs/mine" in said(cockpit))


def test_save_and_load(world, cockpit, tmp_path):
    cockpit.run(2)
    cockpit.set(eta=0.7)
    cockpit.run(1)
    cockpit.save(tmp_path / "run")
    cockpit.run(1)
    cockpit.save(tmp_path / "run")  # saved again
    assert "Saved 4 iterations" in said(cockpit)
    policy = GPT2.from_pretrained(tmp_path / "run" / "policy")
    assert torch.equal(policy.transformer.wte.weight, cockpit.trainer.policy.transformer.wte.weight)
    other = Cockpit(world, PPOConfig(seed=8, batch_size=16, lr=3e-3))
    order(other, do="start")
    other._engine.moved["eta"] = 2.0  # a move of the run that is replaced
    other.load(tmp_path / "run")
    assert not other.state.running
    assert other.trainer.history == cockpit.trainer.history
    assert torch.equal(weights(other.trainer), weights(cockpit.trainer))
    assert (other.news["eta"], other.news["settings"]["seed"]) == (0.7, 0)
    assert other.news["settings"]["lr"] == SMALL.lr
    assert other.news["rows"] == [] or other.news["rows"][0][1] is None  # JSON knows no NaN
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
    for do in ("save", "load"):
        order(cockpit, do=do, folder=str(tmp_path))
        until(lambda: str(tmp_path) in said(cockpit))
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
