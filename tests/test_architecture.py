"""The layers hold: who may import whom, and what the package never does, read from its source."""

import ast
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rlhf_lab

PACKAGE = Path(rlhf_lab.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

# What each module may import of the package, low layers first. `grids`, `ui`, `lessons` and
# `exercises` stand for the folders. The six words are those of the README's table.
MAY_IMPORT = {
    "_require": "",
    "_checks": "_require",
    "files": "",
    "interrupts": "",
    "memory": "",
    "translation": "",
    "command_line": "translation",
    # mathematics
    "masking": "_checks _require",
    "kl": "_checks",
    "entropies": "_checks masking kl",
    "rewards": "_checks _require masking kl",
    "ppo": "_checks masking kl",
    "collapse": "_checks masking kl",
    "groups": "_checks _require kl",
    "aggregation": "_checks masking",
    "ratios": "_checks _require",
    "group_loss": "_checks _require aggregation ratios",
    "dpo": "_checks",
    # exact
    "exact": "_checks _require",
    "gradients": "_checks exact kl",
    "best_of_n": "_checks _require exact",
    "group_updates": "_checks _require exact gradients",
    "binary_groups": "_checks group_updates",
    "flow": "_checks exact gradients",
    "preferences": "_checks _require dpo",
    "population_dpo": "_checks adam dpo preferences progress",
    # model
    "unembed": "_checks",
    "gpt2": "_checks _require files unembed",
    "sampling": "_checks _require gpt2 masking unembed",
    "tree": "_checks _require gpt2",
    "pretrain": "_checks _require gpt2 masking",
    # review world
    "language": "_checks _require",
    "table_cache": "files",
    "world": "_checks _require exact files gpt2 language pretrain sampling table_cache tree",
    # training
    "adam": "_checks _require",
    "config": "_checks _require aggregation kl ratios rewards",
    "rollout": "_checks _require collapse config gpt2 kl masking ppo rewards sampling",
    "stepper": "_checks _require adam config gpt2 interrupts progress rewards rollout",
    "trainer": "_checks collapse config entropies masking ppo rollout stepper unembed",
    "group_trainer": "_checks collapse config entropies group_loss groups kl masking ratios "
    "rewards rollout sampling stepper unembed",
    "run_files": "gpt2 trainer",
    "runs": "config files interrupts rollout run_files trainer translation",
    "report": "_checks _require collapse exact gpt2 language rollout world",
    # grids
    "grids": "_checks _require adam collapse config files gpt2 kl masking ppo progress report "
    "rollout sampling trainer unembed world",
    # what stands on top
    "doctor": "table_cache translation world",
    "progress": "translation",
    "theme": "translation",
    "labels": "translation",
    "loop_drawing": "theme translation",
    "plots": "labels translation",
    "svg": "labels theme translation",
    "__init__": "aggregation collapse config dpo entropies gpt2 group_loss group_trainer groups kl "
    "masking memory ppo progress rewards rollout sampling trainer world",
    "ui": "_require collapse config entropies exact files gpt2 gradients kl labels language "
    "lessons masking plots ppo progress report rewards rollout runs sampling svg theme trainer "
    "translation tree world",
    "lessons": "_checks adam aggregation best_of_n binary_groups collapse config dpo entropies "
    "exact files flow gpt2 gradients grids group_loss group_trainer group_updates groups kl "
    "language masking plots ppo preferences pretrain progress report rewards rollout runs sampling "
    "theme trainer translation tree world",
    "exercises": "aggregation best_of_n collapse config dpo entropies exact gpt2 gradients groups "
    "kl language lessons masking ppo pretrain report rewards rollout sampling trainer "
    "translation tree world",
    "classroom": "__init__ command_line exercises files lessons plots translation ui",
    "__main__": "command_line config doctor grids interrupts report runs trainer translation world",
}
BASICS = {"torch", "safetensors", "filelock", *sys.stdlib_module_names}
ALSO = {
    "labels": {"matplotlib"},
    "plots": {"matplotlib", "numpy"},
    "svg": {"matplotlib"},
    "progress": {"IPython"},
    "ui": {"anywidget", "matplotlib", "numpy", "ipywidgets", "IPython", "PIL", "traitlets"},
    "lessons": {"matplotlib", "numpy"},
    "classroom": {"matplotlib", "mistune", "text2qti"},
    "__main__": {"tqdm"},
}
"""What may be imported besides BASICS, and by whom: the rest must run without a screen."""

MAX_LINES, MAX_BODY = 250, 40
LONG = {
    "_checks": "one decorator, and every word that it knows",
    "world": "a world whole: its tables, its files, and how it is made",
    "gpt2": "the whole model in one sitting",
    "exact": "one tree in one notation; half of its lines are formulas in docstrings",
    "grids.ensemble": "the trainer again, part by part, for many runs at once",
    "doctor": "all that can be wrong with a set-up, one thing after the other",
    "runs": "all that can happen to a run folder, from its creation to its repair",
}
"""Modules that may be longer, each with its reason."""
LONG_FOLDERS = {
    "exercises": "one module for each notebook, and most of it is text for students",
    "lessons": "one module for the experiments and figures of each notebook",
    "ui": "one module for each widget, with its layout and its words",
}
"""Folders without a limit: their modules are split by subject. The limit for functions holds."""
GLOBAL_SEEDS = {"manual_seed", "manual_seed_all", "seed", "set_rng_state"}
RANDOM = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal_", "uniform_"}
FORBIDDEN = {"torch.save", "torch.load", "eval", "exec", "breakpoint"}
MAY_EXEC = "classroom.sandbox"
"""Running students' code is all that this process is for."""


def layer(module: str) -> str:
    return module.split(".")[0]


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Everything that a module imports, in functions too, as (dotted name, line)."""
    package = ("rlhf_lab", *module.split("."))[:-1] if module != "__init__" else ("rlhf_lab",)
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level]] if node.level else []
            base += [node.module] if node.module else []
            yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The layers of the package that a module uses; its own folder does not count."""
    found = set()
    for name, _ in imports(module):
        root, *rest = name.split(".")
        if root == "rlhf_lab":
            known = rest and (rest[0] in MODULES or (PACKAGE / rest[0]).is_dir())
            found.add(rest[0] if known else "__init__")
    return found - ({layer(module)} if "." in module else set())


def dotted(node: ast.expr) -> str:
    """ "torch.cuda.manual_seed" of such an expression, "" of any other."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if dotted(value):
            return f"{dotted(value)}.{attribute}"
        case _:
            return ""


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module):
    """A new module needs a line in the table: decide where it stands before it grows."""
    assert layer(module) in MAY_IMPORT, f"{module} has no place in MAY_IMPORT yet"
    assert own_imports(module) <= set(MAY_IMPORT[layer(module)].split())


def test_the_table_itself_has_no_circle():
    graph = {name: allowed.split() for name, allowed in MAY_IMPORT.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("__main__") > order.index("trainer") > order.index("_checks")
    assert {name for names in graph.values() for name in names} <= set(graph)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_needs_only_the_packages_of_its_layer(module):
    allowed = BASICS | ALSO.get(layer(module), set()) | {"rlhf_lab"}
    assert {name.split(".")[0] for name, _ in imports(module)} <= allowed


def test_importing_the_package_loads_no_plots_and_no_widgets():
    """On a server without a display, in a worker process, in an exam: it must cost little."""
    heavy = {"anywidget", "matplotlib", "ipywidgets", "IPython", "transformers"}
    code = f"import sys, rlhf_lab; print(*sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, cwd=PACKAGE.parent, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "", "")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_seeds_prints_asserts_or_pickles(module):
    """`assert` vanishes under `python -O`; a pickle runs whatever its author wrote into it."""
    assert not [n.lineno for n in ast.walk(TREES[module]) if isinstance(n, ast.Assert)]
    pickles = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert not pickles & {name.split(".")[0] for name, _ in imports(module)}
    for name, node in calls(module):
        may = name == "exec" and module == MAY_EXEC
        assert name not in FORBIDDEN or may, f"{name} in line {node.lineno}"
        assert name != "print" or module.endswith("__main__"), f"print in line {node.lineno}"
        root, _, last = name.rpartition(".")
        # torch.Generator().manual_seed is a method of a new object: it has no dotted name.
        assert not (last in GLOBAL_SEEDS and root.split(".")[0] in {"torch", "random", "np"}), (
            f"{name} in line {node.lineno} seeds for everyone"
        )
        if last in RANDOM and root.split(".")[0] in {"torch", "nn", "np", "random"}:
            given = {keyword.arg for keyword in node.keywords}
            assert "generator" in given, f"{name} in line {node.lineno} has no generator"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first statement behind the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_too_long_to_read(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    if layer(module) not in LONG_FOLDERS:
        assert (lines > MAX_LINES) == (module in LONG), f"{lines} lines: see LONG"
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= MAX_BODY, f"{node.name}: {body_lines(node)} lines"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("name", rlhf_lab.__all__)
def test_every_public_name_exists_and_is_documented(name):
    """NamedTuples and dataclasses write themselves a docstring, "Rewards(rewards, …)"."""
    thing = getattr(rlhf_lab, name)
    if typing.get_origin(thing) is None:  # an alias such as KLMode cannot have a docstring
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", MODULES)
def test_no_name_hides_a_module(module):
    """After `import rlhf_lab`, `import rlhf_lab.kl as x` must give the module, never a function."""
    package, _, name = module.removesuffix(".__init__").rpartition(".")
    if name != "__init__":
        home = importlib.import_module(".".join(filter(None, ["rlhf_lab", package])))
        importlib.import_module(f"{home.__name__}.{name}")
        assert inspect.ismodule(getattr(home, name))


def test_all_names_every_import_of_the_package():
    names = [name.split(".") for name, _ in imports("__init__")]
    imported = {name[-1] for name in names if name[0] == "rlhf_lab"}
    imported -= {"give_back_after_cells", "show_progress"}  # called, not offered
    assert imported == set(rlhf_lab.__all__)
    assert len(rlhf_lab.__all__) == len(imported)
