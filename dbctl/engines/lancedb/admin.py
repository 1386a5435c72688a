"""Sizes, findings and maintenance tasks of a LanceDB."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract import (
    Bloat,
    EngineFinding,
    MaintenanceKind,
    MaintenanceTask,
    SettingComparison,
    Storage,
    TableSize,
    VectorFault,
)
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.location import SUFFIX, Files
from dbctl.engines.lancedb.query import LanceVectors
from dbctl.engines.lancedb.storage import History, Manifest, ManifestUnreadableError
from dbctl.errors import CorruptError, InsufficientSpaceError, MaintenanceUnsafeError, NotSupportedError


class LanceSizes(LanceConnection):
    """Capability.MEASURE and Capability.BLOAT."""

    def measure_storage(self) -> Storage:
        stored_bytes = sum(file.bytes for file in Files(self._location).walk())
        return Storage(bytes=stored_bytes, tables=len(self.tables()), page_size=0)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - the exact values are cheap
        files = Files(self._location)
        return [
            self._measure_table(name, History(files, name)) for name in self.tables() if table in ("", name)
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
        version = self.table_versions()[table]
        with self._translate_errors():
            try:
                return history.read_version(version)
            except ManifestUnreadableError as error:
                reason = f"{table}, version {version}: {error}"
                raise CorruptError(target=self.target, reason=reason) from error

    def measure_bloat(self) -> Sequence[Bloat]:
        files = Files(self._location)
        bloats = []
        for name in self.tables():
            history = History(files, name)
            manifest, sizes = self._read_manifest(name, history), history.file_sizes()
            used = sum(sizes.get(path, 0) for path in manifest.paths())
            used += sum(
                size
                for path, size in sizes.items()
                if any(path.startswith(f"_indices/{index.uuid}/") for index in manifest.indexes)
            )
            bloats.append(
                Bloat(
                    table=name,
                    bytes=sum(sizes.values()),
                    wasted_bytes=sum(sizes.values()) - used,
                    dead_rows=manifest.deleted,
                    rows=manifest.rows,
                    estimated=False,
                    source=f"{name}{SUFFIX}: files that the newest version does not use",
                )
            )
        return bloats


#: More fragments make every query noticeably slower.
MAX_FRAGMENTS = 100
#: More versions make opening noticeably slower and use disk space for old rows.
MAX_VERSIONS = 500
#: Up to this number of rows, a full scan takes about 0.1 seconds.
MAX_UNINDEXED_ROWS = 100_000
#: The file format before 2024.
LEGACY_FORMAT = "0.1"

FAULT_MESSAGES = {
    "empty": "{number} rows of {table} have no {column}, so no search finds them (the first: {first})",
    "zeros": "{number} rows of {table} have only zeros in {column}, so no cosine search finds them (the first: {first})",
    "not-finite": "{number} rows of {table} have NaN or infinity in {column} (the first: {first})",
    "length": "{number} rows of {table} have a {column} of unusual length (the first: {first})",
}
REPAIR_HINT = "Let the app recreate their vectors, or delete these rows: dbctl data rows {table} lists them."


class LanceAdvice(LanceSizes, LanceVectors):
    """Capability.ADVISE."""

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        findings = list(self._check_access()) if writing else []
        for size in self.measure_tables():
            findings += self._check_table(size)
        return findings

    def find_abandoned(self) -> Sequence[EngineFinding]:
        return []  # the next restore removes the leftovers of an earlier one

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        names = [self._require_table(table).name] if table else list(self.tables())
        return [finding for name in names for finding in self._check_vectors(name)]

    def compare_settings(self, required: Mapping[str, str]) -> Sequence[SettingComparison]:
        del required  # LanceDB has no settings
        return []

    def _check_access(self) -> Iterator[EngineFinding]:
        if self._location.folder is not None and not os.access(self._location.folder, os.W_OK | os.X_OK):
            yield EngineFinding(
                severity="error",
                code="not-writable",
                message=f"the user of this process may not write {self._location.folder}",
                hint="Run dbctl as the user who owns the app's files.",
            )

    def _check_table(self, size: TableSize) -> Iterator[EngineFinding]:
        table = size.table
        if (size.fragments or 0) > MAX_FRAGMENTS:
            message = f"{table} has {size.fragments} fragments, which every query has to open"
            yield EngineFinding(
                severity="warning", code="fragments", message=message, hint="dbctl maintain optimize"
            )
        if (size.versions or 0) > MAX_VERSIONS:
            message = f"{table} stores {size.versions} versions, which use disk space"
            yield EngineFinding(
                severity="info", code="versions", message=message, hint="dbctl maintain vacuum"
            )
        if size.format == LEGACY_FORMAT:
            message = f"{table} has a file format older than Lance 2.0, which newer libraries may not write"
            yield EngineFinding(severity="info", code="old-format", message=message)
        if size.rows > MAX_UNINDEXED_ROWS:
            indexed = {index.column for index in self.vector_indexes(table)}
            for column in self.vector_columns(table):
                if column.column not in indexed:
                    message = f"{table}.{column.column} has no index: each search scans all {size.rows} rows"
                    yield EngineFinding(severity="info", code="no-vector-index", message=message)

    def _check_vectors(self, table: str) -> Iterator[EngineFinding]:
        key = self.key_columns(table)
        for column in self.vector_columns(table):
            for fault in self.find_vector_faults(table, column.column, key):
                yield _create_finding(fault, table, column.column)
        if key:
            count, first = self.count_duplicates(table, key)
            if count:
                yield EngineFinding(
                    severity="warning",
                    code="duplicate-keys",
                    message=f"{count} rows of {table} have the {', '.join(key)} of another (the first: {first})",
                    hint=f"The app inserts rows without checking their keys: dbctl data rows {table} lists them.",
                    column=f"{table}.{key[0]}",
                )


def _create_finding(fault: VectorFault, table: str, column: str) -> EngineFinding:
    first = " ".join(str(value) for value in fault.examples[0]) if fault.examples else ""
    template = FAULT_MESSAGES[fault.kind]
    return EngineFinding(
        severity="warning",
        code=f"vector-{fault.kind}",
        message=template.format(number=fault.count, table=table, column=column, first=ascii(first)),
        hint=REPAIR_HINT.format(table=table),
        column=f"{table}.{column}",
    )


#: ``vacuum`` removes versions that are older; a reader of a removed version fails.
DEFAULT_AGE = timedelta(days=7)
#: The minimum for every request; no query runs longer.
MIN_AGE = timedelta(minutes=10)

UNSUPPORTED_HINTS = {
    "analyze": "LanceDB has no planner statistics.",
    "checkpoint": "LanceDB has no write-ahead log.",
    "wal": "LanceDB has no write-ahead log.",
    "rollback-journal": "LanceDB has no journal.",
}


class LanceTasks(LanceSizes, LanceVectors):
    """Capability.MAINTAIN and Capability.VERSIONS."""

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        if kind in UNSUPPORTED_HINTS:
            raise NotSupportedError(feature=kind, subject=self.target, hint=UNSUPPORTED_HINTS[kind])
        selected = [self._require_table(name).name for name in tables] or list(self.tables())
        if kind == "reindex":
            return [
                MaintenanceTask(
                    table=name,
                    statement=f"reindex {name}.{index.column}: {index.name}, {index.kind}, {index.metric}",
                )
                for name in selected
                for index in self.vector_indexes(name)
            ]
        if kind == "vacuum":
            return self.prune_tasks(tables, DEFAULT_AGE)
        return [
            MaintenanceTask(table=size.table, statement=f"compact {_describe_size(size)}")
            for size in self._select_sizes(selected)
        ]

    def prune_tasks(self, tables: Sequence[str], older_than: timedelta) -> Sequence[MaintenanceTask]:
        if older_than < MIN_AGE:
            raise MaintenanceUnsafeError(
                operation="pruning versions",
                target=self.target,
                reason=f"readers of versions younger than {_format_age(MIN_AGE)} would fail",
                hint=f"The minimum is --older-than {MIN_AGE // timedelta(minutes=1)}m.",
            )
        selected = [self._require_table(name).name for name in tables] or list(self.tables())
        return [
            MaintenanceTask(
                table=size.table,
                statement=f"prune versions older than {_format_age(older_than)}, after compacting {_describe_size(size)}",
                older_than=older_than,
            )
            for size in self._select_sizes(selected)
        ]

    def _select_sizes(self, tables: Sequence[str]) -> Sequence[TableSize]:
        sizes = [size for size in self.measure_tables() if size.table in tables]
        self._require_space(sizes)
        return sizes

    def maintain(self, task: MaintenanceTask) -> None:
        raise RuntimeError(f"a reader cannot {task.statement}")

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return []

    def _require_space(self, sizes: Sequence[TableSize]) -> None:
        """Require free space for new fragments next to the old ones.

        Raises:
            InsufficientSpaceError: there is not enough free space.
        """
        if self._location.folder is None:
            return
        required_bytes, free_bytes = (
            sum(size.table_bytes or 0 for size in sizes),
            shutil.disk_usage(self._location.folder).free,
        )
        if free_bytes < required_bytes:
            raise InsufficientSpaceError(
                place=self._location.folder, required=required_bytes, free=free_bytes
            )


def _describe_size(size: TableSize) -> str:
    """Describe the current files of a table and the format after the compaction."""
    return (
        f"{size.table}: {size.fragments} fragments, {size.dead_rows} deleted rows, {size.versions} versions, {size.bytes} bytes;"
        f" the format remains {size.format}, but a much older Lance library may not read the new files"
    )


def _format_age(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=2) else f"{age.total_seconds() / 60:g} minutes"
