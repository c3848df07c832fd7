#!/usr/bin/env python3
"""Set up and run the course: `python3 course.py lab` is all a student needs.

Needs Python 3.11 to 3.14 and nothing else. It installs the course into .venv beside this file,
and again only when pyproject.toml, constraints.txt or the Python has changed.
"""

import sys

# Another Python must get these sentences, not a traceback, and not pip's: the pinned torch is made
# for these versions only. The rest of the file parses on 3.6. Python 2 cannot parse it: it stops at
# the first colon below that is new to it, and prints that line.
if not (3, 11) <= sys.version_info < (3, 15):
    needed: str = "This course needs Python 3.11 to 3.14: python3 course.py lab"
    sys.exit(
        needed + "\nThis is Python " + sys.version.split()[0] + ". Name another one, such as "
        "python3.14 course.py lab, on Windows py -3.14 course.py lab"
    )

import hashlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

USAGE = """\
usage: python3 course.py COMMAND [arguments for the tool behind it]

  lab           open the course in JupyterLab, in notebooks of your own (my_notebooks/)
                (--language zh: 打开中文版，你的笔记本在 my_notebooks/zh/)
  cockpit       show the cockpit alone, as a page for projecting (Voilà); --language as for lab
  test          test the package, the examples in its docstrings and the notebooks (pytest)
  browser-test  click through notebooks and site in a real browser, which is installed if need be
  class-test    give a small class in nbgrader and on a hub of its own; takes minutes
  site          build the site in build/site/: all notebooks and docs, alive in any browser, offline
                (--open: and open it)
  engine        compile the site's engine (site/engine/world.c); --check: only compare
  doctor        say what is right and what is wrong with this set-up
  handout       for teachers: write the students' edition into a new FOLDER and FOLDER.zip
                (--nbgrader: the sources of assignments for nbgrader instead)
  materials     for teachers: write slides, two pages to hand out and the concept test (on paper,
                for Moodle, for Canvas) into a new FOLDER; with PDFs if a Chrome or Edge is there
  collect       for teachers: copy what students have in their HOMES on a server into FOLDER
  grade         for teachers: check what students handed in, one folder or notebook each in FOLDER
  report        for teachers: a page with all guesses of a class, from its files in FOLDER
  key           for teachers: a page with the answers to guesses, tasks and questions
  translate     bring the catalogues of translations up to date and write what is made from them;
                prints the notebooks that are to be run
  format        format and tidy code and notebooks (ruff), update counts in README and docs
  check         check format, style, counts, types, translations and GitHub's files; change nothing
  bench         time PPO beside TRL 0.11.4 and others, which get an environment of their own
  bench WORD    world, cockpit, notebooks, ensemble, growth, sharing, where, worlds, hub, bridge,
                gpu (hub: a class on one; bridge: beside TRL 1.16.0; both in an own environment;
                gpu: with the Python that you start this with; it installs nothing)
  run           run all notebooks and keep their outputs, to be committed
"""
ROOT = Path(__file__).resolve().parent
FIRST = "/lab/tree/my_notebooks/{}00_start_here.ipynb"  # also in the address that is printed
LANGUAGES = sorted(path.name for path in (ROOT / "rlhf_lab" / "locale").glob("[a-z]*"))
CPU_TORCH = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]


