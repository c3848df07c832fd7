"""Exact tables on disk: computed once on a machine, then mapped into every process that needs them.

A file's name holds a hash of everything that determines its numbers, so after a change of the
models, the code or torch another file is made, and an old one is never read by mistake. A file
is read only where its checksum is right. It is mapped rather than copied: all processes share its
pages, and what one of them writes into a table stays in that process.

Where nothing can be kept, as in a read-only home or on a full disk, each process computes its own.
"""

import contextlib
import hashlib
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rlhf_lab.files import write_whole

VARIABLE = "RLHF_LAB_CACHE"
"""The environment variable that names another folder, or none: an empty value keeps nothing."""
SOURCES = ("_checks", "_require", "exact", "gpt2", "language", "table_cache", "tree", "world")
"""The modules whose code runs while tables are computed or read."""
KEPT = 16
"""Files that stay in the folder, 13 MB each: those of eight versions of everything."""
_PREFIX = "rlhf_lab-tables-"

Named = Mapping[str, Tensor]


def folder() -> Path | None:
    """Where the files are, or None if they are not wanted or there is no home to keep them in."""
    named = os.environ.get(VARIABLE)
    try:
        if named is not None:
            return Path(named).expanduser() if named else None
        base: str | Path
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME", "")
            # A relative path is no place at all, says the standard of this variable.
            base = base if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # no home
        return None
    return Path(base, "rlhf_lab")


def file_of(prompt: str, models: Mapping[str, nn.Module]) -> Path | None:
    """The file for one prompt's tables, whether it is there or not; None if there can be none.

    Args:
        prompt: a word of the language.
        models: all that the tables are computed from, by name; on the CPU.
    """
    place = folder()
    if place is None:
        return None
    key = hashlib.sha256()
    for name, model in models.items():
        key.update(f"{name} {_checksum(model.state_dict())} ".encode())
    for module in SOURCES:
        try:
            key.update(Path(__file__).with_name(f"{module}.py").read_bytes())
        except OSError:  # installed without its source
            return None
    about = (
        prompt, torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
        torch.get_float32_matmul_precision(), sysconfig.get_platform(), sys.byteorder,
    )  # fmt: skip
    key.update(repr(about).encode())
    return place / f"{_PREFIX}{prompt}-{key.hexdigest()[:32]}.safetensors"


def cached(path: Path | None, compute: Callable[[], Named]) -> Named:
    """The tables in a file; where it is missing or damaged, they are computed and kept in it.

    Args:
        path: from `file_of`; None keeps nothing.
        compute: gives float64 tensors by name.
    """
    if path is None:
        return compute()
    found = read(path)
    if found is not None:
        return found
    computed = compute()
    try:
        # Another process may have been faster, and a file that others have mapped is left alone.
        if read(path) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, save(dict(computed), metadata={"checksum": _checksum(computed)}))
            _tidy(path.parent)
    except OSError:  # no permission, no space: the next process computes its own
        return computed
    return read(path) or computed


def read(path: Path) -> Named | None:
    """Map the tables in a file, copy-on-write; None if there is no such file or it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            checksum = (file.metadata() or {}).get("checksum")
    except (OSError, RuntimeError, SafetensorError):
        return None
    if any(t.dtype != torch.float64 for t in found.values()) or checksum != _checksum(found):
        return None
    with contextlib.suppress(OSError):  # somebody else's folder
        os.utime(path)  # `_tidy` goes by this; file systems seldom note when a file was read
    return found


def _checksum(tensors: Named) -> str:
    """SHA-256 of names, shapes, types and bytes; of the mapped pages themselves, not of a copy."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().contiguous().reshape(-1).numpy().data)
    return total.hexdigest()


def _tidy(place: Path) -> None:
    """Delete all files but those used last, and what a writer that was killed has left behind."""
    files = [*place.glob(f"{_PREFIX}*.safetensors"), *place.glob(f".{_PREFIX}*.tmp")]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
