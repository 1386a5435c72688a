"""Rows of a server as lines, in both directions, and the lock on all writes during a transfer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

from psycopg import pq

from dbctl import signals
from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.postgresql.catalog import CREATE_KEY, IN_USER_SCHEMA, RELATIONS, VISIBLE, read_scope
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import SEQUENCES, PostgreSQLWriter
from dbctl.engines.postgresql.dialect import exact_reader
from dbctl.engines.postgresql.queries import read_copied, start_copy
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.values import PostgreSQLColumn
from dbctl.engines.servers.values import kind_of
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.extensions.transfer.portable import canonical
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, LineColumn, LogicalKind
from dbctl.extensions.transfer.portable.server_rows import ServerRowSink, ServerRowSource
from dbctl.extensions.transfer.portable.write_lock import WRITE_LOCK_MESSAGE, WriteLock, WriteProofs

#: Rows of one batch.
BATCH_ROWS = 2000
#: SQL for the text of a value by kind; others have the text of the server.
EXPRESSIONS: Mapping[LogicalKind, str] = {
    "decimal": "case when {0}::text like '%.%' then rtrim(rtrim({0}::text, '0'), '.') else {0}::text end",
    "uuid": "lower({0}::text)",
    "text": "{0}::text",  # without the blanks of CHAR
    "enum": "{0}::text",
}
#: The type whose values a cast to text completes by the length of the mask, unlike the server: ``10.0.0.1/32``.
_ADDRESS = '"pg_catalog"."inet"'
_CONTROLS = {rb"\b": b"\b", rb"\f": b"\f", rb"\v": b"\v"}
_CONTROL, _ESCAPED = re.compile(rb"\\[bfv]"), re.compile(rb"\\.")


def quote_value(column: LineColumn, value: bytes) -> str:
    """Return SQL for a value of a line, whose type follows from the context."""
    del column
    return quote_literal(value.decode("utf-8", "surrogateescape"))


class PostgreSQLRowSource(ServerRowSource):
    _connection: PostgreSQLConnection
    quote_value = staticmethod(quote_value)

    def snapshot(self) -> AbstractContextManager[None]:
        # rows that a policy hides from this role are an error, and not left behind
        return self._connection.read_transaction("set local row_security = off")

    @contextmanager
    def _read_lines(
        self, table: str, columns: Sequence[LineColumn], clauses: str
    ) -> Iterator[Iterator[Sequence[Line]]]:
        sql = f"copy ({self._select(table, columns)}{clauses}) to stdout"
        normalizers = {
            index: canonical.NORMALIZERS[column.kind]
            for index, column in enumerate(columns)
            if column.kind in canonical.NORMALIZERS
        }
        session = self._connection.session
        wire = session.pgconn
        with self._connection.translate_errors(sql), session.lock:
            try:
                session.wait(start_copy(wire, sql.encode()))  # type: ignore[arg-type]
                yield (
                    canonical.normalize_lines(_decode_controls(batch), normalizers)
                    for batch in self._read_batches(session)
                )
            finally:  # the server must not continue for a consumer that needs no more rows
                if wire.transaction_status == pq.TransactionStatus.ACTIVE:
                    wire.finish()

    def _select(self, table: str, columns: Sequence[LineColumn]) -> str:
        expressions = ", ".join(self._expression(table, column) for column in columns)
        return f"select {expressions} from {self._select_from(table)}"

    def _select_from(self, table: str) -> str:
        """Return SQL for the rows that are read of a table."""
        return self._catalog.quote_table(table)

    def _expression(self, table: str, column: LineColumn) -> str:
        name = self._names.quote_column(table, column.name, "")
        if column.kind == "native":
            return name
        live = cast("PostgreSQLColumn", self._catalog.require_column(table, column.name))
        own_kind = kind_of(live)
        if live.base == _ADDRESS:
            return name
        if own_kind == "timestamptz":
            return f"{name} at time zone 'UTC'"
        if own_kind == "boolean":
            return f"{name}::int"
        return EXPRESSIONS.get(column.kind, "{0}").format(name)

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        read = exact_reader(self._catalog.require_column(table, column)) or str
        return lambda value: read(value.decode("utf-8", "surrogateescape"))

    def _read_batches(self, session: Session) -> Iterator[list[Line]]:
        count: int | None = None
        while count is None:
            rows, count = session.wait(read_copied(session.pgconn, BATCH_ROWS))  # type: ignore[arg-type]
            signals.raise_if_interrupted()
            if rows:
                yield [row[:-1] for row in rows]


def _decode_controls(batch: Sequence[Line]) -> Sequence[Line]:
    """Return lines with the characters that only COPY escapes: backspace, form feed and vertical tab."""
    # One search of all lines takes a tenth of the time of a search of each. A match across two lines costs time only.
    if not _CONTROL.search(b"".join(batch)):
        return batch
    return [_ESCAPED.sub(lambda escaped: _CONTROLS.get(escaped[0], escaped[0]), line) for line in batch]


#: What changes or refuses rows, or slows down a copy, of tables ``c`` that meet a condition: the statement that drops an object, and
#: those that create it again.
ATTACHMENTS = f"""
select 'key' as kind, f.conname, format('alter table %s drop constraint %I', c.oid::regclass, f.conname),
  {CREATE_KEY}
{RELATIONS} join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0 where {{0}}
union all
select 'trigger', g.tgname, format('drop trigger %I on %s', g.tgname, c.oid::regclass), array_remove(array[pg_get_triggerdef(g.oid),
    case g.tgenabled when 'D' then format('alter table %s disable trigger %I', c.oid::regclass, g.tgname)
      when 'R' then format('alter table %s enable replica trigger %I', c.oid::regclass, g.tgname)
      when 'A' then format('alter table %s enable always trigger %I', c.oid::regclass, g.tgname) end,
    format('comment on trigger %I on %s is %L', g.tgname, c.oid::regclass, obj_description(g.oid, 'pg_trigger'))], null)
{RELATIONS} join pg_catalog.pg_trigger g on g.tgrelid = c.oid and not g.tgisinternal
where {{0}} and coalesce(to_jsonb(g) ->> 'tgparentid', '0') = '0'
union all
select 'index', i.relname, format('drop index %s', i.oid::regclass), array[pg_get_indexdef(i.oid)]
{RELATIONS} join pg_catalog.pg_index x on x.indrelid = c.oid and not x.indisunique
  join pg_catalog.pg_class i on i.oid = x.indexrelid
