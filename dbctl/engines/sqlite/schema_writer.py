"""Run scripts that change the schema of a SQLite file, in one transaction without new orphaned rows."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from dbctl.engines.contract import ScriptDialect
from dbctl.engines.sql import Row, ident
from dbctl.engines.sqlite.connection import decode_leniently
from dbctl.engines.sqlite.fulltext import SQLiteTextWriter
from dbctl.engines.sqlite.sql import script
from dbctl.errors import ConstraintError, QueryFailedError
from dbctl.model import format_count

T = TypeVar("T")

DROPPABLE = """select type, name from sqlite_master
where type in ('table', 'view') and name not like 'sqlite!_%' escape '!'
order by type = 'table', sql not like 'create virtual%', name"""


class SQLiteSchemaWriter(SQLiteTextWriter):
    """Capability.MIGRATE."""

    script_dialect: ScriptDialect = script
    transactional_ddl = True
    lock_attempts = 1  # the transaction locks the file when it begins
    _depth = 0  #: number of nested transactions
    _in_step_mode = False  #: whether statements may run outside a transaction
    _schema_version: Sequence[Row] | None = None  #: the oldest version that ``_tables`` may describe

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _write(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, which writes inside the transaction."""

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        del short_waits  # no process queues for the lock on a file
        if self._depth:
            raise RuntimeError("schema transaction inside another transaction")
        self._require_connection().text_factory = decode_leniently  # a script may read text that is not UTF-8
        # A rebuilt table would fire ON DELETE CASCADE, and inside a transaction this pragma does nothing.
        self._set_pragma("foreign_keys", "0")
        try:
            with self.transaction():
                self._refresh_schema()
                initial_orphans = self._count_initial_orphans()
                self._require_connection().set_authorizer(_deny_nontransactional)
                try:
                    yield
                finally:
                    self._require_connection().set_authorizer(None)
                self._refuse_new_orphans(initial_orphans)
        finally:
            if self._connection is not None:
                self._set_pragma("foreign_keys", "1")

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("step mode inside a transaction")
        self._require_connection().text_factory = decode_leniently  # a script may read text that is not UTF-8
        self._in_step_mode = True
        try:
            yield
        finally:
            self._in_step_mode = False
            self._tables = None
            if self._connection is not None:
                self._set_pragma("foreign_keys", "1")

    def may_have_deleted(self, table: str) -> bool:
        del table  # no other process can write during the transaction
        return True

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        del sql  # a failed transaction is rolled back completely
        return ()

    def _run_step(self, sql: str) -> None:
        if reason := script.unsupported_reason(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        connection = self._require_connection()
        if not sql.lower().startswith("vacuum"):  # VACUUM attaches a temporary file
            connection.set_authorizer(_deny_other_files)
        try:
            self._retry_while_locked(lambda: deque(connection.execute(sql), maxlen=0))
        finally:
            connection.set_authorizer(None)
            self._tables = None

    def drop_statements(self) -> Sequence[str]:
        # virtual tables first, because they drop their shadow tables
        rows = self._run(DROPPABLE, {})
        return [f"drop {kind} if exists {ident(str(name))}" for kind, name in rows]

    def run_statement(self, sql: str) -> None:
        if self._in_step_mode and not self._depth:
            self._run_step(sql)
            return
        # Read all rows: an unfinished SELECT would hide its errors and lock its tables against DROP.
        self._write(lambda: deque(self._require_connection().execute(sql), maxlen=0))
        self._refresh_schema()
        if not self._require_connection().in_transaction:
            raise QueryFailedError(target=self.target, reason="the statement ended its transaction")

    def _refresh_schema(self) -> None:
        """Forget the cached tables if the schema version changed, which counts the changes of all connections."""
        schema = self._run("pragma schema_version", {})
        if schema != self._schema_version:
            self._tables, self._schema_version = None, schema

    def _count_initial_orphans(self) -> Counter[tuple[object, object]]:
        try:
            return self._count_orphans()
        except QueryFailedError:  # foreign keys without a unique target; the check at the end refuses them
            return Counter()

    def _count_orphans(self) -> Counter[tuple[object, object]]:
        """Count orphaned rows by their table and the table to which they refer."""
        return Counter((table, parent) for table, _, parent, _ in self._run("pragma foreign_key_check", {}))

    def _refuse_new_orphans(self, initial: Counter[tuple[object, object]]) -> None:
        """Refuse a change that creates orphaned rows; earlier orphaned rows are ignored."""
        new_orphans = self._count_orphans() - initial
        if new_orphans:
            (table, parent), count = new_orphans.most_common(1)[0]
            reason = f"{format_count(count, 'row')} of {table} would refer to missing rows of {parent}"
            raise ConstraintError(target=self.target, reason=reason)


def _deny_other_files(action: int, *_what: str | None) -> int:
    """Deny transaction statements and access to other files."""
    refused = action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _deny_nontransactional(action: int, first: str | None, value: str | None, *_rest: str | None) -> int:
    """Deny transaction statements, access to other files, and pragmas without effect inside a transaction."""
    if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in script.ALLOWED_PRAGMAS:
        # dbctl reads it; setting it is denied
        return sqlite3.SQLITE_OK if (first, value) == ("schema_version", None) else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
