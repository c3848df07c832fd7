"""What a class handed in: one folder or one file for each student, of which nothing is trusted."""

import json
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MOST_BYTES, MOST_FILES = 20_000_000, 2_000
"""Of a file that is read, and of a student's folder that is searched."""
SKIPPED = {"__pycache__", "node_modules", "site-packages"}


class Student(NamedTuple):
    """Somebody who handed something in."""

    name: str
    """As it can be printed; no two students have the same."""
    files: list[Path]


def plain(text: str, most: int = 100) -> str:
    """A text of a student as one printable line of at most `most` characters."""
    text = text[: 4 * most].encode("utf-8", "replace").decode()  # half of a surrogate pair: "?"
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def find(folder: Path, suffix: str) -> tuple[list[Student], list[str]]:
    """The students of a class with their files, and a line on each thing that is left out.

    Args:
        folder: holds one folder for each student, or one file.
        suffix: of the files wanted, ".ipynb" or ".json".

    Raises:
        OSError: `folder` cannot be read.
    """
    students: dict[str, Student] = {}
    left_out: list[str] = []
    for entry in sorted(folder.iterdir(), key=lambda path: path.name.casefold()):
        shown = plain(entry.name)
        if entry.name.startswith((".", "~")):
            continue
        if not _inside(entry, folder):
            left_out.append(f"{shown}: a link that leads out of the folder is not followed")
        elif entry.is_dir():
            files = [path for path in _files(entry) if path.suffix.lower() == suffix]
            _add(students, Student(shown, files), left_out)
        elif entry.suffix.lower() == suffix:
            _add(students, Student(plain(entry.stem), [entry]), left_out)
        elif entry.suffix.lower() in (".zip", ".gz", ".tar", ".7z", ".rar"):
            left_out.append(f"{shown}: archives are not unpacked; unpack it into a folder first")
        elif entry.suffix.lower() not in (".ipynb", ".json"):
            left_out.append(f"{shown}: neither a folder nor a file *{suffix}, left out")
    return list(students.values()), left_out


def _add(students: dict[str, Student], student: Student, left_out: list[str]) -> None:
    """Keep a student under a name that no other has; "Anna" and "anna" are two for nobody."""
    name, number = student.name or "?", 1
    while unicodedata.normalize("NFKC", name).casefold() in students:
        number += 1
        name = f"{student.name} ({number})"
    if number > 1:
        left_out.append(f"two students are called {student.name}: the later one is {name} here")
    students[unicodedata.normalize("NFKC", name).casefold()] = Student(name, student.files)


def _inside(path: Path, folder: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())


def _files(folder: Path) -> Iterator[Path]:
    """Ordinary files below a student's folder, of which nothing that Jupyter keeps for itself."""
    seen = 0
    for place, folders, names in os.walk(folder):  # which follows no links to folders
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in SKIPPED)
        for name in sorted(names):
            seen += 1
            if seen > MOST_FILES:
                return
            path = Path(place, name)
            if not name.startswith(".") and _inside(path, folder):
                yield path


def read_json(path: Path) -> Any:
    """What a student's file holds.

    Raises:
        ValueError: it is too large, or no JSON in UTF-8; says so, without the name of the file.
        OSError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
        raise ValueError("no ordinary file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"{status.st_size / 1e6:,.0f} MB; more than {MOST_BYTES / 1e6:.0f} MB")
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("not written in UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("no JSON, or only a part of it") from None


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells; versions 3, 4 and later ones of the same form.

    Raises:
        ValueError, OSError: as `read_json`, or it is no notebook.
    """
    notebook = read_json(path)
    try:
        if "worksheets" in notebook:  # version 3
            cells = [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
        else:
            cells = notebook["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        sources = [cell["source"] if "source" in cell else cell["input"] for cell in code]
        return [source if isinstance(source, str) else "".join(source) for source in sources]
    except (KeyError, TypeError):
        raise ValueError("JSON, but no notebook") from None
