"""What the check of an exercise needs is found, wherever it stands, and nothing else is run."""

import json
import re

import pytest
from scripts import ROOT

from rlhf_lab.classroom import excerpt
from rlhf_lab.classroom.handed_in import code_cells
from rlhf_lab.exercises import EXERCISES
from rlhf_lab.exercises.exercise import Exercise


def of(cells: list[str], name: str, function: bool = True) -> str:
    found = excerpt.statements(cells)
    return excerpt.excerpt(found, excerpt.attempts(found, name, function)[0])


def test_imports_helpers_and_constants_come_along_and_no_experiment_does():
    cells = [
        "import torch\nimport math\nfrom a import b as used, unused\nworld = load_world()",
        "for step in range(10**9):\n    world.train()\nprint(world)",
        "TWO = 2\ndef helper(x):\n    return TWO * used(x)",
        "def f(x, step=math.pi):\n    world = 1\n    return torch.exp(helper(x)) + world",
    ]
    assert of(cells, "f").splitlines() == [
        "import torch", "import math", "from a import b as used, unused", "TWO = 2",
        "def helper(x):", "    return TWO * used(x)",
        "def f(x, step=math.pi):", "    world = 1", "    return torch.exp(helper(x)) + world",
    ]  # fmt: skip


def test_the_last_value_before_counts_and_a_later_one_if_there_is_none():
    cells = ["a = 1", "a = 2; b = 1", "def f():\n    return a + c", "a = 3\nc = 4"]
    assert of(cells, "f") == "a = 2\ndef f():\n    return a + c\nc = 4"


def test_a_value_that_is_built_up_brings_all_its_steps():
    assert of(["a = 1", "a += 1", "a = a * 2", "f = lambda: a"], "f").startswith("a = 1\na += 1\na")


def test_functions_that_call_themselves_or_each_other():
    cells = ["def g(n):\n    return f(n - 1)", "def f(n):\n    return n and f(n - 1) + g(n)"]
    assert of(cells, "f") == "\n".join(cells)


def test_decorators_star_imports_classes_and_comprehensions():
    cells = [
        "from torch import *",
        "import functools\nN = 3\nclass Part:\n    size = N",
        "@functools.cache\ndef f():\n    return [Part.size for _ in range(N)]",
    ]
    assert of(cells, "f") == "\n".join(cells)


def test_magic_lines_and_broken_cells_cost_nobody_else():
    cells = [
        "%matplotlib inline\n!ls\nimport torch",
        "%%time\nx = 1",
        "if (",
        "\0",
        "f = lambda: x",
    ]
    assert of(cells, "f") == "x = 1\nf = lambda: x"
    assert of(["a = (7\n% 4)", "f = lambda: a"], "f") == "a = (7\n% 4)\nf = lambda: a"


@pytest.mark.parametrize(
    "bomb", ["(" * 10_000, "-" * 200_000 + "1", "a." * 100_000 + "a", "x = " + "[" * 5_000]
)
def test_source_that_no_parser_can_read_is_a_broken_cell(bomb):
    assert of([bomb, "f = lambda: 1"], "f") == "f = lambda: 1"


def test_a_definition_goes_before_results_that_take_its_name():
    cells = ["def k3(d):\n    return d", "k3 = k3(2)", "k3 = [1, 2]"]
    assert of(cells, "k3").startswith("def k3")
    found = excerpt.statements(cells)
    assert len(excerpt.attempts(found, "k3", True)) == 1


def test_a_function_may_be_assigned_and_a_letter_must_be():
    assert of(["f = lambda x: x"], "f") == "f = lambda x: x"
    assert of(["f: str = 'a'", "f = 'b'"], "f", False) == "f = 'b'"
    found = excerpt.statements(["from rlhf_lab.kl import k3", "k3 = 3"])
    assert excerpt.attempts(found, "k3", True) == []


def test_a_check_under_another_name_is_found():
    found = excerpt.statements(["check(mine, 'k3')", "check(k3)"])
    assert excerpt.other_name(found, "k3") == "mine"
    assert excerpt.other_name(found, "response_kl") is None


def test_a_cell_that_would_define_it_says_what_is_wrong():
    assert "'('" in str(excerpt.broken("def k3(d:\n    return d", "k3"))
    assert excerpt.broken("x = (", "k3") is None
    assert excerpt.broken("k3 = 1", "k3") is None


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")), ids=str)
def test_every_exercise_of_the_course_is_found_where_it_stands(path):
    """The stub is found by its name alone, without tags, and in its own notebook alone."""
    cells = code_cells(path)
    found = excerpt.statements(cells)
    tagged = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if "exercise" in cell["metadata"].get("tags", [])
    ]
    stubs = {re.search(r"^(?:def )?(\w+)(?:\(| = )", stub, re.M)[1]: stub for stub in tagged}
    assert {name for name in EXERCISES if excerpt.holds(cells, name)} == set(stubs)
    for name, stub in stubs.items():
        first = excerpt.attempts(found, name, isinstance(EXERCISES[name], Exercise))[0]
        assert found[first].source in stub
        assert "load_world" not in excerpt.excerpt(found, first)
