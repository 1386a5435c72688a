"""Read the whole schema of a database on a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from dbctl.engines.contract.schema import Schema, fingerprint
from dbctl.engines.servers.writer import ServerReader, ServerWriter

#: A row of the catalog by column name; the names are fields of the value that is built from it.
NamedRow: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[NamedRow]


class ServerSchemaReader(ABC):
    """The part ``SchemaReader``."""

    comments_sql: ClassVar[
        str
    ]  #: returns columns (empty: the table) and comments of ``:table``, a name in SQL

    def __init__(self, db: ServerReader | ServerWriter) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    @abstractmethod
    def _fetch_schema(self) -> Schema:
        """Read the schema within a transaction."""

    def schema(self) -> Schema:
        with self._connection.read_transaction():
            return self._fetch_schema()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        name = self._catalog.require_table(table).name
        return {
            str(column): str(comment)
            for column, comment in self._connection.fetch(self.comments_sql, {"table": name})
        }


def group_rows(rows: Iterable[NamedRow]) -> defaultdict[str, Rows]:
    """Return rows by the table in their column ``owner``."""
    rows_by_table = defaultdict[str, Rows](list)
    for row in rows:
        rows_by_table[row["owner"]].append(row)
    return rows_by_table


def sort_indexes(indexes: Iterable[NamedRow]) -> Sequence[NamedRow]:
    """Sort indexes, whose order in the catalog has no meaning."""
    return sorted(indexes, key=lambda index: (index["name"], index["columns"]))


def sort_references(references: Iterable[NamedRow]) -> Sequence[NamedRow]:
    """Sort foreign keys, whose order in the catalog has no meaning."""
    return sorted(references, key=lambda key: (key["columns"], key["table"], key["to"]))
