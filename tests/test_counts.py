"""The numbers in README and docs are counted: format writes them, check fails where one is old."""

import shutil

import pytest
from scripts import ROOT, load

counts = load("tools/counts.py")
FILES = ["README.md", "docs/mistakes.md", "docs/performance.md"]


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    counts.main([], tmp_path)
    return tmp_path


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("README.md", " exercises", "1 exercises"),
        ("README.md", " wrong answers by", "1 wrong answers by"),
        ("README.md", " mistakes](docs", "1 mistakes](docs"),
        ("README.md", " Jupyter notebooks", "1 Jupyter notebooks"),
        ("docs/performance.md", " notebooks,", "1 notebooks,"),
        ("docs/mistakes.md", " mistakes,", "1 mistakes,"),
        ("docs/mistakes.md", "`measure`: weighted by π_ref; ", ""),
        ("docs/mistakes.md", "`measure`: weighted by π_ref", "`measure`: weighed by π_ref"),
    ],
)
def test_what_is_out_of_date_is_named_and_written(file, old, new, repository, capsys):
    right = (repository / file).read_text(encoding="utf-8")
    replace(repository / file, old, new)
    stale = (repository / file).read_text(encoding="utf-8")
    assert counts.main(["--check"], repository) == 1
    assert file.rpartition("/")[2] in capsys.readouterr().err
    assert (repository / file).read_text(encoding="utf-8") == stale
    assert counts.main([], repository) == 0
    assert (repository / file).read_text(encoding="utf-8") == right
    assert counts.main(["--check"], repository) == 0


def test_another_notebook_is_counted(repository):
    before = len(list((repository / "notebooks").glob("*.ipynb")))
    (repository / "notebooks" / "11_new.ipynb").touch()
    assert counts.main([], repository) == 0
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert f"{before + 1} Jupyter notebooks" in readme


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("docs/mistakes.md", "| 28 |", "| 99 |", "lacks row 28, for '"),
        ("docs/mistakes.md", "| 31 |", "| 99 | x | x | x | x |\n| 31 |", "mistake of rows [99]"),
        ("README.md", " Jupyter notebooks", " notebooks", "README.md has no number"),
    ],
)
def test_what_no_longer_fits_is_an_error(file, old, new, message, repository, capsys):
    replace(repository / file, old, new)
    spoilt = (repository / file).read_text(encoding="utf-8")
    assert counts.main([], repository) == 1
    assert message in capsys.readouterr().err
    assert (repository / file).read_text(encoding="utf-8") == spoilt
