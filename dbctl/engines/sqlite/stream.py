"""Rows of a SQLite file as they come, and the questions of people."""

from __future__ import annotations

import re
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TypeVar

from dbctl.engines.contract import Answer
from dbctl.engines.sql import Row, ident
from dbctl.engines.sqlite.checks import SQLiteChecks
from dbctl.engines.sqlite.describe import VIRTUAL
from dbctl.engines.sqlite.errors import name_of
from dbctl.errors import DbctlError, QueryFailedError, SecretAskedError, TimeUpError

T = TypeVar("T")

#: Pragmas that return a setting, and change it where they get a value.
SETTINGS = frozenset(
    [
        "auto_vacuum",
        "busy_timeout",
        "cache_size",
        "foreign_keys",
        "journal_mode",
        "journal_size_limit",
        "locking_mode",
        "max_page_count",
        "mmap_size",
        "query_only",
        "recursive_triggers",
        "secure_delete",
        "synchronous",
        "temp_store",
        "wal_autocheckpoint",
    ]
)
#: Pragmas that tell something and change nothing, not even of this connection.
TELLING = frozenset(
    [
        "application_id",
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "module_list",
        "page_count",
        "page_size",
        "pragma_list",
        "quick_check",
        "schema_version",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    ]
)
#: Where ANALYZE keeps values of all columns of an index.
SAMPLES = frozenset({("sqlite_stat3", "sample"), ("sqlite_stat4", "sample")})
#: Modules that read what they are given.
MODULES = frozenset({"json_each", "json_tree", *(f"pragma_{name}" for name in TELLING)})

#: How Python's module words a parameter that is written as ``?``.
UNNAMED = r"Binding \d+ has no name"


class SQLiteStreams(SQLiteChecks):
    """Capability.STREAM."""

    sql_dialect = "sqlite"
    reading: bool

    def view_queries(self) -> Mapping[str, str]:
        rows = self._fetch("select name, sql from sqlite_master where type = 'view'", {})
        return {str(name): str(sql) for name, sql in rows}

    @abstractmethod
    def _flow(self, sql: str, parameters: Mapping[str, object]) -> AbstractContextManager[Answer]:
        """Run one statement that reads, and give its rows as they come."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement once and return its rows."""

    @abstractmethod
    def _timed(self, within: timedelta | None) -> AbstractContextManager[None]:
        """Give what runs inside so long."""

    @abstractmethod
    def _current(self) -> sqlite3.Connection: ...

    @abstractmethod
    def _guarded(self, guard: Callable[..., int] | None) -> None:
        """Let ``guard`` say what a statement may do; None: what every statement of this connection may."""

    def _settle(self) -> None:
        """Make the connection fit for an answer that is handed on in parts."""

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[Answer]:
        self._settle()
        names = ", ".join(self._column(table, column, "") for column in columns)
        # in the order in which the rows lie, which is that of their keys; an index may hold them in another
        straight = "" if self._checked(table).view else " not indexed"
        return self._flow(f"select {names} from {self._table(table)}{straight}", {})  # noqa: S608 - names are checked and quoted

    @contextmanager
    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> Iterator[Answer]:
        from dbctl.engines.sqlite.types import values

        self._settle()
        # a common table expression may have the name of a view, and SQLite names both alike
        has_expressions = re.search(r"\bwith\b", sql, re.IGNORECASE)
        views = () if has_expressions else [table.name for table in self.tables().values() if table.view]
        told = Guard(hidden, views)
        given = {name: values.given(value) for name, value in parameters.items()}
        with ExitStack() as stack:
            self._know_modules(sql)
            stack.callback(self._guarded, None)
            self._guarded(told)
            stack.enter_context(self._timed(within))
            try:
                answer = stack.enter_context(self._flow(sql, given))
            except QueryFailedError as error:
                raise self._why(error, told, within) from error
            yield Answer(answer.columns, self._in_time(answer.batches, told, within))

    def _know_modules(self, sql: str) -> None:
        """Let SQLite make the tables that are no tables but modules, by statements that a guard would take for changes."""
        made = self._rows("select name, sql from sqlite_master where type = 'table'", {})
        names = {str(name).lower() for name, text in made if re.match(VIRTUAL, str(text))} | MODULES
        for name in sorted(names.intersection(re.findall(r"\w+", sql.lower()))):
            with suppress(QueryFailedError):  # the question itself tells of it
                self._rows(f"explain select 1 from {ident(name)}", {})  # noqa: S608 - the name is quoted

    def _in_time(
        self, batches: Iterator[Sequence[Row]], told: Guard, within: timedelta | None
    ) -> Iterator[Sequence[Row]]:
        try:
            yield from batches
        except QueryFailedError as error:
            raise self._why(error, told, within) from error

    def _why(self, error: DbctlError, told: Guard, within: timedelta | None) -> DbctlError:
        """Return the failure that an answer broke off with: what was refused, or the time that it had."""
        if told.secret:
            return SecretAskedError(target=self.target, what=told.secret)
        if told.refused:
            return QueryFailedError(target=self.target, reason=f"{told.refused} does more than read")
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error) and re.match(UNNAMED, str(cause)):
            return QueryFailedError(target=self.target, reason="a parameter needs a name, as in :name")
        if within and isinstance(cause, sqlite3.Error) and name_of(cause) == "SQLITE_INTERRUPT":
            return TimeUpError(
                target=self.target,
                within=f"{within.total_seconds():g} s",
                instead="--within gives it longer.",
            )
        return error

    def exactly(self) -> AbstractContextManager[None]:
        return nullcontext()  # it keeps floats

    def of_csv(self, table: str, column: str) -> Callable[[str, bool], object]:
        from dbctl.engines.sqlite.types import values

        return values.of_csv(column, self._described(table, column).type)

    def of_json(self, table: str, column: str) -> Callable[[object], object]:
        from dbctl.engines.sqlite.types import values

        self._described(table, column)
        return values.of_json(column)


