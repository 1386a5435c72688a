"""Who is connected to a database on a server, who waits for whom, and how they are stopped."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from dbctl.engines.contract import Session, Traffic, Wait, named_locks
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.errors import number_of
from dbctl.engines.mysql.session import Session as Connection
from dbctl.engines.mysql.sql import tokens
from dbctl.engines.parsing import shown
from dbctl.engines.sql import Row
from dbctl.errors import PrivilegeMissingError, QueryFailedError
from dbctl.model import now

#: Only MariaDB numbers statements; elsewhere it is the text that tells one from the next.
SESSIONS = """select p.id, p.user, p.host, p.command, coalesce(p.state, ''), coalesce(p.info, ''), p.time, {}
from information_schema.processlist p where p.db = database() and p.id <> connection_id() order by p.time desc, p.id"""
TRANSACTIONS = """select trx_mysql_thread_id, timestampdiff(microsecond, trx_started, utc_timestamp(6)) / 1000000,
  coalesce(timestampdiff(microsecond, trx_wait_started, utc_timestamp(6)) / 1000000, 0)
from information_schema.innodb_trx"""
#: MySQL 8 and MariaDB keep who waits for a row in different places.
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
#: MariaDB names the locks of rows that others wait for, and counts all; MySQL 8 names each.
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
#: Locks of tables as such, known where the performance schema is switched on.
METADATA_LOCKS = """select t.processlist_id, concat(m.lock_type, ' on ', m.object_schema, '.', m.object_name,
  case m.lock_status when 'PENDING' then ' (waiting)' else '' end)
from performance_schema.metadata_locks m join performance_schema.threads t on t.thread_id = m.owner_thread_id
where m.object_type = 'TABLE' and m.object_schema = database() and t.processlist_id is not null
order by m.lock_status = 'PENDING' desc, 2"""
STATUS = """show global status where variable_name in ('Com_commit', 'Com_rollback', 'Innodb_deadlocks',
  'Innodb_buffer_pool_read_requests', 'Innodb_buffer_pool_reads', 'Threads_connected', 'Uptime')"""
RIGHTS = "select privilege_type from information_schema.user_privileges where grantee = :account"
#: What lets an account end what others do.
ENDING = frozenset({"SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN"})
NO_SUCH_THREAD = 1094


class MySQLSessions(MySQLDialect):
    """Capability.SESSIONS."""

    @abstractmethod
    def _current(self) -> Connection: ...

    @abstractmethod
    def _say(self, sql: str) -> None: ...

    def sessions(self) -> Sequence[Session]:
        rights = self._rights()
        own = self._current().account.partition("@")[0].strip("'")
        lasting = {int(str(row[0])): float(str(row[1])) for row in self._transactions()}
        may_end = bool(rights & ENDING)
        told = SESSIONS.format("p.query_id" if self._current().server.is_mariadb else "sha2(p.info, 256)")
        return [_session(row, lasting, may_end=may_end or row[1] == own) for row in self._fetch(told, {})]

    def waits(self) -> Sequence[Wait]:
        known = {one.pid: one for one in self.sessions()}
        waiting = {int(str(row[0])): float(str(row[2])) for row in self._transactions()}
        found = {}
        with suppress(PrivilegeMissingError):
            for blocked, blocking, lock in self._fetch(WAITS[self._current().server.is_mariadb], {}):
                pair = int(str(blocked)), int(str(blocking))
                if pair[0] in known and pair[1] in known:
                    found[pair] = Wait(
                        blocked=known[pair[0]],
                        blocking=known[pair[1]],
                        lock=str(lock),
                        seconds=round(waiting.get(pair[0], 0.0), 3),
                    )
        return sorted(found.values(), key=lambda one: -(one.seconds or 0))

    def locks(self) -> dict[int, list[str]]:
        """Return the locks of each session, by its number, as far as this account and the server's settings let it know."""
        rows: list[Row] = [(one.pid, one.wait) for one in self.sessions() if one.wait]
        with suppress(PrivilegeMissingError):
            rows += self._fetch(LOCKS[self._current().server.is_mariadb], {})
        ((instrumented,),) = self._fetch("select @@performance_schema", {})
        if instrumented:
            with suppress(PrivilegeMissingError):
                rows += self._fetch(METADATA_LOCKS, {})
        return named_locks(rows)

    def traffic(self) -> Traffic:
        told = {str(name).lower(): int(str(value)) for name, value in self._fetch(STATUS, {})}
        ((most,),) = self._fetch("select @@max_connections", {})
        asked, read = told["innodb_buffer_pool_read_requests"], told["innodb_buffer_pool_reads"]
        return Traffic(
            version=".".join(map(str, self._current().server.version)),
            connections=told["threads_connected"],
            max_connections=int(str(most)),
            commits=told["com_commit"],
            rollbacks=told["com_rollback"],
            deadlocks=told.get("innodb_deadlocks"),
            temp_bytes=None,
            cache_hit_ratio=round(1 - read / asked, 4) if asked else None,
            since=(now() - timedelta(seconds=told["uptime"])).replace(microsecond=0),
        )

    def hidden(self) -> str:
        if "PROCESS" in self._rights():
            return ""
        return f"what other accounts do is not shown to this one; as an administrator: GRANT PROCESS ON *.* TO {self._current().account};"

    def cancel(self, pid: int, *, terminate: bool) -> bool:
        try:
            self._say(f"kill {'' if terminate else 'query '}{pid:d}")
        except QueryFailedError as error:
            if number_of(error.__cause__) == NO_SUCH_THREAD:
                return False
            raise
        return True

    def _transactions(self) -> Sequence[Row]:
        """Return the transactions that last; none where this account may not know of them."""
        try:
            return self._fetch(TRANSACTIONS, {})
        except PrivilegeMissingError:
            return []

    def _rights(self) -> frozenset[str]:
        rows = self._fetch(RIGHTS, {"account": self._current().account})
        return frozenset(str(right) for (right,) in rows)


def _session(row: Row, lasting: Mapping[int, float], *, may_end: bool) -> Session:
    pid, user, host, command, state, query, seconds, told = row
    number, idle = int(str(pid)), command == "Sleep"
    client = str(host).rpartition(":")[0] or str(host)
    elapsed = float(str(seconds or 0))
    return Session(
        pid=number,
        user=str(user),
        application=str(command).lower(),
        client=None if client == "localhost" else client,
        state=("idle in transaction" if number in lasting else "idle") if idle else "active",
        query=shown(str(query), tokens, "'\""),
        query_seconds=None if idle else elapsed,
        transaction_seconds=round(max(0.0, lasting[number]), 3) if number in lasting else None,
        wait=str(state) if str(state).startswith("Waiting") else None,
        statement=str(told),
        may_end=may_end,
    )
