"""Query plans of a SQLite file, pages in the order of an index, a scan of all texts, streams of rows, and queries of users."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Column, Order, Query, Where
from dbctl.engines.contract.streaming import RowStream, RowStreams, UserQuery
from dbctl.engines.sql.catalog import Statement, ident
from dbctl.engines.sql.checks import SqlExplainer
from dbctl.engines.sql.fulltext import SqlTextScanner
from dbctl.engines.sqlite.catalog import INDEX_WITHOUT_ROWS, VIRTUAL
from dbctl.engines.sqlite.connection import is_interruption
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.dialect import SQLiteQueryBuilder, expand_sets
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError, QueryTimeoutError, SecretColumnError

#: Whether a table is a shadow table, or a full-text index over the text of another table, which triggers may copy.
_INDEX_TABLE = f"""select 1 from pragma_table_list l join sqlite_master m on m.name = l.name
where l.schema = 'main' and l.name = :table
and (l.type = 'shadow' or {INDEX_WITHOUT_ROWS} or (l.type = 'virtual' and exists (
    select 1 from sqlite_master t where t.type = 'trigger' and instr(lower(t.sql), lower(l.name)))))"""


class SQLiteExplainer(SqlExplainer):
    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        plan, scanned = self._read_plan(sql, parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=[aliases[name] for name in scanned if name in aliases],
        )

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._refuse_unknown_names(sql)
        expanded_sql, expanded_parameters = expand_sets(sql, parameters)
        plan, scanned = self._read_plan(expanded_sql, expanded_parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=list(dict.fromkeys(name for name in scanned if name in self._catalog.tables())),
        )

    def _refuse_unknown_names(self, sql: str) -> None:
        """Refuse unknown names in double quotes, because SQLite would read them as text without an error."""
        from dbctl.engines.sqlite.schema import find_unknown_names

        names = {column.lower() for table in self._catalog.tables().values() for column in table.columns}
        unknown_names = find_unknown_names(sql, names | {name.lower() for name in self._catalog.tables()})
        if unknown_names:
            reason = f"no column {unknown_names[0]}; SQLite reads an unknown name in double quotes as text"
            raise QueryFailedError(target=self._catalog.target, reason=reason)

    def _read_plan(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """Return the steps of SQLite's plan, and the tables or aliases that it reads completely."""
        depth: dict[object, int] = {}
        plan, scanned = [], []
        for step, parent, _unused, detail in self._connection.fetch(f"explain query plan {sql}", parameters):
            depth[step] = depth.get(parent, -1) + 1
            plan.append("  " * depth[step] + str(detail))
            words = str(detail).split()
            if words[:1] == ["SCAN"] and "INDEX" not in words:
                scanned.append(words[1])
        return plan, scanned


class SQLiteTextScanner(SqlTextScanner):
    def text_columns(self, table: str) -> Sequence[str]:
        return [] if self._connection.fetch(_INDEX_TABLE, {"table": table}) else super().text_columns(table)


#: Pragmas that return a setting, and change it if they have a value. Not `journal_mode`, whose answer is "delete" for a file that is read
#: without locks: `JOURNAL_MODE_QUERY` has its own answer, and the table-valued function of newer versions of SQLite is refused.
SETTING_PRAGMAS = frozenset(
    """auto_vacuum busy_timeout cache_size foreign_keys journal_size_limit locking_mode max_page_count
    mmap_size query_only recursive_triggers secure_delete synchronous temp_store wal_autocheckpoint""".split()
)
#: Pragmas that only read.
READ_PRAGMAS = frozenset(
    """application_id collation_list compile_options data_version database_list encoding foreign_key_check
    foreign_key_list freelist_count function_list index_info index_list index_xinfo integrity_check module_list page_count
    page_size pragma_list quick_check schema_version table_info table_list table_xinfo user_version""".split()
)
JOURNAL_MODE_QUERY = re.compile(r"\s*pragma\s+(main\s*\.\s*)?journal_mode\s*;?\s*", re.IGNORECASE)
#: Columns in which ANALYZE stores values of indexed columns.
SAMPLE_COLUMNS = frozenset({("sqlite_stat3", "sample"), ("sqlite_stat4", "sample")})
#: Table-valued functions that only read.
MODULES = frozenset({"json_each", "json_tree", *(f"pragma_{name}" for name in READ_PRAGMAS)})

