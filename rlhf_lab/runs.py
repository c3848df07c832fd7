"""A run on disk: written as it goes, resumable bit for bit, never pickled.

config.json                      format version, settings, fingerprint of π_SFT
records.csv                      one line per finished iteration
checkpoint.safetensors           weights, Adam's moments, generator, η, β, and all of the above
checkpoint.previous.safetensors  the one before it, for `repair`
policy/                          the policy as a Hugging Face GPT-2 folder, at the end of a session

A run is resumed only if it is whole: settings and checkpoint fit their checksums, and the records
are those that the checkpoint knows. Reading changes no file, and one process at a time may write.
"""

import contextlib
import itertools
import os
from collections.abc import Generator
from pathlib import Path

from rlhf_lab import run_files
from rlhf_lab.config import PPOConfig
from rlhf_lab.files import locked, write_whole
from rlhf_lab.interrupts import Interrupts
from rlhf_lab.rollout import Task
from rlhf_lab.run_files import (
    CHECKPOINT,
    HEAD,
    PREVIOUS,
    RECORDS,
    Checkpoint,
    Head,
    fingerprint,
    read_records,
)
from rlhf_lab.trainer import StepStats, Trainer
from rlhf_lab.translation import tr

__all__ = ["create", "fingerprint", "read_records", "repair", "resume", "run", "save", "save_as"]

_BEGUN, _NEXT, _LOCK = ".begun", ".next", ".run.lock"
"""A folder that is being made, a checkpoint that is being written, and who is writing."""


