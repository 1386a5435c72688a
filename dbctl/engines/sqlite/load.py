"""A dump brought into the place of a SQLite file that an app may hold open.

A file that somebody has open is never replaced or written over: the app would go on in the old one, and what it
commits there would be lost without a word. SQLite's own backup interface writes the whole content as one transaction
of the database instead; whoever reads sees the old content or the new.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from glob import escape
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from dbctl import durable, interrupt
from dbctl.engines import locks
from dbctl.engines.dumps import Loaded, Progress
from dbctl.engines.sqlite.connection import WAIT_SECONDS
from dbctl.engines.sqlite.dump import STEP, steps
from dbctl.engines.sqlite.failures import Place, is_busy, name_of, translated
from dbctl.engines.sqlite.files import SIDE_FILES, quoted, refuse_unsafe
from dbctl.errors import BusyError, FileFailedError, NotSupportedError, SameFileError

#: Milliseconds that one try waits for the lock. A writer that hardly pauses leaves gaps of microseconds, so most tries
#: are short; readers that overlap each other are only kept from beginning anew while a try lasts, so some are long.
WAITS = (2,) * 20 + (250,)


def load(
    path: Path,
    source: Path,
    target: str,
    *,
    timeout: float,
    facts: Mapping[str, str],
    progress: Progress,
) -> Loaded:
    """Bring the content of the dump ``source`` into the place of the database ``path``.

    Whoever calls has proven ``source`` and kept what ``path`` and its side files hold now. ``journal_mode`` stays as
    it is in an existing database, and is the one in ``facts`` in a new one.

    Raises:
        BusyError: somebody held a lock for all of ``timeout`` seconds; nothing was changed.
        SameFileError: ``source`` is the database itself.
    """
    path = Path(os.path.realpath(path))
    place = Place(target=target, path=path, timeout=timeout, reading=False)
    if not path.exists():
        return _Loading(place, source, progress).make(facts, like=path.parent.stat())
    if path.samefile(source):  # which SQLite would try for ever
        raise SameFileError(path=source)
    refuse_unsafe(path, target)
    return _Loading(place, source, progress).bring(facts)


class _Loading:
    def __init__(self, place: Place, source: Path, progress: Progress) -> None:
        self._place, self._path, self._source, self._progress = place, place.path, source, progress

    def bring(self, facts: Mapping[str, str]) -> Loaded:
        try:
            with closing(self._connected(self._path)) as live:
                self._write_over(live)
                return Loaded(way="in place")
        except sqlite3.Error as error:
            if name_of(error) != "SQLITE_NOTADB":
                raise translated(error, self._place) from error
        return self._replace(facts)

    def _connected(self, path: Path) -> sqlite3.Connection:
        wait = min(WAIT_SECONDS, self._place.timeout)
        return sqlite3.connect(f"file://{quoted(path)}?mode=rw", uri=True, isolation_level=None, timeout=wait)

    def _write_over(self, live: sqlite3.Connection) -> None:
        with closing(
            sqlite3.connect(f"file://{quoted(self._source)}?mode=ro&immutable=1", uri=True)
        ) as source:
            # Nothing here needs the live schema; without this, one that is damaged would not even tell its mode.
            live.execute("pragma writable_schema = on")
            (size,) = source.execute("pragma page_size").fetchone()
            (mode,) = self._patiently(lambda: live.execute("pragma journal_mode").fetchone())
            another = mode == "wal" and live.execute("pragma page_size").fetchone() != (size,)
            if another:  # in WAL mode the size of a page cannot change, and SQLite's error would not say so
                live.execute("pragma locking_mode = exclusive")  # or somebody could come in meanwhile
                self._patiently(lambda: _left_wal(live))
            try:
                self._copy(source, live)
            finally:
                if another:
                    live.execute("pragma journal_mode = wal")
        if mode == "wal":
            with suppress(sqlite3.Error):  # a reader may still need the old pages; the app does it later then
                live.execute("pragma wal_checkpoint(truncate)")

    def _copy(self, source: sqlite3.Connection, live: sqlite3.Connection) -> None:
        """Write everything as one transaction, as soon as its first step gets the lock for it."""
        deadline = _Deadline(self._place)
        for wait in cycle(WAITS):
            live.execute(f"pragma busy_timeout = {wait}")
            try:
                source.backup(live, pages=STEP, progress=steps(self._progress, _try_again))
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
        begun = f".{self._path.name}.dbctl-"
        partial = self._path.with_name(f"{begun}{secrets.token_hex(4)}.partial")
        mode = stat.S_IMODE(like.st_mode) if stat.S_ISREG(like.st_mode) else 0o600
        try:
            for left in self._path.parent.glob(f"{escape(begun)}*.partial*"):  # by a dbctl that was killed
                left.unlink()
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            try:
                with closing(self._connected(partial)) as made:
                    self._write_over(made)
                    if facts.get("journal_mode") == "wal":
                        made.execute("pragma journal_mode = wal")
                if os.geteuid() == 0:  # what root makes is for the app
                    os.chown(partial, like.st_uid, like.st_gid)
                partial.chmod(mode)
                durable.sync_file(partial)
                self._put(partial)
            except BaseException:  # also on a signal: a half-written file must not stay
                for suffix in ("", *SIDE_FILES):
                    with suppress(OSError):
                        Path(f"{partial}{suffix}").unlink()
                raise
        except sqlite3.Error as error:
            raise translated(error, self._place) from error
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        return Loaded(way="new")

    def _put(self, partial: Path) -> None:
        """Give the new file its name, once no side file of an old one is left, which SQLite would mix into it."""
        for suffix in SIDE_FILES:
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        durable.sync_directory(self._path.parent)
        partial.rename(self._path)
        durable.sync_directory(self._path.parent)

    def _replace(self, facts: Mapping[str, str]) -> Loaded:
        """Put a new file in the place of one that is no database any more, which nobody can hold for long."""
        try:
            holders = locks.holders_of(self._path)
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


class _Deadline:
    """Looks whether what is waited for has taken too long."""

    def __init__(self, place: Place) -> None:
        self._place, self._at = place, time.monotonic() + place.timeout

    def look(self) -> None:
        """Raise BusyError once the time is over, and Interrupted when a signal came."""
        interrupt.check()
        if time.monotonic() >= self._at:
            held = locks.holder_of(self._place.path)
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