where {{0}} and not exists (select from pg_catalog.pg_constraint f where f.conindid = i.oid and f.contype in ('p', 'u', 'x'))
order by 1, 2"""


class PostgreSQLRowSink(ServerRowSink):
    _connection: PostgreSQLConnection
    quote_value = staticmethod(quote_value)

    def bulk_load(self) -> AbstractContextManager[None]:
        return nullcontext()  # foreign keys are dropped, because only a superuser may ignore them

    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"copy {self._names.quote_table(table)} ({names}) from stdin"
        self._db.require_writable(table)
        with (
            self._connection.translate_errors(sql, writing=True),
            self._connection.session.cursor() as cursor,
        ):
            with cursor.copy(sql.encode()) as copy:
                for batch in batches:
                    signals.raise_if_interrupted()
                    if batch.lines:
                        copy.write((batch.text or b"\n".join(batch.lines)) + b"\n")
            return cursor.rowcount

    def _execute(self, sql: str) -> int:
        return self._connection.execute_write(sql)

    def clear_table(self, table: str) -> int:
        self._require_writable(table)
        return self._execute(f"delete from only {self._names.quote_table(table)}")

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        return self._fetch_attachments(VISIBLE, {}, indexes=indexes)

    def _fetch_attachments(
        self, condition: str, parameters: Mapping[str, object], *, indexes: bool
    ) -> list[tuple[str, Sequence[str]]]:
        rows = self._connection.fetch(ATTACHMENTS.format(condition), parameters)
        return [
            (str(drop), cast("list[str]", create))
            for kind, _, drop, create in rows
            if indexes or kind != "index"
        ]


_FROM = f"""{RELATIONS}
left join pg_catalog.pg_trigger g on g.tgrelid = c.oid and g.tgname = :lock
where (:scope = '' or n.nspname = :scope)"""
#: Tables that are not locked, also partitions, but not those whose rows belong to an extension.
_UNLOCKED = f"""select n.nspname::text, c.relname::text {_FROM} and g.oid is null and c.relkind in ('r', 'p')
and c.relpersistence <> 't' and {IN_USER_SCHEMA}
and not exists (select from pg_catalog.pg_depend e
  where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e'
    and not exists (select from pg_catalog.pg_extension x where x.oid = e.refobjid and c.oid = any(x.extconfig)))
