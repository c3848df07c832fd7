"""The doctor: healthy here, and for each known ailment the right status and a remedy."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from rlhf_lab import doctor, table_cache
from rlhf_lab.doctor import Finding
from rlhf_lab.world import World, WorldTables

ROOT = Path(__file__).resolve().parent.parent
LAB_SETTINGS = ROOT / ".jupyter" / "labconfig" / "default_setting_overrides.json"


def look(name: str) -> Finding:
    """The one finding called `name`."""
    return next(finding for finding in doctor.diagnose() if finding.name == name)


@pytest.fixture
def pretend(monkeypatch):
    """pretend(torch="2.4.1", jupyterlab=None): these versions are installed, or nothing is."""
    real = metadata.version

    def setter(**versions: str | None) -> None:
        def version(package: str) -> str:
            found = versions.get(package, real(package) if package not in versions else None)
            if found is None:
                raise metadata.PackageNotFoundError(package)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return setter


@pytest.fixture
def no_settings(monkeypatch, tmp_path):
    """No JupyterLab setting anywhere; gives the folder that stands for the environment's."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("JUPYTERLAB_SETTINGS_DIR", raising=False)
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)
    return tmp_path


def test_this_set_up_has_no_problem():
    """Also the false-alarm test: a check that cries wolf here cries wolf to every student."""
    findings = doctor.diagnose()
    assert [finding for finding in findings if finding.status == "problem"] == []
    assert {"Python", "torch", "device", "weights", "kernel", "sliders"} <= {
        f.name for f in findings
    }


def test_report_names_every_finding_and_counts():
    findings = [Finding("a", "problem", "broken"), Finding("long", "note", "odd")]
    assert doctor.report(findings).splitlines() == [
        "problem  a     broken",
        "note     long  odd",
        "problems: 1, notes: 1",
    ]
    assert doctor.report([]) == "problems: 0, notes: 0"


@pytest.mark.parametrize(
    ("package", "version", "status"),
    [
        ("torch", "2.13.0+cpu", "ok"),
        ("torch", "2.13.0", "ok"),
        ("torch", "2.14.1+cu130", "note"),
        ("torch", "2.4.0", "note"),
        ("torch", "2.3.1", "problem"),
        ("torch", None, "problem"),
        ("ipykernel", "6.17.1", "ok"),
        ("ipykernel", "6.9.0", "problem"),  # 9 < 17 as numbers, not as text
        ("ipykernel", None, "problem"),
        ("ipywidgets", "7.6.5", "problem"),
        ("ipywidgets", None, "problem"),
        ("matplotlib", None, "problem"),
        ("jupyterlab", "4.1.8", "problem"),
        ("jupyterlab", None, "note"),  # VS Code and Colab bring their own
    ],
)
def test_versions(pretend, package, version, status):
    pretend(**{package: version})
    finding = look(package)
    assert finding.status == status
    assert version is None or version in finding.text
    if status == "problem":
        assert "course.py" in finding.text


