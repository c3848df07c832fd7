"""Start one student's server, in her own account: her copies first, then JupyterHub's own command.

The hub runs this file in place of `jupyterhub-singleuser`. Nothing here runs as root, so no file of
a student is ever written by anybody else.
"""

import os
import resource
import runpy
import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parent.parent


def limit_memory() -> None:
    """Hold each process to MEM_LIMIT bytes, which the hub sets from `c.Spawner.mem_limit`.

    JupyterHub's spawners for local accounts set the variable and limit nothing. A kernel that asks
    for more gets an error in its cell and lives on. RLIMIT_AS would be of no use: torch reserves
    far more addresses than it uses memory.
    """
    most = os.environ.get("MEM_LIMIT")
    if most:
        resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))


def copy_notebooks(folder: Path) -> None:
    """Put the notebooks that are missing into a folder; those that are there stay as they are."""
    make = runpy.run_path(str(COURSE / "rlhf_lab" / "classroom" / "copies.py"))["make"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        language = os.environ.get("RLHF_LAB_LANGUAGE") or "en"
        print(*make(COURSE, folder, language), sep="\n", flush=True)
    except OSError as error:  # a full disk is no reason to keep her out
        print(f"The notebooks could not be copied into {folder}: {error}", flush=True)


if __name__ == "__main__":
    named = os.environ.get("RLHF_LAB_FOLDER", "rlhf_lab")
    if named:  # an empty one: students get the notebooks in another way
        copy_notebooks(Path.home() / named)
    limit_memory()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterhub.singleuser", *sys.argv[1:]])
