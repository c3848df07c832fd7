"""Runs on disk: resumed equals uninterrupted, and no way to break a folder goes unnoticed."""

import contextlib
import dataclasses
import errno
import functools
import io
import itertools
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rlhf_lab import GPT2, PPOConfig, Trainer, World, load_world, run_files, runs

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
    with pytest.raises(ValueError, match="iterations must be a whole number >= 1, got 0"):
        runs.resume(folder, world, iterations=0)
    assert runs.resume(folder, world, iterations=6).iteration == 6


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


def test_the_device_may_be_changed(world, folder):
    uninterrupted(world, folder)
    finish(folder, runs.resume(folder, world, iterations=7, device="cpu:0"))
    again = runs.resume(folder, world)
    assert (again.iteration, again.config.device) == (7, "cpu:0")


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


def test_of_two_that_make_one_folder_at_once_the_second_is_refused(world, folder, monkeypatch):
    """Both have found it free when the first gets its lock."""
    first, second = Trainer(world, CONFIG), Trainer(world, CONFIG)
    lock = runs._writing

    def after_the_first(folder):
        monkeypatch.undo()
        runs.create(folder, first)
        return lock(folder)

    monkeypatch.setattr(runs, "_writing", after_the_first)
    with pytest.raises(ValueError, match="holds a run already"):
        runs.create(folder, second)


def test_no_folder(world, folder):
    with pytest.raises(ValueError, match="is no complete run"):
        runs.resume(folder, world)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_setting(folder, **changes):
    config = json.loads((folder / "config.json").read_text())["config"]
    edit_config(folder, config=config | changes)


def edit_records(edit):
    def damage(folder):
        head, *lines = (folder / "records.csv").read_text().splitlines(keepends=True)
        (folder / "records.csv").write_text("".join([head, *edit(lines)]))

    return damage


def edit_state(edit):
    """Put another tensor into the checkpoint, and leave the metadata as they are."""

    def damage(folder):
        path = folder / "checkpoint.safetensors"
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        state = load_file(path)
        edit(state)
        save_file(state, path, metadata)

    return damage


def truncate(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


WEIGHT = "policy.transformer.h.0.mlp.c_fc.weight"
GOES_BACK = r"`python -m rlhf_lab repair .*` goes back to it, to iteration 6"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing or broken.*" + GOES_BACK),
        (truncate("config.json"), "config.json is missing or broken.*" + GOES_BACK),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "is missing or broken"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), "config.json is missing or broken"),
        (lambda f: edit_config(f, format="99"), "format '99'; this version of rlhf_lab reads '2'"),
        (lambda f: edit_config(f, format="1"), "use the version that wrote it"),
        (lambda f: edit_config(f, sft="0"), "config.json was edited or is damaged.*" + GOES_BACK),
        *[
            (lambda f, c=c: edit_config(f, config=c), "config.json (was edited|is missing or bro)")
            for c in ({"etta": 1}, [], [1], {}, None, "x")
        ],
        *[
            (lambda f, c=c: edit_setting(f, **c), "config.json was edited or is damaged")
            for c in ({"lr": 0.1}, {"eta": None}, {"device": ["cpu"]}, {"kl_mode": "full"})
        ],
        (
            lambda f: (edit_setting(f, iterations=9), edit_config(f, sha256=None)),
            "config.json was edited or is damaged",
        ),
        (lambda f: (f / "checkpoint.safetensors").write_bytes(b""), "missing or broken.*previous"),
        (truncate("checkpoint.safetensors"), r"missing or broken.*previous\.safetensors is whole"),
        (edit_state(lambda s: s.pop(WEIGHT)), "checksum does not fit"),
        (edit_state(lambda s: s.update({WEIGHT: torch.ones(1, 1)})), "checksum does not fit"),
        (edit_state(lambda s: s.update({WEIGHT: s[WEIGHT].half()})), "checksum does not fit"),
        (edit_state(lambda s: s.update({WEIGHT: s[WEIGHT].view(-1)})), "checksum does not fit"),
        (edit_state(lambda s: s.update(progress=torch.tensor([6, 0, 0]))), "checksum does not fit"),
        (lambda f: (f / "records.csv").unlink(), "records.csv is missing or broken.*" + GOES_BACK),
        (edit_records(lambda x: x[:-1]), "iteration 6 is missing.*" + GOES_BACK),
        (edit_records(lambda x: [*x[:2], x[1], *x[2:]]), "line 4 is broken: .* iteration 2, not 3"),
        (edit_records(lambda x: [x[1], x[0], *x[2:]]), "line 2 is broken: .* iteration 2, not 1"),
        (edit_records(lambda x: [*x[:2], "\n", *x[2:]]), "line 4 is broken: it has 1 fields"),
        (edit_records(lambda x: [*x[:2], x[2].replace(",0.1,", ",nan,"), *x[3:]]), "3 was changed"),
        (edit_records(lambda x: [*x[:2], x[2].replace(",0.1,", ",0.2,"), *x[3:]]), "3 was changed"),
        (edit_records(lambda x: [*x[:2], "9" * 200_000 + "\n"]), "line 4 is broken"),
        (lambda f: (f / "records.csv").write_text("a,b\n"), "other columns"),
        (lambda f: (f / "records.csv").write_bytes(b"\xff"), "records.csv is missing or broken"),
    ],
)
def test_damage_is_named_and_can_be_repaired(world, folder, damage, message):
    done = uninterrupted(world, folder)
    damage(folder)
    with pytest.raises(ValueError, match="(?s)" + message):
        runs.resume(folder, world)

    damaged = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    runs.repair(folder)
    kept = [p.read_bytes() for p in folder.iterdir() if p.is_file()]
    assert all(content in kept for content in damaged.values())
    again = runs.resume(folder, world)
    assert again.history == done.history[: again.iteration]
    finish(folder, again)
    assert again.history == done.history
    assert same_state(again, done)


