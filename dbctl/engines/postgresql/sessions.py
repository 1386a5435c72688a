"""Sessions and their locks, slow statements, replication, and problems of the definitions of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import cast

from msgspec import structs

from dbctl.engines.contract.checks import EngineFinding, FindingQuery, LockHolder
from dbctl.engines.contract.monitoring import LockWait, ReplicaState, Session, SlowQuery, Traffic, group_locks
from dbctl.engines.parsing.lineage import redact_statement
from dbctl.engines.postgresql import properties
from dbctl.engines.postgresql.catalog import LEFTOVER_INDEX, RELATIONS, VISIBLE, quoted
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.session import own_backends
from dbctl.engines.postgresql.statements import LEXER
from dbctl.engines.servers.database import SessionMonitor, find_problems
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.errors.connection import CorruptError, PrivilegeMissingError
from dbctl.errors.usage import NotSupportedError

#: Seconds since a time, at least 0: a start may be slightly later than the clock reading.
_SECONDS = "round(greatest(0, extract(epoch from clock_timestamp() - {0}))::numeric, 3)::float8"
SESSIONS = f"""select a.pid, a.usename as "user", coalesce(nullif(a.application_name, ''), a.backend_type) as application,
  host(a.client_addr) as client, a.state, coalesce(a.query, '') as query,
  case when a.state = 'active' then {_SECONDS.format("a.query_start")} end as query_seconds,
  {_SECONDS.format("a.xact_start")} as transaction_seconds,
  case when a.state = 'active' then nullif(concat_ws(': ', a.wait_event_type, a.wait_event), '') end as wait,
  a.query_start::text as statement_id, coalesce(pg_has_role(a.usesysid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE')
    and not (select r.rolsuper from pg_catalog.pg_roles r where r.oid = a.usesysid), false) as can_cancel
from pg_catalog.pg_stat_activity a"""
OTHERS = """where a.datname = current_database() and a.pid <> pg_backend_pid() and a.leader_pid is null
order by a.xact_start nulls last, a.pid"""
#: The blocker may belong to another database, or to none: a prepared transaction has no process, and its pid is 0.
WAITS = f"""select a.pid, p.pid,
  (select concat_ws(' ', l.mode, 'on', coalesce(l.relation::regclass::text, l.locktype)) from pg_catalog.pg_locks l
    where l.pid = a.pid and not l.granted limit 1),
  (select {_SECONDS.format("coalesce(min(l.waitstart), a.query_start)")}
    from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted)
from pg_catalog.pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) p (pid)
where a.datname = current_database() order by 4 desc nulls last, 1, 2"""
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


#: The receiver is a process that exists while the primary is connected; the server ends it after a silence of wal_receiver_timeout.
#: Without it, changes of the primary may be missing here, so the lag is the age of the last change.
STATE = """select is_connected, lag_bytes,
  case when is_connected and lag_bytes = 0 or age < 0 then 0 else round(age::numeric, 3)::float8 end as lag_seconds
from (select exists (select from pg_catalog.pg_stat_wal_receiver) as is_connected,
    pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), pg_last_wal_replay_lsn())::int8 as lag_bytes,
    extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) as age) s
