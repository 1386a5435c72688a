"""Select the engine of a URL; the only module with the names of engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract import DatabaseFiles, FillRow, LockHolder, Readable, Writable, fill_no_columns
from dbctl.errors import (
    DatabaseMissingError,
    DriverMissingError,
    FileMissingError,
    FolderMissingError,
    NotSupportedError,
)
from dbctl.files import Progress, no_progress, release_nothing
from dbctl.url import Url

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract import (
        Dump,
        Dumps,
        DumpVerification,
        LoadResult,
        RestoreTarget,
        SalvageRequest,
        SalvageResult,
        ScriptDialect,
        TrialRestore,
    )
    from dbctl.engines.file_type import Content, ImportedDump

#: Provides a private folder with free space for a number of bytes.
TempDirFactory = Callable[[int], AbstractContextManager[Path]]
#: The extra of dbctl that installs the driver of an engine, and the name of the driver.
DRIVERS = {
    "postgresql": ("postgresql", "psycopg[binary]"),
    "mysql": ("mysql", "PyMySQL[rsa,ed25519]"),
}

#: Names of engines, for messages.
TITLES = {"postgresql": "PostgreSQL", "mysql": "MySQL and MariaDB", "lancedb": "LanceDB"}
#: Hints for damage on a server, whose files cannot be salvaged one by one.
DAMAGE_HINTS = {
    "postgresql": "Copy the whole data directory, stop the server, and restore a backup: dbctl restore apply. pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages.",
    "mysql": "Copy the whole data directory and restore a backup: dbctl restore apply. A damaged server may start for a dump with innodb_force_recovery = 1 or higher.",
}

#: Why remote storage cannot be backed up.
REMOTE_REASON = "they are in remote storage; enable the versioning of its bucket instead"
#: What to do without a server for a trial restore.
TRIAL_HINT = "Set scratch in [apps.NAME.backup] of the configuration, or verify without --deep."


def open_for_reading(
    url: Url,
    target: str,
    *,
    timeout: float,
    traceless: bool = False,
    use_external_indexes: bool = False,
    keys: Mapping[str, Sequence[str]] = {},
) -> Readable:
    """Open the database at ``url`` read-only.

    Args:
        url: the address.
        target: ``app/database``, for messages.
        timeout: seconds to wait for a lock.
        traceless: fail instead of changing a file or leaving one next to the database.
        use_external_indexes: use external indexes for text searches, if the engine supports them.
        keys: for tables of an engine without primary keys: the first existing one of these columns identifies a row.

    Raises:
        DriverMissingError: the driver of the engine is not installed.
    """
    if url.engine == "lancedb":
        from dbctl.engines.lancedb import LanceReader

        return LanceReader(url, target, timeout=timeout, keys=keys)
    if url.engine == "postgresql":
        with _require_driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLReader
        return PostgreSQLReader(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _require_driver(url, target):
            from dbctl.engines.mysql import MySQLReader
        return MySQLReader(url, target, timeout=timeout)
    path = _file_path(url, target)
    if use_external_indexes:
        from dbctl.engines.sqlite.external_index import SQLiteExternalIndexes

        return SQLiteExternalIndexes(path, target, timeout=timeout, traceless=traceless)
    from dbctl.engines.sqlite import SQLiteReader

    return SQLiteReader(path, target, timeout=timeout, traceless=traceless)


def open_for_writing(
    url: Url,
    target: str,
    *,
    timeout: float,
    pragmas: Mapping[str, str],
    create: Mapping[str, str] | None = None,
    keys: Mapping[str, Sequence[str]] = {},
    fill: FillRow = fill_no_columns,
) -> Writable:
    """Open the database at ``url`` for writing; ``pragmas`` are for an engine with pragmas, ``keys`` as for reading.

    ``create`` are the pragmas of a file that is created if missing; databases on a server are not created. ``fill``
    completes new rows if the engine has no type for times.

    Raises:
        DriverMissingError: the driver of the engine is not installed.
    """
    if url.engine == "lancedb":
        from dbctl.engines.lancedb import LanceWriter

        return LanceWriter(url, target, timeout=timeout, keys=keys)
    if url.engine == "postgresql":
        with _require_driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLWriter
        return PostgreSQLWriter(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _require_driver(url, target):
            from dbctl.engines.mysql import MySQLWriter
        return MySQLWriter(url, target, timeout=timeout)
    from dbctl.engines.sqlite import SQLiteWriter

    path = _file_path(url, target)
    if create is not None and not os.path.isdir(path.parent):  # noqa: PTH112 - Path.is_dir raises without permission
        raise FolderMissingError(target=target, path=path.parent)
    return SQLiteWriter(path, target, timeout=timeout, pragmas=pragmas, create=create, fill=fill)


def database_files(url: Url) -> DatabaseFiles | None:
    """Return the files of the database at ``url``; None on a server. No file is opened."""
    if not url.is_file:
        return None
    from dbctl.engines.sqlite import files

    return files.find_files(Path(url.path))


def create_vector_table(
    url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float
) -> None:
    """Create an empty table with vectors; ``columns`` as for ``lancedb.create``.

    Raises:
        DriverMissingError: the driver of the engine is not installed.
    """
    from dbctl.engines.lancedb import create_table

    create_table(url, target, table, columns, timeout=timeout)


def creates_fragments(url: Url) -> bool:
    """Whether writes to the database at ``url`` create files that only maintenance merges; nothing is opened."""
    return url.engine == "lancedb"


def open_scratch(url: Url, target: str) -> Writable:
    """Open an empty private database of the same engine as ``url``; it is dropped when it is closed.

    Args:
        url: the other database, which is not read.
        target: its name, for messages.
    """
    if url.engine == "postgresql":
        with _require_driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLScratch
        return PostgreSQLScratch(url, target)
    if url.engine == "mysql":
        with _require_driver(url, target):
            from dbctl.engines.mysql import MySQLScratch
        return MySQLScratch(url, target)
    from dbctl.engines.sqlite import SQLiteScratch

    _file_path(url, target)
    return SQLiteScratch(target)


def list_lock_holders(url: Url, target: str) -> Sequence[LockHolder]:
    """Return the processes that have the database at ``url`` open; a file itself is not opened.

    Raises:
        DatabaseMissingError: it does not exist.
    """
    if url.engine == "postgresql":
        with _require_driver(url, target):
            from dbctl.engines.postgresql import holders_of
        return holders_of(url, target)
    if url.engine == "mysql":
        with _require_driver(url, target):
            from dbctl.engines.mysql import reader
        return reader.holders_of(url, target)
    from dbctl.engines import file_locks

    path = Path(os.path.realpath(url.path if url.is_folder else _file_path(url, target)))
    if not os.path.lexists(path):
        raise (FolderMissingError if url.is_folder else DatabaseMissingError)(target=target, path=path)
    return file_locks.list_folder_users(path) if url.is_folder else file_locks.list_lock_holders(path)


def restore_target(url: Url, target: str) -> RestoreTarget:
    """Return the database at ``url`` as backups and restores use it: it may be missing, or not be a database.

    Raises:
        DriverMissingError: the driver of the engine is not installed.
    """
    if url.engine == "postgresql":
        with _require_driver(url, target):
            from dbctl.engines.postgresql.backup import PostgreSQLRestoreTarget
        return PostgreSQLRestoreTarget(url, target)
    if url.engine == "mysql":
        with _require_driver(url, target):
            from dbctl.engines.mysql.backup import MySQLRestoreTarget
        return MySQLRestoreTarget(url, target)
    if url.engine == "lancedb":
        from dbctl.engines.lancedb.backup import LanceRestoreTarget

        return LanceRestoreTarget(url, target)
    from dbctl.engines.sqlite.backup import SQLiteRestoreTarget

    return SQLiteRestoreTarget(_file_path(url, target), target)


def no_backup_reason(url: Url) -> str:
    """Return why the database at ``url`` cannot be backed up; empty: it can."""
    return REMOTE_REASON if url.engine == "lancedb" and not url.is_folder else ""


def has_unfinished_restore(url: Url) -> bool:
    """Whether a restore of the database at ``url`` was interrupted before it replaced the database, or is running."""
    if not url.is_folder:
        return False
    from dbctl.engines.lancedb.backup import swap

    return swap.is_unfinished(Path(os.path.realpath(url.path)))


def find_leftovers(url: Url) -> Sequence[Path]:
    """Return the files that a killed dbctl process left next to the database at ``url``; empty while one is writing."""
    from dbctl.engines import file_locks

    path = Path(os.path.realpath(url.path)) if url.is_local else None
    if path is None or file_locks.is_write_locked(path):
        return ()
    if url.is_file:
        from dbctl.engines.sqlite import files

        return files.list_partial_files(path)
    from dbctl.engines.lancedb.backup import swap

    return swap.list_abandoned(path)


def open_copier(url: Url, target: str) -> Dumps | None:
    """Return an object that dumps the database at ``url`` as files, without its driver; None if the engine has none."""
    if not url.is_folder:
        return None
    from dbctl.engines.lancedb.backup import FolderDumps

    return FolderDumps(Path(os.path.realpath(url.path)), target)


def write_lock(url: Url, target: str, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
    """Block other dbctl processes from writing the database at ``url``, even if it is missing or cannot be opened.

    Raises:
        BusyError: another dbctl process held the lock for all of ``timeout`` seconds.
    """
    return restore_target(url, target).lock(purpose, timeout=timeout)


def find_missing_folder(url: Url) -> Path | None:
    """Return the parent folder of the database at ``url``, if only that folder is missing; otherwise None.

    Raises:
        FileMissingError: the parent of that folder is missing, too; it may be a disk that is not mounted.
    """
    if not url.is_local:
        return None
    folder = Path(os.path.realpath(url.path)).parent
    if os.path.lexists(folder):
        return None
    if not folder.parent.is_dir():
        raise FileMissingError(kind="directory", path=folder.parent)
    return folder


def require_space(url: Url, target: str, required_bytes: int) -> None:
    """Check that ``required_bytes`` fit next to the database at ``url``, if the free space is known.

    Raises:
        InsufficientSpaceError: they do not.
    """
    restore_target(url, target).require_space(required_bytes)


@contextmanager
def temp_dir(_required_bytes: int) -> Iterator[Path]:
    """Provide a private folder in the system's folder for temporary files."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dbctl-") as folder:
        yield Path(folder)


