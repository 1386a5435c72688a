"""A dump brought into the place of a SQLite file that an app may hold open.

A file that somebody has open is never replaced or written over: the app would go on in the old one, and what it
commits there would be lost without a word. SQLite's own backup interface writes the whole content as one transaction
of the database instead; whoever reads sees the old content or the new.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from dbctl import signals
from dbctl.engines.contract import Loaded
from dbctl.engines.file_locks import holder_of, holders_of
from dbctl.engines.sqlite.backup.dumper import steps
from dbctl.engines.sqlite.connection import WAIT_SECONDS
from dbctl.engines.sqlite.errors import UNSYNCED, Place, is_busy, name_of, translated, unmade
from dbctl.engines.sqlite.files import SIDE_FILES, partial_name, partials, quoted, refuse_unsafe
from dbctl.engines.sqlite.wal import descriptors, may_come_back
from dbctl.errors import (
    BusyError,
    FileFailedError,
    NotSupportedError,
    RestoreUnfinishedError,
    SameFileError,
    StirredError,
)
from dbctl.files import Progress, at_once, sync_directory, sync_file

#: Milliseconds that one try waits for the lock. A writer that hardly pauses leaves gaps of microseconds, so most tries
#: are short; readers that overlap each other are only kept from beginning anew while a try lasts, so some are long.
WAITS = (2,) * 20 + (250,)
#: Where the head of a file counts its commits, and in how many bytes.
COUNTER_AT, COUNTER = 24, 4
#: Bytes that are written at a time: half of what SQLite keeps in memory before it writes into the file itself.
STEP_BYTES = 1 << 20

#: The rights that a new file gets at most: those of its owner and group; it may be made where others look.
MOST = 0o660
#: Bytes that hold the head of a database, whatever the size of its pages.
FIRST = 4096

#: Failures that come once the journal is gone, when nothing takes the new rows back any more: it could not be synced
#: that it is, or a file that became shorter could not be cut.
BEHIND_THE_COMMIT = (UNSYNCED, "SQLITE_IOERR_TRUNCATE")


def load(
    path: Path,
    source: Path,
    target: str,
    *,
    timeout: float,
    facts: Mapping[str, str],
    progress: Progress,
    let_go: Callable[[], None] = at_once,
    spare: bool = False,
) -> Loaded:
    """Bring the content of the dump ``source`` into the place of the database ``path``.

    Whoever calls has proven ``source`` and kept what ``path`` and its side files hold now. ``journal_mode`` stays as
    it is in an existing database, and is the one in ``facts`` in a new one. A ``spare`` source becomes the new one itself.

    Raises:
        BusyError: somebody held a lock for all of ``timeout`` seconds; nothing was changed.
        StirredError: somebody else changed it between ``let_go`` and the first step; nothing was changed.
        SameFileError: ``source`` is the database itself.
    """
    path = Path(os.path.realpath(path))
    place = Place(target=target, path=path, timeout=timeout, reading=False)
    if not path.exists():
        return _Loading(place, source, progress, spare=spare).make(facts, like=path.parent.stat())
    if path.samefile(source):  # which SQLite would try for ever
        raise SameFileError(path=source)
    refuse_unsafe(path, target)
    return _Loading(place, source, progress).bring(facts, let_go)


class _Loading:
    def __init__(self, place: Place, source: Path, progress: Progress, *, spare: bool = False) -> None:
        self._place, self._path, self._source, self._progress = place, place.path, source, progress
        self._spare = spare

    def bring(self, facts: Mapping[str, str], let_go: Callable[[], None]) -> Loaded:
        try:
            with closing(self._connected(self._path)) as live, closing(self._connected(self._path)) as other:
                self._write_over(live, _Watch(other, self._place, let_go))
                return Loaded(way="in place")
        except sqlite3.Error as error:
            if name_of(error) in BEHIND_THE_COMMIT or may_come_back(error, self._path):
                raise RestoreUnfinishedError(target=self._place.target, reason=error) from error
            if name_of(error) != "SQLITE_NOTADB":
                raise translated(error, self._place) from error
        return self._replace(facts)

    def _connected(self, path: Path) -> sqlite3.Connection:
        wait = min(WAIT_SECONDS, self._place.timeout)
        return sqlite3.connect(f"file://{quoted(path)}?mode=rw", uri=True, isolation_level=None, timeout=wait)

    def _write_over(self, live: sqlite3.Connection, watch: _Watch | None = None) -> None:
        with closing(
            sqlite3.connect(f"file://{quoted(self._source)}?mode=ro&immutable=1", uri=True)
        ) as source:
            # Nothing here needs the live schema; without this, one that is damaged would not even tell its mode.
            live.execute("pragma writable_schema = on")
            # A file that becomes shorter is cut once its journal is gone, and that must have reached the disk by then:
            # else the journal comes back after a power cut, and lacks the pages that were cut off.
            live.execute("pragma synchronous = extra")
            (size,) = source.execute("pragma page_size").fetchone()
            (mode,) = self._patiently(lambda: live.execute("pragma journal_mode").fetchone())
            another = mode == "wal" and live.execute("pragma page_size").fetchone() != (size,)
            if watch:
                watch.begin(str(mode))
            if another:  # in WAL mode the size of a page cannot change, and SQLite's error would not say so
                if watch:
                    watch.end()  # nobody else may have it open now, so nobody can change it either
                live.execute("pragma locking_mode = exclusive")  # or somebody could come in meanwhile
                self._patiently(lambda: _left_wal(live))
            try:
                self._copy(source, live, watch)
            finally:
                if another:
                    live.execute("pragma journal_mode = wal").fetchall()  # or its failure would not be heard
        if mode == "wal":
            with suppress(sqlite3.Error):  # a reader may still need the old pages; the app does it later then
                live.execute("pragma wal_checkpoint(truncate)")

    def _copy(self, source: sqlite3.Connection, live: sqlite3.Connection, watch: _Watch | None) -> None:
        """Write everything as one transaction, as soon as its first step gets the lock for it."""
        deadline = _Deadline(self._place)
        (size,), (pages,) = (
            source.execute(f"pragma {one}").fetchone() for one in ("page_size", "page_count")
        )
        # The first step must neither be the last, which commits, nor fill the cache, which shuts readers out.
        at_a_time = min((pages + 1) // 2, STEP_BYTES // size)

        def progress(share: float) -> None:
            if watch:
                watch.look()
            self._progress(share)
            if share < 1:
                signals.check()  # the next step may be the last

        for wait in cycle(WAITS):
            live.execute(f"pragma busy_timeout = {wait}")
            try:
                source.backup(live, pages=at_a_time, progress=steps(progress, _try_again))
            except _HeldUpError:
                deadline.look()
            else:
                return

    def _patiently(self, call: Callable[[], tuple[object, ...]]) -> tuple[object, ...]:
        deadline = _Deadline(self._place)
        while True:
            try:
                return call()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
                deadline.look()

    def make(self, facts: Mapping[str, str], *, like: os.stat_result) -> Loaded:
        """Make the database where there is none, owned like its directory or like the file it comes after."""
        partial = partial_name(self._path)
        mode = stat.S_IMODE(like.st_mode) if stat.S_ISREG(like.st_mode) else _mode_in(facts)
        try:
            for left in partials(self._path):  # by a dbctl that was killed
                left.unlink()
            moved = self._spare and self._moved(partial)
            if not moved:
                os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            try:
                with closing(self._connected(partial)) as made:
                    if not moved:
                        self._write_over(made)
                    if facts.get("journal_mode") == "wal":
                        made.execute("pragma journal_mode = wal").fetchall()
                if os.geteuid() == 0:  # what root makes is for the app
                    os.chown(partial, like.st_uid, like.st_gid)
                partial.chmod(mode)
                sync_file(partial)
                self._put(partial)
            except BaseException:  # also on a signal: a half-written file must not stay
                for suffix in ("", *SIDE_FILES):
                    with suppress(OSError):
                        Path(f"{partial}{suffix}").unlink()
                raise
        except sqlite3.Error as error:
            raise unmade(error, self._place) from error
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        return Loaded(way="new")

    def _moved(self, partial: Path) -> bool:
        """Take the source itself; return whether it could be."""
        try:
            self._source.rename(partial)
        except OSError:  # it is on another disk
            return False
        self._progress(1.0)
        return True

    def _put(self, partial: Path) -> None:
        """Give the new file its name, once no side file of an old one is left, which SQLite would mix into it."""
        for suffix in SIDE_FILES:
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        sync_directory(self._path.parent)
        try:
            partial.rename(self._path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._write_into(partial)  # the file itself is mounted, as containers do it
        sync_directory(self._path.parent)

    def _write_into(self, partial: Path) -> None:
        """Write the new database into the file that is there, which keeps its owner and mode.

        Its first page comes last: cut off before, it is no database, and the next restore begins again.

        Raises:
            OSError: there is no room; nothing was changed.
            RestoreUnfinishedError: it could not be written to its end.
        """
        with partial.open("rb", buffering=0) as source, self._path.open("r+b", buffering=0) as file:
            size = os.fstat(source.fileno()).st_size
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            try:
                with signals.held():
                    first = os.pread(source.fileno(), FIRST, 0)
                    os.pwrite(file.fileno(), bytes(len(first)), 0)
                    os.fsync(file.fileno())
                    source.seek(len(first))
                    file.seek(len(first))
                    while block := memoryview(source.read(STEP_BYTES)):
                        while block:
                            block = block[file.write(block) :]
                    file.truncate(size)
                    os.fsync(file.fileno())
                    os.pwrite(file.fileno(), first, 0)
                    os.fsync(file.fileno())
            except OSError as error:
                raise RestoreUnfinishedError(target=self._place.target, reason=error) from error
        partial.unlink()

    def _replace(self, facts: Mapping[str, str]) -> Loaded:
        """Put a new file in the place of one that is no database any more, which nobody can hold for long."""
        try:
            holders = holders_of(self._path)
        except NotSupportedError as error:
            self._refuse_to_replace(error)
        if holders:
            named = ", ".join(f"pid {one.pid} ({one.command})" for one in holders)
            raise BusyError(target=self._place.target, holder=f" by {named}", waited="0")
        self.make(facts, like=self._path.stat())
        return Loaded(way="replaced")

    def _refuse_to_replace(self, why: Exception) -> NoReturn:
        raise NotSupportedError(
            what=f"replacing {self._path}, which is no database any more,",
            by="a system that does not tell who has it open",
            instead="Stop the app, move the file away, and restore again.",
        ) from why


def _mode_in(facts: Mapping[str, str]) -> int:
    """Return the mode of a database file when it was backed up, without rights for others."""
    try:
        return int(facts.get("mode", ""), 8) & MOST | 0o600
    except ValueError:  # an older backup does not tell it
        return 0o600


class _Watch:
    """Tells whether somebody has changed a database since all were kept from that, and before its lock was taken."""

    def __init__(self, other: sqlite3.Connection, place: Place, let_go: Callable[[], None]) -> None:
        self._other, self._place, self._let_go, self._mode = other, place, let_go, ""
        self._seen: object = None

    def begin(self, mode: str) -> None:
        self._mode = mode
        self._seen = self._version()
        self._let_go()

    def look(self) -> None:
        """Raise StirredError if somebody has; behind the first step the lock is ours."""
        if self._seen is not None and self._seen != self._version():
            raise StirredError(target=self._place.target)
        self._seen = None

    def end(self) -> None:
        self._seen = None
        self._other.close()

    def _version(self) -> object:
        """Return what changes with each commit of somebody else; None where that cannot be told.

        Without a -wal the lock of the first step shuts all readers out, and nothing is written yet: the file tells.
        """
        if self._mode == "wal":
            return self._other.execute("pragma data_version").fetchall()
        try:
            return next((os.pread(one, COUNTER, COUNTER_AT) for one in descriptors(self._place.path)), None)
        except OSError:
            return None


class _Deadline:
    """Looks whether what is waited for has taken too long."""

    def __init__(self, place: Place) -> None:
        self._place, self._at = place, time.monotonic() + place.timeout

    def look(self) -> None:
        """Raise BusyError once the time is over, and Interrupted when a signal came."""
        signals.check()
        if time.monotonic() >= self._at:
            held = holder_of(self._place.path)
            raise BusyError(target=self._place.target, holder=held, waited=f"{self._place.timeout:g}")


class _HeldUpError(Exception):
    """Somebody else holds a lock."""


def _try_again() -> None:
    raise _HeldUpError


def _left_wal(live: sqlite3.Connection) -> tuple[object, ...]:
    """Leave WAL mode, which needs that nobody else has the file open."""
    found: tuple[object, ...] = live.execute("pragma journal_mode = delete").fetchone()
    return found


def files_of(path: Path) -> Sequence[Path]:
    """Return the files that hold a database now: the file and what stands beside it with rows that count."""
    path = Path(os.path.realpath(path))
    named = (Path(f"{path}{suffix}") for suffix in ("", "-wal", "-journal"))
    return [one for one in named if os.path.lexists(one)]
