"""Working copies: made once, without outputs, never overwritten, and nothing old is lost."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, course, load

from rlhf_lab.classroom import copies

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def place(tmp_path):
    """A course of two notebooks."""
    (tmp_path / "notebooks").mkdir()
    for path in NOTEBOOKS[:2]:
        shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def mine(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / copies.FOLDER).iterdir()}


def edit(path: Path, source: str, **metadata) -> None:
    """Write into the second cell, as JupyterLab or a newer version of the course would."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][1]["source"] = [source]
    notebook["metadata"].update(metadata)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_a_copy_has_all_cells_and_no_outputs_but_drawings(place):
    (said,) = copies.make(place)
    assert "my_notebooks/" in said
    assert list(mine(place)) == [path.name for path in NOTEBOOKS[:2]]
    for path in NOTEBOOKS[:2]:
        old, new = (json.loads((place / d / path.name).read_text("utf-8")) for d in
                    ("notebooks", copies.FOLDER))  # fmt: skip
        assert [c["source"] for c in new["cells"]] == [c["source"] for c in old["cells"]]
        assert [c.get("metadata") for c in new["cells"]] == [c["metadata"] for c in old["cells"]]
        code = [c for c in new["cells"] if c["cell_type"] == "code"]
        kept = [c for c in code if "keep-output" in c["metadata"].get("tags", [])]
        assert kept
        assert all("outputs" in c and c["execution_count"] is None for c in code)
        assert all("<img" in str(c["outputs"]) for c in kept)
        assert not [c for c in code if c["outputs"] and c not in kept]


def test_a_copy_is_never_overwritten_and_a_missing_one_comes_back(place):
    copies.make(place)
    first, second = (place / copies.FOLDER / path.name for path in NOTEBOOKS[:2])
    edit(first, "x = 1  # mine")
    before = first.read_bytes()
    second.unlink()
    assert copies.make(place) == ["Work in my_notebooks/: it holds your own notebooks, without "
                                  "results (1 new)."]  # fmt: skip
    assert first.read_bytes() == before
    assert second.exists()
    assert copies.make(place) == []


def test_a_newer_notebook_is_named_with_the_way_to_get_it(place):
    copies.make(place)
    edit(place / copies.FOLDER / NOTEBOOKS[0].name, "x = 1  # mine")
    assert copies.make(place) == [], "to work in a copy does not make it old"
    before = mine(place)
    edit(place / "notebooks" / NOTEBOOKS[1].name, "a better explanation")
    (said,) = copies.make(place)
    assert NOTEBOOKS[1].name in said
    assert NOTEBOOKS[0].name not in said
    assert "rename yours and run this command again" in said
    assert mine(place) == before
    copy = place / copies.FOLDER / NOTEBOOKS[1].name
    copy.rename(copy.with_stem("old"))
    copies.make(place)
    assert b"a better explanation" in copy.read_bytes()


def test_other_outputs_are_no_newer_version(place):
    copies.make(place)
    path = place / "notebooks" / NOTEBOOKS[0].name
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell.update({"outputs": []} if cell["cell_type"] == "code" else {})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert copies.make(place) == []


@pytest.mark.parametrize("left", ["guesses", "a saved notebook"])
def test_those_who_worked_in_notebooks_keep_answers_and_guesses(place, left):
    if left == "guesses":
        (place / "notebooks" / "predictions.json").write_text("{}", encoding="utf-8")
    else:
        edit(place / "notebooks" / NOTEBOOKS[0].name, "x = 1  # mine", language_info={})
    before = {p.name: p.read_bytes() for p in (place / "notebooks").iterdir()}
    _, said = copies.make(place)
    assert said.startswith("You have worked in notebooks/ before")
    assert {p.name: p.read_bytes() for p in (place / "notebooks").iterdir()} == before
    if left == "guesses":
        assert mine(place)["predictions.json"] == b"{}"
    else:
        assert b"x = 1  # mine" in mine(place)[NOTEBOOKS[0].name]


def test_on_a_server_a_student_gets_copies_at_home_and_no_guesses_of_the_teacher(place):
    (place / "notebooks" / "predictions.json").write_text("{}", encoding="utf-8")
    home = place / "home" / "rlhf_lab"
    home.mkdir(parents=True)
    (said,) = copies.make(place, home)
    assert said.startswith("Work in rlhf_lab/")
    assert [path.name for path in sorted(home.iterdir())] == [p.name for p in NOTEBOOKS[:2]]
    assert not (place / copies.FOLDER).exists()


def test_new_guesses_are_not_replaced_by_old_ones(place):
    (place / "notebooks" / "predictions.json").write_text("{}", encoding="utf-8")
    copies.make(place)
    (place / copies.FOLDER / "predictions.json").write_text('{"new": 1}', encoding="utf-8")
    (place / copies.FOLDER / NOTEBOOKS[0].name).unlink()
    copies.make(place)
    assert mine(place)["predictions.json"] == b'{"new": 1}'


def test_two_at_the_same_time_make_one_copy(place, monkeypatch):
    write = Path.write_bytes

    def overtaken(path: Path, content: bytes) -> int:
        if path.name.startswith("."):
            for notebook in NOTEBOOKS[:2]:
                write(path.parent / notebook.name, b"the other's, edited already")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", overtaken)
    copies.make(place)
    assert set(mine(place).values()) == {b"the other's, edited already"}


