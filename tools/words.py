"""Where the words stand in Markdown and in code, and how to say them otherwise.

Each function copies a text and gives every message in it to `translate`. A function that only takes
notes collects the messages, so collecting and replacing cannot disagree.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterator

from rlhf_lab.language import WORDS
from rlhf_lab.translation import columns

Translate = Callable[[str], str]
Edit = tuple[tuple[int, int], tuple[int, int], str]
"""From (row, column), to (row, column), the new text."""
_WORD = re.compile(r"[A-Za-z]{2}|[\u4e00-\u9fff]")
"""English, or another edition called by its own name."""
_MARKER = re.compile(r"\s*(?:#+ |- |\d+\. |> ?|[a-d]\) )*")
_ALONE = re.compile(r"\s*(?:#|- |\d+\. |>|[a-d]\) |\||<|```|:::|!\[|\$\$|$)")
"""Begins a line that does not go on with the paragraph above it."""
_SILENT = re.compile(
    r"\{\{\w+\}\}|\$\$?[^$]*\$\$?|`[^`]*`|<!--.*?-->|<[^>]*>|\]\([^)]*\)|https?:\S*"
)
_ALT = re.compile(r'alt="[^"]*[A-Za-z]{2}|\\text\{[^}]*[a-z]{3}')
"""Words within what else is silent."""
_PLACEHOLDER = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_ALWAYS = {"Prediction", "reveal", "show", "set_title", "set_xlabel", "set_ylabel", "set_language"}
"""Calls whose strings are messages, even single words."""
_LABELS = {"title", "xlabel", "ylabel", "label"}
"""Arguments of which the same is true."""
_ORDER = re.compile(r"fmt: .*|noqa.*")
"""A comment for a program."""
_WIDTH = 100


def markdown(source: str, translate: Translate, *, wrapped: bool = False) -> str:
    """Line by line: a message is a line without its marker.

    Args:
        source: a cell or a page.
        translate: gives the text that replaces a message.
        wrapped: a paragraph may go over several lines, which are joined.
    """
    lines, verbatim, at_paragraph = [], False, False
    for line in source.split("\n"):
        fence = line.lstrip().startswith("```")
        if at_paragraph and not verbatim and not _ALONE.match(line):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
        verbatim ^= fence
        at_paragraph = wrapped and not fence and not re.match(r"\s*(?:#|\||<|$)|.*<br>$", line)
    return "\n".join(_outside_fences(lines, translate))


def _outside_fences(lines: list[str], translate: Translate) -> Iterator[str]:
    fence = ""
    for line in lines:
        if line.lstrip().startswith(("```", "<style", "</style")):
            fence = "" if fence else line.strip()
            yield line
        elif fence and fence != "```{raw} html":
            yield _listing(line, translate)
        else:
            yield _line(line, translate)


def _line(line: str, translate: Translate) -> str:
    marker = _MARKER.match(line)[0]  # type: ignore[index]
    text = line[len(marker) :]
    end = re.search(r"(?: {2}|<br>)?$", text)[0]  # type: ignore[index]
    if not (_WORD.search(_SILENT.sub("", text)) or _ALT.search(text)):
        return line
    return marker + translate(text.removesuffix(end)) + end


def _listing(line: str, translate: Translate) -> str:
    """A line of a listing, with its comment or its caption in the other language."""
    start, said = re.fullmatch(r"(.*# |:caption: )?(.*)", line).groups("")  # type: ignore[union-attr]
    return start + translate(said) if start and _WORD.search(said) else line


def code(source: str, translate: Translate) -> str:
    """Comments, docstrings and strings that read as language; everything else stays."""
    lines = source.split("\n")
    edits = [*_comments(source, translate), *_strings(source, lines, translate)]
    for (row, start), (last, end), new in sorted(edits, reverse=True):
        lines[row : last + 1] = [lines[row][:start] + new + lines[last][end:]]
    return "\n".join(lines)


def _comments(source: str, translate: Translate) -> Iterator[Edit]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and _WORD.search(_ORDER.sub("", token.string)):
            (row, start), (_, end) = token.start, token.end
            yield (row - 1, start), (row - 1, end), "# " + translate(token.string.lstrip("# "))


def _strings(source: str, lines: list[str], translate: Translate) -> Iterator[Edit]:
    for node, always in _texts(ast.parse(source), False):
        text = _quoted(node)
        if always or _reads_as_language(text):
            new = translate(text)
            if new != text:
                start = _place(lines, node.lineno, node.col_offset)
                end = _place(lines, node.end_lineno, node.end_col_offset)
                literal = _literal(node, new, start[1], lines[start[0]])
                # Two literals on two lines are one only within brackets.
                bare = "\n" in literal and start not in _within_brackets(source)
                yield start, end, f"({literal})" if bare else literal


def _place(lines: list[str], row: int | None, column: int | None) -> tuple[int, int]:
    """ast counts bytes and begins with row 1."""
    assert row is not None
    return row - 1, len(lines[row - 1].encode()[:column].decode())


def _texts(node: ast.AST, always: bool) -> Iterator[tuple[ast.expr, bool]]:
    """Whole string expressions, and whether they are messages even if they are single words."""
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        text = _quoted(node)
        if _WORD.search(text) and not re.fullmatch(r"\w+_\w+", text):
            yield node, always
        return
    if isinstance(node, ast.keyword):
        always = always or node.arg in _LABELS
    elif isinstance(node, ast.Call):
        always = getattr(node.func, "attr", getattr(node.func, "id", "")) in _ALWAYS
    for child in ast.iter_child_nodes(node):
        docstring = isinstance(node, ast.FunctionDef) and isinstance(child, ast.Expr)
        yield from _texts(child, docstring or (always and not isinstance(child, ast.Call)))


def _quoted(node: ast.expr) -> str:
    """What stands between the quotes: escapes and {placeholders} as in the source."""
    if isinstance(node, ast.Constant):
        return json.dumps(node.value, ensure_ascii=False)[1:-1].replace('\\"', '"')
    assert isinstance(node, ast.JoinedStr)
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(_quoted(part).replace("{", "{{").replace("}", "}}"))
        else:
            parts.append(ast.unparse(ast.JoinedStr([part]))[2:-1])
    return "".join(parts)


def _reads_as_language(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+|<eos>", re.sub(_PLACEHOLDER, "", text))
    return " " in re.sub(_PLACEHOLDER, "x", text).strip() and any(
        len(w) > 1 and w not in WORDS for w in words
    )


def _literal(node: ast.expr, text: str, column: int, line: str) -> str:
    """The new text as a string literal, over several lines where one is too short."""
    if line.lstrip().startswith('"""'):
        return f'"""{text}"""'
    joined = isinstance(node, ast.JoinedStr)
    pieces, room = [""], _WIDTH - column - 4
    for bit in re.findall(rf"\{{\{{|\}}\}}|{_PLACEHOLDER}|\\.|[A-Za-z0-9_]+ ?|.", text):
        if columns(pieces[-1] + bit) > room and pieces[-1]:
            pieces.append("")
        pieces[-1] += bit
    parts = [_one_literal(piece, joined) for piece in pieces]
    return ("\n" + " " * column).join(parts)


def _within_brackets(source: str) -> set[tuple[int, int]]:
    """The places of all tokens that stand within brackets."""
    depth, places = 0, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        depth += token.string in ("(", "[", "{")
        depth -= token.string in (")", "]", "}")
        if depth:
            places.add((token.start[0] - 1, token.start[1]))
    return places


def _one_literal(piece: str, joined: bool) -> str:
    if joined and re.search(r"[{}]", piece):
        inside = re.sub(rf'(?:{_PLACEHOLDER})|"', lambda m: m[0] if m[0] != '"' else '\\"', piece)
        return f'f"{inside}"'
    return '"' + piece.replace('"', '\\"') + '"'
