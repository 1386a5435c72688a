"""Which engine opens which URL, and in which mode; the only place that knows engines by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract import FillRow, Holder, Housing, Readable, Writable, fill_nothing
from dbctl.errors import (
    DatabaseMissingError,
    DriverMissingError,
    FileMissingError,
    FolderMissingError,
    NotSupportedError,
)
from dbctl.files import Progress, at_once, silent
from dbctl.url import Url

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract import (
        Dump,
        Dumps,
        Language,
        Loaded,
        Outside,
        Proof,
        Recovered,
        Recovery,
        Tried,
    )
    from dbctl.engines.file_type import Content, TakenIn

#: Gives a private folder with room for so many bytes.
Room = Callable[[int], AbstractContextManager[Path]]
#: The extra of dbctl that brings the driver of an engine, and what the driver is called.
DRIVERS = {
    "postgresql": ("postgresql", "psycopg[binary]"),
    "mysql": ("mysql", "PyMySQL[rsa,ed25519]"),
}

#: What messages call an engine.
TITLES = {"postgresql": "PostgreSQL", "mysql": "MySQL and MariaDB", "lancedb": "LanceDB"}
#: What to do about damage on a server, which no file of its own could be read past.
DAMAGED = {
    "postgresql": "Keep a copy of the whole data directory, stop the server, and restore a backup: dbctl restore apply. pg_amcheck tells what is damaged; SET zero_damaged_pages = on reads past it.",
    "mysql": "Keep a copy of the whole data directory and restore a backup: dbctl restore apply. innodb_force_recovery = 1, and more where that is not enough, lets a damaged server start so far that it can be dumped.",
}

#: Why what stands in storage is in no backup.
AWAY = "they stand in storage, which keeps versions of its own where its bucket is told to"
#: What to do where a trial restore has nowhere to go.
TRIAL = "Name one: scratch in [apps.NAME.backup] of the configuration; or verify without --deep."


def open_for_reading(
    url: Url,
    target: str,
    *,
    timeout: float,
    traceless: bool = False,
    sidecars: bool = False,
    keys: Mapping[str, Sequence[str]] = {},
) -> Readable:
    """Open the database at ``url`` so that nothing can be written through what is returned.

    Args:
        url: where it is.
        target: ``app/database``, for messages.
        timeout: how long to wait for a lock, in seconds.
        traceless: whether it is rather left unread than a file touched or left beside it.
        sidecars: whether text is to be found through files of their own, where its engine can: nobody but its owner writes it.
        keys: for tables whose engine keeps no primary key: the first of these columns that is there tells rows apart.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "lancedb":
        from dbctl.engines.lancedb import LanceReader

        return LanceReader(url, target, timeout=timeout, keys=keys)
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLReader
        return PostgreSQLReader(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql import MySQLReader
        return MySQLReader(url, target, timeout=timeout)
    path = _file(url, target)
    if sidecars:
        from dbctl.engines.sqlite.external_index import SQLiteSidecars

        return SQLiteSidecars(path, target, timeout=timeout, traceless=traceless)
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
    fill: FillRow = fill_nothing,
) -> Writable:
    """Open the database at ``url`` for writing; ``pragmas`` are for an engine that has some, ``keys`` as for reading.

    ``create`` gives the pragmas of a file that is made where none is; on a server its owner makes a database. ``fill``
    completes new rows where the engine has no type for times.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "lancedb":
        from dbctl.engines.lancedb import LanceWriter

        return LanceWriter(url, target, timeout=timeout, keys=keys)
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLWriter
        return PostgreSQLWriter(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql import MySQLWriter
        return MySQLWriter(url, target, timeout=timeout)
    from dbctl.engines.sqlite import SQLiteWriter

    path = _file(url, target)
    if create is not None and not os.path.isdir(path.parent):  # noqa: PTH112 - pathlib's raises where it may not look
        raise FolderMissingError(target=target, path=path.parent)
    return SQLiteWriter(path, target, timeout=timeout, pragmas=pragmas, create=create, fill=fill)


def housing(url: Url) -> Housing | None:
    """Return the files of the database at ``url``; None where its engine keeps none that could be seen from here.

    None of them is opened.
    """
    if not url.is_file:
        return None
    from dbctl.engines.sqlite import files as housing

    return housing.of(Path(url.path))


def make_vector_table(
    url: Url, target: str, table: str, columns: Mapping[str, str], *, timeout: float
) -> None:
    """Make an empty table with vectors; ``columns`` as ``lancedb.create.make_table`` has them.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    from dbctl.engines.lancedb import make_table

    make_table(url, target, table, columns, timeout=timeout)