def test_a_failed_merge_is_named_and_the_others_are_copied(place):
    (place / "notebooks" / NOTEBOOKS[0].name).write_text("<<<<<<< HEAD\n{}", encoding="utf-8")
    said = copies.make(place)
    assert said[0] == f"notebooks/{NOTEBOOKS[0].name} is damaged; get it anew from the course."
    assert list(mine(place)) == [NOTEBOOKS[1].name]


@pytest.mark.parametrize("damage", ["", "[]", '{"nbformat": 4, "cells": []}'])
def test_a_copy_that_cannot_be_read_is_left_alone(place, damage):
    copies.make(place)
    copy = place / copies.FOLDER / NOTEBOOKS[0].name
    copy.write_text(damage, encoding="utf-8")
    assert copies.make(place) == []
    assert copy.read_text(encoding="utf-8") == damage


def test_a_full_disk_leaves_whole_files_or_none(place, monkeypatch):
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:100])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(course, "ROOT", place)
    monkeypatch.setattr(course.runpy, "run_path", lambda _: {"make": copies.make})
    with pytest.raises(SystemExit) as stopped:
        course.working_copies("en")
    assert "No space left on device" in str(stopped.value)
    assert str(place) in str(stopped.value)
    assert mine(place) == {}


def test_a_course_that_may_not_be_written_is_a_sentence(place, monkeypatch):
    """A file in the place of the folder stands for every reason why it cannot be made."""
    (place / copies.FOLDER).write_text("", encoding="utf-8")
    shutil.copytree(ROOT / "rlhf_lab" / "classroom", place / "rlhf_lab" / "classroom")
    monkeypatch.setattr(course, "ROOT", place)
    with pytest.raises(SystemExit, match="could not be written"):
        course.working_copies("en")


def test_copies_in_another_language_have_a_folder_of_their_own(place):
    """As deep as those in the course, so that relative links hold; none is overwritten."""
    copies.make(place)
    edit(place / copies.FOLDER / NOTEBOOKS[0].name, "x = 1  # mine")
    before = mine(place)
    (place / "notebooks" / "zh").mkdir()
    shutil.copy(place / "notebooks" / NOTEBOOKS[0].name, place / "notebooks" / "zh")
    (said,) = copies.make(place, language="zh")
    assert said.startswith("Work in my_notebooks/zh/:")
    assert [path.name for path in (place / copies.FOLDER / "zh").iterdir()] == [NOTEBOOKS[0].name]
    (place / copies.FOLDER / "zh" / NOTEBOOKS[0].name).unlink()
    (place / copies.FOLDER / "zh").rmdir()
    assert mine(place) == before
    home = place / "home"
    copies.make(place, home, "zh")
    assert [path.name for path in home.iterdir()] == [NOTEBOOKS[0].name], (
        "a server has one language"
    )


@pytest.mark.skipif(os.name == "nt", reason="JupyterHub does not run there")
def test_a_class_server_hands_out_the_language_of_its_config(place, monkeypatch):
    start = load("deploy/start_student.py")
    monkeypatch.setattr(start, "COURSE", place)
    shutil.copytree(ROOT / "rlhf_lab" / "classroom", place / "rlhf_lab" / "classroom")
    (place / "notebooks" / "zh").mkdir()
    shutil.copy(place / "notebooks" / NOTEBOOKS[1].name, place / "notebooks" / "zh")
    monkeypatch.setenv("RLHF_LAB_LANGUAGE", "zh")
    start.copy_notebooks(place / "home" / "rlhf_lab")
    there = [path.name for path in (place / "home" / "rlhf_lab").iterdir()]
    assert there == [NOTEBOOKS[1].name]


def test_what_is_complete_needs_no_permission_to_write(place, monkeypatch):
    copies.make(place)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("wrote"))
    assert copies.make(place) == []


def test_copying_loads_nothing_but_the_standard_library(place):
    """`course.py lab` would wait for torch, seconds on a busy machine."""
    code = "import runpy, sys; from pathlib import Path; "
    code += f"runpy.run_path({copies.__file__!r})['make'](Path({str(place)!r})); "
    code += "print({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert run.stderr == ""
    assert eval(run.stdout) <= {"__main__", "sitecustomize", "usercustomize"}


def test_git_does_not_see_what_students_write():
    assert "my_notebooks/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"/lab/tree/{copies.FOLDER}/{NOTEBOOKS[0].name}" == course.FIRST.format("")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_relative_links_hold_in_the_copies_too(path):
    """Links between notebooks lead from copy to copy; all others lead out of the folder."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        links = re.findall(r"\]\(([^)#\s]+)|src=\"([^\"]+)\"", "".join(cell["source"]))
        for link in (a or b for a, b in links if cell["cell_type"] == "markdown"):
            if not re.match(r"[a-z]+:", link):
                beside = link in {notebook.name for notebook in NOTEBOOKS}
                outside = link.startswith("../") and not link.startswith("../notebooks/")
                assert beside or outside, link
                assert (path.parent / link).exists(), link


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_the_folder_may_be_a_link_to_another_disk(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (place / copies.FOLDER).symlink_to(tmp_path / "elsewhere")
    copies.make(place)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2
