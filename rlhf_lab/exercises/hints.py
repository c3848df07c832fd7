"""More help, the more often an attempt fails for a reason that no check knows."""

import ast
import inspect
import textwrap

from rlhf_lab.exercises.exercise import Exercise
from rlhf_lab.translation import tr

BLANK = "____"


def more_help(exercise: Exercise, failures: int) -> str:
    """What to add after so many failures without a name; "" before the third."""
    if failures < 3:
        return ""
    if failures == 3:
        named = ", ".join(words(exercise))
        return tr("One hint more: the package's own solution uses {words}.", words=named)
    if failures == 4:
        code = textwrap.indent(with_blanks(exercise), "    ")
        return tr("The package's own, with blanks for you to fill:") + f"\n{code}"
    return tr('solution("{name}") in a new cell shows the package\'s own.', name=exercise.name)


def words(exercise: Exercise) -> list[str]:
    """The functions and methods that a solution calls, in order."""
    nodes = [node for tree in _trees(exercise) for node in ast.walk(tree)]
    calls = [_unchecked(node.func) for node in nodes if isinstance(node, ast.Call)]
    named = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls]
    hidden = {"unchecked", "ValueError", "", exercise.reference.__name__}
    return [word for word in dict.fromkeys(named) if word not in hidden and word[0].islower()]


def with_blanks(exercise: Exercise) -> str:
    """The source of a solution in which each step lacks something.

    Within a call, what is computed for it is blank; an operation without a call lacks its right
    half; and where that leaves a step whole, the last argument of its first call is blank.
    """
    return "\n\n".join(
        ast.unparse(ast.fix_missing_locations(_Blanks().visit(tree))) for tree in _trees(exercise)
    )


def _trees(exercise: Exercise) -> list[ast.FunctionDef]:
    """The functions of a solution without decorators, annotations, docstrings and refusals."""
    shown = (exercise.simple,) if exercise.simple else (exercise.reference, *exercise.helpers)
    trees = []
    for function in shown:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
        if isinstance(tree, ast.FunctionDef):
            tree.decorator_list, tree.returns = [], None
            for argument in (*tree.args.args, *tree.args.kwonlyargs):
                argument.annotation = None
            tree.body = [node for node in tree.body if not _is_aside(node)]
            trees.append(tree)
    trees[0].name = exercise.name
    return trees


def _is_aside(node: ast.stmt) -> bool:
    """Is it a docstring, or the refusal of a bad input?"""
    refuses = isinstance(node, ast.If) and any(isinstance(n, ast.Raise) for n in node.body)
    return isinstance(node, ast.Expr) or refuses


def _unchecked(node: ast.expr) -> ast.expr:
    """`f` for `unchecked(f)`."""
    inner = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "unchecked"
    return node.args[0] if isinstance(node, ast.Call) and inner else node


class _Blanks(ast.NodeTransformer):
    """Replaces parts of a function by blanks."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        node.value = self._step(node.value)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        node.value = self._step(node.value) if node.value else None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.func = _unchecked(node.func)
        node.args = [self._blank(x) for x in node.args]
        for keyword in node.keywords:
            keyword.value = self._blank(keyword.value)
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") != "torch":
            node.func.value = self._blank(node.func.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if any(isinstance(n, ast.Call) for n in ast.walk(node)):
            return self.generic_visit(node)
        node.right = ast.Name(BLANK)
        return node

    def _step(self, value: ast.expr) -> ast.expr:
        changed: ast.expr = self.visit(value)
        calls = [n for n in ast.walk(changed) if isinstance(n, ast.Call) and n.args]
        if calls and BLANK not in ast.unparse(changed):
            calls[0].args[-1] = ast.Name(BLANK)
        return changed

    def _blank(self, node: ast.expr) -> ast.expr:
        whole = ast.BinOp | ast.UnaryOp | ast.Compare | ast.Subscript
        if isinstance(node, whole) and not any(isinstance(n, ast.Call) for n in ast.walk(node)):
            return ast.Name(BLANK)
        changed: ast.expr = self.visit(node)
        return changed
