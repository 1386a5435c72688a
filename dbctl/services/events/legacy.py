"""Import what earlier versions recorded in files of their own: the journal, sent notices, and the progress of fleets."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from dbctl.errors import JournalCorruptError, JournalUnavailableError
from dbctl.files import find_planted, read_settings_bytes
from dbctl.model import JSON_ERRORS, Struct
from dbctl.services.events.store import LEGACY_NAME, SUFFIXES, connect_for_reading, exists, translate_errors

NOTICES, FLEETS = "notify.json", "runs"
#: The journal is renamed last: it exists as long as others may have to be renamed.
_NAMES = (NOTICES, FLEETS, LEGACY_NAME)
_VERSION = 1  #: of the journal
_MAX_BYTES = 64 << 20  #: of the notices


class _Notice(Struct, frozen=True, kw_only=True):
    code: str
    times: dict[str, datetime]  #: by channel


def has_files(folder: Path) -> bool:
    """Whether earlier versions recorded anything that is not imported."""
    return any(os.path.lexists(folder / name) for name in _NAMES)


def import_files(connection: sqlite3.Connection, folder: Path) -> None:
    """Insert the content of all files into an empty store, in the transaction of the caller; the files remain as they are.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read, so the store must not be created without it.
    """
    _import_journal(connection, folder / LEGACY_NAME)
    connection.executemany(
        "insert or replace into notices values (?, ?, ?, ?, ?, ?)", _read_notices(folder / NOTICES)
    )
    connection.executemany(
        "insert or ignore into progress values (?, ?, ?, ?, ?)", _read_fleets(folder / FLEETS)
    )


def rename_files(folder: Path) -> None:
    """Rename the files of earlier versions, because the store has their content; a name that exists already is not replaced."""
    for name in _NAMES:
        for suffix in (*SUFFIXES[1:], ""):
            old, new = folder / f"{name}{suffix}", folder / f"{name}.imported{suffix}"
            if os.path.lexists(old) and not os.path.lexists(new):
                with suppress(OSError):
                    old.rename(new)


def _import_journal(connection: sqlite3.Connection, path: Path) -> None:
    with translate_errors(path):
        if not exists(path):
            return
        with closing(connect_for_reading(path)) as old:
            (version,) = old.execute("pragma user_version").fetchone()
            if version > _VERSION:
                raise JournalUnavailableError(path=path, reason="a newer version of dbctl wrote it")
            if version < _VERSION:
                raise JournalCorruptError(path=path, reason="it is not a journal")
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


def _read_notices(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the rows of notices; none if the file is missing, damaged or planted, which only repeats notices."""
    entries = dict[str, _Notice]()
    if not find_planted(path):
        with suppress(OSError, *JSON_ERRORS):
            entries = msgspec.json.decode(read_settings_bytes(path, _MAX_BYTES), type=dict[str, _Notice])
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
                        key, at = (
                            (str(line["fleet"]), str(line["command"]), path.stem[-12:]),
                            str(line["start"]),
                        )
                    if key and "end" not in line:
                        yield (*key, str(line["app"]) if "app" in line else "", at)
