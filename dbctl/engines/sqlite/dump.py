"""Dump a SQLite file that other processes write into a single new file, verify dumps, and block its writers before a replacement.

Copying the bytes of a file during a write gives an inconsistent copy, sometimes one that passes every check. So the copy
uses SQLite's backup interface inside a read transaction: without one, the backup restarts at each commit of another
process, and never ends while a busy process writes. sqlite-utils has neither the interface nor a pinned snapshot.

A child process holds the lock that blocks writers, because this process reads the file without locks, and closing any descriptor
of the file would drop its locks. If this process is killed, the child reaches the end of its input and releases the lock.
"""

from __future__ import annotations

import re
import select
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from dbctl import signals
from dbctl.engines.contract.checks import describe_references
from dbctl.engines.contract.dumps import DumpRequest, DumpResult, Dumps, DumpVerification
from dbctl.engines.file_locks import describe_lock_holders
from dbctl.engines.sql.catalog import ident, lower_ascii
from dbctl.engines.sql.checks import digest_tables
from dbctl.engines.sqlite.checks import SQLiteChecks
from dbctl.engines.sqlite.connection import STEPS_BETWEEN_CHECKS, ReadConnection, build_uri
from dbctl.engines.sqlite.database import SQLitePart, SQLiteReader
from dbctl.engines.sqlite.errors import ErrorContext, get_error_name, translate_create_error
from dbctl.engines.sqlite.files import SIDE_FILES, read_identity
from dbctl.engines.sqlite.fulltext_index import TABLE_TEXTS, TextIndex, read_text_indexes
from dbctl.errors.connection import BusyError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import atomic
from dbctl.files.atomic import create_empty
from dbctl.model import now
from dbctl.progress import Progress

