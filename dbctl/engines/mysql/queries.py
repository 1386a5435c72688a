"""Query plans, full-text indexes, scripts, staging tables, streams of rows, and queries of users, on MySQL and MariaDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import cast

from pymysql.cursors import SSCursor

from dbctl import signals
from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Column
from dbctl.engines.contract.fulltext import IndexState, TextIndexSpec, TextQuery, positive_terms
from dbctl.engines.contract.schema import ScriptDialect
from dbctl.engines.contract.streaming import BATCH_ROWS, Begin, RowStream, RowStreams, UserQuery
from dbctl.engines.mysql import statements
from dbctl.engines.mysql.catalog import INDEX_SQL, require_rights
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLPart, MySQLWriter, RowInserter
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.statements import (
    LEXER,
    STORED_FUNCTIONS,
    VIEWS,
    find_external_call,
    find_secret,
    find_stored_function,
    session_reset_statements,
    split_variants,
)
from dbctl.engines.mysql.stored_code import encode_statements
from dbctl.engines.mysql.values import (
    MySQLColumn,
    MySQLTable,
    exact_expression,
    format_literal,
    keep_exact_values,
)
from dbctl.engines.parsing.statements import read_words
from dbctl.engines.servers.database import ServerScripts
from dbctl.engines.servers.values import kind_of
from dbctl.engines.sql.catalog import Row, Statement, ident
from dbctl.engines.sql.checks import SqlExplainer, add_expressions, is_recursive
from dbctl.engines.sql.fulltext import RankedSearch, Ranking
from dbctl.engines.sql.staging import SqlStagingTables, declare_columns
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, QueryFailedError, SecretColumnError, StoredFunctionError
from dbctl.model import group

PLAN_COLUMNS = ("id", "select_type", "table", "type", "key", "rows", "extra")


class MySQLExplainer(MySQLPart, SqlExplainer):
    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._connection.require_query(sql)
        return self.explain_statement(sql, parameters, self._find_aliases(sql))

    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        with self._connection.read_transaction():
            # Another format may be the default.
            rows = self._connection.fetch_by_name(f"explain format=traditional {sql}", parameters)
        scanned = [str(row["table"]) for row in rows if row["type"] in ("ALL", "index")]
        names = [aliases.get(name, name) for name in scanned]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[
                ", ".join(f"{name}: {row[name]}" for name in PLAN_COLUMNS if row.get(name) not in (None, ""))
                for row in rows
            ],
            full_scans=list(dict.fromkeys(name for name in names if name in self._catalog.tables())),
        )

    def _hide_tables(self, rows: Sequence[str], tables: Sequence[str], sql: str) -> str:
        # MariaDB does not resolve names of an outer query in such expressions. In one list, they see only earlier ones, unless
        # it is recursive: then the query reads the stored rows.
        return sql if is_recursive(sql) else add_expressions([*rows, *tables], sql)

    def _find_aliases(self, sql: str) -> dict[str, str]:
        """Return the tables of a statement by alias, the word after the name, because plans contain aliases only."""
        significant = LEXER.read_significant(sql)
        texts = [token.text[1:-1] if token.kind == "name" else token.text for token in significant]
        aliases: dict[str, str] = {}
        for position, name in enumerate(texts[:-1]):
            has_as = texts[position + 1].lower() == "as" and position + 2 < len(texts)
            alias_position = position + 1 + has_as
            if name in self._catalog.tables() and significant[alias_position].kind in ("word", "name"):
                aliases.setdefault(texts[alias_position], name)
        return aliases


INDEXES = """select s.index_name, case when {} then 'ignored' else s.index_type end, s.column_name from information_schema.statistics s
where s.table_schema = database() and s.table_name = :table order by s.index_name, s.seq_in_index"""


class MySQLFullText(RankedSearch):
    """The part ``FullText``; the server maintains the index, and the app recognises it by its name."""

    _connection: MySQLConnection

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        indexes = self._list_indexes(spec)
        expected = [name.lower() for name in spec.columns]
        for name, (kind, columns) in indexes.items():
            if kind == "FULLTEXT" and [column.lower() for column in columns] == expected:
                return IndexState(name=name, state="valid")
        if spec.index_name in indexes:
            is_ignored = indexes[spec.index_name][0] == "ignored"
            reason = "no query reads it, because it is invisible" if is_ignored else "it covers other columns"
            return IndexState(name=spec.index_name, state="broken", reason=reason)
        return IndexState(name=spec.index_name, state="missing")

    def _list_indexes(self, spec: TextIndexSpec) -> dict[str, tuple[str, list[str]]]:
        """Return the kind, ``ignored`` for one that no query reads, and the columns of each index of the table, by name."""
        is_ignored, _ = INDEX_SQL[self._connection.server.is_mariadb]
        table = self._catalog.require_table(spec.table).name
        rows = self._connection.fetch(INDEXES.format(is_ignored), {"table": table})
        columns = group(((str(name), str(kind)), str(column)) for name, kind, column in rows)
        return {name: (kind, names) for (name, kind), names in columns.items()}

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        names = [self._catalog.quote_column(spec.table, name, "t0") for name in spec.columns]
        words = [word for term in positive_terms(query) for word in re.findall(r"\w+", " ".join(term.words))]
        placeholder = statement.bind(" ".join(words))
        score = f"match({', '.join(names)}) against ({placeholder} in natural language mode)"
        return Ranking(source=f"{self._catalog.quote_table(spec.table)} t0", test="", score=score)

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        name, table = spec.index_name, self._catalog.quote_table(spec.table)
        exists = name in self._list_indexes(spec)
        return {f"drop index {name}": f"drop index {ident(name)} on {table}"} if exists else {}

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        columns = ", ".join(self._catalog.quote_column(spec.table, name, "") for name in spec.columns)
        statement = f"create fulltext index {ident(spec.index_name)} on {self._catalog.quote_table(spec.table)} ({columns})"
        return {
            f"create index {spec.index_name} (FULLTEXT) on {spec.table}; this blocks writes to the table": statement
        }


OBJECTS = """select case table_type when 'VIEW' then 'view' when 'SEQUENCE' then 'sequence' else 'table' end, table_name
from information_schema.tables where table_schema = database()
union all select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
union all select 'event', event_name from information_schema.events where event_schema = database()"""

#: The first words of statements that write rows.
WRITES = frozenset({"insert", "replace", "update", "delete", "load", "with"})
#: Packages of MariaDB, and their bodies, which are dropped with them.
PACKAGES = ("package", "package body")


class MySQLScripts(MySQLPart, ServerScripts):
    script_dialect: ScriptDialect = statements.SCRIPTS
    transactional_ddl = False  # schema changes commit
    _db: MySQLWriter
    _resets: Sequence[str] = ()  #: statements that remove what a script has created for its session
    _state: Mapping[str, object] = {}  #: of the session before the statements outside a transaction

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        del short_waits  # each statement commits, and has a separate timeout
        if self._db.transactions.depth:
            raise RuntimeError("a schema change inside another transaction")
        with self._restore_settings(), self._db.transactions.transaction():
            yield

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        with self._connection.translate_errors("show"):
            self._state = self._connection.session.read_script_state()
        with super().outside_transaction():
            yield

    def restore_session(self) -> None:
        super().restore_session()
        with self._connection.translate_errors("set"):
            self._connection.session.restore_script_state(self._state)

    def _remove_session_objects(self) -> None:
        resets, self._resets = self._resets, ()
        for sql in dict.fromkeys(resets):
            self._connection.run(sql)

    def find_unreverted_tables(self, sql: str) -> Sequence[str]:
        variants = (read_words(tokens) for tokens in split_variants(LEXER.tokenize(sql)))
        names = {
            word.text.lower()
            for words in variants
            if words and words[0].text.lower() in WRITES
            for word in words
        }
        return [
            name
            for name, table in self._db.tables().items()
            if isinstance(table, MySQLTable) and not table.transactional and name.lower() in names
        ]

    def drop_statements(self) -> Sequence[str]:
        objects = self._connection.fetch(OBJECTS)
        drops = [
            f"drop {kind} if exists {ident(str(name))}" for kind, name in objects if kind not in PACKAGES
        ]
        packages = [
            f"drop package if exists {ident(str(name))}" for kind, name in objects if kind == PACKAGES[0]
        ]
        if packages:
            oracle = "set session sql_mode = concat(@@session.sql_mode, ',ORACLE')"
            packages = [oracle, *packages]
        return ["set foreign_key_checks = 0", *drops, "set foreign_key_checks = 1", *packages]

    def run_definitions(self, statements: Sequence[str]) -> None:
        self._db.transactions.require()
        for statement in encode_statements(self._connection.session, statements):
            self._connection.execute_text(statement)
        self._begin_again()

    def run_statement(self, sql: str) -> None:
        if reason := statements.SCRIPTS.unsupported_reason(sql):
            raise QueryFailedError(target=self._connection.target, reason=reason)
        self._resets = [*self._resets, *session_reset_statements(sql)]
        if self._in_step_mode and not self._db.transactions.depth:
            try:
                self._connection.fetch(sql, writing=True)
            finally:
                self._catalog.forget()
                # No transaction is open.
                self._db.transactions.forget_errors()
            return
        self._db.transactions.require()
        self._connection.fetch(sql, writing=True)
        self._begin_again()

    def _begin_again(self) -> None:
        self._connection.run("commit")  # each step commits; the server may have done so already
        self._connection.run("start transaction read write")
        self._catalog.forget()


#: Kinds for which ``<=>`` compares exactly.
EXACT = frozenset({"integer", "number", "timestamp", "date"})


class MySQLStaging(MySQLPart, SqlStagingTables):
    _db: MySQLWriter

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = ident(name), ", ".join(ident(column) for column in columns)
        select = f"select {names} from {self._catalog.quote_table(table)} where false"
        self._connection.execute_text(f"create temporary table {staging_table} engine = InnoDB as {select}")
        with self._db.transaction():
            described = [self._catalog.require_column(table, column) for column in columns]
            RowInserter(self._connection).insert(staging_table, described, rows)
        return staging_table

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        if kind_of(self._catalog.require_column(table, column)) in EXACT:
            return f"(t0.{name} <=> s.{name})"
        return f"(cast(t0.{name} as binary) <=> cast(s.{name} as binary))"  # as text, the comparison ignores case

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        self._db.require_writable(table)
        names = ", ".join(ident(name) for name in columns)
        sql = f"insert into {self._catalog.quote_table(table)} ({names}) {select}"
        if not any(reference.table == table for reference in self._catalog.references(table)):
            return self.write(sql)
        # A server checks each row immediately, but the row that it refers to may be inserted later.
        self._connection.execute_text("set session foreign_key_checks = 0")
        try:
            row_count = self.write(sql)
        finally:
            self._connection.execute_text("set session foreign_key_checks = 1")
        for orphans in self._db.checks.find_orphaned_rows(table):
            reason = f"{orphans.count} rows of {table} would refer to no row of {orphans.referenced_table} ({', '.join(orphans.columns)})"
            raise ConstraintError(target=self._connection.target, reason=reason)
        return row_count

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        self._db.require_writable(table)
        sets = ", ".join(f"t0.{ident(name)} = s.{ident(name)}" for name in columns)
        return self.write(
            f"update {self._catalog.quote_table(table)} t0 join {staging_table} s on {where} set {sets}"
        )

    def write(self, sql: str) -> int:
        return self._connection.execute_write(sql)

    def declare_type(self, column: Column) -> str:
        declared = column.type
        if isinstance(column, MySQLColumn) and column.charset:
            declared += f" character set {column.charset} collate {format_literal(column.collation)}"
        # Without explicit_defaults_for_timestamp, a TIMESTAMP is NOT NULL unless NULL is stated.
        return f"{declared} null" if column.nullable else declared

    @contextmanager
    def create_table(
        self, name: str, columns: Sequence[Column], key: Sequence[str], begin: Begin
    ) -> Iterator[None]:
        definitions = declare_columns([(column, self.declare_type(column)) for column in columns], key)
        # this commits
        self._connection.execute_text(
            f"create table {ident(name)} ({definitions}) engine = InnoDB row_format = dynamic"
        )
        self._catalog.forget()
        try:
            with begin():
                yield
        except BaseException:  # also on a signal: an empty table must not remain
            with signals.block_signals(), suppress(DbctlError):
                self._connection.execute_text(f"drop table {ident(name)}")
            raise
        finally:
            self._catalog.forget()

    def drop_table(self, name: str) -> None:
        self._connection.execute_text(f"drop table {self._catalog.quote_table(name)}")  # this commits
        self._connection.run("start transaction read write")
        self._catalog.forget()


#: The recursion limit: by default, MariaDB stops at the thousandth step, and returns an incomplete result.
MAX_ITERATIONS = 4_294_967_295


def parse_again(name: str) -> str:
    """Return SQL for JSON as the server reads its text: without the decimals that functions store, and floats may differ."""
    return f"cast(cast({name} as char) as json)"


def loaded_expression(column: Column, name: str) -> str:
    """Return SQL for the value of a column that a load of its dump stores."""
    return parse_again(name) if column.type == "JSON" else exact_expression(column, name)


class MySQLStreams(MySQLPart, RowStreams):
    sql_dialect = "mysql"

    def view_queries(self) -> Mapping[str, str]:
        from dbctl.engines.mysql.catalog import VIEWS

        return {view["name"]: view["text"] for view in self._connection.fetch_by_name(VIEWS)}

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        return self._stream(table, columns, exact_expression)

    def stream_loaded(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        return self._stream(table, columns, loaded_expression)

    @contextmanager
    def _stream(
        self, table: str, columns: Sequence[str], express: Callable[[Column, str], str]
    ) -> Iterator[RowStream]:
        require_rights(self._connection, ["SELECT"], table)
        names = ", ".join(
            express(
                self._catalog.require_column(table, column), self._catalog.quote_column(table, column, "")
            )
            for column in columns
        )
        sql = f"select {names} from {self._catalog.quote_table(table)}"
        with (
            keep_exact_values(self._connection.session),
            stream_rows(self._connection, sql, columns) as stream,
        ):
            yield stream

    @contextmanager
    def query_read_only(self, query: UserQuery) -> Iterator[RowStream]:
        self._connection.require_query(query.sql)
        if name := find_external_call(query.sql):
            reason = f"{name} does more than read, and a rollback does not undo it"
            raise QueryFailedError(target=self._connection.target, reason=reason)
        if secret := find_secret(query.sql, query.hidden):
            raise SecretColumnError(target=self._connection.target, column=secret)
        if not query.calls_stored_functions:
            self._refuse_stored_functions(query.sql)
        with (
            self._connection.read_transaction(),
            self._limit_time(query.timeout),
            stream_rows(self._connection, self._connection.bind(query.sql, query.parameters)) as stream,
        ):
            yield stream

    def _refuse_stored_functions(self, sql: str) -> None:
        functions = {str(name) for (name,) in self._connection.fetch(STORED_FUNCTIONS)}
        rows = self._connection.fetch(VIEWS) if functions else ()
        views = {str(name): str(definition or "") for name, definition in rows}
        if name := find_stored_function(sql, functions, views):
            raise StoredFunctionError(target=self._connection.target, function=name)

    @contextmanager
    def _limit_time(self, within: timedelta | None) -> Iterator[None]:
        session = self._connection.session
        limits: dict[str, object] = {}
        if session.server.is_mariadb:
            limits["max_recursive_iterations"] = MAX_ITERATIONS
        if within is not None:
            duration = max(within, timedelta(milliseconds=1))
            if session.server.is_mariadb:
                limits["max_statement_time"] = duration / timedelta(seconds=1)
            else:
                limits["max_execution_time"] = duration // timedelta(milliseconds=1)
        with self._connection.translate_errors("set"):
            for name, value in limits.items():
                session.run(f"set session {name} = {value}")
        try:
            with self._connection.translate_timeout(within):
                yield
        finally:
            if session.open:
                with self._connection.translate_errors("set"):
                    for name in limits:
                        session.run(f"set session {name} = default")


@contextmanager
def stream_rows(
    connection: MySQLConnection, sql: str, columns: Sequence[str] | None = None
) -> Iterator[RowStream]:
    """Run a statement and provide its rows, which the server sends as they are read."""
    session = connection.session
    with connection.translate_errors(sql):
        cursor = session.cursor(SSCursor)
        try:
            cursor.execute(sql)
            names = [str(description[0]) for description in cursor.description or ()]
            yield RowStream(columns or names, _batches(cursor))
        finally:
            _end_stream(connection, session, cursor)


def _end_stream(connection: MySQLConnection, session: Session, cursor: SSCursor) -> None:
    """End a stream. The driver would read to the last row, so a session with unread rows is closed."""
    result = session._result  # type: ignore[attr-defined]  # noqa: SLF001 - the driver has no public attribute for it
    if result is not None and result.unbuffered_active:
        if session.open:
            connection.abandon(session)
            session._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 - no public method
        result.unbuffered_active, result.connection = False, None
        cursor.connection = None  # type: ignore[assignment]
    else:
        cursor.close()


def _batches(cursor: SSCursor) -> Iterator[list[Row]]:
    while rows := cast("list[Row]", list(cursor.fetchmany(BATCH_ROWS))):
        signals.raise_if_interrupted()
        yield rows
