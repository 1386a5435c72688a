"""Open databases: their parts, reading, and writing inside of transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from dbctl.engines.contract.checks import Checks
from dbctl.engines.contract.database import Column, Merge
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.fulltext import FullText
from dbctl.engines.contract.monitoring import ServerMonitor, StorageManager
from dbctl.engines.contract.schema import ScriptRunner
from dbctl.engines.contract.streaming import RowStreams, StagingTables
from dbctl.engines.postgresql.catalog import PostgreSQLCatalog, PostgreSQLSchemaReader
from dbctl.engines.postgresql.connection import (
    ROW_LOCK,
    DbctlLock,
    PostgreSQLConnection,
    PostgreSQLTransactions,
)
from dbctl.engines.postgresql.dialect import PostgreSQLCodec, PostgreSQLDialect
from dbctl.engines.postgresql.values import PostgreSQLColumn, base_type
from dbctl.engines.servers.database import ServerDatabase, ServerWriter
from dbctl.engines.sql.catalog import Row, Statement, conflict_clause
from dbctl.engines.sql.checks import SqlExplainer
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.connection import RowSkippedError
from dbctl.url import Url

if TYPE_CHECKING:
    from dbctl.engines.postgresql.dump import DumpedTables

#: Ascending sequences from which columns of a table take their values, of any owner.
SEQUENCES = """select a.attname::text, s.seqrelid::regclass::text
from pg_catalog.pg_attribute a join pg_catalog.pg_sequence s on s.seqincrement > 0 and (
  exists (select from pg_catalog.pg_attrdef f join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass
    and d.objid = f.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = s.seqrelid
    where f.adrelid = a.attrelid and f.adnum = a.attnum)
  or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.seqrelid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    and d.deptype = 'i'))
