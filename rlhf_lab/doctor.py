"""What is right and what is wrong with this set-up, in plain words, each with its remedy.

`python3 course.py doctor` prints it. In a notebook, where it sees the kernel as well, write

    from rlhf_lab import doctor
    print(doctor.report(doctor.diagnose()))

Whatever a check stumbles over becomes a finding: nothing here raises, and the packages looked at
are imported late, since a broken one must show up in the report rather than prevent it.
"""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

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
    for name, check in CHECKS.items():
        try:
            status, text = check()
        except Exception as error:
            text = f"the check itself failed: {type(error).__name__}: {error}; {REINSTALL}"
            status = "problem"
        findings.append(Finding(name, status, text))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as text, a line each, and a last line that counts.

    >>> print(report([Finding("Python", "ok", "3.11.7"), Finding("torch", "note", "2.14.1")]))
    ok       Python  3.11.7
    note     torch   2.14.1
    problems: 0, notes: 1
    """
    width = max((len(finding.name) for finding in findings), default=0)
    lines = [f"{item.status:7}  {item.name:{width}}  {item.text}" for item in findings]
    all_status = [item.status for item in findings]
    lines += [f"problems: {all_status.count('problem')}, notes: {all_status.count('note')}"]
    return "\n".join(lines)


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
        return "problem", f"{version} is too old; install Python 3.11 or newer"
    return "ok", f"{version} in {sys.prefix}"


def _package(name: str, least: str, absent: Verdict | None = None) -> Verdict:
    """Is a package there, and new enough? `absent` is the verdict where it need not be there."""
    version = _version(name)
    if version is None:
        return absent or ("problem", f"not installed; {REINSTALL}")
    if _numbers(version) < _numbers(least):
        return "problem", f"{version} is too old, {least} is needed; {REINSTALL}"
    return "ok", version


def _torch() -> Verdict:
    status, text = _package("torch", "2.4")
    if status == "ok" and text.split("+")[0] != REFERENCE_TORCH:
        return "note", (
            f"{text} works, but the numbers in the notebooks were made with {REFERENCE_TORCH}: "
            "yours may differ in the last digits, and visibly after many training steps"
        )
    return status, text


def _threads() -> Verdict:
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        return "ok", "1, the fastest for models this small"
    return "note", (
        f"{threads}: such small models run slower with more than one, on a busy computer 50 "
        "to 90 times slower; `torch.set_num_threads(1)` puts it right"
    )


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
        return "note", (
            f"the GPU ({gpu}) fails: {str(error).splitlines()[0]}; the course needs none. To use "
            "it, update its driver or install the build of torch that pytorch.org names for it"
        )
    if not works:
        return "problem", f"a matrix product on {gpu or 'cpu'} came out wrong; {REINSTALL}"
    return "ok", f"{gpu} works" if gpu else "cpu works; the course needs no GPU"


def _weights() -> Verdict:
    try:
        from rlhf_lab.world import load_world

        load_world()
    except Exception as error:
        return "problem", (
            f"the models that come with the course cannot be read ({type(error).__name__}: "
            f"{error}); fetch the folder rlhf_lab/weights again, e.g. `git checkout rlhf_lab`"
        )
    return "ok", "the models that come with the course can be read"


def _tables() -> Verdict:
    """Are the exact tables on disk, where every notebook finds them? Makes them if they are not."""
    from rlhf_lab import table_cache
    from rlhf_lab.world import keep_tables

    folder, kept = table_cache.folder(), keep_tables()
    if kept:
        return "ok", f"every notebook finds them in {folder}"
    if os.environ.get(table_cache.VARIABLE) == "":
        return "ok", f"every notebook computes them, since {table_cache.VARIABLE} is empty"
    return "note", (
        f"they cannot be kept in {folder or 'a home folder, for there is none'}: every notebook "
        "computes them, which takes 3 seconds and 130 MB; "
        f"{table_cache.VARIABLE} can name a folder that you may write to"
    )


def _kernel() -> Verdict:
    # Only a process that has imported IPython can be a kernel; asking must not import it.
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython.get_ipython(), "kernel", None) if ipython else None
    if kernel is None:
        return "ok", "not in a notebook: this is a plain Python process"
    return "ok", f"in a notebook: {type(kernel).__name__}, ipykernel {_version('ipykernel')}"


def _subshells() -> Verdict:
    """Do slider messages stay on the kernel's main thread?"""
    lab, kernel = _version("jupyterlab"), _version("ipykernel")
    if not lab or not kernel or _numbers(lab) < (4, 4) or _numbers(kernel) < (7,):
        return "ok", "on the main thread, as always before JupyterLab 4.4 and ipykernel 7"
    for path in _lab_settings():
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        # A pattern rather than a parser: JupyterLab allows comments in these files.
        found = re.search(r'^(?!\s*//).*"commsOverSubshells"\s*:\s*"(\w+)"', text, re.MULTILINE)
        if found and found[1] == "disabled":
            return "ok", f"on the main thread, says {path}"
        if found:
            break
    return "note", (
        f"JupyterLab {lab} sends their messages to a second thread of ipykernel {kernel}: plots "
        "can get mixed up and a slider can stop answering. Start with `python3 course.py lab`, or "
        'set Settings > Settings Editor > Kernels > "Kernel Comms over subshells" to Disabled'
    )


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
    return _package(name, least, None if some else NO_NOTEBOOKS)


NO_NOTEBOOKS: Verdict = ("note", "not installed; only the notebooks need it: rlhf-lab[lab]")
NO_LAB: Verdict = ("note", "not installed; VS Code and Colab, for instance, need none")
NO_KEY: Verdict = ("note", "not installed; only `course.py key` needs it")
NO_CANVAS: Verdict = ("note", "not installed; only `course.py materials` needs it")
NO_VOILA: Verdict = ("note", "not installed; only `course.py cockpit` needs it")
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
