"""The proxy in front of all students' servers, in Python, so that a hub needs nothing but pip.

PyPI's configurable-http-proxy 0.4 serves pages well, and spoils what JupyterLab and its kernels say
to each other: it forgets which of two protocols they have agreed on, and sends bytes as text. It
also fetches no more than ten things at a time for a whole class. This file corrects the three.
Arguments are those of the package's command, which the hub gives.
"""

from configurable_http_proxy import configproxy
from configurable_http_proxy.cli import main
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient

MOST_AT_ONCE = 1000


class Handler(ProxyHandler):
    """A link between a browser and a kernel, on which each side hears what the other has said."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return self.ws_client.selected_subprotocol

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)  # else each move of a slider may wait 40 ms for an acknowledgement
        self.ws_client.protocol.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        if self.ws_client:
            self.proxy.update_last_activity(self.target["prefix"])
            self.ws_client.write_message(message, binary=isinstance(message, bytes))


if __name__ == "__main__":
    configproxy.ProxyHandler = Handler
    AsyncHTTPClient.configure(None, max_clients=MOST_AT_ONCE)
    main()
