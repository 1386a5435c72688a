"""Statements in a session, with translated errors and the sessions that block them; transactions and the lock of dbctl."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial

import psycopg
from psycopg import pq

from dbctl import signals
from dbctl.engines.contract.database import Column
from dbctl.engines.postgresql import statements
from dbctl.engines.postgresql.errors import is_unsupported, translate_error, unreachable_error
from dbctl.engines.postgresql.session import MAX_NAME_BYTES, Session, open_session
from dbctl.engines.postgresql.values import (
    UNUSED_PARAMETER,
    bind_parameters,
    encode_for_column,
    encode_statement,
)
from dbctl.engines.servers.connection import TRANSACTION_ENDED, ServerConnection, ServerTransactions
from dbctl.engines.servers.engine import ErrorContext
from dbctl.engines.sql.catalog import Row, ident, quote_literal
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CommitUnconfirmedError, QueryFailedError
from dbctl.errors.operations import CommitInDoubtError, RowLocksMissingError
from dbctl.files.lock import wait_for_lock
from dbctl.url import Url

#: What ``describe_sessions`` needs of session ``a``.
SESSION = "a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.usename, host(a.client_addr)"
_HOLDERS = f"""select {SESSION} from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted and a.pid <> all($1::int4[]) and a.wait_event_type is distinct from 'Lock' and {{}}
group by 1, 2, 3, 4, a.xact_start order by a.xact_start nulls last limit 3"""
#: Sessions with more than a reader's lock in this database, oldest first. The server does not report the holder of a row
#: lock, but the holder has a lock on the table, too.
HOLDERS = _HOLDERS.format(
    """a.datname = current_database() and l.locktype in ('relation', 'transactionid') and l.mode <> 'AccessShareLock'
  and (l.relation is not null and l.relation = pg_catalog.to_regclass($2) or $2 is null)"""
)
#: Sessions with any lock, including a reader's, on the named tables: a change of a table waits for all of them.
TABLE_HOLDERS = _HOLDERS.format(
    """l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.relation in (select pg_catalog.to_regclass(quote_ident(n)) from unnest($2::text[]) n)"""
)
SESSIONS_BY_PID = f"select {SESSION} from pg_catalog.pg_stat_activity a where a.pid = any($1::int4[])"
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
            return _name_holders(session.run(SESSIONS_BY_PID, others))
        rows = []
        if relation:
            rows = session.run(HOLDERS, excluded, ident(relation[1]))
        if names and not rows:
            rows = session.run(TABLE_HOLDERS, excluded, list(names))
        return _name_holders(rows or session.run(HOLDERS, excluded, None))
    return ""


def _name_holders(rows: Sequence[Row]) -> str:
    return f" by {', '.join(describe_sessions(rows))}" if rows else ""


def describe_sessions(rows: Sequence[Row]) -> list[str]:
    """Describe sessions, given their pid, program, user and host."""
    return [
        f"{name} (pid {pid}, user {user or ''}{f', from {host}' if host else ''})"
        for pid, name, user, host in rows
    ]


#: The end of a query that locks the rows that it reads.
ROW_LOCK = " for no key update of t0"


class PostgreSQLConnection(ServerConnection[Session]):
    can_lock_rows = True  #: whether the server supports the locks of rows in queries
    running_statement = ""  #: the running statement of a script, to find the sessions that block it

    def _connect(self) -> Session:
        try:
            return open_session(self.url, self.target, timeout=self.timeout, read_only=self.read_only)
        except psycopg.Error as error:
            raise unreachable_error(
                error, self.target, self.url
            ) from None  # a traceback would show the arguments

    def _disconnect(self, session: Session) -> None:
        session.close()

    @property
    def is_broken(self) -> bool:
        return self._session is not None and self._session.pgconn.status != pq.ConnStatus.OK

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        return pq.TransactionStatus(self.session.pgconn.transaction_status)

    def _fetch_limited(self, sql: str, parameters: Mapping[str, object], milliseconds: int) -> list[Row]:
        with self.read_transaction(f"set local statement_timeout = {milliseconds}"):
            return self.fetch(sql, parameters)

    def _is_timeout(self, error: BaseException | None) -> bool:
        return isinstance(error, psycopg.errors.QueryCanceled)

    def require_query(self, sql: str) -> None:
        first = statements.read_first_word(sql)
        if first not in statements.QUERY_WORDS:
            raise QueryFailedError(
                target=self.target, reason=f"{first.upper() or 'an empty statement'} is not a query"
            )

    @contextmanager
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[psycopg.Cursor[Row]]:
        text, values = self.bind_parameters(sql, parameters)
        with (
            self._read_snapshot(),
            self.translate_errors(text, writing=writing),
            self.session.cursor() as cursor,
        ):
            cursor.execute(encode_statement(text), values or [UNUSED_PARAMETER])
            yield cursor

    def _read_snapshot(self) -> AbstractContextManager[None]:
        """Return a transaction in which one statement reads the snapshot of the address, if that has one."""
        is_idle = self.transaction_status == pq.TransactionStatus.IDLE
        return self.read_transaction() if self.url.snapshot and is_idle else nullcontext()

    def fetch_texts(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[str | None, ...]]:
        """Run one statement and return its rows as the server writes them, in text without any conversion."""
        return self._retry_once(partial(self._fetch_texts, sql, parameters))

    def _fetch_texts(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[str | None, ...]]:
        with self.execute(sql, parameters, writing=False) as cursor:
            result = cursor.pgresult
            if result is None:
                return []
            read, columns = result.get_value, range(result.nfields)
            return [
                tuple(
                    None if (value := read(row, column)) is None else value.decode("utf-8", "surrogateescape")
                    for column in columns
                )
                for row in range(result.ntuples)
            ]

    def bind_parameters(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
        """Return a statement with the parameters of the server, and their values."""
        with self._check_binding(sql):
            return bind_parameters(sql, parameters)

    def copy_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert many rows by COPY into ``table``, a name in SQL; return their number.

        An error of the iterator is raised unchanged.
        """
        sql = f"copy {table} ({', '.join(ident(column.name) for column in columns)}) from stdin"
        with self.translate_errors(sql, writing=True), self.session.cursor() as cursor:
            with cursor.copy(sql.encode()) as copy:
                for row in rows:
                    copy.write_row(
                        [encode_for_column(column, value) for column, value in zip(columns, row, strict=True)]
                    )
            return cursor.rowcount

    @contextmanager
    def translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        session = self.session
        try:
            yield
        except psycopg.Error as error:
            if not (sql == "commit" and self.is_broken):  # its outcome is unknown
                signals.raise_if_interrupted()  # a driver error is expected after a signal
            if isinstance(error, psycopg.errors.FeatureNotSupported) and ROW_LOCK in sql:
                self.can_lock_rows = False
                raise RowLocksMissingError(target=self.target) from error
            context = ErrorContext(
                url=self.url,
                target=self.target,
                timeout=self.timeout,
                account="" if self.is_broken else ident(session.role),
                schema=session.schema,
                in_standby=session.in_standby,
                blockers=lambda message: self.describe_blockers(message, session.pgconn.backend_pid),
            )
            raise translate_error(error, context, sql, writing=writing, broken=self.is_broken) from error

    def describe_blockers(self, message: str, pid: int) -> str:
        """Return the holders of the lock for which the session ``pid`` waited, from the server's message about it."""
        return describe_blockers(self.url, self.target, message, pid, self._statement_names())

    def _statement_names(self) -> Sequence[str]:
        """Return the names in the running statement, if it may change tables."""
        significant = statements.LEXER.read_significant(self.running_statement)
        words = [token.text.lower() for token in significant if token.kind == "word"]
        return words + [token.text[1:-1].replace('""', '"') for token in significant if token.kind == "name"]

    def _query_statements(self) -> tuple[str, str]:
        if self.transaction_status == pq.TransactionStatus.INTRANS:
            return "savepoint question; set transaction read only", "rollback to question; release question"
        begin = "begin isolation level repeatable read read only"
        if self.url.snapshot:
            begin += f"; set transaction snapshot {quote_literal(self.url.snapshot)}"
        return begin, "rollback"


