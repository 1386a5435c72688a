"""The file of the event store: a SQLite database that never delays or fails the command whose events it records."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.files.lock import find_planted
from dbctl.files.mounts import read_volume
from dbctl.model import JSON_ERRORS

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database

FILE_NAME = "events.sqlite"
#: The files that earlier versions had instead, which are imported; rotated parts of the log of changes have a further suffix.
LEGACY_NAME, LEGACY_LOG = "journal.sqlite", "audit.jsonl"
IMPORTED = ".imported"  #: their suffix afterwards
#: The number of migrations in ``schema``, which is the ``user_version`` of the file.
VERSION = 1
#: Of the database, and of the files that SQLite creates next to it.
SUFFIXES = ("", "-wal", "-shm", "-journal")
#: Seconds to wait for a writer: a write takes a millisecond, so a longer wait means that another program locked the file.
BUSY_SECONDS, _RETRY_SECONDS = 1.0, 0.002
#: Size of the write-ahead log after which a writer moves its content to the file, and waits for the disk.
CHECKPOINT_BYTES = 512 << 10
#: Errors of SQLite where processes cannot share memory.
_NO_SHARED_MEMORY = (sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE)


class EventStore:
    """The store in a folder. Each block opens the file, and closes it again unless ``stay_open`` was called."""

    def __init__(self, folder: Path) -> None:
        """Open nothing yet."""
        self.folder, self.path = folder, folder / FILE_NAME
        self._stays_open, self._opened = False, ExitStack()
        self._writer: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None  #: of the opened file
        #: whether the connection waits for the disk at each commit; None: as SQLite was built
        self._is_synced: bool | None = None

    def stay_open(self) -> None:
        """Leave the file open between blocks that write: opening it takes longer than a record.

        It is closed before the process forks, because two processes must not share a connection of SQLite.
        """
        self._stays_open = True
        _OPEN.add(self)

    def release(self) -> None:
        """Close the file, and from now on after each block."""
        self._stays_open = False
        self._close()

    @contextmanager
    def writing(self, *, sync: bool = False, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that is committed at the end; the store is created if it is missing.

        Args:
            sync: whether to wait at the end until the disk has it. Otherwise, a power failure can lose the newest events, but damages nothing.
            seconds: how long to wait for other writers; None: ``BUSY_SECONDS``.

        Raises:
            JournalUnavailableError: it cannot be created, opened or written, or is locked.
            JournalCorruptError: it is damaged, or the block reads a damaged record.
        """
        with translate_errors(self.path):
            self._prepare(create=True)
            with self._connect() as connection:
                if sync is not self._is_synced:
                    connection.execute(f"pragma synchronous = {'full' if sync else 'normal'}")
                    self._is_synced = sync
                _begin(connection, BUSY_SECONDS if seconds is None else seconds)
                log_bytes = self._find_log()
                try:
                    # Another program may have upgraded it since it was opened.
                    if _read_version(connection, self.path) < VERSION:
                        _upgrade(connection)
                    if log_bytes is None:  # readers delay a commit only without a write-ahead log
                        connection.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
                if log_bytes is None:
                    connection.execute("pragma busy_timeout = 0")
                elif (self._find_log() or 0) > CHECKPOINT_BYTES:
                    with suppress(sqlite3.OperationalError):
                        connection.execute("pragma wal_checkpoint(truncate)")

    @contextmanager
    def reading(self) -> Iterator[Database | None]:
        """Yield the database of sqlite-utils on a connection that cannot write; None: nothing was recorded yet.

        Raises:
            JournalUnavailableError: it cannot be opened.
            JournalCorruptError: it is damaged, or the block reads a damaged record.
        """
        with translate_errors(self.path):
            if not self._prepare(create=False):
                yield None
                return
            with connect_for_reading(self.path) as connection:
                from dbctl.sqlite_library import Database

                yield Database(connection, recursive_triggers=False, execute_plugins=False)

    def release_pages(self, *, max_pages: int) -> None:
        """Return free pages to the file system, if most pages are free, and at most ``max_pages`` are in use; a failure is ignored."""
        with suppress(JournalUnavailableError), translate_errors(self.path), self._connect() as connection:
            connection.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")
            counts = (
                connection.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "freelist_count")
            )
            total, free = counts
            if free > total / 2 and total - free <= max_pages:
                connection.execute("vacuum")
                connection.execute("pragma wal_checkpoint(truncate)")

    @property
    def is_read_only(self) -> bool:
        """Whether this process can neither write the store nor create it."""
        if os.path.exists(self.path) and not os.access(self.path, os.W_OK):  # noqa: PTH110 - False if denied
            return True
        folders = (self.folder, *self.folder.parents)
        folder = next(folder for folder in folders if os.path.exists(folder))  # noqa: PTH110 - False if denied
        return not (folder.is_dir() and os.access(folder, os.W_OK))

    def _prepare(self, *, create: bool) -> bool:
        """Create the file if it is missing and ``create`` is set, or if there are files of earlier versions; return whether it exists."""
        if exists(self.path):
            # The last files that are renamed; a process that was killed may have left them.
            paths = (f"{self.folder / name}" for name in (LEGACY_LOG, LEGACY_NAME))
            if any(os.path.lexists(path) and not os.path.lexists(f"{path}{IMPORTED}") for path in paths):
                from dbctl.services.events import legacy

                with suppress(OSError, sqlite3.OperationalError), legacy.lock_files(self.folder, seconds=0):
                    _delete_abandoned(self.folder)
                    legacy.rename_files(self.folder, is_new=False)
            return True
        from dbctl.services.events import legacy

        if not (create or legacy.has_files(self.folder)):
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with legacy.lock_files(self.folder):
            _delete_abandoned(self.folder)
            is_new = not exists(self.path)
            if is_new:
                self._create()
            legacy.rename_files(self.folder, is_new=is_new)
        return True

    def _create(self) -> None:
        """Create the file under another name, so that no process sees an incomplete one."""
        temporary = self.path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            # The processes of a write-ahead log share memory, which those of several machines cannot.
            if read_volume(self.folder).is_network or not _write_content(temporary, journal_mode="wal"):
                _write_content(temporary, journal_mode="delete")
            try:
                self.path.hardlink_to(temporary)
            except FileExistsError:  # another process created it, in a file system without locks
                pass
            except OSError:  # a file system without hard links
                temporary.replace(self.path)
        finally:
            _delete(temporary)

    def _find_log(self) -> int | None:
        """Return the size of the write-ahead log of the opened file; None: it has none."""
        try:
            return os.stat(f"{self.path}-wal").st_size  # noqa: PTH116 - as in exists
        except FileNotFoundError:
            return None

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose end does not wait for the disk.

        The last connection to a database moves the write-ahead log to the file when it is closed, and synchronizes both, which takes
        several times as long as a write. A connection without write access cannot do that, so it is closed last.
        """
        try:
            if self._file and not os.path.samestat(self._file, self.path.stat()):
                self._close()
            if self._writer is None:
                self._opened.enter_context(connect_for_reading(self.path))
                connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)  # see _begin
                self._writer = self._opened.enter_context(closing(connection))
                self._writer.execute("pragma wal_autocheckpoint = 0")
                self._file, self._is_synced = self.path.stat(), None
            yield self._writer
        except BaseException:
            self._close()
            raise
        if not self._stays_open:
            self._close()

    def _close(self) -> None:
        self._writer = self._file = None
        self._opened.close()


#: The stores that may be open between blocks.
_OPEN = WeakSet[EventStore]()


def _close_all() -> None:
    for store in _OPEN:
        store._close()  # noqa: SLF001 - of this module


os.register_at_fork(before=_close_all)


def exists(path: Path) -> bool:
    """Whether a database of dbctl exists.

    Raises:
        JournalUnavailableError: another user planted it, or it is no file; SQLite would wait for the writer of a named pipe.
    """
    for suffix in SUFFIXES:
        if reason := find_planted(f"{path}{suffix}"):
            raise JournalUnavailableError(path=f"{path}{suffix}", reason=reason)
    try:
        status = path.stat()
    except FileNotFoundError:
        return path.is_symlink()  # opening it fails with a reason
    if not stat.S_ISREG(status.st_mode):
        raise JournalUnavailableError(path=path, reason="it is not a regular file")
    return True


@contextmanager
def connect_for_reading(path: Path, newest: int | None = None) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a store, or to a journal of an earlier version of dbctl.

    On a read-only file system without the memory of the log, connect only to the file itself. ``newest`` is the newest supported
    version, by default that of the store.

    Raises:
        JournalUnavailableError: a newer version of dbctl wrote it.
        JournalCorruptError: another program wrote it.
    """
    from urllib.parse import quote

    uri = f"file:{quote(os.fsencode(path))}?mode=ro"
    with ExitStack() as stack:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        stack.callback(connection.close)
        try:
            _read_version(connection, path, newest)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            stack.close()
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
            stack.callback(connection.close)
            _read_version(connection, path, newest)
        yield connection