def grows(url: Url) -> bool:
    """Whether what is written to the database at ``url`` makes files that only maintenance puts together; nothing is opened."""
    return url.engine == "lancedb"


def open_scratch(url: Url, target: str) -> Writable:
    """Open an empty database of the kind that is at ``url``, which nobody else sees and which ends when it is closed.

    Args:
        url: the other one; nothing of it is looked at.
        target: its name, for messages.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql import PostgreSQLScratch
        return PostgreSQLScratch(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql import MySQLScratch
        return MySQLScratch(url, target)
    from dbctl.engines.sqlite import SQLiteScratch

    _file(url, target)
    return SQLiteScratch(target)


def holders(url: Url, target: str) -> Sequence[Holder]:
    """Return the processes that have the database at ``url`` open; a file itself is not opened.

    Raises:
        DatabaseMissingError: there is none.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql import holders_of
        return holders_of(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql import reader
        return reader.holders_of(url, target)
    from dbctl.engines import file_locks

    path = Path(os.path.realpath(url.path if url.is_folder else _file(url, target)))
    if not os.path.lexists(path):
        raise (FolderMissingError if url.is_folder else DatabaseMissingError)(target=target, path=path)
    return file_locks.holders_below(path) if url.is_folder else file_locks.holders_of(path)


def outside(url: Url, target: str) -> Outside:
    """Return the database at ``url`` as backups and restores see it: it may be missing, or be none any more.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.backup import PostgreSQLOutside
        return PostgreSQLOutside(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql.backup import MySQLOutside
        return MySQLOutside(url, target)
    if url.engine == "lancedb":
        from dbctl.engines.lancedb.backup import LanceOutside

        return LanceOutside(url, target)
    from dbctl.engines.sqlite.backup import SQLiteOutside

    return SQLiteOutside(_file(url, target), target)


def elsewhere(url: Url) -> str:
    """Return why no backup can hold the database at ``url``, wherever else it is looked after; empty: one can."""
    return AWAY if url.engine == "lancedb" and not url.is_folder else ""


def unfinished(url: Url) -> bool:
    """Whether a restore was about to replace the database at ``url``, and has left traces of that; or is at it now."""
    if not url.is_folder:
        return False
    from dbctl.engines.lancedb.backup import swap

    return swap.is_unfinished(Path(os.path.realpath(url.path)))


def forsaken(url: Url) -> Sequence[Path]:
    """Return what a dbctl that was killed has left beside the database at ``url``; nothing while one writes there."""
    from dbctl.engines import file_locks

    place = Path(os.path.realpath(url.path)) if url.is_local else None
    if place is None or file_locks.is_written(place):
        return ()
    if url.is_file:
        from dbctl.engines.sqlite import files

        return files.partials(place)
    from dbctl.engines.lancedb.backup import swap

    return swap.forsaken(place)


def copier(url: Url, target: str) -> Dumps | None:
    """Return what copies the database at ``url`` without its driver, not reading its rows; None where nothing does."""
    if not url.is_folder:
        return None
    from dbctl.engines.lancedb.backup import Copier

    return Copier(Path(os.path.realpath(url.path)), target)


def write_lock(url: Url, target: str, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
    """Keep every other dbctl from writing the database at ``url``, also where none is or it cannot be opened.

    Raises:
        BusyError: another dbctl held it for all of ``timeout`` seconds.
    """
    return outside(url, target).lock(purpose, timeout=timeout)


def lacking_folder(url: Url) -> Path | None:
    """Return the folder in which the database at ``url`` stands, where that alone is missing; None where it is there.

    Raises:
        FileMissingError: neither is there what that folder stands in, which may be a disk that is not mounted.
    """
    if not url.is_local:
        return None
    folder = Path(os.path.realpath(url.path)).parent
    if os.path.lexists(folder):
        return None
    if not folder.parent.is_dir():
        raise FileMissingError(what="directory", path=folder.parent)
    return folder


def want_room(url: Url, target: str, need: int) -> None:
    """Look whether a change of ``need`` bytes fits beside the database at ``url``, where that can be known from here.

    Raises:
        RoomMissingError: it does not.
    """
    outside(url, target).want_room(need)


@contextmanager
def brief(_need: int) -> Iterator[Path]:
    """Give a private folder for a moment, where the system keeps what is brief."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dbctl-") as folder:
        yield Path(folder)