where pg_is_in_recovery()"""
CANCELS_READS = FindingQuery(
    severity="info",
    code="replica-cancels-reads",
    sql="""select current_setting('max_standby_streaming_delay') where current_setting('hot_standby_feedback') = 'off'
  and current_setting('max_standby_streaming_delay') <> '-1'""",
    message="the replica cancels reads that block replicated changes for {0}: long backups may fail",
    hint="ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
)
EXTENSION = """select n.nspname, exists (select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    where c.relname = 'pg_stat_statements' and c.relnamespace = n.oid and a.attname = 'mean_exec_time')
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"""
#: Column names differ since PostgreSQL 13, but only after the extension was updated.
NEW_COLUMNS = ("total_exec_time", "mean_exec_time", "max_exec_time")
OLD_COLUMNS = ("total_time", "mean_time", "max_time")
#: The setting exists once the library is loaded; only some roles may see which libraries are configured.
LOADED = """select current_setting('pg_stat_statements.max', true) is not null, current_database(),
  (select setting from pg_catalog.pg_settings where name = 'shared_preload_libraries')"""
LOGGED = (
    "without it, ALTER DATABASE {} SET log_min_duration_statement = '500ms'; logs slow statements on the server"
    " (SET log_statement = 'all' logs all statements; either may log values)."
)


class PostgreSQLServerMonitor(PostgreSQLPart, SessionMonitor):
    def list_sessions(self) -> Sequence[Session]:
        return self._read_sessions(OTHERS)

    def _read_sessions(self, rest: str = "") -> list[Session]:
        sessions = self._connection.fetch_as(Session, f"{SESSIONS} {rest}")
        return [
            structs.replace(session, query=redact_statement(session.query, LEXER)) for session in sessions
        ]

    def _read_holders(self) -> Sequence[LockHolder]:
        return [
            holder
            for holder in self._connection.fetch_as(LockHolder, HOLDERS)
            # the system reuses pids
            if not (holder.pid in own_backends and holder.command.startswith("dbctl"))
        ]

    def _read_locks(self) -> Mapping[int, Sequence[str]]:
        return group_locks(self._connection.fetch(LOCKS))

    def list_lock_waits(self) -> Sequence[LockWait]:
        waits = cast("list[tuple[int, int, str | None, float | None]]", self._connection.fetch(WAITS))
        sessions = {session.pid: session for session in self._read_sessions()} | {0: PREPARED}
        return [
            LockWait(blocked=sessions[blocked], blocking=sessions[blocking], lock=lock or "", seconds=seconds)
            for blocked, blocking, lock, seconds in waits
            if blocked in sessions and blocking in sessions
        ]

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

    def list_slow_queries(self) -> Sequence[SlowQuery]:
        extension = self._connection.fetch(EXTENSION)
        ((loaded, database, libraries),) = self._connection.fetch(LOADED)
        if not (extension and loaded):
            steps = [] if loaded else [_load_instruction(None if libraries is None else str(libraries))]
            steps += [] if extension else ["CREATE EXTENSION pg_stat_statements"]
            raise NotSupportedError(
                feature="listing slow statements",
                subject=f"{self._connection.target} with its current settings",
                hint=f"As a superuser: {', then '.join(steps)}; {LOGGED.format(ident(str(database)))}",
            )
        ((schema, has_new_columns),) = extension
        total, mean, longest = NEW_COLUMNS if has_new_columns else OLD_COLUMNS
        sql = f"""select query, calls, {_seconds(total)} as total_seconds, {_seconds(mean)} as mean_seconds,
  {_seconds(longest)} as max_seconds, rows,
  round(shared_blks_hit::numeric / nullif(shared_blks_hit + shared_blks_read, 0), 4)::float8 as cache_hit_ratio
from {ident(str(schema))}.pg_stat_statements
where dbid = (select oid from pg_catalog.pg_database where datname = current_database()) order by 3 desc"""
        queries = self._connection.fetch_as(SlowQuery, sql)
        return [structs.replace(slow, query=redact_statement(slow.query, LEXER)) for slow in queries]

    def read_replica_state(self) -> ReplicaState | None:
        states = self._connection.fetch_as(ReplicaState, STATE)
        return states[0] if states else None

    def read_identity(self) -> str:
        session = self._connection.session
        with self._connection.translate_errors("select"):
            system = properties.describe_server(session).get("system", "")
        return system and f"{system}/{session.info.dbname}"

    def find_read_limits(self) -> Sequence[EngineFinding]:
        return list(find_problems(self._connection, [CANCELS_READS]))


def _seconds(column: str) -> str:
    """Return SQL for a column with milliseconds in seconds."""
    return f"round(({column} / 1000)::numeric, 6)::float8"


def _load_instruction(libraries: str | None) -> str:
    """Return the step that loads the library in addition to the configured ``libraries``; None: they are unknown."""
    if libraries is None:
        return "add 'pg_stat_statements' to shared_preload_libraries, restart the server"
    names = [name.strip() for name in libraries.split(",") if name.strip()]
    listed = ", ".join(quote_literal(name) for name in [*names, "pg_stat_statements"])
    return f"ALTER SYSTEM SET shared_preload_libraries = {listed}; restart the server"


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


LEFTOVERS = FindingQuery(
    severity="warning",
    code="index-leftover",
    sql=f"""select {quoted("s.nspname", "i.relname")}, i.relname, c.relname {RELATIONS} join pg_catalog.pg_index x on x.indrelid = c.oid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {VISIBLE} and {LEFTOVER_INDEX} and c.relname = any(:tables) order by 3, 2""",
    message="index {1} of {2} is a leftover of an interrupted REINDEX: it is updated but not used",
    hint="DROP INDEX CONCURRENTLY {0};",
)
_UNENFORCED_SINCE = (
    18  #: the first version of the server with constraints that are not enforced, and the column
)
_IS_ENFORCED = "to_jsonb(f) ->> 'conenforced' is distinct from 'false'"
NOT_VALIDATED = FindingQuery(
    severity="warning",
    code="not-validated",
    sql=f"""select {quoted("n.nspname", "c.relname")}, c.relname, f.conname, {quoted("f.conname")},
  case f.contype when 'f' then 'foreign key' when 'n' then 'not null' else 'check' end {RELATIONS}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and not f.convalidated and f.contype in ('c', 'f', 'n') and {_IS_ENFORCED}
