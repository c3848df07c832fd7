"""A hub on one machine, for students who have accounts there: deploy/README.md says how to use it.

`python3 course.py class-test` loads this file as it is and has a class of ten work on it.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

c = get_config()  # noqa: F821 (defined by JupyterHub, which runs this file)
load_subconfig(str(HERE / "student_settings.py"))  # noqa: F821

# Who may come in: everybody who has an account on this machine, with its password.
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.JupyterHub.bind_url = "http://127.0.0.1:8000"  # behind a web server with a certificate

# A proxy in Python, so that pip is all one needs. If you have Node.js, delete the line and install
# npm's configurable-http-proxy, which is the hub's own choice.
c.ConfigurableHTTPProxy.command = [sys.executable, str(HERE / "proxy.py")]

# `concurrent_spawn_limit` stays at 100. A smaller one makes nobody wait in line: it turns students
# away with "429 Too many users".

# An hour after the last cell has run a server ends. An open page does not keep it, a running cell
# does. Nothing is lost but the variables.
c.JupyterHub.load_roles = [
    {
        "name": "cull",
        "services": ["cull"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    }
]
c.JupyterHub.services = [
    {
        "name": "cull",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"],
    }
]
