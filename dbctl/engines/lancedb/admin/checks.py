"""Check that a LanceDB can be read: its versions, its files, and each row of the newest version.

Lance has no checksums of rows. The checks find missing, truncated and undecodable files, but not changed values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract.checks import IndexDamage, IndexDifference, OrphanedRows
from dbctl.engines.lancedb import schema
from dbctl.engines.lancedb.errors import extract_reason, translate_error, translate_panics
from dbctl.engines.lancedb.location import Files
from dbctl.engines.lancedb.manifest import MAGIC, Fragment, Manifest
from dbctl.engines.lancedb.query.vectors import MAX_PARTITIONS
from dbctl.engines.lancedb.values import VECTOR_BATCH_ROWS
from dbctl.engines.lancedb.versions import History
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CorruptError
from dbctl.errors.usage import NotSupportedError

if TYPE_CHECKING:
    from lancedb.query import LanceVectorQueryBuilder

    from dbctl.engines.lancedb.reader import LanceReader

#: The start of a line about an index.
INDEX_PREFIX = "index "


class LanceChecks:
    """``Checks``."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._location, self._target = db.catalog, db.location, db.target
        self._files = db.location.files

    def find_damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        names = self._location.list_tables()
        if table and table not in names:
            self._catalog.require_table(table)
        return [
            line
            for name in names
            if table in ("", name)
            for line in self._table_damage(name, History(self._files, name), quick=quick)
        ]

    def parse_index_damage(self, line: str) -> IndexDamage | None:
        name = line.removeprefix(INDEX_PREFIX).partition(":")[0]
        return IndexDamage(index=name, has_duplicates=False) if line.startswith(INDEX_PREFIX) else None

    def find_orphaned_rows(self, table: str = "") -> Sequence[OrphanedRows]:
        if table:
            self._catalog.require_table(table)
        return []

    def find_index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        del index, limit  # the engine reads an index only together with its table
        return ()

    def count_lost_commits(self) -> int:
        return 0

    def list_text_indexes(self) -> Sequence[str]:
        return []

    def check_text_index(self, name: str) -> str:
        raise NotSupportedError(
            feature=f"checking {name}", subject=self._target, hint="It is not a text index."
        )

    def _table_damage(self, table: str, history: History, *, quick: bool) -> Iterator[str]:
        signals.raise_if_interrupted()
        hint, versions = history.read_hint(), history.versions()
        if not versions:
            file_count = len(history.file_sizes())
            yield f"{table}: not a table: it has no version in _versions, but {file_count} files"
            return
        newest = next(iter(versions))
        if hint > newest:
            yield f"{table}: version {hint} is missing: all changes since version {newest} are lost"
        if reason := history.describe_unreadable(versions):
            yield f"{table}: {reason}"
            return
        manifest = history.read_manifest(versions[newest])
        file_damage = list(self._file_damage(table, history, manifest))
        yield from file_damage
        if not (quick or file_damage):
            yield from self._row_damage(table, manifest)
            yield from self._index_damage(table)

    def _file_damage(self, table: str, history: History, manifest: Manifest) -> Iterator[str]:
        """Compare the files of a version with its manifest."""
        sizes = history.file_sizes()
        for fragment in manifest.fragments:
            for file in fragment.files:
                path, rows = file.path, fragment.rows - fragment.deleted
                if path not in sizes:
                    yield f"{table}: {path} is missing, with {rows} rows"
                elif file.bytes is not None and sizes[path] != file.bytes:
                    yield f"{table}: {path}, with {rows} rows, has {sizes[path]} bytes instead of {file.bytes}"
                elif not _has_magic(self._files, f"{history.folder}/{path}"):
                    yield f"{table}: {path}, with {rows} rows, does not end with {MAGIC.decode()}"
            if fragment.deletions and fragment.deletions not in sizes:
                yield f"{table}: {fragment.deletions} is missing, which restores {fragment.deleted} deleted rows"
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
                rows = fragment.rows - fragment.deleted
                damage += self._fragment_damage(table, fragment, offset)
                offset += rows
            yield from damage or [f"{table}: {error.context['reason']}"]

    def _index_damage(self, table: str) -> Iterator[str]:
        """Query each vector index once, in all partitions."""
        try:
            with translate_panics():
                handle = self._location.connection.open_table(table)
                dimensions = {
                    column.column: column.dimension for column in schema.vector_columns(table, handle.schema)
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
                    query = cast(
                        "LanceVectorQueryBuilder", handle.search([1.0] * dimension, index.columns[0])
                    )
                    metric = (statistics and statistics.distance_type) or "l2"
                    query.distance_type(metric).nprobes(MAX_PARTITIONS).limit(1).to_arrow()
            except (ValueError, RuntimeError, OSError) as error:
                yield f"{INDEX_PREFIX}{index.name}: {extract_reason(error)}"

    def _fragment_damage(self, table: str, fragment: Fragment, offset: int) -> Iterator[str]:
        rows = fragment.rows - fragment.deleted
        try:
            if rows:
                self._read_rows(table, rows, offset)
        except CorruptError as error:
            names = ", ".join(file.path for file in fragment.files)
            yield f"{table}: {names}, with {rows} rows, cannot be read: {error.context['reason']}"

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


def _has_magic(files: Files, path: str) -> bool:
    try:
        return files.read_end(path, len(MAGIC)) == MAGIC
    except OSError:
        return False
