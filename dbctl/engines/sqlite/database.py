"""An open SQLite database: for reading, for writing, and a private one in memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Merge, Where, Writable
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sql.catalog import Row, Statement, conflict_clause
from dbctl.engines.sql.database import SqlDatabase, SqlPart
from dbctl.engines.sqlite.catalog import SQLiteCatalog
from dbctl.engines.sqlite.connection import ReadConnection, SQLiteConnection
from dbctl.engines.sqlite.dialect import SQLiteDialect, SQLiteQueryBuilder, expand_sets
from dbctl.engines.sqlite.errors import MISSING
from dbctl.errors.connection import QueryFailedError, RowSkippedError
from dbctl.errors.usage import NotSupportedError

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import Checks
    from dbctl.engines.contract.dumps import Dumps
    from dbctl.engines.contract.fulltext import FullText, TextScanner
    from dbctl.engines.contract.monitoring import StorageManager
    from dbctl.engines.contract.schema import SchemaReader, ScriptRunner, TableRebuilder
    from dbctl.engines.contract.streaming import RowStreams, StagingTables, TimeForms, ValueCodec
    from dbctl.engines.sql.checks import SqlExplainer
    from dbctl.engines.sql.query_builder import QueryBuilder
    from dbctl.engines.sqlite.write_connection import WriteConnection

#: How a writer is opened without options.
DEFAULT_OPTIONS = OpenOptions()


class SQLiteDatabase(SqlDatabase):
    """What readers and writers of a SQLite file share; everything beyond reading rows is a part."""

    engine = "sqlite"
    _builder = SQLiteQueryBuilder
    connection: SQLiteConnection
    catalog: SQLiteCatalog
    taken_at: datetime | None = None  #: the time of the data, if the file is a copy

    @cached_property
    def codec(self) -> ValueCodec:
        from dbctl.engines.sqlite.values import SQLiteCodec

        return SQLiteCodec(self)

    @cached_property
    def schema_reader(self) -> SchemaReader:
        from dbctl.engines.sqlite.schema import SQLiteSchemaReader

        return SQLiteSchemaReader(self)

    @cached_property
    def times(self) -> TimeForms:
        from dbctl.engines.sqlite.values import SQLiteTimes

        return SQLiteTimes(self)

    @cached_property
    def streams(self) -> RowStreams:
        from dbctl.engines.sqlite.queries import SQLiteStreams

        return SQLiteStreams(self)

    @cached_property
    def explainer(self) -> SqlExplainer:
        from dbctl.engines.sqlite.queries import SQLiteExplainer

        return SQLiteExplainer(self)

    @cached_property
    def fulltext(self) -> FullText:
        from dbctl.engines.sqlite.fulltext import SQLiteFullText

        return SQLiteFullText(self)

    @cached_property
    def text_scanner(self) -> TextScanner:
        from dbctl.engines.sqlite.queries import SQLiteTextScanner

        return SQLiteTextScanner(self)

    @cached_property
    def rebuilder(self) -> TableRebuilder:
        from dbctl.engines.sqlite.scripts import SQLiteTableRebuilder

        return SQLiteTableRebuilder(self)

    @cached_property
    def checks(self) -> Checks:
        from dbctl.engines.sqlite.checks import SQLiteChecks

        return SQLiteChecks(self)

    @cached_property
    def storage(self) -> StorageManager:
        from dbctl.engines.sqlite.monitoring import SQLiteStorage

        return SQLiteStorage(self)

    def _sample_key(self, table: str) -> str:
        return "t0._rowid_" if self.catalog.require_table(table).has_rowid else super()._sample_key(table)

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        try:
            return super().count(table, where)
        except QueryFailedError as error:
            if not where and re.search(MISSING, str(error)):
                from dbctl.engines.sqlite.checks import run_with_stand_ins

                return run_with_stand_ins(self.connection, partial(super().count, table), {})
            # A full-text index whose content columns are missing can still count its entries.
            entries = f"{table}_docsize"
            if where or entries not in self.tables():
                raise
            return super().count(entries)

    def require_transactional(self, table: str) -> None:
        live = self.tables().get(table)
        if live and live.is_view:  # the rows that its triggers write instead are not counted
            hint = "Nothing was changed. Name the table whose rows it shows in the profile."
            feature = f"writing to {table} of {self.target}"
            raise NotSupportedError(feature=feature, subject="a view of SQLite", hint=hint)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        with self.connection.query_only():
            return super().query(*expand_sets(sql, parameters))


class SQLitePart(SqlPart):
    _db: SQLiteDatabase
    _connection: SQLiteConnection
    _catalog: SQLiteCatalog


class SQLiteReader(SQLiteDatabase):
    """A SQLite file opened for reading; no side files are created."""

    connection: ReadConnection

    def __init__(
        self,
        path: Path,
        target: str,
        *,
        timeout: float = 5.0,
        traceless: bool = False,
        taken_at: datetime | None = None,
    ) -> None:
        """Open ``path``; the other arguments are those of ``ReadConnection``, and when a copy was taken of a database."""
        self.taken_at = taken_at
        connection = ReadConnection(path, target, timeout=timeout, traceless=traceless)
        super().__init__(SQLiteCatalog(connection), SQLiteDialect())

    def create_index_order_builder(self) -> QueryBuilder:
        from dbctl.engines.sqlite.queries import IndexOrderBuilder

        return IndexOrderBuilder(self.catalog, self.dialect)

    @cached_property
    def dumps(self) -> Dumps:
        from dbctl.engines.sqlite.dump import SQLiteDumps

        return SQLiteDumps(self)


class SQLiteWriter(SQLiteDatabase, Writable):
    """A SQLite file opened for reading and writing; its rows are written with sqlite-utils."""

    connection: WriteConnection

    def __init__(self, path: Path, target: str, options: OpenOptions = DEFAULT_OPTIONS) -> None:
        from dbctl.engines.sqlite.write_connection import WriteConnection  # most commands only read

        super().__init__(SQLiteCatalog(WriteConnection(path, target, options)), SQLiteDialect())
        self._fill, reader = options.fill, options.reader
        if (
            isinstance(reader, SQLiteReader)
            and reader.connection.opened_state[:2] == self.connection.opened_state[:2]
        ):
            self.catalog.adopt(reader.catalog, self.connection.schema_version)

    @cached_property
    def scripts(self) -> ScriptRunner:
        from dbctl.engines.sqlite.scripts import SQLiteScriptRunner

        return SQLiteScriptRunner(self)

    @cached_property
    def staging(self) -> StagingTables:
        from dbctl.engines.sqlite.scripts import SQLiteStagingTables

        return SQLiteStagingTables(self)

    def transaction(self) -> AbstractContextManager[None]:
        # imports sqlite-utils, which takes longer than most changes, before the lock
        _ = self.connection.database
        return self.connection.transaction()

    def fill_values(self, table: str, columns: Collection[str]) -> Mapping[str, object]:
        """Return the values of further columns for each new row, besides ``columns``: those whose default is the current time."""
        live = self.catalog.require_table(table).columns.values()
        clocks = [column.name for column in live if column.has_time_default and column.name not in columns]
        return self._fill(self, table, clocks) if clocks and self._fill else {}

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        live = self.catalog.require_table(table)
        if returning not in (None, live.rowid):
            return self.insert_directly(table, values, returning)
        values = {**values, **self.fill_values(table, values)}
        for name in values:
            self.catalog.require_column(table, name)
        rowid = self.connection.database.known_table(table, live.resolution_clause).insert_row(values)
        return rowid if returning else None

    def insert_directly(
        self, table: str, values: Mapping[str, object], returning: str | None = None
    ) -> object:
        """Insert one row as ``insert`` does, without sqlite-utils, which reads a new row by its rowid to return another key."""
        values = {**values, **self.fill_values(table, values)}
        statement = Statement()
        source = "default values"
        if values:
            names = ", ".join(self.catalog.quote_column(table, column, "") for column in values)
            columns = self.catalog.require_table(table).columns
            bound = [self.dialect.bind(statement, columns[name], value) for name, value in values.items()]
            source = f"({names}) values ({', '.join(bound)})"
        sql = f"insert{self.catalog.tables()[table].resolution_clause} into {self.catalog.quote_table(table)} {source}"
        sql += f" returning {self.catalog.quote_column(table, returning, '') if returning else 1}"
        # Fetch all rows, because an unfinished statement would stay open.
        driver = self.connection.driver
        rows = self.connection.write(lambda: driver.execute(sql, statement.parameters).fetchall())
        if not rows:
            raise RowSkippedError(target=self.target, table=table)
        return rows[0][0] if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        filled = self.fill_values(table, columns)
        if filled:
            source_rows, constants = rows, tuple(filled.values())
            columns, rows = [*columns, *filled], ((*row, *constants) for row in source_rows)
        names = [self.catalog.require_column(table, name).name for name in columns]
        # a row may refer to a later one
        if any(reference.table == table for reference in self.catalog.references(table)):
            self.defer_references()
        clause = self.catalog.tables()[table].resolution_clause
        return self.connection.database.known_table(table, clause).insert_rows(names, rows)

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sets = ", ".join(
            f"{self.catalog.quote_column(table, name, '')} = {self.builder.new_value(statement, table, name, value)}"
            for name, value in values.items()
        )
        condition = self.builder.where_clause(statement, table, where, "t0")
        # sqlite-utils updates one row by its key, and fails if a trigger ignores the change; this updates the rows that
        # meet conditions.
        sql = f"update{self.catalog.tables()[table].resolution_clause} {self.catalog.quote_table(table)} as t0 set {sets}{condition}"
        return self.connection.execute_write(sql, statement.parameters)

    def merge(self, merge: Merge) -> int:
        table = merge.table
        names = {name: self.catalog.quote_column(table, name, "") for name in (*merge.key, *merge.columns)}
        source, bound_values = expand_sets(merge.select, merge.parameters)
        # upsert of sqlite-utils takes rows of Python, and replaces each column; these rows stay in SQLite.
        insert, filled = self.build_insert(table, list(names), source)
        # WHERE TRUE, because otherwise SQLite would read ON as part of the join
        conflict = f"on conflict ({', '.join(names[name] for name in merge.key)}) do {conflict_clause(names, merge.columns)}"
        return self.connection.execute_write(f"{insert} where true {conflict}", bound_values | filled)

    def build_insert(self, table: str, columns: Sequence[str], select: str) -> tuple[str, dict[str, object]]:
        """Return the statement that inserts the rows of a SELECT with the further columns, and its parameters."""
        filled = self.fill_values(table, columns)
        names = [self.catalog.quote_column(table, name, "") for name in (*columns, *filled)]
        parameters = {f"filled_{index}": value for index, value in enumerate(filled.values())}
        selected = ", ".join(["*", *(f":{name}" for name in parameters)])
        into = f"{self.catalog.quote_table(table)} as t0 ({', '.join(names)})"
        return (
            f"insert{self.catalog.tables()[table].resolution_clause} into {into} select {selected} from ({select})",
            parameters,
        )

    def delete(self, table: str, where: Sequence[Where]) -> int:
        self.catalog.require_table(table)
        statement = Statement(table)
        # the name of the table stands for ``t0``, because sqlite-utils gives the table no alias
        condition = " and ".join(
            self.builder.condition(statement, table, test, self.catalog.quote_table(table)) for test in where
        )
        return self.connection.database.known_table(table).delete_rows(condition, statement.parameters)

    def advance_sequences(self, table: str) -> None:
        self.catalog.require_table(table)  # SQLite advances its sequences itself

    def defer_references(self) -> None:
        self.connection.defer_references()

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        from dbctl.engines.file_locks import write_lock

        return write_lock(self.connection.path, self.target, purpose, timeout=self.connection.timeout)


class SQLiteScratch(SQLiteWriter):
    """An empty database in memory, which leaves no files and needs no disk space."""

    def __init__(self, target: str) -> None:
        from dbctl.engines.sqlite.write_connection import ScratchConnection

        SQLiteDatabase.__init__(self, SQLiteCatalog(ScratchConnection(target)), SQLiteDialect())
        self._fill = None
