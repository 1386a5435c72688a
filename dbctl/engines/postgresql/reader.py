"""Read-only sessions on a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Literal, cast

from dbctl.engines.contract import LockHolder, group_locks
from dbctl.engines.postgresql.catalog import PostgreSQLCatalog
from dbctl.engines.postgresql.connection import PostgreSQLConnection, own_backends
from dbctl.engines.postgresql.database import READER_PARTS
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.servers import ServerReader
from dbctl.url import Url

#: Seconds for a query that waits for no lock.
SHORT_TIMEOUT = 5.0
SESSIONS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), coalesce(a.usename, ''),
  exists (select from pg_catalog.pg_locks l where l.pid = a.pid and l.granted and l.locktype = 'transactionid'),
  a.xact_start is not null, pg_blocking_pids(a.pid)
from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() order by a.pid"""

#: The lock that a session waits for comes first. Locks of indexes are omitted: their tables are locked as well.
LOCKS = """select l.pid, concat(l.mode, ' on ', coalesce(l.relation::regclass::text, l.locktype),
  case when not l.granted then ' (waiting)' end)
from pg_catalog.pg_locks l left join pg_catalog.pg_class c on c.oid = l.relation
where l.pid is not null and l.locktype <> 'virtualxid' and coalesce(c.relkind, 'r') not in ('i', 'I')
  and (l.database is null or l.database in (0, (select oid from pg_catalog.pg_database where datname = current_database())))
order by l.granted, 2"""


class PostgreSQLReader(ServerReader):
    """A database whose transactions are read-only by default."""

    PARTS = READER_PARTS
    connection: PostgreSQLConnection
    catalog: PostgreSQLCatalog

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        connection = PostgreSQLConnection(url, target, timeout=timeout, read_only=True)
        super().__init__(connection, PostgreSQLCatalog(connection), PostgreSQLDialect())


def holders_of(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the sessions of other processes that are connected to the database at ``url``."""
    from dbctl.engines.postgresql.monitoring import PostgreSQLSessions

    with closing(PostgreSQLReader(url, target, timeout=SHORT_TIMEOUT)) as reader:
        rows = cast("list[tuple[int, str, str, bool, bool, list[int]]]", reader.query(SESSIONS))
        locks = group_locks(reader.query(LOCKS))
        sessions = {session.pid: session for session in PostgreSQLSessions(reader).list_sessions()}
    return [
        LockHolder(
            pid=pid,
            command=name,
            owner=user,
            mode=_mode(writing, reading),
            waits_for=blockers,
            locks=locks.get(pid, ()),
            query=sessions[pid].query if pid in sessions else "",
            transaction_seconds=sessions[pid].transaction_seconds if pid in sessions else None,
        )
        for pid, name, user, writing, reading, blockers in rows
        if not (pid in own_backends and name.startswith("dbctl"))  # the system reuses pids
    ]


def _mode(writing: bool, in_transaction: bool) -> Literal["write", "read", "open"]:  # noqa: FBT001 - the columns of a row
    return "write" if writing else "read" if in_transaction else "open"
