"""Replace the content of a SQLite file by that of a dump in one transaction, or create the file."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TypeVar

from dbctl import signals
from dbctl.engines.contract.dumps import LoadRequest, LoadResult
from dbctl.engines.file_locks import describe_lock_holders, list_lock_holders
from dbctl.engines.sqlite.connection import WAIT_SECONDS, connect
from dbctl.engines.sqlite.dump import create_step_callback
from dbctl.engines.sqlite.errors import (
    UNSYNCED,
    ErrorContext,
    get_error_name,
    is_busy,
    translate_create_error,
    translate_error,
)
from dbctl.engines.sqlite.files import (
    SIDE_FILES,
    list_descriptors,
    list_partial_files,
    may_reappear,
    new_partial_path,
)
from dbctl.errors.backup import RestoreUnfinishedError
from dbctl.errors.connection import BusyError, WriteConflictError
from dbctl.errors.usage import NotSupportedError
from dbctl.files.atomic import create_empty, sync_directory, sync_file, sync_name, translate_errors
from dbctl.files.lock import wait_for_lock

T = TypeVar("T")

#: Milliseconds that one try waits for the lock. A busy writer leaves gaps of microseconds, so most tries are short;
#: overlapping readers are only blocked while a try lasts, so some tries are long.
LOCK_WAITS_MS = (2,) * 20 + (250,)
#: Offset and size of the change counter in the header of a file.
CHANGE_COUNTER_OFFSET, CHANGE_COUNTER_BYTES = 24, 4
#: Bytes per step: half of what SQLite caches before it writes into the file.
STEP_BYTES = 1 << 20

#: Maximum mode of a new file: no access for other users.
MAX_MODE = 0o660
#: Bytes that contain the header of a database with any page size.
FIRST_BLOCK_BYTES = 4096

#: Errors after the journal was deleted, when the new rows cannot be rolled back: the deletion could not be synced, or a
#: smaller file could not be truncated.
AFTER_COMMIT_ERRORS = (UNSYNCED, "SQLITE_IOERR_TRUNCATE")


class ContentReplacer:
    """Replaces the content of a database with a dump. An existing database keeps its ``journal_mode``; a new one gets that in the metadata."""

    def __init__(self, context: ErrorContext, request: LoadRequest) -> None:
        self.context, self._path, self._source = context, context.path, request.path
        self._request, self._metadata = request, request.dump.metadata

    def replace_content(self, *, refuses_changes: bool = True) -> LoadResult:
        """Replace the content; ``refuses_changes``: only if nothing was written since writers were unblocked."""
        try:
            with closing(self._connect(self._path)) as live, closing(self._connect(self._path)) as observer:
                detector = _ChangeDetector(observer, self.context, self._request.release_locks)
                self._overwrite(live, detector if refuses_changes else None)
                return LoadResult(method="in place")
        except sqlite3.Error as error:
            if get_error_name(error) in AFTER_COMMIT_ERRORS or may_reappear(error, self._path):
                raise RestoreUnfinishedError(target=self.context.target, reason=error) from error
            if get_error_name(error) != "SQLITE_NOTADB":
                raise translate_error(error, self.context) from error
        self.create(owner=self._path.stat())
        return LoadResult(method="replaced")

    def _connect(self, path: Path) -> sqlite3.Connection:
        return connect(path, "mode=rw", timeout=min(WAIT_SECONDS, self.context.timeout))

    def _overwrite(self, live: sqlite3.Connection, detector: _ChangeDetector | None = None) -> None:
        with closing(connect(self._source, "mode=ro&immutable=1")) as source:
            # The current schema is not needed; with this pragma a damaged one does not prevent reading the mode.
            live.execute("pragma writable_schema = on")
            # A smaller file is truncated after its journal was deleted, and the deletion must be synced by then:
            # otherwise the journal may reappear after a power failure, without the pages that were truncated.
            live.execute("pragma synchronous = extra")
            page_size = source.execute("pragma page_size").fetchone()
            (journal_mode,) = self._wait(lambda: live.execute("pragma journal_mode").fetchone())
            # in WAL mode the page size cannot change, and SQLite's error would be misleading
            changes_page_size = (
                journal_mode == "wal" and live.execute("pragma page_size").fetchone() != page_size
            )
            if detector:
                detector.start(str(journal_mode))
            if changes_page_size:
                if detector:
                    detector.stop()  # no other process may have it open now, so none can change it
                live.execute("pragma locking_mode = exclusive")  # no other process may open it now
                self._wait(lambda: live.execute("pragma journal_mode = delete").fetchone())
            try:
                self._copy(source, live, detector)
            finally:
                if changes_page_size:  # fetch the result, because otherwise errors would be lost
                    live.execute("pragma journal_mode = wal").fetchall()
        if journal_mode == "wal":
            with suppress(sqlite3.Error):  # a reader may still need the old pages; the app checkpoints later
                live.execute("pragma wal_checkpoint(truncate)")

    def _copy(
        self, source: sqlite3.Connection, live: sqlite3.Connection, detector: _ChangeDetector | None
    ) -> None:
        """Write everything in one transaction; retry the first step until it gets the lock."""
        (page_size,), (pages,) = (
            source.execute(f"pragma {pragma}").fetchone() for pragma in ("page_size", "page_count")
        )
        # The first step must not be the last, which commits, nor fill the cache, which would block readers.
        step_pages = min((pages + 1) // 2, STEP_BYTES // page_size)

        def progress(share: float) -> None:
            if detector:
                detector.check()
            self._request.progress(share)
            if share < 1:
                signals.raise_if_interrupted()  # the next step may be the last

        waits = cycle(LOCK_WAITS_MS)

        def copy() -> None:
            live.execute(f"pragma busy_timeout = {next(waits)}")
            source.backup(live, pages=step_pages, progress=create_step_callback(progress, _raise_locked))

        self._wait(copy)

    def _wait(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, which is called again while another process holds a lock."""

        def try_call() -> T:
            try:
                return call()
            except sqlite3.Error as error:
                if is_busy(error):
                    raise BlockingIOError from error
                raise

        context = self.context  # a call waits inside SQLite, so no pause is needed
        holder = partial(describe_lock_holders, context.path)
        return wait_for_lock(context.target, context.timeout, try_call, holder, pause=0)

    def create(self, *, owner: os.stat_result, can_consume: bool = False) -> LoadResult:
        """Create the database with the owner of ``owner``: its directory, or the file that it replaces."""
        with self.build(owner=owner, can_consume=can_consume) as partial:
            self.install(partial)
        return LoadResult(method="new")

    @contextmanager
    def build(self, *, owner: os.stat_result, can_consume: bool = False) -> Iterator[Path]:
        """Yield the new database next to its place, and remove it at the end unless it was installed."""
        refuse_users(self._path, self.context.target)
        partial = new_partial_path(self._path)
        mode = stat.S_IMODE(owner.st_mode) if stat.S_ISREG(owner.st_mode) else _read_mode(self._metadata)
        try:
            with self._translate_errors():
                for leftover in list_partial_files(self._path):  # left by a dbctl that was killed
                    leftover.unlink()
                is_moved = can_consume and self._move_source(partial)
                if not is_moved:
                    create_empty(partial)
                with closing(self._connect(partial)) as db:
                    if not is_moved:
                        self._overwrite(db)
                    if self._metadata.get("journal_mode") == "wal":
                        db.execute("pragma journal_mode = wal").fetchall()
                if os.geteuid() == 0:  # the app must be able to open the file
                    os.chown(partial, owner.st_uid, owner.st_gid)
                partial.chmod(mode)
                sync_file(partial)
            yield partial
        finally:
            remove_files(partial)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            with translate_errors(self._path, self._path.parent):
                yield
        except sqlite3.Error as error:
            raise translate_create_error(error, self.context) from error

    def _move_source(self, partial: Path) -> bool:
        """Rename the source; return False if it is on another file system."""
        try:
            self._source.rename(partial)
        except OSError:  # on another file system
            return False
        self._request.progress(1.0)
        return True

    def install(self, partial: Path) -> None:
        """Rename the new file, after removing old side files, which SQLite would apply to it.

        Raises:
            FileUnsyncedError: it has its place, but the folder could not be synced.
        """
        with self._translate_errors():
            for suffix in SIDE_FILES:
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            sync_directory(self._path.parent)
            try:
                partial.rename(self._path)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                self._write_in_place(partial)  # the file itself is a mount point, as in containers
        sync_name(self._path)

    def _write_in_place(self, partial: Path) -> None:
        """Write the new database into the existing file, which keeps its owner and mode.

        The first page is written last: an interrupted write leaves an invalid file, which the next restore replaces.

        Raises:
            OSError: not enough free space; nothing was changed.
            RestoreUnfinishedError: the file could not be written completely.
        """
        with partial.open("rb", buffering=0) as source, self._path.open("r+b", buffering=0) as file:
            size = os.fstat(source.fileno()).st_size
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            try:
                with signals.defer_signals():
                    first_block = os.pread(source.fileno(), FIRST_BLOCK_BYTES, 0)
                    os.pwrite(file.fileno(), bytes(len(first_block)), 0)
                    os.fsync(file.fileno())
                    source.seek(len(first_block))
                    file.seek(len(first_block))
                    while block := memoryview(source.read(STEP_BYTES)):
                        while block:
                            block = block[file.write(block) :]
                    file.truncate(size)
                    os.fsync(file.fileno())
                    os.pwrite(file.fileno(), first_block, 0)
                    os.fsync(file.fileno())
            except OSError as error:
                raise RestoreUnfinishedError(target=self.context.target, reason=error) from error
        partial.unlink()


