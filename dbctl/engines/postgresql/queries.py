"""Explained queries, full text, rows in batches, and queries of users."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import cast

from msgspec import structs
from psycopg import capabilities, errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.fulltext import IndexState, TextIndexSpec, TextQuery, positive_terms
from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, RowStreams, UserQuery
from dbctl.engines.postgresql import statements
from dbctl.engines.postgresql.catalog import ROW_SECURITY
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.engines.postgresql.dialect import exact_reader
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.values import UNUSED_PARAMETER, encode_statement
from dbctl.engines.sql.catalog import Catalog, Row, Statement, ident
from dbctl.engines.sql.checks import SqlExplainer
from dbctl.engines.sql.fulltext import RankedSearch, Ranking
from dbctl.errors.connection import (
    PrivilegeMissingError,
    QueryFailedError,
    SecretColumnError,
    StoredFunctionError,
)
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import split_batches


class PostgreSQLExplainer(PostgreSQLPart, SqlExplainer):
    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        try:
            return self.explain_statement(sql, parameters, {})
        except QueryFailedError as error:
            if not (error.__cause__ and str(getattr(error.__cause__, "sqlstate", "")).startswith("22")):
                raise
        # A value has the wrong type, which does not matter for the plan: explain the statement with NULLs.
        nothing: dict[str, object] = {
            name: [] if isinstance(value, list) else None for name, value in parameters.items()
        }
        return structs.replace(
            self.explain_statement(sql, nothing, {}), parameters=tuple(parameters.values())
        )

    def explain_statement(
        self,
        sql: str,
        parameters: Mapping[str, object],
        aliases: Mapping[str, str],  # noqa: ARG002 - plans contain the names of tables
    ) -> Explanation:
        with self._connection.read_transaction():
            return self._explain(sql, sql, parameters)

    def explain_recorded(self, sql: str) -> Explanation | None:
        if not sql.lstrip("( ").lower().startswith(("select", "with")):
            return None
        count = max((int(number) for number in re.findall(r"\$([0-9]{1,4})", sql)), default=0)
        values = f"({', '.join(['null'] * count)})" if count else ""
        try:
            with self._connection.read_transaction():
                # otherwise the plan would be that for NULLs, which match nothing
                self._connection.fetch("set local plan_cache_mode = force_generic_plan")
                self._connection.fetch(f"prepare dbctl_recorded as {sql}")
                try:
                    return self._explain(sql, f"execute dbctl_recorded{values}", {})
                finally:
                    self._connection.fetch("deallocate dbctl_recorded")
        except (KeyError, QueryFailedError, PrivilegeMissingError):
            return None

    def _explain(self, sql: str, explained: str, parameters: Mapping[str, object]) -> Explanation:
        """Return the plan of a statement; ``explained`` runs it."""
        lines = self._connection.fetch(f"explain {explained}", parameters)
        ((plan,),) = self._connection.fetch(f"explain (format json) {explained}", parameters)
        scanned = [
            name for (document,) in [json.loads(str(plan))] for name in _find_full_scans(document["Plan"])
        ]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[str(line) for (line,) in lines],
            full_scans=list(dict.fromkeys(scanned)),
        )


def _find_full_scans(plan: Mapping[str, object]) -> Iterator[str]:
    """Yield the tables that are scanned entirely."""
    kind = str(plan["Node Type"])
    if "Seq Scan" in kind or ("Index" in kind and "Relation Name" in plan and "Index Cond" not in plan):
        yield str(plan["Relation Name"])
    inner = plan.get("Plans", [])
    if isinstance(inner, list):
        for child in inner:
            yield from _find_full_scans(child)


INDEXES = """select i.relname, x.indisvalid and x.indisready, m.amname::text,
  coalesce(pg_catalog.pg_get_expr(x.indexprs, x.indrelid), ''), x.indpred is not null
