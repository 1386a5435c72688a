"""Retain a state of a database by a transaction that exports its snapshot: readers import it, and the app writes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from msgspec import structs

from dbctl.engines.contract.dumps import ExportedSnapshot
from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.errors import is_unsupported
from dbctl.engines.servers.database import NO_BACKUP
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

#: After a rewrite (TRUNCATE, ALTER TABLE) older snapshots find no rows, and definitions apply to them at once.
_TABLES = f"""select c.oid::int8, n.nspname::text, c.relname::text, c.relfilenode::int8,
  array(select i.inhparent::int8 from pg_catalog.pg_inherits i where i.inhrelid = c.oid order by 1),
  array(select concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attisdropped, a.attgenerated, a.attname)
    from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and {IN_USER_SCHEMA} order by c.oid"""
#: Settings by which a server ends a transaction that is idle, with the version that introduced them.
_TIMEOUTS = {"idle_in_transaction_session_timeout": 9, "transaction_timeout": 17}


class PostgreSQLSnapshot(ExportedSnapshot):
    """A snapshot of an open transaction."""

    def __init__(self, url: Url, target: str, *, timeout: float) -> None:
        """Name a snapshot by its URL; ``timeout``: seconds to wait for the server."""
        self.url = url
        self._target, self._timeout = target, timeout

    def is_complete(self) -> bool:
        try:
            earlier = self._read_tables(self.url)
        except QueryFailedError:  # its transaction has ended
            return False
        return earlier == self._read_tables(structs.replace(self.url, snapshot=""))

    def _read_tables(self, url: Url) -> list[Row]:
        connection = PostgreSQLConnection(url, self._target, timeout=self._timeout, read_only=True)
        with closing(connection):
            return connection.fetch(_TABLES)


@contextmanager
def open_snapshot(url: Url, target: str, *, timeout: float) -> Iterator[PostgreSQLSnapshot]:
    """Export a snapshot of the current state until the end of the block; its transaction has no lock of a table.

    Raises:
        NotSupportedError: the server exports no snapshots.
    """
    with ExitStack() as stack:
        connection = PostgreSQLConnection(url, target, timeout=timeout, read_only=True)
        stack.enter_context(closing(connection))
        session = connection.session
        version = session.info.server_version // 10000
        session.settings |= {name: "0" for name, since in _TIMEOUTS.items() if version >= since}
        connection.apply_settings()
        stack.enter_context(connection.read_transaction())
        snapshot = export_snapshot(connection)
        stack.callback(connection.close)  # it ends the transaction, also a lost one
        yield PostgreSQLSnapshot(structs.replace(url, snapshot=snapshot), target, timeout=timeout)


def export_snapshot(connection: PostgreSQLConnection) -> str:
    """Export the snapshot of a transaction until its end, and return its identifier.

    Raises:
        NotSupportedError: the server exports no snapshots.
    """
    try:
        ((snapshot,),) = connection.fetch("select pg_export_snapshot()")
    except QueryFailedError as error:
        if not is_unsupported(error.__cause__):
            raise
        raise NotSupportedError(
            feature=f"a backup of {connection.target}",
            subject="this server, which exports no snapshots",
            hint=f"{NO_BACKUP} Use the server's own backups.",
        ) from error
    return str(snapshot)
