"""Sessions of a database on a server: list them, their locks and waits, and cancel them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import msgspec

from dbctl.engines.contract.checks import LockHolder
from dbctl.engines.contract.monitoring import LockWait, Session, Traffic, group_locks
from dbctl.engines.parsing.lineage import redact_statement
from dbctl.engines.postgresql.connection.session import own_backends
from dbctl.engines.postgresql.database import PostgreSQLPart, PostgreSQLReader
from dbctl.engines.postgresql.sql.lexer import LEXER
from dbctl.engines.servers.database import SHORT_TIMEOUT, describe_holders
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Row, ident
from dbctl.url import Url

#: Seconds since a time, at least 0: a start may be slightly later than the clock reading.
_SECONDS = "round(greatest(0, extract(epoch from clock_timestamp() - {0}))::numeric, 3)::float8"
#: The fields of ``Session``, in their order.
_COLUMNS = f"""{{0}}.pid, {{0}}.usename, coalesce(nullif({{0}}.application_name, ''), {{0}}.backend_type),
  host({{0}}.client_addr), {{0}}.state, coalesce({{0}}.query, ''),
  case when {{0}}.state = 'active' then {_SECONDS.format("{0}.query_start")} end, {_SECONDS.format("{0}.xact_start")},
  case when {{0}}.state = 'active' then nullif(concat_ws(': ', {{0}}.wait_event_type, {{0}}.wait_event), '') end,
  {{0}}.query_start::text, coalesce(pg_has_role({{0}}.usesysid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE')
    and not (select r.rolsuper from pg_catalog.pg_roles r where r.oid = {{0}}.usesysid), false)"""
SESSIONS = f"""select {_COLUMNS.format("a")} from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.leader_pid is null order by a.xact_start nulls last, a.pid"""
#: The blocker may belong to no database: a prepared transaction has no process, and its pid is 0.
WAITS = f"""select {_COLUMNS.format("a")}, {_COLUMNS.format("b")}, b.pid is null,
  (select concat_ws(' ', l.mode, 'on', coalesce(l.relation::regclass::text, l.locktype)) from pg_catalog.pg_locks l
    where l.pid = a.pid and not l.granted limit 1),
  (select {_SECONDS.format("coalesce(min(l.waitstart), a.query_start)")}
    from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted)
from pg_catalog.pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) p (pid)
  left join pg_catalog.pg_stat_activity b on b.pid = p.pid
where a.datname = current_database() order by 25 desc nulls last, a.pid, p.pid"""
TRAFFIC = """select split_part(current_setting('server_version'), ' ', 1) as version, d.numbackends as connections,
  current_setting('max_connections')::int as max_connections, d.xact_commit as commits, d.xact_rollback as rollbacks, d.deadlocks,
  d.temp_bytes, round(d.blks_hit::numeric / nullif(d.blks_hit + d.blks_read, 0), 4)::float8 as cache_hit_ratio, d.stats_reset as since
from pg_catalog.pg_stat_database d where d.datname = current_database()"""
SEES_ALL = "select pg_has_role('pg_read_all_stats', 'USAGE'), current_user"
HOLDERS = """select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type) as command, a.usename as owner,
  case when exists (select from pg_catalog.pg_locks l where l.pid = a.pid and l.granted and l.locktype = 'transactionid') then 'write'
    when a.xact_start is not null then 'read' else 'open' end as mode, pg_blocking_pids(a.pid) as waits_for
from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() order by a.pid"""

#: The lock that a session waits for comes first. Locks of indexes are omitted: their tables are locked as well.
LOCKS = """select l.pid, concat(l.mode, ' on ', coalesce(l.relation::regclass::text, l.locktype),
  case when not l.granted then ' (waiting)' end)
from pg_catalog.pg_locks l left join pg_catalog.pg_class c on c.oid = l.relation
where l.pid is not null and l.locktype <> 'virtualxid' and coalesce(c.relkind, 'r') not in ('i', 'I')
  and (l.database is null or l.database in (0, (select oid from pg_catalog.pg_database where datname = current_database())))
order by l.granted, 2"""
_FIELDS = Session.__struct_fields__


class PostgreSQLSessions(PostgreSQLPart):
    """The part ``SessionMonitor``."""

    def list_sessions(self) -> Sequence[Session]:
        return [_create_session(row) for row in self._connection.fetch(SESSIONS)]

    def list_lock_waits(self) -> Sequence[LockWait]:
        waits = []
        for row in self._connection.fetch(WAITS):
            blocked, blocking = row[: len(_FIELDS)], row[len(_FIELDS) : 2 * len(_FIELDS)]
            is_prepared, lock, seconds = row[2 * len(_FIELDS) :]
            waits.append(
                LockWait(
                    blocked=_create_session(blocked),
                    blocking=PREPARED if is_prepared else _create_session(blocking),
                    lock=str(lock or ""),
                    seconds=msgspec.convert(seconds, float | None),
                )
            )
        return waits

    def read_traffic(self) -> Traffic:
        return self._connection.fetch_as(Traffic, TRAFFIC)[0]

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
    fields = dict(zip(_FIELDS, row, strict=True))
    fields["query"] = redact_statement(str(fields["query"]), LEXER)
    return convert_row(fields, Session)


def list_lock_holders(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the sessions of other processes that are connected to the database at ``url``."""
    with closing(PostgreSQLReader(url, target, timeout=SHORT_TIMEOUT)) as reader:
        holders = reader.connection.fetch_as(LockHolder, HOLDERS)
        locks = group_locks(reader.query(LOCKS))
        sessions = PostgreSQLSessions(reader).list_sessions()
    others = [
        holder
        for holder in holders
        # the system reuses pids
        if not (holder.pid in own_backends and holder.command.startswith("dbctl"))
    ]
    return describe_holders(others, sessions, locks)
