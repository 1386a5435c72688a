"""Import what earlier versions recorded in files of their own: the journal, the log of changes, sent notices, and the progress of fleets."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from stat import S_ISREG

import msgspec

from dbctl.errors.operations import AuditUnavailableError
from dbctl.files import atomic
from dbctl.files.atomic import read_whole, sync_directory
from dbctl.files.lock import find_planted
from dbctl.model import JSON_ERRORS, Struct
from dbctl.services.events.store import (
    FILE_NAME,
    IMPORTED,
    LEGACY_LOG,
    LEGACY_NAME,
    SUFFIXES,
    connect_for_reading,
    exists,
    translate_errors,
)

NOTICES, FLEETS = "notify.json", "runs"
#: The log of changes and its rotations, as programs that rotate logs name them.
_LOG = re.compile(re.escape(LEGACY_LOG) + r"(\.[0-9]+)?(\.gz)?")
_VERSION = 1  #: of the journal
_MAX_BYTES = 64 << 20  #: of the notices
#: Seconds to wait for another process that imports, or for one of an older version, which appends in milliseconds.
_BUSY_SECONDS, _RETRY_SECONDS = 5.0, 0.002


class _Notice(Struct, frozen=True, kw_only=True):
    code: str
    times: dict[str, datetime]  #: by channel


def has_files(folder: Path) -> bool:
    """Whether earlier versions recorded anything that is not imported."""
    names = (NOTICES, FLEETS, LEGACY_NAME)
    return any(os.path.lexists(folder / name) for name in names) or bool(_list_logs(folder))


@contextmanager
def lock_files(folder: Path, *, seconds: float = _BUSY_SECONDS) -> Iterator[None]:
    """Hold the lock of the folder, so that one process imports, and those with which older versions append to a log of changes.

    Raises:
        OSError: one is locked for ``seconds``, or cannot be opened.
    """
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        _lock(descriptor, deadline)
        for path in _list_logs(folder):  # which older versions open by its name again once they have the lock
            _lock(stack.enter_context(atomic.open_regular(path, follow=False)).fileno(), deadline)
        yield


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in atomic.WITHOUT_LOCKS:
                return None
            if not isinstance(error, BlockingIOError) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _list_logs(folder: Path) -> list[Path]:
    """Return the regular files among the logs; anything else with their names is no log of an earlier version."""
    return [path for path in _list_names(folder) if S_ISREG(path.lstat().st_mode) and not find_planted(path)]


def _list_names(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{LEGACY_LOG}*") if _LOG.fullmatch(path.name))


def list_unimported(folder: Path) -> Sequence[Path]:
    """Return what has the name of a log of changes or a journal of earlier versions, but whose content the store was not created with.

    Raises:
        JournalUnavailableError, JournalCorruptError: the store cannot be read.
    """
    paths = [path for path in (*_list_names(folder), folder / LEGACY_NAME) if os.path.lexists(path)]
    store = folder / FILE_NAME
    with translate_errors(store):
        notes = _read_notes(store) if paths and exists(store) else {}
    return [path for path in paths if not _is_imported(path, notes)]


def _read_notes(store: Path) -> Mapping[str, str]:
    with connect_for_reading(store) as connection:
        return dict(connection.execute("select name, value from meta"))


def _is_imported(path: Path, notes: Mapping[str, str]) -> bool:
    with suppress(OSError):  # it cannot be read
        return path.name in notes and notes[path.name] == _digest(path)
    return False


def import_files(connection: sqlite3.Connection, folder: Path) -> None:
    """Insert the content of all files into an empty store, in the transaction of the caller; the files remain as they are.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read, so the store must not be created without it.
    """
    _import_journal(connection, folder / LEGACY_NAME)
    _import_changes(connection, folder)
    connection.executemany(
        "insert or replace into notices values (?, ?, ?, ?, ?, ?)", _read_notices(folder / NOTICES)
    )
    connection.executemany(
        "insert or ignore into progress values (?, ?, ?, ?, ?)", _read_fleets(folder / FLEETS)
    )


def rename_files(folder: Path, *, is_new: bool) -> None:
    """Rename the files of earlier versions whose content the store has; a name that exists already is not replaced.

    Others remain: ``list_unimported`` has them.

    ``is_new``: this process created the store, with all notices and fleets that exist.
    """
    paths = [path for path in (*_list_logs(folder), folder / LEGACY_NAME) if os.path.lexists(path)]
    if paths:
        sync_directory(folder)
        notes = _read_notes(folder / FILE_NAME)
        paths = [path for path in paths if _is_imported(path, notes)]
        if any(path.name != LEGACY_NAME for path in paths):
            _publish_end(folder)
    # The log and the journal are renamed last: one exists as long as others may have to be renamed.
    names = [path.name for path in sorted(paths, key=lambda path: path.name in {LEGACY_LOG, LEGACY_NAME})]
    for name in (NOTICES, FLEETS, *names) if is_new or names else ():
        for suffix in (*SUFFIXES[1:], ""):
            old, new = folder / f"{name}{suffix}", folder / f"{name}{IMPORTED}{suffix}"
            if os.path.lexists(old) and not os.path.lexists(new):
                with suppress(OSError):
                    old.rename(new)


def _publish_end(folder: Path) -> None:
    """Store the end of the imported log next to the store, so that its deletion is noticed before the first change; a failure is ignored.

    The settings are not known here: the first change publishes its end everywhere.
    """
    from dbctl.config.model import AuditConfig
    from dbctl.services.events.changes.log import publish_anchor, read_end

    with connect_for_reading(folder / FILE_NAME) as connection:
        end, _ = read_end(connection)
    if end:
        list(publish_anchor(folder, AuditConfig(), str(end), str(end)))


def _digest(path: Path) -> str:
    """Return the hash of a file, and of the write-ahead log of a journal, which has its newest rows."""
    digest = hashlib.sha256()
    for suffix in ("", "-wal"):
        if not suffix or os.path.lexists(f"{path}{suffix}"):
            with atomic.open_regular(Path(f"{path}{suffix}")) as file:
                while block := file.read(atomic.BLOCK):
                    digest.update(block)
    return digest.hexdigest()


def _import_changes(connection: sqlite3.Connection, folder: Path) -> None:
    """Insert the records of the logs of changes with their numbers, text and hashes, and note the logs; a damaged archive is a problem."""
    if not _list_logs(folder):
        return
    from dbctl.services.events.changes.export import read_file
    from dbctl.services.events.changes.log import begin_log, insert_record, list_run_anchors
    from dbctl.services.events.changes.records import decode_record
    from dbctl.services.events.changes.verify import count_problems

    logs, order = _list_logs(folder), dict[Path, tuple[bool, int]]()
    for path in logs:
        with suppress(AuditUnavailableError):
            records = (decode_record(line.content) for line in read_file(path))  # to its end
            number = next(iter([record.sequence for record in records if record]), 0)
            order[path] = (path.name == LEGACY_LOG and not number, number)  # a new log has no record yet
    paths = sorted(order, key=lambda path: (order[path], path))
    for path in paths:
        for line in read_file(path):
            # of an edited number or line, which is one of the problems
            with suppress(OverflowError, ValueError):
                insert_record(connection, line.content.removesuffix(b"\n"), conflict="ignore")
        connection.execute("insert into meta values (?, ?)", (path.name, _digest(path)))
    problems = count_problems(paths, list_run_anchors(connection)) + len(logs) - len(paths)
    begin_log(connection, problems=problems)


def _import_journal(connection: sqlite3.Connection, path: Path) -> None:
    with translate_errors(path):
        if not exists(path):
            return
        digest = _digest(path)
        with connect_for_reading(path, _VERSION) as old:
            old.execute("begin")  # one state of all tables
            tables = {name for (name,) in old.execute("select name from sqlite_master where type = 'table'")}
            for table in sorted(tables & {"runs", "outcomes", "samples"}):
                rows = old.execute(f"select * from {table}")
                places = ", ".join("?" * len(rows.description))
                connection.executemany(f"insert into {table} values ({places})", rows)
            # No id is used twice, although the newest runs may have been deleted.
            last = old.execute("select seq from sqlite_sequence where name = 'runs'").fetchall()
            if last:
                connection.execute("delete from sqlite_sequence where name = 'runs'")
                connection.execute("insert into sqlite_sequence values ('runs', ?)", last[0])
        connection.execute("insert into meta values (?, ?)", (path.name, digest))


def _read_notices(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the rows of notices; none if the file is missing, damaged or planted, which only repeats notices."""
    entries = dict[str, _Notice]()
    if not find_planted(path):
        with suppress(OSError, *JSON_ERRORS):
            entries = msgspec.json.decode(
                read_whole(path, _MAX_BYTES, is_named=True), type=dict[str, _Notice]
            )
    for key, notice in entries.items():
        if key.count("\n") == 2:  # noqa: PLR2004 - configuration, app, subject
            for channel, at in notice.times.items():
                yield (*key.split("\n"), channel, notice.code, at.isoformat())


def _read_fleets(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the progress of fleets, whose files have a line for the run and for each completed instance."""
    for path in sorted(folder.glob("*.jsonl")) if not find_planted(folder) else ():
        key: tuple[str, ...] = ()
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                with suppress(ValueError, KeyError, TypeError):  # a crash may have cut a line
                    line = json.loads(text)
                    if "start" in line:
                        key = (str(line["fleet"]), str(line["command"]), path.stem[-12:])
                        at = str(line["start"])
                    if key and "end" not in line:
                        yield (*key, str(line["app"]) if "app" in line else "", at)