#: The error of Python's driver for a ``?`` parameter.
UNNAMED = r"Binding \d+ has no name"


class SQLiteStreams(SQLitePart, RowStreams):
    sql_dialect = "sqlite"

    def view_queries(self) -> Mapping[str, str]:
        rows = self._connection.fetch("select name, sql from sqlite_master where type = 'view'")
        return {str(name): str(sql) for name, sql in rows}

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        self._connection.prepare_stream()
        names = ", ".join(self._catalog.quote_column(table, column, "") for column in columns)
        # read in the order of the table, which is that of its keys; an index may have another order
        index_hint = "" if self._catalog.require_table(table).is_view else " not indexed"
        return self._connection.stream_rows(
            f"select {names} from {self._catalog.quote_table(table)}{index_hint}"
        )

    @contextmanager
    def query_read_only(self, query: UserQuery) -> Iterator[RowStream]:
        from dbctl.engines.sqlite.values import parse_parameter

        self._connection.prepare_stream()
        if JOURNAL_MODE_QUERY.fullmatch(query.sql):
            # SQLite would return "delete" for a file that is read without locks
            yield RowStream(("journal_mode",), iter([[(self._connection.read_journal_mode(),)]]))
            return
        # a common table expression may have the name of a view, and SQLite reports both in the same way
        has_expressions = re.search(r"\bwith\b", query.sql, re.IGNORECASE)
        tables = () if has_expressions else self._catalog.tables().values()
        views = [table.name for table in tables if table.is_view]
        authorizer = Authorizer(query.hidden, views)
        bound_values = {name: parse_parameter(value) for name, value in query.parameters.items()}
        with self._connection.query_only(), ExitStack() as stack:
            self._load_modules(query.sql)
            stack.callback(self._connection.set_authorizer, None)
            self._connection.set_authorizer(authorizer)
            stack.enter_context(self._connection.limit_time(query.timeout))
            try:  # the block of the caller reads the batches
                yield stack.enter_context(self._connection.stream_rows(query.sql, bound_values))
            except QueryFailedError as error:
                raise self._explain_failure(error, authorizer, query.timeout) from error

    def _load_modules(self, sql: str) -> None:
        """Make SQLite create its table-valued functions, which the authorizer would report as changes."""
        tables = self._connection.rows("select name, sql from sqlite_master where type = 'table'")
        names = {str(name).lower() for name, text in tables if re.match(VIRTUAL, str(text))} | MODULES
        for name in sorted(names.intersection(re.findall(r"\w+", sql.lower()))):
            with suppress(QueryFailedError):  # the query itself reports the error
                self._connection.rows(f"explain select 1 from {ident(name)}")

    def _explain_failure(
        self, error: DbctlError, authorizer: Authorizer, timeout: timedelta | None
    ) -> DbctlError:
        """Return the error that ended a result: a denied action, the time limit, or the error itself."""
        if authorizer.secret_column:
            return SecretColumnError(target=self._catalog.target, column=authorizer.secret_column)
        if authorizer.denied_action:
            return QueryFailedError(
                target=self._catalog.target, reason=f"{authorizer.denied_action} does more than read"
            )
        if re.match(UNNAMED, str(error.__cause__)):
            return QueryFailedError(
                target=self._catalog.target, reason="parameters need a name, for example :name"
            )
        if timeout and is_interruption(error):
            return QueryTimeoutError(
                target=self._catalog.target,
                limit=f"{timeout.total_seconds():g} s",
                hint="Raise the limit with --within.",
            )
        return error


