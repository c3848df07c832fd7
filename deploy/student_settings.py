"""What a student's server needs, whichever hub starts it; jupyterhub_config.py and TLJH load this.

COURSE is this clone of the course. Students must be able to read it, and only you to write it.
"""

import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parent.parent
TLJH = Path("/opt/tljh/user/bin/python3")  # there, the hub's own Python is not the students'
PYTHON = str(TLJH if TLJH.exists() else sys.executable)

c = get_config()  # noqa: F821 (defined by JupyterHub, which runs this file)
c.Spawner.cmd = [PYTHON, str(COURSE / "deploy" / "start_student.py")]
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab/tree/rlhf_lab/00_start_here.ipynb"
# When a whole class logs in at nine, a server may wait a minute for its turn on the processor.
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
# Of each process. A notebook of the course needs less than 0.7 GB.
c.Spawner.mem_limit = "2G"
c.Spawner.environment = {
    # Sliders that answer at once, and a server that keeps no pictures of pages that were closed.
    "JUPYTER_CONFIG_PATH": str(COURSE / ".jupyter"),
    # The exact tables, once for all; `keep_tables` in the README makes them.
    "RLHF_LAB_CACHE": "/var/lib/rlhf_lab/tables",
    # Two kernels of two threads each wait for each other on two processors, 50 times as long.
    "OMP_NUM_THREADS": "1",
}
