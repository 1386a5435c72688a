"""Looking after a LanceDB: parts put together, old versions taken away, indexes made anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta

from dbctl.engines.base import Measured
from dbctl.engines.lancedb.measures import LanceMeasures
from dbctl.engines.lancedb.nearest import LanceVectors
from dbctl.engines.server import Concern, Task, Upkeep
from dbctl.errors import NotSupportedError, RoomMissingError, UpkeepUnsafeError

#: How old a version is, at least, that ``vacuum`` takes away: what reads an older one for longer has to be known.
AGE = timedelta(days=7)
#: And at least, whatever somebody asks for: no question takes so long.
YOUNGEST = timedelta(minutes=10)

INSTEAD = {
    "analyze": "It keeps no figures of its rows.",
    "checkpoint": "Each write is in its files at once.",
    "wal": "Each write is in its files at once.",
    "rollback-journal": "Each write is in its files at once.",
}


class LanceUpkeep(LanceMeasures, LanceVectors):
    """Capability.MAINTAIN and Capability.VERSIONS."""

    def tasks(self, kind: Upkeep, tables: Sequence[str]) -> Sequence[Task]:
        if kind in INSTEAD:
            raise NotSupportedError(what=kind, by=self.target, instead=INSTEAD[kind])
        chosen = [self._checked(name).name for name in tables] or list(self.tables())
        if kind == "reindex":
            return [
                Task(
                    table=name, statement=f"reindex {name}.{one.column}: {one.name}, {one.kind}, {one.metric}"
                )
                for name in chosen
                for one in self.vector_indexes(name)
            ]
        if kind == "vacuum":
            return self.prune_tasks(tables, AGE)
        return [Task(table=one.table, statement=f"compact {_now(one)}") for one in self._chosen(chosen)]

    def prune_tasks(self, tables: Sequence[str], older_than: timedelta) -> Sequence[Task]:
        if older_than < YOUNGEST:
            raise UpkeepUnsafeError(
                what="taking versions away",
                target=self.target,
                reason=f"whoever reads one that is younger than {_words(YOUNGEST)} would lose it",
                instead=f"Let them grow older: --older-than {YOUNGEST // timedelta(minutes=1)}m is the least.",
            )
        chosen = [self._checked(name).name for name in tables] or list(self.tables())
        return [
            Task(
                table=one.table,
                statement=f"prune versions older than {_words(older_than)}, once it compacted {_now(one)}",
                older_than=older_than,
            )
            for one in self._chosen(chosen)
        ]

    def _chosen(self, tables: Sequence[str]) -> Sequence[Measured]:
        measured = [one for one in self.measured() if one.table in tables]
        self._want_room(measured)
        return measured

    def maintain(self, task: Task) -> None:
        raise RuntimeError(f"a reader does not {task.statement}")

    def leftovers(self) -> Sequence[Concern]:
        return []

    def _want_room(self, measured: Sequence[Measured]) -> None:
        """Refuse what would not fit: parts that are put together stand beside the old ones.

        Raises:
            RoomMissingError: it would not.
        """
        if self._place.folder is None:
            return
        need, room = sum(one.table_bytes or 0 for one in measured), shutil.disk_usage(self._place.folder).free
        if room < need:
            raise RoomMissingError(place=self._place.folder, need=need, room=room)


def _now(told: Measured) -> str:
    """Return what there is now, and what becomes of it."""
    return (
        f"{told.table}: {told.fragments} fragments, {told.dead_rows} deleted rows, {told.versions} versions, {told.bytes} bytes;"
        f" the format stays {told.format}, but a program with a much older Lance may not read what this one writes"
    )


def _words(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=2) else f"{age.total_seconds() / 60:g} minutes"