class Environment:
    """A folder with a Python of its own, what pip puts into it, and the files that say so."""

    def __init__(
        self,
        name: str,
        pip_args: list[str],
        inputs: list[str],
        stamp: str = ".installed",
        then: str = "",
    ) -> None:
        self.folder, self.pip_args = ROOT / name, pip_args
        self.then = then  # Python to run after an installation, which is done whatever comes of it
        self.inputs = [ROOT / path for path in inputs]
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamp = self.folder / stamp  # the fingerprint of a finished installation
        self.unfinished = self.folder / ".installing"  # there while pip works, or if it was killed

    def fingerprint(self) -> str:
        """Changes whenever an earlier installation may no longer be what is wanted.

        The place counts too: an editable installation, once moved, would still run the old files.
        """
        parts = [*map(str, sys.version_info[:2]), str(ROOT), *self.pip_args]
        parts += [path.read_text(encoding="utf-8") for path in self.inputs]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def runs(self) -> bool:
        """Is there a Python in the folder, of the same version as the one reading this?"""
        code = "import sys; print(*sys.version_info[:2])"
        try:
            said = subprocess.run([self.python, "-c", code], capture_output=True, text=True).stdout
        except OSError:
            return False
        return said.split() == [str(number) for number in sys.version_info[:2]]

    def done(self) -> bool:
        """Has an installation of what is wanted now gone well, and does it still run?"""
        stamp = self.stamp.read_text(encoding="utf-8") if self.stamp.exists() else None
        return stamp == self.fingerprint() and self.runs()

    def ensure(self) -> None:
        """Install, unless that is done; only an installation that went well leaves a stamp."""
        if self.done():
            return
        with one_at_a_time(self.folder.parent) as held:
            if not self.done():  # another may have done it while we waited
                self.install(held)

    def install(self, held: dict) -> None:
        """Have pip install everything; `held` keeps the lock as long as pip lives."""
        print(f"Setting up {self.folder.name}; the first time takes minutes ...", flush=True)
        self.stamp.unlink(missing_ok=True)
        if self.unfinished.exists() or not self.runs():
            venv.create(self.folder, clear=True, with_pip=False, symlinks=os.name != "nt")
        pip = find_pip(self.python)
        config = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
        index = torch_index(sys.platform, shutil.which("nvidia-smi") is not None, config)
        quiet = [] if sys.stdout.isatty() else ["--quiet"]
        self.unfinished.touch()
        code = subprocess.call([*pip, "install", *quiet, *index, *self.pip_args], cwd=ROOT, **held)
        if code in (0, 1):  # done, or given up in order; else killed, maybe half way in a package
            self.unfinished.unlink()
        if code != 0:
            sys.exit(
                f"Set-up failed: pip ended with code {code}, for the reason printed above. Check\n"
                "the network and that 3 GB of disk are free, then run the same command again.\n"
                f"If that does not help, delete the folder {self.folder} first."
            )
        self.stamp.write_text(self.fingerprint(), encoding="utf-8")
        if self.then:
            command = [self.python, "-c", self.then]
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[dict]:
    """Wait until no other set-up is at work in a folder; gives what subprocess needs to go on so.

    Where this process is killed, its pip lives on. It inherits the lock, so that the next set-up
    does not clear away what that pip is still writing. Windows has no such lock.
    """
    if os.name == "nt":
        yield {}
        return
    import fcntl

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another set-up is at work; waiting for it ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield {"pass_fds": [lock]}
    finally:
        os.close(lock)


def find_pip(python: Path) -> list[str]:
    """The command of a pip that installs beside `python`, which needs none of its own.

    Debian and Ubuntu ship a Python whose `venv` cannot install pip, but usually have pip itself.
    """
    for owner in dict.fromkeys([sys.executable, sys._base_executable]):
        said = subprocess.run([owner, "-m", "pip", "--version"], capture_output=True, text=True)
        version = re.match(r"pip (\d+)\.(\d+)", said.stdout)
        if version and tuple(map(int, version.groups())) >= (22, 3):  # the first with --python
            return [owner, "-m", "pip", "--python", str(python)]
    if subprocess.run([python, "-m", "ensurepip"], capture_output=True).returncode == 0:
        return [str(python), "-m", "pip"]
    sys.exit("This Python has no pip. Install it (Debian, Ubuntu: sudo apt install python3-pip).")


def torch_index(system: str, gpu: bool, pip_config: str) -> list[str]:
    """Where pip shall look for torch besides the usual place, as arguments of pip.

    On Linux the usual place has the CUDA build, several GB that are of no use without a GPU. Those
    who told pip where to look (`pip_config`, as `pip config list` prints it) know better.
    """
    told = re.search(r"\.(index-url|extra-index-url|find-links|no-index)=", pip_config)
    return CPU_TORCH if system == "linux" and not gpu and not told else []