def test_least_versions_are_those_of_pyproject(pretend):
    """The doctor must not be content with what pip would refuse, nor the other way round."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {r.name: r for r in map(Requirement, [*project["dependencies"], *extras["lab"]])}
    for name in ["torch", *wanted.keys() & {Requirement(r).name for r in extras["lab"]}]:
        least = next(s.version for s in wanted[name].specifier if s.operator == ">=")
        pretend(**{name: least})
        assert look(name).status != "problem", (name, least)
        major, minor = map(int, least.split("."))
        pretend(**{name: f"{major}.{minor - 1}.99"})
        assert look(name).status == "problem", (name, least)


def test_the_package_alone_is_no_problem_and_half_a_notebook_set_up_is(pretend):
    """pillow may come with other things; it alone does not tell that somebody wants notebooks."""
    pretend(ipykernel=None, ipywidgets=None, matplotlib=None)
    for name in ("ipykernel", "ipywidgets", "matplotlib"):
        assert look(name) == Finding(name, "note", doctor.NO_NOTEBOOKS)
    pretend(ipykernel="7.4.0", ipywidgets=None)
    assert look("ipywidgets").status == "problem"


def test_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(sys, "version", "3.9.18 (main) [GCC]")
    assert look("Python") == Finding(
        "Python", "problem", "3.9.18 is too old; install Python 3.11 or newer"
    )


def test_several_threads_are_a_note_with_the_remedy(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert look("torch threads").status == "note"
    assert "torch.set_num_threads(1)" in look("torch threads").text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert look("torch threads").status == "ok"


def test_gpu_that_fails_is_a_note_since_the_course_runs_without(monkeypatch):
    """This torch has no CUDA, hence fails just as one with an old driver does."""
    if torch.cuda.is_available():
        pytest.skip("a working GPU cannot play a broken one")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *_, device: _no_driver(device))
    finding = look("device")
    assert finding.status == "note"
    assert "driver too old" in finding.text
    assert "second line" not in finding.text


def _no_driver(device: str) -> torch.Tensor:
    raise RuntimeError(f"{device} driver too old\nsecond line")


def test_wrong_matrix_product_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *_, device: torch.full((8, 8), 2.0))
    assert look("device").status == "problem"


def test_unreadable_weights_are_a_problem_in_words(monkeypatch):
    def load_world() -> None:
        raise FileNotFoundError("policy.safetensors")

    monkeypatch.setitem(sys.modules, "rlhf_lab.world", SimpleNamespace(load_world=load_world))
    finding = look("weights")
    assert finding.status == "problem"
    assert "policy.safetensors" in finding.text
    assert "git checkout" in finding.text


def test_tables_are_made_and_found_or_the_remedy_is_named(monkeypatch, tmp_path):
    assert look("tables").status == "ok"
    assert str(table_cache.folder()) in look("tables").text
    (tmp_path / "file").touch()
    small = WorldTables([torch.zeros(1).double()] * 5, *torch.zeros(3, 2).double())
    monkeypatch.setattr(World, "_computed", lambda *_: small)
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path / "file"))
    finding = look("tables")
    assert finding.status == "note"
    assert str(tmp_path / "file") in finding.text
    assert "RLHF_LAB_CACHE can name a folder" in finding.text
    monkeypatch.setenv("RLHF_LAB_CACHE", "")
    assert look("tables").status == "ok"
    assert "RLHF_LAB_CACHE is empty" in look("tables").text


def test_second_thread_for_sliders_is_noted(pretend, no_settings, monkeypatch):
    pretend(jupyterlab="4.6.6", ipykernel="7.4.0")
    monkeypatch.chdir(LAB_SETTINGS.parent.parent)  # JupyterLab does not look where one stands
    assert look("sliders").status == "note"
    assert "course.py lab" in look("sliders").text


@pytest.mark.parametrize(
    ("lab", "kernel"), [("4.3.9", "7.4.0"), ("4.6.6", "6.30.1"), (None, "7.4")]
)
def test_older_jupyter_needs_no_setting(pretend, no_settings, lab, kernel):
    pretend(jupyterlab=lab, ipykernel=kernel)
    assert look("sliders").status == "ok"


@pytest.mark.parametrize(
    "place",
    [
        "config/labconfig/default_setting_overrides.json",
        "prefix/share/jupyter/lab/settings/overrides.d/rlhf_lab.json",
        "home/lab/user-settings/@jupyterlab/apputils-extension/kernels-settings.jupyterlab-settings",
    ],
)
def test_our_setting_is_found_wherever_it_is(pretend, no_settings, monkeypatch, place):
    """The launcher's, the one in the wheel, and the student's own click in the settings editor."""
    pretend(jupyterlab="4.6.6", ipykernel="7.4.0")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(no_settings / "config"))
    path = no_settings / place
    path.parent.mkdir(parents=True)
    path.write_bytes(LAB_SETTINGS.read_bytes())
    assert look("sliders").status == "ok"
    assert str(path) in look("sliders").text


@pytest.mark.parametrize(
    "text",
    ['{"commsOverSubshells": "perCommTarget"}', '{\n  // "commsOverSubshells": "disabled"\n}'],
)
def test_students_own_setting_wins(pretend, no_settings, monkeypatch, text):
    """JupyterLab lets the user's settings beat ours; a line commented out sets nothing."""
    pretend(jupyterlab="4.6.6", ipykernel="7.4.0")
    user = no_settings / "home/lab/user-settings/@jupyterlab/apputils-extension"
    user.mkdir(parents=True)
    (user / "kernels-settings.jupyterlab-settings").write_text(text, encoding="utf-8")
    if not text.startswith("{\n"):
        monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(LAB_SETTINGS.parent.parent))
    assert look("sliders").status == "note"


def test_kernel_is_recognised(monkeypatch):
    for without in [None, SimpleNamespace()]:  # IPython imported, and IPython in a terminal
        ipython = SimpleNamespace(get_ipython=lambda shell=without: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert "plain Python process" in look("kernel").text
    shell = SimpleNamespace(kernel=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert look("kernel").text.startswith("in a notebook")


def test_a_check_that_breaks_becomes_a_finding(monkeypatch):
    monkeypatch.setitem(doctor.CHECKS, "odd", lambda: 1 / 0)
    finding = look("odd")
    assert finding.status == "problem"
    assert "ZeroDivisionError" in finding.text


def test_import_is_light():
    """A broken ipywidgets or matplotlib must end up in the report, not stop the doctor."""
    code = "import sys, rlhf_lab.doctor; print({'ipywidgets', 'matplotlib'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "set()", said.stderr


def test_setting_has_the_shape_jupyterlab_reads():
    settings = json.loads(LAB_SETTINGS.read_text(encoding="utf-8"))
    kernels = settings["@jupyterlab/apputils-extension:kernels-settings"]
    assert kernels == {"commsOverSubshells": "disabled"}
    news = settings["@jupyterlab/apputils-extension:notification"]
    assert news == {"checkForUpdates": False, "fetchNews": "false"}