class Authorizer:
    """SQLite authorizer of a user's statement, which records a denied action; sqlite-utils has none."""

    def __init__(self, hidden: Mapping[str, Collection[str]], views: Collection[str] = ()) -> None:
        """Set the columns to hide; columns that one of ``views`` reads are not hidden."""
        self._views = {view.lower() for view in views}
        self._hidden = {
            (table.lower(), column.lower()) for table, columns in hidden.items() for column in columns
        }
        if hidden:
            self._hidden |= SAMPLE_COLUMNS
        self.secret_column = self.denied_action = ""

    def __call__(
        self, action: int, first: str | None, second: str | None, _schema: str | None, reader: str | None
    ) -> int:
        if action in _DENIED_ACTIONS:
            self.denied_action = _DENIED_ACTIONS[action]
        elif action == sqlite3.SQLITE_PRAGMA and not _is_read_pragma((first or "").lower(), second):
            self.denied_action = f"PRAGMA {first}" if second is None else f"PRAGMA {first} with a value"
        elif (
            action == sqlite3.SQLITE_READ
            and ((first or "").lower(), (second or "").lower()) in self._hidden
            and (reader or "").lower() not in self._views
        ):
            self.secret_column = f"{first}.{second}"
        else:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def _is_read_pragma(pragma: str, argument: str | None) -> bool:
    return pragma in READ_PRAGMAS or (pragma in SETTING_PRAGMAS and argument is None)


_DENIED_ACTIONS = {
    sqlite3.SQLITE_ATTACH: "ATTACH, or VACUUM INTO,",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_TRANSACTION: "beginning or ending a transaction",
    sqlite3.SQLITE_SAVEPOINT: "SAVEPOINT",
    sqlite3.SQLITE_INSERT: "a change",
    sqlite3.SQLITE_UPDATE: "a change",
    sqlite3.SQLITE_DELETE: "a change",
    sqlite3.SQLITE_ALTER_TABLE: "a change",
    sqlite3.SQLITE_ANALYZE: "a change",
    sqlite3.SQLITE_REINDEX: "a change",
}


#: Finds an index over all rows that begins with a column, ascending and with binary collation.
_INDEX = """select 1 from pragma_index_list(:table) l join pragma_index_xinfo(l.name) x
where not l.partial and x.seqno = 0 and x.name = :column and x.coll = 'BINARY' and not x."desc" limit 1"""
#: An empty BLOB sorts after every text, so that rows without any value come last.
_LAST = "x''"


class IndexOrderBuilder(SQLiteQueryBuilder):
    """Builder of ordered queries that read rows with a value through the index, and sort only the other rows.

    No index contains an expression such as "the first of two columns that is not empty", so SQLite would sort all rows
    for each page. Both halves of the compound statement end early once the page is full.
    """

    def select(
        self, statement: Statement, query: Query, express: Callable[[Column, str], str] | None = None
    ) -> str:
        table, order_by = query.table, query.order_by
        if query.limit is None or len(order_by) != 1 or not self._has_index(table, order_by[0]):
            return super().select(statement, query, express)
        first, *others = (self._catalog.quote_column(table, column, "t0") for column in order_by[0].columns)
        names = [self._catalog.quote_column(table, column, "t0") for column in query.columns]
        keys = [self._catalog.quote_column(table, key, "t0") for key in self._catalog.primary_key(table)]
        lowered = [f"lower(nullif({name}, ''))" for name in others]
        fallback = f"coalesce({', '.join([*lowered, _LAST])})"
        halves = [
            f"select {', '.join([*names, value, *keys])} from {self._catalog.quote_table(table)} t0{condition}"
            for value, test in ((first, f"{first} > ''"), (fallback, f"{first} <= ''"))
            for condition in [self._add_condition(statement, table, query.where, test)]
        ]
        width = len(names)
        sorted_by = ", ".join(str(width + 1 + position) for position in range(1 + len(keys)))
        selected = ", ".join(f"c{position}" for position in range(width))
        all_columns = ", ".join(f"c{position}" for position in range(width + 1 + len(keys)))
        merged = f"{' union all '.join(halves)} order by {sorted_by}{self.limit_clause(statement, query)}"
        return f"with page ({all_columns}) as ({merged}) select {selected} from page"

    def _add_condition(self, statement: Statement, table: str, where: Sequence[Where], test: str) -> str:
        condition = self.where_clause(statement, table, where, "t0")
        return f"{condition} and {test}" if condition else f" where {test}"

    def _has_index(self, table: str, order: Order) -> bool:
        """Whether an index has this order; the first column must not be NULL, because neither half would find NULL."""
        if not order.indexed or self._catalog.require_column(table, order.columns[0]).nullable:
            return False
        return bool(self._catalog.connection.fetch(_INDEX, {"table": table, "column": order.columns[0]}))
