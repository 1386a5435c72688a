"""Read-only sessions on a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import cast

from dbctl.engines.contract import Capability, LockHolder
from dbctl.engines.mysql.backup import MySQLDumper
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.session import Session, own_sessions
from dbctl.engines.servers import BASE_CAPABILITIES, MixinReader
from dbctl.url import Url

#: Seconds for a query that waits for no lock.
SHORT_TIMEOUT = 5.0
#: Transactions are visible with the right PROCESS only, so they are not included here.
SESSIONS = """select p.id, coalesce(p.command, ''), p.user, p.info from information_schema.processlist p
where p.db = database() and p.id <> connection_id() order by p.id"""


class MySQLReader(MixinReader[Session], MySQLConnection, MySQLDumper):
    """A session whose transactions are read-only, enforced by the server."""

    capabilities = BASE_CAPABILITIES | {Capability.DUMP}


def holders_of(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the sessions of other processes in the database at ``url``, as far as this user may see them."""
    with closing(MySQLReader(url, target, timeout=SHORT_TIMEOUT)) as reader:
        rows = cast("list[tuple[int, str, str, str | None]]", reader.query(SESSIONS))
        waits, locks = reader.list_lock_waits(), reader.locks()
        sessions = {session.pid: session for session in reader.list_sessions()}
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
