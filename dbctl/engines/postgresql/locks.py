"""The lock between dbctl processes on a server, and the holders of locks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import psycopg

from dbctl.engines.postgresql.session import Session, application_name, open_session
from dbctl.engines.servers import ServerWriter
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError
from dbctl.url import Url

HOLDER = """select a.application_name, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::int8 << 32) | l.objid::int8 = :key limit 1"""


def lock_key(name: str) -> int:
    """Return the key of the advisory lock for a name."""
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # not negative, since pg_locks shows two unsigned halves


class PostgreSQLLocks(ServerWriter[Session]):
    """A session that can lock the database against other dbctl processes."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        key = self._lock_key()
        self._require_session().settings["application_name"] = application_name(f"dbctl {purpose}")
        self._apply_settings()
        query = "select pg_try_advisory_lock(:key)"
        self._wait_for_lock(
            lambda: self._rows(query, {"key": key}) == [(True,)], lambda: self._describe_holder(key)
        )
        try:
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._rows("select pg_advisory_unlock(:key)", {"key": key})

    def _lock_key(self) -> int:
        """Return the key that all dbctl processes use: the server separates such locks by database, and the key by schema."""
        (row,) = self._rows("select current_database() || '/' || coalesce(current_schema(), '')", {})
        return lock_key(str(row[0]))

    def _describe_holder(self, key: int) -> str:
        rows = self._rows(HOLDER, {"key": key})
        if not rows:
            return " by another dbctl"
        name, pid, host, since = rows[0]
        return f" by {name or 'another dbctl'} (pid {pid} of the server, from {host}, since {since})"


#: Sessions with more than a reader's lock in this database, oldest first. The server does not report the holder of a row
#: lock, but the holder has a lock on the table, too.
HOLDERS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and a.datname = current_database() and l.locktype in ('relation', 'transactionid')
  and l.mode <> 'AccessShareLock' and a.pid <> all($1::int4[]) and a.wait_event_type is distinct from 'Lock'
  and (l.relation is not null and l.relation = pg_catalog.to_regclass($2) or $2 is null)
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
#: Sessions with any lock, including a reader's, on the named tables: a change of a table waits for all of them.
TABLE_HOLDERS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.relation in (select pg_catalog.to_regclass(quote_ident(n)) from unnest($2::text[]) n) and a.pid <> all($1::int4[])
  and a.wait_event_type is distinct from 'Lock'
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
SESSIONS_BY_PID = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_stat_activity a where a.pid = any($1::int4[])"""
_BLOCKED_BY = re.compile(r"blocked by process (\d+)")
_RELATION = re.compile(r'in relation "(.*)"')


def describe_blockers(url: Url, target: str, message: str, own_pid: int, names: Sequence[str] = ()) -> str:
    """Return the holders of a lock, such as " by psql (pid 4711, user bob)", or "" if they are unknown.

    A second connection queries them, since the transaction on the first one has failed.

    Args:
        url: the database.
        target: ``app/database``.
        message: the server's message about the wait.
        own_pid: the pid of the session that waited.
        names: words of the statement, which include the names of the tables that it changes.
    """
    blocked, relation = _BLOCKED_BY.findall(message), _RELATION.search(message)
    with (
        suppress(psycopg.Error),
        open_session(url, target, timeout=1, read_only=True) as session,
    ):
        excluded = [own_pid, session.pgconn.backend_pid]
        others = [int(pid) for pid in blocked if int(pid) not in excluded]
        if others:
            return _describe_sessions(session.execute(SESSIONS_BY_PID.encode(), [others]).fetchall())
        rows = []
        if relation:
            quoted = '"' + relation[1].replace('"', '""') + '"'
            rows = session.execute(HOLDERS.encode(), [excluded, quoted]).fetchall()
        if names and not rows:
            rows = session.execute(TABLE_HOLDERS.encode(), [excluded, list(names)]).fetchall()
        return _describe_sessions(rows or session.execute(HOLDERS.encode(), [excluded, None]).fetchall())
    return ""


def _describe_sessions(rows: list[Row]) -> str:
    sessions = [
        f"{name} (pid {pid}, user {user}{f', from {host}' if host else ''})"
        for pid, name, user, host in cast("list[tuple[int, str, str, str | None]]", rows)
    ]
    return f" by {', '.join(sessions)}" if sessions else ""
