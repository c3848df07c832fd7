"""A file is written whole or not at all, and a lock is held by one at a time."""

import os
import threading

import pytest
from filelock import FileLock

from rlhf_lab import files
from rlhf_lab.files import InUseError, locked, write_whole


def test_a_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path):
    for content in (b"first", b"", b"x" * 100_000):
        write_whole(tmp_path / "f", content)
        assert (tmp_path / "f").read_bytes() == content
        assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, broken, error):
    def fail(*_):
        raise error

    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)) as caught:
        write_whole(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]
    if isinstance(error, OSError):
        assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path / 'f'}'"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_new_file_gets_usual_permissions_and_an_old_one_keeps_its_own(tmp_path):
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "new").chmod(0o600)
    write_whole(tmp_path / "new", b"again")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_long_names_have_room_for_their_temporary_file(tmp_path):
    name = "ü" * 120
    write_whole(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    path, order = tmp_path / "f", []
    with locked(path, wait=0):
        with pytest.raises(InUseError, match="is being written by another process or notebook"):
            locked(path, wait=0).__enter__()

        def other():
            with locked(path, wait=60):
                order.append("second")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_is_let_go_when_its_block_ends(tmp_path, monkeypatch):
    """Not only when nobody needs the object any more, which other Pythons notice later."""
    kept = []

    def keep(path):
        kept.append(FileLock(path))
        return kept[0]

    monkeypatch.setattr(files, "FileLock", keep)
    with locked(tmp_path / "f", wait=0):
        assert kept[0].is_locked
    assert not kept[0].is_locked
