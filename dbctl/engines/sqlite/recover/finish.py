"""Complete the new file with views, triggers and full-text indexes, and verify it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.monitoring import EngineFinding
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.checks import SQLiteChecks
from dbctl.engines.sqlite.database import SQLiteWriter
from dbctl.engines.sqlite.errors import get_error_name
from dbctl.engines.sqlite.recover.schema import Entry
from dbctl.errors.base import DbctlError
from dbctl.model import format_count

#: A full-text index without stored text and without a content table, which cannot be rebuilt.
CONTENTLESS = re.compile(r"""content\s*=\s*(''|"")""", re.IGNORECASE)
#: Errors that do not concern a single statement.
FATAL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")


def create_entries(
    db: sqlite3.Connection, entries: Sequence[Entry], kind: str
) -> Iterator[tuple[Entry, Exception]]:
    """Create the objects of one kind; yield those that could not be created."""
    for entry in entries:
        if entry.kind == kind and entry.sql:
            try:
                db.execute(entry.sql)
            except sqlite3.DatabaseError as error:
                raise_if_fatal(error)
                yield entry, error


def raise_if_fatal(error: sqlite3.Error) -> None:
    """Raise an error that does not concern a single statement, or the interruption that caused it."""
    signals.raise_if_interrupted()
    if get_error_name(error).startswith(FATAL):
        raise error


def create_objects(db: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[EngineFinding]:
    """Create views, triggers and virtual tables; yield the objects that could not be created."""
    for kind in ("view", "trigger"):
        for entry, error in create_entries(db, entries, kind):
            message = f"{kind} {entry.name} could not be created: {error}"
            yield EngineFinding(severity="error", code="not-created", message=message)
    if any(entry.name == "sqlite_stat1" for entry in entries):
        db.execute("analyze")
    # The shadow tables are already filled, so only the catalog entry of the virtual table is written.
    db.execute("pragma writable_schema = on")
    for entry in entries:
        if entry.is_virtual:
            db.execute(
                "insert into sqlite_master (type, name, tbl_name, rootpage, sql) values ('table', ?, ?, 0, ?)",
                [entry.name, entry.name, entry.sql],
            )


def verify_and_repair(path: Path, target: str, entries: Sequence[Entry]) -> Iterator[EngineFinding]:
    """Rebuild full-text indexes that differ from their rows; yield the problems of the new file."""
    with closing(SQLiteWriter(path, target)) as db:
        names = list(SQLiteChecks(db).list_text_indexes())
    for name in names:
        yield from _repair_text_index(path, target, next(entry for entry in entries if entry.name == name))
    with closing(SQLiteWriter(path, target)) as db:
        checks = SQLiteChecks(db)
        for orphans in checks.find_orphaned_rows():
            yield EngineFinding(
                severity="warning",
                code="foreign-key-orphans",
                message=f"{format_count(orphans.count, 'row')} of {orphans.table} ({', '.join(orphans.columns)}) refer to missing rows of {orphans.referenced_table}",
            )
        for line in checks.find_damage():
            yield EngineFinding(
                severity="error", code="corrupt-after-rebuild", message=f"the new file: {line}"
            )


def _repair_text_index(path: Path, target: str, entry: Entry) -> Iterator[EngineFinding]:
    reason = _read_damage(path, target, entry.name)
    if not reason:
        return
    label = f"{entry.name} (full-text index)"
    if CONTENTLESS.search(entry.sql or ""):
        message = f"{label} is damaged and stores no text to rebuild it from: {reason}"
        yield EngineFinding(severity="error", code="text-index-damaged", message=message)
        return
    try:
        _rebuild_text_index(path, entry)
        reason = _read_damage(path, target, entry.name)
    except sqlite3.Error as error:
        raise_if_fatal(error)
        reason = str(error)
    if reason:
        yield EngineFinding(
            severity="error", code="text-index-damaged", message=f"{label} could not be rebuilt: {reason}"
        )
    else:
        yield EngineFinding(
            severity="info", code="text-index-rebuilt", message=f"{label} was rebuilt from its rows"
        )


def _read_damage(path: Path, target: str, name: str) -> str:
    try:
        with closing(SQLiteWriter(path, target)) as db:
            return SQLiteChecks(db).check_text_index(name)
    except DbctlError as error:
        return str(error)


def _rebuild_text_index(path: Path, entry: Entry) -> None:
    """Replace the shadow tables of a full-text index, except its text, with empty ones, and rebuild it."""
    with (
        closing(sqlite3.connect(":memory:")) as empty,
        closing(sqlite3.connect(path, isolation_level=None)) as db,
    ):
        empty.execute(entry.sql or "")
        tables = empty.execute(
            "select name from sqlite_master where type = 'table' and rootpage > 0"
        ).fetchall()
        db.execute("begin")
        for (table,) in tables:
            if table.lower() == f"{entry.name}_content".lower():
                continue
            db.execute(f"delete from {ident(table)}")
            for row in empty.execute(f"select * from {ident(table)}"):
                placeholders = ", ".join("?" for _ in row)
                db.execute(f"insert into {ident(table)} values ({placeholders})", row)
        # rebuild_fts of sqlite-utils searches for the index with LIKE, which may return another one
        db.execute(f"insert into {ident(entry.name)} ({ident(entry.name)}) values ('rebuild')")
        db.execute("commit")
