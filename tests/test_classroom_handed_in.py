"""What students hand in is found and read, whatever it is; what is not read is named."""

import json
import os

import pytest

from rlhf_lab.classroom import handed_in
from rlhf_lab.classroom.handed_in import code_cells, find, plain, read_json

CELL = {"cell_type": "code", "source": ["a = 1\n", "b = 2"]}


def names(folder, suffix=".ipynb"):
    students, left_out = find(folder, suffix)
    return {s.name: [p.name for p in s.files] for s in students}, left_out


def test_a_student_is_a_folder_or_a_file(tmp_path):
    (tmp_path / "Ben" / "week 1" / ".ipynb_checkpoints").mkdir(parents=True)
    for place in ("Ben/week 1/04.ipynb", "Ben/week 1/.ipynb_checkpoints/04.ipynb", "Anna.ipynb"):
        (tmp_path / place).touch()
    (tmp_path / "Ben" / "predictions.json").touch()
    (tmp_path / ".DS_Store").touch()
    assert names(tmp_path) == ({"Anna": ["Anna.ipynb"], "Ben": ["04.ipynb"]}, [])
    assert names(tmp_path, ".json")[0] == {"Ben": ["predictions.json"]}


def test_no_two_students_have_the_same_name(tmp_path):
    (tmp_path / "Anna").mkdir()
    (tmp_path / "ANNA.ipynb").touch()
    found, (line,) = names(tmp_path)
    assert set(found) == {"Anna", "ANNA (2)"}
    assert "two students are called ANNA" in line


def test_archives_and_other_files_are_named_and_not_opened(tmp_path):
    (tmp_path / "Anna.zip").write_bytes(b"PK")
    (tmp_path / "notes.pdf").touch()
    found, left_out = names(tmp_path)
    assert found == {}
    assert left_out == [
        "Anna.zip: archives are not unpacked; unpack it into a folder first",
        "notes.pdf: neither a folder nor a file *.ipynb, left out",
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_links_that_lead_out_are_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.ipynb").touch()
    folder = tmp_path / "class"
    (folder / "Ben").mkdir(parents=True)
    (folder / "Anna").symlink_to(tmp_path / "secret")
    (folder / "Ben" / "b.ipynb").symlink_to(tmp_path / "secret" / "a.ipynb")
    (folder / "Ben" / "c").symlink_to(tmp_path / "secret")
    found, (line,) = names(folder)
    assert found == {"Ben": []}
    assert line == "Anna: a link that leads out of the folder is not followed"


@pytest.mark.skipif(os.name == "nt", reason="there such names are not allowed")
def test_names_of_folders_can_be_printed(tmp_path):
    for name in (b"An\x1b[31mna\n", b"\xff\xfe", "‮evil".encode(), b"x" * 200):
        (tmp_path / os.fsdecode(name)).mkdir()
    found, _ = names(tmp_path)
    assert len(found) == 4
    assert all(name.isprintable() and len(name) <= 100 for name in found)


def test_a_folder_with_too_many_files_ends_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(handed_in, "MOST_FILES", 5)
    (tmp_path / "Anna").mkdir()
    for number in range(9):
        (tmp_path / "Anna" / f"{number}.ipynb").touch()
    assert len(names(tmp_path)[0]["Anna"]) == 5


@pytest.mark.parametrize(
    "notebook",
    [
        {"nbformat": 4, "cells": [{"cell_type": "markdown", "source": "x"}, CELL]},
        {"nbformat": 5, "new": {}, "cells": [{**CELL, "source": "a = 1\nb = 2"}]},
        {
            "nbformat": 3,
            "worksheets": [{"cells": [{"cell_type": "code", "input": "a = 1\nb = 2"}]}],
        },
        {"cells": [CELL]},
    ],
)
def test_all_versions_of_notebooks_are_read(tmp_path, notebook):
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert code_cells(tmp_path / "a.ipynb") == ["a = 1\nb = 2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00", "not written in UTF-8"),
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"<<<<<<< HEAD", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"9" * 10_000, "no JSON"),
        (b"[]", "no notebook"),
        (b"null", "no notebook"),
        (b'{"cells": 3}', "no notebook"),
        (b'{"cells": ["x"]}', "no notebook"),
        (b'{"cells": [{"cell_type": "code"}]}', "no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": [3]}]}', "no notebook"),
        (b'{"worksheets": [3]}', "no notebook"),
    ],
)
def test_what_is_no_notebook_is_a_reason(tmp_path, content, reason):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        code_cells(tmp_path / "a.ipynb")


def test_a_mark_at_the_start_of_a_file_is_no_fault(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "a.json") == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_huge_files_and_pipes_are_not_opened(tmp_path):
    with (tmp_path / "a.ipynb").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match="1,000 MB; more than 20 MB"):
        code_cells(tmp_path / "a.ipynb")
    os.mkfifo(tmp_path / "b.ipynb")
    with pytest.raises(ValueError, match="no ordinary file"):
        code_cells(tmp_path / "b.ipynb")


def test_a_text_becomes_one_line():
    assert plain("a\n\tb\x00\x1b[1m c") == "a b [1m c"
    assert plain("x" * 10**6, 10) == "x" * 9 + "…"
    assert plain("\ud800é") == "?é"