def prove(engine: str, path: Path, dump: Dump, target: str, *, quick: bool, room: Room = brief) -> Proof:
    """Look into a dump that ``Dumps.dump`` of an engine of that name made; what it is made of stays as it is.

    Args:
        engine: the name of its engine.
        path: the file.
        dump: what is known of it.
        target: ``app/database``, for messages.
        quick: leaves out what takes long: whether indexes and tables agree, or to unpack it.
        room: gives a private folder for as many bytes as the file has, where it has to be unpacked.

    Raises:
        NotADatabaseError, CorruptError: it cannot even be opened.
    """
    if engine == "postgresql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.postgresql.backup import load as undump
        return undump.proof(path, dump.facts, target)
    if engine == "mysql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.mysql.backup import load as unpacking
        return unpacking.proof(path, target)
    if engine == "lancedb":
        from dbctl.engines.lancedb.backup import load as archived

        return archived.told(path, target) if quick else archived.proven(path, target, room)
    from dbctl.engines.sqlite import SQLiteReader

    reader = SQLiteReader(_file(Url(engine=engine, path=str(path)), target), target, timeout=0)
    with closing(reader):
        return reader.proof(quick=quick)


def take_in(content: Content, plain: Path, destination: Path, target: str, *, most: int) -> TakenIn:
    """Make of what somebody else left a file as ``Dumps.dump`` of its engine makes them.

    Args:
        content: what it is.
        plain: a private copy, unpacked, which is used up.
        destination: the new file.
        target: how messages call it.
        most: bytes that it may become.

    Raises:
        CorruptError: it is not whole.
        FileUnfitError: it says more than a dump says.
        DiskFullError: there is no room.
    """
    from dbctl.engines.file_type import ENGINES

    engine = ENGINES[content]
    if engine == "postgresql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.postgresql.backup.foreign import dump as loose
        return loose.take_in(plain, destination, content, target)
    if engine == "mysql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.mysql.backup.foreign import dump as mysql_loose
        return mysql_loose.take_in(plain, destination, target)
    if engine == "lancedb":
        from dbctl.engines.lancedb.backup import foreign_dump as lance_loose

        return lance_loose.take_in(plain, destination, target)
    from dbctl.engines.sqlite.backup import foreign_dump

    return foreign_dump.take_in(plain, destination, content, target, most=most)


def holds_tables(folder: Path) -> bool:
    """Whether a folder is one of tables that an engine keeps as folders of their own."""
    from dbctl.engines.lancedb.backup import snapshot

    return snapshot.holds_tables(folder)


def take_in_folder(folder: Path, destination: Path, target: str) -> TakenIn:
    """Make of a folder of tables that somebody else left a file as ``take_in`` does; it stays as it is.

    Raises:
        As ``take_in``.
    """
    from dbctl.engines.lancedb.backup import foreign_dump as loose

    return loose.take_in_folder(folder, destination, target)


@contextmanager
def tried(
    engine: str, url: Url | None, path: Path, dump: Dump, target: str, *, timeout: float
) -> Iterator[Tried]:
    """Give a database that a dump was loaded into as a restore does, and that nobody else knows; it is gone at the end.

    Args:
        engine: the name of its engine.
        url: a database of a server that may take one more, or a file that is to be made.
        path: a file that ``Dumps.dump`` made.
        dump: what is known of it.
        target: ``app/database``, for messages.
        timeout: seconds to wait for a server.

    Raises:
        NotSupportedError: no server is known that could take it.
        PrivilegeMissingError: this user may not make databases there.
        RestoreFailedError, CorruptError: it cannot be loaded.
    """
    if url is None or url.engine != engine:
        raise NotSupportedError(
            what=f"a trial restore of {target}", by="a configuration without a server for it", instead=TRIAL
        )
    with outside(url, target).tried(path, dump, timeout=timeout) as there:
        yield there


