"""What is right and what is wrong with this set-up, in plain words, each with its remedy.

`python3 course.py doctor` prints it. In a notebook, where it sees the kernel as well, write

    from rlhf_lab import doctor
    print(doctor.report(doctor.diagnose()))

Whatever a check stumbles over becomes a finding: nothing here raises, and the packages looked at
are imported late, since a broken one must show up in the report rather than prevent it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from rlhf_lab.translation import columns, language, tr

Status = Literal["ok", "note", "problem"]
Verdict = tuple[Status, str]

REFERENCE_TORCH = "2.13.0"  # made the numbers printed in the notebooks
REINSTALL = "install the course again: `python3 course.py doctor` in its folder does"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: "ok", "note" (works, but good to know) or "problem" (put it right)."""

    name: str
    status: Status
    text: str


def diagnose() -> list[Finding]:
    """Look at everything; never raises.

    >>> {finding.status for finding in diagnose()} <= {"ok", "note", "problem"}
    True
    """
    findings = []
    checks = CHECKS if language() == "en" else {**CHECKS, "fonts": _fonts}
    for name, check in checks.items():
        try:
            status, text = check()
        except Exception as error:
            says = "the check itself failed: {kind}: {error}; {remedy}"
            status, text = _problem(says, kind=type(error).__name__, error=error)
        findings.append(Finding(tr(name), status, text))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as text, a line each, and a last line that counts.

    >>> print(report([Finding("Python", "ok", "3.11.7"), Finding("torch", "note", "2.14.1")]))
    ok       Python  3.11.7
    note     torch   2.14.1
    problems: 0, notes: 1
    """
    width = max((columns(finding.name) for finding in findings), default=0)
    lines = [
        f"{_padded(tr(item.status), 7)}  {_padded(item.name, width)}  {item.text}"
        for item in findings
    ]
    all_status = [item.status for item in findings]
    problems, notes = all_status.count("problem"), all_status.count("note")
    lines.append(tr("problems: {problems}, notes: {notes}", problems=problems, notes=notes))
    return "\n".join(lines)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _ok(message: str, **values: object) -> Verdict:
    return "ok", tr(message, **values)


def _note(message: str, **values: object) -> Verdict:
    return "note", tr(message, **values)


def _problem(message: str, **values: object) -> Verdict:
    """A verdict whose {remedy}, if it has one, is to install the course again."""
    return "problem", tr(message, remedy=tr(REINSTALL), **values)


def _version(package: str) -> str | None:
    """The installed version of a package, None without one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """A version that compares: "4.4.0rc1" becomes (4, 4, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _python() -> Verdict:
    version = sys.version.split()[0]
    if _numbers(version) < (3, 11):
        return _problem("{version} is too old; install Python 3.11 or newer", version=version)
    return _ok("{version} in {folder}", version=version, folder=sys.prefix)


def _package(name: str, least: str, absent: str = "") -> Verdict:
    """Is a package there, and new enough? `absent` is what to note where it need not be there."""
    version = _version(name)
    if version is None:
        return _note(absent) if absent else _problem("not installed; {remedy}")
    if _numbers(version) < _numbers(least):
        says = "{version} is too old, {least} is needed; {remedy}"
        return _problem(says, version=version, least=least)
    return "ok", version


def _torch() -> Verdict:
    status, text = _package("torch", "2.4")
    if status == "ok" and text.split("+")[0] != REFERENCE_TORCH:
        says = (
            "{version} works, but the numbers in the notebooks were made with {reference}: "
            "yours may differ in the last digits, and visibly after many training steps"
        )
        return _note(says, version=text, reference=REFERENCE_TORCH)
    return status, text


def _threads() -> Verdict:
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        return _ok("1, the fastest for models this small")
    says = (
        "{threads}: such small models run slower with more than one, on a busy computer 50 "
        "to 90 times slower; `torch.set_num_threads(1)` puts it right"
    )
    return _note(says, threads=threads)


def _device() -> Verdict:
    """Which device torch would use, after a matrix product on it."""
    import torch

    mps = torch.backends.mps.is_available()
    gpu = "cuda" if torch.cuda.is_available() else "mps" if mps else None
    try:
        ones = torch.ones(8, 8, device=gpu or "cpu")
        works = bool((ones @ ones == 8).all())
    except RuntimeError as error:
        if gpu is None:
            raise
        says = (
            "the GPU ({gpu}) fails: {error}; the course needs none. To use it, update its driver "
            "or install the build of torch that pytorch.org names for it"
        )
        return _note(says, gpu=gpu, error=str(error).splitlines()[0])
    if not works:
        says = "a matrix product on {device} came out wrong; {remedy}"
        return _problem(says, device=gpu or "cpu")
    return _ok("{gpu} works", gpu=gpu) if gpu else _ok("cpu works; the course needs no GPU")


def _weights() -> Verdict:
    try:
        from rlhf_lab.world import load_world

        load_world()
    except Exception as error:
        says = (
            "the models that come with the course cannot be read ({kind}: {error}); fetch the "
            "folder rlhf_lab/weights again, e.g. `git checkout rlhf_lab`"
        )
        return _problem(says, kind=type(error).__name__, error=error)
    return _ok("the models that come with the course can be read")


def _tables() -> Verdict:
    """Are the exact tables on disk, where every notebook finds them? Makes them if they are not."""
    from rlhf_lab import table_cache
    from rlhf_lab.world import keep_tables

    folder, kept = table_cache.folder(), keep_tables()
    if kept:
        return _ok("every notebook finds them in {folder}", folder=folder)
    variable = table_cache.VARIABLE
    if os.environ.get(variable) == "":
        says = "every notebook computes them, since {variable} is empty"
        return _ok(says, variable=variable)
    says = (
        "they cannot be kept in {folder}: every notebook computes them, which takes 3 seconds "
        "and 130 MB; {variable} can name a folder that you may write to"
    )
    nowhere = tr("a home folder, for there is none")
    return _note(says, folder=folder or nowhere, variable=variable)


def _kernel() -> Verdict:
    # Only a process that has imported IPython can be a kernel; asking must not import it.
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython.get_ipython(), "kernel", None) if ipython else None
    if kernel is None:
        return _ok("not in a notebook: this is a plain Python process")
    says, version = "in a notebook: {kernel}, ipykernel {version}", _version("ipykernel")
    return _ok(says, kernel=type(kernel).__name__, version=version)


def _subshells() -> Verdict:
    """Do slider messages stay on the kernel's main thread?"""
    lab, kernel = _version("jupyterlab"), _version("ipykernel")
    if not lab or not kernel or _numbers(lab) < (4, 4) or _numbers(kernel) < (7,):
        return _ok("on the main thread, as always before JupyterLab 4.4 and ipykernel 7")
    for path in _lab_settings():
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        # A pattern rather than a parser: JupyterLab allows comments in these files.
        found = re.search(r'^(?!\s*//).*"commsOverSubshells"\s*:\s*"(\w+)"', text, re.MULTILINE)
        if found and found[1] == "disabled":
            return _ok("on the main thread, says {path}", path=path)
        if found:
            break
    says = (
        "JupyterLab {lab} sends their messages to a second thread of ipykernel {kernel}: plots "
        "can get mixed up and a slider can stop answering. Start with `python3 course.py lab`, or "
        'set Settings > Settings Editor > Kernels > "Kernel Comms over subshells" to Disabled'
    )
    return _note(says, lab=lab, kernel=kernel)


