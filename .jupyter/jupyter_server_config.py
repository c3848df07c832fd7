"""Server settings of the course, found through JUPYTER_CONFIG_PATH, which course.py sets.

The settings of JupyterLab itself are in labconfig/default_setting_overrides.json, which cannot hold
comments. It sets commsOverSubshells to "disabled" because JupyterLab >= 4.4 with ipykernel >= 7
sends slider messages to a second thread of the kernel otherwise, where they may draw into the very
figure that a cell is drawing, or arrive only once.
"""

c = get_config()  # noqa: F821 (defined by Jupyter, which runs this file)
c.ServerApp.kernel_websocket_connection_class = "rlhf_lab_server.NoDelayConnection"
# Else the server keeps every picture that a run sends to a page that was closed, without limit.
c.MappingKernelManager.buffer_offline_messages = False