where {VISIBLE} and c.relname = any(:tables) order by 2, 3""",
    message="{4} {2} of {1} is not validated for rows that are older than it",
    hint="ALTER TABLE {0} VALIDATE CONSTRAINT {3};",
)
#: The server can begin to enforce a foreign key, and not a check.
UNENFORCED = FindingQuery(
    severity="warning",
    code="not-enforced",
    sql=f"""select c.relname, f.conname, case f.contype when 'f' then 'foreign key' else 'check' end,
  case f.contype when 'f' then format('ALTER TABLE %s ALTER CONSTRAINT %I ENFORCED;', c.oid::regclass, f.conname)
    else format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %3$s;', c.oid::regclass, f.conname,
      replace(pg_get_constraintdef(f.oid), ' NOT ENFORCED', '')) end {RELATIONS}
  join pg_catalog.pg_constraint f on f.conrelid = c.oid and not f.conenforced
where {VISIBLE} and c.relname = any(:tables) order by 1, 2""",
    message="{2} {1} of {0} is not enforced",
    hint="{3}",
)
#: Only collations of the app's columns; built-in collations have no version.
COLLATIONS = FindingQuery(
    severity="warning",
    code="collation-changed",
    sql=f"""select distinct {quoted("s.nspname", "l.collname")}, l.collname, l.collversion, pg_collation_actual_version(l.oid),
  {quoted("current_database()::text")} {RELATIONS}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_collation l on l.oid = a.attcollation join pg_catalog.pg_namespace s on s.oid = l.collnamespace
where {VISIBLE} and c.relname = any(:tables) and l.collversion <> pg_collation_actual_version(l.oid) order by 2""",
    message="collation {1} changed from version {2} to {3}: indexes over text may have the wrong order",
    hint="REINDEX DATABASE CONCURRENTLY {4}; ALTER COLLATION {0} REFRESH VERSION;",
)
#: The collation of the database has a version since PostgreSQL 15.
_VERSIONED = "select count(*) from pg_catalog.pg_attribute where attrelid = 'pg_catalog.pg_database'::regclass and attname = 'datcollversion'"
DATABASE_COLLATION = FindingQuery(
    severity="warning",
    code="collation-changed",
    sql=f"""select {quoted("datname")}, datcollversion, pg_database_collation_actual_version(oid) from pg_catalog.pg_database
where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)""",
    message="the collation of the database changed from version {1} to {2}: indexes over text may have the wrong order",
    hint="REINDEX DATABASE CONCURRENTLY {0}; ALTER DATABASE {0} REFRESH COLLATION VERSION;",
)
CHECKSUMS = FindingQuery(
    severity="error",
    code="checksums-failed",
    sql="""select checksum_failures, checksum_last_failure::text from pg_catalog.pg_stat_database
