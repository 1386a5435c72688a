"""Sizes of a LanceDB and of its tables, from the manifests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Bloat, Storage, TableSize
from dbctl.engines.lancedb.storage import History, Manifest, ManifestError
from dbctl.errors import CorruptError

if TYPE_CHECKING:
    from dbctl.engines.lancedb.reader import LanceReader


class LanceSizes:
    """``SizeMonitor`` and ``BloatMonitor``."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._target = db.catalog, db.target
        self._files = db.location.files

    def measure_storage(self) -> Storage:
        stored_bytes = sum(file.bytes for file in self._files.walk())
        return Storage(bytes=stored_bytes, tables=len(self._catalog.tables()), page_size=0)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - the exact values are cheap
        return [
            self._measure_table(name, History(self._files, name))
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
        version = self._catalog.versions()[table]
        with self._catalog.translate_errors():
            try:
                return history.read_version(version)
            except ManifestError as error:
                reason = f"{table}, version {version}: {error}"
                raise CorruptError(target=self._target, reason=reason) from error

    def measure_bloat(self) -> Sequence[Bloat]:
        return [self._measure_bloat(name, History(self._files, name)) for name in self._catalog.tables()]

    def _measure_bloat(self, table: str, history: History) -> Bloat:
        manifest, sizes = self._read_manifest(table, history), history.file_sizes()
        used_paths = {file.path for file in manifest.files()}
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
