"""A process that checks students' cells: each in a child of its own, which may not do any harm.

`python -m rlhf_lab.classroom.sandbox` imports torch and the course once. Then it reads a job a line
and writes an answer a line; for each job it forks, so that a child starts in milliseconds and takes
nothing with it when it ends. Where no fork is, as on Windows, one process does one job.

The limits stop mistakes and pranks, not somebody who knows Python inside out: an account for
grading alone is still a good idea.
"""

import contextlib
import json
import linecache
import os
import secrets
import select
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

from rlhf_lab.classroom import excerpt
from rlhf_lab.exercises import EXERCISES, verdict_on
from rlhf_lab.exercises.exercise import Exercise
from rlhf_lab.translation import tr

if sys.platform != "win32":
    import resource

CPU_SECONDS, WALL_SECONDS, MEMORY = 10, 60, 2 * 2**30
"""For one cell. A check needs less than a second of CPU, and less than 0.1 GB."""
MOST_BYTES, MOST_TEXT = 100_000, 2_000
"""Of a child's answer, and of the text in it."""
CODE = "<your notebook>"
Answer = dict[str, str]


def answer(status: str, message: object = "", mistake: str = "", **values: object) -> Answer:
    """What goes back to the one who grades; a student's `__str__` may be anything."""
    return {"status": status, "mistake": mistake, "message": tr(str(message), **values)[:MOST_TEXT]}


def examine(cells: list[str], name: str) -> Answer:
    """Check one exercise of one notebook; this runs what the student wrote for it, and no more."""
    found = excerpt.statements(cells)
    function = isinstance(EXERCISES[name], Exercise)
    tries = [(i, name) for i in excerpt.attempts(found, name, function)]
    other = excerpt.other_name(found, name)
    if other is not None:
        tries += [(i, other) for i in excerpt.attempts(found, other, function)]
    said = answer("missing", "neither defined nor assigned in the notebook")
    for cell in cells if not tries else ():
        if (error := excerpt.broken(cell, name)) is not None:
            text = "SyntaxError in line {n}: {error}"
            said = answer("error", text, n=error.lineno, error=error.msg)
    for position, given in tries:
        said = _judge(excerpt.excerpt(found, position), given, name)
        if given != name:
            text = "check was called with {name}. {said}"
            said["message"] = tr(text, name=given, said=said["message"])
        if said["status"] != "not done yet":
            break
    return said


def _judge(source: str, given: str, name: str) -> Answer:
    """Run an excerpt and check what it calls `given` as an attempt at the exercise `name`."""
    lines = source.splitlines(keepends=True)
    linecache.cache[CODE] = (len(source), None, lines, CODE)  # tracebacks show the lines
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(source, CODE, "exec"), names)
        attempt = names[given]
        if str(getattr(attempt, "__module__", "")).split(".")[0] == "rlhf_lab":
            return answer("copied", "this is the function of the package itself")
        if given != name and given in EXERCISES:
            return answer("not done yet", "that is another exercise")
        verdict = verdict_on(attempt, EXERCISES[name])
        return answer(verdict.status, verdict.text, verdict.mistake)
    except BaseException as error:  # exit() is one, too
        where = [frame.line for frame in traceback.extract_tb(error.__traceback__)
                 if frame.filename == CODE]  # fmt: skip
        line = tr(", in: {line}", line=where[-1]) if where else ""
        return answer("error", f"{type(error).__name__}: {str(error)[:500]}{line}")


def refuse(event: str, details: tuple[Any, ...]) -> None:
    """An audit hook: Python asks it before it reaches out of the process, and it cannot be undone.

    To look into folders, as imports do, and to read files is allowed; to write, to start or end a
    process and to open a connection is not.
    """
    kind = event.partition(".")[0]
    if event == "open":
        path, _, flags = details
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if flags & writes and path != os.devnull:
            raise PermissionError("files may not be written here")
    elif event in ("os.listdir", "os.scandir", "os.putenv", "os.unsetenv", "os.add_dll_directory"):
        pass
    elif kind in ("os", "shutil", "socket", "subprocess", "pty", "ctypes", "signal", "winreg"):
        raise PermissionError(f"{event} is not allowed here")


def limit() -> None:
    """Bound what this process may use, where the system can; it ends when it asks for more."""
    if sys.platform == "win32":
        return
    bounds = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,  # pipes are no files
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # also of threads; not for root
    }
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="utf-8") as file:
        # torch maps a gigabyte that it does not use, so what counts is how much is added.
        bounds[resource.RLIMIT_AS] = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    for what, most in bounds.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def _child(job: dict[str, Any], channel: int, word: bytes) -> NoReturn:
    """Do a job, answer through `channel`, and end without going back to the parent's code."""
    try:
        os.setsid()  # so that all of it can be ended at once
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # the parent's stdin and stdout are the way to other answers
            os.dup2(nowhere, stream)
        os.closerange(3, channel)
        os.closerange(channel + 1, 1024)
        limit()
        sys.addaudithook(refuse)
        said = json.dumps(examine(job["cells"], job["name"])).encode()
        os.write(channel, word + said + b"\n")
    finally:
        os._exit(0)


def _forked(job: dict[str, Any]) -> Answer:
    """Do a job in a child, and wait for it no longer than it may take."""
    reads, writes = os.pipe()
    word = secrets.token_hex(8).encode()  # what else is written to the pipe is no answer
    child = os.fork()
    if child == 0:
        _child(job, writes, word)
    os.close(writes)
    said, late = b"", False
    while not said.endswith(b"\n") and len(said) < MOST_BYTES:
        ready, _, _ = select.select([reads], [], [], WALL_SECONDS)
        part = os.read(reads, MOST_BYTES) if ready else b""
        late, said = not ready, said + part
        if not part:
            break
    os.close(reads)
    status = _end(child)
    if said.startswith(word) and said.endswith(b"\n"):
        return dict(json.loads(said.removeprefix(word)))
    if late:
        return answer("stopped", "it did not end within {n} seconds", n=WALL_SECONDS)
    if status in (signal.SIGXCPU, signal.SIGKILL):
        text = "it was ended: an endless loop ({n} seconds of CPU), or too much memory"
        return answer("stopped", text, n=CPU_SECONDS)
    return answer("stopped", "it ended its process before the check was done")


def _end(child: int) -> int | None:
    """End a child with all that it has started; returns the signal of which it has died itself."""
    ended = 0
    for _ in range(20):  # one that has just closed its end of the pipe is about to die
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    for kill in (os.killpg, os.kill) if not ended else (os.killpg,):  # it may have made no group
        with contextlib.suppress(OSError):
            kill(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return None
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def serve() -> None:
    """Answer jobs from stdin until it ends."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # nothing that is printed can be an answer
    for line in sys.stdin.buffer:
        job = json.loads(line)
        if hasattr(os, "fork"):
            said = _forked(job)
        else:
            sys.addaudithook(refuse)
            said = examine(job["cells"], job["name"])
        channel.write(json.dumps(said).encode() + b"\n")
        channel.flush()


if __name__ == "__main__":
    serve()