def refuse_users(path: Path, target: str) -> None:
    """Refuse to create a file if a process has the invalid or deleted one open, and would continue to write into that."""
    try:
        holders = list_lock_holders(path)
    except NotSupportedError as error:
        if not path.exists():
            return  # other systems do not list deleted files either
        raise NotSupportedError(
            feature=f"replacing the invalid file {path}",
            subject="a system that does not report open files",
            hint="Stop the app, move the file away, and restore again.",
        ) from error
    if holders:
        descriptions = ", ".join(f"pid {process.pid} ({process.command})" for process in holders)
        kind = "invalid" if path.exists() else "deleted"
        busy = BusyError(target=target, holder=f" by {descriptions}", waited="0")
        busy.hint = f"Nothing was changed. Stop what has the {kind} file open, and run it again."
        raise busy


def remove_files(path: Path) -> None:
    """Remove a database and its side files, as far as they exist."""
    for suffix in ("", *SIDE_FILES):
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink()


def _read_mode(metadata: Mapping[str, str]) -> int:
    """Return the mode that the database had when it was backed up, without access for other users."""
    try:
        return int(metadata.get("mode", ""), 8) & MAX_MODE | 0o600
    except ValueError:  # an older backup does not contain it
        return 0o600


class _ChangeDetector:
    """Detector of changes of a database after its writers were unblocked and before its lock was taken."""

    def __init__(
        self, observer: sqlite3.Connection, context: ErrorContext, release_locks: Callable[[], None]
    ) -> None:
        self._observer, self._context, self._release, self._mode = observer, context, release_locks, ""
        self._initial_version: object = None

    def start(self, mode: str) -> None:
        self._mode = mode
        self._initial_version = self._read_version()
        self._release()

    def check(self) -> None:
        """Raise WriteConflictError after a change; after the first step this process has the lock."""
        if self._initial_version is not None and self._initial_version != self._read_version():
            raise WriteConflictError(target=self._context.target)
        self._initial_version = None

    def stop(self) -> None:
        self._initial_version = None
        self._observer.close()

    def _read_version(self) -> object:
        """Return a value that changes with each commit of another process; None if there is none.

        Without a -wal the lock of the first step blocks all readers, so the change counter is read from the file.
        """
        if self._mode == "wal":
            return self._observer.execute("pragma data_version").fetchall()
        with suppress(OSError):
            for descriptor in list_descriptors(self._context.path):
                return os.pread(descriptor, CHANGE_COUNTER_BYTES, CHANGE_COUNTER_OFFSET)
        return None


def _raise_locked() -> None:
    raise BlockingIOError
