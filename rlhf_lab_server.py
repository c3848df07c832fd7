"""The link between browser and kernel that moving sliders need, for JupyterLab and Voilà.

It is no part of the package rlhf_lab, because importing that loads torch: 200 MB and a second or
more, of which a server has no use. The wheel enables it as an extension of jupyter_server
(etc/jupyter/jupyter_server_config.d/rlhf_lab.json), so that those behind a hub get it, too;
`python3 course.py lab` and `cockpit` name it in .jupyter/.
"""

from collections.abc import Callable
from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketHandler
from traitlets import Int


class NoDelayConnection(ZMQChannelsWebsocketConnection):
    """The usual link between browser and kernel, except for three things.

    Small messages leave at once. jupyter_server lets the system collect them (Nagle's algorithm),
    and a browser that waits before it acknowledges turns this into 40 ms per move of a slider.

    A client that does not ask for the protocol v1.kernel.websocket.jupyter.org is served without
    Voilà's handler. That one reads every binary message as one of v1; in an older one it takes two
    lengths for the number of parts, and counts to 10^17 while nobody else is served.

    A client that does not read what it is sent is cut off, before it fills the server's memory.
    """

    most_unread = Int(
        128 * 2**20, config=True, help="Bytes that may wait for a client before it is cut off."
    )

    def connect(self) -> Any:
        self.websocket_handler.set_nodelay(True)
        self._stream.max_write_buffer_size = self.most_unread
        return super().connect()

    @property
    def write_message(self) -> Callable[..., Any]:
        return self._send

    @property
    def _stream(self) -> Any:
        return self.websocket_handler.ws_connection.stream  # type: ignore[union-attr]  # it is open

    def _send(self, message: Any, binary: bool = False) -> Any:
        handler = self.websocket_handler
        try:
            if self.subprotocol is None:
                return WebSocketHandler.write_message(handler, message, binary)
            return handler.write_message(message, binary)
        except StreamBufferFullError:
            self.log.warning("A client left %i bytes unread and is cut off.", self.most_unread)
            self._stream.close()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    """Use the link for all kernels, unless somebody has chosen one already."""
    if server.kernel_websocket_connection_class is ZMQChannelsWebsocketConnection:
        server.web_app.settings["kernel_websocket_connection_class"] = NoDelayConnection
