"""What readers and nbval rely on: one clean run, no widget state, checked numbers, short cells."""

import base64
import html
import json
import re
import symtable
from pathlib import Path

import pytest
from scripts import load

times = load("tools/times.py")
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
    """Nor a view of a widget: without a kernel it would hide the words that stand beside it."""
    assert set(notebook["metadata"]) == {"kernelspec"}
    for cell in code_cells(notebook):
        assert not [output for output in cell["outputs"] if "widget" in str(output.get("data"))]


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


LINES = 2072
"""Lines of code, blank ones aside, in the notebooks of commit b1ce0d1, where all were in sight."""
LATER = ("11_", "12_")
"""What the notebooks that came later begin with."""
MOST_LINES = 150
"""In sight in one notebook."""
NEVER_HIDDEN = (
    r"Prediction\(", r"\.reveal\(", r"^check\(", r"^solution\(", r"^my_\w+ = ", r"\bKnobs\(",
    r"\bExplorer\(", r"^(cockpit|explorer|museum|knobs)$", r"^seeds = ", r"^(def|class) ",
)  # fmt: skip
"""What students answer, change or must understand: the lists of 07 that take more seeds, too."""


def source(cell):
    return "".join(cell["source"])


def hidden(cell):
    """Is the code collapsed in JupyterLab? Pages on the web show it all the same."""
    return cell["metadata"].get("jupyter", {}).get("source_hidden", False)


def lines_in_sight(cells):
    shown = [cell for cell in cells if cell["cell_type"] == "code" and not hidden(cell)]
    return len([line for c in shown for line in source(c).splitlines() if line.strip()])


def test_little_code_is_in_sight():
    """What only plots, prints, checks or holds words for a picture is collapsed. What is for the
    curious is folded with its heading."""
    notebooks = {path.stem: json.loads(path.read_text("utf-8"))["cells"] for path in NOTEBOOKS}
    seen = {stem: lines_in_sight(times.for_everybody(c)) for stem, c in notebooks.items()}
    assert max(seen.values()) <= MOST_LINES
    assert sum(n for stem, n in seen.items() if not stem.startswith(LATER)) <= 0.55 * LINES


def test_what_students_read_and_write_is_in_sight(notebook):
    for cell in filter(hidden, code_cells(notebook)):
        assert "exercise" not in cell["metadata"].get("tags", [])
        for pattern in NEVER_HIDDEN:
            assert not re.search(pattern, source(cell), re.M), source(cell)


def test_a_collapsed_cell_says_what_it_does(notebook):
    """JupyterLab shows its first line on the bar. Its outputs stay in sight."""
    for cell in filter(hidden, code_cells(notebook)):
        assert re.match(r"# [A-Z].{10,90}\.\n", source(cell)), source(cell)
        assert cell["metadata"]["jupyter"] == {"source_hidden": True}


def test_words_for_pictures_are_collapsed(notebook):
    for cell in code_cells(notebook):
        pictures = [o for o in cell["outputs"] if "image/png" in o.get("data", {})]
        # The still picture of a widget describes itself.
        assert hidden(cell) or not pictures or "Explorer(" in source(cell), source(cell)


def names(cell):
    """The global names that a cell reads, in its functions too, and those that it sets."""
    module = symtable.symtable(source(cell), "cell", "exec")
    scopes = [module]
    for scope in scopes:
        scopes += scope.get_children()
    inner = {s.get_name() for scope in scopes[1:] for s in scope.get_symbols() if s.is_global()}
    outer = {s.get_name() for s in module.get_symbols() if s.is_referenced()}
    return inner | outer, {s.get_name() for s in module.get_symbols() if s.is_assigned()}


def test_what_is_in_sight_can_be_understood_without_what_is_not(notebook):
    """No open cell uses what only a collapsed one has defined."""
    set_in = {}
    for cell in code_cells(notebook):
        reads, sets = names(cell)
        if not hidden(cell):
            assert not {name for name in reads - sets if hidden(set_in.get(name, cell))}, source(
                cell
            )
        set_in |= dict.fromkeys(sets, cell)


def test_pictures_have_words(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert output["metadata"]["image/png"]["alt"]


MOST_BYTES = 700_000
LEAST_PX = 11
"""Of any text in a figure, where a cell of JupyterLab is 850 px wide."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_enough_to_be_loaded_over_a_telephone(path):
    assert path.stat().st_size <= MOST_BYTES


def drawings(notebook):
    """The SVGs of a notebook with the width that each is shown in."""
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            shown = "".join(output.get("data", {}).get("text/html", ""))
            for width, svg in re.findall(
                r'width="(\d+)" src="data:image/svg\+xml;base64,([^"]+)"', shown
            ):
                yield int(width), base64.b64decode(svg).decode()


def test_figures_follow_the_theme_and_can_be_read(notebook):
    for width, svg in drawings(notebook):
        assert "prefers-color-scheme:dark" in svg
        unit = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        sizes = {float(x) for x in re.findall(r"font(?:-size)?: [^;\"]*?([\d.]+)px", svg)}
        scale = min(width, 850) / unit
        assert min(sizes, default=LEAST_PX / scale) * scale >= LEAST_PX - 0.05, sizes


def test_a_figure_is_shown_in_both_ways(notebook):
    """For pages that show no HTML there is a PNG, and both say the same words."""
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                words = output["metadata"]["image/png"]["alt"]
                assert f'alt="{html.escape(words)}"' in "".join(output["data"]["text/html"])


def test_every_stub_says_not_done_yet(notebook):
    """The committed notebook is the student's: no solution in it, and running all is no error."""
    cells = code_cells(notebook)
    stubs = [c for c in cells if "exercise" in c["metadata"].get("tags", [])]
    checks = [c for c in cells if "".join(c["source"]).startswith("check(")]
    assert len(checks) == len(stubs)
    for cell in checks:
        assert "Not done yet" in json.dumps(cell["outputs"])


LESSONS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
README = (NOTEBOOKS[0].parent.parent / "README.md").read_text(encoding="utf-8")


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_what_students_and_teachers_look_for(path):
    text = prose(path)
    for part in ("**You will see**", "**You need**", "**Afterwards you can answer**", "# Summary"):
        assert part in text
    assert "**Exit question.**" in text
    assert ("## Before you start" in text) == (path.stem != "00_start_here")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_readme_has_it_with_its_minutes(path):
    row = next(line for line in README.splitlines() if f"(notebooks/{path.name})" in line)
    minutes = re.search(r"\*\*(\d+) minutes", prose(path))[1]
    assert re.search(rf"\| {minutes}\b", row)


def guesses(path):
    source = path.read_text(encoding="utf-8")
    return re.findall(r"Prediction\(\s*(?:\\n\",\s*\" *)?\\\"(\w+)", source)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_guesses_are_named_after_their_notebook(path):
    names = guesses(path)
    assert names
    assert all(name.startswith(path.stem[:2]) for name in names)
    variables = re.findall(r"\"(\w+) = Prediction\(", path.read_text(encoding="utf-8"))
    assert len(set(variables)) == len(variables)  # or an earlier cell reveals a later question
    assert len(set(names)) == len(names)


def test_knobs_of_eta_and_beta_run_from_small_to_large(notebook):
    """As the sliders of the explorer and the cockpit do: a longer leash is always on the left."""
    for cell in code_cells(notebook):
        for values in re.findall(r"\b(?:eta|beta|coefficient)=(\[[^\]]*\]|[^,)]*)", source(cell)):
            if "Knobs(" in source(cell) and values[:1] in "[s":
                numbers = [] if values.startswith("sorted(") else json.loads(values)
                assert numbers == sorted(numbers)
