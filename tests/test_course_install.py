"""course.py installs what is missing; it needs no network here, for pip is a line of Python."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts import ROOT, course


@pytest.mark.parametrize(
    ("system", "gpu", "config", "cpu_index"),
    [
        ("linux", False, "", True),
        ("linux", False, "global.timeout='60'\nglobal.cert='/index-url='", True),
        ("linux", True, "", False),
        ("darwin", False, "", False),
        ("win32", False, "", False),
        ("linux", False, "global.index-url='https://mirror.example/simple'", False),
        ("linux", False, "install.extra-index-url='https://mirror.example'", False),
        ("linux", False, ":env:.find-links='/wheels'", False),
        ("linux", False, ":env:.no-index='1'", False),
    ],
)
def test_cpu_build_of_torch_only_where_it_helps_and_nobody_chose(system, gpu, config, cpu_index):
    assert course.torch_index(system, gpu, config) == (course.CPU_TORCH if cpu_index else [])


@pytest.fixture
def install(monkeypatch, tmp_path):
    """install(code) runs ensure() with `code` as pip; gives how often it has been called."""
    (tmp_path / "list.txt").write_text("torch", encoding="utf-8")
    log = tmp_path / "log"

    def installer(code: str = "") -> int:
        script = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + chr(10)); "
        script += f"sys.argv[1] == 'install' or sys.exit(); {code}"
        monkeypatch.setattr(course, "find_pip", lambda _: [sys.executable, "-c", script])
        installer.env.ensure()
        return log.read_text(encoding="utf-8").split().count("install")

    installer.list = tmp_path / "list.txt"
    installer.env = course.Environment(str(tmp_path / "v"), [], [str(installer.list)])
    return installer


def test_second_run_installs_nothing_and_a_changed_list_does(install):
    assert [install(), install()] == [1, 1]
    assert install.env.runs()
    install.list.write_text("torch, numpy", encoding="utf-8")
    assert [install(), install()] == [2, 2]


def test_two_lists_for_one_folder_are_installed_once_each(install):
    first, install.env = (
        install.env,
        course.Environment(
            str(install.env.folder), ["-e", "."], [str(install.list)], ".installed-more"
        ),
    )
    assert [install(), install()] == [1, 1]
    install.env = first
    assert [install(), install()] == [2, 2]


def test_fingerprint_knows_list_place_python_and_arguments(install, monkeypatch):
    prints = {install.env.fingerprint()}
    install.list.write_text("numpy", encoding="utf-8")
    prints.add(install.env.fingerprint())
    monkeypatch.setattr(course, "ROOT", ROOT / "moved")
    prints.add(install.env.fingerprint())
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    prints.add(install.env.fingerprint())
    install.env.pip_args = ["-e", "."]
    prints.add(install.env.fingerprint())
    assert len(prints) == 5


def test_failed_installation_says_what_to_do_and_leaves_no_stamp(install):
    with pytest.raises(SystemExit, match=r"network and that 3 GB .* same command again"):
        install("sys.exit(1)")
    assert not install.env.stamp.exists()
    assert install() == 2, "the next run tries again"
    assert install() == 2


def test_failed_update_leaves_no_stamp_but_what_was_there(install):
    """Without a network, say: what the last installation brought must not be lost."""
    install()
    package = install.env.folder / "package"
    package.touch()
    install.list.write_text("nonsense", encoding="utf-8")
    with pytest.raises(SystemExit):
        install("sys.exit(1)")
    assert not install.env.stamp.exists()
    assert install() == 3
    assert package.exists()


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "1 / 0", "time.sleep(60)"])
def test_what_comes_after_an_installation_comes_once_and_may_fail(
    install, monkeypatch, tmp_path, end
):
    real, log = subprocess.run, tmp_path / "after"
    hurry = {"timeout": 3} if "sleep" in end else {}
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: real(*a, **{**k, **(hurry if "timeout" in k else {})})
    )
    install.env.then = f"import time; open({str(log)!r}, 'a').write('x'); {end}"
    assert [install(), install()] == [1, 1]
    assert install.env.stamp.exists()
    assert log.read_text(encoding="utf-8") == "x"


def test_the_exact_tables_are_made_after_the_course_is_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path))
    subprocess.run([sys.executable, "-c", course.COURSE.then], check=True, cwd=ROOT)
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(-9)"])
def test_pip_that_was_killed_leads_to_a_fresh_start(install, end):
    """`pip --python` runs a second pip, whose death by a signal it turns into an exit code."""
    with pytest.raises(SystemExit, match="delete the folder"):
        install("import os; " + end)
    half = install.env.folder / "half-copied"
    half.touch()
    assert install() == 2
    assert not half.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_second_set_up_waits_for_the_pip_of_one_that_was_killed(install, tmp_path):
    """course.py itself is killed, its pip is not: the second must not clear the folder under it."""
    ended = tmp_path / "ended"
    pip = f"import sys, time; 'install' in sys.argv and (time.sleep(3), open({str(ended)!r}, 'w'))"
    code = f"""
import sys
sys.path[:0] = {[str(ROOT / "tests"), str(ROOT)]}
from test_course import course
course.find_pip = lambda _: [sys.executable, "-c", {pip!r}]
course.Environment({str(install.env.folder)!r}, [], [{str(install.list)!r}]).ensure()
"""
    first = subprocess.Popen([sys.executable, "-c", code])
    while not install.env.unfinished.exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not ended.exists(), "this pip was too quick for the test"
    assert install() == 1
    assert ended.exists()
    assert install.env.stamp.exists()


def test_ctrl_c_during_pip_leads_to_a_fresh_start(install, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "call", stopped)
        with pytest.raises(KeyboardInterrupt):
            install()
    half = install.env.folder / "half-copied"
    half.touch()
    install()
    assert not half.exists()
    assert install.env.stamp.exists()


def test_environment_without_a_working_python_is_made_anew(install):
    install()
    install.env.python.unlink()
    assert install() == 2
    assert install.env.runs()


def test_environment_of_another_python_is_made_anew(install, monkeypatch):
    install()
    old = install.env.folder / "compiled-for-the-old-one"
    old.touch()
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with pytest.raises(SystemExit, match="network"):  # no such Python: stop before the stamp
        install("sys.exit(1)")
    assert not old.exists()
    assert not install.env.stamp.exists()


def test_somebody_elses_environment_is_used_not_deleted(install):
    """An editor may have made .venv first; what is in it stays."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", install.env.folder], check=True)
    theirs = install.env.folder / "theirs"
    theirs.touch()
    assert install() == 1
    assert theirs.exists()


@pytest.mark.parametrize("own", ["", "pip 24.0"])
@pytest.mark.parametrize("calling", ["", "pip 22.2.1", "pip 22.3"])
def test_find_pip_falls_back_to_ensurepip(monkeypatch, own, calling):
    """A pip older than 22.3 cannot install into an environment from outside."""
    python = Path("there/python")

    def run(argv: list, **_) -> subprocess.CompletedProcess:
        if argv[1:] == ["-m", "ensurepip"]:
            return subprocess.CompletedProcess(argv, 0 if own else 1)
        return subprocess.CompletedProcess(argv, 0, stdout=calling)

    monkeypatch.setattr(subprocess, "run", run)
    if calling == "pip 22.3":
        assert course.find_pip(python)[1:] == ["-m", "pip", "--python", str(python)]
    elif own:
        assert course.find_pip(python) == [str(python), "-m", "pip"]
    else:
        with pytest.raises(SystemExit, match="apt install python3-pip"):
            course.find_pip(python)
