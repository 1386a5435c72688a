"""Expressions of one engine, such as checks and conditions of indexes, as expressions of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from dbctl.engines.contract.portable import LogicalType

if TYPE_CHECKING:
    from sqlglot import exp

#: Node classes of sqlglot that mean the same on every engine. Comparisons of patterns, divisions and functions of time
#: and JSON are not among them, because their results differ.
PORTABLE_NODES = frozenset(
    """Add Alias And Between Boolean Case Cast Coalesce Column Count DPipe DataType DataTypeParam Distinct EQ Exists From GT
    GTE Group Having Identifier If In Is Join LT LTE Length Literal Lower Max Min Mul NEQ Neg Not Null Nullif Or Order Ordered
    Paren Select Star Sub Subquery Sum Table TableAlias Trim Tuple Union Upper Where""".split()
)
#: Types to which a cast of a portable expression converts; their names have the same meaning everywhere.
_TEXT_CASTS = frozenset({"TEXT", "VARCHAR", "CHAR", "NVARCHAR", "NCHAR", "BPCHAR"})


class UntranslatableError(Exception):
    """An expression has no equivalent on the other engine; the text is the reason."""


class Expressions:
    """Translates expressions over the columns of a table."""

    def __init__(
        self, source: str, destination: str, types: Mapping[str, LogicalType], *, allows_backslashes: bool
    ) -> None:
        """Set the dialects, by their names in sqlglot, and the types of the columns in the destination."""
        self._source, self._destination, self._types = source, destination, types
        self._allows_backslashes = allows_backslashes
        self._names = {name.lower(): name for name in types}

    def translate(self, sql: str) -> str:
        """Return an expression in the destination's SQL.

        Raises:
            UntranslatableError: it has no equivalent.
        """
        tree = self._parse(f"select {sql}").selects[0]
        return self._write(self._translate_nodes(tree))

    def translate_condition(self, sql: str) -> str:
        """Return a condition as ``translate`` does; a number as a condition becomes a comparison with 0."""
        tree = self._translate_nodes(self._parse(f"select 1 where {sql}").args["where"].this)
        return self._write(_compare_numbers(tree, self._is_boolean))

    def _parse(self, sql: str) -> exp.Select:
        import sqlglot
        from sqlglot import exp

        try:
            tree = sqlglot.parse_one(sql, dialect=self._source)
        except (sqlglot.errors.SqlglotError, RecursionError):
            raise UntranslatableError("it cannot be parsed") from None
        if not isinstance(tree, exp.Select):
            raise UntranslatableError("it cannot be parsed")
        return tree

    def _write(self, tree: exp.Expr) -> str:
        from sqlglot import exp

        if unknown := next((node for node in tree.walk() if type(node).__name__ not in PORTABLE_NODES), None):
            raise UntranslatableError(f"{unknown.sql(dialect=self._source)[:60]} has no equivalent")
        if not self._allows_backslashes and any("\\" in each.name for each in tree.find_all(exp.Literal)):
            raise UntranslatableError("the meaning of a backslash depends on the session")
        return tree.sql(dialect=self._destination)

    def _translate_nodes(self, tree: exp.Expr) -> exp.Expr:
        from sqlglot import exp

        if tree.find(exp.Query):
            raise UntranslatableError("it reads other rows")
        if any(length.args.get("binary") for length in tree.find_all(exp.Length)):
            raise UntranslatableError("it counts bytes")
        wrapper = exp.Paren(this=tree.copy())
        for node in list(wrapper.find_all(exp.EQ)):
            _replace_any(node)
        for cast in reversed(list(wrapper.find_all(exp.Cast))):  # inner casts first
            if cast.to.this.name in _TEXT_CASTS:
                cast.replace(cast.this)
        for column in wrapper.find_all(exp.Column):
            self._resolve(column)
        for literal in list(wrapper.find_all(exp.Literal)):
            if self._is_truth(literal):
                literal.replace(exp.Boolean(this=literal.name == "1"))
        for introducer in list(wrapper.find_all(exp.Introducer)):
            introducer.replace(introducer.expression)
        return wrapper.this  # type: ignore[no-any-return]

    def _resolve(self, column: exp.Column) -> None:
        from sqlglot import exp

        name = self._names.get(column.name.lower())
        if name is None:
            raise UntranslatableError(f"{column.name} is not a column")
        column.set("this", exp.Identifier(this=name, quoted=True))
        for part in ("table", "db", "catalog"):
            column.set(part, None)

    def _is_truth(self, literal: exp.Literal) -> bool:
        """Whether a literal is 0 or 1 that is compared with a boolean column."""
        parent = literal.parent
        return (
            not literal.is_string
            and literal.name in ("0", "1")
            and parent is not None
            and any(self._is_boolean(node) for node in parent.iter_expressions())
        )

    def _is_boolean(self, node: exp.Expr) -> bool:
        from sqlglot import exp

        node = node.unnest()
        return isinstance(node, exp.Column) and self._types[self._names[node.name.lower()]].kind == "boolean"


def _replace_any(node: exp.EQ) -> None:
    """Replace ``column = any(array[…])`` by ``column in (…)``."""
    from sqlglot import exp

    values = node.expression
    if not isinstance(values, exp.Any):
        return
    values = values.this
    while isinstance(values, exp.Paren | exp.Cast):
        values = values.this
    if isinstance(values, exp.Array):
        node.replace(exp.In(this=node.this.copy(), expressions=[each.copy() for each in values.expressions]))


def _compare_numbers(tree: exp.Expr, is_boolean: Callable[[exp.Expr], bool]) -> exp.Expr:
    """Replace columns with numbers that are used as a condition by comparisons with 0."""
    from sqlglot import exp

    wrapper = exp.Paren(this=tree)
    for node in list(_find_conditions(wrapper)):
        if isinstance(node, exp.Column) and not is_boolean(node):
            node.replace(exp.NEQ(this=node.copy(), expression=exp.Literal.number(0)))
    return wrapper.this  # type: ignore[no-any-return]


def _find_conditions(tree: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    for child in tree.iter_expressions():
        if isinstance(child, exp.And | exp.Or | exp.Not | exp.Paren):
            yield from _find_conditions(child)
        else:
            yield child
