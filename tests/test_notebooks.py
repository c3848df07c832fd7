"""What readers and nbval rely on: one clean run, no widget state, checked numbers, short cells."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_outputs_are_those_of_one_clean_run(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_widget_state_is_kept(notebook):
    assert set(notebook["metadata"]) == {"kernelspec"}


def test_every_printed_number_is_compared_in_the_students_tests_too(notebook):
    """nbval-lax compares only cells that ask for it. A tag asks, where a comment
    (`NBVAL_CHECK_OUTPUT`) would stand in the way of a reader."""
    for cell in code_cells(notebook):
        printed = "".join(
            "".join(output["text"])
            for output in cell["outputs"]
            if output["output_type"] == "stream"
        )
        if re.search(r"\d", printed):
            assert "nbval-check-output" in cell["metadata"].get("tags", []), printed


def test_no_cell_printed_to_stderr(notebook):
    for cell in code_cells(notebook):
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"]


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        assert len("".join(cell["source"]).splitlines()) <= 15


def test_pictures_have_words(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert output["metadata"]["image/png"]["alt"]


def test_every_stub_says_not_done_yet(notebook):
    """The committed notebook is the student's: no solution in it, and running all is no error."""
    cells = code_cells(notebook)
    stubs = [c for c in cells if "exercise" in c["metadata"].get("tags", [])]
    checks = [c for c in cells if "".join(c["source"]).startswith("check(")]
    assert len(checks) == len(stubs)
    for cell in checks:
        assert "Not done yet" in json.dumps(cell["outputs"])
