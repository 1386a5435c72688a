"""Read the whole schema of a database in one snapshot."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from dbctl.engines.contract import Schema, fingerprint
from dbctl.engines.mysql.dialect import MySQLDialect

COMMENTS = """select '' as name, table_comment from information_schema.tables
where table_schema = database() and table_name = :table and table_type <> 'VIEW' and table_comment <> ''
union all select column_name, column_comment from information_schema.columns
where table_schema = database() and table_name = :table and column_comment <> ''"""


class MySQLSchemaReader(MySQLDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _read_transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that cannot write, and roll it back at the end."""

    def schema(self) -> Schema:
        from dbctl.engines.mysql import schema as catalog

        with self._read_transaction():
            queries = catalog.queries(self.server)
            ((name,),) = self._fetch("select database()", {})
            return catalog.SchemaBuilder(str(name), *(self._fetch(sql, {}) for sql in queries)).build()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        rows = self._fetch(COMMENTS, {"table": self._require_table(table).name})
        return {str(column): str(comment) for column, comment in rows}
