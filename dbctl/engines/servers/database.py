"""Databases on servers: readers and writers, and what their schemas, checks, sessions and restores share."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

from msgspec import structs

from dbctl.engines.contract.checks import Checks, EngineFinding, FindingQuery, LockHolder, OrphanedRows
from dbctl.engines.contract.database import Column, Reference, Where, Writable
from dbctl.engines.contract.monitoring import ServerMonitor
from dbctl.engines.contract.schema import Schema, SchemaReader, ScriptRunner
from dbctl.engines.contract.streaming import ValueCodec
from dbctl.engines.servers.connection import ServerConnection, ServerTransactions
from dbctl.engines.servers.values import Kind, kind_of
from dbctl.engines.sql.catalog import Catalog, Row, Statement, ident
from dbctl.engines.sql.codec import Parser, json_value_parser
from dbctl.engines.sql.database import SqlDatabase, SqlPart


class ServerCatalog(Catalog):
    @abstractmethod
    def outside_references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``, of tables that ``tables`` lacks, each with SQL for the name of its table."""


class ServerDatabase(SqlDatabase):
    read_only: ClassVar[bool]
    connection: ServerConnection[Any]
    catalog: ServerCatalog
    has_privileges = True

    def find_outside_table(self, table: str, where: Sequence[Where], changed: Collection[str] = ()) -> str:
        for key in self.catalog.outside_references(table):
            action = key.on_update if changed else key.on_delete
            if action in ("NO ACTION", "RESTRICT") or (changed and set(changed).isdisjoint(key.to)):
                continue
            statement = Statement(table)
            condition = self.builder.where_clause(statement, table, where)
            pairs = zip(key.columns, key.to, strict=True)
            refers = " and ".join(f"o.{ident(column)} = t0.{ident(to)}" for column, to in pairs)
            sql = (
                f"select 1 from {self.catalog.quote_table(table)} t0{condition}"
                f"{' and' if condition else ' where'} exists (select 1 from {key.table} o where {refers}) limit 1"
            )
            with self.read_all_rows():  # the foreign key also changes rows that a policy hides
                if self.connection.fetch(sql, statement.parameters):
                    return key.table
        return ""

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.connection.query(sql, parameters)


