"""Server settings of the course, found through JUPYTER_CONFIG_PATH, which course.py sets.

The settings of JupyterLab itself are in labconfig/default_setting_overrides.json, which cannot hold
comments. It sets commsOverSubshells to "disabled" because JupyterLab >= 4.4 with ipykernel >= 7
sends slider messages to a second thread of the kernel otherwise, where they may draw into the very
figure that a cell is drawing, or arrive only once.
"""

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class NoDelayConnection(ZMQChannelsWebsocketConnection):
    """The usual link between browser and kernel, except that small messages leave at once.

    jupyter_server lets the system collect them (Nagle's algorithm), and a browser that waits before
    it acknowledges turns this into 40 ms per move of a slider.
    """

    def connect(self) -> Any:
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821 (defined by Jupyter, which runs this file)
c.ServerApp.kernel_websocket_connection_class = NoDelayConnection
