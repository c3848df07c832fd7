"""The command line as a user meets it: a process, its output, its exit status."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from unittest.mock import patch

import pytest

from rlhf_lab import __main__ as cli
from rlhf_lab import runs
from rlhf_lab.grids.sweep import Failure


def train(*arguments):
    return cli.main(["train", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def test_train_shows_sentences_and_compares_with_the_optimum(folder, capsys):
    assert (
        train("--eta", 0, "--beta", 0, "--iterations", 3, "--batch-size", 16, "--out", folder) == 0
    )
    said = capsys.readouterr()
    assert "× " in said.out
    assert "regret J* − J" in said.out
    assert "KL(π ‖ π_SFT), nats" in said.out
    assert "3/3" in said.err  # the progress bar
    assert len(runs.read_records(folder)) == 3
    assert sorted(p.name for p in folder.iterdir()) == [
        ".run.lock",
        "checkpoint.previous.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "policy",
        "records.csv",
    ]


def test_resume_goes_on_and_may_steer(folder, monkeypatch):
    compared = []
    monkeypatch.setattr(cli.report, "compare", lambda *policy: compared.append(policy[2:]))
    train("--iterations", 2, "--batch-size", 8, "--out", folder)
    assert train("--resume", folder, "--iterations", 4, "--eta", 0.7, "--device", "cpu") == 0
    assert compared == [(0.1, 0.0), (0.7, 0.0)]
    records = runs.read_records(folder)
    assert [stats.iteration for stats in records] == [1, 2, 3, 4]
    assert [stats.eta for stats in records] == [0.1, 0.1, 0.7, 0.7]
    assert {stats.beta for stats in records} == {0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eta", "-1"], "eta must be a finite number >= 0"),
        (["--beta", "nan"], "beta must be a finite number"),
        (["--kl-mode", "k9"], "kl_mode must be one of"),
        (["--iterations", "0"], "iterations must be a whole number >= 1"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--device", "meta"], "meta"),
        (["--batch-size", "1" + "0" * 14], "batch_size must be a whole number in 2..1000000"),
        (["--resume", "nowhere"], "nowhere is no complete run"),
        (["--resume", "nowhere", "--lr", "1"], "--lr cannot change in mid-run"),
        (["--resume", "nowhere", "--out", "x"], "--out cannot change in mid-run"),
    ],
)
def test_bad_input_ends_with_2_and_a_reason(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--iterations", "many"], ["--epoch", "3"], ["--et", "1"]])
def test_what_argparse_refuses_ends_with_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        train(*arguments)
    assert stopped.value.code == 2


def test_a_place_that_cannot_be_written_to_ends_with_2_before_anything_is_run(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert train("--iterations", 1, "--out", file / "x") == 2
    with patch("rlhf_lab.grids.sweep.run_one", side_effect=AssertionError):
        assert cli.main(["sweep", "--out", str(file / "x.csv")]) == 2
        assert cli.main(["sweep", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("rlhf_lab: ") == 3


def test_ctrl_c_outside_training_is_no_traceback(folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.report, "compare", interrupted)
    assert train("--iterations", 1, "--batch-size", 8, "--out", folder) == 130


def test_a_run_folder_is_not_overwritten(folder, capsys):
    train("--iterations", 1, "--batch-size", 8, "--out", folder)
    before = (folder / "records.csv").read_bytes()
    assert train("--iterations", 1, "--batch-size", 8, "--out", folder) == 2
    assert "holds a run already; continue that one" in capsys.readouterr().err
    assert (folder / "records.csv").read_bytes() == before


def test_the_same_command_goes_on_with_a_run_that_was_broken_off(folder, capsys, monkeypatch):
    command = ["--iterations", 3, "--batch-size", 8, "--out", folder]
    monkeypatch.setattr(runs, "_append_records", fails := Fails(OSError(28, "No space left")))
    assert train(*command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "rlhf_lab: [Errno 28] No space left"
    assert fails.calls == 1
    monkeypatch.undo()
    assert train("--iterations", 3, "--batch-size", 8, "--lr", 1, "--out", folder) == 2
    assert train(*command) == 0
    assert "going on after iteration 1" in capsys.readouterr().out
    assert [stats.iteration for stats in runs.read_records(folder)] == [1, 2, 3]


class Fails:
    def __init__(self, error):
        self.error, self.calls = error, 0

    def __call__(self, *_, **__):
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("out\nof order"), OverflowError(), MemoryError()])
def test_any_failure_is_one_line(error, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_world", Fails(error))
    assert train() == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert said.err.startswith("rlhf_lab: ")


def test_an_interrupt_that_torch_turned_into_another_error_is_still_one(monkeypatch, capsys):
    def load():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ValueError("could not determine the shape of object type")

    monkeypatch.setattr(cli, "load_world", load)
    assert (train(), capsys.readouterr().err) == (130, "")


def test_the_callers_handler_of_ctrl_c_is_back_afterwards(capsys):
    before = signal.getsignal(signal.SIGINT)
    assert cli.main(["repair", "nowhere"]) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_arguments_are_parsed_is_no_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_parser", Fails(KeyboardInterrupt()))
    assert train() == 130


def test_repair_takes_a_run_back_and_says_so(folder, capsys):
    train("--iterations", 2, "--batch-size", 8, "--out", folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert train("--resume", folder) == 2
    assert f"python -m rlhf_lab repair {folder}" in capsys.readouterr().err
    assert cli.main(["repair", str(folder)]) == 0
    assert "config.json was written anew; the old one is config.json.damaged" in (
        capsys.readouterr().out
    )
    assert train("--resume", folder, "--iterations", 3) == 0
    assert cli.main(["repair", str(folder / "nowhere")]) == 2


def test_a_non_finite_loss_ends_with_1_and_the_last_good_state(folder, capsys):
    assert train("--lr", "1e39", "--iterations", 5, "--batch-size", 8, "--out", folder) == 1
    assert "is not finite" in capsys.readouterr().err
    assert runs.read_records(folder) == []
    assert (folder / "checkpoint.safetensors").exists()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT the POSIX way")
def test_ctrl_c_loses_nothing_finished(folder):
    command = [sys.executable, "-m", "rlhf_lab", "train", "--iterations", "5000", "--out", folder]

    def hear_ctrl_c():  # a shell's background jobs, and what they start, are deaf to it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=hear_ctrl_c
    ) as process:
        records = folder / "records.csv"
        deadline = time.monotonic() + 60
        while not (records.exists() and records.read_text().count("\n") > 3):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in out.decode()
    finished = len(runs.read_records(folder))
    assert finished >= 3
    assert train("--resume", folder, "--iterations", finished + 1) == 0
    assert len(runs.read_records(folder)) == finished + 1


def test_doctor_speaks_and_tells_by_its_status(capsys, monkeypatch):
    from rlhf_lab.doctor import Finding

    well, ill = Finding("torch", "ok", "is awake"), Finding("disk", "problem", "is asleep")
    monkeypatch.setattr(cli, "diagnose", lambda: [well, ill])
    assert cli.main(["doctor"]) == 1
    assert "is asleep" in capsys.readouterr().out
    monkeypatch.setattr(cli, "diagnose", lambda: [well])
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"]])
def test_help_names_every_setting(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "doctor" in said if len(command) == 1 else "--kl-mode" in said


def test_sweep_runs_a_grid_and_goes_on_where_it_stopped(tmp_path, capsys):
    file = tmp_path / "sweep.csv"
    command = ["sweep", "--etas", "0,0.3", "--iterations", "1", "--batch-size", "8", "--out"]
    assert cli.main([*command, str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.count("regret") == 2
    assert f"2 runs in {file}" in said.out
    assert cli.main([*command, str(file)]) == 0
    again = capsys.readouterr()
    assert "regret" not in again.out
    assert "2/2" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--etas", "0,-1"], "eta must be a finite number >= 0"),
        (["--etas", "0;1"], "invalid list of float value: '0;1'"),
        (["--seeds", "0.5"], "invalid list of int value: '0.5'"),
        (["--eta", "1"], "unrecognized arguments: --eta 1"),
    ],
)
def test_sweep_refuses_what_makes_no_sense(arguments, message, capsys, tmp_path):
    try:
        status = cli.main(["sweep", "--out", str(tmp_path / "s.csv"), *arguments])
    except SystemExit as exit:
        status = exit.code
    assert (status, message in capsys.readouterr().err) == (2, True)


def test_a_sweep_of_which_a_run_failed_ends_with_1(tmp_path, capsys, monkeypatch):
    asked = []

    def failing(configs, file, together):
        asked.append(together)
        for config in configs:
            yield Failure(config, "NonFiniteError: no luck")

    monkeypatch.setattr(cli, "sweep", failing)
    assert cli.main(["sweep", "--out", str(tmp_path / "s.csv"), "--together", "3"]) == 1
    assert capsys.readouterr().out.count("failed: NonFiniteError: no luck") == 4
    assert asked == [3]
