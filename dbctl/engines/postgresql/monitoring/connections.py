"""Who is connected to a database on a server, who waits for whom, and how they are stopped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from dbctl.engines.contract import Session, Traffic, Wait
from dbctl.engines.parsing import shown
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.postgresql.sql import tokens
from dbctl.engines.sql import Row, ident

_COLUMNS = """{0}.pid, coalesce({0}.usename, ''), coalesce(nullif({0}.application_name, ''), {0}.backend_type),
  host({0}.client_addr), coalesce({0}.state, ''), coalesce({0}.query, ''),
  case when {0}.state = 'active' then extract(epoch from clock_timestamp() - {0}.query_start) end::float8,
  extract(epoch from clock_timestamp() - {0}.xact_start)::float8,
  case when {0}.state = 'active' then nullif(concat_ws(': ', {0}.wait_event_type, {0}.wait_event), '') end,
  {0}.query_start, coalesce(pg_has_role({0}.usesysid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE')
    and not (select r.rolsuper from pg_catalog.pg_roles r where r.oid = {0}.usesysid), false)"""
SESSIONS = f"""select {_COLUMNS.format("a")} from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.leader_pid is null order by a.xact_start nulls last, a.pid"""  # noqa: S608 - no value is in it
#: Who blocks may be in no database at all: a prepared transaction has no process, and its number is 0.
WAITS = f"""select {_COLUMNS.format("a")}, {_COLUMNS.format("b")}, b.pid is null,
  (select concat_ws(' ', l.mode, 'on', coalesce(l.relation::regclass::text, l.locktype)) from pg_catalog.pg_locks l
    where l.pid = a.pid and not l.granted limit 1),
  (select extract(epoch from clock_timestamp() - coalesce(min(l.waitstart), a.query_start))
    from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted)::float8
from pg_catalog.pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) p (pid)
  left join pg_catalog.pg_stat_activity b on b.pid = p.pid
where a.datname = current_database() order by 25 desc nulls last, a.pid, p.pid"""  # noqa: S608 - as above
TRAFFIC = """select current_setting('server_version'), d.numbackends, current_setting('max_connections')::int,
  d.xact_commit, d.xact_rollback, d.deadlocks, d.temp_bytes,
  d.blks_hit::float8 / nullif(d.blks_hit + d.blks_read, 0), d.stats_reset
from pg_catalog.pg_stat_database d where d.datname = current_database()"""
SEES = "select pg_has_role('pg_read_all_stats', 'USAGE'), current_user"
FIELDS = 11  #: columns that tell of one session


class PostgreSQLSessions(PostgreSQLDialect):
    """Capability.SESSIONS."""

    def sessions(self) -> Sequence[Session]:
        return [_session(row) for row in self._fetch(SESSIONS, {})]

    def waits(self) -> Sequence[Wait]:
        found = []
        for row in self._fetch(WAITS, {}):
            gone, lock, seconds = row[2 * FIELDS :]
            found.append(
                Wait(
                    blocked=_session(row[:FIELDS]),
                    blocking=PREPARED if gone else _session(row[FIELDS : 2 * FIELDS]),
                    lock=str(lock or ""),
                    seconds=_seconds(seconds),
                )
            )
        return found

    def traffic(self) -> Traffic:
        (row,) = self._fetch(TRAFFIC, {})
        version, connections, most, commits, rollbacks, deadlocks, temporary, hits, since = row
        return Traffic(
            version=str(version).split()[0],
            connections=cast("int", connections),
            max_connections=cast("int", most),
            commits=cast("int", commits),
            rollbacks=cast("int", rollbacks),
            deadlocks=cast("int", deadlocks),
            temp_bytes=cast("int", temporary),
            cache_hit_ratio=None if hits is None else round(cast("float", hits), 4),
            since=cast("datetime | None", since),
        )

    def hidden(self) -> str:
        ((sees, user),) = self._fetch(SEES, {})
        if sees:
            return ""
        return f"what other users do is not shown to this role; as a superuser: GRANT pg_read_all_stats TO {ident(str(user))};"

    def cancel(self, pid: int, *, terminate: bool) -> bool:
        function = "pg_terminate_backend" if terminate else "pg_cancel_backend"
        return self._fetch(f"select {function}(cast(:pid as int4))", {"pid": pid}) == [(True,)]


#: What blocks without a session: it was prepared, and nobody has committed it or rolled it back.
PREPARED = Session(
    pid=0,
    user="",
    application="a prepared transaction",
    client=None,
    state="prepared",
    query="",
    query_seconds=None,
    transaction_seconds=None,
    wait=None,
    statement="",
    may_end=False,
)


def _session(row: Row) -> Session:
    pid, user, application, client, state, query, running, lasting, wait, began, may_end = row
    return Session(
        pid=cast("int", pid),
        user=str(user),
        application=str(application),
        client=None if client is None else str(client),
        state=str(state),
        query=shown(str(query), tokens),
        query_seconds=_seconds(running),
        transaction_seconds=_seconds(lasting),
        wait=None if wait is None else str(wait),
        statement=str(began),
        may_end=bool(may_end),
    )


def _seconds(value: object) -> float | None:
    """Return seconds, none below zero: what began at this moment began a little later by the clock."""
    return None if value is None else round(max(0.0, cast("float", value)), 3)
