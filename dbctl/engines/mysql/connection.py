"""The connection to a server: statements, transactions, and locks.

A server reports only which session holds a lock, and shows no text that an idle session could set. So the holder also acquires
locks whose names encode a description: one lock for each bit that is set. They end with the session, like the lock itself.

A server completes a packet of statements even if its client was killed, and swapping the tables of a restore takes time. So the
session that swaps them has a separate lock, and every process that gets the lock waits for that one, too.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import compress

import pymysql

from dbctl import signals
from dbctl.engines.mysql.dialect import PROCESSES, Server
from dbctl.engines.mysql.opening import (
    ROLLED_BACK,
    TIMEOUT_ERRORS,
    UNSUPPORTED,
    error_number,
    lock_wait_seconds,
    open_session,
    translate_error,
    unreachable_error,
)
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.statements import find_rejection
from dbctl.engines.mysql.values import bind_parameters, format_literal
from dbctl.engines.servers.connection import TRANSACTION_ENDED, ServerConnection, ServerTransactions
from dbctl.engines.servers.engine import ErrorContext
from dbctl.engines.sql.catalog import Row, is_storable
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, QueryFailedError
from dbctl.errors.operations import CommitInDoubtError
from dbctl.errors.usage import ValueInvalidError
from dbctl.files.lock import wait_for_lock
from dbctl.url import Url

#: Sessions with open transactions that changed something or locked rows, oldest first.
HOLDERS = f"""select p.id, p.user, substring_index(p.host, ':', 1), t.trx_started
from information_schema.innodb_trx t join {PROCESSES} p on p.id = t.trx_mysql_thread_id
where p.id not in {{0}} and p.db = {{1}} and (t.trx_rows_locked > 0 or t.trx_tables_locked > 0) order by t.trx_started limit 3"""
#: Sessions that run a statement, or are idle, if transactions are not visible.
ACTIVE_SESSIONS = f"""select p.id, p.user, substring_index(p.host, ':', 1), p.time
from {PROCESSES} p where p.id not in {{0}} and p.db = {{1}} order by p.time desc limit 3"""


def describe_blockers(url: Url, target: str, session: Session) -> str:
    """Return the possible holders of a lock, such as " by session 4711 (user bob)", or "" if they are unknown.

    A second connection queries them, so that nothing here becomes part of the transaction.
    """
    with suppress(pymysql.Error, DbctlError):
        other = open_session(url, target, timeout=1, read_only=True)
        try:
            excluded = f"({session.connection_id}, {other.connection_id})"
            for query in (HOLDERS, ACTIVE_SESSIONS):
                with suppress(pymysql.Error):  # transactions are visible with the right PROCESS only
                    if rows := other.run(query.format(excluded, format_literal(session.database))):
                        sessions = [
                            f"session {connection_id} of the server (user {user}{f', from {host}' if host else ''})"
                            for connection_id, user, host, _ in rows
                        ]
                        return f", perhaps by {' or by '.join(sessions)}"
        finally:
            other.drop()
    return ""


#: Bytes of a statement of bytes that an error may need.
LONGEST_SHOWN = 1000


class MySQLConnection(ServerConnection[Session]):
    has_failed = False  #: whether a statement of the open transaction failed

    def _connect(self) -> Session:
        try:
            return open_session(self.url, self.target, timeout=self.timeout, read_only=self.read_only)
        except pymysql.Error as error:
            raise unreachable_error(
                error, self.target, self.url
            ) from None  # a traceback would show the arguments

    def _disconnect(self, session: Session) -> None:
        session.drop()

    @property
    def server(self) -> Server:
        return self.session.server

    @property
    def is_broken(self) -> bool:
        return self._session is not None and not self._session.open

    def _fetch_limited(self, sql: str, parameters: Mapping[str, object], milliseconds: int) -> list[Row]:
        # The time is limited for the statement: a setting of the session would have to be reset, also after an error.
        if self.server.is_mariadb:
            limit = f"set statement max_statement_time = {milliseconds / 1000} for select"
        else:
            limit = f"select /*+ MAX_EXECUTION_TIME({milliseconds}) */"
        return self.fetch(sql.replace("select", limit, 1), parameters)

    def _is_timeout(self, error: BaseException | None) -> bool:
        return error_number(error) in TIMEOUT_ERRORS

    def bind(self, sql: str, parameters: Mapping[str, object]) -> str:
        """Return a statement with its parameters replaced by literals."""
        with self._check_binding(sql):
            return bind_parameters(sql, parameters, escapes=self.server.backslash_escapes)

    @contextmanager
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[pymysql.cursors.Cursor]:
        session = self.session
        text = self.bind(sql, parameters)
        if not is_storable(text):
            raise ValueInvalidError(name="statement", value="given", reason="it is not valid UTF-8")
        with self.translate_errors(sql, writing=writing), session.cursor() as cursor:
            cursor.execute(text)
            yield cursor

    @contextmanager
    def translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        session = self.session
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()  # a driver error is expected after a signal
            self.has_failed = self.has_failed or writing
            if error_number(error) in ROLLED_BACK:
                self.ending_error = str(error_number(error))
            raise translate_error(
                error, self.error_context(session), sql, writing=writing, broken=self.is_broken
            ) from error
        except UnicodeDecodeError as error:
            self.abandon(session)
            reason = "the result contains text that is not valid Unicode (half of a surrogate pair)"
            raise QueryFailedError(target=self.target, reason=reason) from error
        except BaseException:  # a signal anywhere in the driver
            if session.in_flight or self.is_broken:
                self.abandon(session)
            raise

    def list_folded_names(self, names: Iterable[str]) -> list[str]:
        with self.translate_errors("select"):
            return self.session.list_folded_names(names)

    def abandon(self, session: Session) -> None:
        """Make the server stop a statement, which would otherwise continue and keep its locks."""
        session.drop()  # the server notices that only when it sends rows
        with suppress(pymysql.Error, DbctlError):
            other = open_session(self.url, self.target, timeout=1, read_only=True)
            try:
                other.run(f"kill {session.connection_id}")
            finally:
                other.drop()

    def error_context(self, session: Session) -> ErrorContext:
        """Return the context for messages about errors of ``session``."""
        from dbctl.engines.mysql.grants import find_place

        return ErrorContext(
            url=self.url,
            target=self.target,
            timeout=lock_wait_seconds(self.timeout, session.server),
            account=session.account,
            schema=session.database,
            find_place=lambda: find_place(session),
            blockers=lambda _message: describe_blockers(self.url, self.target, session),
        )

    def require_query(self, sql: str) -> None:
        if reason := find_rejection(sql):
            raise QueryFailedError(target=self.target, reason=reason)

    def execute_text(self, sql: str | bytes) -> int:
        """Run a writing statement without parameters; return the number of affected rows."""
        shown = sql if isinstance(sql, str) else sql[:LONGEST_SHOWN].decode(errors="replace")
        with self.translate_errors(shown, writing=True), self.session.cursor() as cursor:
            cursor.execute(sql)  # type: ignore[arg-type]  # the driver accepts bytes
            return cursor.rowcount

    def _query_statements(self) -> tuple[str, str]:
        if self.session.in_transaction:
            return "savepoint question", "rollback to savepoint question"
        return "start transaction with consistent snapshot, read only", "rollback"

    @contextmanager
    def read_transaction(self, *settings: str) -> Iterator[None]:
        """Begin a transaction that cannot write, and roll it back at the end.

        Inside a writing transaction, a server cannot forbid writes temporarily; they are rolled back to a savepoint.
        """
        had_failed = self.has_failed
        try:
            with super().read_transaction(*settings):
                yield
        finally:
            if self.is_usable and not self.ending_error:
                self.has_failed = had_failed


#: Maximum bytes of the description.
MAX_DESCRIPTION_BYTES = 96


def lock_name(database: str) -> str:
    """Return the name of the lock on a database; names are valid on the whole server, and have at most 64 characters."""
    return f"dbctl/{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def scratch_lock_name(database: str) -> str:
    """Return the name of the lock that a session holds while it needs a temporary database, which other sessions may lock to write it."""
    return f"{lock_name(database)}/scratch"


def swap_lock_name(name: str) -> str:
    """Return the name of the lock that a session holds while it swaps tables, from the lock of the database."""
    return f"{name}/exchange"


def acquire_sql(name: str) -> str:
    """Return SQL that acquires the lock, or returns 0 immediately."""
    return f"select get_lock({format_literal(name)}, 0)"


def decode_holder(row: Sequence[object]) -> tuple[object, str]:
    """Return the session that has the lock, and its description; None and an empty text if it was released since then."""
    holder, *bit_holders = row
    bits = [bit_holder == holder and bit_holder is not None for bit_holder in bit_holders]
    description = bytes(
        sum(bit << position for position, bit in enumerate(bits[begin : begin + 8]))
        for begin in range(0, len(bits), 8)
    )
    return holder, description.rstrip(b"\0").decode(errors="replace")


def _bit_lock_names(name: str) -> Iterator[str]:
    return (f"{name}/{position}" for position in range(MAX_DESCRIPTION_BYTES * 8))


def _description_locks(name: str, text: str) -> Iterator[str]:
    """Yield the names of the locks that encode a text: those of its bits that are set."""
    bits = (byte >> position & 1 for byte in text.encode()[:MAX_DESCRIPTION_BYTES] for position in range(8))
    return compress(_bit_lock_names(name), bits)


def _call_for_each(call: str, lock_names: Iterable[str]) -> str:
    return f"select {', '.join(call.format(format_literal(name)) for name in lock_names)}"


class MySQLTransactions(ServerTransactions):
    """Transactions that see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised; a server that cannot
    detect this locks everything that is read. Either way, only what was planned is executed.
    """

    _connection: MySQLConnection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with self.begin("start transaction read write"):
                yield
        finally:
            if not self.depth:
                self.forget_errors()

    def require(self) -> None:
        session = self._connection.session
        if not self.depth:
            raise RuntimeError("a write outside a transaction")
        has_failed = self._connection.has_failed or self._connection.ending_error
        if session.open and (has_failed or not session.in_transaction):
            raise QueryFailedError(target=self._connection.target, reason=TRANSACTION_ENDED)

    def _commit(self, sql: str) -> None:
        session = self._connection.session
        try:
            super()._commit(sql)
        except signals.Interrupted as error:
            if sql == "commit" and not session.open:  # the server completes one that waits for a replica
                reason = f"interrupted ({error})"
                raise CommitInDoubtError(target=self._connection.target, reason=reason) from error
            raise

    def forget_errors(self) -> None:
        self._connection.has_failed, self._connection.ending_error = False, ""

    def _roll_back(self, sql: str) -> None:
        if not self._connection.is_open or (self.depth > 1 and self._connection.ending_error):
            return  # the server has rolled back everything
        try:
            self._connection.session.run(sql)
            self._connection.has_failed = False
        except pymysql.Error:
            self._connection.close()  # this rolls back; the original error is reported


class DbctlLock:
    """The lock of a session on a database; its name is valid on the whole server."""

    def __init__(self, connection: MySQLConnection, database: str = "") -> None:
        """Create the lock of ``database``; by default, of the one to which the session is connected."""
        self._connection = connection
        self._name = lock_name(database or connection.session.database)
        self._swap = format_literal(swap_lock_name(self._name))

    @contextmanager
    def acquire(self, purpose: str) -> Iterator[None]:
        """Block other dbctl processes, as ``Writable.lock`` describes.

        Raises:
            BusyError: another dbctl process holds the lock.
        """
        if not self.is_effective():  # doctor reports it
            yield
            return
        try:
            wait_for_lock(self._connection.target, self._connection.timeout, self._try, self._describe_holder)
            since = datetime.now(UTC).isoformat(" ", "seconds")
            description = f"dbctl {purpose} (pid {os.getpid()} on {socket.gethostname()}, since {since})"
            names = _description_locks(self._name, description)
            self._connection.fetch(_call_for_each("get_lock({}, 0)", names))
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._connection.fetch("select release_all_locks()")

    def is_effective(self) -> bool:
        """Whether the server has such locks."""
        try:
            self._connection.fetch(f"select is_free_lock({format_literal(self._name)})")
        except QueryFailedError as error:
            if error_number(error.__cause__) not in UNSUPPORTED:
                raise
            return False
        return True

    def refuse_swap(self) -> None:
        """Refuse tables that a restore is replacing; raises BusyError."""
        if self.is_effective() and self._connection.fetch(f"select is_free_lock({self._swap})") == [(0,)]:
            raise BusyError(target=self._connection.target, holder=" by a restore", waited="0")

    def _try(self) -> bool:
        return self._connection.fetch(f"{acquire_sql(self._name)} and is_free_lock({self._swap})") == [(1,)]

    def _describe_holder(self) -> str:
        names = [self._name, *_bit_lock_names(self._name)]
        ((*row,),) = self._connection.fetch(_call_for_each("is_used_lock({})", names))
        holder, description = decode_holder(row)
        if holder == self._connection.session.connection_id:
            # This session has the lock but waits for the swap.
            ((holder,),) = self._connection.fetch(f"select is_used_lock({self._swap})")
            description = "a killed restore that has not ended yet"
        session = f", session {holder} of the server" if holder else ""
        return f" by {description or 'another dbctl'}{session}"
