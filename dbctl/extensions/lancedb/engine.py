"""The engine of LanceDB."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract.engine import Engine, OpenOptions, VerifyOptions
from dbctl.errors.connection import FolderMissingError
from dbctl.url import S3_PREFIX

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract.checks import LockHolder
    from dbctl.engines.contract.database import Readable, Writable
    from dbctl.engines.contract.dumps import Dump, Dumps, DumpVerification, RestoreTarget
    from dbctl.url import Url

#: Why remote storage cannot be backed up.
REMOTE_REASON = "they are in remote storage; enable the versioning of its bucket instead"


class LanceEngine(Engine):
    """Databases in local folders or buckets."""

    name, title = "lancedb", "LanceDB"
    creates_fragments = True

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        from dbctl.extensions.lancedb.reader import LanceReader

        return LanceReader(url, target, timeout=options.timeout, keys=options.keys)

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        from dbctl.extensions.lancedb.writer import LanceWriter

        return LanceWriter(url, target, timeout=options.timeout, keys=options.keys)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        from dbctl.extensions.lancedb.location import find_folder

        folder = find_folder(url, target)
        if folder is None:
            raise self._unsupported(f"listing the processes that use {target}", "It is in remote storage.")
        from dbctl.engines import file_locks

        if not os.path.lexists(folder):
            raise FolderMissingError(target=target, path=folder)
        return file_locks.list_folder_users(folder)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        from dbctl.extensions.lancedb.restore import LanceRestoreTarget

        return LanceRestoreTarget(url, target)

    def no_backup_reason(self, url: Url) -> str:
        return REMOTE_REASON if url.path.startswith(S3_PREFIX) else ""

    def has_unfinished_restore(self, url: Url) -> bool:
        if (folder := _find_folder(url)) is None:
            return False
        from dbctl.extensions.lancedb import swap

        return swap.is_unfinished(folder)

    def find_leftovers(self, url: Url) -> Sequence[Path]:
        if (folder := _find_folder(url)) is None:
            return ()
        from dbctl.engines import file_locks
        from dbctl.extensions.lancedb import swap

        return () if file_locks.is_write_locked(folder) else swap.list_abandoned(folder)

    def open_copier(self, url: Url, target: str) -> Dumps | None:
        from dbctl.extensions.lancedb.dump import FolderDumps
        from dbctl.extensions.lancedb.location import find_folder

        if (folder := find_folder(url, target)) is None:
            return None

        return FolderDumps(folder, target)

    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        del dump
        from dbctl.extensions.lancedb import dump as archives

        return (
            archives.read_manifests(path, target)
            if options.quick
            else archives.verify_archive(path, target, options.make_temp_dir)
        )

    def is_table_folder(self, folder: Path) -> bool:
        from dbctl.extensions.lancedb import snapshot

        return snapshot.contains_tables(folder)

    def create_table(
        self, url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float
    ) -> None:
        from dbctl.extensions.lancedb.catalog import create_table
        from dbctl.extensions.lancedb.location import Location

        create_table(Location(url, target, timeout=timeout), table, columns)


def _find_folder(url: Url) -> Path | None:
    """Return the folder of a local database; None for a bucket, or a folder behind a route."""
    return Path(os.path.realpath(url.path)) if url.is_folder else None


ENGINE = LanceEngine()
