"""Copy a SQLite file that other processes write into a single new file.

Copying the bytes of a file during a write gives an inconsistent copy, sometimes one that passes every check. So the copy
uses SQLite's backup interface inside a read transaction: without one, the backup restarts at each commit of another
process, and never ends while a busy process writes. sqlite-utils has neither the interface nor a pinned snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.dumps import DumpResult
from dbctl.engines.sqlite.errors import ErrorContext, get_error_name, translate_create_error
from dbctl.engines.sqlite.files import SIDE_FILES
from dbctl.files import atomic
from dbctl.files.atomic import create_empty
from dbctl.files.progress import Progress
from dbctl.model import now

#: Pages per step; signals are checked between two steps, about every 20 ms.
STEP_PAGES = 4096
#: Errors of the source file; all other errors come from the destination.
SOURCE_ERRORS = ("SQLITE_BUSY", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT")


def dump(source: sqlite3.Connection, destination: Path, progress: Progress) -> DumpResult:
    """Copy the current content of ``source`` into the new file ``destination``.

    Raises:
        sqlite3.Error: reading the source failed, for example because of a lock of another process.
        DiskFullError, FileFailedError: writing the destination failed.
    """
    metadata = {
        name: str(source.execute(f"pragma {name}").fetchone()[0]) for name in ("page_size", "encoding")
    } | {"sqlite": sqlite3.sqlite_version}
    with _create_file(destination), _pin_snapshot(source):
        taken_at = now()
        _copy(source, destination, progress)
    return DumpResult(taken_at=taken_at, metadata=metadata)


@contextmanager
def _pin_snapshot(source: sqlite3.Connection) -> Iterator[None]:
    """Keep one snapshot of the database; later commits are not visible."""
    source.execute("begin")
    try:
        # The snapshot begins with the first read.
        source.execute("select 1 from sqlite_master limit 1").fetchall()
        yield
    finally:
        if source.in_transaction:
            source.execute("rollback")


@contextmanager
def _create_file(path: Path) -> Iterator[None]:
    """Create an empty file with mode 0600; remove it and its side files if the block raises."""
    with atomic.translate_errors(path, path.parent):
        create_empty(path)
        try:
            yield
            # SQLite removes its side files, but does not report a failure to do so.
            for suffix in SIDE_FILES:
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        except BaseException:  # also on a signal: an incomplete copy must be removed
            for suffix in ("", *SIDE_FILES):
                with suppress(OSError):
                    Path(f"{path}{suffix}").unlink()
            raise


def _copy(source: sqlite3.Connection, destination: Path, progress: Progress) -> None:
    context = ErrorContext(target=str(destination.parent), path=destination)
    try:
        copy = sqlite3.connect(destination, isolation_level=None)
        try:
            # The copy is discarded unless it is complete and synced, so it needs neither a journal nor locks.
            for pragma in ("locking_mode = exclusive", "journal_mode = off", "synchronous = off"):
                copy.execute(f"pragma {pragma}")
            source.backup(copy, pages=STEP_PAGES, progress=create_step_callback(progress))
            # A copy of a file in WAL mode would get a -wal whenever it is opened.
            # Fetch the result; otherwise errors would be lost.
            copy.execute("pragma journal_mode = delete").fetchall()
        finally:
            copy.close()
    except sqlite3.Error as error:
        if get_error_name(error).startswith(SOURCE_ERRORS):
            raise
        raise translate_create_error(error, context) from error


def create_step_callback(
    progress: Progress, on_locked: Callable[[], None] = lambda: None
) -> Callable[[int, int, int], None]:
    """Return the callback that SQLite's backup interface calls after each step.

    It is also called after a step that met a lock: Python retries such a step without limit, and only an exception
    ends that. After the last step everything is committed, so signals are no longer checked.

    Args:
        progress: receives the finished share, from 0 to 1.
        on_locked: called after a step that met a lock; may raise.
    """

    def step(status: int, remaining: int, total: int) -> None:
        if status != sqlite3.SQLITE_DONE:
            signals.raise_if_interrupted()
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            on_locked()
        elif total:
            progress((total - remaining) / total)

    return step