def _read_version(connection: sqlite3.Connection, path: Path, newest: int | None = None) -> int:
    """Return the version of the schema; as ``connect_for_reading``."""
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > (newest or VERSION):
        raise JournalUnavailableError(path=path, reason="a newer version of dbctl wrote it")
    if version < 1:
        raise JournalCorruptError(path=path, reason="dbctl did not write it")
    return int(version)


def storable_text(text: str) -> str:
    """Return a text as the store has it: bytes of file names that are not UTF-8 are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _write_content(path: Path, *, journal_mode: str) -> bool:
    """Create a store with what earlier versions recorded; False: the file system has no shared memory for a write-ahead log, and nothing was created."""
    from dbctl.services.events import legacy

    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, path.parent)  # SQLite gives the files next to it the same owner
    finally:
        os.close(descriptor)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"pragma journal_mode = {journal_mode}")
            connection.execute("begin")
            _upgrade(connection)
            legacy.import_files(connection, path.parent)
            connection.execute("commit")
            # Closing it would do the same, but hide that the disk is full; the log is not part of the new store.
            connection.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_SHARED_MEMORY:
            raise
        _delete(path)
        return False
    return True


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Give what root created in a folder to the owner of the folder, who could not use it otherwise, as far as that is permitted."""
    if os.geteuid() == 0:
        owner = folder.stat()
        with suppress(PermissionError):  # in some containers and network file systems
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _begin(connection: sqlite3.Connection, seconds: float) -> None:
    """Begin a transaction that has the lock of the store; SQLite itself would wait up to 0.1 s after it is free."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("begin immediate")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _upgrade(connection: sqlite3.Connection) -> None:
    from dbctl.services.events.schema import upgrade

    upgrade(connection, VERSION)


def _delete_abandoned(folder: Path) -> None:
    """Delete the incomplete stores of processes that were killed; the caller has the lock of the folder.

    A process that was killed may have had the id of this one, especially in a container.
    """
    for path in folder.glob(f".{FILE_NAME}.*"):
        match = re.fullmatch(r"([0-9]{1,9})(-[a-z]+)?", path.name.removeprefix(f".{FILE_NAME}."))
        if match and (int(match[1]) == os.getpid() or not _is_process(int(match[1]))):
            path.unlink(missing_ok=True)


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _delete(path: Path) -> None:
    """Delete a database and the files next to it."""
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
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
