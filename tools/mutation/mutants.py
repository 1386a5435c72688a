"""Mutants of a module: copies of its source with one expression or statement changed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_COMPARISONS: Mapping[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.BitOr: (r"\|", "&"),
    ast.BitAnd: ("&", "|"),
}
_SWAPPED_CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}


class Mutant(NamedTuple):
    """One change of a file."""

    path: Path
    line: int  #: from 1
    start: int  #: of the replaced text, in bytes from the beginning of the file
    end: int
    text: str  #: what replaces it

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def describe(self, source: bytes) -> str:
        """Return the changed text on one line: ``old → new``."""
        old = " ".join(source[self.start : self.end].decode().split())
        return f"{old} → {' '.join(self.text.split())}"


def create_mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file, in the order of its syntax tree."""
    source = path.read_bytes()
    tree = ast.parse(source)
    excluded = {id(child) for node in ast.walk(tree) for child in _list_excluded(node)}
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    finder = _Finder(path, source, offsets)
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop(0)
        if id(node) not in excluded:
            yield from finder.mutate(node)
            pending += ast.iter_child_nodes(node)


def _list_excluded(node: ast.AST) -> Iterator[ast.AST]:
    """Yield children without behavior at run time, or whose change only alters a message."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield from node.decorator_list
            if isinstance(node, ast.ClassDef):
                yield from node.keywords  # such as frozen=True: a declaration that the type checker reads
            elif node.returns:
                yield node.returns
        case ast.arg(annotation=ast.AST() as annotation) | ast.AnnAssign(annotation=annotation):
            yield annotation
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Assert() | ast.JoinedStr():
            yield node
        case ast.Subscript(value=ast.Name(id="dict" | "list" | "set" | "frozenset" | "defaultdict")):
            yield node.slice
        case ast.Call(func=ast.Name(id="cast" | "TypeVar")):
            yield node
        case ast.Call(func=ast.Name(id="zip"), keywords=keywords):
            yield from keywords  # strict=True guards against a mistake of dbctl


class _Finder:
    """Finds mutants of the nodes of one file."""

    def __init__(self, path: Path, source: bytes, offsets: list[int]) -> None:
        self._path, self._source, self._offsets = path, source, offsets

    def mutate(self, node: ast.AST) -> Iterator[Mutant]:  # noqa: C901, PLR0912 - a table of node types
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                yield from self._swap(left, right, *_COMPARISONS[type(op)])
            case ast.BoolOp(op=op, values=[first, second, *_]):
                words = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                yield from self._swap(first, second, *words)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._replace(node, f"({self._text(operand)})")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                if not any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (left, right)):
                    yield from self._swap(left, right, *_ARITHMETIC[type(op)])
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                if not isinstance(test, ast.UnaryOp | ast.Compare):  # these have a mutant of their own
                    yield self._replace(test, f"not ({self._text(test)})")
            case ast.comprehension(ifs=[condition, *_]):
                yield self._replace(condition, "True")
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield self._replace(value, "None")
            case ast.Constant(value=bool() as value):
                yield self._replace(node, str(not value))
            case ast.Constant(value=int() as number):
                yield self._replace(node, str(number + 1))
            case ast.Call(func=ast.Name(id=name)) if name in _SWAPPED_CALLS:
                yield self._replace(node.func, _SWAPPED_CALLS[name])
            case ast.Expr(value=ast.Call()) | ast.Raise():
                yield self._replace(node, "pass")
            case ast.Break():
                yield self._replace(node, "continue")
            case ast.Continue():
                yield self._replace(node, "break")

    def _swap(self, left: ast.expr, right: ast.expr, pattern: str, text: str) -> Iterator[Mutant]:
        """Yield the mutant in which the operator between two operands is another one."""
        begin, stop = self._end(left), self._start(right)
        word = rf"(?<!\w){pattern}(?!\w)" if pattern[0].isalpha() else pattern
        match = re.search(word.encode(), self._source[begin:stop])
        if match:
            yield self._at(left, begin + match.start(), begin + match.end(), text)

    def _replace(self, node: ast.AST, text: str) -> Mutant:
        return self._at(node, self._start(node), self._end(node), text)

    def _at(self, node: ast.AST, start: int, end: int, text: str) -> Mutant:
        return Mutant(self._path, node.lineno, start, end, text)  # type: ignore[attr-defined]

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.AST) -> int:
        return self._offsets[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined, no-any-return]

    def _end(self, node: ast.AST) -> int:
        return self._offsets[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined, no-any-return]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
