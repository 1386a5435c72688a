"""A SQLite file copied while others write it, into a file of its own that needs nothing beside it.

Copying the bytes of a file that is written gives a torn copy, now and then one that every check calls sound. So the
copy goes through SQLite's own backup interface, under a read transaction: a backup without one begins anew at each
commit of somebody else, and never ends beside a busy writer.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Dumped
from dbctl.engines.sqlite.errors import Place, name_of, unmade
from dbctl.engines.sqlite.files import SIDE_FILES
from dbctl.errors import DbctlError, DiskFullError, FileFailedError
from dbctl.files import Progress, is_full
from dbctl.model import now

#: Pages that are copied at a time: between two steps signals are heard, about every 20 ms.
STEP = 4096
#: Errors of the file that is read; every other one comes from the file that is written.
OF_THE_SOURCE = ("SQLITE_BUSY", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT")


def dump(source: sqlite3.Connection, destination: Path, progress: Progress) -> Dumped:
    """Copy what ``source`` sees now into the new file ``destination``.

    Raises:
        sqlite3.Error: of the source; somebody else may hold a lock.
        DiskFullError, FileFailedError: of the destination.
    """
    facts = {
        name: str(source.execute(f"pragma {name}").fetchone()[0]) for name in ("page_size", "encoding")
    } | {"sqlite": sqlite3.sqlite_version}
    with _made(destination), _pinned(source):
        taken = now()
        _copy(source, destination, progress)
    return Dumped(taken_at=taken, facts=facts)


@contextmanager
def _pinned(source: sqlite3.Connection) -> Iterator[None]:
    """Hold one moment of the database: what others commit meanwhile is not seen."""
    source.execute("begin")
    try:
        source.execute("select 1 from sqlite_master limit 1").fetchall()  # which is when the moment begins
        yield
    finally:
        if source.in_transaction:
            source.execute("rollback")


@contextmanager
def _made(path: Path) -> Iterator[None]:
    """Make an empty file that nobody else may read; remove what became of it when the block raises."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        yield
        # SQLite removes what stood beside it, and does not tell where that failed.
        for suffix in SIDE_FILES:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    except BaseException as error:  # also on a signal: half a copy must not stay
        if not isinstance(error, FileExistsError):
            for suffix in ("", *SIDE_FILES):
                with suppress(OSError):
                    Path(f"{path}{suffix}").unlink()
        if isinstance(error, OSError):
            raise _failed(path, error) from error
        raise


def _failed(path: Path, error: OSError) -> DbctlError:
    if is_full(error):
        return DiskFullError(target=str(path.parent))
    return FileFailedError(path=path, reason=error.strerror or str(error))


def _copy(source: sqlite3.Connection, destination: Path, progress: Progress) -> None:
    there = Place(target=str(destination.parent), path=destination, timeout=0, reading=False)
    try:
        copy = sqlite3.connect(destination, isolation_level=None)
        try:
            # Until the whole is synced nothing of it counts, so it needs no journal, and no lock either.
            for pragma in ("locking_mode = exclusive", "journal_mode = off", "synchronous = off"):
                copy.execute(f"pragma {pragma}")
            source.backup(copy, pages=STEP, progress=steps(progress))
            # Copied from a file in WAL mode, it would grow a -wal of its own whenever it is opened.
            copy.execute("pragma journal_mode = delete").fetchall()  # or its failure would not be heard
        finally:
            copy.close()
    except sqlite3.Error as error:
        if name_of(error).startswith(OF_THE_SOURCE):
            raise
        raise unmade(error, there) from error


def steps(progress: Progress, held_up: Callable[[], None] = lambda: None) -> Callable[[int, int, int], None]:
    """Return what SQLite's backup interface is to call after each step.

    It is called after a step that met a lock, too: Python tries such a step again for ever, and only an exception
    ends that. After the last step everything is committed, and a signal comes too late to be heard.

    Args:
        progress: told the share that is done.
        held_up: called after a step that met a lock; may raise.
    """

    def step(status: int, remaining: int, total: int) -> None:
        if status != sqlite3.SQLITE_DONE:
            signals.check()
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            held_up()
        elif total:
            progress((total - remaining) / total)

    return step
