"""Queries of views of one engine as queries of another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dbctl.engines.contract import LogicalType
from dbctl.engines.sql.portable.expressions import PORTABLE_NODES, UntranslatableError

if TYPE_CHECKING:
    from sqlglot import exp


class ViewQueries:
    """Translates the queries of views over tables with known columns."""

    def __init__(self, source: str, destination: str, types: Mapping[str, Mapping[str, LogicalType]]) -> None:
        """Set the dialects, by their names in sqlglot, and the types of columns by table."""
        self._source, self._destination = source, destination
        self._spellings = {
            name.lower(): name for name in [*types, *(name for columns in types.values() for name in columns)]
        }
        self._booleans = {
            name.lower()
            for columns in types.values()
            for name, logical in columns.items()
            if logical.kind == "boolean"
        }

    def translate(self, sql: str) -> str:
        """Return a query in the destination's SQL, with every name in quotes.

        Raises:
            UntranslatableError: it has no equivalent.
        """
        import sqlglot
        from sqlglot import exp

        try:
            tree = sqlglot.parse_one(sql, dialect=self._source)
        except (sqlglot.errors.SqlglotError, RecursionError):
            raise UntranslatableError("it cannot be parsed") from None
        query = tree.expression if isinstance(tree, exp.Create) else tree
        if not isinstance(query, exp.Query) or (
            isinstance(tree, exp.Create) and isinstance(tree.this, exp.Schema)
        ):
            raise UntranslatableError("it cannot be parsed")
        self._require_portable(query.walk())
        for identifier in query.find_all(exp.Identifier):
            name = identifier.name
            identifier.replace(exp.Identifier(this=self._spellings.get(name.lower(), name), quoted=True))
        for table in query.find_all(exp.Table):
            table.set("db", None)
        return query.sql(dialect=self._destination)

    def _require_portable(self, nodes: Iterable[exp.Expr]) -> None:
        from sqlglot import exp

        for node in nodes:
            if type(node).__name__ not in PORTABLE_NODES or (
                self._source == "mysql" and isinstance(node, exp.Length)
            ):
                raise UntranslatableError(f"{node.sql(dialect=self._source)[:60]} has no equivalent")
            if (
                isinstance(node, exp.Column)
                and node.name.lower() in self._booleans
                and _has_number(node.parent)
            ):
                raise UntranslatableError(f"{node.name} is compared with a number")


def _has_number(node: exp.Expr | None) -> bool:
    from sqlglot import exp

    return node is not None and any(
        isinstance(child, exp.Literal) and child.is_number for child in node.iter_expressions()
    )
