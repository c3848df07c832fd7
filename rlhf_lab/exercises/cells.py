"""Remember, in a notebook, whether the newest cell that should set a name has failed.

Without this a check judges what the name held before: the answer of yesterday.
"""

import ast
import re
import sys
from typing import Any

_MISSING = object()


class Cells:
    """Which names an older cell has set because the newest one failed."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._before: dict[str, object] = {}
        self._failed: dict[str, str] = {}
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def failure(self, name: str) -> str:
        """The kind of error that stopped the newest cell for this name, or ""."""
        return self._failed.get(name, "")

    def _begin(self, info: Any) -> None:
        namespace = self._shell.user_ns
        self._before = {x: namespace.get(x, _MISSING) for x in assigned(info.raw_cell or "")}

    def _end(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        for name, before in self._before.items():
            self._failed.pop(name, None)
            if error is not None and self._shell.user_ns.get(name, _MISSING) is before:
                self._failed[name] = type(error).__name__


def assigned(source: str) -> set[str]:
    """The names that a cell defines or assigns at its left margin."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set(re.findall(r"^(?:def\s+)?(\w+)\s*(?:\(|=[^=])", source, re.M))
    found = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return found | {target.id for target in targets if isinstance(target, ast.Name)}


def watch() -> Cells | None:
    """Begin to watch the cells of the notebook; None outside of one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return Cells(shell) if shell is not None else None
