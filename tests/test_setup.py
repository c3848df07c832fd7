"""The set-up: pyproject, constraints and environment.yml agree, and course.py keeps its word.

Nothing here needs a network: pip is replaced by a script of one line.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from traitlets.config import PyFileConfigLoader

import rlhf_lab
from rlhf_lab import doctor

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
WANTED = [
    Requirement(text)
    for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in group
]


def load(path: str) -> types.ModuleType:
    """A file of Python as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


course = load("course.py")
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


# course.py


def test_course_py_parses_on_python_3_6_and_needs_no_package():
    """Otherwise an old Python answers with a syntax error instead of the sentence."""
    tree = ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in imports
        for alias in node.names
    ]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    first_two = [type(node) for node in tree.body[1:3]]
    assert first_two == [ast.Import, ast.If], "the version check comes right after `import sys`"


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


@pytest.mark.parametrize("args", [[], ["tets"], ["--lab"], ["-h", "lab"]])
def test_senseless_command_line_prints_the_usage_and_exits_2(args, monkeypatch, capsys):
    monkeypatch.setattr(course.Environment, "ensure", lambda _: pytest.fail("installed something"))
    assert course.main(args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for command, *word in map(str.split, course.TASKS):
        assert f"\n  {command} " in said.err
        assert all(re.search(rf"bench WORD .*\b{w}\b", said.err) for w in word)


def test_help_is_no_error(capsys):
    assert course.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python3 course.py")


@pytest.fixture
def commands(monkeypatch):
    """What course.py would run, without running it; `commands.codes` are the exit codes to give."""

    class Commands(list):
        codes = ()

    seen = Commands()

    def run(argv: list[str]) -> int:
        seen.append(argv)
        return dict(seen.codes).get(len(seen), 0)

    monkeypatch.setattr(course, "run", run)
    monkeypatch.setattr(course.Environment, "ensure", lambda self: seen.append(self.folder.name))
    return seen


def test_further_arguments_reach_pytest(commands):
    assert course.main(["test", "-k", "kl"]) == 0
    assert commands[0] == ".venv"
    assert commands[1][:3] == ["-m", "pytest", "--nbval-lax"]
    assert "--dist=loadfile" in commands[1], "the cells of a notebook share one kernel"
    assert commands[1][-2:] == ["-k", "kl"]


def test_check_stops_at_the_first_red_and_passes_its_code_on(commands):
    commands.codes = [(3, 5)]
    assert course.main(["check"]) == 5
    assert [argv[1:3] for argv in commands[1:]] == [["ruff", "format"], ["ruff", "check"]]


def test_check_changes_nothing_and_format_does(commands):
    course.main(["check"])
    assert ["-m", "ruff", "format", "--check"] in commands
    assert not any("--fix" in argv for argv in commands)
    course.main(["format"])
    assert ["-m", "ruff", "check", "--fix"] in commands


def test_arguments_of_the_cockpit_reach_voila(commands):
    assert course.main(["cockpit", "--no-browser", "--port=9000"]) == 0
    page = ["-m", "voila", "notebooks/cockpit.ipynb", "--no-browser", "--port=9000"]
    assert commands == [".venv", page]


def test_browser_test_finds_its_browser_before_it_starts(commands):
    assert course.main(["browser-test", "-x"]) == 0
    steps = [["tests/browser/chromium.py"], ["-m", "pytest", "tests/browser", "-x"]]
    assert commands == [".venv", ".venv", *steps]
    commands.clear()
    commands.codes = [(3, 1)]
    assert course.main(["browser-test"]) == 1
    assert commands[2:] == steps[:1]


def test_bench_makes_both_environments_and_tells_where_trl_is(commands):
    course.main(["bench", "--quick"])
    assert commands[:2] == [".venv", ".venv-bench"]
    assert commands[2] == [
        "benchmarks/bench_ppo.py", "--bench-python", str(course.TRL.python), "--quick"
    ]  # fmt: skip


def test_bench_with_a_second_word_measures_that_and_needs_no_trl(commands):
    words = {"world": 1, "notebooks": 1, "ensemble": 1, "growth": 1, "where": 1, "cockpit": 2}
    for word, environments in words.items():
        commands.clear()
        assert course.main(["bench", word, "--rounds=1"]) == 0
        assert commands[:environments] == [".venv"] * environments
        assert commands[-1] == [f"benchmarks/bench_{word}.py", "--rounds=1"]
        assert (ROOT / commands[-1][0]).exists()
    assert commands[2] == ["tests/browser/chromium.py"]


def test_exit_codes_pass_through(monkeypatch):
    monkeypatch.setattr(course.COURSE, "python", Path(sys.executable))
    assert course.run(["-c", "raise SystemExit(7)"]) == 7
    if os.name != "nt":
        assert course.run(["-c", "import os; os.kill(os.getpid(), 15)"]) == 128 + 15


def test_ctrl_c_is_left_to_the_tool(monkeypatch):
    """JupyterLab asks before it stops, which it cannot if course.py dies of the same Ctrl-C."""
    monkeypatch.setattr(course.COURSE, "python", Path(sys.executable))
    usual = signal.getsignal(signal.SIGINT)
    ctrl_c = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.3)"
    if os.name != "nt":
        assert course.run(["-c", ctrl_c + "; raise SystemExit(3)"]) == 3
    assert signal.getsignal(signal.SIGINT) is usual


def test_tools_see_our_environment_and_settings_first(monkeypatch, tmp_path):
    """With another environment activated, IPython would add that one's packages to the kernel."""
    monkeypatch.setattr(course.COURSE, "python", Path(sys.executable))
    monkeypatch.setenv("VIRTUAL_ENV", "/somebody/else")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/own")
    code = "import json, os; json.dump(dict(os.environ), open(os.environ['SEEN'], 'w'))"
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    course.run(["-c", code])
    seen = json.loads((tmp_path / "seen").read_text(encoding="utf-8"))
    assert seen["VIRTUAL_ENV"] == str(course.COURSE.folder)
    assert seen["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [str(ROOT / ".jupyter"), "/own"]
    assert seen["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


# Installation, with a pip that is a line of Python


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


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(-9)"])
def test_pip_that_was_killed_leads_to_a_fresh_start(install, end):
    """`pip --python` runs a second pip, whose death by a signal it turns into an exit code."""
    with pytest.raises(SystemExit, match="delete the folder"):
        install("import os; " + end)
    half = install.env.folder / "half-copied"
    half.touch()
    assert install() == 2
    assert not half.exists()


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


# The settings of the projected page


@pytest.fixture
def voila():
    return PyFileConfigLoader("voila.py", path=str(ROOT / ".jupyter")).load_config()


def test_the_projected_page_stays_on_this_machine_and_answers_at_once(voila):
    assert voila.Voila.ip == "127.0.0.1"
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
