"""A sweep loses nothing: results are on disk as they come, and only what is missing is run."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from outcomes import all_well, fake

from rlhf_lab import Trainer, load_world
from rlhf_lab import __main__ as cli
from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import ScalarHead
from rlhf_lab.grids import workers
from rlhf_lab.grids.sweep import (
    Failure,
    Outcome,
    grid,
    read_outcomes,
    run_group,
    run_one,
    sweep,
)
from rlhf_lab.report import compare, metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.world import World

GRID = grid([0.0, 0.3], [0.0], [0, 1])


def some_unlucky(configs):
    """Where seed 2 is, nothing ends well; elsewhere η = 0.3 does not."""
    if any(config.seed == 2 for config in configs):
        raise MemoryError("seed 2 needs too much")
    return [Failure(c, "unlucky") if c.eta == 0.3 else fake(c) for c in configs]


def fails_at_seed_1(configs):
    if any(config.seed == 1 for config in configs):
        raise ArithmeticError("seed 1 is unlucky")
    return all_well(configs)


def dies_at_seed_1(configs):
    if any(config.seed == 1 for config in configs):
        os.kill(os.getpid(), signal.SIGKILL)
    return all_well(configs)


def dies_once(configs):
    """Killed the first time, as by a machine that is short of memory; fine the second."""
    marker = Path(os.environ["SWEEP_MARKER"])
    if any(config.seed == 1 for config in configs) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return all_well(configs)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sweep" / "results.csv"


def test_results_are_on_disk_bit_for_bit_when_they_are_yielded(file, threads):
    for n, outcome in enumerate(sweep(GRID, file, executor=threads, run=all_well), start=1):
        assert outcome in read_outcomes(file)
        assert len(read_outcomes(file)) >= n
    assert {o.config for o in read_outcomes(file)} == set(GRID)


def test_a_second_sweep_runs_only_what_is_missing(file, threads):
    steps = sweep(GRID, file, executor=threads, run=all_well)
    next(steps)
    steps.close()  # as Ctrl-C would
    kept = read_outcomes(file)
    rest = list(sweep(GRID, file, executor=threads, run=all_well))
    assert len(kept) + len(rest) == len(GRID)
    assert list(sweep(GRID, file, executor=threads, run=all_well)) == []
    other = list(sweep(grid([0.0], [0.0], [0], lr=1e-4), file, executor=threads, run=all_well))
    assert len(other) == 1  # any setting makes it another run


def test_a_run_that_is_asked_for_twice_is_done_once(file, threads):
    outcomes = list(sweep([*GRID, *GRID], file, executor=threads, run=all_well))
    assert len(outcomes) == len(GRID)


def test_who_stops_a_sweep_stops_what_has_not_begun(file):
    begun, stopped = [], threading.Event()

    def run(configs):
        begun.append(configs)
        assert len(begun) == 1 or stopped.wait(60)
        return all_well(configs)

    with ThreadPoolExecutor(1) as one:
        steps = sweep(GRID, file, executor=one, run=run)
        next(steps)
        steps.close()
        stopped.set()
    assert len(begun) <= 2


def test_there_are_as_many_workers_as_cores_that_we_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert workers._cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert workers._cores() == 64


def test_all_runs_of_a_group_are_on_disk_before_the_first_is_yielded(file, threads):
    steps = sweep(GRID, file, executor=threads, run=all_well, together=4)
    next(steps)
    steps.close()
    assert len(read_outcomes(file)) == 4


def test_a_file_that_cannot_be_written_is_found_before_anything_is_run(tmp_path, threads):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        next(sweep(GRID, tmp_path / "file" / "x.csv", executor=threads, run=fails_at_seed_1))


def test_a_full_disk_is_found_before_anything_is_run(file, threads, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    begun = []
    monkeypatch.setattr("rlhf_lab.grids.results.write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        next(sweep(GRID, file, executor=threads, run=begun.append))
    assert begun == []


def test_all_groups_run_in_the_world_that_was_asked_for(file, threads):
    """Three runs in groups of two: the second group is one run alone."""
    configs = grid([0.0], [0.0], [0, 1, 2], iterations=1, batch_size=8, epochs=1)
    run = functools.partial(run_group, load=quiet_world)
    outcomes = list(sweep(configs, file, executor=threads, run=run, together=2))
    assert [outcome.score for outcome in outcomes] == pytest.approx([0.0] * 3)


def quiet_world():
    """Its reward model gives every review the same score."""
    world = load_world()
    head = ScalarHead(world.sft.config.n_embd)
    return World(world.sft, world.reward_trunk, head, world.prompts)


def test_a_failed_run_is_reported_and_tried_again(file, threads):
    results = list(sweep(GRID, file, executor=threads, run=fails_at_seed_1))
    failures = [r for r in results if isinstance(r, Failure)]
    assert {f.config.seed for f in failures} == {1}
    assert failures[0].error == "ArithmeticError: seed 1 is unlucky"
    assert len(read_outcomes(file)) == 2
    assert len(list(sweep(GRID, file, executor=threads, run=all_well))) == 2


def test_a_line_that_a_crash_cut_off_is_run_again(file, threads):
    list(sweep(GRID, file, executor=threads, run=all_well))
    text = file.read_text("utf-8")
    file.write_text(text[:-20], "utf-8")
    assert len(read_outcomes(file)) == 3
    assert file.read_text("utf-8") == text[:-20]  # reading changes nothing
    assert len(list(sweep(GRID, file, executor=threads, run=all_well))) == 1
    assert len(read_outcomes(file)) == 4


def test_an_empty_file_is_a_fresh_start(file, threads):
    file.parent.mkdir()
    file.touch()
    assert (
        len(list(sweep(GRID, file, executor=threads, run=all_well)))
        == len(read_outcomes(file))
        == 4
    )


def sleeps(configs):
    Path(os.environ["SWEEP_MARKER"], f"{os.getpid()}").touch()
    time.sleep(600)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_the_sweep_is_killed(file, tmp_path):
    code = (
        "from test_grids_sweep import *\n"
        "if __name__ == '__main__':\n"
        f"    list(sweep(GRID, {str(file)!r}, run=sleeps))\n"
    )
    (tmp_path / "script.py").write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "SWEEP_MARKER": str(tmp_path), "PYTHONPATH": paths}
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py"], env=env)
    try:
        workers = wait_for(lambda: [p.name for p in tmp_path.iterdir() if p.name.isdigit()], 120)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(alive(worker) for worker in workers), 30)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return result


@pytest.mark.parametrize("text", ["not,ours\n1,2\n", "\n"])
def test_another_file_is_not_touched(file, threads, text):
    file.parent.mkdir()
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="does not hold results of this version's sweeps"):
        list(sweep(GRID, file, executor=threads, run=all_well))
    assert file.read_text("utf-8") == text


@pytest.mark.slow
def test_a_killed_process_costs_only_its_own_run(file, monkeypatch, tmp_path):
    results = list(sweep(GRID, file, run=dies_at_seed_1))
    assert {r.config for r in results} == set(GRID)
    assert {r.config.seed for r in results if isinstance(r, Failure)} == {1}
    monkeypatch.setenv("SWEEP_MARKER", str(tmp_path / "marker"))
    assert all(isinstance(r, Outcome) for r in sweep(GRID, file, run=dies_once))
    assert len(read_outcomes(file)) == len(GRID)


def test_one_run_ends_where_a_trainer_ends():
    config = PPOConfig(eta=0.3, beta=0.1, seed=5, iterations=2)
    outcome = run_one(config)
    world, trainer = load_world(), Trainer(load_world(), config)
    stats = [trainer.step() for _ in range(2)][-1]
    table = compare(world, trainer.policy, 0.3, 0.1).splitlines()
    exact = [float(line.split()[-2]) for line in table[1:] if line[0] in "EKHr"]  # π's column
    assert outcome[1:6] == pytest.approx(exact, abs=0.0051)
    assert (outcome.distinct, outcome.top_share) == (stats.distinct, stats.top_share)


def test_the_regret_is_that_of_the_eta_a_run_ended_with(file, threads):
    """Alone and together; an adaptive η halves within three iterations here."""
    shared = {"kl_target": 50.0, "horizon": 9.0, "batch_size": 8, "iterations": 3}
    configs = grid([0.4], [0.05], [0, 1], **shared, dtype="float64")
    world = load_world()
    for outcome in sweep(configs, file, executor=threads, together=2):
        trainer = Trainer(world, outcome.config)
        for _ in range(3):
            trainer.step()
        assert trainer.eta < 0.6 * outcome.config.eta
        trained = metrics(world, policy_logprobs(world, trainer.policy.float()))
        best = metrics(world, optimum_logprobs(world, trainer.eta, 0.05))
        gap = best.objective(trainer.eta, 0.05) - trained.objective(trainer.eta, 0.05)
        assert outcome.regret == pytest.approx(gap, abs=1e-6)
        assert run_one(outcome.config).regret == pytest.approx(gap, abs=1e-6)


def test_groups_end_where_single_runs_end(file, threads):
    """Seven runs, three at a time; float64, so that rounding does not decide a token."""
    shared = {"iterations": 3, "batch_size": 8, "dtype": "float64"}
    configs = grid([0.0, 0.3], [0.0, 0.1], [0, 1], **shared)[1:]
    together = list(sweep(configs, file, executor=threads, together=3))
    assert together == read_outcomes(file)
    assert {outcome.config for outcome in together} == set(configs)
    for outcome in together[1::3]:
        assert outcome[1:] == pytest.approx(run_one(outcome.config)[1:], abs=1e-6)


def test_groups_hold_what_may_be_together_and_only_what_is_missing(file):
    groups = []

    def run(group):
        groups.append(group)
        return all_well(group)

    others = grid([0.0], [0.0], [0, 1], lr=1e-4)
    with ThreadPoolExecutor(1) as one:
        list(sweep(GRID[:1], file, executor=one, run=all_well))
        list(sweep([*GRID, *others], file, executor=one, run=run, together=3))
    assert groups == [tuple(GRID[1:]), tuple(others)]
    assert len(read_outcomes(file)) == 6


def test_a_failure_costs_its_run_and_an_error_its_group(file, threads):
    configs = grid([0.0, 0.3], [0.0], [1, 0]) + grid([0.0], [0.0], [2, 3])
    results = list(sweep(configs, file, executor=threads, run=some_unlucky, together=2))
    errors = {r.config: r.error for r in results if isinstance(r, Failure)}
    assert [errors.get(config, "") for config in configs] == [
        *["", ""], *["unlucky"] * 2, *["MemoryError: seed 2 needs too much"] * 2
    ]  # fmt: skip
    assert {o.config for o in read_outcomes(file)} == set(configs[:2])


def test_a_run_that_is_no_longer_finite_is_a_failure(file, threads):
    configs = grid([0.0], [0.0], [0, 1], iterations=1, batch_size=8, epochs=1, lr=1e39)
    results = list(sweep(configs, file, executor=threads, together=2))
    assert [(r.config, r.error[:28]) for r in results] == [
        (config, "NonFiniteError: iteration 1:") for config in configs
    ]
    assert read_outcomes(file) == []


@pytest.mark.slow
def test_the_command_line_trains_together_in_processes(file, capsys):
    command = ["sweep", "--etas", "0.3", "--seeds", "0,1,2", "--iterations", "1"]
    command += ["--batch-size", "8", "--out", str(file), "--together"]
    assert cli.main([*command, "2"]) == 0
    assert f"3 runs in {file}" in capsys.readouterr().out
    assert {outcome.config.seed for outcome in read_outcomes(file)} == {0, 1, 2}
    assert cli.main([*command, "0"]) == 2
    assert "together must be at least 1" in capsys.readouterr().err
