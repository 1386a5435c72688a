"""Snapshots of PostgreSQL: a transaction without locks exports its state, which other sessions read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager

from msgspec import structs

from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.engines.postgresql.dump import export_snapshot
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import QueryFailedError
from dbctl.extensions.drafts.learning.snapshots import ExportedSnapshot, SnapshotExport
from dbctl.url import Url

#: After a rewrite (TRUNCATE, ALTER TABLE) older snapshots find no rows, and definitions apply to them at once.
DEFINITIONS = f"""select c.oid::int8, n.nspname::text, c.relname::text, c.relfilenode::int8,
  array(select i.inhparent::int8 from pg_catalog.pg_inherits i where i.inhrelid = c.oid order by 1),
  array(select concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attisdropped, a.attgenerated, a.attname)
    from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and {IN_USER_SCHEMA} order by c.oid"""


class PostgreSQLSnapshot(ExportedSnapshot):
    """A snapshot of an open transaction."""

    def __init__(self, url: Url, target: str, *, timeout: float) -> None:
        """Name a snapshot by its URL; ``timeout``: seconds to wait for the server."""
        self.url = url
        self._target, self._timeout = target, timeout

    def is_complete(self) -> bool:
        try:
            earlier = self._read_definitions(self.url)
        except QueryFailedError:  # its transaction has ended
            return False
        return earlier == self._read_definitions(structs.replace(self.url, snapshot=""))

    def _read_definitions(self, url: Url) -> list[Row]:
        connection = PostgreSQLConnection(url, self._target, timeout=self._timeout, read_only=True)
        with closing(connection):
            return connection.fetch(DEFINITIONS)


@contextmanager
def open_snapshot(url: Url, target: str, *, timeout: float) -> Iterator[PostgreSQLSnapshot]:
    """Export a snapshot of the current state until the end of the block; its transaction has no lock of a table.

    Raises:
        NotSupportedError: the server exports no snapshots.
    """
    with ExitStack() as stack:
        connection = PostgreSQLConnection(url, target, timeout=timeout, read_only=True)
        stack.enter_context(closing(connection))
        stack.enter_context(connection.read_transaction())
        snapshot = export_snapshot(connection)
        stack.callback(connection.close)  # it ends the transaction, also a lost one
        yield PostgreSQLSnapshot(structs.replace(url, snapshot=snapshot), target, timeout=timeout)


class PostgreSQLSnapshotExport(PostgreSQLPart, SnapshotExport):
    def export_snapshot(self) -> AbstractContextManager[ExportedSnapshot]:
        connection = self._connection
        return open_snapshot(connection.url, connection.target, timeout=connection.timeout)


def create_parts(db: PostgreSQLDatabase) -> Sequence[object]:
    """Return the parts of an open database."""
    return [PostgreSQLSnapshotExport(db)]
