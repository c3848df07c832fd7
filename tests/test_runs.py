"""Runs on disk: resumed equals uninterrupted, and no way to break a folder goes unnoticed."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rlhf_lab import GPT2, PPOConfig, Trainer, load_world, runs

CONFIG = PPOConfig(eta=0.1, beta=0.01, iterations=6, batch_size=16, minibatches=2)


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def finish(folder, trainer):
    return list(runs.run(folder, trainer))


def uninterrupted(world, folder):
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)
    finish(folder, trainer)
    return trainer


def same_files(a, b):
    one, two = (load_file(folder / "checkpoint.safetensors") for folder in (a, b))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (a / "records.csv").read_bytes() == (b / "records.csv").read_bytes()


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5])
def test_resumed_equals_uninterrupted_bit_for_bit(world, folder, tmp_path, stop_after):
    """Also the order of minibatches and Adam's moments must survive."""
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)
    steps = runs.run(folder, trainer)
    for _ in range(stop_after):
        next(steps)
    steps.close()

    finish(folder, runs.resume(folder, world))

    uninterrupted(world, tmp_path / "whole")
    same_files(folder, tmp_path / "whole")


def test_a_killed_process_repeats_what_the_checkpoint_lacks(world, folder, tmp_path):
    """Killed in mid-write: records run ahead of the checkpoint, and the last line is cut off."""
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)
    steps = runs.run(folder, trainer, save_every=2)
    for _ in range(3):
        next(steps)
    crashed = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    steps.close()
    for name, content in crashed.items():
        (folder / name).write_bytes(content)
    (folder / "policy" / "model.safetensors").unlink()
    with (folder / "records.csv").open("a") as file:
        file.write("4,0.1,0.0")

    again = runs.resume(folder, world)
    assert again.iteration == 2
    finish(folder, again)

    uninterrupted(world, tmp_path / "whole")
    same_files(folder, tmp_path / "whole")


def test_an_interrupt_in_mid_iteration_loses_nothing_finished(world, folder, monkeypatch):
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)
    update = trainer._update

    def interrupted(rollout):
        if trainer.iteration == 2:
            raise KeyboardInterrupt
        return update(rollout)

    monkeypatch.setattr(trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(folder, trainer)

    assert len(runs.read_records(folder)) == 2
    assert runs.resume(folder, world).iteration == 2


def test_an_interrupt_between_the_iteration_and_its_record_loses_nothing(
    world, folder, monkeypatch
):
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_append_records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(folder, trainer)
    assert len(runs.read_records(folder)) == 1


def test_steered_coefficients_survive(world, folder):
    trainer = Trainer(world, CONFIG)
    runs.create(folder, trainer)
    trainer.eta, trainer.beta = 0.7, 0.2
    runs.save(folder, trainer)
    again = runs.resume(folder, world)
    assert (again.eta, again.beta) == (0.7, 0.2)


def test_a_new_goal_is_remembered_when_the_run_is_stopped_again(world, folder):
    uninterrupted(world, folder)
    steps = runs.run(folder, runs.resume(folder, world, iterations=9))
    next(steps)
    steps.close()
    again = runs.resume(folder, world)
    assert (again.iteration, again.config.iterations) == (7, 9)


def test_a_goal_that_is_already_passed_is_refused(world, folder):
    uninterrupted(world, folder)
    with pytest.raises(ValueError, match="has 6 iterations already; 4 would be counted"):
        runs.resume(folder, world, iterations=4)


def test_two_crashes_in_a_row_cost_no_more_than_one(world, folder):
    """What the first left behind its checkpoint must not stand in the file before new records."""
    uninterrupted(world, folder)
    whole = (folder / "records.csv").read_text()
    for crash in (1, 2):
        with (folder / "records.csv").open("a") as file:
            file.write("7,0.1,0.0")
        trainer = runs.resume(folder, world, iterations=6 + crash)
        steps = runs.run(folder, trainer)
        next(steps)
        kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        steps.close()
        for name, content in kept.items():
            (folder / name).write_bytes(content)
    assert kept["records.csv"].decode().startswith(whole)
    assert [stats.iteration for stats in runs.read_records(folder)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_last_number_that_was_cut_off_is_no_number(world, folder):
    uninterrupted(world, folder)
    path = folder / "records.csv"
    path.write_text(path.read_text()[:-4])
    assert len(runs.read_records(folder)) == 5


def test_the_goal_may_be_moved(world, folder):
    uninterrupted(world, folder)
    longer = runs.resume(folder, world, iterations=8)
    assert [stats.iteration for stats in finish(folder, longer)] == [7, 8]


def test_policy_is_a_hugging_face_folder(world, folder):
    trainer = uninterrupted(world, folder)
    loaded = GPT2.from_pretrained(folder / "policy")
    tokens = torch.tensor([[1, 7, 8, 3]])
    assert torch.equal(loaded(tokens), trainer.policy(tokens))


def test_records_keep_every_bit(world, folder):
    trainer = uninterrupted(world, folder)
    assert runs.read_records(folder) == trainer.history


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: None, "holds a run already; continue that one"),
        (lambda f: (f / "config.json").unlink(), "is in use and holds no complete run"),
    ],
)
def test_a_folder_in_use_is_not_overwritten(world, folder, damage, message):
    uninterrupted(world, folder)
    damage(folder)
    before = (folder / "records.csv").read_bytes()
    with pytest.raises(ValueError, match=message):
        runs.create(folder, Trainer(world, CONFIG))
    assert (folder / "records.csv").read_bytes() == before


def test_no_folder(world, folder):
    with pytest.raises(ValueError, match="is no complete run"):
        runs.resume(folder, world)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_a_line(folder):
    lines = (folder / "records.csv").read_text().splitlines(keepends=True)
    (folder / "records.csv").write_text("".join(lines[:-1]))


def truncate(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing or broken"),
        (truncate("config.json"), "config.json is missing or broken"),
        (lambda f: edit_config(f, format="99"), "format '99'; this version of rlhf_lab reads '1'"),
        (lambda f: edit_config(f, sft="0"), "trained in another world"),
        (lambda f: edit_config(f, config={"etta": 1}), "unknown setting 'etta'"),
        (lambda f: (f / "checkpoint.safetensors").unlink(), "missing or broken"),
        (truncate("checkpoint.safetensors"), "missing or broken"),
        (lambda f: (f / "records.csv").unlink(), "records.csv is missing or empty"),
        (drop_a_line, "holds 5 iterations but the checkpoint 6"),
        (lambda f: (f / "records.csv").write_text("a,b\n"), "other columns"),
    ],
)
def test_damage_is_named(world, folder, damage, message):
    uninterrupted(world, folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        runs.resume(folder, world)
