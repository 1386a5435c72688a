"""What a database on a server tells of its whole schema, read at one moment."""

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


class MySQLDescribes(MySQLDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin a transaction that can write nothing, and end it without a trace."""

    def schema(self) -> Schema:
        from dbctl.engines.mysql import schema as told

        with self._asking():
            queries = told.queries(self.server)
            ((name,),) = self._fetch("select database()", {})
            return told.Told(str(name), *(self._fetch(sql, {}) for sql in queries)).schema()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        rows = self._fetch(COMMENTS, {"table": self._checked(table).name})
        return {str(column): str(comment) for column, comment in rows}