class PostgreSQLTransactions(ServerTransactions):
    """Transactions that see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised, so that only what
    was planned is executed.
    """

    _connection: PostgreSQLConnection
    base_depth = 0  #: the depth without an open transaction of dbctl

    def transaction(self) -> AbstractContextManager[None]:
        # Without locks of rows, only this level detects that a row which was only read has changed.
        level = "repeatable read" if self._connection.can_lock_rows else "serializable"
        return self.begin(f"begin isolation level {level} read write")

    def require(self) -> None:
        session = self._connection.session
        if not self.depth:
            raise RuntimeError("a write outside a transaction")
        if (
            session.pgconn.status == pq.ConnStatus.OK
            and session.pgconn.transaction_status != pq.TransactionStatus.INTRANS
        ):
            raise QueryFailedError(target=self._connection.target, reason=TRANSACTION_ENDED)

    def _commit(self, sql: str) -> None:
        session = self._connection.session
        session.is_committing, session.unconfirmed = sql == "commit", ""
        try:
            super()._commit(sql)
        except signals.Interrupted as error:
            if sql == "commit" and session.closed:  # the server did not answer
                reason = f"interrupted ({error})"
                raise CommitInDoubtError(target=self._connection.target, reason=reason) from error
            raise
        finally:
            session.is_committing = False
        if session.unconfirmed:
            raise CommitUnconfirmedError(target=self._connection.target, reason=session.unconfirmed)

    def _roll_back(self, sql: str) -> None:
        if not self._connection.is_open:
            return
        session = self._connection.session
        if session.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # a rejected commit has ended it already
        try:
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise psycopg.OperationalError  # a signal arrived where the statement could not be cancelled
            session.run(sql)
        except psycopg.Error:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=1)
            self._connection.close()  # this rolls back; the original error is reported


