"""The set-up: the lists of packages agree, and the page, the browser and .ci/run are as meant."""

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML
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
    assert course.BROWSER.pip_args == ["-c", "constraints.txt", "-e", ".[lab,test,browser,site]"]
    assert course.SITE.pip_args == ["-c", "constraints.txt", "-e", ".[lab,test,site]"]
    assert len({e.stamp for e in (course.COURSE, course.BROWSER, course.SITE)}) == 3
    extras = {"lab", "test", "browser", "hub", "class", "site", "engine"}
    assert set(PROJECT["optional-dependencies"]) == extras
    skipped = PYPROJECT["tool"]["pytest"]["ini_options"]["norecursedirs"]
    assert {"browser", "classes"} <= set(skipped)


def test_nbgrader_gets_a_folder_of_its_own():
    """It adds pages of its own to every JupyterLab of its environment."""
    assert course.CLASS.folder not in (course.COURSE.folder, course.ENGINE.folder)
    assert course.CLASS.pip_args == ["-c", "constraints.txt", "-e", ".[lab,test,hub,class]"]
    assert course.NEEDS["class-test"] == [course.CLASS]


# What is published


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    assert file.name == f"rlhf_lab-{rlhf_lab.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_wheel_holds_the_package_its_licences_and_jupyters_settings_and_no_more(wheel):
    home = f"rlhf_lab-{rlhf_lab.__version__}"
    data, info = f"{home}.data/data", f"{home}.dist-info"
    extra = {
        "rlhf_lab_server.py": "rlhf_lab_server.py",
        f"{data}/share/jupyter/lab/settings/overrides.d/rlhf_lab.json":
            ".jupyter/labconfig/default_setting_overrides.json",
        f"{data}/etc/jupyter/jupyter_server_config.d/rlhf_lab.json":
            ".jupyter/jupyter_server_config.d/rlhf_lab.json",
        **{f"{info}/licenses/{name}": name for name in PROJECT["license-files"]},
    }  # fmt: skip
    for name, source in extra.items():
        assert wheel.read(name) == (ROOT / source).read_bytes()
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "rlhf_lab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"rlhf_lab/weights/sft/model.safetensors", "rlhf_lab/py.typed"} <= package
    assert "rlhf_lab/lessons/phase_diagram.csv" in package
    assert "rlhf_lab/lessons/leash_runs.csv" in package
    assert "rlhf_lab/lessons/long_dpo.csv" in package
    made = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    assert set(wheel.namelist()) == package | set(extra) | made


def test_metadata_says_who_made_it_and_who_may_use_it(wheel):
    home = f"rlhf_lab-{rlhf_lab.__version__}.dist-info"
    said = email.message_from_bytes(wheel.read(f"{home}/METADATA"))
    assert said["Author"] == "rlhf_lab contributors"
    assert said["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    assert said["Requires-Python"] == PROJECT["requires-python"]
    pythons = [c.rpartition(" ")[2] for c in said.get_all("Classifier") if "Python :: 3" in c]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert said.get_payload().startswith("# rlhf_lab")


def test_version_is_the_same_wherever_it_is_written():
    assert "version" not in PROJECT, "pyproject.toml reads it from rlhf_lab/__init__.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {rlhf_lab.__version__}\n" in citation
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest[1] == rlhf_lab.__version__


# The files for GitHub


def test_workflow_tries_every_python_and_calls_what_exists():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = YAML(typ="safe").load(workflow)["jobs"]
    pythons = jobs["course"]["strategy"]["matrix"]["python"]
    assert [p for p in pythons if p not in SpecifierSet(PROJECT["requires-python"])] == []
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands.count(".ci/run") == 1
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"
    (colab,) = re.findall(r"-c (\S+)", " ".join(commands))
    assert (ROOT / colab).is_file()
    extras = set(re.findall(r"\.\[([a-z,]+)\]", " ".join(commands)))
    assert {e for group in extras for e in group.split(",")} <= set(
        PROJECT["optional-dependencies"]
    )


def test_erratum_names_every_notebook():
    form = YAML(typ="safe").load(ROOT / ".github" / "ISSUE_TEMPLATE" / "erratum.yml")
    options = form["body"][0]["attributes"]["options"]
    assert options[:-1] == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", [*course.FORMS, ".github/workflows/ci.yml"])
def test_check_looks_at_every_file_for_github(file):
    assert any(file in argv for argv in course.TASKS["check"])
    assert file in {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}


# The settings of the projected page


@pytest.fixture
def voila():
    return PyFileConfigLoader("voila.py", path=str(ROOT / ".jupyter")).load_config()


def test_the_projected_page_stays_on_this_machine_and_answers_at_once(voila):
    assert voila.Voila.ip == "127.0.0.1"
    assert voila.Voila.auto_token
    assert voila.Voila.tornado_settings == {"allow_remote_access": False}
    assert voila.Voila.kernel_websocket_connection_class == "rlhf_lab_server.NoDelayConnection"
    assert voila.MappingKernelManager.buffer_offline_messages is False


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
    "red",
    ["", "course.py check", "course.py test", "-m pytest", "course.py engine", "course.py browser"],
)
def test_ci_runs_all_in_order_and_stops_at_the_first_red(tmp_path, red):
    strict = "-m pytest --nbval -n 2 --dist loadfile notebooks"
    first = ["course.py check", "course.py test", strict]
    wanted = [*first, "course.py engine --check", "course.py browser-test"]
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
