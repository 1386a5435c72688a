"""Index statistics, unused space and maintenance of a SQLite file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.connection import WriteConnection
from dbctl.engines.sqlite.monitoring.sizes import SQLiteSizes
from dbctl.errors import BusyError

if TYPE_CHECKING:
    from dbctl.engines.contract import Bloat, EngineFinding, Index, MaintenanceKind, MaintenanceTask
    from dbctl.engines.sqlite.reader import SQLiteDatabase

#: Seconds between two tries of a checkpoint that readers block.
RETRY_SECONDS = 0.05


class SQLiteIndexMonitor:
    """The parts ``IndexMonitor`` and ``BloatMonitor``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog, self._sizes = db.connection, db.catalog, SQLiteSizes(db)

    def list_indexes(self) -> Sequence[Index]:
        from dbctl.engines.sqlite.monitoring import indexes

        return list(indexes.list_indexes(self._connection.fetch, self._catalog.tables()))

    def scans_counted_since(self) -> datetime | None:
        return None  # SQLite has no usage counters

    def measure_bloat(self) -> Sequence[Bloat]:
        from dbctl.engines.sqlite.monitoring import indexes

        storage = self._sizes.measure_storage()
        free = (storage.freelist_pages or 0) * storage.page_size
        return list(indexes.list_bloat(self._connection.fetch, self._catalog.tables(), free_bytes=free))


class SQLiteMaintenance:
    """The part ``Maintenance``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog, self._sizes = db.connection, db.catalog, SQLiteSizes(db)

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        from dbctl.engines.sqlite.monitoring import maintenance

        for name in tables:
            self._catalog.require_table(name)
        return maintenance.plan_tasks(
            kind,
            tables,
            self._catalog.target,
            self._connection.fetch,
            self._connection.path,
            self._sizes.measure_storage(),
        )

    def maintain(self, task: MaintenanceTask) -> None:
        deadline = time.monotonic() + self._connection.timeout
        while (rows := self._run(task)) and _is_incomplete(task.statement, rows[0][0]):
            # SQLite reports no error if readers block a checkpoint or a change of the journal mode.
            signals.raise_if_interrupted()
            if time.monotonic() >= deadline:
                from dbctl.engines.file_locks import describe_lock_holders

                holder = describe_lock_holders(self._connection.path)
                raise BusyError(
                    target=self._catalog.target, holder=holder, waited=f"{self._connection.timeout:g}"
                )
            time.sleep(RETRY_SECONDS)

    def _run(self, task: MaintenanceTask) -> list[Row]:
        """Run the statement of a task once, waiting for locks, and return its rows."""
        connection = self._connection
        if not isinstance(connection, WriteConnection):
            raise TypeError("maintenance through a reader")
        if task.statement == "VACUUM":
            connection.retry_if_changed(connection.row_writer.database.vacuum)
        elif task.statement.startswith("ANALYZE"):
            connection.retry_if_changed(lambda: connection.row_writer.database.analyze(task.table or None))
        else:  # sqlite-utils changes the journal mode without a check that it did change
            return connection.run(task.statement)
        return []

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return ()  # every statement is atomic


def _is_incomplete(statement: str, answer: object) -> bool:
    """Whether other users of the file blocked the statement."""
    if "checkpoint" in statement:
        return bool(answer)
    return "journal_mode" in statement and answer != statement.rpartition(" ")[2]
