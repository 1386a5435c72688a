"""Looking after a SQLite file: what it takes, and when it would do harm."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract import Storage, Task, Upkeep
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.monitoring.indexes import Fetch
from dbctl.errors import NotSupportedError, RoomMissingError, UpkeepUnsafeError
from dbctl.files import volume_of

#: For each kind: the whole database, and one table; None: not by itself.
STATEMENTS: Mapping[Upkeep, tuple[str, str | None]] = {
    "vacuum": ("VACUUM", None),
    "analyze": ("ANALYZE", "ANALYZE {}"),
    # 2 is what it does by itself; the rest has it look at tables that this connection has not read, with a limit
    "optimize": ("PRAGMA optimize = 0x10002", None),
    "reindex": ("REINDEX", "REINDEX {}"),
    "checkpoint": ("PRAGMA wal_checkpoint(TRUNCATE)", None),
    "wal": ("PRAGMA journal_mode = wal", None),
    "rollback-journal": ("PRAGMA journal_mode = delete", None),
}
#: An index for searching text that keeps no text itself: it knows rows by their numbers, of the table that it names, or
#: of one that only the app knows.
OF_ANOTHER = re.compile(
    r"create\s+virtual\s+table\b.*?\busing\s+fts[45]\s*\(.*?\bcontent\s*=\s*(?:''|\"\"|[\"'`\[]?(?P<name>[^\"'`\],)\s]+))",
    re.IGNORECASE | re.DOTALL,
)
#: Tables whose rows have numbers, beside those that make up others.
NUMBERED = """select l.name from pragma_table_list l where l.schema = 'main' and l.type = 'table' and l.wr = 0
and l.name not like 'sqlite!_%' escape '!'"""


def tasks(
    kind: Upkeep, tables: Sequence[str], target: str, fetch: Fetch, path: Path, found: Storage
) -> Sequence[Task]:
    """Return what is to be done, once nothing stands against it."""
    whole, single = STATEMENTS[kind]
    if tables and single is None:
        raise NotSupportedError(what=f"{kind} of one table", by=target, instead="Leave --table out.")
    if kind == "checkpoint" and found.journal_mode != "wal":
        return []
    if kind in ("wal", "rollback-journal"):
        if (kind == "wal") == (found.journal_mode == "wal"):
            return []
        if kind == "wal":
            _refuse_network_disk(path, target)
    if kind == "vacuum":
        _refuse_harm(target, fetch)
        _want_room(path, found)
    if single is None or not tables:
        return [Task(table="", statement=whole)]
    return [Task(table=table, statement=single.format(ident(table))) for table in tables]


def _refuse_network_disk(path: Path, target: str) -> None:
    """Refuse a write-ahead log where other machines may open the file: its users share memory."""
    volume = volume_of(path.parent)
    if volume.shared:
        raise UpkeepUnsafeError(
            what="a write-ahead log",
            target=target,
            reason=f"{path} is on {volume.mount} ({volume.kind}), which other machines may use, too",
            instead="Move the database to a disk of this machine first.",
        )


def _refuse_harm(target: str, fetch: Fetch) -> None:
    """Refuse to give new numbers to the rows of a table when an index for searching text knows them by the old ones."""
    texts = fetch("select sql from sqlite_master where type = 'table' and sql is not null", {})
    found = [one for (sql,) in texts if (one := OF_ANOTHER.match(str(sql)))]
    if not found:
        return
    named = {one["name"].lower() for one in found if one["name"]}
    unknown = not all(one["name"] for one in found)
    for (name,) in fetch(NUMBERED, {}):
        table = str(name)
        if (unknown or table.lower() in named) and not _keeps_numbers(table, fetch):
            raise UpkeepUnsafeError(
                what="VACUUM",
                target=target,
                reason=f"{table} has no INTEGER PRIMARY KEY, so its rows may get new numbers, and an index for searching text may know them by the old ones",
                instead="Rebuild the text index right after a VACUUM by hand, or let it be: free pages are used again.",
            )


def _keeps_numbers(table: str, fetch: Fetch) -> bool:
    columns = fetch(f"pragma table_info({ident(table)})", {})
    key = [row for row in columns if row[5]]
    return len(key) == 1 and str(key[0][2]).upper() == "INTEGER" and not _has_index(table, fetch)


def _has_index(table: str, fetch: Fetch) -> bool:
    """Whether the key is kept in an index, as that of ``integer primary key desc`` is, and so is not the row's number."""
    return any(row[3] == "pk" for row in fetch(f"pragma index_list({ident(table)})", {}))


def _want_room(path: Path, found: Storage) -> None:
    """Refuse what would not fit: the new content is written twice, or the old one is kept beside it meanwhile."""
    used = found.bytes - (found.freelist_pages or 0) * found.page_size
    need = used + (used if found.journal_mode == "wal" else found.bytes)
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < need:
        raise RoomMissingError(place=path.parent, need=need, room=disk.f_bavail * disk.f_frsize)
