"""How much room a SQLite file and its tables take; told without a checkpoint, and without a lock on the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from dbctl.engines.contract import Measured, Storage
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.dialect import SQLiteDialect
from dbctl.errors import QueryFailedError

#: Some builds of SQLite come without dbstat; then nothing tells the room that one table takes.
ROOM = "select name, sum(pgsize) from dbstat where aggregate = 1 group by name"


class SQLiteMeasures(SQLiteDialect):
    """Capability.MEASURE."""

    path: Path

    @abstractmethod
    def _journal_mode(self) -> str:
        """Return how the file keeps a change from being cut in half."""

    def storage(self) -> Storage:
        from dbctl.engines.sqlite import wal

        size, pages, free = (
            cast("int", self._fetch(f"pragma {name}", {})[0][0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        try:
            beside = Path(f"{self.path}-wal").stat().st_size
        except OSError:
            beside = 0
        journal_mode = self._journal_mode()
        return Storage(
            bytes=size * pages,
            page_size=size,
            page_count=pages,
            freelist_pages=free,
            wal_bytes=beside,
            wal_pages=wal.waiting(self.path) if beside else 0,
            journal_mode=journal_mode,
            shares_memory=journal_mode == "wal",
            tables=sum(not table.view for table in self.tables().values()),
        )

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:  # noqa: ARG002 - counting is all that there is
        room = self._room() if not table else None
        found = []
        for name, live in self.tables().items():
            if live.view or table not in ("", name):
                continue
            indexes = [str(row[1]) for row in self._fetch(f"pragma index_list({ident(name)})", {})]
            taken = None if room is None else sum(room.get(one, 0) for one in [name, *indexes])
            found.append(Measured(table=name, rows=self.count(name), bytes=taken, indexes=sorted(indexes)))
        return found

    def _room(self) -> dict[str, int] | None:
        """Return the bytes of each table and index, by name; None where this SQLite has no ``dbstat``."""
        try:
            return {str(name): cast("int", taken) for name, taken in self._fetch(ROOM, {})}
        except QueryFailedError:
            return None
