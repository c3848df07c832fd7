"""Collect what students have in their homes on a class server, for `report` and `grade`.

The homes belong to students and the collector may be root, so no link is followed: a student whose
`predictions.json` leads to somebody else's file hands in nothing.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from rlhf_lab.classroom.copies import GUESSES
from rlhf_lab.classroom.handed_in import MOST_BYTES, MOST_FILES, plain
from rlhf_lab.files import write_whole

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Collected(NamedTuple):
    """What was found in all homes."""

    students: int
    """Those of whom there is anything."""
    files: int
    """Those that are new or have changed since they were collected last."""
    left_out: list[str]
    """A line on each file that was not copied."""


def collect(homes: Path, folder: Path, place: str = "rlhf_lab") -> Collected:
    """Copy every student's notebooks and guesses into a folder of hers, each file whole.

    Files that `folder` has from before are replaced by newer ones, and none is deleted.

    Args:
        homes: holds one folder for each student.
        folder: gets STUDENT/FILE.
        place: the course's folder in each home; only what lies in it directly is copied.

    Raises:
        ValueError: nobody has anything there.
        OSError: `homes` cannot be read or `folder` cannot be written; it may be a system without
            the calls that this needs, such as Windows.
    """
    if not os.supports_dir_fd.issuperset({os.open}) or not hasattr(os, "O_NOFOLLOW"):
        raise OSError("collect needs a system on which links can be told from files")
    students, files, left_out = 0, 0, list[str]()
    for home in sorted(filter(Path.is_dir, homes.iterdir())):
        try:
            found = _contents(home / place, plain(home.name), left_out)
        except FileNotFoundError:  # somebody else's account
            continue
        except OSError as error:  # a link, or a home that one may not enter
            left_out.append(f"{plain(home.name)}: {place} is left out ({error.strerror})")
            continue
        students += bool(found)
        for name, content in found.items():
            files += _keep(folder / home.name / name, content)
    if not students:
        raise ValueError(f"no folder in {homes} has a notebook or guesses in {place}/")
    return Collected(students, files, left_out)


def _contents(place: Path, student: str, left_out: list[str]) -> dict[str, bytes]:
    """The bytes of all notebooks and of the guesses in a student's folder, by name."""
    found = {}
    opened = os.open(place, _READ | os.O_DIRECTORY)
    try:
        for name in sorted(os.listdir(opened))[:MOST_FILES]:
            if name != GUESSES and (not name.endswith(".ipynb") or name.startswith(".")):
                continue
            try:
                found[name] = _read(name, opened)
            except (OSError, ValueError) as error:
                said = error.strerror if isinstance(error, OSError) else error
                left_out.append(f"{student}: {plain(name)} is left out ({said})")
    finally:
        os.close(opened)
    return found


def _read(name: str, folder: int) -> bytes:
    """An ordinary file of an open folder."""
    with open(os.open(name, _READ, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no ordinary file")
        if status.st_nlink > 1:  # a hard link to a file of another
            raise ValueError("it has a second name elsewhere")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES / 1e6:.0f} MB")
    return content


def _keep(path: Path, content: bytes) -> bool:
    """Write a file unless it is there with the same content; was it written?"""
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return True
