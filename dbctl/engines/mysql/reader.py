"""Read-only sessions on a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import cast

from dbctl.engines.contract import LockHolder
from dbctl.engines.mysql.catalog import MySQLCatalog
from dbctl.engines.mysql.connection import MySQLConnection, own_sessions
from dbctl.engines.mysql.database import READER_PARTS
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.servers import ServerReader
from dbctl.url import Url

#: Seconds for a query that waits for no lock.
SHORT_TIMEOUT = 5.0
#: Transactions are visible with the right PROCESS only, so they are not included here.
SESSIONS = """select p.id, coalesce(p.command, ''), p.user, p.info from information_schema.processlist p
where p.db = database() and p.id <> connection_id() order by p.id"""


class MySQLReader(ServerReader):
    """A database whose transactions are read-only, enforced by the server."""

    PARTS = READER_PARTS
    connection: MySQLConnection
    catalog: MySQLCatalog
    dialect: MySQLDialect

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        connection = MySQLConnection(url, target, timeout=timeout, read_only=True)
        dialect = MySQLDialect(lambda: connection.server)
        super().__init__(connection, MySQLCatalog(connection), dialect)


def holders_of(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the sessions of other processes in the database at ``url``, as far as this user may see them."""
    from dbctl.engines.mysql.monitoring import MySQLSessions

    with closing(MySQLReader(url, target, timeout=SHORT_TIMEOUT)) as reader:
        rows = cast("list[tuple[int, str, str, str | None]]", reader.query(SESSIONS))
        monitor = MySQLSessions(reader)
        waits, locks = monitor.list_lock_waits(), monitor.locks()
        sessions = {session.pid: session for session in monitor.list_sessions()}
    return [
        LockHolder(
            pid=pid,
            command=command,
            owner=user,
            mode="open" if info is None else "read",
            waits_for=[wait.blocking.pid for wait in waits if wait.blocked.pid == pid],
            locks=locks.get(pid, ()),
            query=sessions[pid].query if pid in sessions else "",
            transaction_seconds=sessions[pid].transaction_seconds if pid in sessions else None,
        )
        for pid, command, user, info in rows
        if pid not in own_sessions
    ]
