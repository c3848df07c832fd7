"""What students have in their homes is collected whole, and nothing of anybody else's."""

import os

import pytest

from rlhf_lab.classroom.__main__ import main
from rlhf_lab.classroom.collect import collect
from rlhf_lab.classroom.handed_in import MOST_BYTES

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a class server runs Linux")


@pytest.fixture
def homes(tmp_path):
    """Anna has worked; Ben has only opened the course; the third is no student."""
    folder = tmp_path / "home"
    for student in ("anna", "ben"):
        (folder / student / "rlhf_lab").mkdir(parents=True)
    (folder / "postgres").mkdir()
    (folder / "anna" / "rlhf_lab" / "01.ipynb").write_bytes(b"one")
    (folder / "anna" / "rlhf_lab" / "predictions.json").write_bytes(b"{}")
    (folder / "anna" / "rlhf_lab" / "diary.txt").touch()
    return folder


def test_notebooks_and_guesses_are_copied_and_nothing_else(homes, tmp_path):
    assert collect(homes, tmp_path / "in") == (1, 2, [])
    copied = sorted(path.name for path in (tmp_path / "in" / "anna").iterdir())
    assert copied == ["01.ipynb", "predictions.json"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["anna"]
    assert (tmp_path / "in" / "anna" / "01.ipynb").read_bytes() == b"one"


def test_later_only_what_has_changed_is_copied_and_nothing_is_deleted(homes, tmp_path):
    collect(homes, tmp_path / "in")
    (homes / "anna" / "rlhf_lab" / "01.ipynb").write_bytes(b"two")
    (homes / "anna" / "rlhf_lab" / "predictions.json").unlink()
    assert collect(homes, tmp_path / "in") == (1, 1, [])
    assert (tmp_path / "in" / "anna" / "01.ipynb").read_bytes() == b"two"
    assert (tmp_path / "in" / "anna" / "predictions.json").exists()


def test_links_pipes_and_huge_files_are_named_and_not_read(homes, tmp_path):
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(b"of somebody else")
    place = homes / "ben" / "rlhf_lab"
    (place / "a.ipynb").symlink_to(secret)
    (place / "b.ipynb").hardlink_to(secret)
    os.mkfifo(place / "c.ipynb")
    with (place / "d.ipynb").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    students, files, left_out = collect(homes, tmp_path / "in")
    assert (students, files) == (1, 2)
    assert [line.partition(" is left out ")[0] for line in left_out] == [
        f"ben: {letter}.ipynb" for letter in "abcd"
    ]
    assert not (tmp_path / "in" / "ben").exists()


def test_a_folder_that_is_a_link_is_named_and_not_followed(homes, tmp_path):
    (homes / "ben" / "rlhf_lab").rmdir()
    (homes / "ben" / "rlhf_lab").symlink_to(homes / "anna" / "rlhf_lab")
    students, _, (line,) = collect(homes, tmp_path / "in")
    assert students == 1
    assert line.startswith("ben: rlhf_lab is left out (")


def test_the_command_says_what_it_found_and_where_there_is_nothing(homes, tmp_path, capsys):
    assert main(["collect", str(homes), str(tmp_path / "in")]) == 0
    assert "1 students, 2 new files" in capsys.readouterr().out
    assert main(["collect", str(homes), str(tmp_path / "in"), "--place", "course"]) == 2
    assert "has a notebook or guesses in course/" in capsys.readouterr().err
