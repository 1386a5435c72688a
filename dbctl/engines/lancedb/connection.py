"""One open LanceDB with one version of each table: the shared base of reader and writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract import Condition, Order, PartOwner, Reference, Table, Where
from dbctl.engines.lancedb import schema
from dbctl.engines.lancedb.errors import translate_error, translate_errors
from dbctl.engines.lancedb.location import Files, Location
from dbctl.engines.lancedb.query import ROW_ID, PredicateCompiler, RowOrder
from dbctl.engines.lancedb.storage import History
from dbctl.engines.lancedb.values import Row, to_rows
from dbctl.errors import ChangedWhileReadError, CorruptError, DbctlError, NotSupportedError, QueryFailedError
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import LanceTable

#: Attempts to open a table that is pruned concurrently.
MAX_TRIES = 10
#: Rows per batch, without vectors.
BATCH_ROWS = 8192
#: The start of the library's message after a timeout.
TIMEOUT_MESSAGE = "Query timeout"
#: Rows per query by row ID.
ROWS_PER_READ = 10_000


class LanceConnection(PartOwner, PredicateCompiler):
    """Rows, tables and versions of an open database."""

    read_only = True  #: tables are pinned to one version
    native_types = frozenset({"boolean", "time"})

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists; nothing is created.

        Args:
            url: its folder, on this machine or in storage.
            target: ``app/database``, for messages.
            timeout: seconds to wait for locks and for responses of the storage.
            keys: for tables without a declared key: candidate columns, of which the first existing one is the key.

        Raises:
            DatabaseMissingError, NotADatabaseError, UnreachableError: it is missing, not a LanceDB, or not reachable.
            StorageKeysMissingError, StorageSettingInvalidError: the configuration of the storage is incomplete.
        """
        self.target = target
        self._timeout, self._keys = timeout, keys
        self._location = Location(url, target, timeout=timeout)
        self._open_tables: dict[str, LanceTable] | None = None
        self._closed = False
        self._tables: dict[str, Table] | None = None
        self._schemas: dict[str, pa.Schema] = {}
        self._location.require_database()

    def close(self) -> None:
        self._open_tables, self._closed = None, True

    # Tables ------------------------------------------------------------------------------------------------

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            with self._translate_errors():
                self._schemas = {name: handle.schema for name, handle in self._handles().items()}
            self._tables = {
                name: schema.describe_table(name, arrow_schema, self._keys.get(name, ()))
                for name, arrow_schema in self._schemas.items()
            }
        return self._tables

    def table_versions(self) -> Mapping[str, int]:
        """Return the version of each table that this connection reads."""
        with self._translate_errors():
            return {name: handle.version for name, handle in self._handles().items()}

    def references(self, table: str) -> Sequence[Reference]:
        self._require_table(table)
        return []

    def _arrow_schema(self, table: str) -> pa.Schema:
        self._require_table(table)
        return self._schemas[table]

    def _handles(self) -> dict[str, LanceTable]:
        """Return all tables, opened on first use at their newest versions."""
        if self._open_tables is None:
            signals.raise_if_interrupted()
            with self._translate_errors():
                self._open_tables = {
                    name: handle
                    for name in self._location.list_tables()
                    if (handle := self._open(name)) is not None
                }
        return self._open_tables

    def _open(self, name: str) -> LanceTable | None:
        """Return a table at its newest version, or None if it has no version yet.

        Retries, because a concurrent compaction and pruning may remove the version that was the newest.
        """
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                handle = cast("LanceTable", self._location.connection.open_table(name))
                if self.read_only:
                    handle.checkout(handle.version)
            except (ValueError, FileNotFoundError, RuntimeError) as error:
                if "was not found" in str(error):
                    return None
                if not tries_left:
                    raise self._open_error(name, error) from error
                signals.raise_if_interrupted()
            else:
                return handle
        raise RuntimeError("MAX_TRIES is 0")

    def _open_error(self, name: str, error: Exception) -> DbctlError:
        """Return the error for a table that cannot be opened, with the table and its newest readable version."""
        failure = translate_error(error, self._location)
        history = History(Files(self._location), name)
        versions = history.versions() if isinstance(failure, CorruptError) else {}
        if versions and (reason := history.describe_unreadable(versions)):
            return CorruptError(target=self.target, reason=f"{name}: {reason}")
        return failure

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of the library as errors of dbctl; missing files may belong to a pruned version."""
        if self._closed:
            raise RuntimeError(f"{self.target} is closed")
        try:
            with translate_errors(self._location):
                yield
        except CorruptError as error:
            if self._is_pruned():
                raise ChangedWhileReadError(target=self.target) from error
            raise

    def _is_pruned(self) -> bool:
        """Whether a version that this connection reads was removed."""
        files = Files(self._location)
        return any(
            handle.version not in History(files, name).versions()
            for name, handle in (self._open_tables or {}).items()
        )

    def _handle(self, table: str) -> LanceTable:
        return self._handles()[self._require_table(table).name]

    # Rows --------------------------------------------------------------------------------------------------

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        for_update: bool = False,
    ) -> list[Row]:
        del for_update  # LanceDB has no row locks; a write compares the version with the one that was read
        for column in columns:
            self._require_column(table, column)
        sorting = RowOrder(self, table, order_by)
        with self._translate_errors():
            batch = self._scan(table, sorting.projection(), where).read_all()
            row_ids = sorting.sort_row_ids(batch)[offset : None if limit is None else offset + limit]
            return self._read_row_ids(table, columns, row_ids)

    def sorted_values(
        self, table: str, sorting: RowOrder, column: str, where: Sequence[Where]
    ) -> list[object]:
        conditions = [*where, *(Condition(name, "!=", None) for name in sorting.columns)]
        batch = self._scan(table, sorting.projection(), conditions).read_all()
        return [value for (value,) in self._read_row_ids(table, [column], sorting.sort_row_ids(batch))]

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        predicate = self.predicate(table, where)
        with self._translate_errors():
            return int(self._handle(table).count_rows(predicate))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        try:
            with self._translate_errors():
                return any(
                    batch.num_rows
                    for batch in self._scan(table, {"c": "1"}, where, limit=1, time_limit=timeout)
                )
        except QueryFailedError as error:
            if TIMEOUT_MESSAGE in str(error):
                return None
            raise

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        self._require_column(table, column)
        counts: dict[object, int] = {}
        with self._translate_errors():
            for batch in self._scan(table, [column], where):
                for (value,) in to_rows(batch, [column]):
                    counts[value] = counts.get(value, 0) + 1
        return counts

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        del sql, parameters
        raise sql_error(self.target)

    def _read(self, table: str, columns: Sequence[str], where: Sequence[Where]) -> list[Row]:
        for column in columns:
            self._require_column(table, column)
        with self._translate_errors():
            return [row for batch in self._scan(table, columns, where) for row in to_rows(batch, columns)]

    def _scan(
        self,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        where: Sequence[Where] = (),
        *,
        limit: int | None = None,
        batch_rows: int = BATCH_ROWS,
        time_limit: timedelta | None = None,
    ) -> pa.RecordBatchReader:
        """Return batches in stored order; with row IDs if ``columns`` is empty or maps names to expressions."""
        predicate = self.predicate(table, where)
        query = (
            self._handle(table)
            .search(None)
            .select(dict(columns) if isinstance(columns, Mapping) else list(columns))
        )
        if predicate:
            query = query.where(predicate)
        if limit is not None:
            query = query.limit(limit)
        if not columns or isinstance(columns, Mapping):
            query = query.with_row_id(True)  # noqa: FBT003 - the library's
        timeout = None if time_limit is None else max(time_limit, timedelta(milliseconds=1))
        return query.to_batches(batch_rows, timeout=timeout)

    def _read_row_ids(self, table: str, columns: Sequence[str], row_ids: Sequence[int]) -> list[Row]:
        """Return the rows with these row IDs, in this order."""
        result: list[Row] = []
        selected = list(dict.fromkeys(columns))
        for start in range(0, len(row_ids), ROWS_PER_READ):
            signals.raise_if_interrupted()
            batch_ids = list(row_ids[start : start + ROWS_PER_READ])
            batch = self._handle(table).take_row_ids(batch_ids).select(selected).with_row_id().to_arrow()
            rows_by_id = dict(zip(batch.column(ROW_ID).to_pylist(), to_rows(batch, columns), strict=True))
            result += [rows_by_id[row_id] for row_id in batch_ids]
        return result


def sql_error(target: str) -> NotSupportedError:
    """Return the error for an SQL statement."""
    return NotSupportedError(
        feature="an SQL statement",
        subject=f"{target}, a LanceDB",
        hint="LanceDB supports conditions on one table: dbctl data rows --filter.",
    )
