"""course.py keeps its word: commands, arguments, exit codes, and what the tools get to see."""

import ast
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, course


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


@pytest.mark.parametrize("old", ["2.7", "3.6", "3.8", "3.10"])
def test_an_older_python_is_told_which_one_is_needed(old):
    """Python 2 cannot parse the file, but it prints the line at which it stops."""
    python = shutil.which(f"python{old}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"no Python {old} here")
    run = subprocess.run([python, ROOT / "course.py", "lab"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "This course needs Python 3.11 to 3.14: python3 course.py lab" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("args", [[], ["tets"], ["--lab"], ["-h", "lab"]])
def test_senseless_command_line_prints_the_usage_and_exits_2(args, monkeypatch, capsys):
    monkeypatch.setattr(course.Environment, "ensure", lambda _: pytest.fail("installed something"))
    assert course.main(args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for command, *word in map(str.split, course.TASKS):
        assert f"\n  {command} " in said.err
        assert all(re.search(rf"bench WORD [^(]*\b{w}\b", said.err) for w in word)


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
    assert ["tools/counts.py", "--check"] in commands
    assert not any("--fix" in argv for argv in commands)
    course.main(["format"])
    assert ["tools/counts.py"] in commands
    assert ["-m", "ruff", "check", "--fix"] in commands


def test_arguments_of_the_cockpit_reach_voila(commands):
    assert course.main(["cockpit", "--no-browser", "--port=9000"]) == 0
    page = ["-m", "voila", "notebooks/cockpit.ipynb", "--no-browser", "--port=9000"]
    assert commands == [".venv", page]


def test_lab_opens_the_students_own_notebooks(commands, monkeypatch):
    monkeypatch.setattr(course, "working_copies", lambda _: commands.append("copies"))
    assert course.main(["lab", "--no-browser"]) == 0
    assert commands[:2] == [".venv", "copies"]
    assert commands[2][:2] == ["-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/my_notebooks/00_start_here.ipynb" in commands[2]
    assert commands[2][-1] == "--no-browser"
    commands.clear()
    course.main(["cockpit"])
    assert "copies" not in commands


def test_lab_and_cockpit_open_another_language(commands, monkeypatch):
    monkeypatch.setenv("RLHF_LAB_LANGUAGE", "en")
    monkeypatch.setattr(course, "LANGUAGES", ["zh"])
    monkeypatch.setattr(course, "working_copies", lambda language: commands.append(language))
    assert course.main(["lab", "--language", "zh", "--no-browser"]) == 0
    assert commands[1] == "zh"
    assert "--LabApp.default_url=/lab/tree/my_notebooks/zh/00_start_here.ipynb" in commands[2]
    assert commands[2][-1] == "--no-browser", "what is no language goes on to the tool"
    assert course.environ()["RLHF_LAB_LANGUAGE"] == "zh"
    commands.clear()
    assert course.main(["cockpit"]) == 0, "the variable alone says it, too"
    assert commands[1] == ["-m", "voila", "notebooks/zh/cockpit.ipynb"]
    commands.clear()
    assert course.main(["doctor", "--language", "en"]) == 0
    assert (commands[1], course.environ()["RLHF_LAB_LANGUAGE"]) == (
        ["-m", "rlhf_lab", "doctor"],
        "en",
    )
    for wrong in (["--language", "de"], ["--language"]):
        monkeypatch.setenv("RLHF_LAB_LANGUAGE", "en")
        with pytest.raises(SystemExit, match="there are en and zh"):
            course.main(["lab", *wrong])


def test_the_usage_can_be_shown_where_there_is_no_chinese(monkeypatch):
    """Such as a pipe of Windows."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", shown)
    assert course.main(["--help"]) == 0
    shown.flush()
    assert "(--language zh: ????" in shown.buffer.getvalue().decode("cp1252")


def test_translations_are_written_and_checked_for_every_language():
    tools = [f"tools/{name}.py" for name in ("catalogue", "edition")]
    for language in course.LANGUAGES:
        written = [argv for argv in course.TASKS["translate"] if argv[-1] == language]
        assert written == [[tool, word, language] for word in ("update", "write") for tool in tools]
        assert all([tool, "check", language] in course.TASKS["check"] for tool in tools)


def test_teachers_name_folders_from_where_they_stand(monkeypatch, tmp_path):
    """And no file that lies there can take the place of a module: it may be a student's."""
    monkeypatch.setattr(course.Environment, "ensure", lambda _: None)
    monkeypatch.setattr(course.COURSE, "python", Path(sys.executable))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch.py").write_text("raise SystemExit(77)", encoding="utf-8")
    assert course.main(["handout", "week 1"]) == 0
    assert (tmp_path / "week 1" / "00_start_here.ipynb").exists()
    assert course.main(["handout", "week 1"]) == 2
    assert course.main(["grade", "nobody"]) == 2


def test_browser_test_finds_its_browser_before_it_starts(commands):
    assert course.main(["browser-test", "-x"]) == 0
    browsers = [["tests/browser/chromium.py"], ["tests/browser/firefox.py"]]
    steps = [*browsers, ["-m", "pytest", "tests/browser", "-x"]]
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


def test_the_bridge_has_trl_and_the_course_in_one_environment(monkeypatch):
    made, seen = [], []
    monkeypatch.setattr(course.Environment, "ensure", lambda self: made.append(self.folder.name))
    monkeypatch.setattr(course, "run", lambda argv, python: seen.append((argv, python)) or 3)
    assert course.main(["bench", "bridge", "--updates=0"]) == 3
    assert made == [".venv-bridge"]
    assert seen == [(["benchmarks/bench_bridge.py", "--updates=0"], course.BRIDGE.python)]
    assert course.BRIDGE.pip_args == ["-r", course.BRIDGE_LIST, "-e", "."]
    listed = (ROOT / course.BRIDGE_LIST).read_text(encoding="utf-8")
    assert "\ntrl==1.16.0\n" in listed
    assert "\ntorch==2.13.0\n" in listed


def test_the_hub_is_measured_where_jupyterhub_is(monkeypatch):
    made, seen = [], []
    monkeypatch.setattr(course.Environment, "ensure", lambda self: made.append(self.folder.name))
    monkeypatch.setattr(course, "run", lambda argv, python: seen.append((argv, python)) or 0)
    assert course.main(["bench", "hub", "--moves=5"]) == 0
    assert made == [".venv-class"]
    assert seen == [(["benchmarks/bench_hub.py", "--moves=5"], course.CLASS.python)]
    assert (ROOT / seen[0][0][0]).exists()


def test_bench_with_a_second_word_measures_that_and_needs_no_trl(commands):
    words = {
        "world": 1,
        "notebooks": 1,
        "ensemble": 1,
        "growth": 1,
        "sharing": 1,
        "where": 1,
        "worlds": 1,
        "cockpit": 2,
    }
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
