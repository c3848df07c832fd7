"""JupyterLab and Voilà as course.py starts them, but on a copy of the notebooks and in private."""

import importlib.util
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "browser-test"  # screenshots and latencies; ignored by git
PRIVATE = {  # folders in which Jupyter keeps what belongs to a user
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}

_spec = importlib.util.spec_from_file_location("course", ROOT / "course.py")
course = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(course)


def lab(folder: Path) -> AbstractContextManager[str]:
    """Serve JupyterLab, and Notebook 7 beside it; gives an address with a place for a path."""
    token = secrets.token_hex()
    flags = [
        f"--IdentityProvider.token={token}",
        # Scenarios reach Lab's own commands and the kernel through `window.jupyterapp`.
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--ServerApp.port_retries=0",
        "--ServerApp.allow_root=True",  # machines that run tests are often root's
    ]
    return _serve("lab", folder, flags, f"?token={token}")


def cockpit(folder: Path, notebook: str = "") -> AbstractContextManager[str]:
    """Serve the cockpit's page by Voilà; gives an address with a place for a path.

    Args:
        folder: where the server works.
        notebook: what to serve instead of the cockpit's notebook, as JSON.
    """
    token = secrets.token_hex()
    flags = ["--Voila.port_retries=0", f"--Voila.token={token}"]
    return _serve("cockpit", folder, flags, f"?token={token}", notebook)


@contextmanager
def _serve(
    command: str, folder: Path, flags: list[str], query: str = "", notebook: str = ""
) -> Iterator[str]:
    """Run a command of course.py in a folder until it answers; stop it at the end."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    if notebook:
        (folder / "notebooks" / "cockpit.ipynb").write_text(notebook, encoding="utf-8")
    private = {name: str(folder / place) for name, place in PRIVATE.items()}
    (argv,) = course.TASKS[command]
    argv = [part.format("") for part in argv]  # in English
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, *argv, "--no-browser", f"--port={port}", *flags],
            env={**course.environ(), **private}, cwd=folder, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        _wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}{{}}{query}"
    finally:
        server.terminate()  # it ends its kernels first
        server.wait(30)


def _wait_for(port: int, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    """Until somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{server.args} does not answer:\n{log.read_text()[-3000:]}")
