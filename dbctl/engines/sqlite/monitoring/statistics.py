"""Index statistics, unused space and maintenance of a SQLite file."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.monitoring.sizes import SQLiteSizes
from dbctl.errors import BusyError

if TYPE_CHECKING:
    from dbctl.engines.contract import Bloat, EngineFinding, Index, MaintenanceKind, MaintenanceTask

#: Seconds between two tries of a checkpoint that readers block.
RETRY_SECONDS = 0.05


class SQLiteMaintenance(SQLiteSizes):
    """Capability.INDEXES, Capability.BLOAT and Capability.MAINTAIN."""

    read_only: bool
    _timeout: float

    @abstractmethod
    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, waiting for locks, and return its rows."""

    def list_indexes(self) -> Sequence[Index]:
        from dbctl.engines.sqlite.monitoring import indexes

        return list(indexes.list_indexes(self._fetch, self.tables()))

    def scans_counted_since(self) -> datetime | None:
        return None  # SQLite has no usage counters

    def measure_bloat(self) -> Sequence[Bloat]:
        from dbctl.engines.sqlite.monitoring import indexes

        storage = self.measure_storage()
        free = (storage.freelist_pages or 0) * storage.page_size
        return list(indexes.list_bloat(self._fetch, self.tables(), free_bytes=free))

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        from dbctl.engines.sqlite.monitoring import maintenance

        for name in tables:
            self._require_table(name)
        return maintenance.plan_tasks(
            kind, tables, self.target, self._fetch, self.path, self.measure_storage()
        )

    def maintain(self, task: MaintenanceTask) -> None:
        if self.read_only:
            raise RuntimeError("maintenance through a reader")
        deadline = time.monotonic() + self._timeout
        while (rows := self._run(task.statement, {})) and _is_incomplete(task.statement, rows[0][0]):
            # SQLite reports no error if readers block a checkpoint or a change of the journal mode.
            signals.raise_if_interrupted()
            if time.monotonic() >= deadline:
                from dbctl.engines.file_locks import describe_lock_holders

                raise BusyError(
                    target=self.target, holder=describe_lock_holders(self.path), waited=f"{self._timeout:g}"
                )
            time.sleep(RETRY_SECONDS)

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return ()  # every statement is atomic


def _is_incomplete(statement: str, answer: object) -> bool:
    """Whether other users of the file blocked the statement."""
    if "checkpoint" in statement:
        return bool(answer)
    return "journal_mode" in statement and answer != statement.rpartition(" ")[2]
