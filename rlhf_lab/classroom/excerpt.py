"""What the check of an exercise needs of a notebook, found by its syntax: no other cell is run."""

import ast
import re
import symtable
from collections.abc import Sequence
from typing import NamedTuple

NO_PYTHON = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)  # IPython's magic
DEFINES = r"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+{0}\b"
CHECKS = r"^[ \t]*check\([ \t]*(?:{0}\b|.*[\"']{0}[\"'])"
ASSIGNS = r"^[ \t]*{0}[ \t]*(?::[^=\n]+)?=[^=]"
FUNCTIONS = (ast.Lambda, ast.Name, ast.Attribute)
"""What may stand for a function behind `=`."""


class Statement(NamedTuple):
    """A statement at the top of a cell."""

    node: ast.stmt
    source: str
    binds: frozenset[str]
    """Names that it gives a value."""
    reads: frozenset[str]
    """Names that it looks up, now or when what it defines is called."""


def holds(cells: Sequence[str], name: str, pattern: str = CHECKS) -> bool:
    """Does a notebook check an exercise, or define its name? Reads words only, so it is quick."""
    word = re.compile(pattern.format(re.escape(name)), re.MULTILINE)
    return any(map(word.search, cells))


def with_attempt(notebooks: Sequence[list[str]], name: str) -> list[list[str]]:
    """The notebooks that may hold an attempt at an exercise.

    Other notebooks use its name, too, for a helper or a result. So where it is defined counts only
    if none checks it, and where it is assigned, if none defines it.
    """
    for pattern in (CHECKS, DEFINES, ASSIGNS):
        if found := [cells for cells in notebooks if holds(cells, name, pattern)]:
            return found
    return []


def broken(cell: str, name: str) -> SyntaxError | None:
    """The error of a cell that would define `name` if it were Python."""
    if holds([cell], name, f"{DEFINES}|{ASSIGNS}"):
        try:
            _parse(cell)
        except SyntaxError as error:
            return error
    return None


def statements(cells: Sequence[str]) -> list[Statement]:
    """All statements of a notebook in order; a cell that is no Python counts for nothing."""
    found = []
    for cell in cells:
        try:
            text, tree = _parse(cell)
            found += [_statement(text, node) for node in tree.body]
        except SyntaxError:
            continue
    return found


def attempts(found: Sequence[Statement], name: str, function: bool) -> list[int]:
    """Positions of what may be the attempt, the likeliest first: the last `def`, the last `=`.

    If a function is wanted, `=` must give it one: later cells use its name for its result.
    """
    here = [i for i, s in enumerate(found) if name in s.binds and not _is_import(s.node)]
    values = [i for i in here if isinstance(found[i].node, ast.Assign | ast.AnnAssign)]
    functions = [i for i in here if i not in values]
    if function:
        values = [i for i in values if isinstance(_value(found[i].node), FUNCTIONS)]
    return [part[-1] for part in (functions, values) if part]


def other_name(found: Sequence[Statement], name: str) -> str | None:
    """What the notebook gives the check of this exercise, if that has another name."""
    for statement in reversed(found):
        match statement.node:
            case ast.Expr(ast.Call(ast.Name("check"), [ast.Name(given), ast.Constant(asked)])) if (
                asked == name != given
            ):
                return str(given)
    return None


def excerpt(found: Sequence[Statement], position: int) -> str:
    """The source of a statement and of all that it depends on, in the order of the notebook."""
    needed, waiting = set(), [position]
    while waiting:
        here = waiting.pop()
        if here in needed:
            continue
        needed.add(here)
        for name in found[here].reads:
            source = _source(found, name, here)
            waiting += [] if source is None else [source]
    stars = {i for i, s in enumerate(found) if "*" in s.binds and i < position}
    return "\n".join(found[i].source for i in sorted(needed | stars))


def _source(found: Sequence[Statement], name: str, here: int) -> int | None:
    """Which statement gives a name its value for the one at `here`: the last before, or a later."""
    if name in found[here].binds and isinstance(found[here].node, ast.FunctionDef | ast.ClassDef):
        return here
    before = [i for i in range(here) if name in found[i].binds]
    after = [i for i in range(here + 1, len(found)) if name in found[i].binds]
    return before[-1] if before else after[0] if after else None


def _parse(cell: str) -> tuple[str, ast.Module]:
    """A cell's text and tree; lines of magic are left out, if it is no Python with them.

    Raises:
        SyntaxError: it is no Python; or it is nested so deeply that none can read it.
    """
    try:
        try:
            return cell, ast.parse(cell)
        except SyntaxError:
            text = NO_PYTHON.sub(r"\1pass", cell)
            if text == cell:
                raise
            return text, ast.parse(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error)) from None


def _value(node: ast.stmt) -> ast.expr | None:
    return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _statement(cell: str, node: ast.stmt) -> Statement:
    source = ast.get_source_segment(cell, node) or ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        marks = [ast.get_source_segment(cell, mark) for mark in node.decorator_list]
        source = "\n".join([*(f"@{mark}" for mark in marks), source])
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        return Statement(node, source, frozenset("*"), frozenset())
    top = symtable.symtable(source, "cell", "exec")
    binds = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    reads = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        reads.add(node.target.id)
    inner = top.get_children()
    while inner:
        table = inner.pop()
        inner += table.get_children()
        reads |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return Statement(node, source, frozenset(binds), frozenset(reads))