LISTS = ["pyproject.toml", "constraints.txt"]
# So that no student waits for them; where they cannot be kept, the notebooks make them.
TABLES = "from rlhf_lab.world import keep_tables; keep_tables()"
COURSE = Environment(".venv", ["-c", "constraints.txt", "-e", ".[lab,test]"], LISTS, then=TABLES)
# The same folder with more in it, so with a stamp of its own: a student's `lab` never needs this.
BROWSER = Environment(
    ".venv",
    ["-c", "constraints.txt", "-e", ".[lab,test,browser,site]"],
    LISTS,
    ".installed-browser",
)
SITE = Environment(
    ".venv", ["-c", "constraints.txt", "-e", ".[lab,test,site]"], LISTS, ".installed-site"
)
# Of its own: nbgrader adds its pages to every JupyterLab of its environment.
CLASS = Environment(".venv-class", ["-c", "constraints.txt", "-e", ".[lab,test,hub,class]"], LISTS)
ENGINE = Environment(".venv-engine", ["-c", "constraints.txt", "ziglang"], ["constraints.txt"])
TRL_LIST = "benchmarks/requirements-trl.txt"
TRL = Environment(".venv-bench", ["-r", TRL_LIST], [TRL_LIST])
BRIDGE_LIST = "benchmarks/requirements-bridge.txt"
BRIDGE = Environment(
    ".venv-bridge", ["-r", BRIDGE_LIST, "-e", "."], ["pyproject.toml", BRIDGE_LIST]
)
COUNTS = "tools/counts.py"
TWO = ["-n2", "--dist=loadfile"]  # at a time; a notebook stays whole, its cells share a kernel
SCHEMA = ["-m", "check_jsonschema", "--builtin-schema"]  # with schemas that it brings, offline
WORKFLOWS = [f".github/workflows/{name}.yml" for name in ("ci", "pages")]
FORMS = [f".github/ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "erratum")]
NEEDS = {  # the others: COURSE alone
    "bench": [COURSE, TRL],
    "bench bridge": [BRIDGE],
    "bench cockpit": [COURSE, BROWSER],
    "bench hub": [CLASS],
    "browser-test": [COURSE, BROWSER],
    "class-test": [CLASS],
    "site": [COURSE, SITE],
    "engine": [ENGINE],
}
TASKS = {  # what each command runs, in this order, with the Python in .venv
    "lab": [["-m", "jupyterlab", "--ServerApp.root_dir=.", f"--LabApp.default_url={FIRST}"]],
    "cockpit": [["-m", "voila", "notebooks/{}cockpit.ipynb"]],  # {}: the folder of a language
    "test": [
        [
            *("-m", "pytest", "--nbval-lax", *TWO, "-o", "testpaths=tests rlhf_lab notebooks"),
            "--ignore-glob=notebooks/*/*",  # other languages: tests hold them to the English ones
        ]
    ],
    "browser-test": [
        ["tests/browser/chromium.py"],
        ["tests/browser/firefox.py"],
        ["-m", "pytest", "tests/browser"],
    ],
    "class-test": [["-m", "pytest", "tests/classes"]],
    "site": [["tools/site.py"]],
    "engine": [["tools/engine.py"]],
    "doctor": [["-m", "rlhf_lab", "doctor"]],
    "translate": [
        [f"tools/{tool}.py", word, language]
        for language in LANGUAGES
        for word in ("update", "write")
        for tool in ("catalogue", "edition")
    ],
    "format": [["-m", "ruff", "format"], [COUNTS], ["-m", "ruff", "check", "--fix"]],
    "check": [
        ["-m", "ruff", "format", "--check"],
        ["-m", "ruff", "check"],
        [COUNTS, "--check"],
        ["-m", "mypy"],
        [*SCHEMA, "vendor.github-workflows", *WORKFLOWS],
        [*SCHEMA, "vendor.github-issue-forms", *FORMS],
        [*SCHEMA, "vendor.citation-file-format", "CITATION.cff"],
        *([f"tools/{t}.py", "check", x] for x in LANGUAGES for t in ("catalogue", "edition")),
    ],
    "run": [["tools/run_notebooks.py"]],
    "bench": [["benchmarks/bench_ppo.py", "--bench-python", str(TRL.python)]],
    "bench cockpit": [["tests/browser/chromium.py"], ["benchmarks/bench_cockpit.py"]],
    "bench hub": [["benchmarks/bench_hub.py"]],
    "bench bridge": [["benchmarks/bench_bridge.py"]],  # these two not with the Python in .venv:
    "bench gpu": [["benchmarks/bench_gpu.py"]],  # see main
}
SPEAKS = ("lab", "cockpit", "doctor")  # the classroom's commands read --language themselves
CLASSROOM = ("handout", "materials", "collect", "grade", "report", "key")
for _word in CLASSROOM:
    # -P: a file of a student that is called torch.py must not be imported from where one stands.
    TASKS[_word] = [["-P", "-m", "rlhf_lab.classroom", _word]]
for _word in ("world", "notebooks", "ensemble", "growth", "sharing", "where", "worlds"):
    TASKS[f"bench {_word}"] = [[f"benchmarks/bench_{_word}.py"]]


def environ() -> dict[str, str]:
    """The variables under which the course's tools run, as if its environment were activated."""
    configs = [str(ROOT / ".jupyter"), os.environ.get("JUPYTER_CONFIG_PATH")]
    paths = [str(COURSE.python.parent), os.environ.get("PATH")]
    return {
        **os.environ,
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, configs)),
        "PATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUTF8": "1",  # Windows cannot print η or π into a file otherwise
        "VIRTUAL_ENV": str(COURSE.folder),  # IPython would mix in any other that is activated
    }