def create(folder: str | Path, trainer: Trainer) -> Path:
    """Start a run folder for a trainer; if that fails, the same call can be tried again.

    Raises:
        ValueError: the folder exists and is not empty.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    _require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _writing(folder):
        _require_free(folder)
        (folder / _BEGUN).touch()  # from here on, what is in the folder is ours
        _save(folder, trainer)
        _write_head(folder, trainer)  # last: a folder with a config.json is complete
        (folder / _BEGUN).unlink()
    return folder


def run(
    folder: str | Path, trainer: Trainer, *, save_every: int = 20
) -> Generator[StepStats, None, None]:
    """Train to the configured number of iterations, recording each one as soon as it is done.

    However it ends (the last iteration, Ctrl-C, a non-finite loss, the caller breaking off), every
    finished iteration is in `records.csv` and the last good state in the checkpoint.

    Args:
        folder: made by `create` or read by `resume`.
        trainer: of that folder.
        save_every: iterations between checkpoints, ≥ 1: what a power cut can cost.

    Raises:
        ValueError: the folder holds another run, or this one went on without this trainer.
        OSError: the folder cannot be written, or somebody else is writing it.
    """
    if save_every < 1:
        raise ValueError(f"save_every must be a whole number >= 1, got {save_every}")
    folder = Path(folder)
    with _writing(folder):
        _require_beginning(folder, trainer)
        _save(folder, trainer)  # a resumed run forgets what a crash left behind its checkpoint,
        _write_head(folder, trainer)  # and remembers its new goal and device
        try:
            while trainer.iteration < trainer.config.iterations:
                stats = trainer.step()
                _append_records(folder, trainer.history[-1:])
                if trainer.iteration % save_every == 0:
                    _save(folder, trainer)
                yield stats
        finally:
            with Interrupts():
                _save(folder, trainer)
                trainer.policy.save_pretrained(folder / "policy")


def save(folder: str | Path, trainer: Trainer) -> None:
    """Write all records and the checkpoint of a run that is not under way."""
    with _writing(Path(folder)):
        _save(Path(folder), trainer)


def save_as(folder: str | Path, trainer: Trainer) -> None:
    """Save a run into a new folder, or over an earlier save of the same run.

    Raises:
        ValueError: the folder holds something else, or a run that went further.
    """
    folder = Path(folder)
    if (folder / HEAD).exists():
        with _writing(folder):
            _require_beginning(folder, trainer)
            _save(folder, trainer)
    else:
        create(folder, trainer)
    trainer.policy.save_pretrained(folder / "policy")


def resume(
    folder: str | Path, task: Task, *, iterations: int | None = None, device: str | None = None
) -> Trainer:
    """Go on where a run stopped; on a CPU the result equals the uninterrupted run bit for bit.

    Args:
        folder: of the run.
        task: the world it was trained in.
        iterations: a new goal; None keeps the old one.
        device: a new device; None keeps the old one.

    Raises:
        ValueError: the folder is missing, damaged, edited, of another version, or of another world;
            or more than `iterations` are finished already.
    """
    folder = Path(folder)
    head, checkpoint = _whole_run(folder)
    changes = {"iterations": iterations, "device": device}
    settings = head.config | {k: v for k, v in changes.items() if v is not None}
    trainer = Trainer(task, PPOConfig.from_dict(settings))
    if head.sft != fingerprint(trainer.task.sft):
        raise ValueError(f"{folder} was trained in another world: its π_SFT has other weights")
    finished = len(checkpoint.history)
    if iterations is not None and iterations < finished:
        raise ValueError(
            f"{folder} has {finished} iterations already; {iterations} would be counted from its "
            "start, too"
        )
    trainer.history = checkpoint.history
    trainer.load_state(checkpoint.state)
    return trainer


def repair(folder: str | Path) -> list[str]:
    """Take a damaged run back to its last whole checkpoint; returns what was done, in sentences.

    Settings, records and checkpoint are written anew from it. What they replace stays beside them
    under another name, `….damaged`: nothing is deleted.

    Raises:
        ValueError: there is no checkpoint, or none is whole.
    """
    folder = Path(folder)
    checkpoint, name = run_files.last_whole_checkpoint(folder)
    head = checkpoint.head
    with contextlib.suppress(ValueError):  # its goal and device may be newer
        beside = run_files.read_head(folder)
        head = beside if beside.same_run(head) else head
    text, n = "{folder} is at iteration {n}, which {file} holds", len(checkpoint.history)
    done = [tr(text, folder=folder, n=n, file=name)]
    with _writing(folder):
        for path, content in {
            folder / RECORDS: run_files.pack_records(checkpoint.history),
            folder / CHECKPOINT: (folder / name).read_bytes(),
            folder / HEAD: run_files.pack_head(head),
        }.items():
            old = path.read_bytes() if path.exists() else None
            if old == content:
                continue
            kept = _unused(path.with_name(f"{path.name}.damaged"))
            text = "{file} was written anew"
            if old is not None:
                text = "{file} was written anew; the old one is {kept}"
                write_whole(kept, old)
            done.append(tr(text, file=path.name, kept=kept.name))
            write_whole(path, content)
        (folder / _BEGUN).unlink(missing_ok=True)
    return done


def _whole_run(folder: Path) -> tuple[Head, Checkpoint]:
    """Settings and checkpoint of a run of which every part is whole and belongs to the others."""
    if not folder.exists():
        raise ValueError(f"{folder} is no complete run: there is no such folder")
    try:
        head = run_files.read_head(folder)
        # A crash between the two renames in `_save` leaves the previous one alone, and whole.
        there = CHECKPOINT if (folder / CHECKPOINT).exists() else PREVIOUS
        checkpoint = run_files.read_checkpoint(folder / there)
        if not head.same_run(checkpoint.head):
            raise ValueError(f"{folder / HEAD} is that of another run than {there}")
        run_files.require_records(folder, checkpoint)
    except ValueError as error:
        raise ValueError(f"{error}. {_what_can_be_saved(folder)}") from error
    return head, checkpoint


def _what_can_be_saved(folder: Path) -> str:
    try:
        checkpoint, name = run_files.last_whole_checkpoint(folder)
    except ValueError:
        return "No checkpoint of it can be read, so the run cannot go on; start a new one"
    return (
        f"But {name} is whole: `python -m rlhf_lab repair {folder}` goes back to it, to iteration "
        f"{len(checkpoint.history)}"
    )


def _require_free(folder: Path) -> None:
    """Raise unless the folder is new, empty, or was left by a `create` that did not get through."""
    if (folder / HEAD).exists():
        raise ValueError(f"{folder} holds a run already; continue that one, or name another folder")
    if not folder.exists() or (folder / _BEGUN).exists():
        return
    if not folder.is_dir() or any(path.name != _LOCK for path in folder.iterdir()):
        raise ValueError(f"{folder} is in use and holds no complete run; name another folder")


def _require_beginning(folder: Path, trainer: Trainer) -> None:
    """Raise unless the folder holds the run of this trainer, and nothing that it has not done."""
    head, records = run_files.read_head(folder), read_records(folder)
    with contextlib.suppress(ValueError):  # what a crash left behind the checkpoint does not count
        records = records[: len(run_files.last_whole_checkpoint(folder)[0].history)]
    if not head.same_run(Head.of(trainer)) or records != trainer.history[: len(records)]:
        raise ValueError(f"{folder} holds another run, or more of this one; name another folder")


def _writing(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The right to write into a folder, which one at a time can have."""
    return locked(folder / "run", wait=0)


def _save(folder: Path, trainer: Trainer) -> None:
    checkpoint = Checkpoint.of(trainer)
    write_whole(folder / RECORDS, run_files.pack_records(checkpoint.history))
    write_whole(folder / _NEXT, run_files.pack_checkpoint(checkpoint))
    with contextlib.suppress(FileNotFoundError):  # the first one has none before it
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)
    os.replace(folder / _NEXT, folder / CHECKPOINT)


def _write_head(folder: Path, trainer: Trainer) -> None:
    write_whole(folder / HEAD, run_files.pack_head(Head.of(trainer)))


def _append_records(folder: Path, records: list[StepStats]) -> None:
    with (folder / RECORDS).open("a", encoding="utf-8", newline="") as file:
        file.writelines(run_files.line(stats) + "\n" for stats in records)


def _unused(path: Path) -> Path:
    """The path itself, or the first with a number behind it that is free."""
    others = (path.with_name(f"{path.name}{n}") for n in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not p.exists())
