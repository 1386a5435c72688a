"""The sessions that hold the locks for which another session waits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import psycopg

from dbctl.engines.postgresql.connection.session import open_session
from dbctl.engines.sql.catalog import Row
from dbctl.url import Url

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
    ``message`` is the server's about the wait of the session ``own_pid``, and ``names`` are words of the statement, which
    include the names of the tables that it changes.
    """
    blocked, relation = _BLOCKED_BY.findall(message), _RELATION.search(message)
    with suppress(psycopg.Error), open_session(url, target, timeout=1, read_only=True) as session:
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
