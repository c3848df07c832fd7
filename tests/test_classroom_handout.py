"""The students' edition: a folder and a zip, whole or not at all, over nothing that is there."""

import json
import os
import re
import zipfile

import pytest
from scripts import ROOT

from rlhf_lab.classroom import handout
from rlhf_lab.classroom.__main__ import main

NOTEBOOKS = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_folder_and_zip_hold_all_notebooks_without_results(tmp_path, capsys):
    assert main(["handout", str(tmp_path / "course"), "--address", "https://x.example/c"]) == 0
    assert "written:" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in (tmp_path / "course").iterdir()}
    assert set(files) == NOTEBOOKS | {"README.md"}
    assert b"git+https://x.example/c" in files["README.md"]
    for name in NOTEBOOKS:
        cells = json.loads(files[name])["cells"]
        shown = [cell for cell in cells if cell.get("outputs")]
        assert all("keep-output" in cell["metadata"]["tags"] for cell in shown)
        for link in re.findall(r"\]\(([^)#\s]+)", "".join("".join(c["source"]) for c in cells)):
            assert link in NOTEBOOKS or re.match(r"[a-z]+:", link), "leads out of the handout"
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        assert {n: archive.read(n) for n in archive.namelist()} == {
            f"course/{name}": content for name, content in files.items()
        }
    assert sorted(os.listdir(tmp_path)) == ["course", "course.zip"]


def test_the_readme_has_what_to_install_and_nothing_to_fill_in_but_the_address(tmp_path, capsys):
    assert main(["handout", str(tmp_path / "course")]) == 0
    assert handout.ADDRESS in capsys.readouterr().out
    text = (tmp_path / "course" / "README.md").read_text(encoding="utf-8")
    assert "{" not in text
    assert "00_start_here.ipynb" in text


@pytest.mark.parametrize("there", ["folder", "file", "zip"])
def test_nothing_that_is_there_is_overwritten(tmp_path, capsys, there):
    place = tmp_path / {"folder": "c/mine.txt", "file": "c", "zip": "c.zip"}[there]
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine", encoding="utf-8")
    assert main(["handout", str(tmp_path / "c")]) == 2
    assert "is there already and stays as it is" in capsys.readouterr().err
    assert place.read_text(encoding="utf-8") == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "c").mkdir()
    handout.write(tmp_path / "c", {"a": b"1"})
    assert (tmp_path / "c" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["write_whole", "rename"])
def test_what_stops_half_way_leaves_nothing(tmp_path, monkeypatch, stop, where):
    def fail(*args):
        raise stop

    monkeypatch.setattr(*((handout, where) if where == "write_whole" else (os, where)), fail)
    expected = 130 if isinstance(stop, KeyboardInterrupt) else 2
    assert main(["handout", str(tmp_path / "c")]) == expected
    assert list(tmp_path.iterdir()) == []


def test_the_same_course_gives_the_same_zip(tmp_path):
    contents = handout.files()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        handout.write(tmp_path / place / "c", contents)
    assert (tmp_path / "a/c.zip").read_bytes() == (tmp_path / "b/c.zip").read_bytes()
