"""What a database on a server tells of its whole schema, read at one moment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from dbctl.engines.contract import Schema, fingerprint
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import ident

COMMENTS = """select coalesce(a.attname::text, ''), d.description from pg_catalog.pg_description d
  left join pg_catalog.pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
where d.classoid = 'pg_catalog.pg_class'::regclass and d.objoid = cast(:table as regclass)"""


class PostgreSQLDescribes(PostgreSQLDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin a transaction that can write nothing, and end it without a trace."""

    def schema(self) -> Schema:
        from dbctl.engines.postgresql import schema as told

        queries = (told.TABLES, told.COLUMNS, told.RULES, told.INDEXES, told.VIEWS, told.TRIGGERS)
        with self._asking():
            return told.Told(*(self._fetch(sql, {}) for sql in queries)).schema()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        rows = self._fetch(COMMENTS, {"table": ident(self._checked(table).name)})
        return {str(column): str(comment) for column, comment in rows}
