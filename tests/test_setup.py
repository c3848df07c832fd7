"""The set-up: the lists of packages agree, and the page, the browser and .ci/run are as meant."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from scripts import ROOT, course, load
from traitlets.config import PyFileConfigLoader

import rlhf_lab
from rlhf_lab import doctor

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
WANTED = [
    Requirement(text)
    for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in group
]
chromium = load("tests/browser/chromium.py")


# The lists of packages


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
@pytest.mark.parametrize("python", ["3.11.2", "3.11.7", "3.12.1", "3.13.0"])
def test_every_dependency_is_pinned_once_inside_its_range(wanted, python):
    for platform, machine in [("linux", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64")]:
        here = {
            "python_version": python.rpartition(".")[0],
            "python_full_version": python,
            "sys_platform": platform,
            "platform_machine": machine,
        }
        pins = [p for p in PINS if p.name == wanted.name]
        pins = [p for p in pins if p.marker is None or p.marker.evaluate(here)]
        assert len(pins) == 1, f"{wanted.name} on {platform}, Python {python}: {pins}"
        assert _pinned(pins[0]) in wanted.specifier


def _pinned(pin: Requirement) -> str:
    """The version of a line such as "torch==2.13.0"."""
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def test_constraints_are_exact_and_leave_cuda_to_torch():
    """A pin of a CUDA library would forbid every torch build but the one that it was made with."""
    for pin in PINS:
        assert _pinned(pin).count("+") == 0, f"{pin}: a local version exists on one index only"
        assert not pin.name.startswith(("cuda", "nvidia", "triton"))


def test_torch_is_the_one_that_made_the_numbers():
    assert [_pinned(pin) for pin in PINS if pin.name == "torch"] == [doctor.REFERENCE_TORCH]
    assert doctor.REFERENCE_TORCH == "2.13.0"


def test_environment_yml_installs_what_course_py_installs():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    items = [line.strip()[2:] for line in lines if line.strip().startswith("- ")]
    args = [*course.CPU_TORCH, *course.COURSE.pip_args]
    pairs = [" ".join(pair) for pair in zip(args[::2], args[1::2], strict=True)]
    python = next(item for item in items if item.startswith("python"))
    assert items == ["conda-forge", python, "pip", "pip:", *pairs]
    # One "=": Binder reads the version with a pattern that knows no other form.
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])


def test_course_py_installs_the_project_under_its_constraints():
    assert course.COURSE.pip_args == ["-c", "constraints.txt", "-e", ".[lab,test]"]
    assert course.COURSE.inputs == [ROOT / "pyproject.toml", ROOT / "constraints.txt"]


def test_the_browser_test_adds_to_the_same_folder_what_no_student_needs():
    assert course.BROWSER.folder == course.COURSE.folder
    assert course.BROWSER.inputs == course.COURSE.inputs
    assert course.BROWSER.pip_args == ["-c", "constraints.txt", "-e", ".[lab,test,browser]"]
    assert course.BROWSER.stamp != course.COURSE.stamp
    assert set(PROJECT["optional-dependencies"]) == {"lab", "test", "browser"}
    assert "browser" in PYPROJECT["tool"]["pytest"]["ini_options"]["norecursedirs"]


def test_wheel_carries_the_lab_setting_and_the_type_marker():
    shared = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    ((source, target),) = shared.items()
    assert "commsOverSubshells" in (ROOT / source).read_text(encoding="utf-8")
    assert target == "share/jupyter/lab/settings/overrides.d/rlhf_lab.json"
    assert (ROOT / "rlhf_lab" / "py.typed").is_file()


def test_version_is_the_same_in_both_places():
    assert rlhf_lab.__version__ == PROJECT["version"]


# The settings of the projected page


@pytest.fixture
def voila():
    return PyFileConfigLoader("voila.py", path=str(ROOT / ".jupyter")).load_config()


def test_the_projected_page_stays_on_this_machine_and_answers_at_once(voila):
    assert voila.Voila.ip == "127.0.0.1"
    assert voila.Voila.auto_token
    assert voila.Voila.tornado_settings == {"allow_remote_access": False}
    assert voila.Voila.kernel_websocket_connection_class.__name__ == "NoDelayConnection"


def test_the_projected_page_ends_with_the_cockpit(voila):
    notebook = nbformat.read(ROOT / "notebooks" / "cockpit.ipynb", as_version=4)
    voila.VoilaConfiguration.prelaunch_hook(None, notebook, "")
    assert {cell.cell_type for cell in notebook.cells} == {"code"}
    assert notebook.cells[-1].source.endswith("\ncockpit")
    assert not any(".run(" in cell.source for cell in notebook.cells), "visitors would wait for it"


# The browser of the browser test


def test_a_browser_is_taken_from_chromium_or_the_path_or_playwright(monkeypatch, tmp_path):
    monkeypatch.setattr(chromium, "playwrights_own", lambda: "own")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find() == "own"
    program = tmp_path / ("google-chrome.exe" if os.name == "nt" else "google-chrome")
    program.touch(mode=0o755)
    assert Path(chromium.find()) == program
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert chromium.find() == sys.executable
    monkeypatch.setenv("CHROMIUM", "no-such-program")
    with pytest.raises(SystemExit, match="CHROMIUM=no-such-program is no program"):
        chromium.find()


@pytest.mark.parametrize(
    ("root", "works", "tried"),
    [
        (True, "apt-get", ["apt-get"]),
        (True, "playwright", ["apt-get", "playwright"]),
        (False, "playwright", ["playwright"]),
        (True, "nothing", ["apt-get", "playwright"]),
    ],
)
def test_a_missing_browser_is_installed_in_the_way_that_works(monkeypatch, root, works, tried):
    seen = []
    ways = ("apt-get", "playwright")

    def run(argv: list, **_) -> None:
        seen.append(next(way for way in ways if way in " ".join(argv)))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr(chromium, "find", lambda: works in seen)
    chromium.install()
    assert seen == tried


# .ci/run


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
@pytest.mark.parametrize(
    "red", ["", "course.py check", "course.py test", "-m pytest", "course.py browser-test"]
)
def test_ci_runs_all_in_order_and_stops_at_the_first_red(tmp_path, red):
    strict = "-m pytest --nbval -n 2 --dist loadfile notebooks"
    wanted = ["course.py check", "course.py test", strict, strict, "course.py browser-test"]
    for place in [".ci/run", ".venv/bin/python", "bin/python3"]:
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
        if place != ".ci/run":
            script = f'#!/bin/sh\necho "$*" >> "{tmp_path}/log"\n'
            script += f'case "$*" in "{red or "none"}"*) exit 1;; esac\n'
            (tmp_path / place).write_text(script, encoding="utf-8")
            (tmp_path / place).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}
    code = subprocess.run([tmp_path / ".ci" / "run"], env=env, cwd="/").returncode
    if red:
        wanted = wanted[: [line.startswith(red) for line in wanted].index(True) + 1]
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines() == wanted
    assert code == (1 if red else 0)
