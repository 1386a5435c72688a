"""Sizes of a LanceDB from its manifests, and maintenance: compact tables, prune versions, rebuild indexes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

from dbctl.engines.contract.checks import Storage, TableSize
from dbctl.engines.contract.monitoring import Bloat, MaintenanceKind, MaintenanceTask, StorageManager
from dbctl.errors.connection import ConcurrentChangeError, CorruptError, QueryFailedError
from dbctl.errors.databases import MaintenanceUnsafeError
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb.manifest import HINT_FILE, VERSIONS_FOLDER, History, Manifest, ManifestError
from dbctl.extensions.lancedb.vector_indexes import (
    LanceVectorIndexes,
    change_table,
    describe_index,
    describe_other_index,
)
from dbctl.files import atomic, mounts
from dbctl.model import format_count

if TYPE_CHECKING:
    from dbctl.extensions.lancedb.reader import LanceReader


#: ``vacuum`` removes versions that are older; a reader of a removed version fails.
DEFAULT_AGE = timedelta(days=7)
#: The minimum for every request; no query runs longer.
MIN_AGE = timedelta(minutes=10)
#: An age greater than that of any version.
KEEP_ALL = timedelta(days=36500)

UNSUPPORTED_HINTS = {
    "analyze": "LanceDB has no planner statistics.",
    "checkpoint": "LanceDB has no write-ahead log.",
    "wal": "LanceDB has no write-ahead log.",
    "rollback-journal": "LanceDB has no journal.",
}


class LanceStorage(StorageManager):
    """``StorageManager``: tasks run outside of transactions and change no rows."""

    has_versions = True

    def __init__(self, db: LanceReader) -> None:
        self._db, self._catalog, self._target = db, db.catalog, db.target
        self._folder, self._files = db.location.folder, db.location.files

    def measure_storage(self) -> Storage:
        self._catalog.require_undamaged()
        with self._catalog.translate_errors():
            stored_bytes = sum(file.bytes for file in self._files.walk())
        return Storage(bytes=stored_bytes, tables=len(self._catalog.tables()), page_size=0)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - the exact values are cheap
        return [
            self._measure_table(name, self._catalog.history(name))
            for name in self._catalog.tables()
            if table in ("", name)
        ]

    def _measure_table(self, table: str, history: History) -> TableSize:
        manifest = self._read_manifest(table, history)
        sizes = history.file_sizes()
        indexes = sum(size for path, size in sizes.items() if path.startswith("_indices/"))
        return TableSize(
            table=table,
            rows=manifest.rows,
            bytes=sum(sizes.values()),
            indexes=sorted({index.name for index in manifest.indexes}),
            table_bytes=manifest.bytes,
            index_bytes=indexes,
            dead_rows=manifest.deleted,
            fragments=len(manifest.fragments),
            versions=len(history.versions()),
            format=manifest.format,
        )

    def _read_manifest(self, table: str, history: History) -> Manifest:
        """Return the manifest of the version that this connection reads.

        Raises:
            ChangedWhileReadError: another process removed the version.
            CorruptError: the manifest cannot be read.
        """
        version = self._catalog.version(table)
        with self._catalog.translate_errors():
            try:
                return history.read_version(version)
            except ManifestError as error:
                reason = f"{table}, version {version}: {error}"
                raise CorruptError(target=self._target, reason=reason) from error

    def measure_bloat(self) -> Sequence[Bloat]:
        return [self._measure_bloat(name, self._catalog.history(name)) for name in self._catalog.tables()]

    def _measure_bloat(self, table: str, history: History) -> Bloat:
        manifest, sizes = self._read_manifest(table, history), history.file_sizes()
        path = history.versions().get(manifest.version, "").removeprefix(f"{history.folder}/")
        used_paths = {path, f"{VERSIONS_FOLDER}/{HINT_FILE}", manifest.transaction}
        used_paths |= {file.path for file in manifest.files()}
        used_folders = tuple(f"{index.folder}/" for index in manifest.indexes)
        return Bloat(
            table=table,
            bytes=sum(sizes.values()),
            wasted_bytes=sum(
                size
                for path, size in sizes.items()
                if path not in used_paths and not path.startswith(used_folders)
            ),
            dead_rows=manifest.deleted,
            rows=manifest.rows,
            estimated=False,
            source=f"{history.folder}: files that the newest version does not use",
        )

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        if kind in UNSUPPORTED_HINTS:
            raise NotSupportedError(feature=kind, subject=self._target, hint=UNSUPPORTED_HINTS[kind])
        selected = self._select_tables(tables)
        if kind == "reindex":
            return [
                MaintenanceTask(table=name, statement=statement)
                for name in selected
                for statement in self._list_rebuilds(name)
            ]
        if kind == "vacuum":
            return self.prune_tasks(tables, DEFAULT_AGE)
        return [
            MaintenanceTask(table=size.table, statement=f"compact {_describe_size(size)}")
            for size in self._select_sizes(selected)
        ]

    def _list_rebuilds(self, table: str) -> Mapping[str, Callable[[], object]]:
        """Return for each index of a table its statement, and a function that creates the index again."""
        rebuilds: dict[str, Callable[[], object]] = {}
        vectors = {index.name: index for index in self._db.vectors.vector_indexes(table)}
        with self._catalog.translate_errors():
            indexes = list(self._catalog.open_table(table).list_indices())
        for index in indexes:
            statement, vector = f"reindex {table}.{index.columns[0]}: {index.name}", vectors.get(index.name)
            if vector:
                create = LanceVectorIndexes(self._db).create_vector_index
                rebuilds[f"{statement}, {vector.kind}, {vector.metric}"] = partial(
                    create, describe_index(table, vector)
                )
            elif options := describe_other_index(index):
                change = methodcaller("create_index", index.columns[0], replace=True, **options)
                is_lost = index.index_type == "FTS" and index.index_details is None
                note = ", with default options, because its own are missing" if is_lost else ""
                rebuilds[f"{statement}, {index.index_type}{note}"] = partial(
                    change_table, self._catalog, table, change
                )
        return rebuilds

    def prune_tasks(self, tables: Sequence[str], older_than: timedelta) -> Sequence[MaintenanceTask]:
        if older_than < MIN_AGE:
            raise MaintenanceUnsafeError(
                operation="pruning versions",
                target=self._target,
                reason=f"readers of versions younger than {_format_age(MIN_AGE)} would fail",
                hint=f"The minimum is --older-than {MIN_AGE // timedelta(minutes=1)}m.",
            )
        selected = self._select_tables(tables)
        return [
            MaintenanceTask(
                table=size.table,
                statement=f"prune versions older than {_format_age(older_than)}, after compacting {_describe_size(size)}",
                older_than=older_than,
            )
            for size in self._select_sizes(selected)
        ]

    def _select_tables(self, tables: Sequence[str]) -> Sequence[str]:
        return [self._catalog.require_table(name).name for name in tables] or list(self._catalog.tables())

    def _select_sizes(self, tables: Sequence[str]) -> Sequence[TableSize]:
        sizes = [size for name in tables for size in self.measure_tables(table=name)]
        if self._folder is not None:  # for new fragments next to the old ones
            with atomic.translate_errors(self._folder, self._folder):
                mounts.require_space(self._folder, sum(size.table_bytes or 0 for size in sizes))
        return sizes

    def maintain(self, task: MaintenanceTask) -> None:
        if self._catalog.read_only:
            raise RuntimeError(f"a reader cannot {task.statement}")
        if task.statement.startswith("reindex "):
            rebuilds = self._list_rebuilds(task.table)
            if task.statement not in rebuilds:  # it was dropped or replaced
                raise ConcurrentChangeError(target=self._target)
            rebuilds[task.statement]()
            return
        # ``optimize`` always compacts and prunes; with ``KEEP_ALL`` it prunes nothing.
        age = KEEP_ALL if task.older_than is None else task.older_than
        change = methodcaller("optimize", cleanup_older_than=age)
        try:
            change_table(self._catalog, task.table, change)
        except CorruptError as error:
            history = self._catalog.history(task.table)
            for reason in history.describe_old_damage(history.versions()):
                raise CorruptError(target=self._target, reason=f"{task.table}: {reason}") from error
            # The library cannot add rows to an index if none of them has a vector.
            indexes = [item for item in self._db.vectors.vector_indexes(task.table) if item.unindexed_rows]
            if not indexes:
                reason = f"{task.table}: {error.context['reason']}"
                raise CorruptError(target=self._target, reason=reason) from error
            for index in indexes:
                LanceVectorIndexes(self._db).create_vector_index(describe_index(task.table, index))
            change_table(self._catalog, task.table, change)
        except QueryFailedError as error:
            # It has compacted and pruned: only the index, of a column without any vector, cannot be trained again.
            if "with 0 vectors" in str(error):
                self._catalog.open_newest(task.table)
                self._catalog.forget()
                return
            reason = f"{task.table}: {error.context['reason']}"
            raise QueryFailedError(target=self._target, reason=reason) from error


def _describe_size(size: TableSize) -> str:
    """Describe the current files of a table and the format after the compaction."""
    return (
        f"{size.table}: {format_count(size.fragments or 0, 'fragment')}, {format_count(size.dead_rows or 0, 'deleted row')},"
        f" {format_count(size.versions or 0, 'version')}, {format_count(size.bytes or 0, 'byte')};"
        f" the format remains {size.format}, but a much older Lance library may not read the new files"
    )


def _format_age(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=2) else f"{age.total_seconds() / 60:g} minutes"
