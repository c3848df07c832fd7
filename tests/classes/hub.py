"""A hub on this machine, and students of it as far as it can tell: requests and links to kernels.

The hub runs deploy/jupyterhub_config.py as it is. Only what cannot be had on one account is put in
its place: accounts, ports, and a folder for the tables. Students speak as JupyterLab does, all
through the proxy.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import websocket
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)

ROOT = Path(__file__).resolve().parents[2]
V1 = "v1.kernel.websocket.jupyter.org"
LOOPBACK = """\
load_subconfig({config!r})
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r} + "/{{username}}"
c.JupyterHub.bind_url = "http://127.0.0.1:{0}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{1}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{2}"
c.Spawner.args = {args!r}
c.Spawner.environment["RLHF_LAB_CACHE"] = {tables!r}
c.JupyterHub.load_roles.append({{
    "name": "teacher", "services": ["teacher"],
    "scopes": ["admin:users", "admin:servers", "access:servers", "read:services"],
}})
c.JupyterHub.services.append({{"name": "teacher", "api_token": {token!r}}})
"""


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Hub:
    """JupyterHub in a process and a folder of its own.

    Args:
        folder: gets the hub's files, and `homes` in it.
        tables: the folder of the exact tables.
        more: further lines of the config.
    """

    def __init__(self, folder: Path, tables: str, more: str = "") -> None:
        self.homes, self.log, self.token = folder / "homes", folder / "log", secrets.token_hex()
        ports = free_ports(3)
        self.address = f"http://127.0.0.1:{ports[0]}"
        config = folder / "config.py"
        filled = LOOPBACK.format(
            *ports,
            config=str(ROOT / "deploy" / "jupyterhub_config.py"),
            homes=str(self.homes),
            args=["--allow-root"] if os.geteuid() == 0 else [],
            tables=tables,
            token=self.token,
        )
        config.write_text(filled + more, encoding="utf-8")
        # As after a login: no variable of this project may reach students by chance.
        kept = ("PATH", "HOME", "LANG", "PYTHONPATH")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(config)],
                cwd=folder, env=env, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            self.wait_for(self._answers, 120)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return "version" in self.ask("GET", "/hub/api/")
        except (urllib.error.URLError, ConnectionError):
            return False

    def text(self, method: str, path: str, body: object = None) -> str:
        """What a server answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read().decode()

    def ask(self, method: str, path: str, body: object = None) -> dict:
        """The same as JSON, {} if there is no content."""
        return json.loads(self.text(method, path, body) or "{}")

    def wait_for(self, ready: Callable[[], object], seconds: float) -> None:
        """Ask again and again."""
        start = time.monotonic()
        while not ready():
            if time.monotonic() > start + seconds:
                raise TimeoutError(self.log.read_text()[-10_000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End the hub, which ends its proxy and all servers."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()


class Student:
    """Somebody with an account on a hub.

    Args:
        hub: a running hub.
        name: of the account, which is made.
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        self.home = hub.homes / name
        self.kernel = ""
        hub.ask("POST", f"/hub/api/users/{name}")

    def start(self) -> float:
        """Start her server; returns the seconds until it is ready."""
        start = time.monotonic()
        self.hub.ask("POST", f"/hub/api/users/{self.name}/server")  # raises, if it is refused
        self.hub.wait_for(self.ready, 300)
        return time.monotonic() - start

    def ready(self) -> bool:
        user = self.hub.ask("GET", f"/hub/api/users/{self.name}")
        return user.get("servers", {}).get("", {}).get("ready", False)

    def ask(self, method: str, path: str, body: object = None) -> dict:
        return self.hub.ask(method, f"/user/{self.name}/api/{path}", body)

    def open(self, path: str) -> "Link":
        """Open a notebook, with a kernel of its own."""
        kernel = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        self.kernel = self.ask("POST", "sessions", kernel)["kernel"]["id"]
        return Link(self)

    def cells(self, path: str) -> list[str]:
        """The code cells of a notebook in her home."""
        notebook = self.ask("GET", f"contents/{path}")["content"]
        return [c["source"] for c in notebook["cells"] if c["cell_type"] == "code"]


class Link:
    """A page's link to a student's kernel."""

    def __init__(self, student: Student) -> None:
        address = student.hub.address.replace("http", "ws", 1)
        address += f"/user/{student.name}/api/kernels/{student.kernel}/channels"
        self.socket = websocket.create_connection(
            f"{address}?session_id={uuid.uuid4()}",
            header={"Authorization": f"token {student.hub.token}"},
            subprotocols=[V1],
            timeout=300,
        )
        assert self.socket.subprotocol == V1
        self.widgets: dict[str, dict] = {}
        """The state of every widget that the kernel has told about, by its id."""

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.socket.close()

    def send(self, msg_type: str, **content: object) -> str:
        """Send a message; returns its id."""
        identity = str(uuid.uuid4())
        header = {"msg_id": identity, "msg_type": msg_type, "session": "", "username": ""}
        header |= {"version": "5.3", "date": "2026-01-01T00:00:00Z"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send_binary(
            serialize_msg_to_ws_v1(message, "shell", lambda part: json.dumps(part).encode())
        )
        return identity

    def receive(self) -> tuple[str, str, dict]:
        """The next message: its type, the id of what it answers, and its content."""
        _, parts = deserialize_msg_from_ws_v1(self.socket.recv())
        header, parent, _, content = (json.loads(part) for part in parts[:4])
        if header["msg_type"] in ("comm_open", "comm_msg"):
            state = content["data"].get("state", {})
            self.widgets.setdefault(content["comm_id"], {}).update(state)
        return header["msg_type"], parent.get("msg_id", ""), content

    def until_idle(self, identity: str) -> list[tuple[str, dict]]:
        """All that the kernel says while it works on a message."""
        said = []
        while True:
            kind, parent, content = self.receive()
            if parent == identity:
                said.append((kind, content))
                if kind == "status" and content["execution_state"] == "idle":
                    return said

    def run(self, code: str) -> str:
        """Run a cell; returns what it printed, and the name of its error if there is one."""
        settings = {"silent": False, "store_history": True, "user_expressions": {}}
        settings |= {"allow_stdin": False, "stop_on_error": True}
        said = self.until_idle(self.send("execute_request", code=code, **settings))
        texts = [c["text"] if k == "stream" else c["ename"] for k, c in said
                 if k in ("stream", "error")]  # fmt: skip
        return "".join(texts)

    def tell(self, widget: str, **data: object) -> None:
        """Say something to a widget as a page does, and wait until it has been dealt with."""
        self.until_idle(self.send("comm_msg", comm_id=widget, data=data))

    def find(self, **traits: object) -> list[str]:
        """The widgets with these traits, oldest first."""
        return [w for w, state in self.widgets.items() if traits.items() <= state.items()]


def memory(process: int) -> float:
    """MB that a process holds, shared pages counted in part (PSS)."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024
