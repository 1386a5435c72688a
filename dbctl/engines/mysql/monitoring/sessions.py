"""Sessions of a database on a server: list them, their locks and waits, and cancel them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import timedelta

from msgspec import structs

from dbctl.engines.contract.checks import LockHolder
from dbctl.engines.contract.monitoring import LockWait, Session, Traffic, group_locks
from dbctl.engines.mysql.connection.opening import own_sessions
from dbctl.engines.mysql.database import MySQLPart, MySQLReader
from dbctl.engines.mysql.errors import error_number
from dbctl.engines.mysql.sql.lexer import LEXER
from dbctl.engines.parsing.lineage import redact_statement
from dbctl.engines.servers.database import SHORT_TIMEOUT, NamedRow, describe_holders
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.model import now
from dbctl.url import Url

#: Only MariaDB numbers statements; on MySQL the text distinguishes them.
SESSIONS = """select p.id as pid, p.user as "user", p.host as host, p.command as command, coalesce(p.state, '') as state,
  coalesce(p.info, '') as query, coalesce(p.time, 0) as seconds, {} as statement_id
from information_schema.processlist p where p.db = database() and p.id <> connection_id() order by p.time desc, p.id"""
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
HOLDERS = """select p.id as pid, p.command as command, p.user as owner,
  case when p.info is null then 'open' else 'read' end as mode
from information_schema.processlist p where p.db = database() and p.id <> connection_id() order by p.id"""


class MySQLSessions(MySQLPart):
    """The part ``SessionMonitor``."""

    def list_sessions(self) -> Sequence[Session]:
        rights = self._rights()
        own_user = self._connection.session.account.partition("@")[0].strip("'")
        transaction_seconds = {int(str(row[0])): float(str(row[1])) for row in self._transactions()}
        can_cancel = bool(rights & CANCEL_PRIVILEGES)
        query = SESSIONS.format(
            "p.query_id" if self._connection.session.server.is_mariadb else "sha2(p.info, 256)"
        )
        return [
            _create_session(
                {**row, "can_cancel": can_cancel or row["user"] == own_user},
                transaction_seconds.get(row["pid"]),
            )
            for row in self._connection.fetch_by_name(query)
        ]

    def list_lock_waits(self) -> Sequence[LockWait]:
        sessions = {session.pid: session for session in self.list_sessions()}
        wait_seconds = {int(str(row[0])): float(str(row[2])) for row in self._transactions()}
        waits = {}
        with suppress(PrivilegeMissingError):
            for blocked, blocking, lock in self._connection.fetch(
                WAITS[self._connection.session.server.is_mariadb]
            ):
                pair = int(str(blocked)), int(str(blocking))
                if pair[0] in sessions and pair[1] in sessions:
                    waits[pair] = LockWait(
                        blocked=sessions[pair[0]],
                        blocking=sessions[pair[1]],
                        lock=str(lock),
                        seconds=round(wait_seconds.get(pair[0], 0.0), 3),
                    )
        return sorted(waits.values(), key=lambda session: -(session.seconds or 0))

    def locks(self) -> dict[int, list[str]]:
        """Return the locks of each session, by connection id, as far as this account and the server's settings allow."""
        rows: list[Row] = [(session.pid, session.wait) for session in self.list_sessions() if session.wait]
        with suppress(PrivilegeMissingError):
            rows += self._connection.fetch(LOCKS[self._connection.session.server.is_mariadb])
        ((has_performance_schema,),) = self._connection.fetch("select @@performance_schema")
        if has_performance_schema:
            with suppress(PrivilegeMissingError):
                rows += self._connection.fetch(METADATA_LOCKS)
        return group_locks(rows)

    def read_traffic(self) -> Traffic:
        status = {str(name).lower(): int(str(value)) for name, value in self._connection.fetch(STATUS)}
        ((limit,),) = self._connection.fetch("select @@max_connections")
        requests, disk_reads = status["innodb_buffer_pool_read_requests"], status["innodb_buffer_pool_reads"]
        return Traffic(
            version=".".join(map(str, self._connection.session.server.version)),
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


def list_lock_holders(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the sessions of other processes in the database at ``url``, as far as this user may see them."""
    with closing(MySQLReader(url, target, timeout=SHORT_TIMEOUT)) as reader:
        holders = reader.connection.fetch_as(LockHolder, HOLDERS)
        monitor = MySQLSessions(reader)
        waits, locks = monitor.list_lock_waits(), monitor.locks()
        sessions, instance = monitor.list_sessions(), reader.connection.session.instance
    others = [
        structs.replace(
            holder, waits_for=[wait.blocking.pid for wait in waits if wait.blocked.pid == holder.pid]
        )
        for holder in holders
        if (instance, holder.pid) not in own_sessions
    ]
    return describe_holders(others, sessions, locks)