class Guard:
    """Says what a statement of a person may do, and remembers what it did not let pass."""

    def __init__(self, hidden: Mapping[str, Collection[str]], views: Collection[str] = ()) -> None:
        """Take the columns that may not be read, and the views whose own columns alone decide what they show."""
        self._views = {view.lower() for view in views}
        self._hidden = {
            (table.lower(), column.lower()) for table, columns in hidden.items() for column in columns
        }
        if hidden:
            self._hidden |= SAMPLES
        self.secret = self.refused = ""

    def __call__(
        self, action: int, first: str | None, second: str | None, _schema: str | None, reader: str | None
    ) -> int:
        if action in _REFUSED:
            self.refused = _REFUSED[action]
        elif action == sqlite3.SQLITE_PRAGMA and not _only_reads((first or "").lower(), second):
            self.refused = f"PRAGMA {first}" if second is None else f"PRAGMA {first} with a value"
        elif (
            action == sqlite3.SQLITE_READ
            and ((first or "").lower(), (second or "").lower()) in self._hidden
            and (reader or "").lower() not in self._views
        ):
            self.secret = f"{first}.{second}"
        else:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def _only_reads(pragma: str, argument: str | None) -> bool:
    return pragma in TELLING or (pragma in SETTINGS and argument is None)


_REFUSED = {
    sqlite3.SQLITE_ATTACH: "ATTACH, or VACUUM INTO,",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_TRANSACTION: "beginning or ending a transaction",
    sqlite3.SQLITE_SAVEPOINT: "SAVEPOINT",
    **dict.fromkeys(
        (
            sqlite3.SQLITE_INSERT,
            sqlite3.SQLITE_UPDATE,
            sqlite3.SQLITE_DELETE,
            sqlite3.SQLITE_ALTER_TABLE,
            sqlite3.SQLITE_ANALYZE,
            sqlite3.SQLITE_REINDEX,
        ),
        "a change",
    ),
}