def _lab_settings() -> list[Path]:
    """The files in which JupyterLab looks for its settings, the one that wins first."""
    own = Path(os.environ.get("JUPYTER_CONFIG_DIR") or Path.home() / ".jupyter")
    user = Path(os.environ.get("JUPYTERLAB_SETTINGS_DIR") or own / "lab" / "user-settings")
    shared = Path(sys.prefix, "share", "jupyter", "lab", "settings")
    configs = filter(None, os.environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep))
    return [
        user / "@jupyterlab" / "apputils-extension" / "kernels-settings.jupyterlab-settings",
        *(Path(config, "labconfig", "default_setting_overrides.json") for config in configs),
        shared / "overrides.json",
        *shared.glob("overrides.d/*.json"),
    ]


def _for_notebooks(name: str, least: str) -> Verdict:
    """A package that every notebook needs; where none of them is, nobody wants notebooks."""
    some = any(_version(package) for package in ("ipykernel", "ipywidgets", "matplotlib"))
    return _package(name, least, "" if some else NO_NOTEBOOKS)


def _fonts() -> Verdict:
    """Can a browser on this machine show the language? Figures bring a font of their own."""
    try:
        command = ["fc-list", f":lang={language()}"]
        found = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:  # Windows and macOS, whose fonts show every language
        return _ok("not asked: this system has no fc-list")
    if found.strip():
        return _ok("the system has fonts for this language")
    return _note(
        "the system has no font for this language, so that browsers here show boxes; install one, "
        "on Debian and Ubuntu for Chinese: `sudo apt install fonts-noto-cjk`"
    )


NO_NOTEBOOKS = "not installed; only the notebooks need it: rlhf-lab[lab]"
NO_LAB = "not installed; VS Code and Colab, for instance, need none"
NO_KEY = "not installed; only `course.py key` needs it"
NO_CANVAS = "not installed; only `course.py materials` needs it"
NO_VOILA = "not installed; only `course.py cockpit` needs it"
CHECKS: dict[str, Callable[[], Verdict]] = {
    "Python": _python,
    "torch": _torch,
    "torch threads": _threads,
    "device": _device,
    "weights": _weights,
    "tables": _tables,
    "kernel": _kernel,
    "anywidget": partial(_for_notebooks, "anywidget", "0.9"),
    "ipykernel": partial(_for_notebooks, "ipykernel", "6.17"),
    "ipywidgets": partial(_for_notebooks, "ipywidgets", "7.7"),
    "matplotlib": partial(_for_notebooks, "matplotlib", "3.8"),
    "pillow": partial(_for_notebooks, "pillow", "10.1"),
    "jupyterlab": partial(_package, "jupyterlab", "4.2", NO_LAB),
    "mistune": partial(_package, "mistune", "3.1", NO_KEY),
    "text2qti": partial(_package, "text2qti", "0.8", NO_CANVAS),
    "voila": partial(_package, "voila", "0.5", NO_VOILA),
    "sliders": _subshells,
}
PACKAGES = {name for name, check in CHECKS.items() if isinstance(check, partial)} | {"torch"}
"""Those whose name is that of a package."""
