"""Check that a LanceDB can be read, and findings about it.

Lance has no checksums of rows. The checks find missing, truncated and undecodable files, but not changed values.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.checks import Checks, EngineFinding, IndexDamage, OrphanedRows, TableSize
from dbctl.engines.contract.vectors import VectorFault
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import CorruptError
from dbctl.extensions.lancedb import catalog
from dbctl.extensions.lancedb.location import Files, extract_reason, translate_error, translate_panics
from dbctl.extensions.lancedb.manifest import LEGACY_FORMAT, MAGIC, Fragment, History, Manifest
from dbctl.extensions.lancedb.snapshot import LOST_LINK, describe_missing, is_lost_link
from dbctl.extensions.lancedb.values import VECTOR_BATCH_ROWS, Row, to_rows
from dbctl.extensions.lancedb.vectors import search_all_partitions
from dbctl.model import format_count

if TYPE_CHECKING:
    from dbctl.extensions.lancedb.reader import LanceReader


#: The start of a line about an index.
INDEX_PREFIX = "index "
#: More fragments make every query noticeably slower.
MAX_FRAGMENTS = 100
#: More versions make opening noticeably slower and use disk space for old rows.
MAX_VERSIONS = 500
#: Up to this number of rows, a full scan takes about 0.1 seconds.
MAX_UNINDEXED_ROWS = 100_000

FAULT_MESSAGES = {
    "empty": "{rows} of {table} without {column}, which no search finds (the first: {first})",
    "zeros": "{rows} of {table} with only zeros in {column}, which no cosine search finds (the first: {first})",
    "not-finite": "{rows} of {table} with NaN, infinity or NULL in {column} (the first: {first})",
    "length": "{rows} of {table} with a {column} of unusual length (the first: {first})",
}
REPAIR_HINT = Remedy(
    "Let the app recreate their vectors, or delete these rows; list them with: `data rows {table} --db {database}`"
)
DUPLICATES_HINT = Remedy(
    "The app inserts rows without checking their keys; list them with: `data rows {table} --db {database}`"
)


class LanceChecks(Checks):
    """``Checks``: LanceDB has no settings, and the next restore removes the leftovers of an earlier one."""

    def __init__(self, db: LanceReader) -> None:
        self._db, self._catalog, self._location, self._target = db, db.catalog, db.location, db.target
        self._files, self._rows, self._folder = db.location.files, db.rows, db.location.folder
        self._vectors = db.vectors

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        names = self._location.list_tables()
        if table and table not in names:
            self._catalog.require_table(table)
        with self._catalog.translate_errors():
            return [
                line
                for name in names
                if table in ("", name)
                for line in self._table_damage(name, self._catalog.history(name), quick=quick)
            ]

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        name = line.removeprefix(INDEX_PREFIX).partition(":")[0]
        return IndexDamage(index=name, has_duplicates=False) if line.startswith(INDEX_PREFIX) else None

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        if table:
            self._catalog.require_table(table)
        return []

    def _table_damage(self, table: str, history: History, *, quick: bool) -> Iterator[str]:
        signals.raise_if_interrupted()
        hint, versions = history.read_hint(), history.versions()
        if not versions:
            if self._folder and is_lost_link(self._folder / history.folder):
                yield f"{table}: {history.folder} {LOST_LINK}"
                return
            file_count = len(history.file_sizes())
            yield f"{table}: not a table: it has no version in _versions, but {file_count} files"
            return
        newest = next(iter(versions))
        if loss := describe_missing(hint, newest):
            yield f"{table}: {loss}"
        if reason := history.describe_unreadable(versions):
            yield f"{table}: {reason}"
            return
        manifest = history.read_manifest(versions[newest])
        file_damage = list(self._file_damage(table, history, manifest))
        yield from file_damage
        if quick:
            return
        yield from (f"{table}: {reason}" for reason in history.describe_old_damage(versions))
        if not file_damage:
            yield from self._row_damage(table, manifest)
            yield from self._index_damage(table)

    def _file_damage(self, table: str, history: History, manifest: Manifest) -> Iterator[str]:
        """Compare the files of a version with its manifest."""
        sizes = history.file_sizes()
        for fragment in manifest.fragments:
            for file in fragment.files:
                path, rows = file.path, format_count(fragment.remaining, "row")
                size, has_magic = sizes.get(path), _has_magic(self._files, f"{history.folder}/{path}")
                if size is None and not has_magic:  # otherwise a folder of the table is a link
                    yield f"{table}: {path} is missing, with {rows}"
                elif None not in (size, file.bytes) and size != file.bytes:
                    yield f"{table}: {path}, with {rows}, has {size} bytes instead of {file.bytes}"
                elif not has_magic:
                    yield f"{table}: {path}, with {rows}, does not end with {MAGIC.decode()}"
            if fragment.deletions and fragment.deletions not in sizes:
                yield f"{table}: {fragment.deletions} is missing, which restores {format_count(fragment.deleted, 'deleted row')}"
        for index in manifest.indexes:
            if not any(path.startswith(f"{index.folder}/") and size for path, size in sizes.items()):
                yield f"{INDEX_PREFIX}{index.name}: its files are missing ({history.folder}/{index.folder}/)"

    def _row_damage(self, table: str, manifest: Manifest) -> Iterator[str]:
        """Read all rows; if that fails, read each fragment separately to find the damaged ones."""
        try:
            self._read_rows(table, None, 0)
        except CorruptError as error:
            damage, offset = list[str](), 0
            for fragment in manifest.fragments:
                damage += self._fragment_damage(table, fragment, offset)
                offset += fragment.remaining
            yield from damage or [f"{table}: {error.context['reason']}"]

    def _index_damage(self, table: str) -> Iterator[str]:
        """Query each vector index once, in all partitions."""
        try:
            with translate_panics():
                handle = self._location.connection.open_table(table)
                dimensions = {
                    column.column: column.dimension for column in catalog.vector_columns(table, handle.schema)
                }
                indexes = list(handle.list_indices())
        except (ValueError, RuntimeError, OSError) as error:
            yield f"{table}: its indexes cannot be listed: {extract_reason(error)}"
            return
        for index in indexes:
            signals.raise_if_interrupted()
            dimension = dimensions.get(index.columns[0])
            if not dimension:
                continue
            try:
                with translate_panics():
                    statistics = handle.index_stats(index.name)
                    search_all_partitions(handle, index.columns[0], dimension, statistics).to_arrow()
            except (ValueError, RuntimeError, OSError) as error:
                yield f"{INDEX_PREFIX}{index.name}: {extract_reason(error)}"

    def _fragment_damage(self, table: str, fragment: Fragment, offset: int) -> Iterator[str]:
        try:
            if fragment.remaining:
                self._read_rows(table, fragment.remaining, offset)
        except CorruptError as error:
            names = ", ".join(file.path for file in fragment.files)
            rows = format_count(fragment.remaining, "row")
            yield f"{table}: {names}, with {rows}, cannot be read: {error.context['reason']}"

    def _read_rows(self, table: str, limit: int | None, offset: int) -> None:
        """Read rows and discard them.

        Raises:
            CorruptError: a row cannot be read.
        """
        try:
            with translate_panics():
                handle = self._location.connection.open_table(table)
                query = handle.search(None)
                if limit is not None:
                    query = query.limit(limit).offset(offset)
                for _ in query.to_batches(VECTOR_BATCH_ROWS):
                    signals.raise_if_interrupted()
        except DbctlError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            failure = translate_error(error, self._location)
            raise CorruptError(target=self._target, reason=extract_reason(error)) from failure

    def server_findings(self, *, writing: bool) -> Sequence[EngineFinding]:
        self._catalog.require_undamaged()
        findings = list(self._check_access()) if writing else []
        for size in self._db.storage.measure_tables():
            findings += self._check_table(size)
        return findings

    def schema_findings(self, table: str = "") -> Sequence[EngineFinding]:
        names = [self._catalog.require_table(table).name] if table else list(self._catalog.tables())
        return [finding for name in names for finding in self._check_vectors(name)]

    def _check_access(self) -> Iterator[EngineFinding]:
        if self._folder is not None and not os.access(self._folder, os.W_OK | os.X_OK):
            yield EngineFinding(
                severity="error",
                code="not-writable",
                message=f"the user of this process may not write {self._folder}",
                hint="Run dbctl as the user who owns the app's files.",
            )

    def _check_table(self, size: TableSize) -> Iterator[EngineFinding]:
        table = size.table
        if (size.fragments or 0) > MAX_FRAGMENTS:
            message = f"{table} has {size.fragments} fragments, which every query has to open"
            yield EngineFinding(
                severity="warning",
                code="fragments",
                message=message,
                hint=Remedy("`maintain optimize`").write(),
            )
        if (size.versions or 0) > MAX_VERSIONS:
            message = f"{table} stores {size.versions} versions, which use disk space"
            yield EngineFinding(
                severity="info", code="versions", message=message, hint=Remedy("`maintain vacuum`").write()
            )
        if size.format == LEGACY_FORMAT:
            message = f"{table} has a file format older than Lance 2.0, which newer libraries may not write"
            yield EngineFinding(severity="info", code="old-format", message=message)
        if size.rows > MAX_UNINDEXED_ROWS:
            indexed = {index.column for index in self._vectors.vector_indexes(table)}
            for column in self._vectors.vector_columns(table):
                if column.column not in indexed:
                    message = f"{table}.{column.column} has no index: each search scans all {size.rows} rows"
                    yield EngineFinding(severity="info", code="no-vector-index", message=message)

    def _check_vectors(self, table: str) -> Iterator[EngineFinding]:
        key, database = self._catalog.primary_key(table), self._target.rpartition("/")[2]
        for column in self._vectors.vector_columns(table):
            for fault in self._vectors.find_vector_faults(table, column.column, key):
                yield _create_finding(fault, table, column.column, database)
        if key:
            count, first = self._count_duplicates(table, key)
            if count:
                yield EngineFinding(
                    severity="warning",
                    code="duplicate-keys",
                    message=f"{format_count(count, 'row')} of {table} with the {', '.join(key)} of another (the first: {first})",
                    hint=DUPLICATES_HINT.write(facts={"table": table, "database": database}),
                    column=f"{table}.{key[0]}",
                )

    def _count_duplicates(self, table: str, key: Sequence[str]) -> tuple[int, str]:
        """Return the number of rows whose key an earlier row has, and one such key."""
        counts: Counter[Row] = Counter()
        with self._catalog.translate_errors():
            for batch in self._rows.scan(table, list(key)):
                counts.update(to_rows(batch, key))
        duplicates = [key for key, count in counts.items() if count > 1]
        first = " ".join(str(value) for value in duplicates[0]) if duplicates else ""
        return sum(counts[key] - 1 for key in duplicates), first


def _has_magic(files: Files, path: str) -> bool:
    try:
        return files.read_end(path, len(MAGIC)) == MAGIC
    except OSError:
        return False


def _create_finding(fault: VectorFault, table: str, column: str, database: str) -> EngineFinding:
    first = " ".join(str(value) for value in fault.examples[0]) if fault.examples else ""
    template = FAULT_MESSAGES[fault.kind]
    return EngineFinding(
        severity="warning",
        code=f"vector-{fault.kind}",
        message=template.format(
            rows=format_count(fault.count, "row"), table=table, column=column, first=ascii(first)
        ),
        hint=REPAIR_HINT.write(facts={"table": table, "database": database}),
        column=f"{table}.{column}",
    )