class ServerWriter(ServerDatabase, Writable):
    read_only = False
    #: between the columns of an INSERT and its values
    _insert_clause: ClassVar[str] = ""
    transactions: ServerTransactions

    @abstractmethod
    def require_writable(self, table: str) -> None:
        """Refuse to write to a table outside of a transaction, or without the possibility to roll back."""

    @abstractmethod
    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert many rows; return their number."""

    def _update_statement(
        self, statement: Statement, table: str, values: Mapping[str, object], where: Sequence[Where]
    ) -> str:
        sets = ", ".join(
            f"{self.catalog.quote_column(table, name, '')} = {self.builder.new_value(statement, table, name, value)}"
            for name, value in values.items()
        )
        condition = self.builder.where_clause(statement, table, where)
        return f"update {self.catalog.quote_table(table)} as t0 set {sets}{condition}"

    def _delete_statement(self, statement: Statement, table: str, where: Sequence[Where]) -> str:
        condition = self.builder.where_clause(statement, table, where)
        return f"delete from {self.catalog.quote_table(table)} as t0{condition}"

    def transaction(self) -> AbstractContextManager[None]:
        return self.transactions.transaction()

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self.catalog.require_column(table, name) for name in columns]
        self.require_writable(table)
        return self._insert_rows(table, described, rows)

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sql = self._update_statement(statement, table, values, where)
        self.require_writable(table)
        return self.connection.execute_write(sql, statement.parameters)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        sql = self._delete_statement(statement, table, where)
        self.require_writable(table)
        return self.connection.execute_write(sql, statement.parameters)

    def _insert_statement(self, statement: Statement, table: str, values: Mapping[str, object]) -> str:
        names = ", ".join(self.catalog.quote_column(table, name, "") for name in values)
        expressions = ", ".join(
            self.builder.new_value(statement, table, name, value) for name, value in values.items()
        )
        return f"insert into {self.catalog.quote_table(table)} ({names}){self._insert_clause} values ({expressions})"


class ServerCodec(SqlPart, ValueCodec):
    """What the parts ``ValueCodec`` of all servers share: a column has a type, and its values are parsed as text."""

    kinds_of_bytes: ClassVar[frozenset[Kind]] = frozenset({"bytes"})  #: of columns that store bytes

    @abstractmethod
    def create_parser(self, column: Column) -> Parser:
        """Return the function that parses text of a column."""

    @abstractmethod
    def format_item(self, column: Column, value: object) -> str | None:
        """Return the text of a value of JSON that is no text; None: the column cannot store it."""

    def text_parser(self, table: str, column: str) -> Parser:
        return self.create_parser(self._catalog.require_column(table, column))

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        definition = self._catalog.require_column(table, column)
        return json_value_parser(
            definition,
            self.create_parser(definition),
            takes_bytes=kind_of(definition) in self.kinds_of_bytes,
            encode=partial(self.format_item, definition),
        )


class ServerScripts(SqlPart, ScriptRunner):
    _db: ServerWriter
    _in_step_mode = False  #: whether statements may run outside a transaction

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        self._db.insert(table, values)

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._db.transactions.depth:
            raise RuntimeError("step mode inside a transaction")
        self._in_step_mode = True
        try:
            with self._restore_settings():
                yield
        finally:
            self._in_step_mode = False

    @contextmanager
    def _restore_settings(self) -> Iterator[None]:
        """Let scripts change tables and settings; restore the settings of the session afterwards."""
        try:
            yield
        finally:
            self._catalog.forget()
            if self._db.connection.is_usable:
                self._db.connection.apply_settings()

    def restore_session(self) -> None:
        self._catalog.forget()
        self._db.connection.apply_settings()
        self._remove_session_objects()  # one could hide the ledger, and a table of the next script

    @abstractmethod
    def _remove_session_objects(self) -> None:
        """Remove what a script has created for its session, such as temporary tables and variables."""


#: A row of the catalog by column name; the names are fields of the value that is built from it.
NamedRow: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[NamedRow]


class ServerSchemaReader(SqlPart, SchemaReader):
    #: returns columns (empty: the table) and comments of ``:table``, a name in SQL
    comments_sql: ClassVar[str]

    _connection: ServerConnection[Any]

    @abstractmethod
    def _fetch_schema(self) -> Schema:
        """Read the schema within a transaction."""

    def schema(self) -> Schema:
        with self._connection.read_transaction():
            return self._fetch_schema()

    def comments(self, table: str) -> Mapping[str, str]:
        name = self._catalog.require_table(table).name
        return {
            str(column): str(comment)
            for column, comment in self._connection.fetch(self.comments_sql, {"table": name})
        }


def group_rows(rows: Iterable[NamedRow]) -> defaultdict[str, Rows]:
    """Return rows by the table in their column ``owner``."""
    rows_by_table = defaultdict[str, Rows](list)
    for row in rows:
        rows_by_table[row["owner"]].append(row)
    return rows_by_table


def sort_indexes(indexes: Iterable[NamedRow]) -> Sequence[NamedRow]:
    """Sort indexes, whose order in the catalog has no meaning."""
    return sorted(indexes, key=lambda index: (index["name"], index["columns"]))


def sort_references(references: Iterable[NamedRow]) -> Sequence[NamedRow]:
    """Sort foreign keys, whose order in the catalog has no meaning."""
    return sorted(references, key=lambda key: (key["columns"], key["table"], key["to"]))


#: Seconds for a query that waits for no lock.
SHORT_TIMEOUT = 5.0
#: Rows of tables above this size, in bytes, are estimated unless an exact count is requested.
LARGE_TABLE = 16 << 20


#: A server without locks that last as long as a session.
LOCK_MISSING = EngineFinding(
    severity="warning",
    code="lock-missing",
    message="this server has no locks of sessions, so two dbctl processes may write at the same time",
    hint="Run one dbctl process at a time for this database.",
)


class SessionMonitor(SqlPart, ServerMonitor):
    @abstractmethod
    def _read_holders(self) -> Sequence[LockHolder]:
        """Return the sessions of other processes in the database, as far as this user may see them."""

    @abstractmethod
    def _read_locks(self) -> Mapping[int, Sequence[str]]:
        """Return the locks of each session by its pid, as far as this user may see them."""

    def list_lock_holders(self) -> Sequence[LockHolder]:
        """Return the sessions of other processes, with their locks, statements, and the age of their transactions."""
        holders, locks = self._read_holders(), self._read_locks()
        sessions = {session.pid: session for session in self.list_sessions()}
        return [
            structs.replace(
                holder,
                locks=locks.get(holder.pid, ()),
                query=session.query if (session := sessions.get(holder.pid)) else "",
                transaction_seconds=session.transaction_seconds if session else None,
            )
            for holder in holders
        ]


def find_problems(
    connection: ServerConnection[Any], checks: Iterable[FindingQuery], parameters: Mapping[str, object] = {}
) -> Iterator[EngineFinding]:
    """Run checks, and yield the finding of each row."""
    for check in checks:
        for row in connection.fetch(check.sql, parameters):
            values = ["" if value is None else value for value in row]
            message, hint = check.message.format(*values), check.hint.format(*values)
            yield EngineFinding(severity=check.severity, code=check.code, message=message, hint=hint)


class ForeignKey(NamedTuple):
    """A foreign key of a table, or of one partition of it."""

    owner: str  #: the table, from the catalog
    table: str  #: the table or partition
    source: str  #: SQL for the rows that the server checks
    referenced_table: str
    target: str  #: SQL for the rows to which they may refer
    columns: Sequence[str]
    to: Sequence[str]
    is_full: bool = False  #: whether all columns or none must be NULL


class ServerChecks(SqlPart, Checks):
    """The checks that all servers share; a server replays its complete log, or does not start."""

    @abstractmethod
    def _row_label(self, key: Sequence[str]) -> str:
        """Return SQL for a text that identifies a row of ``c``."""

    def _select_tables(self, table: str) -> list[str]:
        if table:
            return [self._catalog.require_table(table).name]
        return self._catalog.base_tables()

    def _find_orphans(self, key: ForeignKey) -> Iterator[OrphanedRows]:
        link = " and ".join(
            f"p.{ident(target)} = c.{ident(source)}"
            for source, target in zip(key.columns, key.to, strict=True)
        )
        operator = " or " if key.is_full else " and "
        is_set = operator.join(f"c.{ident(column)} is not null" for column in key.columns)
        row_key = self._catalog.primary_key(key.owner)
        sql = (
            f"select count(*), {f'min({self._row_label(row_key)})' if row_key else 'null'} from {key.source} c where ({is_set})"
            f" and not exists (select 1 from {key.target} p where {link})"
        )
        ((count, first_label),) = cast("list[tuple[int, str | None]]", self._connection.fetch(sql))
        if count:
            example = f"{', '.join(row_key)} {first_label}" if row_key else None
            yield OrphanedRows(
                table=key.table,
                columns=key.columns,
                referenced_table=key.referenced_table,
                count=count,
                example=example,
            )
