"""Which engine opens which URL, and in which mode; the only place that knows engines by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from dbctl.engines.base import Holder, Housing, Language, Readable, Writable
from dbctl.engines.dumps import Dump, Loaded, Outside, Progress, Proof, silent
from dbctl.engines.recovery import Recovered, Recovery
from dbctl.errors import DatabaseMissingError, DriverMissingError, NotSupportedError
from dbctl.url import Url

#: The extra of dbctl that brings the driver of an engine, and what the driver is called.
DRIVERS = {
    "postgresql": ("postgresql", "psycopg[binary]"),
    "mysql": ("mysql", "PyMySQL[rsa,ed25519]"),
}

#: What messages call an engine.
TITLES = {"postgresql": "PostgreSQL", "mysql": "MySQL and MariaDB"}
#: What to do about damage on a server, which no file of its own could be read past.
DAMAGED = {
    "postgresql": "Keep a copy of the whole data directory, stop the server, and restore a backup: dbctl restore apply. pg_amcheck tells what is damaged; SET zero_damaged_pages = on reads past it.",
    "mysql": "Keep a copy of the whole data directory and restore a backup: dbctl restore apply. innodb_force_recovery = 1, and more where that is not enough, lets a damaged server start so far that it can be dumped.",
}

#: What to do where a trial restore has nowhere to go.
TRIAL = "Name one: scratch in [apps.NAME.backup] of the configuration; or verify without --deep."


def open_for_reading(url: Url, target: str, *, timeout: float, traceless: bool = False) -> Readable:
    """Open the database at ``url`` so that nothing can be written through what is returned.

    Args:
        url: where it is.
        target: ``app/database``, for messages.
        timeout: how long to wait for a lock, in seconds.
        traceless: whether it is rather left unread than a file touched or left beside it.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.reader import PostgreSQLReader  # noqa: PLC0415 - a driver loads when it is used
        return PostgreSQLReader(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql.reader import MySQLReader  # noqa: PLC0415 - as above
        return MySQLReader(url, target, timeout=timeout)
    from dbctl.engines.sqlite import SQLiteReader  # noqa: PLC0415 - a driver loads when it is used

    return SQLiteReader(_file(url, target), target, timeout=timeout, traceless=traceless)


def open_for_writing(
    url: Url,
    target: str,
    *,
    timeout: float,
    pragmas: Mapping[str, str],
    create: Mapping[str, str] | None = None,
) -> Writable:
    """Open the database at ``url`` for writing; ``pragmas`` are for an engine that has some.

    ``create`` gives the pragmas of a file that is made where none is; on a server its owner makes a database.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.writer import PostgreSQLWriter  # noqa: PLC0415 - as above
        return PostgreSQLWriter(url, target, timeout=timeout)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql.writer import MySQLWriter  # noqa: PLC0415 - as above
        return MySQLWriter(url, target, timeout=timeout)
    from dbctl.engines.sqlite import SQLiteWriter  # noqa: PLC0415 - as above

    path = _file(url, target)
    if create is not None and not os.path.isdir(path.parent):  # noqa: PTH112 - pathlib's raises where it may not look
        raise DatabaseMissingError(target=target, path=path.parent)
    return SQLiteWriter(path, target, timeout=timeout, pragmas=pragmas, create=create)


def housing(url: Url) -> Housing | None:
    """Return the files of the database at ``url``; None where its engine keeps none that could be seen from here.

    None of them is opened.
    """
    if not url.is_file:
        return None
    from dbctl.engines.sqlite import housing  # noqa: PLC0415 - as above

    return housing.of(Path(url.path))


def open_scratch(url: Url, target: str) -> Writable:
    """Open an empty database of the kind that is at ``url``, which nobody else sees and which ends when it is closed.

    Args:
        url: the other one; nothing of it is looked at.
        target: its name, for messages.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.scratch import PostgreSQLScratch  # noqa: PLC0415 - as above
        return PostgreSQLScratch(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql.scratch import MySQLScratch  # noqa: PLC0415 - as above
        return MySQLScratch(url, target)
    from dbctl.engines.sqlite.scratch import SQLiteScratch  # noqa: PLC0415 - as above

    _file(url, target)
    return SQLiteScratch(target)


def holders(url: Url, target: str) -> Sequence[Holder]:
    """Return the processes that have the database at ``url`` open; a file itself is not opened.

    Raises:
        DatabaseMissingError: there is none.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.reader import holders_of  # noqa: PLC0415 - as above
        return holders_of(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql import reader  # noqa: PLC0415 - as above
        return reader.holders_of(url, target)
    from dbctl.engines import locks  # noqa: PLC0415 - as above

    path = Path(os.path.realpath(_file(url, target)))
    if not os.path.lexists(path):
        raise DatabaseMissingError(target=target, path=path)
    return locks.holders_of(path)


def outside(url: Url, target: str) -> Outside:
    """Return the database at ``url`` as backups and restores see it: it may be missing, or be none any more.

    Raises:
        DriverMissingError: the driver of its engine is not installed.
    """
    if url.engine == "postgresql":
        with _driver(url, target):
            from dbctl.engines.postgresql.outside import PostgreSQLOutside  # noqa: PLC0415 - as above
        return PostgreSQLOutside(url, target)
    if url.engine == "mysql":
        with _driver(url, target):
            from dbctl.engines.mysql.outside import MySQLOutside  # noqa: PLC0415 - as above
        return MySQLOutside(url, target)
    from dbctl.engines.sqlite.outside import SQLiteOutside  # noqa: PLC0415 - as above

    return SQLiteOutside(_file(url, target), target)


def write_lock(url: Url, target: str, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
    """Keep every other dbctl from writing the database at ``url``, also where none is or it cannot be opened.

    Raises:
        BusyError: another dbctl held it for all of ``timeout`` seconds.
    """
    return outside(url, target).lock(purpose, timeout=timeout)


def want_room(url: Url, target: str, need: int) -> None:
    """Look whether a change of ``need`` bytes fits beside the database at ``url``, where that can be known from here.

    Raises:
        RoomMissingError: it does not.
    """
    outside(url, target).want_room(need)


def prove(engine: str, path: Path, dump: Dump, target: str, *, quick: bool) -> Proof:
    """Look into a dump that ``Dumps.dump`` of an engine of that name made; nothing is written.

    Raises:
        NotADatabaseError, CorruptError: it cannot even be opened.
    """
    if engine == "postgresql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.postgresql import undump  # noqa: PLC0415 - as above
        return undump.proof(path, dump.facts, target)
    if engine == "mysql":
        with _driver(Url(engine=engine, path=""), target):
            from dbctl.engines.mysql import undump as unpacking  # noqa: PLC0415 - as above
        return unpacking.proof(path, target)
    from dbctl.engines.sqlite import SQLiteReader  # noqa: PLC0415 - as above

    reader = SQLiteReader(_file(Url(engine=engine, path=str(path)), target), target, timeout=0)
    with closing(reader):
        return reader.proof(quick=quick)


def trial(
    engine: str, url: Url | None, path: Path, dump: Dump, target: str, *, timeout: float
) -> Proof | None:
    """Load a dump into a database of the server at ``url`` that is dropped again, and tell what it holds there.

    None where ``prove`` has told as much.

    Raises:
        NotSupportedError: no server is known that could take it.
        PrivilegeMissingError: this user may not make databases there.
    """
    if engine not in DRIVERS:
        return None
    if url is None or url.engine != engine:
        raise NotSupportedError(
            what=f"a trial restore of {target}", by="a configuration without a server for it", instead=TRIAL
        )
    with _driver(url, target):
        if engine == "mysql":
            from dbctl.engines.mysql.outside import MySQLOutside  # noqa: PLC0415 - as above

            return MySQLOutside(url, target).trial(path, dump, timeout=timeout)
        from dbctl.engines.postgresql.outside import PostgreSQLOutside  # noqa: PLC0415 - as above

        return PostgreSQLOutside(url, target).trial(path, dump, timeout=timeout)


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

    Raises:
        BusyError: somebody held a lock for all of ``timeout`` seconds; nothing was changed.
        ReadOnlyError, SameFileError, DiskFullError, FileFailedError, RestoreFailedError: nothing was changed.
    """
    return outside(url, target).load(path, dump, timeout=timeout, keep=keep, progress=progress)


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
    from dbctl.engines.sqlite import recover as recovering  # noqa: PLC0415 - as above

    return recovering.recover(what, target, progress)


def language(engine: str) -> Language:
    """Return how the engine of that name reads scripts.

    Raises:
        NotSupportedError: it reads none.
    """
    if engine == "postgresql":
        from dbctl.engines.postgresql import script  # noqa: PLC0415 - as above

        return script
    if engine == "mysql":
        from dbctl.engines.mysql import script as mysql_script  # noqa: PLC0415 - as above

        return mysql_script
    if engine == "sqlite":
        from dbctl.engines import sqlite_script  # noqa: PLC0415 - as above

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
