"""Sizes and indexes of MySQL and MariaDB, and maintenance; sessions, slow statements, replication and clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from msgspec import structs

from dbctl.engines.contract.checks import LockHolder, Storage, TableSize
from dbctl.engines.contract.monitoring import (
    Bloat,
    Index,
    LockWait,
    MaintenanceKind,
    MaintenanceTask,
    ReplicaState,
    Session,
    SlowQuery,
    StorageManager,
    Traffic,
    group_locks,
)
from dbctl.engines.mysql.catalog import INDEX_SQL, require_all_tables
from dbctl.engines.mysql.connection import DbctlLock
from dbctl.engines.mysql.database import MySQLPart
from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.mysql.opening import error_number, own_sessions, quote
from dbctl.engines.mysql.statements import LEXER
from dbctl.engines.parsing.lineage import redact_statement
from dbctl.engines.servers.database import LARGE_TABLE, NamedRow, SessionMonitor
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Row
from dbctl.errors.base import Remedy
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import group, now

STORAGE = """select cast(coalesce(sum(coalesce(data_length, 0) + coalesce(index_length, 0)), 0) as signed) as bytes,
  @@innodb_page_size as page_size
from information_schema.tables where table_schema = database() and table_type <> 'VIEW'"""
INDEX_NAMES = """select distinct table_name, index_name from information_schema.statistics
where table_schema = database() order by 1, 2"""
TABLE_SIZES = """select table_name as "table", coalesce(table_rows, 0) as "rows", coalesce(data_length, 0) as table_bytes,
  coalesce(index_length, 0) as index_bytes from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
WRITE_COUNTS = """select object_name as "table", count_insert as inserts, count_update as updates, count_delete as deletes
from performance_schema.table_io_waits_summary_by_table where object_schema = database()"""
BLOAT = """select table_name as "table", coalesce(data_length, 0) + coalesce(index_length, 0) + coalesce(data_free, 0) as bytes,
  data_free as wasted_bytes, null as dead_rows, table_rows as "rows", concat('data_free of ', coalesce(engine, 'an unknown engine')) as source
from information_schema.tables where table_schema = database() and table_type <> 'VIEW' order by table_name"""
#: Only MySQL has indexes over expressions.
INDEXES = """select table_name as "table", index_name as name, non_unique = 0 as "unique", lower(index_type) as method, {} as is_ignored,
  concat(coalesce(column_name, concat('(', {}, ')')), case when sub_part is null then '' else concat('(', sub_part, ')') end,
    case collation when 'D' then ' desc' else '' end) as term
from information_schema.statistics where table_schema = database() order by 1, 2, seq_in_index"""
#: The columns of each foreign key; an index that begins with them is required.
KEYS = """select table_name, column_name, constraint_name from information_schema.key_column_usage
where table_schema = database() and referenced_table_name is not null order by 1, 3, ordinal_position"""
REFERENCED_KEYS = """select referenced_table_name, referenced_column_name, constraint_name, table_name
from information_schema.key_column_usage where referenced_table_schema = database() order by 1, 3, 4, ordinal_position"""
BYTES = """select table_name, index_name, stat_value * @@innodb_page_size from mysql.innodb_index_stats
where database_name = database() and stat_name = 'size'"""
SCANS = """select object_name, index_name, count_read from performance_schema.table_io_waits_summary_by_index_usage
where object_schema = database() and index_name is not null"""
MAINTENANCE: Mapping[MaintenanceKind, str] = {
    "analyze": "ANALYZE TABLE {}",
    "optimize": "OPTIMIZE TABLE {}",
    "reindex": "ALTER TABLE {} FORCE",
}
#: Tasks that an engine without dead rows does not need.
INSTEAD: Mapping[MaintenanceKind, Remedy | str] = {
    "vacuum": Remedy("Rewrite tables that contain much unused space with: `maintain optimize`"),
    "checkpoint": "The server applies its log automatically.",
    "wal": "The server always writes a log.",
    "rollback-journal": "The server always writes a log.",
}
#: A table is due if more than a quarter of its size is free, and at least 4 MiB.
DUE = """select table_name from information_schema.tables where table_schema = database() and table_type <> 'VIEW'
  and data_free > 4194304 and data_free > (data_length + index_length) / 4 order by table_name"""


