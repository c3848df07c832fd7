"""A run on disk: written as it goes, resumable bit for bit, never pickled.

config.json              format version, settings, fingerprint of π_SFT
records.csv              one line per finished iteration
checkpoint.safetensors   weights, Adam's moments, generator, η, β: enough to go on
policy/                  the policy as a Hugging Face GPT-2 folder, at the end of each session
"""

import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.rollout import Task
from rlhf_lab.trainer import StepStats, Trainer

FORMAT = "1"


def create(folder: str | Path, trainer: Trainer) -> Path:
    """Start a run folder for a trainer.

    Raises:
        ValueError: the folder exists and is not empty.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a run already; continue that one, or name another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is in use and holds no complete run; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    save(folder, trainer)
    _write_head(folder, trainer)  # last: a folder with a config.json is complete
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
        save_every: iterations between checkpoints: what a power cut can cost.
    """
    folder = Path(folder)
    save(folder, trainer)  # a resumed run forgets what a crash left behind its checkpoint,
    _write_head(folder, trainer)  # and remembers its new goal and device
    try:
        while trainer.iteration < trainer.config.iterations:
            stats = trainer.step()
            _append_records(folder, trainer.history[-1:])
            if trainer.iteration % save_every == 0:
                save(folder, trainer)
            yield stats
    finally:
        save(folder, trainer)
        trainer.policy.save_pretrained(folder / "policy")


def save(folder: Path, trainer: Trainer) -> None:
    """Write all records and the checkpoint; each file is replaced whole or not at all."""
    lines = [",".join(StepStats._fields), *(_line(stats) for stats in trainer.history)]
    _replace(folder / "records.csv", ("\n".join(lines) + "\n").encode())
    temporary = folder / "checkpoint.tmp"
    state = {name: tensor.cpu() for name, tensor in trainer.state().items()}
    save_file(state, temporary, metadata={"format": FORMAT})
    os.replace(temporary, folder / "checkpoint.safetensors")


def keep(folder: str | Path, trainer: Trainer) -> None:
    """Write a run to a new folder, or bring the folder that holds its beginning up to date.

    Raises:
        ValueError: the folder holds something else, or a run that went further.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        config, records = PPOConfig.from_dict(_read_head(folder)["config"]), read_records(folder)
        if config != trainer.config or records != trainer.history[: len(records)]:
            raise ValueError(
                f"{folder} holds another run, or more of this one; name another folder"
            )
        save(folder, trainer)
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
        ValueError: the folder is missing, half written, of another version, or of another world;
            or more than `iterations` are finished already.
    """
    folder = Path(folder)
    head = _read_head(folder)
    changes = {"iterations": iterations, "device": device}
    settings = head["config"] | {k: v for k, v in changes.items() if v is not None}
    trainer = Trainer(task, PPOConfig.from_dict(settings))
    if head["sft"] != fingerprint(trainer.task.sft):
        raise ValueError(f"{folder} was trained in another world: its π_SFT has other weights")
    checkpoint = folder / "checkpoint.safetensors"
    try:
        with safe_open(checkpoint, framework="pt") as file:
            version = (file.metadata() or {}).get("format")
        _require_version(checkpoint, version)
        state = load_file(checkpoint)
        trainer.history = read_records(folder)
        finished = int(state["progress"][0])
        if len(trainer.history) < finished:
            raise ValueError(
                f"{folder / 'records.csv'} holds {len(trainer.history)} iterations but the "
                f"checkpoint {finished}: lines are missing; restore the file or start a new run"
            )
        if iterations is not None and iterations < finished:
            raise ValueError(
                f"{folder} has {finished} iterations already; {iterations} would be counted from "
                "its start, too"
            )
        trainer.load_state(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} is missing or broken ({error}); the run cannot be continued, "
            f"but {folder / 'records.csv'} is still readable"
        ) from error
    return trainer


def read_records(folder: str | Path) -> list[StepStats]:
    """The records of a run; a last line without its end, cut off in mid-write, is left out.

    Raises:
        ValueError: the file is missing, or its columns are not those of this version.
    """
    path = Path(folder) / "records.csv"
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing or empty: {folder} is no complete run") from error
    if tuple(header) != StepStats._fields:
        raise ValueError(f"{path} has other columns than this version of rlhf_lab writes")
    types = StepStats.__annotations__.values()
    records = []
    for number, row in enumerate(rows, start=2):
        try:
            records.append(StepStats(*(t(x) for t, x in zip(types, row, strict=True))))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is broken: {error}") from error
    return records


def fingerprint(model: GPT2) -> str:
    """SHA-256 of a model's weights in float32, to tell worlds apart."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_head(folder: Path, trainer: Trainer) -> None:
    head = {
        "format": FORMAT,
        "sft": fingerprint(trainer.task.sft),
        "config": dataclasses.asdict(trainer.config),
    }
    _replace(folder / "config.json", json.dumps(head, indent=2).encode() + b"\n")


def _read_head(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.exists():
        raise ValueError(f"{folder} is no complete run: there is no such folder")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        version = head["format"]
        _require_version(path, version)
        return {"sft": head["sft"], "config": dict(head["config"])}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} is no complete run: config.json is missing or broken ({error}); "
            "a run that was stopped while it was being created must be started again"
        ) from error


def _require_version(path: Path, version: object) -> None:
    if version != FORMAT:
        raise ValueError(
            f"{path} has format {version!r}; this version of rlhf_lab reads {FORMAT!r}: "
            "use the version that wrote it"
        )


def _line(stats: StepStats) -> str:
    return ",".join(repr(value) for value in stats)  # repr keeps every bit of a float


def _append_records(folder: Path, records: list[StepStats]) -> None:
    with (folder / "records.csv").open("a", encoding="utf-8", newline="") as file:
        file.writelines(_line(stats) + "\n" for stats in records)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
