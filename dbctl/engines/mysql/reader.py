"""Reading a database on a server that lets this session write nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import cast

from dbctl.engines.contract import Capability, Holder
from dbctl.engines.mysql.backup import MySQLDumps
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.session import Session, own_sessions
from dbctl.engines.servers import TOLD, ServedReader
from dbctl.url import Url

#: Seconds for a query that waits for no lock.
SOON = 5.0
#: A server lists transactions only for accounts with the right PROCESS, and so none here.
SESSIONS = """select p.id, coalesce(p.command, ''), p.user, p.info from information_schema.processlist p
where p.db = database() and p.id <> connection_id() order by p.id"""


class MySQLReader(ServedReader[Session], MySQLConnection, MySQLDumps):
    """A session whose transactions are read-only, as the server enforces."""

    capabilities = TOLD | {Capability.DUMP}


def holders_of(url: Url, target: str) -> Sequence[Holder]:
    """Return the sessions of other processes in the database at ``url``, as far as this user may know of them."""
    with closing(MySQLReader(url, target, timeout=SOON)) as opened:
        rows = cast("list[tuple[int, str, str, str | None]]", opened.query(SESSIONS))
        waits, locks = opened.waits(), opened.locks()
        sessions = {session.pid: session for session in opened.sessions()}
    return [
        Holder(
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
