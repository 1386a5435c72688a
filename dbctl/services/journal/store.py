"""The file of the journal: a SQLite database that never delays or fails the command whose run it records."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dbctl.errors import JournalCorruptError, JournalUnavailableError
from dbctl.files import find_planted, read_volume
from dbctl.model import JSON_ERRORS

FILE_NAME = "journal.sqlite"
#: The version of the schema, which is the ``user_version`` of the file.
VERSION = 1
#: The value of ``outcomes.failed`` for a failure that is that of a job; those that are recorded only have 1.
FAILED_JOB = 2
#: Of the database, and of the files that SQLite creates next to it.
_SUFFIXES = ("", "-wal", "-shm", "-journal")
#: Seconds to wait for a writer: a write takes a millisecond, so a longer wait means that another program locked the file.
BUSY_SECONDS = 1.0
#: Size of the write-ahead log after which a run moves its content to the file, and waits for the disk.
CHECKPOINT_BYTES = 512 << 10
#: Errors of SQLite where processes cannot share memory.
_NO_SHARED_MEMORY = (sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE)

_SCHEMA = """
create table runs (
    id integer primary key autoincrement,
    command text not null,
    result text not null,
    failed integer not null,
    started_at text not null,
    record blob not null  -- JSON of Run
);
create index runs_command on runs (command, id);
create index runs_failed on runs (command, id) where failed;
create index runs_started on runs (started_at);
create index runs_running on runs (id) where result = 'running';
create table outcomes (
    config text not null,
    app text not null,
    command text not null,
    run integer not null,
    exit_code integer,  -- null: no result
    error_code text not null,
    failed integer not null,  -- 0, 1, or 2: as a job
    primary key (config, app, command, run)
) without rowid;
create index outcomes_run on outcomes (run);
create index outcomes_app on outcomes (app, command, run);
create index outcomes_failed on outcomes (app, command, run) where failed;
"""


@contextmanager
def open_for_writing(folder: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection in a transaction that is committed at the end; the journal is created if it is missing.

    Raises:
        JournalUnavailableError: it cannot be created, opened or written, or is locked.
        JournalCorruptError: it is damaged, or the block reads a damaged record.
    """
    path = folder / FILE_NAME
    with _translate_errors(path):
        if not _exists(path):
            _create(path)
        with _connect(path) as connection:
            connection.execute("pragma synchronous = normal")
            connection.execute("pragma wal_autocheckpoint = 0")
            connection.execute("begin immediate")
            try:
                _check_version(connection, path)
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            with suppress(OSError, sqlite3.OperationalError):
                if path.with_name(f"{FILE_NAME}-wal").stat().st_size > CHECKPOINT_BYTES:
                    connection.execute("pragma wal_checkpoint(truncate)")


@contextmanager
def open_for_reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """Yield a connection that cannot write; None: nothing was recorded yet.

    Raises:
        JournalUnavailableError: it cannot be opened.
        JournalCorruptError: it is damaged, or the block reads a damaged record.
    """
    path = folder / FILE_NAME
    with _translate_errors(path):
        if not _exists(path):
            yield None
            return
        with closing(_connect_for_reading(path)) as connection:
            _check_version(connection, path)
            yield connection


def release_pages(folder: Path, *, max_pages: int) -> None:
    """Return free pages to the file system, if most pages are free, and at most ``max_pages`` are in use; a failure is ignored."""
    with (
        suppress(JournalUnavailableError),
        _translate_errors(folder / FILE_NAME),
        _connect(folder / FILE_NAME) as connection,
    ):
        counts = (
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count")
        )
        total, free = counts
        if free > total / 2 and total - free <= max_pages:
            connection.execute("vacuum")
            connection.execute("pragma wal_checkpoint(truncate)")


def storable_text(text: str) -> str:
    """Return a text as the journal stores it: bytes of file names that are not UTF-8 are escaped."""
    return text.encode(errors="backslashreplace").decode()


def is_read_only(folder: Path) -> bool:
    """Whether a journal exists that this process cannot write."""
    path = folder / FILE_NAME
    return path.exists() and not (os.access(path, os.W_OK) and os.access(folder, os.W_OK))


def _exists(path: Path) -> bool:
    """Whether the journal exists.

    Raises:
        JournalUnavailableError: another user planted it, or it is no file; SQLite would wait for the writer of a named pipe.
    """
    for suffix in _SUFFIXES:
        if reason := find_planted(Path(f"{path}{suffix}")):
            raise JournalUnavailableError(path=f"{path}{suffix}", reason=reason)
    try:
        status = path.stat()
    except FileNotFoundError:
        return path.is_symlink()  # opening it fails with a reason
    if not stat.S_ISREG(status.st_mode):
        raise JournalUnavailableError(path=path, reason="it is not a regular file")
    return True


def _create(path: Path) -> None:
    """Create the journal under another name, so that no process sees an incomplete one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    try:
        # The processes of a write-ahead log share memory, which those of several machines cannot.
        if read_volume(path.parent).is_network or not _write_schema(temporary, journal_mode="wal"):
            _write_schema(temporary, journal_mode="delete")
        try:
            path.hardlink_to(temporary)
        except FileExistsError:  # another process created it
            pass
        except OSError:  # a file system without hard links
            temporary.replace(path)
    finally:
        _delete(temporary)


def _write_schema(path: Path, *, journal_mode: str) -> bool:
    """Create an empty journal; False: the file system has no shared memory for a write-ahead log, and nothing was created."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"pragma journal_mode = {journal_mode}")
            connection.execute("begin")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {VERSION}")
            connection.execute("commit")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_SHARED_MEMORY:
            raise
        _delete(path)
        return False
    return True


def _delete(path: Path) -> None:
    """Delete a database and the files next to it."""
    for suffix in _SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection whose end does not wait for the disk.

    The last connection to a database moves the write-ahead log to the file when it is closed, and synchronizes both, which takes several
    times as long as a write. A connection without write access cannot do that, so it is closed last.
    """
    with (
        closing(_connect_for_reading(path)),
        closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection,
    ):
        yield connection


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Connect to the file; on a read-only file system without the memory of the log, only to the file itself."""
    uri = f"file:{_quote(path)}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("pragma user_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _quote(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path))


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > VERSION:
        raise JournalUnavailableError(path=path, reason="a newer version of dbctl wrote it")
    if version < VERSION:
        raise JournalCorruptError(path=path, reason="it is not a journal")


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        is_damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        kind = JournalCorruptError if is_damaged else JournalUnavailableError
        raise kind(path=path, reason=str(error)) from error
    except OSError as error:
        raise JournalUnavailableError(path=path, reason=error.strerror or str(error)) from error
    except (*JSON_ERRORS, ValueError) as error:  # SQLite does not compare what it reads with a checksum
        raise JournalCorruptError(path=path, reason=f"a record: {error}") from error