from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_am m on m.oid = i.relam
where x.indrelid = cast(:table as regclass) order by i.relname"""
#: What the server adds to an expression.
_SERVER_ADDITIONS = re.compile(r"::(?:regconfig|text)|[()\s\"]")


class PostgreSQLFullText(RankedSearch):
    """The part ``FullText``; the server maintains the index, and the app recognises it by its name."""

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        rows = self._connection.fetch(INDEXES, {"table": self._catalog.quote_table(spec.table)})
        expected = _normalize(_tsvector(self._catalog, spec, ""))
        for name, valid, method, expression, partial in rows:
            if method == "gin" and valid and not partial and _normalize(str(expression)) == expected:
                return IndexState(name=str(name), state="valid")
        for name, valid, *_ in rows:
            if name == spec.index_name:
                reason = "it covers other columns" if valid else "it is invalid: its creation was interrupted"
                return IndexState(name=spec.index_name, state="broken", reason=reason)
        return IndexState(name=spec.index_name, state="missing")

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        configuration = _configuration(spec)
        terms = [" ".join(term.words) for term in positive_terms(query)]
        queries = [f"phraseto_tsquery({configuration}, {statement.bind(text)})" for text in terms]
        words = f"({' || '.join(queries)})" if queries else "''::tsquery"
        return Ranking(
            source=f"{self._catalog.quote_table(spec.table)} t0",
            test="",
            score=f"ts_rank({_tsvector(self._catalog, spec, 't0.')}, {words})::float8",
        )

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        rows = self._connection.fetch(INDEXES, {"table": self._catalog.quote_table(spec.table)})
        name, exists = spec.index_name, any(row[0] == spec.index_name for row in rows)
        return {f"drop index {name}": f"drop index {ident(name)}"} if exists else {}

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        statement = f"create index {ident(spec.index_name)} on {self._catalog.quote_table(spec.table)} using gin ({_tsvector(self._catalog, spec, '')})"
        return {
            f"create index {spec.index_name} (GIN) on {spec.table}; this blocks writes to the table": statement
        }


def _normalize(expression: str) -> str:
    return _SERVER_ADDITIONS.sub("", expression).replace("COALESCE", "coalesce")


def _configuration(spec: TextIndexSpec) -> str:
    """Return the text search configuration as a constant, so that the planner finds the index."""
    if not (spec.language.isidentifier() and spec.language.isascii()):
        raise ValueInvalidError(name="language", value=repr(spec.language), reason="it must be one word")
    return f"'{spec.language}'"


def _tsvector(catalog: Catalog, spec: TextIndexSpec, prefix: str) -> str:
    """Return SQL for the tsvector that the index contains; ``prefix`` qualifies the columns."""
    columns = [catalog.require_column(spec.table, name) for name in spec.columns]
    names = [f"{prefix}{ident(column.name)}" for column in columns]
    # An index over a nullable column must still cover the other columns.
    text = " || ' ' || ".join(
        f"coalesce({name}, '')" if column.nullable else name
        for name, column in zip(names, columns, strict=True)
    )
    return f"to_tsvector({_configuration(spec)}, {text})"


#: Rows in one chunk; before version 17, libpq returns single rows.
CHUNK_ROWS = BATCH_ROWS if capabilities.has_stream_chunked() else 1


def _describe_columns(session: Session, sql: str) -> list[str]:
    """Return the columns of a statement that returned no rows, for which the driver has no description."""
    session.pgconn.prepare(b"", encode_statement(sql))
    description = session.pgconn.describe_prepared(b"")
    return [
        (description.fname(position) or b"").decode(errors="surrogateescape")
        for position in range(description.nfields)
    ]


#: Rows of COPY in one write.
COPIED_ROWS = 2000


_OUTSIDE_FAILURES = (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS)


class _StopStreamError(Exception):
    """The consumer needs no more rows."""


class PostgreSQLStreams(PostgreSQLPart, RowStreams):
    sql_dialect = "postgres"

    def view_queries(self) -> Mapping[str, str]:
        from dbctl.engines.postgresql.catalog import VIEWS

        return {view["name"]: view["text"] for view in self._connection.fetch_by_name(VIEWS)}

    @contextmanager
    def query_read_only(self, query: UserQuery) -> Iterator[RowStream]:
        self._connection.require_query(query.sql)
        timeout = query.timeout
        with self._connection.read_transaction():
            session = self._connection.session  # a new one, if the server closed the idle one
            self._refuse_side_effects(query.sql)
            words, signs = statements.list_words_and_signs(query.sql)
            self._catalog.note_hidden_rows(words)
            if not query.calls_stored_functions:
                self._refuse_stored_functions(query.sql, words, signs)
            if query.hidden:
                self._refuse_secrets(query)
            if timeout is not None:
                limit = f"{max(1, timeout // timedelta(milliseconds=1))}ms"
                self._connection.fetch(
                    "select set_config('statement_timeout', :limit, true)", {"limit": limit}
                )
            with (
                self._connection.translate_timeout(timeout),
                self._connection.translate_errors(query.sql),
                session.cursor() as cursor,
            ):
                text, values = self._connection.bind_parameters(query.sql, query.parameters)
                rows = cursor.stream(encode_statement(text), values or [UNUSED_PARAMETER], size=CHUNK_ROWS)
                with closing(cast("Generator[Row]", rows)):
                    first_row = next(rows, None)
                    if first_row is None:
                        yield RowStream(_describe_columns(session, text), iter(()))
                    else:
                        columns = [column.name for column in cursor.description or ()]
                        yield RowStream(columns, split_batches(chain((first_row,), rows), BATCH_ROWS))

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[RowStream]:
        readers = [exact_reader(self._catalog.require_column(table, column)) for column in columns]
        sql = f"copy ({_select_columns(self._catalog, table, columns)}) to stdout"
        with (
            read_all_rows(self._db, table),
            self._connection.translate_errors(sql),
            self._connection.session.cursor() as cursor,
            suppress(_StopStreamError),
            cursor.copy(sql.encode()) as copy,
        ):
            yield RowStream(columns, _batches(copy.rows(), readers))
            if cursor.connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise _StopStreamError  # the driver stops COPY only on an exception

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int:
        sql = f"copy ({_select_columns(self._catalog, table, columns)}) to stdout (format csv, header)"
        with read_all_rows(self._db, table), self._connection.translate_errors(sql):
            session = self._connection.session
            with session.lock:
                try:
                    return session.wait(_copy_out(session.pgconn, sql.encode(), write))  # type: ignore[arg-type]
                except BaseException:  # also on a signal: the server must not continue
                    if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                        session.pgconn.finish()
                    raise

    def _refuse_secrets(self, query: UserQuery) -> None:
        statement = statements.explained_statement(query.sql)
        first = statements.read_first_word(statement)
        if first not in statements.EXPLAINED_WORDS:
            if statement != query.sql and first not in statements.DML_WORDS:
                raise QueryFailedError(
                    target=self._connection.target, reason=f"EXPLAIN {first.upper()} is not a query"
                )
            return
        # partitions and other tables that inherit hidden columns
        children = self._connection.fetch(statements.CHILD_TABLES, {"names": list(query.hidden)})
        hidden = {str(child): query.hidden[str(table)] for child, table in children} | {**query.hidden}
        secret = statements.find_renamed_columns(statement, hidden)
        if not secret:
            ((plan,),) = self._connection.fetch(
                f"explain (verbose, costs off, format json) {statement}", query.parameters
            )
            secret = statements.find_secret(str(plan), hidden)
        if secret:
            raise SecretColumnError(target=self._connection.target, column=secret)

    def _refuse_stored_functions(self, sql: str, words: list[str], signs: str) -> None:
        called, _ = statements.find_called_functions(sql)
        values = {"words": words, "signs": signs, "called": called}
        for (name,) in self._connection.fetch(statements.STORED_FUNCTION, values):
            raise StoredFunctionError(target=self._connection.target, function=name)

    def _refuse_side_effects(self, sql: str) -> None:
        names, has_hidden_names = statements.find_called_functions(sql)
        if has_hidden_names:
            raise QueryFailedError(
                target=self._connection.target, reason="it contains a U& name, which hides what it calls"
            )
        rows = self._connection.fetch(statements.VOLATILE, {"names": names}) if names else []
        functions = [name for name in names if statements.RUNS_SQL.fullmatch(name)]
        functions += [str(name) for (name,) in rows if name not in statements.HARMLESS]
        if functions:
            reason = f"{functions[0]} does more than read, and a rollback does not undo it"
            raise QueryFailedError(target=self._connection.target, reason=reason)


@contextmanager
def read_all_rows(db: PostgreSQLDatabase, table: str) -> Iterator[None]:
    """Implement ``Readable.read_all_rows``; inside another such block, it does nothing."""
    connection, name = db.connection, ROW_SECURITY
    is_view = bool(table) and db.catalog.require_table(table).is_view  # the policies of its owner apply
    if is_view or name in connection.session.settings:
        yield
        return

    def switch_off() -> None:
        connection.run(f"set {name} = off")
        connection.session.settings[name] = "off"

    switch_off()
    connection.on_change.append(switch_off)  # otherwise a new session would hide the rows of policies
    try:
        yield
    finally:
        connection.on_change.remove(switch_off)
        if connection.is_open:
            session = connection.session
            session.settings.pop(name, None)
            # a failed transaction resets it when it is rolled back
            if connection.is_usable and session.pgconn.transaction_status in _OUTSIDE_FAILURES:
                connection.run(f"reset {name}")


def _select_columns(catalog: Catalog, table: str, columns: Sequence[str]) -> str:
    names = ", ".join(catalog.quote_column(table, column, "") for column in columns)
    return f"select {names} from {catalog.quote_table(table)}"


def _batches(
    rows: Iterator[tuple[object, ...]], readers: Sequence[Callable[[str], object] | None]
) -> Iterator[Sequence[Row]]:
    is_plain = not any(readers)
    for batch in split_batches(rows, BATCH_ROWS):
        yield (
            batch
            if is_plain
            else [
                tuple(
                    value if parse is None or value is None else parse(str(value))
                    for parse, value in zip(readers, row, strict=True)
                )
                for row in batch
            ]
        )


def _copy_out(wire: pq.abc.PGconn, sql: bytes, write: Callable[[bytes], object]) -> PQGen[int]:
    """Pass on the data of COPY; return the row count."""
    yield from start_copy(wire, sql)
    count: int | None = None
    while count is None:
        rows, count = yield from read_copied(wire, COPIED_ROWS)
        write(b"".join(rows))
    return count


def start_copy(wire: pq.abc.PGconn, sql: bytes) -> PQGen[None]:
    """Begin COPY … TO STDOUT.

    The driver's own method takes twice as long to read it: it creates a generator for every row.
    """
    wire.send_query(sql)
    (result,) = yield from generators.execute(wire)
    if result.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)


def read_copied(wire: pq.abc.PGconn, limit: int) -> PQGen[tuple[list[bytes], int | None]]:
    """Read at most ``limit`` rows of COPY, each with its line feed; return them, and after the last one the number of all rows."""
    rows = list[bytes]()
    while len(rows) < limit:
        length, data = wire.get_copy_data(1)
        if length > 0:
            rows.append(bytes(data))  # many buffers of the driver at once take twice as long
        elif length == 0:
            while not (yield Wait.R):
                continue
            wire.consume_input()
        else:
            (result,) = yield from generators.fetch_many(wire)
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
            return rows, result.command_tuples or 0
    return rows, None