#: Pages per step; signals are checked between two steps, about every 20 ms.
STEP_PAGES = 4096
#: Errors of the source file; all other errors come from the destination.
SOURCE_ERRORS = ("SQLITE_BUSY", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT")


def copy_database(
    source: sqlite3.Connection, destination: Path, progress: Progress, schema_only: Collection[str] = ()
) -> DumpResult:
    """Copy the current content of ``source`` into the new file ``destination``, without the rows of ``schema_only``.

    Raises:
        NotSupportedError: a copy without these rows is not possible, because an index calls a function of the app.
        sqlite3.Error: reading the source failed, for example because of a lock of another process.
        DiskFullError, FileFailedError: writing the destination failed.
    """
    metadata = {
        name: str(source.execute(f"pragma {name}").fetchone()[0]) for name in ("page_size", "encoding")
    } | {"sqlite": sqlite3.sqlite_version}
    with _create_file(destination), _pin_snapshot(source):
        taken_at = now()
        _copy(source, destination, progress)
    if schema_only:
        _empty(destination, schema_only)
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


def _empty(copy: Path, tables: Collection[str]) -> None:
    """Replace a copy by one without the rows of tables, whose bytes are in no page either."""
    emptied = copy.with_name(f"{copy.name}-emptied")
    context = ErrorContext(target=str(copy.parent), path=copy)
    try:
        with _create_file(emptied):
            with closing(sqlite3.connect(copy, isolation_level=None)) as driver:
                driver.set_progress_handler(
                    lambda: signals.received_signal() is not None, STEPS_BETWEEN_CHECKS
                )
                for pragma in ("locking_mode = exclusive", "journal_mode = off", "synchronous = off"):
                    driver.execute(f"pragma {pragma}")
                driver.execute("begin")
                empty_tables(driver, tables)
                driver.execute("commit")
                # ``vacuum`` alone would number the rows of tables without a key again.
                driver.execute("vacuum into ?", [str(emptied)])
            emptied.replace(copy)
    except BaseException as error:
        copy.unlink(missing_ok=True)
        signals.raise_if_interrupted()
        # The copy is as damaged as the source.
        if not isinstance(error, sqlite3.Error) or get_error_name(error).startswith(SOURCE_ERRORS):
            raise
        if "no such function" in str(error) or "no such module" in str(error):
            raise NotSupportedError(
                feature=f"a backup without the rows of {', '.join(tables)}",
                subject=f"this file: {error}, which the app defines",
                hint="Nothing was created. Remove them from schema_only.",
            ) from error
        raise translate_create_error(error, context) from error


_TRIGGERS = "select name, sql, tbl_name from sqlite_master where type = 'trigger' order by rowid"
#: Tables with statistics of the planner, of which some contain values of rows.
STATISTICS = "select name from sqlite_master where name in ('sqlite_stat1', 'sqlite_stat3', 'sqlite_stat4')"


def list_text_indexes(driver: sqlite3.Connection) -> list[TextIndex]:
    """Return the full-text indexes of a file."""
    return list(read_text_indexes(driver.execute(TABLE_TEXTS)))


def find_filled_indexes(driver: sqlite3.Connection, tables: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the other full-text indexes that have texts of some tables, because triggers of these fill them, and the table of each."""
    folded = set(map(lower_ascii, tables))
    others = [index for index in list_text_indexes(driver) if folded.isdisjoint(index.tables)]
    for _, sql, table in driver.execute(_TRIGGERS).fetchall():
        if lower_ascii(str(table)) in folded:
            for index in others:
                if re.search(rf"(?<!\w){re.escape(index.name)}(?!\w)", str(sql), re.IGNORECASE):
                    yield index.name, str(table)


def empty_tables(driver: sqlite3.Connection, tables: Collection[str]) -> None:
    """Delete the rows of tables, and their entries in indexes whose content they are; nothing else changes, not even sequences.

    Triggers do not fire, and foreign keys do nothing.
    """
    folded = set(map(lower_ascii, tables))
    driver.execute("pragma foreign_keys = off")
    triggers = [row for row in driver.execute(_TRIGGERS).fetchall() if lower_ascii(str(row[2])) in folded]
    for name, *_ in triggers:
        driver.execute(f"drop trigger {ident(name)}")
    indexes = {index.name: index for index in list_text_indexes(driver)}
    for name in tables:
        if name in indexes and indexes[name].content is not None:
            indexes[name].clear(driver)
        else:
            driver.execute(f"delete from {ident(name)}")
    for index in indexes.values():
        if index.content and lower_ascii(index.content) in folded:
            index.renew(driver)
    for (statistics,) in driver.execute(STATISTICS).fetchall():
        for name in folded:
            driver.execute(f"delete from {ident(statistics)} where lower(tbl) = ?", [name])
    for _, sql, _ in triggers:
        driver.execute(sql)


def create_step_callback(
    progress: Progress, on_locked: Callable[[], None] = lambda: None
) -> Callable[[int, int, int], None]:
    """Return the callback that SQLite's backup interface calls after each step.

    It is also called after a step that met a lock: Python retries such a step without limit, and only an exception
    ends that, which ``on_locked`` may raise. After the last step everything is committed, so signals are no longer checked.
    """

    def step(status: int, remaining: int, total: int) -> None:
        if status != sqlite3.SQLITE_DONE:
            signals.raise_if_interrupted()
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            on_locked()
        elif total:
            progress((total - remaining) / total)

    return step


class SQLiteDumps(SQLitePart, Dumps):
    forms: Mapping[str, str] = {"file": ""}  # a copy of the file, without a further suffix
    supports_partial = False
    is_compressed = False

    _db: SQLiteReader
    _connection: ReadConnection

    def dump(self, request: DumpRequest) -> DumpResult:
        if request.tables:
            raise RuntimeError("single tables of a file cannot be dumped")

        # With its journal in memory, or without one, an app writes rows that are not committed into the file itself.
        self._connection.prepare_stream()
        mode = self._connection.read_journal_mode()

        def copy_file() -> DumpResult:
            request.destination.unlink(missing_ok=True)  # left by an unlocked read of a file that changed
            return copy_database(
                self._connection.driver, request.destination, request.progress, request.schema_only
            )

        # A copy takes long, and an unlocked one is discarded after any write: one try is enough.
        result = self._connection.retry_if_changed(copy_file, unlocked_tries=1)
        metadata = {"journal_mode": mode, "mode": f"{stat.S_IMODE(self._connection.path.stat().st_mode):o}"}
        return DumpResult(
            taken_at=self._db.taken_at or result.taken_at, metadata={**metadata, **result.metadata}
        )

    def blocks_writers(self) -> bool:
        return self._connection.read_journal_mode() != "wal"

    def estimate_dump_size(self) -> int:
        return self._db.storage.measure_storage().bytes

    def list_emptiable_tables(self) -> Mapping[str, Sequence[str]]:
        # The rows of an index are those of its table.
        derived = {index.name for index in list_text_indexes(self._connection.driver) if index.content}
        return {
            name: [name]
            for name, table in self._catalog.tables().items()
            if table.kind in ("table", "virtual") and name not in derived
        }

    def find_dependents(self, tables: Collection[str]) -> Sequence[str]:
        filled = find_filled_indexes(self._connection.driver, tables)
        return [
            *describe_references(self._db, tables),
            *(f"the full-text index {index} has texts of {table}" for index, table in filled),
        ]

    def read_identity(self) -> str:
        return read_identity(self._connection.path)

    def verify_dump(self, *, quick: bool) -> DumpVerification:
        """Check a dump; ``quick`` does not compare indexes with their tables."""
        checks = SQLiteChecks(self._db)
        problems = [
            line
            for line in checks.find_file_damage({}, quick=quick)
            if not checks.concerns_values(line)  # the app wrote them, and a copy is not worse
        ]
        if problems:
            return DumpVerification(tables={}, schema="", problems=problems)
        rows = {name: self._db.count(name) for name in self._catalog.base_tables()}
        return DumpVerification(
            tables=rows,
            schema=self._db.schema_reader.fingerprint(),
            problems=(),
            digests=digest_tables(self._db, rows),
        )


#: Prints ``held`` or ``busy``, or nothing if the file is not a writable database. At the end of its input it releases
#: the lock and prints a dot; after any input it closes the connection, so that SQLite removes its side files. Its tries
#: are short, because a busy writer leaves gaps of microseconds only.
LOCK_SCRIPT = """
import os, sqlite3, sys, time
deadline, reply = time.monotonic() + float(sys.argv[2]), b""
try:
    db = sqlite3.connect(sys.argv[1], uri=True, isolation_level=None, timeout=0.002)
    while not reply:
        try:
            db.execute("begin immediate")
            reply = b"held"
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 255 not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                reply = b"busy"
    os.write(1, reply)
    if os.read(0, 1):
        db.close()
    else:
        db.rollback()
        os.write(1, b".")
except sqlite3.Error:
    pass
os._exit(0)
"""
POLL_SECONDS, END_SECONDS = 0.05, 5


@contextmanager
def block_writers(path: Path, target: str, *, timeout: float) -> Iterator[Callable[[], None]]:
    """Block commits to a file until the yielded function is called or the block ends; readers are not blocked.

    A file that is missing or not a writable database is not locked.

    Raises:
        BusyError: another process was writing for all of ``timeout`` seconds.
    """
    if not path.exists():
        yield lambda: None
        return
    uri = build_uri(path, "mode=rw")
    arguments = [sys.executable, "-I", "-S", "-c", LOCK_SCRIPT, uri, str(timeout)]
    with subprocess.Popen(  # noqa: S603 - this Python, without a shell
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as holder:
        stdin, stdout = cast("IO[bytes]", holder.stdin), cast("IO[bytes]", holder.stdout)
        try:
            while not select.select([stdout], [], [], POLL_SECONDS)[0]:
                signals.raise_if_interrupted()
            if stdout.read(4) == b"busy":
                raise BusyError(target=target, holder=describe_lock_holders(path), waited=f"{timeout:g}")
            yield lambda: _release(stdin, stdout)
        finally:
            with suppress(OSError, subprocess.TimeoutExpired), signals.defer_signals():
                if not stdin.closed:  # the caller failed; remove the side files
                    stdin.write(b".")
                    holder.wait(timeout=END_SECONDS)
            holder.kill()


def _release(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    if not stdin.closed:
        stdin.close()
        stdout.read(1)
