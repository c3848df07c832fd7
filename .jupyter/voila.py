"""Settings of the page that `python3 course.py cockpit` serves, found through JUPYTER_CONFIG_PATH.

Sources are left out, and visitors can move what is on the page but run no code of their own:
both are Voilà's defaults.
"""

c = get_config()  # noqa: F821 (defined by Jupyter, which runs this file)
load_subconfig("jupyter_server_config.py")  # noqa: F821
c.Voila.kernel_websocket_connection_class = c.ServerApp.kernel_websocket_connection_class
c.Voila.ip = "127.0.0.1"
c.Voila.auto_token = True  # others may have accounts on this machine; the address holds it
# A page elsewhere may send its visitors here under a name of its own; Jupyter refuses that, Voilà
# would not.
c.Voila.tornado_settings = {"allow_remote_access": False}


def cockpit_alone(request, notebook, cwd):
    """Leave the notebook's text and its later cells out: a wall has room for the cockpit only."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [cell.source.splitlines()[-1:] == ["cockpit"] for cell in code]
    notebook.cells = code[: shown.index(True) + 1]
    return notebook


c.VoilaConfiguration.prelaunch_hook = cockpit_alone
# Any other extension would look for parts of JupyterLab that are not on this page.
c.VoilaConfiguration.extension_allowlist = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]
