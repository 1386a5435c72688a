"""The lock of all dbctl on a server, and who holds it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import psycopg

from dbctl.engines.postgresql.session import Session, application_name, open_session
from dbctl.engines.servers import ServedWriter
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError
from dbctl.url import Url

HOLDER = """select a.application_name, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::int8 << 32) | l.objid::int8 = :key limit 1"""


def key_of(name: str) -> int:
    """Return the number of the lock for what is called so."""
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # without a sign, as pg_locks tells it in two halves


class PostgreSQLLocks(ServedWriter[Session]):
    """A session that may keep every other dbctl from writing."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        key = self._lock_key()
        self._current().settings["application_name"] = application_name(f"dbctl {purpose}")
        self._settle()
        asked = "select pg_try_advisory_lock(:key)"
        self._wait_for_lock(lambda: self._rows(asked, {"key": key}) == [(True,)], lambda: self._holder(key))
        try:
            yield
        finally:  # it ends with the session, whatever happens; a broken one has ended
            with suppress(DbctlError, RuntimeError):
                self._rows("select pg_advisory_unlock(:key)", {"key": key})

    def _lock_key(self) -> int:
        """Return what all dbctl agree on: the server keeps such locks apart by database, and this by schema."""
        (row,) = self._rows("select current_database() || '/' || coalesce(current_schema(), '')", {})
        return key_of(str(row[0]))

    def _holder(self, key: int) -> str:
        rows = self._rows(HOLDER, {"key": key})
        if not rows:
            return " by another dbctl"
        name, pid, host, since = rows[0]
        return f" by {name or 'another dbctl'} (pid {pid} of the server, from {host}, since {since})"


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
