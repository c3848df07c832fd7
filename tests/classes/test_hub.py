"""A class of ten on a hub, with deploy/jupyterhub_config.py as it is.

All log in at the same second. Each runs the first cells of her own copy of notebook 00 and answers
its first question with a click; the teacher collects the guesses. `python3 course.py class-test`
runs this where JupyterHub is installed.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hub import Hub, Student

from rlhf_lab.classroom.__main__ import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a class server runs Linux"),
]
NAMES = [f"student{number:02}" for number in range(10)]
LESSON = "rlhf_lab/00_start_here.ipynb"
NUMBER = 40
"""What everybody guesses."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with Hub(tmp_path_factory.mktemp("hub"), os.environ["RLHF_LAB_CACHE"]) as running:
        yield running


@pytest.fixture(scope="module")
def students(hub):
    """The class, with its servers."""
    students = [Student(hub, name) for name in NAMES]
    with ThreadPoolExecutor(len(students)) as all_at_once:
        list(all_at_once.map(Student.start, students))
    return students


def guess(student):
    """Run the lesson up to its first question and answer that as a page does: text, then click.

    Returns what was printed, how many widgets say "You guessed", and what the button says.
    """
    cells = student.cells(LESSON)
    before = [*takewhile(lambda source: "Prediction(" not in source, cells)]
    with student.open(LESSON) as link:
        said = "".join(link.run(source) for source in [*before, cells[len(before)]])
        (text,), (button,) = link.find(_model_name="TextModel"), link.find(description="Commit")
        link.tell(text, method="update", state={"value": str(NUMBER)}, buffer_paths=[])
        link.tell(button, method="custom", content={"event": "click"})
        answered = [w for w in link.widgets.values() if "You guessed" in w.get("value", "")]
        return said, len(answered), link.widgets[button]["description"]


def test_ten_at_once_run_cells_and_commit_a_guess_through_the_proxy(students, hub, tmp_path):
    with ThreadPoolExecutor(len(students)) as all_at_once:
        for said, answered, button in all_at_once.map(guess, students):
            assert "402,234 reviews, probabilities add up to 1.000000" in said
            assert "Error" not in said
            assert (answered, button) == (1, "✓ Committed")
    folder = tmp_path / "handed-in"
    assert main(["collect", str(hub.homes), str(folder)]) == 0
    assert main(["report", str(folder)]) == 0
    page = (tmp_path / "handed-in-predictions.html").read_text(encoding="utf-8")
    assert "10 guesses from 40 to 40" in page


def test_what_a_student_has_changed_stays_when_her_server_starts_again(students, hub):
    student = students[0]
    copy, gone = student.home / LESSON, student.home / "rlhf_lab" / "01_a_score_at_the_end.ipynb"
    copy.write_text("mine", encoding="utf-8")
    gone.unlink()
    hub.ask("DELETE", f"/hub/api/users/{student.name}/server")
    hub.wait_for(lambda: not hub.ask("GET", f"/hub/api/users/{student.name}")["servers"], 60)
    student.start()
    assert copy.read_text(encoding="utf-8") == "mine"
    assert gone.exists()


def test_a_kernel_has_one_thread_the_shared_tables_and_no_more_memory_than_allowed(students):
    with students[1].open("rlhf_lab/01_a_score_at_the_end.ipynb") as link:
        link.run("import torch\nfrom rlhf_lab import load_world\nload_world().tables('food')")
        assert link.run("print(torch.get_num_threads())") == "1\n"
        maps = link.run("print(open('/proc/self/maps').read())")
        assert f"{os.environ['RLHF_LAB_CACHE']}/rlhf_lab-tables-food" in maps
        assert link.run("torch.ones(3 * 2**30, dtype=torch.uint8)") == "RuntimeError"
        assert link.run("print(1 + 1)") == "2\n"  # the kernel lives on


def test_servers_have_the_settings_that_widgets_need(students, hub):
    log = hub.log.read_text(encoding="utf-8")
    assert log.count("rlhf_lab_server | extension was successfully loaded") >= len(students)
    page = "@jupyterlab/apputils-extension:kernels-settings"
    told = hub.ask("GET", f"/user/{NAMES[2]}/lab/api/settings/{page}")
    assert told["schema"]["properties"]["commsOverSubshells"]["default"] == "disabled"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_link_of_nbgitpuller_brings_a_repository_and_later_what_is_new_in_it(
    students, tmp_path, monkeypatch
):
    """What `handout` writes, as a repository; a link names it and its branch."""
    repository = tmp_path / "course"
    assert main(["handout", str(repository), "--address", "https://example.org/course"]) == 0
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "teacher")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "teacher@example.org")
    commit = ["git", "-C", str(repository), "commit", "-qam"]
    for command in (["init", "-qb", "main"], ["add", "."]):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    subprocess.run([*commit, "First"], check=True)
    student = students[3]
    wanted = {"repo": f"file://{repository}", "branch": "main", "targetpath": "course"}
    link = f"/user/{student.name}/git-pull/api?{urllib.parse.urlencode(wanted)}"
    assert '"phase": "finished"' in student.hub.text("GET", link)
    mine = student.home / "course" / "00_start_here.ipynb"
    mine.write_text("mine", encoding="utf-8")
    (repository / "README.md").write_text("newer", encoding="utf-8")
    subprocess.run([*commit, "Second"], check=True)
    assert '"phase": "finished"' in student.hub.text("GET", link)
    assert mine.read_text(encoding="utf-8") == "mine"
    assert (student.home / "course" / "README.md").read_text(encoding="utf-8") == "newer"


def test_idle_servers_end(students, hub):
    """By the culler of the config, with another time."""
    assert all(student.ready() for student in students)
    (command,) = re.findall(r"^.*jupyterhub_idle_culler.*$", hub.log.read_text(), re.MULTILINE)[:1]
    assert "--timeout=3600" in command
    command = [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=1", "--cull-every=1"]
    env = {**os.environ, "JUPYTERHUB_API_URL": f"{hub.address}/hub/api",
           "JUPYTERHUB_API_TOKEN": hub.token}  # fmt: skip
    culler = subprocess.Popen(command, env=env)
    try:
        hub.wait_for(lambda: not any(student.ready() for student in students), 120)
    finally:
        culler.terminate()
        culler.wait()
