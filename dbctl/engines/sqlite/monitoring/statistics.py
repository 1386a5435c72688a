"""What a SQLite file tells of its indexes and of room that holds nothing, and how it is looked after."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.monitoring.sizes import SQLiteMeasures
from dbctl.errors import BusyError

if TYPE_CHECKING:
    from dbctl.engines.contract import Concern, Index, Task, Upkeep, Waste

#: Seconds between two tries of a checkpoint that readers keep from its end.
RETRY_SECONDS = 0.05


class SQLiteKept(SQLiteMeasures):
    """Capability.INDEXES, Capability.BLOAT and Capability.MAINTAIN."""

    reading: bool
    _timeout: float

    @abstractmethod
    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, waiting for locks, and return its rows."""

    def indexes(self) -> Sequence[Index]:
        from dbctl.engines.sqlite.monitoring import indexes

        return list(indexes.indexes(self._fetch, self.tables()))

    def counted_since(self) -> datetime | None:
        return None  # it counts nothing

    def wasted(self) -> Sequence[Waste]:
        from dbctl.engines.sqlite.monitoring import indexes

        found = self.storage()
        free = (found.freelist_pages or 0) * found.page_size
        return list(indexes.wasted(self._fetch, self.tables(), free_bytes=free))

    def tasks(self, kind: Upkeep, tables: Sequence[str]) -> Sequence[Task]:
        from dbctl.engines.sqlite.monitoring import maintenance

        for name in tables:
            self._checked(name)
        return maintenance.tasks(kind, tables, self.target, self._fetch, self.path, self.storage())

    def maintain(self, task: Task) -> None:
        if self.reading:
            raise RuntimeError("maintenance by one who only reads")
        deadline = time.monotonic() + self._timeout
        while (rows := self._run(task.statement, {})) and _is_unfinished(task.statement, rows[0][0]):
            # SQLite reports no failure where readers keep a checkpoint, or a change of the journal mode, from its end.
            signals.check()
            if time.monotonic() >= deadline:
                from dbctl.engines.file_locks import holder_of

                raise BusyError(target=self.target, holder=holder_of(self.path), waited=f"{self._timeout:g}")
            time.sleep(RETRY_SECONDS)

    def leftovers(self) -> Sequence[Concern]:
        return ()  # each of its statements is done whole or not at all


def _is_unfinished(statement: str, answer: object) -> bool:
    """Whether others who have the file open kept a statement from its end."""
    if "checkpoint" in statement:
        return bool(answer)
    return "journal_mode" in statement and answer != statement.rpartition(" ")[2]
