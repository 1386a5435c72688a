"""Who holds what a session waited for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import psycopg

from dbctl.engines.postgresql.session import open_session
from dbctl.engines.sql import Row
from dbctl.url import Url

#: Who holds more than a reader's lock in this database, those first who have done so longest. Whoever waits for a row
#: is not told whose it is, but that one holds a lock on its table, too.
HOLDERS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and a.datname = current_database() and l.locktype in ('relation', 'transactionid')
  and l.mode <> 'AccessShareLock' and a.pid <> all($1::int4[]) and a.wait_event_type is distinct from 'Lock'
  and (l.relation is not null and l.relation = pg_catalog.to_regclass($2) or $2 is null)
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
#: Who holds any lock, a reader's too, on tables of these names: a change of a table waits for all of them.
OF_TABLES = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.relation in (select pg_catalog.to_regclass(quote_ident(n)) from unnest($2::text[]) n) and a.pid <> all($1::int4[])
  and a.wait_event_type is distinct from 'Lock'
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
NAMED = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)
from pg_catalog.pg_stat_activity a where a.pid = any($1::int4[])"""
_BLOCKED_BY = re.compile(r"blocked by process (\d+)")
_RELATION = re.compile(r'in relation "(.*)"')


def blockers(url: Url, target: str, told: str, own: int, names: Sequence[str] = ()) -> str:
    """Return " by psql (pid 4711, user bob)" for who holds what was waited for, or "" where that is unknown.

    A second connection asks: on the first one the transaction has failed.

    Args:
        url: the database.
        target: ``app/database``.
        told: what the server said of the wait.
        own: the pid of the session that waited.
        names: where it was to change tables, the words of the statement, among which their names are.
    """
    blocked, relation = _BLOCKED_BY.findall(told), _RELATION.search(told)
    with (
        suppress(psycopg.Error),
        open_session(url, target, timeout=1, reading=True) as asking,
    ):
        mine = [own, asking.pgconn.backend_pid]
        others = [int(pid) for pid in blocked if int(pid) not in mine]
        if others:
            return _named(asking.execute(NAMED.encode(), [others]).fetchall())
        rows = []
        if relation:
            quoted = '"' + relation[1].replace('"', '""') + '"'
            rows = asking.execute(HOLDERS.encode(), [mine, quoted]).fetchall()
        if names and not rows:
            rows = asking.execute(OF_TABLES.encode(), [mine, list(names)]).fetchall()
        return _named(rows or asking.execute(HOLDERS.encode(), [mine, None]).fetchall())
    return ""


def _named(rows: list[Row]) -> str:
    told = [
        f"{name} (pid {pid}, user {user}{f', from {host}' if host else ''})"
        for pid, name, user, host in cast("list[tuple[int, str, str, str | None]]", rows)
    ]
    return f" by {', '.join(told)}" if told else ""
