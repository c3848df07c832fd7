"""The students' edition as a folder and a zip, for those who hand the course out themselves."""

import io
import os
import secrets
import shutil
import zipfile
from pathlib import Path

import rlhf_lab
from rlhf_lab.classroom import questions
from rlhf_lab.classroom.copies import cleared
from rlhf_lab.files import write_whole
from rlhf_lab.translation import tr

README = """\
# How does the reward in PPO for language models really work?

{count} notebooks of rlhf_lab {version}, without results: guess before you run. Open `{first}`
in JupyterLab and go on in order. Your guesses are kept in `predictions.json` beside the notebooks.

## What to install

On a server where your teacher has installed `rlhf_lab`: nothing. On your own machine you need
Python 3.11 to 3.14 and 3 GB of disk. Then, in a terminal, in this folder:

```
python3 -m venv .venv
.venv/bin/pip install --extra-index-url {cpu} "rlhf-lab[lab] @ git+{address}"
.venv/bin/jupyter lab {first}
```

On Windows write `py` for `python3` and `.venv\\Scripts` for `.venv/bin`.

Code: Apache-2.0. Texts and figures: CC BY 4.0. By the rlhf_lab contributors.
"""
CPU = "https://download.pytorch.org/whl/cpu"  # else Linux gets gigabytes of CUDA
ADDRESS = "ADDRESS-OF-THE-COURSE"


def files(address: str = ADDRESS, course: Path = questions.COURSE) -> dict[str, bytes]:
    """What students get, by the names of the files.

    Args:
        address: of the course's repository, from which `pip` takes the package.
        course: the folder of course.py.

    Raises:
        ValueError: the course's notebooks are not there, or one is damaged.
    """
    found = {f"{name}.ipynb": cleared(n) for name, n in questions.notebooks(course).items()}
    about = {"count": len(found), "first": next(iter(found)), "address": address, "cpu": CPU}
    return {**found, "README.md": tr(README, version=rlhf_lab.__version__, **about).encode()}


def write(folder: Path, contents: dict[str, bytes], zipped: bool = True) -> list[Path]:
    """Write the folder, and FOLDER.zip beside it, whole or not at all; returns their paths.

    Args:
        folder: it may be there if it is empty.
        contents: the files by their names, which may have folders in them.
        zipped: False writes no zip.

    Raises:
        ValueError: one of them is there already; it stays as it is.
        OSError: there is no place, or no permission to write.
    """
    folder = folder.resolve()
    archive = folder.with_name(f"{folder.name}.zip")
    made = [folder, archive] if zipped else [folder]
    for path in made:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ValueError(
                f"{path} is there already and stays as it is: name another, or move it"
            )
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    written = False
    try:
        temporary.mkdir(parents=True)
        for name, content in contents.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        if zipped:
            write_whole(archive, _zip(folder.name, contents))
            written = True
        if folder.exists():  # empty; Windows cannot rename onto it
            folder.rmdir()
        os.rename(temporary, folder)
    except BaseException:
        if written:
            archive.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return made


def _zip(folder: str, contents: dict[str, bytes]) -> bytes:
    """A zip of one folder; the same contents give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
