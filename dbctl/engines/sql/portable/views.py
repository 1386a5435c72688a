"""Queries of views of one engine as queries of another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from dbctl.engines.contract.portable import LogicalType, PortableView
from dbctl.engines.sql.portable.expressions import PORTABLE_NODES, UntranslatableError

if TYPE_CHECKING:
    from sqlglot import exp


class ViewQueries:
    """Translates the queries of views over tables with known columns."""

    def __init__(self, source: str, destination: str, types: Mapping[str, Mapping[str, LogicalType]]) -> None:
        """Set the dialects, by their names in sqlglot, and the types of columns by table."""
        self._source, self._destination = source, destination
        self._tables = {name.lower(): name for name in types}
        self._columns = {name.lower(): name for columns in types.values() for name in columns}
        self._booleans = {
            name.lower()
            for columns in types.values()
            for name, logical in columns.items()
            if logical.kind == "boolean"
        }

    def create(
        self,
        views: Iterable[PortableView],
        quote: Callable[[str], str],
        omit: Callable[[str, str, str], object],
    ) -> Iterator[str]:
        """Yield the statements that create views; ``omit`` receives kind, name and reason of one that cannot be created."""
        omitted = set[str]()
        for view in views:
            try:
                query = self.translate(view.query)
            except UntranslatableError as error:
                omit("view", view.name, str(error))
                omitted.add(view.name.lower())
                continue
            if other := next((name for name in omitted if quote(name).lower() in query.lower()), ""):
                omit("view", view.name, f"it reads view {other}")
                omitted.add(view.name.lower())
            else:
                yield f"create view {quote(view.name)} as {query}"

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
        aliases = {alias.name.lower() for alias in query.find_all(exp.TableAlias)}
        for identifier in query.find_all(exp.Identifier):
            identifier.replace(exp.Identifier(this=self._find_spelling(identifier, aliases), quoted=True))
        for node in query.find_all(exp.Table, exp.Column):
            node.set("db", None)
        return query.sql(dialect=self._destination)

    def _find_spelling(self, identifier: exp.Identifier, aliases: Collection[str]) -> str:
        """Return a name as it was created; the case of aliases of tables does not matter before, but matters in quotes."""
        place, name = (type(identifier.parent).__name__, identifier.arg_key), identifier.name
        if place == ("TableAlias", "this") or (place == ("Column", "table") and name.lower() in aliases):
            return name.lower()
        if place in (("Table", "this"), ("Column", "table")):
            return self._tables.get(name.lower(), name)
        return self._columns.get(name.lower(), name) if place == ("Column", "this") else name

    def _require_portable(self, nodes: Iterable[exp.Expr]) -> None:
        from sqlglot import exp

        for node in nodes:
            if type(node).__name__ not in PORTABLE_NODES or node.args.get("binary"):
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
