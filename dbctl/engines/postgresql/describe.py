"""Read the whole schema of a database in one snapshot."""

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


class PostgreSQLSchemaReader(PostgreSQLDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _read_transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that cannot write, and roll it back at the end."""

    def schema(self) -> Schema:
        from dbctl.engines.postgresql import schema as catalog

        queries = (
            catalog.TABLES,
            catalog.COLUMNS,
            catalog.CONSTRAINTS,
            catalog.INDEXES,
            catalog.VIEWS,
            catalog.TRIGGERS,
        )
        with self._read_transaction():
            return catalog.SchemaBuilder(*(self._fetch(sql, {}) for sql in queries)).build()

    def fingerprint(self) -> str:
        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        rows = self._fetch(COMMENTS, {"table": ident(self._require_table(table).name)})
        return {str(column): str(comment) for column, comment in rows}
