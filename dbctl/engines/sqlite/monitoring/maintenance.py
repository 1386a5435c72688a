"""Plan the maintenance of a SQLite file, and refuse it if it is unsafe."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract import MaintenanceKind, MaintenanceTask, Storage
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.monitoring.indexes import Fetch
from dbctl.errors import InsufficientSpaceError, MaintenanceUnsafeError, NotSupportedError
from dbctl.files import read_volume

#: For each kind: the statement for the database, and for one table; None: not for single tables.
STATEMENTS: Mapping[MaintenanceKind, tuple[str, str | None]] = {
    "vacuum": ("VACUUM", None),
    "analyze": ("ANALYZE", "ANALYZE {}"),
    # 2 is the default; 0x10000 includes tables that this connection has not read
    "optimize": ("PRAGMA optimize = 0x10002", None),
    "reindex": ("REINDEX", "REINDEX {}"),
    "checkpoint": ("PRAGMA wal_checkpoint(TRUNCATE)", None),
    "wal": ("PRAGMA journal_mode = wal", None),
    "rollback-journal": ("PRAGMA journal_mode = delete", None),
}
#: A full-text index without stored text: it refers to rowids, of the table that it names or of an unknown one.
EXTERNAL_CONTENT = re.compile(
    r"create\s+virtual\s+table\b.*?\busing\s+fts[45]\s*\(.*?\bcontent\s*=\s*(?:''|\"\"|[\"'`\[]?(?P<name>[^\"'`\],)\s]+))",
    re.IGNORECASE | re.DOTALL,
)
#: Ordinary tables with rowids.
ROWID_TABLES = """select l.name from pragma_table_list l where l.schema = 'main' and l.type = 'table' and l.wr = 0
and l.name not like 'sqlite!_%' escape '!'"""


def plan_tasks(
    kind: MaintenanceKind, tables: Sequence[str], target: str, fetch: Fetch, path: Path, storage: Storage
) -> Sequence[MaintenanceTask]:
    """Return the tasks of one kind, after the checks that refuse harmful ones."""
    database_statement, table_statement = STATEMENTS[kind]
    if tables and table_statement is None:
        raise NotSupportedError(feature=f"{kind} of one table", subject=target, hint="Leave --table out.")
    if kind == "checkpoint" and storage.journal_mode != "wal":
        return []
    if kind in ("wal", "rollback-journal"):
        if (kind == "wal") == (storage.journal_mode == "wal"):
            return []
        if kind == "wal":
            _refuse_network_disk(path, target)
    if kind == "vacuum":
        _refuse_renumbering(target, fetch)
        _require_space(path, storage)
    if table_statement is None or not tables:
        return [MaintenanceTask(table="", statement=database_statement)]
    return [MaintenanceTask(table=table, statement=table_statement.format(ident(table))) for table in tables]


def _refuse_network_disk(path: Path, target: str) -> None:
    """Refuse WAL mode on network file systems, because users of a -wal share memory."""
    volume = read_volume(path.parent)
    if volume.is_network:
        raise MaintenanceUnsafeError(
            operation="WAL mode",
            target=target,
            reason=f"{path} is on {volume.mount} ({volume.kind}), which other machines may use",
            hint="Move the database to a local disk first.",
        )


def _refuse_renumbering(target: str, fetch: Fetch) -> None:
    """Refuse VACUUM if it could change rowids to which a full-text index refers."""
    texts = fetch("select sql from sqlite_master where type = 'table' and sql is not null", {})
    matches = [match for (sql,) in texts if (match := EXTERNAL_CONTENT.match(str(sql)))]
    if not matches:
        return
    named = {match["name"].lower() for match in matches if match["name"]}
    unknown = not all(match["name"] for match in matches)
    for (name,) in fetch(ROWID_TABLES, {}):
        table = str(name)
        if (unknown or table.lower() in named) and not _has_stable_rowids(table, fetch):
            raise MaintenanceUnsafeError(
                operation="VACUUM",
                target=target,
                reason=f"{table} has no INTEGER PRIMARY KEY: VACUUM may change its rowids, to which a full-text index may refer",
                hint="Skip VACUUM, because free pages are reused, or run it manually and rebuild the text index.",
            )


def _has_stable_rowids(table: str, fetch: Fetch) -> bool:
    columns = fetch(f"pragma table_info({ident(table)})", {})
    key = [row for row in columns if row[5]]
    return len(key) == 1 and str(key[0][2]).upper() == "INTEGER" and not _has_key_index(table, fetch)


def _has_key_index(table: str, fetch: Fetch) -> bool:
    """Whether the key has an index, as for ``integer primary key desc``, and so is not the rowid."""
    return any(row[3] == "pk" for row in fetch(f"pragma index_list({ident(table)})", {}))


def _require_space(path: Path, storage: Storage) -> None:
    """Refuse VACUUM without free space for the new content and for the -wal or the journal."""
    used = storage.bytes - (storage.freelist_pages or 0) * storage.page_size
    need = used + (used if storage.journal_mode == "wal" else storage.bytes)
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < need:
        raise InsufficientSpaceError(place=path.parent, required=need, free=disk.f_bavail * disk.f_frsize)