def verify_dump(
    engine: str, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
) -> DumpVerification:
    """Verify a dump that ``Dumps.dump`` of an engine created, without changing it.

    Args:
        engine: the name of the engine.
        path: the file.
        dump: its description.
        target: ``app/database``, for messages.
        quick: skip slow checks: the comparison of indexes with tables, or decompression.
        make_temp_dir: provides a private folder with free space for the size of the file, for decompression.

    Raises:
        NotADatabaseError, CorruptError: it cannot be opened.
    """
    if engine == "postgresql":
        with _require_driver(Url(engine=engine, path=""), target):
            from dbctl.engines.postgresql.backup import load as postgresql_loader
        return postgresql_loader.verify_dump(path, dump.metadata, target)
    if engine == "mysql":
        with _require_driver(Url(engine=engine, path=""), target):
            from dbctl.engines.mysql.backup import load as mysql_loader
        return mysql_loader.verify_dump(path, target)
    if engine == "lancedb":
        from dbctl.engines.lancedb.backup import load as archive_loader

        return (
            archive_loader.read_manifests(path, target)
            if quick
            else archive_loader.verify_archive(path, target, make_temp_dir)
        )
    from dbctl.engines.sqlite import SQLiteReader

    reader = SQLiteReader(_file_path(Url(engine=engine, path=str(path)), target), target, timeout=0)
    with closing(reader):
        return reader.verify_dump(quick=quick)