class MySQLStorage(MySQLPart, StorageManager):
    """The part ``StorageManager``; index scans are counted since the server start, and the server removes unfinished tables itself."""

    quote_name = staticmethod(quote)

    def measure_storage(self) -> Storage:
        return self._connection.fetch_as(Storage, STORAGE, tables=len(self._catalog.base_tables()))[0]

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        indexes = group((str(name), str(index)) for name, index in self._connection.fetch(INDEX_NAMES))
        statistics = {row["table"]: row for row in self._connection.fetch_by_name(TABLE_SIZES)}
        write_counts, sizes = self._write_counts(), []
        for name in self._catalog.base_tables():
            if table in ("", name):
                row = statistics.get(name, {"table": name, "rows": 0, "table_bytes": 0, "index_bytes": 0})
                row |= write_counts.get(name, {})
                row["estimated"] = not exact and row["table_bytes"] > LARGE_TABLE
                row["rows"] = row["rows"] if row["estimated"] else self._db.count(name)
                row["bytes"] = row["table_bytes"] + row["index_bytes"]
                sizes.append(convert_row({**row, "indexes": indexes.get(name, [])}, TableSize))
        return sizes

    def _write_counts(self) -> dict[str, dict[str, Any]]:
        """Return the counts of inserts, updates and deletes by table since the server start; empty if the server does not count."""
        with suppress(PrivilegeMissingError):
            if self._counts_events():
                return {row["table"]: row for row in self._connection.fetch_by_name(WRITE_COUNTS)}
        return {}

    def measure_bloat(self) -> Sequence[Bloat]:
        return self._connection.fetch_as(Bloat, BLOAT, estimated=True)

    def list_indexes(self, *, sized: bool = True) -> Sequence[Index]:  # noqa: ARG002 - the server has the sizes
        query = INDEXES.format(*INDEX_SQL[self._connection.server.is_mariadb])
        sizes, scans = self._by_index(BYTES), self._by_index(SCANS) if self._counts_events() else {}
        keys, indexes = self._foreign_key_columns(), dict[tuple[str, str], dict[str, Any]]()
        for row in self._connection.fetch_by_name(query):
            place = row["table"], row["name"]
            indexes.setdefault(place, {**row, "columns": []})["columns"].append(row["term"])
        for (table, name), index in indexes.items():
            others = [other["columns"] for at, other in indexes.items() if at[0] == table and at[1] != name]
            index |= {
                "primary": name == "PRIMARY",
                "constraint": name == "PRIMARY",  # other indexes belong to no constraint
                "is_referenced": _is_needed(index["columns"], keys.get(table, []), others),
                "valid": True,
                "where": "",
                "bytes": sizes.get((table, name)),
                "scans": scans.get((table, name), 0) if scans else None,
                "drop_statement": f"ALTER TABLE {quote(table)} DROP INDEX {quote(name)};",
            }
        return [convert_row(index, Index) for index in indexes.values()]

    def _foreign_key_columns(self) -> Mapping[str, list[list[str]]]:
        """Return the columns for which foreign keys need an index, at either end, by table."""
        keys = (
            list(rows)
            for query in (KEYS, REFERENCED_KEYS)
            for _, rows in groupby(self._connection.fetch(query), key=lambda row: (row[0], *row[2:]))
        )
        return group((str(key[0][0]), [str(row[1]) for row in key]) for key in keys)

    def _by_index(self, query: str) -> dict[tuple[str, str], int]:
        try:
            rows = self._connection.fetch(query)
        except (PrivilegeMissingError, QueryFailedError):
            # The table may be hidden or missing.
            return {}
        return {(str(table), str(name)): int(str(count)) for table, name, count in rows}

    def scans_counted_since(self) -> datetime | None:
        if not self._counts_events():
            return None
        ((_, seconds),) = self._connection.fetch("show global status where variable_name = 'Uptime'")
        return now() - timedelta(seconds=int(str(seconds)))

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        for name in tables:
            self._catalog.require_table(name)
        if kind in INSTEAD:
            raise NotSupportedError(feature=kind, subject=self._connection.target, hint=INSTEAD[kind])
        selected = list(tables) or self._catalog.base_tables()
        if kind == "optimize" and not tables:
            selected = [str(name) for (name,) in self._connection.fetch(DUE)]
        return [
            MaintenanceTask(table=name, statement=MAINTENANCE[kind].format(quote(name))) for name in selected
        ]

    def maintain(self, task: MaintenanceTask) -> None:
        if self._connection.read_only:
            raise RuntimeError("maintenance on a read-only connection")
        for row in self._connection.fetch(task.statement):
            if str(row[2]).lower() == "error":  # the server returns errors as rows
                raise QueryFailedError(target=self._connection.target, reason=str(row[3]))