def same_state(a, b):
    one, two = a.state(), b.state()
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_of_another_world_is_refused(world, folder):
    uninterrupted(world, folder)
    with pytest.raises(ValueError, match="trained in another world"):
        runs.resume(folder, World(world.reward_trunk, *other_parts(world)))


def test_a_run_of_another_world_is_not_saved_over(world, folder):
    runs.create(folder, Trainer(world, CONFIG))
    other = Trainer(World(world.reward_trunk, *other_parts(world)), CONFIG)
    with pytest.raises(ValueError, match="holds another run"):
        runs.save_as(folder, other)


def other_parts(world):
    return world.reward_trunk, world.reward_head, world.prompts


def test_the_settings_of_another_run_are_not_taken(world, folder, tmp_path):
    uninterrupted(world, folder)
    other = Trainer(world, dataclasses.replace(CONFIG, eta=0.7))
    runs.create(tmp_path / "other", other)
    (tmp_path / "other" / "config.json").replace(folder / "config.json")
    with pytest.raises(ValueError, match=r"config\.json is that of another run than checkpoint"):
        runs.resume(folder, world)


def test_repair_does_not_take_the_settings_of_another_run(world, folder, tmp_path):
    uninterrupted(world, folder)
    other = Trainer(world, dataclasses.replace(CONFIG, eta=0.7))
    runs.create(tmp_path / "other", other)
    (tmp_path / "other" / "config.json").replace(folder / "config.json")
    runs.repair(folder)
    assert runs.resume(folder, world).config == CONFIG


def test_each_repair_keeps_what_it_replaces(world, folder):
    uninterrupted(world, folder)
    for damage in (b"first", b"second", b"third"):
        (folder / "config.json").write_bytes(damage)
        runs.repair(folder)
    kept = [folder / f"config.json.damaged{n}" for n in ("", 2, 3)]
    assert [path.read_bytes() for path in kept] == [b"first", b"second", b"third"]


def test_a_checkpoint_of_another_version_is_not_read(world, folder, monkeypatch):
    uninterrupted(world, folder)
    monkeypatch.setattr(run_files, "FORMAT", "3")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors has format '2'; this version"):
        run_files.read_checkpoint(folder / "checkpoint.safetensors")


def test_a_world_is_known_by_its_weights_in_any_dtype(world):
    double = world.to(torch.device("cpu"), torch.float64)
    assert runs.fingerprint(double.sft) == runs.fingerprint(world.sft)
    assert runs.fingerprint(world.reward_trunk) != runs.fingerprint(world.sft)


def test_one_flipped_bit_is_found_wherever_it_is(world, folder):
    """Or it changes nothing: the run goes on as if it were not there."""
    done = uninterrupted(world, folder)
    random = torch.Generator().manual_seed(0)
    for name in ("config.json", "records.csv", "checkpoint.safetensors"):
        whole = (folder / name).read_bytes()
        for bit in torch.randint(8 * len(whole), (150,), generator=random).tolist():
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(flipped)
            try:
                _, checkpoint = runs._whole_run(folder)
            except ValueError:
                continue
            assert checkpoint.history == done.history, (name, bit)
        (folder / name).write_bytes(whole)


def test_nothing_whole_is_left(world, folder):
    uninterrupted(world, folder)
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match="so the run cannot go on; start a new one"):
        runs.resume(folder, world)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is missing or broken"):
        runs.repair(folder)
    assert len(runs.read_records(folder)) == 6


