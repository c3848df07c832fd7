"""The link between browser and kernel, on real servers: whoever calls, the others are served."""

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
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import websocket
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

import rlhf_lab_server
from rlhf_lab_server import NoDelayConnection

ROOT = Path(__file__).resolve().parent.parent
V1 = "v1.kernel.websocket.jupyter.org"
MB = 2**20
TOKEN = secrets.token_hex()
PAGE = """\
import threading, time, ipywidgets
cockpit = ipywidgets.Image(value=bytes(100_000))
def work():
    while True:
        time.sleep(0.02)
        cockpit.value = time.time_ns().to_bytes(100_000, "little")
cockpit.on_msg(lambda *_: threading.Thread(target=work, daemon=True).start())
cockpit"""


class Server:
    """A server of Jupyter's, in a process and a folder of its own."""

    def __init__(self, folder: Path, configs: Path, *argv: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "log"
        names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        env = {**os.environ, **{f"JUPYTER_{name}": str(folder / name) for name in names}}
        env["JUPYTER_CONFIG_PATH"] = str(configs)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
        argv = (sys.executable, "-m", *argv, "--no-browser", f"--port={self.port}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(argv, env=env, cwd=folder, stdout=log, stderr=log)

    def get(self, path: str, data: bytes | None = None) -> str:
        """What the server answers; waits for one that is still starting."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        request.add_header("Authorization", f"token {TOKEN}")
        for _ in range(600):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.read().decode()
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def memory(self) -> int:
        """Bytes that the process holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End it and its kernels; one that hangs must go, too."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def voila(tmp_path_factory) -> Iterator[Server]:
    """The page of `course.py cockpit`, but with a small notebook."""
    folder = tmp_path_factory.mktemp("voila")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PAGE)])
    nbformat.write(notebook, folder / "page.ipynb")
    flags = [f"--Voila.token={TOKEN}", f"--NoDelayConnection.most_unread={20 * MB}"]
    server = Server(folder, ROOT / ".jupyter", "voila", "page.ipynb", *flags)
    yield server
    server.stop()


class Client:
    """A browser, as far as the server can tell; speaks one of two protocols with one kernel."""

    def __init__(self, server: Server, kernel: str, protocol: str | None) -> None:
        self.protocol = protocol
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/api/kernels/{kernel}/channels?session_id={uuid.uuid4()}",
            header={"Authorization": f"token {TOKEN}"},
            subprotocols=[protocol] if protocol else None,
            timeout=60,
        )
        assert self.socket.subprotocol == protocol

    def send(self, msg_type: str, **content: object) -> None:
        header = {"msg_id": str(uuid.uuid4()), "msg_type": msg_type, "session": "", "username": ""}
        header |= {"version": "5.3", "date": "2026-01-01T00:00:00Z"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        if self.protocol == V1:
            self.socket.send_binary(
                serialize_msg_to_ws_v1(message, "shell", lambda part: json.dumps(part).encode())
            )
        else:
            self.socket.send(json.dumps({**message, "channel": "shell", "buffers": []}))

    def wait_for(self, msg_type: str) -> tuple[dict, list[bytes]]:
        """Content and buffers of the next message of this type."""
        while True:
            message = self.socket.recv()
            if self.protocol == V1:
                _, (header, _, _, content, *buffers) = deserialize_msg_from_ws_v1(message)
                header, content = json.loads(header), json.loads(content)
            else:
                binary = isinstance(message, bytes)
                whole = deserialize_binary_message(message) if binary else json.loads(message)
                header, content, buffers = (whole[k] for k in ("header", "content", "buffers"))
            if header["msg_type"] == msg_type:
                return content, buffers

    def send_to_all_widgets(self, **data: object) -> None:
        self.send("comm_info_request", target_name="jupyter.widget")
        for comm in self.wait_for("comm_info_reply")[0]["comms"]:
            self.send("comm_msg", comm_id=comm, data=data)


def kernel_of_a_new_page(server: Server) -> str:
    return re.search(r'"kernelId": ?"([^"]+)"', server.get("/"))[1]


@pytest.mark.parametrize("protocol", [None, V1])
def test_voila_serves_both_protocols_and_stays_awake(voila, protocol):
    """With the older one, Voilà itself would never come back from the first picture."""
    client = Client(voila, kernel_of_a_new_page(voila), protocol)
    client.send_to_all_widgets(method="request_state")
    while not any(len(buffer) == 100_000 for buffer in client.wait_for("comm_msg")[1]):
        pass
    client.socket.close()
    assert "kernelId" in voila.get("/")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_who_does_not_read_is_cut_off_and_a_closed_page_costs_no_memory(voila):
    kernel = kernel_of_a_new_page(voila)
    asleep, client = Client(voila, kernel, V1), Client(voila, kernel, V1)
    before = voila.memory()
    client.send_to_all_widgets(method="custom", content={})
    while "is cut off" not in voila.log.read_text():
        client.wait_for("comm_msg")
        assert voila.memory() < before + 150 * MB
    client.wait_for("comm_msg")
    for each in (asleep, client):
        each.socket.close(timeout=0)
    time.sleep(1)
    before = voila.memory()
    time.sleep(4)
    assert voila.memory() < before + 8 * MB


def test_extension_gives_the_link_to_any_server(tmp_path):
    """Behind a hub nobody sets JUPYTER_CONFIG_PATH; the wheel's file enables the extension."""
    enabled = tmp_path / "config" / "jupyter_server_config.d" / "rlhf_lab.json"
    enabled.parent.mkdir(parents=True)
    enabled.write_bytes((ROOT / ".jupyter/jupyter_server_config.d/rlhf_lab.json").read_bytes())
    flags = ["--ServerApp.allow_root=True", f"--IdentityProvider.token={TOKEN}"]
    server = Server(tmp_path, tmp_path / "config", "jupyter_server", *flags)
    try:
        kernel = json.loads(server.get("/api/kernels", b""))["id"]
        for protocol in (None, V1):
            client = Client(server, kernel, protocol)
            client.send("kernel_info_request")
            assert "banner" in client.wait_for("kernel_info_reply")[0]
            client.socket.close()
        assert "rlhf_lab_server | extension was successfully loaded" in server.log.read_text()
    finally:
        server.stop()


@pytest.mark.parametrize("chosen", [ZMQChannelsWebsocketConnection, type("Own", (), {})])
def test_extension_respects_another_choice(chosen):
    settings = {"kernel_websocket_connection_class": chosen}
    web_app = SimpleNamespace(settings=settings)
    server = SimpleNamespace(kernel_websocket_connection_class=chosen, web_app=web_app)
    rlhf_lab_server._load_jupyter_server_extension(server)
    ours = chosen is ZMQChannelsWebsocketConnection
    assert settings == {"kernel_websocket_connection_class": NoDelayConnection if ours else chosen}


def test_small_messages_leave_at_once(monkeypatch):
    seen = []
    stream = SimpleNamespace()
    handler = SimpleNamespace(set_nodelay=seen.append, ws_connection=SimpleNamespace(stream=stream))
    monkeypatch.setattr(NoDelayConnection, "websocket_handler", handler)
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda self: seen.append("on"))
    NoDelayConnection().connect()
    assert seen == [True, "on"]


def test_the_server_needs_no_torch():
    code = "import sys, rlhf_lab_server; print({'torch', 'rlhf_lab'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "set()", said.stderr