order by 1, 2"""
_LOCKED = f"select n.nspname::text, c.relname::text {_FROM} and g.oid is not null order by 1, 2"
#: Functions that no table of another schema needs.
_FUNCTIONS = """select n.nspname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = :lock and (:scope = '' or n.nspname = :scope) and not exists (select from pg_catalog.pg_trigger g
  join pg_catalog.pg_class c on c.oid = g.tgrelid join pg_catalog.pg_namespace o on o.oid = c.relnamespace
  where g.tgfoid = p.oid and :scope <> '' and o.nspname <> :scope) order by 1"""


class PostgreSQLWriteLock(WriteLock):
    exceptions = "changes of the schema, and rows of subscriptions"
    _connection: PostgreSQLConnection

    def list_locked(self) -> Sequence[str]:
        return [name for _, name in self._fetch(_LOCKED)]

    def _fetch(self, sql: str) -> list[tuple[str, ...]]:
        parameters = {"scope": read_scope(self._connection.session), "lock": WRITE_LOCK}
        return [tuple(map(str, row)) for row in self._connection.fetch(sql, parameters)]

    def _lock_statements(self) -> Sequence[str]:
        rows = self._fetch(_UNLOCKED)
        if not rows:
            return []
        tables = [f"{ident(schema)}.{ident(name)}" for schema, name in rows]
        function = f"{ident(rows[0][0])}.{ident(WRITE_LOCK)}()"
        refusal = f"raise exception using errcode = 'read_only_sql_transaction', message = {quote_literal(WRITE_LOCK_MESSAGE)}"
        return [
            # sessions that write end first, and no session can begin to write
            f"lock table {', '.join(tables)} in share row exclusive mode",
            f"create or replace function {function} returns trigger language plpgsql as $lock$begin {refusal}; end$lock$",
            *(
                f"create trigger {WRITE_LOCK} before insert or update or delete or truncate on {table}"
                f" for each statement execute function {function}"
                for table in tables
            ),
            # the setting session_replication_role does not leave it out
            *(f"alter table {table} enable always trigger {WRITE_LOCK}" for table in tables),
        ]

    def _unlock_statements(self) -> Sequence[str]:
        return [
            *(
                f"drop trigger {WRITE_LOCK} on {ident(schema)}.{ident(name)}"
                for schema, name in self._fetch(_LOCKED)
            ),
            *(f"drop function {ident(schema)}.{WRITE_LOCK}()" for (schema,) in self._fetch(_FUNCTIONS)),
        ]


_INCREMENT = "select seqincrement from pg_catalog.pg_sequence where seqrelid = cast(:sequence as regclass)"


class PostgreSQLWriteProofs(WriteProofs):
    def __init__(self, db: PostgreSQLWriter) -> None:
        super().__init__(db)
        self._connection, self._catalog = db.connection, db.catalog

    def _keep_sequences(self, tables: Iterable[str]) -> None:
        for table in tables:
            for _, sequence in self._connection.fetch(SEQUENCES, {"table": self._catalog.quote_table(table)}):
                ((increment,),) = self._connection.fetch(_INCREMENT, {"sequence": sequence})
                # an altered sequence is part of the transaction: its next number is not used up
                self._connection.run(f"alter sequence {sequence} increment by {increment}")

    def _check_constraints(self) -> None:
        self._connection.run("set constraints all immediate")