HOLDER = """select a.application_name, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::int8 << 32) | l.objid::int8 = :key limit 1"""


def lock_key(name: str) -> int:
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # not negative, since pg_locks shows two unsigned halves


class DbctlLock:
    """An advisory lock of a session, by its key; the server separates such locks by database."""

    def __init__(self, connection: PostgreSQLConnection, key: int | None = None) -> None:
        """Create the lock of the connection's database and schema, or with ``key`` another one."""
        self._connection, self._key = connection, key

    @contextmanager
    def acquire(self, purpose: str) -> Iterator[None]:
        """Block other dbctl processes, as ``Writable.lock`` describes.

        Raises:
            BusyError: another dbctl process holds the lock.
        """
        name = f"dbctl {purpose}".encode("ascii", "replace")
        # truncated as the server does
        self._connection.session.settings["application_name"] = name[:MAX_NAME_BYTES].decode()
        self._connection.apply_settings()
        session = self._connection.session
        # all dbctl processes use the same key for this database and schema
        key = lock_key(f"{session.database}/{session.schema}") if self._key is None else self._key
        try:
            self._wait(key, lambda: self._describe_holder(key))
        except QueryFailedError as error:
            if not is_unsupported(error.__cause__):  # doctor reports a server without such locks
                raise
        try:
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._release(key)

    def is_effective(self) -> bool:
        """Whether the server has such locks; some accept the function, and lock nothing."""
        key = secrets.randbits(63)
        try:
            is_locked = self._try(key) and bool(self._connection.fetch(HOLDER, {"key": key}))
            self._release(key)
        except QueryFailedError as error:
            if not is_unsupported(error.__cause__):
                raise
            return False
        return is_locked

    def wait_for_killed_restore(self, key: int) -> None:
        """Wait until no session holds the lock ``key``, which a killed restore leaves until its statement ends.

        Raises:
            BusyError: a session held it for longer than the timeout.
        """
        self._wait(key, lambda: f"{self._describe_holder(key)}, a killed restore that has not ended yet")
        self._release(key)

    def _wait(self, key: int, describe_holder: Callable[[], str]) -> None:
        connection = self._connection
        wait_for_lock(connection.target, connection.timeout, lambda: self._try(key), describe_holder)

    def _try(self, key: int) -> bool:
        return self._connection.fetch("select pg_try_advisory_lock(:key)", {"key": key}) == [(True,)]

    def _release(self, key: int) -> None:
        self._connection.fetch("select pg_advisory_unlock(:key)", {"key": key})

    def _describe_holder(self, key: int) -> str:
        rows = self._connection.fetch(HOLDER, {"key": key})
        if not rows:
            return " by another dbctl"
        name, pid, host, since = rows[0]
        return f" by {name or 'another dbctl'} (pid {pid} of the server, from {host}, since {since})"
