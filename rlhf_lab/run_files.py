"""What the files of a run hold, and how each of them shows that it is whole. See `rlhf_lab.runs`.

Settings and checkpoint carry a checksum. A checkpoint repeats settings and records, so that it can
tell whether those beside it are its own, and can restore them if they are not.
"""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from rlhf_lab.gpt2 import GPT2
from rlhf_lab.trainer import StepStats, Trainer

FORMAT = "2"
HEAD, RECORDS = "config.json", "records.csv"
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
MOVABLE = ("iterations", "device")
"""The settings that may change when a run is resumed."""
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file may raise."""


class Head(NamedTuple):
    """What is fixed when a run begins."""

    sft: str
    """Fingerprint of π_SFT."""
    config: dict[str, Any]
    """The settings."""

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        return cls(fingerprint(trainer.task.sft), dataclasses.asdict(trainer.config))

    def same_run(self, other: "Head") -> bool:
        """Do both belong to one run? Its goal and its device may differ."""
        fixed = [
            {k: v for k, v in head.config.items() if k not in MOVABLE} for head in (self, other)
        ]
        return self.sft == other.sft and fixed[0] == fixed[1]


class Checkpoint(NamedTuple):
    """Everything that is needed to go on."""

    head: Head
    history: list[StepStats]
    """One record per finished iteration."""
    state: dict[str, Tensor]
    """As `Trainer.state` gives it."""

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        state = {name: tensor.cpu() for name, tensor in trainer.state().items()}
        return cls(Head.of(trainer), list(trainer.history), state)


def fingerprint(model: GPT2) -> str:
    """SHA-256 of a model's weights in float32, to tell worlds apart."""
    return _digest({name: tensor.float() for name, tensor in model.state_dict().items()}, None)


def pack_head(head: Head) -> bytes:
    """The content of `config.json`."""
    content = {"format": FORMAT, **head._asdict()}
    return json.dumps(content | {"sha256": _digest({}, content)}, indent=2).encode() + b"\n"


def read_head(folder: Path) -> Head:
    """
    Raises:
        ValueError: the file is missing, damaged, edited, or of another version.
    """
    path = folder / HEAD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop("sha256", None)
        version, head = content["format"], Head(content["sft"], dict(content["config"]))
    except _BROKEN as error:
        raise ValueError(
            f"{folder} is no complete run: {HEAD} is missing or broken ({error})"
        ) from error
    _require_version(path, version)
    if checksum != _digest({}, content):
        raise ValueError(
            f"{path} was edited or is damaged: the settings of a run cannot change, except the "
            "goal and the device, which are given when it is resumed"
        )
    return head


def pack_records(history: list[StepStats]) -> bytes:
    """The content of `records.csv`."""
    return "".join(
        f"{line}\n" for line in [",".join(StepStats._fields), *map(line, history)]
    ).encode()


def line(stats: StepStats) -> str:
    """One record as a line of `records.csv`."""
    return ",".join(repr(value) for value in stats)  # repr keeps every bit of a float


def read_records(folder: str | Path) -> list[StepStats]:
    """The records of a run; a last line without its end, cut off in mid-write, is left out.

    Raises:
        ValueError: the file is missing or damaged, or its columns are not those of this version.
    """
    path = Path(folder) / RECORDS
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing or broken ({error})") from error
    header, *lines = text.split("\n")[:-1] or [""]
    if header != ",".join(StepStats._fields):
        raise ValueError(
            f"{path} is empty, or has other columns than this version of rlhf_lab writes"
        )
    records = []
    for number, content in enumerate(lines, start=1):
        try:
            records.append(_record(content.split(",")))
            if records[-1].iteration != number:
                raise ValueError(f"it is that of iteration {records[-1].iteration}, not {number}")
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}, line {number + 1} is broken: {error}") from error
    return records


def require_records(folder: Path, checkpoint: Checkpoint) -> None:
    """Raise unless `records.csv` begins with the records that a checkpoint knows."""
    pairs = itertools.zip_longest(read_records(folder), checkpoint.history)
    for number, (written, known) in enumerate(pairs, start=1):
        if known is not None and (written is None or line(written) != line(known)):
            raise ValueError(
                f"{folder / RECORDS}: iteration {number} "
                f"{'is missing' if written is None else 'was changed'}; the checkpoint knows "
                f"{len(checkpoint.history)} iterations"
            )


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The content of `checkpoint.safetensors`."""
    head, history, state = checkpoint
    table = torch.tensor(history, dtype=torch.float64)
    tensors = {**state, "history": table.view(len(history), len(StepStats._fields))}
    about = head._asdict()
    metadata = {"format": FORMAT, "about": json.dumps(about), "sha256": _digest(tensors, about)}
    return safetensors.save(tensors, metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """
    Raises:
        ValueError: the file is missing, damaged, or of another version.
    """
    try:
        content = path.read_bytes()
        tensors = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")  # of the header, which is JSON
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        version, about = metadata["format"], json.loads(metadata.get("about", "{}"))
        if version == FORMAT and metadata["sha256"] != _digest(tensors, about):
            raise ValueError("its checksum does not fit its content")
    except (*_BROKEN, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or broken ({error})") from error
    _require_version(path, version)
    history = [_record(row) for row in tensors.pop("history").tolist()]
    return Checkpoint(Head(**about), history, tensors)


def last_whole_checkpoint(folder: Path) -> tuple[Checkpoint, str]:
    """The newest checkpoint that is whole, and the name of its file.

    Raises:
        ValueError: there is none; says what is wrong with each.
    """
    problems = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            return read_checkpoint(folder / name), name
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _record(values: list[Any]) -> StepStats:
    types = StepStats.__annotations__.values()
    if len(values) != len(types):
        raise ValueError(f"it has {len(values)} fields instead of {len(types)}")
    return StepStats(*(t(x) for t, x in zip(types, values, strict=True)))


def _require_version(path: Path, version: object) -> None:
    if version != FORMAT:
        raise ValueError(
            f"{path} has format {version!r}; this version of rlhf_lab reads {FORMAT!r}: "
            "use the version that wrote it"
        )


def _digest(tensors: dict[str, Tensor], about: object) -> str:
    """SHA-256 of the names, dtypes, shapes and numbers of tensors, and of what else is known."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        numbers = tensor.detach().cpu().contiguous().view(-1)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