def import_dump(
    content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
) -> ImportedDump:
    """Convert a file of another program to the format of ``Dumps.dump`` of its engine.

    Args:
        content: its type.
        source: a private uncompressed copy, which is consumed.
        destination: the new file.
        target: the name of the file, for messages.
        max_bytes: maximum bytes of the result.

    Raises:
        CorruptError: it is incomplete.
        FileInvalidError: it contains more than a dump.
        DiskFullError: there is not enough free space.
    """
    from dbctl.engines.file_type import ENGINES

    engine = ENGINES[content]
    if engine == "postgresql":
        with _require_driver(Url(engine=engine, path=""), target):
            from dbctl.engines.postgresql.backup.foreign import dump as postgresql_foreign_dump
        return postgresql_foreign_dump.import_dump(source, destination, content, target)
    if engine == "mysql":
        with _require_driver(Url(engine=engine, path=""), target):
            from dbctl.engines.mysql.backup.foreign import dump as mysql_foreign_dump
        return mysql_foreign_dump.import_dump(source, destination, target)
    if engine == "lancedb":
        from dbctl.engines.lancedb.backup import foreign_dump as lancedb_foreign_dump

        return lancedb_foreign_dump.import_dump(source, destination, target)
    from dbctl.engines.sqlite.backup import foreign_dump

    return foreign_dump.import_dump(source, destination, content, target, max_bytes=max_bytes)


