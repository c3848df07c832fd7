"""Firefox, spoken to in WebDriver BiDi, which needs no driver; as a script, install it if we may.

Playwright brings a Firefox of its own, which is not the one that people use. This one is; without
it the tests of it are skipped.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

NAMES = ("firefox-esr", "firefox")
LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """A tab without a network: what a test asks of it is answered or raised."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(f"{address}/session", suppress_origin=True)
        self._asked = 0
        self._ask("session.new", capabilities={})
        self.context = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == self._asked:
                if said["type"] == "error":
                    raise RuntimeError(f"{method}: {said['message']}")
                return said["result"]

    def close(self) -> None:
        self._socket.close()

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height}
        self._ask("browsingContext.setViewport", context=self.context, viewport=size)

    def goto(self, address: str) -> None:
        self._ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of its promise."""
        answer = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self.context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))

    def wait_for(self, condition: str) -> Any:
        """The value of an expression as soon as it is true."""
        wait = "for (let k = 0; k < 600; k++) { const found = await (%s); if (found) return found; "
        wait += "await new Promise((next) => setTimeout(next, 50)); }"
        found = self.evaluate(f"(async () => {{ {wait % condition} }})()")
        assert found, condition
        return found

    def screenshot(self, file: Path) -> None:
        data = self._ask("browsingContext.captureScreenshot", context=self.context)["data"]
        file.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A fresh Firefox with one tab, for as long as the block lasts."""
    program = find()
    assert program
    command = [program, "--headless", "--remote-debugging-port", "0", "--profile", str(profile)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stderr
    try:
        said = (LISTENS.search(line) for line in process.stderr)
        with contextlib.closing(Tab(next(filter(None, said))[1])) as tab:
            yield tab
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    if not find() and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", "firefox-esr"], env=environment)
    if not find():
        print("There is no Firefox here: the tests of it will be skipped.", file=sys.stderr)
