"""Files of users: each is replaced whole or not at all, and two writers take turns."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


class InUseError(OSError):
    """Another process, or another part of this one, is writing the same files."""


def write_whole(path: str | Path, content: bytes) -> None:
    """Make a file hold exactly `content`; if that fails, the file is as it was before.

    A file that is new gets the permissions of its folder's other new files, and one that is
    replaced keeps its own. Where `path` is a link, the file that it points to is replaced.

    Raises:
        OSError: the file cannot be written, for example because the disk is full; names `path`.
    """
    target = Path(os.path.realpath(path))
    # Beside the target, because a rename happens in one step within a file system only.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
        if target.exists():
            temporary.chmod(target.stat().st_mode)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def locked(path: str | Path, *, wait: float) -> Iterator[None]:
    """Hold the lock of `path`, a file or folder that need not exist, while the block runs.

    The lock ends with the process that holds it, however that ends. It binds only those who ask
    for it, and leaves an empty hidden file beside `path`.

    Args:
        path: what is to be written.
        wait: seconds to wait for another holder, ≥ 0.

    Raises:
        InUseError: another holder did not let go in time.
        OSError: there is no permission to lock there, or the file system cannot.
    """
    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise InUseError(
            f"{path} is being written by another process or notebook; wait until it has ended, "
            "or name another place"
        ) from error
    except NotImplementedError as error:  # some network file systems know no locks
        raise OSError(
            f"{path.parent} cannot be locked ({error}); use a folder elsewhere"
        ) from error
    try:
        yield
    finally:
        lock.release()
