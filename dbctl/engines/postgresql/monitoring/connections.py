"""Sessions of a database on a server: list them and their waits, and cancel them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import LockWait, Session, Traffic
from dbctl.engines.parsing import redact_statement
from dbctl.engines.postgresql.sql import tokenize
from dbctl.engines.sql import Row, ident

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

_COLUMNS = """{0}.pid, coalesce({0}.usename, ''), coalesce(nullif({0}.application_name, ''), {0}.backend_type),
  host({0}.client_addr), coalesce({0}.state, ''), coalesce({0}.query, ''),
  case when {0}.state = 'active' then extract(epoch from clock_timestamp() - {0}.query_start) end::float8,
  extract(epoch from clock_timestamp() - {0}.xact_start)::float8,
  case when {0}.state = 'active' then nullif(concat_ws(': ', {0}.wait_event_type, {0}.wait_event), '') end,
  {0}.query_start, coalesce(pg_has_role({0}.usesysid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE')
    and not (select r.rolsuper from pg_catalog.pg_roles r where r.oid = {0}.usesysid), false)"""
SESSIONS = f"""select {_COLUMNS.format("a")} from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.leader_pid is null order by a.xact_start nulls last, a.pid"""
#: The blocker may belong to no database: a prepared transaction has no process, and its pid is 0.
WAITS = f"""select {_COLUMNS.format("a")}, {_COLUMNS.format("b")}, b.pid is null,
  (select concat_ws(' ', l.mode, 'on', coalesce(l.relation::regclass::text, l.locktype)) from pg_catalog.pg_locks l
    where l.pid = a.pid and not l.granted limit 1),
  (select extract(epoch from clock_timestamp() - coalesce(min(l.waitstart), a.query_start))
    from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted)::float8
from pg_catalog.pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) p (pid)
  left join pg_catalog.pg_stat_activity b on b.pid = p.pid
where a.datname = current_database() order by 25 desc nulls last, a.pid, p.pid"""
TRAFFIC = """select current_setting('server_version'), d.numbackends, current_setting('max_connections')::int,
  d.xact_commit, d.xact_rollback, d.deadlocks, d.temp_bytes,
  d.blks_hit::float8 / nullif(d.blks_hit + d.blks_read, 0), d.stats_reset
from pg_catalog.pg_stat_database d where d.datname = current_database()"""
SEES_ALL = "select pg_has_role('pg_read_all_stats', 'USAGE'), current_user"
SESSION_COLUMNS = 11  #: columns of one session


class PostgreSQLSessions:
    """The part ``SessionMonitor``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._connection = db.connection

    def list_sessions(self) -> Sequence[Session]:
        return [_create_session(row) for row in self._connection.fetch(SESSIONS)]

    def list_lock_waits(self) -> Sequence[LockWait]:
        waits = []
        for row in self._connection.fetch(WAITS):
            is_prepared, lock, seconds = row[2 * SESSION_COLUMNS :]
            waits.append(
                LockWait(
                    blocked=_create_session(row[:SESSION_COLUMNS]),
                    blocking=PREPARED
                    if is_prepared
                    else _create_session(row[SESSION_COLUMNS : 2 * SESSION_COLUMNS]),
                    lock=str(lock or ""),
                    seconds=_round_seconds(seconds),
                )
            )
        return waits

    def read_traffic(self) -> Traffic:
        (row,) = self._connection.fetch(TRAFFIC)
        version, connections, limit, commits, rollbacks, deadlocks, temporary, hits, since = row
        return Traffic(
            version=str(version).split()[0],
            connections=cast("int", connections),
            max_connections=cast("int", limit),
            commits=cast("int", commits),
            rollbacks=cast("int", rollbacks),
            deadlocks=cast("int", deadlocks),
            temp_bytes=cast("int", temporary),
            cache_hit_ratio=None if hits is None else round(cast("float", hits), 4),
            since=cast("datetime | None", since),
        )

    def visibility_limits(self) -> str:
        ((is_allowed, user),) = self._connection.fetch(SEES_ALL)
        if is_allowed:
            return ""
        return f"statements of other users are not visible to this role; as a superuser: GRANT pg_read_all_stats TO {ident(str(user))};"

    def cancel(self, pid: int, *, terminate: bool) -> bool:
        function = "pg_terminate_backend" if terminate else "pg_cancel_backend"
        return self._connection.fetch(f"select {function}(cast(:pid as int4))", {"pid": pid}) == [(True,)]


#: A prepared transaction that blocks others; it has no session.
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
    statement_id="",
    can_cancel=False,
)


def _create_session(row: Row) -> Session:
    (
        pid,
        user,
        application,
        client,
        state,
        query,
        query_seconds,
        transaction_seconds,
        wait,
        statement_id,
        may_end,
    ) = row
    return Session(
        pid=cast("int", pid),
        user=str(user),
        application=str(application),
        client=None if client is None else str(client),
        state=str(state),
        query=redact_statement(str(query), tokenize),
        query_seconds=_round_seconds(query_seconds),
        transaction_seconds=_round_seconds(transaction_seconds),
        wait=None if wait is None else str(wait),
        statement_id=str(statement_id),
        can_cancel=bool(may_end),
    )


def _round_seconds(value: object) -> float | None:
    """Return seconds, at least 0: a start may be slightly later than the clock reading."""
    return None if value is None else round(max(0.0, cast("float", value)), 3)