def is_table_folder(folder: Path) -> bool:
    """Whether a folder contains tables of an engine that stores each table as a folder."""
    from dbctl.engines.lancedb.backup import snapshot

    return snapshot.contains_tables(folder)


def import_folder(folder: Path, destination: Path, target: str) -> ImportedDump:
    """Convert a folder of tables of another program as ``import_dump`` does; the folder is not changed.

    Raises:
        As ``import_dump``.
    """
    from dbctl.engines.lancedb.backup import foreign_dump

    return foreign_dump.import_folder(folder, destination, target)


@contextmanager
def trial_restore(
    engine: str, url: Url | None, path: Path, dump: Dump, target: str, *, timeout: float
) -> Iterator[TrialRestore]:
    """Provide a temporary database with a loaded dump; it is dropped at the end.

    Args:
        engine: the name of the engine.
        url: a database of a server that can create another one, or a file that does not exist.
        path: a file that ``Dumps.dump`` created.
        dump: its description.
        target: ``app/database``, for messages.
        timeout: seconds to wait for a server.

    Raises:
        NotSupportedError: no server is configured for it.
        PrivilegeMissingError: the user may not create databases on the server.
        RestoreFailedError, CorruptError: it cannot be loaded.
    """
    if url is None or url.engine != engine:
        raise NotSupportedError(
            feature=f"a trial restore of {target}",
            subject="a configuration without a server",
            hint=TRIAL_HINT,
        )
    with restore_target(url, target).trial_restore(path, dump, timeout=timeout) as trial:
        yield trial


def restored_copy(
    url: Url, path: Path, target: str, dump: Dump, *, timeout: float
) -> AbstractContextManager[Url]:
    """Provide a temporary database of the same engine as ``url`` with the content of a dump; it is dropped at the end.

    Args:
        url: the database.
        path: a file that ``Dumps.dump`` created; it may become the copy itself.
        target: ``app/database``, for messages.
        dump: its description.
        timeout: seconds to wait for a server.

    Raises:
        PrivilegeMissingError: the user may not create databases on the server.
    """
    return restore_target(url, target).restored_copy(path, dump, timeout=timeout)