where a.attrelid = cast(:table as regclass) and a.attnum > 0 and not a.attisdropped order by a.attnum"""


class PostgreSQLDatabase(ServerDatabase):
    """What readers and writers share."""

    engine = "postgresql"
    connection: PostgreSQLConnection
    catalog: PostgreSQLCatalog
    dialect: PostgreSQLDialect

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        connection = PostgreSQLConnection(url, target, timeout=timeout, read_only=self.read_only)
        super().__init__(PostgreSQLCatalog(connection), PostgreSQLDialect())

    @cached_property
    def storage(self) -> StorageManager:
        from dbctl.engines.postgresql.monitoring import PostgreSQLStorage

        return PostgreSQLStorage(self)

    @cached_property
    def codec(self) -> PostgreSQLCodec:
        return PostgreSQLCodec(self)

    @cached_property
    def schema_reader(self) -> PostgreSQLSchemaReader:
        return PostgreSQLSchemaReader(self)

    @cached_property
    def streams(self) -> RowStreams:
        from dbctl.engines.postgresql.queries import PostgreSQLStreams

        return PostgreSQLStreams(self)

    @cached_property
    def explainer(self) -> SqlExplainer:
        from dbctl.engines.postgresql.queries import PostgreSQLExplainer

        return PostgreSQLExplainer(self)

    @cached_property
    def fulltext(self) -> FullText:
        from dbctl.engines.postgresql.queries import PostgreSQLFullText

        return PostgreSQLFullText(self)

    @cached_property
    def checks(self) -> Checks:
        from dbctl.engines.postgresql.checks import PostgreSQLChecks

        return PostgreSQLChecks(self)

    @cached_property
    def server(self) -> ServerMonitor:
        from dbctl.engines.postgresql.sessions import PostgreSQLServerMonitor

        return PostgreSQLServerMonitor(self)

    @cached_property
    def _row_counter(self) -> DumpedTables:
        from dbctl.engines.postgresql.dump import DumpedTables

        return DumpedTables(self)

    def list_dump_tables(self) -> Collection[str]:
        return self._row_counter.list_dump_tables()

    def count_dump_rows(self, extra: Collection[str] = ()) -> Mapping[str, int]:
        return self._row_counter.count_dump_rows(extra)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        from dbctl.engines.postgresql.statements import list_words_and_signs

        self.catalog.note_hidden_rows(list_words_and_signs(sql)[0])
        return super().query(sql, parameters)

    def read_all_rows(self, table: str = "") -> AbstractContextManager[None]:
        from dbctl.engines.postgresql.queries import read_all_rows

        return read_all_rows(self, table)


class PostgreSQLReader(PostgreSQLDatabase):
    """A database whose transactions are read-only by default."""

    read_only = True

    @cached_property
    def dumps(self) -> Dumps:
        from dbctl.engines.postgresql.dump import PostgreSQLDumper

        return PostgreSQLDumper(self)


class PostgreSQLWriter(PostgreSQLDatabase, ServerWriter):
    # A column that is GENERATED ALWAYS AS IDENTITY accepts the number of an imported or restored row, as it does by COPY.
    _insert_clause = " overriding system value"
    transactions: PostgreSQLTransactions

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        super().__init__(url, target, timeout=timeout)
        self.transactions = PostgreSQLTransactions(self.connection)

    @cached_property
    def scripts(self) -> ScriptRunner:
        from dbctl.engines.postgresql.scripts import PostgreSQLScripts

        return PostgreSQLScripts(self)

    @cached_property
    def staging(self) -> StagingTables:
        from dbctl.engines.postgresql.scripts import PostgreSQLStaging

        return PostgreSQLStaging(self)

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return DbctlLock(self.connection).acquire(purpose)

    def _lock_clause(self, table: str) -> str:
        is_lockable = self.transactions.depth and not self.catalog.require_table(table).is_view
        return ROW_LOCK if is_lockable and self.connection.can_lock_rows else ""

    def require_writable(self, table: str) -> None:
        del table  # every table can be rolled back
        self.transactions.require()

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        sql = f"insert into {self.catalog.quote_table(table)} default values"
        self.transactions.require()
        values = {**values, **self._draw_numbers(table, values)}
        if values:
            sql = self._insert_statement(statement, table, values)
        if returning:
            sql += f" returning {self.catalog.quote_column(table, returning, '')}"
            if rows := self.connection.fetch(sql, statement.parameters, writing=True):
                return rows[0][0]
        elif self.connection.execute_write(sql, statement.parameters):
            return None
        raise RowSkippedError(target=self.target, table=table)

    def _draw_numbers(self, table: str, provided: Collection[str]) -> dict[str, object]:
        """Return the next numbers of the columns of a new row that the app itself numbers by a sequence."""
        return {
            name: self.connection.fetch(
                "select nextval(cast(:sequence as regclass))", {"sequence": sequence}, writing=True
            )[0][0]
            for name, sequence in self._list_sequences(table, provided)
        }

    def _list_sequences(self, table: str, provided: Collection[str]) -> list[tuple[str, str]]:
        """Return these columns, except provided ones, each with its sequence."""
        return [
            (column.name, column.sequence)
            for column in self.catalog.require_table(table).columns.values()
            if isinstance(column, PostgreSQLColumn) and column.sequence and column.name not in provided
        ]

    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        names, count = [column.name for column in columns], 0
        is_view, name = self.catalog.require_table(table).is_view, self.catalog.quote_table(table)
        # COPY does not support policies
        if not (is_view or self._list_sequences(table, names) or table in self.catalog.hiding):
            return self.connection.copy_rows(name, columns, rows)
        for row in rows:
            self.insert(table, dict(zip(names, row, strict=True)))
            count += 1
        return count

    def merge(self, merge: Merge) -> int:
        table = merge.table
        names = {name: self.catalog.quote_column(table, name, "") for name in (*merge.key, *merge.columns)}
        casts = ", ".join(
            f"cast(s.c{index} as {base_type(self.catalog.require_column(table, name))})"
            for index, name in enumerate(names)
        )
        aliases = ", ".join(f"c{index}" for index in range(len(names)))
        self.transactions.require()
        return self.connection.execute_write(
            f"insert into {self.catalog.quote_table(table)} as t0 ({', '.join(names.values())}){self._insert_clause}"
            f" select {casts} from ({merge.select}) as s ({aliases})"
            f" on conflict ({', '.join(names[name] for name in merge.key)}) do {conflict_clause(names, merge.columns)}",
            merge.parameters,
        )

    def advance_sequences(self, table: str) -> None:
        name = self.catalog.quote_table(table)
        self.transactions.require()
        own = self._list_sequences(table, ())
        for column, sequence in [*self.connection.fetch(SEQUENCES, {"table": name}), *own]:
            quoted = self.catalog.quote_column(table, str(column), "")
            # A row with the largest number of the type, such as one for "unknown", leaves no number for the next row.
            largest = (
                f"select max({quoted}) as largest from {name} where {quoted} <= (select seqmax - seqincrement"
                " from pg_catalog.pg_sequence where seqrelid = cast(:sequence as regclass))"
            )
            self.connection.fetch(
                # never decrease it: a value that was returned once is not returned again, nor is a start that was set
                f"select setval(cast(:sequence as regclass), m.largest) from ({largest}) m, {sequence} s"
                " where m.largest > s.last_value or m.largest = s.last_value and not s.is_called",
                {"sequence": sequence},
                writing=True,
            )

    def defer_references(self) -> None:
        self.transactions.require()
        self.connection.execute_write("set constraints all deferred")


class PostgreSQLPart(SqlPart):
    _db: PostgreSQLDatabase
    _connection: PostgreSQLConnection
    _catalog: PostgreSQLCatalog
