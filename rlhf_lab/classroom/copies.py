"""Working copies of the notebooks: made once, with no output but drawings, and never overwritten.

`course.py lab` runs this file on its own, before JupyterLab starts. So it imports nothing but the
standard library: the package would load torch, and everybody would wait for it.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

FOLDER = "my_notebooks"
"""The students' folder, beside `notebooks`: as deep as that, so that relative links hold."""
MARK = "rlhf_lab"
"""In the metadata of a copy: from which version of the course's notebook it was made."""
GUESSES = "predictions.json"
Notebook = dict[str, Any]


def read(path: Path) -> Notebook:
    """A notebook of the course as JSON.

    Raises:
        ValueError: the file is no notebook of version 4; names it.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if notebook["nbformat"] == 4 and isinstance(notebook["cells"], list):
            return dict(notebook)
    except (ValueError, KeyError, TypeError):  # such as the marks of a merge that failed
        pass
    raise ValueError(f"{path.parent.name}/{path.name} is damaged; get it anew from the course")


def fingerprint(notebook: Notebook) -> str:
    """Changes with what is written in the cells, and not with what they have put out."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def cleared(notebook: Notebook) -> bytes:
    """The file of a copy: all cells, outputs of drawings alone, and where it comes from."""
    cells = [
        {**cell, "outputs": cell["outputs"] if _kept(cell) else [], "execution_count": None}
        if cell["cell_type"] == "code"
        else cell
        for cell in notebook["cells"]
    ]
    kept = {
        key: notebook["metadata"][key] for key in ("kernelspec",) if key in notebook["metadata"]
    }
    mark = {MARK: {"copy_of": fingerprint(notebook)}}
    copy = {**notebook, "cells": cells, "metadata": {**kept, **mark}}
    return (json.dumps(copy, indent=1, ensure_ascii=False) + "\n").encode()


def _kept(cell: Notebook) -> bool:
    """Does the cell show what students see before they run anything?"""
    return "keep-output" in cell["metadata"].get("tags", [])


def make(course: Path, folder: Path | None = None, language: str = "en") -> list[str]:
    """Copy what is not copied yet from `course/notebooks`; returns what the student should know.

    Args:
        course: the folder of course.py.
        folder: where the copies go, if not into `course/my_notebooks`; as on a class server, where
            many students share one course.
        language: of the notebooks; those that are not English lie in a folder of their own in both
            places, so that none takes the place of another.

    Raises:
        OSError: a copy cannot be written; those made before are whole.
    """
    within = "" if language == "en" else language
    source, target = course / "notebooks" / within, folder or course / FOLDER / within
    shown = target.relative_to(course).as_posix() if folder is None else target.name
    said, made, changed, used = [], 0, [], False
    for path in sorted(source.glob("*.ipynb")):
        copy = target / path.name
        try:
            notebook = read(path)
            if copy.exists():
                changed += [path.name] if _is_older(copy, notebook) else []
                continue
        except ValueError as error:
            said.append(f"{error}.")
            continue
        target.mkdir(parents=True, exist_ok=True)
        _write_new(copy, cleared(notebook))
        # JupyterLab leaves more than the kernel's name in the metadata of what it saves.
        made, used = made + 1, used or "language_info" in notebook["metadata"]
    if made:
        said.append(f"Work in {shown}/: it holds your own notebooks, without results ({made} new).")
    if made and folder is None and (_take_along(source, target) or used):
        said.append(
            f"You have worked in notebooks/ before: your answers and guesses are in {shown}/, "
            "too; notebooks/ with its results and runs stays as it is."
        )
    if changed:
        said.append(
            f"Newer in the course than in {shown}/: {', '.join(changed)}. Yours stay as you "
            "left them; to get a new one beside yours, rename yours and run this command again."
        )
    return said


def _is_older(copy: Path, notebook: Notebook) -> bool:
    """Was a copy made from another version? Nobody knows of one that has lost its mark."""
    try:
        mark = read(copy)["metadata"][MARK]["copy_of"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(mark != fingerprint(notebook))


def _take_along(source: Path, target: Path) -> bool:
    """Copy the guesses that a student has committed in another folder, unless there are new."""
    old, new = source / GUESSES, target / GUESSES
    if not old.exists():
        return False
    _write_new(new, old.read_bytes())
    return True


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet: the whole of it, or none."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        if not path.exists():  # another `lab` may have been faster
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