where datname = current_database() and checksum_failures > 0""",
    message="{0} pages failed their checksum, the last one at {1}",
    hint="Disk or memory is faulty. Stop the app, copy all files as they are, and restore a backup on another disk.",
)
#: The sequences of columns: of their default, or of an identity column.
SEQUENCES = f"""select distinct n.nspname, c.relname, a.attname, s.nspname, q.relname, z.seqincrement,
  case when q.relkind = 'S' then has_sequence_privilege(q.oid, 'SELECT') end and has_column_privilege(c.oid, a.attnum, 'SELECT'), z.seqcycle {RELATIONS}
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef v on v.adrelid = c.oid and v.adnum = a.attnum
  join pg_catalog.pg_depend e on
    (e.classid = 'pg_catalog.pg_attrdef'::regclass and e.objid = v.oid and e.refclassid = 'pg_catalog.pg_class'::regclass)
    or (e.classid = 'pg_catalog.pg_class'::regclass and e.refclassid = 'pg_catalog.pg_class'::regclass
      and e.refobjid = c.oid and e.refobjsubid = a.attnum and e.deptype = 'i')
  join pg_catalog.pg_class q on q.relkind = 'S'
    and q.oid = case when e.deptype = 'i' and e.refobjid = c.oid then e.objid else e.refobjid end
  join pg_catalog.pg_sequence z on z.seqrelid = q.oid join pg_catalog.pg_namespace s on s.oid = q.relnamespace
where {VISIBLE} and c.relkind in ('r', 'p') and c.relname = any(:tables) and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
order by 2, 3"""


class SchemaAdvice(PostgreSQLPart):
    """Findings about constraints, sequences, collations and checksums."""

    def find(self, table: str = "") -> Sequence[EngineFinding]:
        """Return the findings about a table, or about the whole database."""
        tables = [self._catalog.require_table(table).name] if table else self._catalog.base_tables()
        version = self._connection.session.info.server_version // 10_000
        unenforced = [UNENFORCED] if version >= _UNENFORCED_SINCE else []
        findings = [
            *find_problems(self._connection, [LEFTOVERS, NOT_VALIDATED, *unenforced], {"tables": tables}),
            *self._find_lagging_sequences(tables),
            *find_problems(self._connection, [COLLATIONS], {"tables": tables}),
        ]
        if not table:
            is_versioned = self._connection.fetch(_VERSIONED) == [(1,)]
            checks = [DATABASE_COLLATION, CHECKSUMS] if is_versioned else [CHECKSUMS]
            findings += find_problems(self._connection, checks)
        return findings

    def _find_lagging_sequences(self, tables: Sequence[str]) -> Iterator[EngineFinding]:
        for table_schema, table, column, schema, name, increment, readable, cycles in self._connection.fetch(
            SEQUENCES, {"tables": tables}
        ):
            place, sequence = (
                f"{ident(str(owner))}.{ident(str(part))}"
                for owner, part in ((table_schema, table), (schema, name))
            )
            if not readable:
                ((user,),) = self._connection.fetch("select current_user")
                yield EngineFinding(
                    severity="info",
                    code="sequence-not-checked",
                    message=f"sequence {name} of {table}.{column} was not checked: this role may not read it",
                    hint=f"GRANT SELECT ON SEQUENCE {sequence} TO {ident(str(user))};",
                )
            if cycles or not readable:
                continue
            step, following, furthest = int(str(increment)), None, None
            selection = f"{'max' if step > 0 else 'min'}({ident(str(column))})"
            # A row with the largest number of the type leaves no number for the next row.
            limit = f"select seqmax - seqincrement from pg_catalog.pg_sequence where seqrelid = {quote_literal(sequence)}::regclass"
            rows = f"{place} where {ident(str(column))} <= ({limit})" if step > 0 else place
            with suppress(CorruptError, PrivilegeMissingError):  # other checks report it
                ((last, is_called, furthest),) = self._connection.fetch(
                    f"select s.last_value, s.is_called, m.furthest from {sequence} s, (select {selection} as furthest from {rows}) m"
                )
                following = int(str(last)) + (step if is_called else 0)  # which may exceed a bigint
            if (
                isinstance(furthest, int)
                and isinstance(following, int)
                and (furthest - following) * step >= 0
            ):
                yield EngineFinding(
                    severity="error",
                    code="sequence-behind",
                    message=f"sequence {name} returns {following} next, but {table}.{column} has reached {furthest}: new rows fail or get duplicate keys",
                    hint=f"SELECT setval({quote_literal(sequence)}, (SELECT {selection} FROM {rows}));",
                    column=f"{table}.{column}",
                )