def chosen_language(further: list[str]) -> str:
    """Take `--language WORD` out of the arguments; without it RLHF_LAB_LANGUAGE counts.

    What runs then finds the language in that variable, notebooks of a student's own as well.
    """
    language = os.environ.get("RLHF_LAB_LANGUAGE") or "en"
    if "--language" in further:
        at = further.index("--language")
        language = " ".join(further[at + 1 : at + 2])
        del further[at : at + 2]
        os.environ["RLHF_LAB_LANGUAGE"] = language
    if language not in ("en", *LANGUAGES):
        sys.exit(f"--language, RLHF_LAB_LANGUAGE: there are {' and '.join(['en', *LANGUAGES])}")
    return language


def working_copies(language: str) -> None:
    """Make the student's own notebooks, where they are missing, and say what there is to say."""
    make = runpy.run_path(str(ROOT / "rlhf_lab" / "classroom" / "copies.py"))["make"]
    try:
        said = make(ROOT, language=language)
    except OSError as error:
        sys.exit(
            f"Your notebooks could not be written ({error}). They go into {ROOT}: it needs a free\n"
            "disk and your permission to write; else copy the course to a folder of your own."
        )
    print(*said, sep="\n", end="\n" if said else "", flush=True)


def run(argv: list[str], python: Path | None = None, cwd: Path = ROOT) -> int:
    """Run the course's Python, or another, with some arguments; returns the exit code."""
    # Ctrl-C reaches the tool too, and it alone decides: JupyterLab asks back, pytest sums up.
    usual = signal.signal(signal.SIGINT, lambda *_: None)
    code = subprocess.call([python or COURSE.python, *argv], cwd=cwd, env=environ())
    signal.signal(signal.SIGINT, usual)
    return code if code >= 0 else 128 - code  # killed by a signal, written the way shells do


def main(args: list[str]) -> int:
    """Carry out a command line; returns the exit code, 2 for one that makes no sense."""
    words = 2 if " ".join(args[:2]) in TASKS else 1
    command, further = " ".join(args[:words]), args[words:]
    if command not in TASKS:
        asked = args in (["-h"], ["--help"])
        file = sys.stdout if asked else sys.stderr
        encoding = file.encoding or "utf-8"  # one that has no Chinese shows question marks
        print(USAGE.encode(encoding, "replace").decode(encoding), end="", file=file)
        return 0 if asked else 2
    if command == "bench gpu":  # the machine may have no network, and a torch made for its GPU
        return run([*TASKS[command][0], *further], Path(sys.executable))
    try:
        for environment in NEEDS.get(command, [COURSE]):
            environment.ensure()
    except OSError as error:
        sys.exit(f"Set-up failed: {error}. Close what uses the course, check the disk, try again.")
    *first, last = TASKS[command]
    if command in SPEAKS:
        language = chosen_language(further)
        last = [part.format("" if language == "en" else f"{language}/") for part in last]
    if command == "lab":
        working_copies(language)
    # Teachers name folders from where they stand; the other tools work on the course itself.
    place = {"cwd": Path.cwd()} if command in CLASSROOM else {}
    own = {
        "class-test": CLASS,
        "bench hub": CLASS,
        "engine": ENGINE,
        "bench bridge": BRIDGE,
    }  # those that have a Python of their own
    if command in own:
        place["python"] = own[command].python
    for argv in [*first, [*last, *further]]:
        code = run(argv, **place)
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        sys.exit(130)
