"""Scripts that change the schema of a SQLite file, inside one transaction that lets no row point to nothing."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from dbctl.engines.contract import Language
from dbctl.engines.sql import Row, ident
from dbctl.engines.sqlite.connection import lenient
from dbctl.engines.sqlite.fulltext import SQLiteTextWriter
from dbctl.engines.sqlite.sql import script
from dbctl.errors import ConstraintError, QueryFailedError
from dbctl.model import counted

T = TypeVar("T")

DROPPED = """select type, name from sqlite_master
where type in ('table', 'view') and name not like 'sqlite!_%' escape '!'
order by type = 'table', sql not like 'create virtual%', name"""


class SQLiteSchemaWriter(SQLiteTextWriter):
    """Capability.MIGRATE."""

    language: Language = script
    takes_schema_back = True
    lock_tries = 1  # the lock on the file is held from the beginning
    _depth = 0  #: how many transactions are open, one inside the other
    _stepping = False  #: whether statements may run outside of one
    _schema: Sequence[Row] | None = None  #: which one ``tables`` told, at the earliest

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _write(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, which writes inside the transaction."""

    @contextmanager
    def schema_transaction(self, *, brief: bool = False) -> Iterator[None]:
        del brief  # nobody queues behind the lock on a file
        if self._depth:
            raise RuntimeError("a change of the schema inside another transaction")
        self._current().text_factory = lenient  # a script may read what it likes
        # A rebuilt table would fire ON DELETE CASCADE, and inside a transaction this pragma does nothing.
        self._pragma("foreign_keys", "0")
        try:
            with self.transaction():
                self._notice()
                before = self._orphans_before()
                self._current().set_authorizer(_only_what_a_transaction_can_hold)
                try:
                    yield
                finally:
                    self._current().set_authorizer(None)
                self._refuse_orphans(before)
        finally:
            if self._connection is not None:
                self._pragma("foreign_keys", "1")

    @contextmanager
    def step_by_step(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("statements outside a transaction, inside one")
        self._current().text_factory = lenient  # as above
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False
            self._tables = None
            if self._connection is not None:
                self._pragma("foreign_keys", "1")

    def may_have_taken(self, table: str) -> bool:
        del table  # nobody else writes meanwhile
        return True

    def left_by(self, sql: str) -> Sequence[str]:
        del sql  # what fails is taken back whole
        return ()

    def _step(self, sql: str) -> None:
        if reason := script.why_not(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        connection = self._current()
        if not sql.lower().startswith("vacuum"):  # which attaches a file of its own
            connection.set_authorizer(_only_this_file)
        try:
            self._patiently(lambda: deque(connection.execute(sql), maxlen=0))
        finally:
            connection.set_authorizer(None)
            self._tables = None

    def drop_statements(self) -> Sequence[str]:
        # virtual tables come first: they take their own tables along
        rows = self._run(DROPPED, {})
        return [f"drop {kind} if exists {ident(str(name))}" for kind, name in rows]

    def run_statement(self, sql: str) -> None:
        if self._stepping and not self._depth:
            self._step(sql)
            return
        # To the last row: a SELECT that is only begun would hide its errors and keep its tables from being dropped.
        self._write(lambda: deque(self._current().execute(sql), maxlen=0))
        self._notice()
        if not self._current().in_transaction:
            raise QueryFailedError(target=self.target, reason="the statement ended the transaction around it")

    def _notice(self) -> None:
        """Let ``tables`` look again where the schema is another one; SQLite counts its changes, whoever makes them."""
        schema = self._run("pragma schema_version", {})
        if schema != self._schema:
            self._tables, self._schema = None, schema

    def _orphans_before(self) -> Counter[tuple[object, object]]:
        try:
            return self._orphans()
        except QueryFailedError:  # keys to nothing unique; if they still are at the end, that is refused
            return Counter()

    def _orphans(self) -> Counter[tuple[object, object]]:
        """Count the rows that point to nothing, by their table and the one they point to."""
        return Counter((table, parent) for table, _, parent, _ in self._run("pragma foreign_key_check", {}))

    def _refuse_orphans(self, before: Counter[tuple[object, object]]) -> None:
        """Refuse what made orphans; those that were there already are not the fault of this change."""
        made = self._orphans() - before
        if made:
            (table, parent), count = made.most_common(1)[0]
            reason = f"{counted(count, 'row')} of {table} would point to rows of {parent} that are not there"
            raise ConstraintError(target=self.target, reason=reason)


def _only_this_file(action: int, *_what: str | None) -> int:
    """Refuse what would begin or end a transaction, or leave the file."""
    refused = action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _only_what_a_transaction_can_hold(
    action: int, first: str | None, value: str | None, *_rest: str | None
) -> int:
    """Refuse what would end the transaction, leave the file, or quietly do nothing inside a transaction."""
    if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in script.ALLOWED_PRAGMAS:
        # we ask it ourselves, and nobody sets it
        return sqlite3.SQLITE_OK if (first, value) == ("schema_version", None) else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