def _is_needed(terms: Sequence[str], keys: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Return whether a foreign key would have no index without this one."""
    return any(
        list(terms[: len(key)]) == list(key)
        and not any(list(other[: len(key)]) == list(key) for other in others)
        for key in keys
    )


#: Only MariaDB numbers statements; on MySQL the text distinguishes them.
SESSIONS = f"""select p.id as pid, p.user as "user", p.host as host, p.command as command, coalesce(p.state, '') as state,
  coalesce(p.info, '') as query, coalesce(p.time, 0) as seconds, {{}} as statement_id
from {PROCESSES} p where p.db = database() and p.id <> connection_id() order by p.time desc, p.id"""
TRANSACTIONS = """select trx_mysql_thread_id, timestampdiff(microsecond, trx_started, utc_timestamp(6)) / 1000000,
  coalesce(timestampdiff(microsecond, trx_wait_started, utc_timestamp(6)) / 1000000, 0)
from information_schema.innodb_trx"""
#: MySQL 8 and MariaDB show waits for rows in different places.
WAITS = {
    True: """select b.trx_mysql_thread_id, h.trx_mysql_thread_id, concat(l.lock_mode, ' on ', l.lock_table)
from information_schema.innodb_lock_waits w join information_schema.innodb_trx b on b.trx_id = w.requesting_trx_id
  join information_schema.innodb_trx h on h.trx_id = w.blocking_trx_id
  join information_schema.innodb_locks l on l.lock_id = w.requested_lock_id""",
    False: """select b.trx_mysql_thread_id, h.trx_mysql_thread_id, concat(l.lock_mode, ' on ', l.object_name)
from performance_schema.data_lock_waits w
  join information_schema.innodb_trx b on b.trx_id = w.requesting_engine_transaction_id
  join information_schema.innodb_trx h on h.trx_id = w.blocking_engine_transaction_id
  join performance_schema.data_locks l on l.engine_lock_id = w.requesting_engine_lock_id""",
}
#: MariaDB shows row locks only while others wait for them, and counts all of them; MySQL 8 shows each.
LOCKS = {
    True: """select t.trx_mysql_thread_id, concat(l.lock_mode, ' on ', replace(l.lock_table, '`', ''),
  case when l.lock_id in (select requested_lock_id from information_schema.innodb_lock_waits) then ' (waiting)' else '' end)
from information_schema.innodb_locks l join information_schema.innodb_trx t on t.trx_id = l.lock_trx_id
union all select trx_mysql_thread_id, concat('rows locked: ', trx_rows_locked, ' in tables: ', trx_tables_locked)
from information_schema.innodb_trx where trx_rows_locked > 0""",
    False: """select t.trx_mysql_thread_id, concat(l.lock_mode, ' on ', l.object_schema, '.', l.object_name,
  case l.lock_status when 'WAITING' then ' (waiting)' else '' end)
from performance_schema.data_locks l join information_schema.innodb_trx t on t.trx_id = l.engine_transaction_id
order by l.lock_status = 'WAITING' desc, 2""",
}
#: Locks of whole tables, visible if the performance schema is enabled.
METADATA_LOCKS = """select t.processlist_id, concat(m.lock_type, ' on ', m.object_schema, '.', m.object_name,
  case m.lock_status when 'PENDING' then ' (waiting)' else '' end)
from performance_schema.metadata_locks m join performance_schema.threads t on t.thread_id = m.owner_thread_id
where m.object_type = 'TABLE' and m.object_schema = database() and t.processlist_id is not null
order by m.lock_status = 'PENDING' desc, 2"""
STATUS = """show global status where variable_name in ('Com_commit', 'Com_rollback', 'Innodb_deadlocks',
  'Innodb_buffer_pool_read_requests', 'Innodb_buffer_pool_reads', 'Threads_connected', 'Uptime')"""
RIGHTS = "select privilege_type from information_schema.user_privileges where grantee = :account"
#: Rights to cancel statements of other accounts.
CANCEL_PRIVILEGES = frozenset({"SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN"})
NO_SUCH_THREAD = 1094
#: Transactions are visible with the right PROCESS only, so they are not included here.
HOLDERS = f"""select p.id as pid, p.command as command, p.user as owner,
  case when p.info is null then 'open' else 'read' end as mode
from {PROCESSES} p where p.db = database() and p.id <> connection_id() order by p.id"""


#: Timers count picoseconds.
STATEMENTS = """select digest_text as query, count_star as calls, round(sum_timer_wait / 1e12, 6) as total_seconds,
  round(avg_timer_wait / 1e12, 6) as mean_seconds, round(max_timer_wait / 1e12, 6) as max_seconds, sum_rows_sent as "rows",
  null as cache_hit_ratio
from performance_schema.events_statements_summary_by_digest where schema_name = database() and digest_text is not null
order by sum_timer_wait desc"""
INSTRUCTIONS = "Put performance_schema = ON below [mysqld] in its configuration and restart the server. Without it, SET GLOBAL slow_query_log = ON; SET GLOBAL long_query_time = 0.5; logs slow statements on the server (SET GLOBAL general_log = ON logs all statements; either may log values)."
#: The first words of statements that run in total order isolation.
SCHEMA_CHANGES = frozenset(
    {"alter", "analyze", "create", "drop", "grant", "optimize", "rename", "repair", "revoke", "truncate"}
)


class MySQLServerMonitor(MySQLPart, SessionMonitor):
    """The part ``ServerMonitor``: a primary and its replicas share no identifier; a replica waits for reads, and cancels none."""

    def list_sessions(self) -> Sequence[Session]:
        rights = self._rights()
        own_user = self._connection.session.account.partition("@")[0].strip("'")
        transaction_seconds = {int(str(row[0])): float(str(row[1])) for row in self._transactions()}
        can_cancel = bool(rights & CANCEL_PRIVILEGES)
        query = SESSIONS.format("p.query_id" if self._connection.server.is_mariadb else "sha2(p.info, 256)")
        return [
            _create_session(
                {**row, "can_cancel": can_cancel or row["user"] == own_user},
                transaction_seconds.get(row["pid"]),
            )
            for row in self._connection.fetch_by_name(query)
        ]

    def require_complete(self) -> None:
        DbctlLock(self._connection).refuse_swap()

    def require_all_tables(self) -> None:
        require_all_tables(self._connection)

    def list_lock_waits(self) -> Sequence[LockWait]:
        sessions = {session.pid: session for session in self.list_sessions()}
        wait_seconds = {int(str(row[0])): float(str(row[2])) for row in self._transactions()}
        waits = {}
        with suppress(PrivilegeMissingError):
            for blocked, blocking, lock in self._connection.fetch(WAITS[self._connection.server.is_mariadb]):
                pair = int(str(blocked)), int(str(blocking))
                if pair[0] in sessions and pair[1] in sessions:
                    waits[pair] = LockWait(
                        blocked=sessions[pair[0]],
                        blocking=sessions[pair[1]],
                        lock=str(lock),
                        seconds=round(wait_seconds.get(pair[0], 0.0), 3),
                    )
        return sorted(waits.values(), key=lambda session: -(session.seconds or 0))

    def _read_holders(self) -> Sequence[LockHolder]:
        waits, instance = self.list_lock_waits(), self._connection.session.instance
        return [
            structs.replace(
                holder, waits_for=[wait.blocking.pid for wait in waits if wait.blocked.pid == holder.pid]
            )
            for holder in self._connection.fetch_as(LockHolder, HOLDERS)
            if (instance, holder.pid) not in own_sessions
        ]

    def _read_locks(self) -> Mapping[int, Sequence[str]]:
        rows: list[Row] = [(session.pid, session.wait) for session in self.list_sessions() if session.wait]
        with suppress(PrivilegeMissingError):
            rows += self._connection.fetch(LOCKS[self._connection.server.is_mariadb])
        if self._counts_events():
            with suppress(PrivilegeMissingError):
                rows += self._connection.fetch(METADATA_LOCKS)
        return group_locks(rows)

    def read_traffic(self) -> Traffic:
        status = {str(name).lower(): int(str(value)) for name, value in self._connection.fetch(STATUS)}
        ((limit,),) = self._connection.fetch("select @@max_connections")
        requests, disk_reads = status["innodb_buffer_pool_read_requests"], status["innodb_buffer_pool_reads"]
        return Traffic(
            version=".".join(map(str, self._connection.server.version)),
            connections=status["threads_connected"],
            max_connections=int(str(limit)),
            commits=status["com_commit"],
            rollbacks=status["com_rollback"],
            deadlocks=status.get("innodb_deadlocks"),
            temp_bytes=None,
            cache_hit_ratio=round(1 - disk_reads / requests, 4) if requests else None,
            since=(now() - timedelta(seconds=status["uptime"])).replace(microsecond=0),
        )

    def visibility_limits(self) -> str:
        if "PROCESS" in self._rights():
            return ""
        return f"statements of other accounts are not visible to this one; as an administrator: GRANT PROCESS ON *.* TO {self._connection.session.account};"

    def cancel(self, pid: int, *, terminate: bool) -> bool:
        try:
            self._connection.run(f"kill {'' if terminate else 'query '}{pid:d}")
        except QueryFailedError as error:
            if error_number(error.__cause__) == NO_SUCH_THREAD:
                return False
            raise
        return True

    def list_slow_queries(self) -> Sequence[SlowQuery]:
        if not self._counts_events():
            raise NotSupportedError(
                feature="listing slow statements",
                subject=f"{self._connection.target} with its current settings",
                hint=INSTRUCTIONS,
            )
        queries = self._connection.fetch_as(SlowQuery, STATEMENTS)
        # The server quotes names with backticks, unlike this session; they contain no values.
        return [structs.replace(slow, query=redact_statement(slow.query, LEXER, "'\"")) for slow in queries]

    def read_replica_state(self) -> ReplicaState | None:
        sources = "show all replicas status" if self._connection.server.is_mariadb else "show replica status"
        states = [_parse_state(row) for row in self._connection.fetch_by_name(sources)]
        # None is an unknown lag, the worst one.
        return max(states, key=lambda state: (state.lag_seconds is None, state.lag_seconds), default=None)

    def blocks_all_servers(self, sql: str) -> bool:
        if not self._connection.session.is_cluster_node:
            return False
        first = next(iter(LEXER.read_significant(sql)), None)
        return first is not None and first.text.lower() in SCHEMA_CHANGES

    def _transactions(self) -> Sequence[Row]:
        """Return the open transactions; none if they are not visible to this account."""
        try:
            return self._connection.fetch(TRANSACTIONS)
        except PrivilegeMissingError:
            return []

    def _rights(self) -> frozenset[str]:
        rows = self._connection.fetch(RIGHTS, {"account": self._connection.session.account})
        return frozenset(str(right) for (right,) in rows)


def _create_session(row: NamedRow, transaction_seconds: float | None) -> Session:
    is_idle = row["command"] == "Sleep"
    client = row["host"].rpartition(":")[0] or row["host"]
    idle_state = "idle" if transaction_seconds is None else "idle in transaction"
    session = {
        **row,
        "application": row["command"].lower(),
        "client": None if client == "localhost" else client,
        "state": idle_state if is_idle else "active",
        "query": redact_statement(row["query"], LEXER, "'\""),
        "query_seconds": None if is_idle else float(row["seconds"]),
        "transaction_seconds": None
        if transaction_seconds is None
        else round(max(0.0, transaction_seconds), 3),
        "wait": row["state"] if row["state"].startswith("Waiting") else None,
        "statement_id": None if row["statement_id"] is None else str(row["statement_id"]),
    }
    return convert_row(session, Session)


def _parse_state(row: Mapping[str, object]) -> ReplicaState:
    """Return the state of one connection to a primary; MariaDB and MySQL use other words in the names of columns."""
    status = {
        name.replace("source", "master").replace("replica", "slave"): value for name, value in row.items()
    }
    received, applied = status["read_master_log_pos"], status["exec_master_log_pos"]
    is_same_file = status["master_log_file"] == status["relay_master_log_file"]
    seconds = status["seconds_behind_master"]
    return ReplicaState(
        lag_seconds=None if seconds is None else float(str(seconds)),
        lag_bytes=int(str(received)) - int(str(applied)) if is_same_file else None,
        is_connected=status["slave_io_running"] == "Yes",
    )
