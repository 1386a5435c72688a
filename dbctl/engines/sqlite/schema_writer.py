"""Scripts that change the schema of a SQLite file, inside one transaction that lets no row point to nothing."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from dbctl.engines import sqlite_script
from dbctl.engines.base import Language
from dbctl.engines.sqlite.connection import lenient
from dbctl.engines.sqlite.fulltext_writer import SQLiteTextWriter
from dbctl.errors import ConstraintError, QueryFailedError
from dbctl.model import counted

T = TypeVar("T")


class SQLiteSchemaWriter(SQLiteTextWriter):
    """Capability.MIGRATE."""

    language: Language = sqlite_script
    takes_schema_back = True
    _depth = 0  #: how many transactions are open, one inside the other

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _write(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, which writes inside the transaction."""

    @contextmanager
    def schema_transaction(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("a change of the schema inside another transaction")
        self._current().text_factory = lenient  # a script may read what it likes
        # A rebuilt table would fire ON DELETE CASCADE, and inside a transaction this pragma does nothing.
        self._pragma("foreign_keys", "0")
        try:
            with self.transaction():
                before = self._orphans_before()
                self._current().set_authorizer(_only_what_a_transaction_can_hold)
                try:
                    yield
                finally:
                    self._current().set_authorizer(None)
                self._refuse_orphans(before)
        finally:
            self._tables = None
            if self._connection is not None:
                self._pragma("foreign_keys", "1")

    def run_statement(self, sql: str) -> None:
        # To the last row: a SELECT that is only begun would hide its errors and keep its tables from being dropped.
        self._write(lambda: deque(self._current().execute(sql), maxlen=0))
        self._tables = None
        if not self._current().in_transaction:
            raise QueryFailedError(target=self.target, reason="the statement ended the transaction around it")

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


def _only_what_a_transaction_can_hold(action: int, first: str | None, *_rest: str | None) -> int:
    """Refuse what would end the transaction, leave the file, or quietly do nothing inside a transaction."""
    if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in sqlite_script.ALLOWED_PRAGMAS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
