"""Reading a database on a server that lets this session write nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar, cast

from dbctl.engines.base import Capability, Holder
from dbctl.engines.mysql.connection import TOLD, MySQLConnection
from dbctl.engines.mysql.dump import MySQLDumps
from dbctl.engines.sql import Row
from dbctl.errors import UnreachableError
from dbctl.url import Url

T = TypeVar("T")

#: Seconds for a question that waits for nobody.
SOON = 5.0
#: A server tells of transactions only to those who have the right PROCESS, and so of none here.
SESSIONS = """select p.id, coalesce(p.command, ''), p.user, p.info from information_schema.processlist p
where p.db = database() and p.id <> connection_id() order by p.id"""


class MySQLReader(MySQLConnection, MySQLDumps):
    """A session whose transactions are read-only, as the server enforces."""

    capabilities = TOLD | {Capability.DUMP}

    def _say(self, sql: str) -> None:
        return self._repeated(partial(super()._say, sql))

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        return self._repeated(partial(super()._rows, sql, parameters, writing=writing))

    def _repeated(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns; on a new session where the server was restarted, or ended an idle one."""
        try:
            return read()
        except UnreachableError:
            if self._asks or not self._is_broken():
                raise
        self._open()
        return read()


def holders_of(url: Url, target: str) -> Sequence[Holder]:
    """Return the sessions that are connected to the database at ``url``, as far as this user may know of them."""
    with closing(MySQLReader(url, target, timeout=SOON)) as opened:
        rows = cast("list[tuple[int, str, str, str | None]]", opened.query(SESSIONS))
        waits = opened.waits()
    return [
        Holder(
            pid=pid,
            command=command,
            owner=user,
            mode="open" if info is None else "read",
            waits_for=[one.blocking.pid for one in waits if one.blocked.pid == pid],
        )
        for pid, command, user, info in rows
    ]