def load(
    url: Url,
    path: Path,
    target: str,
    dump: Dump,
    *,
    timeout: float,
    retained: Mapping[str, str] = {},
    progress: Progress = no_progress,
    release_locks: Callable[[], None] = release_nothing,
    can_consume: bool = False,
) -> LoadResult:
    """Replace the database at ``url`` with the content of a dump, as one change or not at all.

    The caller has verified the dump, holds ``write_lock``, and has copied the current database, unless the engine
    retains it (``retained``).

    Args:
        url: the database; it may be missing, or not be a database.
        path: a file that ``Dumps.dump`` of the same engine created.
        target: ``app/database``, for messages.
        dump: its description.
        timeout: seconds to wait for a lock.
        retained: metadata of ``RestoreTarget.describe_retained``; without it, a swapped database is dropped.
        progress: receives the completed share.
        release_locks: releases ``RestoreTarget.block_writers``, if the current database was copied; called as late as possible.
        can_consume: whether ``path`` is not needed any more, so that it may be moved.

    Raises:
        BusyError: another session held a lock for all of ``timeout`` seconds; nothing was changed.
        WriteConflictError: another process wrote after the locks were released; nothing was changed.
        ReadOnlyError, SameFileError, DiskFullError, FileFailedError, RestoreFailedError: nothing was changed.
    """
    return restore_target(url, target).load(
        path,
        dump,
        timeout=timeout,
        retained=retained,
        progress=progress,
        release_locks=release_locks,
        can_consume=can_consume,
    )


def engine_title(engine: str) -> str:
    """Return the name of an engine for messages."""
    return TITLES.get(engine, "SQLite" if engine == "sqlite" else engine)


def require_salvageable(url: Url, target: str) -> None:
    """Check that ``salvage`` supports the database at ``url``.

    Raises:
        NotSupportedError: it is on a server.
    """
    if url.engine in DAMAGE_HINTS:
        raise NotSupportedError(
            feature=f"salvaging {target} from its files",
            subject=TITLES[url.engine],
            hint=DAMAGE_HINTS[url.engine],
        )
    _file_path(url, target)


def salvage(
    url: Url, request: SalvageRequest, target: str, *, progress: Progress = no_progress
) -> SalvageResult:
    """Salvage a damaged database into a new one; the damaged one is only read.

    The caller holds ``write_lock``, and has checked that no program has the database open.

    Raises:
        As ``require_salvageable``, and the errors of the engine.
    """
    require_salvageable(url, target)
    from dbctl.engines.sqlite import recover as recover_module

    return recover_module.recover(request, target, progress)


def script_dialect(engine: str) -> ScriptDialect:
    """Return the SQL dialect of an engine's scripts.

    Raises:
        NotSupportedError: it has no scripts.
    """
    if engine == "postgresql":
        from dbctl.engines.postgresql.sql import script

        return script
    if engine == "mysql":
        from dbctl.engines.mysql.sql import script as mysql_script

        return mysql_script
    if engine == "sqlite":
        from dbctl.engines.sqlite.sql import script as sqlite_script

        return sqlite_script
    raise NotSupportedError(
        feature="SQL scripts", subject=engine, hint="Supported by SQLite, PostgreSQL, MySQL and MariaDB."
    )


@contextmanager
def _require_driver(url: Url, target: str) -> Iterator[None]:
    """Translate a missing driver into an error that states how to install it."""
    try:
        yield
    except ImportError as error:
        extra, driver = DRIVERS[url.engine]
        reason = str(error).splitlines()[0]
        raise DriverMissingError(target=target, driver=driver, extra=extra, reason=reason) from error


def _file_path(url: Url, target: str) -> Path:
    if url.engine != "sqlite":
        raise NotSupportedError(
            feature=f"opening {target} ({url})",
            subject="this version of dbctl",
            hint="dbctl opens only SQLite, PostgreSQL, MySQL and MariaDB databases.",
        )
    return Path(url.path)
