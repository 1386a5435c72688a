"""The reader of a LanceDB: all results come from the versions that were the newest at its first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import ClassVar

from dbctl.engines.contract.database import Query, Readable, Reference, Table, Where
from dbctl.engines.lancedb.catalog import Catalog
from dbctl.engines.lancedb.location import Location
from dbctl.engines.lancedb.query.ordering import RowOrder
from dbctl.engines.lancedb.query.rows import RowReader
from dbctl.engines.lancedb.values import Row, to_rows
from dbctl.errors.base import Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

#: The start of the library's message after a timeout.
TIMEOUT_MESSAGE = "Query timeout"


class LanceReader(Readable):
    """A LanceDB opened for reading, with one version of each table.

    Writes of other processes are neither visible nor blocked. After another process pruned the version, reads raise
    ChangedWhileReadError.
    """

    PARTS: ClassVar[Mapping[str, str]] = {
        "Advisor": "dbctl.engines.lancedb.admin.advice:LanceAdvisor",
        "BloatMonitor": "dbctl.engines.lancedb.admin.maintenance:LanceSizes",
        "Checks": "dbctl.engines.lancedb.admin.checks:LanceChecks",
        "Dumps": "dbctl.engines.lancedb.backup.dump:create_dumps",
        "Maintenance": "dbctl.engines.lancedb.admin.maintenance:LanceMaintenance",
        "RowStreams": "dbctl.engines.lancedb.stream:LanceStreams",
        "SchemaReader": "dbctl.engines.lancedb.schema:LanceSchema",
        "SizeMonitor": "dbctl.engines.lancedb.admin.maintenance:LanceSizes",
        "TextScanner": "dbctl.engines.lancedb.query.rows:LanceTextScanner",
        "ValueCodec": "dbctl.engines.lancedb.stream:LanceCodec",
        "VectorSearch": "dbctl.engines.lancedb.query.vectors:LanceVectors",
        "Versions": "dbctl.engines.lancedb.admin.maintenance:LanceMaintenance",
    }

    native_types = frozenset({"boolean", "time"})
    read_only = True

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists; nothing is created. The arguments are those of ``Engine.open_for_reading``.

        Raises:
            DatabaseMissingError, NotADatabaseError, UnreachableError: it is missing, not a LanceDB, or not reachable.
            StorageKeysMissingError, StorageSettingInvalidError: the configuration of the storage is incomplete.
        """
        self.target = target
        self.location = Location(url, target, timeout=timeout)
        self.catalog = Catalog(self.location, read_only=self.read_only, keys=keys)
        self.rows = RowReader(self.catalog)
        #: Releases what parts have open; runs when the database is closed.
        self.cleanup = ExitStack()
        self.location.require_database()

    def close(self) -> None:
        self.cleanup.close()
        self.catalog.close()

    def tables(self) -> Mapping[str, Table]:
        return self.catalog.tables()

    def references(self, table: str) -> Sequence[Reference]:
        self.catalog.require_table(table)
        return []

    def read_rows(self, query: Query) -> list[Row]:
        """Return the rows of a query; LanceDB has no row locks: a write compares the version with the one that was read."""
        self.catalog.require_columns(query.table, query.columns)
        row_ids = RowOrder(self.rows, query.table, query.order_by).read_row_ids(query.where)
        end = None if query.limit is None else query.offset + query.limit
        return self.rows.read_by_id(query.table, query.columns, row_ids[query.offset : end])

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        predicate = self.rows.predicate(table, where)
        with self.catalog.translate_errors():
            return int(self.catalog.open_table(table).count_rows(predicate))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        try:
            with self.catalog.translate_errors():
                batches = self.rows.scan(table, {"c": "1"}, where, limit=1, time_limit=timeout)
                return any(batch.num_rows for batch in batches)
        except QueryFailedError as error:
            if TIMEOUT_MESSAGE in str(error):
                return None
            raise

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        self.catalog.require_column(table, column)
        counts: dict[object, int] = {}
        with self.catalog.translate_errors():
            for batch in self.rows.scan(table, [column], where):
                for (value,) in to_rows(batch, [column]):
                    counts[value] = counts.get(value, 0) + 1
        return counts

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        del sql, parameters
        raise sql_error(self.target)


def sql_error(target: str) -> NotSupportedError:
    """Return the error for an SQL statement."""
    return NotSupportedError(
        feature="an SQL statement",
        subject=f"{target}, a LanceDB",
        hint=Remedy(
            "LanceDB supports conditions on one table, with: `data rows TABLE --filter COLUMN=VALUE`"
        ),
    )
