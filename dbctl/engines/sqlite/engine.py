"""The engine of SQLite."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract.engine import Engine, OpenOptions, VerifyOptions
from dbctl.errors.connection import DatabaseMissingError, FolderMissingError
from dbctl.errors.usage import NotSupportedError

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract.checks import DatabaseFiles, LockHolder
    from dbctl.engines.contract.database import Readable, Writable
    from dbctl.engines.contract.dumps import Dump, DumpVerification, RestoreTarget
    from dbctl.engines.contract.schema import ScriptDialect
    from dbctl.url import Url


class SQLiteEngine(Engine):
    """Databases in local files."""

    name, title = "sqlite", "SQLite"
    writers_leave_traces = True

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        from dbctl.engines.sqlite.database import SQLiteReader

        if not url.via:
            return SQLiteReader(Path(url.path), target, timeout=options.timeout, traceless=options.traceless)
        from dbctl.engines.contract.route import locate_readable_path

        path, machine, taken_at = locate_readable_path(url, target, timeout=options.timeout)
        traceless = options.traceless and not machine
        return SQLiteReader(path, target, timeout=options.timeout, traceless=traceless, taken_at=taken_at)

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        from dbctl.engines.sqlite.database import SQLiteWriter

        path = Path(url.path)
        if url.via:
            from dbctl.engines.contract.route import locate_path

            path = locate_path(url, target)
        if options.create is not None and not os.path.isdir(path.parent):
            raise FolderMissingError(target=target, path=path.parent)
        return SQLiteWriter(path, target, options)

    def open_scratch(self, url: Url, target: str) -> Writable:
        del url
        from dbctl.engines.sqlite.database import SQLiteScratch

        return SQLiteScratch(target)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        from dbctl.engines import file_locks
        from dbctl.engines.contract.route import locate_path

        path = Path(os.path.realpath(locate_path(url, target)))
        holders: Sequence[LockHolder] = ()
        try:
            holders = file_locks.list_lock_holders(path)
        except NotSupportedError:  # other systems than Linux do not list those of deleted files either
            if os.path.lexists(path):
                raise
        if not (holders or os.path.lexists(path)):
            raise DatabaseMissingError(target=target, path=path)
        return holders

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        from dbctl.engines.sqlite.restore import RemoteRestoreTarget, SQLiteRestoreTarget

        if not url.via:
            return SQLiteRestoreTarget(Path(url.path), target)
        from dbctl.engines.contract.route import find_path

        path = find_path(url, target)
        return SQLiteRestoreTarget(path, target) if path else RemoteRestoreTarget(url, target)

    def database_files(self, url: Url) -> DatabaseFiles | None:
        if not url.is_file:
            return None
        from dbctl.engines.sqlite import files

        return files.find_files(Path(url.path))

    def find_leftovers(self, url: Url) -> Sequence[Path]:
        if not url.is_file:
            return ()
        from dbctl.engines import file_locks
        from dbctl.engines.sqlite import files

        path = Path(os.path.realpath(url.path))
        return () if file_locks.is_write_locked(path) else files.list_partial_files(path)

    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        del dump
        from dbctl.engines.sqlite.database import SQLiteReader
        from dbctl.engines.sqlite.dump import SQLiteDumps

        with closing(SQLiteReader(path, target, timeout=0)) as reader:
            return SQLiteDumps(reader).verify_dump(quick=options.quick)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.sqlite import lint

        return lint.SCRIPTS


ENGINE = SQLiteEngine()
