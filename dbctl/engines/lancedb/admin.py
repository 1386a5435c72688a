"""What an admin should know of a LanceDB: vectors that nothing finds, rows that are there twice, room and speed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract import Concern, Measured, Storage, Task, Tuning, Upkeep, VectorFault, Waste
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.location import SUFFIX, Files
from dbctl.engines.lancedb.query import LanceVectors
from dbctl.engines.lancedb.storage import History, Manifest, ManifestUnreadableError
from dbctl.errors import CorruptError, NotSupportedError, RoomMissingError, UpkeepUnsafeError


class LanceMeasures(LanceConnection):
    """Capability.MEASURE and Capability.BLOAT."""

    def storage(self) -> Storage:
        taken = sum(one.bytes for one in Files(self._place).below())
        return Storage(bytes=taken, tables=len(self.tables()), page_size=0)

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:  # noqa: ARG002 - nothing of it takes long
        files = Files(self._place)
        return [self._table(name, History(files, name)) for name in self.tables() if table in ("", name)]

    def _table(self, table: str, history: History) -> Measured:
        told = self._manifest(table, history)
        sizes = history.sizes()
        indexes = sum(taken for path, taken in sizes.items() if path.startswith("_indices/"))
        return Measured(
            table=table,
            rows=told.rows,
            bytes=sum(sizes.values()),
            indexes=sorted({one.name for one in told.indexes}),
            table_bytes=told.bytes,
            index_bytes=indexes,
            dead_rows=told.deleted,
            fragments=len(told.fragments),
            versions=len(history.versions()),
            format=told.format,
        )

    def _manifest(self, table: str, history: History) -> Manifest:
        """Return what the version that is read is made of.

        Raises:
            ChangedWhileReadError: somebody took it away meanwhile.
            CorruptError: it cannot be read.
        """
        version = self.moment()[table]
        with self._told():
            try:
                return history.manifest(version)
            except ManifestUnreadableError as error:
                reason = f"{table}, version {version}: {error}"
                raise CorruptError(target=self.target, reason=reason) from error

    def wasted(self) -> Sequence[Waste]:
        files = Files(self._place)
        found = []
        for name in self.tables():
            history = History(files, name)
            told, sizes = self._manifest(name, history), history.sizes()
            used = sum(sizes.get(path, 0) for path in told.paths())
            used += sum(
                taken
                for path, taken in sizes.items()
                if any(path.startswith(f"_indices/{one.uuid}/") for one in told.indexes)
            )
            found.append(
                Waste(
                    table=name,
                    bytes=sum(sizes.values()),
                    wasted_bytes=sum(sizes.values()) - used,
                    dead_rows=told.deleted,
                    rows=told.rows,
                    estimated=False,
                    source=f"{name}{SUFFIX}: files that its newest version does not need",
                )
            )
        return found


#: Parts of a table from which on every question takes noticeably longer.
FRAGMENTS = 100
#: Versions from which on opening takes noticeably longer, and room is taken by what nobody goes back to.
VERSIONS = 500
#: Rows up to which looking at every one takes about a tenth of a second.
BRUTE = 100_000
#: The format of before 2024.
LEGACY = "0.1"

FAULTS = {
    "empty": "{number} rows of {table} have no {column}, so that no search finds them (the first: {first})",
    "zeros": "{number} rows of {table} have a {column} of zeros, which a search by cosine never finds (the first: {first})",
    "endless": "{number} rows of {table} have a {column} with NaN or infinity in it (the first: {first})",
    "length": "{number} rows of {table} have a {column} of another length than most (the first: {first})",
}
MEND = "Let the app make their vectors anew, or delete these rows: dbctl data rows {table} shows them."


class LanceAdvice(LanceMeasures, LanceVectors):
    """Capability.ADVISE."""

    def concerns(self, *, writing: bool) -> Sequence[Concern]:
        found = list(self._refusals()) if writing else []
        for one in self.measured():
            found += self._of_table(one)
        return found

    def abandoned(self) -> Sequence[Concern]:
        return []  # what a restore has left stands beside the folder, and the next one takes it away

    def flaws(self, table: str = "") -> Sequence[Concern]:
        names = [self._checked(table).name] if table else list(self.tables())
        return [one for name in names for one in self._flaws(name)]

    def tuned(self, wanted: Mapping[str, str]) -> Sequence[Tuning]:
        del wanted  # it has no settings
        return []

    def _refusals(self) -> Iterator[Concern]:
        if self._place.folder is not None and not os.access(self._place.folder, os.W_OK | os.X_OK):
            yield Concern(
                severity="error",
                code="not-writable",
                message=f"{self._place.folder} may not be written by this user",
                hint="Run dbctl as the user who owns the app's files.",
            )

    def _of_table(self, told: Measured) -> Iterator[Concern]:
        table = told.table
        if (told.fragments or 0) > FRAGMENTS:
            message = f"{table} is in {told.fragments} parts, each of which every question has to open"
            yield Concern(
                severity="warning", code="fragments", message=message, hint="dbctl maintain optimize"
            )
        if (told.versions or 0) > VERSIONS:
            message = f"{table} keeps {told.versions} versions, and the room of what they held"
            yield Concern(severity="info", code="versions", message=message, hint="dbctl maintain vacuum")
        if told.format == LEGACY:
            message = (
                f"{table} is kept in the format of Lance before 2.0, which newer libraries may cease to write"
            )
            yield Concern(severity="info", code="old-format", message=message)
        if told.rows > BRUTE:
            indexed = {one.column for one in self.vector_indexes(table)}
            for one in self.vector_columns(table):
                if one.column not in indexed:
                    message = f"{table}.{one.column} has no index: each search looks at all {told.rows} rows"
                    yield Concern(severity="info", code="no-vector-index", message=message)

    def _flaws(self, table: str) -> Iterator[Concern]:
        key = self.key(table)
        for one in self.vector_columns(table):
            for fault in self.vector_faults(table, one.column, key):
                yield _told(fault, table, one.column)
        if key:
            number, first = self.twins(table, key)
            if number:
                yield Concern(
                    severity="warning",
                    code="duplicate-keys",
                    message=f"{number} rows of {table} have the {', '.join(key)} of another (the first: {first})",
                    hint=f"The app adds rows without looking: dbctl data rows {table} shows them.",
                    column=f"{table}.{key[0]}",
                )


def _told(fault: VectorFault, table: str, column: str) -> Concern:
    first = " ".join(str(value) for value in fault.examples[0]) if fault.examples else ""
    words = FAULTS[fault.kind]
    return Concern(
        severity="warning",
        code=f"vector-{fault.kind}",
        message=words.format(number=fault.number, table=table, column=column, first=ascii(first)),
        hint=MEND.format(table=table),
        column=f"{table}.{column}",
    )


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