def copied(url: Url, path: Path, target: str, dump: Dump, *, timeout: float) -> AbstractContextManager[Url]:
    """Give a database of the kind at ``url`` that holds a dump of it and that nobody else knows; it is gone at the end.

    Args:
        url: the database.
        path: a file that ``Dumps.dump`` made of it; it may become the copy itself.
        target: ``app/database``, for messages.
        dump: what is known of it.
        timeout: seconds to wait for a server.

    Raises:
        PrivilegeMissingError: this user may not make databases there.
    """
    return outside(url, target).copied(path, dump, timeout=timeout)


def load(
    url: Url,
    path: Path,
    target: str,
    dump: Dump,
    *,
    timeout: float,
    keep: Mapping[str, str] = {},
    progress: Progress = silent,
    let_go: Callable[[], None] = at_once,
    spare: bool = False,
) -> Loaded:
    """Bring the content of a dump into the place of the database at ``url``, as one change or not at all.

    Whoever calls has proven the dump, holds ``write_lock``, and has kept what is there now, unless ``keep`` lets the
    engine do it.

    Args:
        url: the database; it may be missing, or be no database any more.
        path: a file that ``Dumps.dump`` of the same engine made.
        target: ``app/database``, for messages.
        dump: what is known of it.
        timeout: seconds to wait for those who hold a lock.
        keep: what ``Outside.kept`` told; without it, a database that makes room for another one is dropped.
        progress: told the share that is done.
        let_go: what ``Outside.still`` gave, where what is there now was copied first; called as late as can be.
        spare: whether ``path`` is wanted by nobody else, so that it may be taken away.

    Raises:
        BusyError: somebody held a lock for all of ``timeout`` seconds; nothing was changed.
        StirredError: somebody was quicker than the change once they were let go; nothing was changed.
        ReadOnlyError, SameFileError, DiskFullError, FileFailedError, RestoreFailedError: nothing was changed.
    """
    return outside(url, target).load(
        path, dump, timeout=timeout, keep=keep, progress=progress, let_go=let_go, spare=spare
    )


def title(engine: str) -> str:
    """Return what messages call an engine."""
    return TITLES.get(engine, "SQLite" if engine == "sqlite" else engine)


def want_recoverable(url: Url, target: str) -> None:
    """Look whether ``recover`` could read the database at ``url`` at all.

    Raises:
        NotSupportedError: it is on a server.
    """
    if url.engine in DAMAGED:
        raise NotSupportedError(
            what=f"recovering {target} from its files", by=TITLES[url.engine], instead=DAMAGED[url.engine]
        )
    _file(url, target)


def recover(url: Url, what: Recovery, target: str, *, progress: Progress = silent) -> Recovered:
    """Bring what can be read of a damaged database into a new one; the damaged one is only read.

    Whoever calls holds ``write_lock``, and has looked that no program has it open.

    Raises:
        As ``want_recoverable``, and what the engine's own raises.
    """
    want_recoverable(url, target)
    from dbctl.engines.sqlite import recover as recovering

    return recovering.recover(what, target, progress)


def language(engine: str) -> Language:
    """Return how the engine of that name reads scripts.

    Raises:
        NotSupportedError: it reads none.
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
        what="scripts of SQL", by=engine, instead="SQLite, PostgreSQL, MySQL and MariaDB read them."
    )


@contextmanager
def _driver(url: Url, target: str) -> Iterator[None]:
    """Tell how to install what importing an engine misses."""
    try:
        yield
    except ImportError as error:
        extra, driver = DRIVERS[url.engine]
        reason = str(error).splitlines()[0]
        raise DriverMissingError(target=target, driver=driver, extra=extra, reason=reason) from error


def _file(url: Url, target: str) -> Path:
    if url.engine != "sqlite":
        raise NotSupportedError(
            what=f"opening {target} ({url})",
            by="this version of dbctl",
            instead="It opens SQLite, PostgreSQL, MySQL and MariaDB databases only.",
        )
    return Path(url.path)