def test_a_whole_run_needs_no_repair(world, folder):
    uninterrupted(world, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    assert runs.repair(folder) == [
        f"{folder} is at iteration 6, which checkpoint.safetensors holds"
    ]
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_one_at_a_time_may_write(world, folder):
    first, second = Trainer(world, CONFIG), Trainer(world, CONFIG)
    runs.create(folder, first)
    steps = runs.run(folder, first)
    next(steps)
    for use in (
        lambda: next(runs.run(folder, second)),
        lambda: runs.save(folder, second),
        lambda: runs.repair(folder),
    ):
        with pytest.raises(OSError, match="is being written by another process or notebook"):
            use()
    steps.close()
    with pytest.raises(ValueError, match="holds another run, or more of this one"):
        next(runs.run(folder, second))  # it would forget an iteration
    assert runs.resume(folder, world).iteration == 1


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_files_are_as_readable_as_others_in_their_folder(world, folder):
    uninterrupted(world, folder)
    (folder / "new").touch()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".run.lock":
            assert path.stat().st_mode == (folder / "new").stat().st_mode, path


class Disk:
    """Counts what is asked of the disk, and lets the n-th request fail, or all from there on."""

    def __init__(self, monkeypatch, fails_at, for_ever):
        self.count, self.fails_at, self.for_ever = 0, fails_at, for_ever
        for place, name in [
            *((os, name) for name in ("replace", "fsync", "mkdir", "unlink", "chmod")),
            *((pathlib.Path, name) for name in ("touch", "unlink", "chmod", "mkdir")),
        ]:
            monkeypatch.setattr(place, name, self.watched(getattr(place, name)))
        open_file = io.open

        def open_watched(file, mode="r", *args, **kwargs):
            writing = set(mode) & set("wax+")
            opened = self.watched(open_file)(file, mode, *args, **kwargs) if writing else None
            return WatchedFile(opened, self) if writing else open_file(file, mode, *args, **kwargs)

        monkeypatch.setattr(io, "open", open_watched)

    def request(self):
        self.count += 1
        if self.count == self.fails_at or (self.for_ever and self.count > self.fails_at):
            raise OSError(errno.ENOSPC, "No space left on device")

    def watched(self, function):
        def asks(*args, **kwargs):
            self.request()
            return function(*args, **kwargs)

        return asks


class WatchedFile:
    """A file of which a failing write writes half of what it was given."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        try:
            self.disk.request()
        except OSError:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise
        return self.file.write(content)

    def writelines(self, lines):
        self.write("".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("phase", ["create", "run"])
def test_whatever_the_disk_refuses_the_run_can_go_on(world, tmp_path, for_ever, phase):
    """Every request to the disk fails once: the same calls go on, to the same end."""
    config = dataclasses.replace(CONFIG, iterations=3, batch_size=4, epochs=1, minibatches=1)
    whole = Trainer(world, config)
    runs.create(tmp_path / "whole", whole)
    list(runs.run(tmp_path / "whole", whole, save_every=1))
    for fails_at in itertools.count(1, step=3 if for_ever else 1):
        folder = tmp_path / f"{phase}{fails_at}"
        trainer = Trainer(world, config)
        if phase == "run":
            runs.create(folder, trainer)
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, fails_at, for_ever)
            with contextlib.suppress(OSError):
                if phase == "create":
                    runs.create(folder, trainer)
                else:
                    list(runs.run(folder, trainer, save_every=1))
        if not (folder / "config.json").exists():
            runs.create(folder, Trainer(world, config))
        list(runs.run(folder, runs.resume(folder, world), save_every=1))
        same_files(folder, tmp_path / "whole")
        if disk.count < fails_at:
            break
        shutil.rmtree(folder)
    assert fails_at > (8 if phase == "create" else 30)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT the POSIX way")
@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_interrupts_in_a_row_leave_the_run_as_it_was(world, folder, tmp_path, times, monkeypatch):
    """Real signals, a few hundred microseconds apart, at moments that nobody chose."""
    # Python ignores one that comes while an object is being deleted, and only reports it.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    random = torch.Generator().manual_seed(times)
    config = dataclasses.replace(CONFIG, iterations=30, batch_size=8)
    whole = Trainer(world, config)
    runs.create(tmp_path / "whole", whole)
    list(runs.run(tmp_path / "whole", whole))

    runs.create(folder, Trainer(world, config))
    survivor = Survivor()
    for _ in range(8):
        trainer = runs.resume(folder, world)
        wait, *pauses = (0.15 * torch.rand(times, generator=random)).tolist()
        hail = threading.Thread(target=send_interrupts, args=(wait, [p / 300 for p in pauses]))
        hail.start()
        survivor(functools.partial(train_to_the_end, folder, trainer), times)
        hail.join()
        assert trainer.history == whole.history[: trainer.iteration]
        assert runs.resume(folder, world).iteration <= trainer.iteration
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(runs.run(folder, runs.resume(folder, world)))
    same_files(folder, tmp_path / "whole")


def train_to_the_end(folder, trainer):
    list(runs.run(folder, trainer, save_every=4))


def send_interrupts(wait, pauses):
    time.sleep(wait)
    os.kill(os.getpid(), signal.SIGINT)
    for pause in pauses:
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)


class Survivor:
    """Calls a function that interrupts may end, and is deaf to those that come later."""

    def __init__(self):
        self.hears = False
        signal.signal(signal.SIGINT, self.hear)

    def hear(self, *_):
        if self.hears:
            raise KeyboardInterrupt

    def __call__(self, function, interrupts):
        """Each level takes one interrupt, also one that comes while a lower one takes its own."""
        try:
            if interrupts:
                self(function, interrupts - 1)
            else:
                self.hears = True
                function()
            self.hears = False
        except KeyboardInterrupt:
            self.hears = False
