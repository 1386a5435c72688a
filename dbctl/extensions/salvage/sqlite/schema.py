"""Read the catalog of a damaged file, or of a reference file in its place."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.connection import connect
from dbctl.engines.sqlite.errors import ErrorContext, translate_error
from dbctl.engines.sqlite.values import RawText
from dbctl.extensions.salvage.sqlite.btree import Gap, Trees

KINDS = ("table", "index", "view", "trigger")
FIELDS = 5
_DECLARED = "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!'"
CREATE = re.compile(r"create\s+(?:table|(?:unique\s+)?index|view|trigger|virtual\s+table)\b", re.IGNORECASE)


class Entry(NamedTuple):
    """One row of ``sqlite_master``."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None  #: None for the index of a constraint
    is_text: bool = True  #: whether its definition had no bytes that are not text, which are replaced

    @property
    def is_virtual(self) -> bool:
        return self.kind == "table" and self.sql is not None and re.match(VIRTUAL, self.sql) is not None

    @property
    def is_internal(self) -> bool:
        """Whether it is an internal table of SQLite."""
        return self.name.lower().startswith("sqlite_")


class ReferenceSchema(NamedTuple):
    """The catalog of a valid database with the same schema."""

    page_size: int
    entries: Sequence[Entry]
    path: Path | None = None


def read_schema(trees: Trees) -> tuple[list[Entry], list[Gap], int]:
    """Return the readable entries of the catalog, its unreadable parts, and the number of lost entries."""
    entries, gaps, lost = list[Entry](), list[Gap](), 0
    for batch in trees.read_table(1, lambda _key, fields: _is_entry(fields)):
        lost += len(batch.lost) + batch.unnamed + len(batch.rejected)
        if batch.gap:
            gaps.append(batch.gap)
        for _, fields in batch.rows:
            kind, name, table, root, sql = fields
            entries.append(
                Entry(
                    str(kind),
                    str(name),
                    str(table),
                    root if isinstance(root, int) else 0,
                    _decode(sql),
                    not isinstance(sql, RawText),
                )
            )
    return entries, gaps, lost


def _is_entry(fields: list[object]) -> bool:
    if len(fields) != FIELDS or fields[0] not in KINDS:
        return False
    if not all(isinstance(value, str) and "\0" not in value for value in fields[1:3]):
        return False
    sql = _decode(fields[4])
    if sql and "\0" in sql:
        return False  # partly on a page of zeros
    return sql is None or bool(CREATE.match(sql))


def _decode(sql: object) -> str | None:
    """Return a definition, with replaced bytes that are not text."""
    if isinstance(sql, RawText):
        return sql.decode(errors="replace")
    return None if sql is None else str(sql)


def correct_name(entry: Entry) -> Entry:
    """Return a table whose declaration has the name of its entry.

    Of the three names of a table (``name``, ``tbl_name`` and the name in the text), the one that occurs twice is used,
    otherwise the first.

    Raises:
        sqlite3.Error: the declaration cannot be executed.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute(entry.sql or "")
        names = [str(name) for (name,) in db.execute(_DECLARED)]
        if len(names) != 1 or names[0].lower() == entry.name.lower():
            return entry
        if names[0].lower() == entry.table.lower():
            return entry._replace(name=names[0])
        db.execute(f"alter table {ident(names[0])} rename to {ident(entry.name)}")
        ((sql,),) = db.execute("select sql from sqlite_master where name = ?", [entry.name]).fetchall()
        return entry._replace(sql=str(sql))


def read_reference(path: Path, target: str) -> ReferenceSchema:
    """Return the catalog of a valid database.

    Raises:
        NotADatabaseError, CorruptError, UnreachableError: the file is not a valid database, or not readable.
    """
    try:
        with closing(connect(path.absolute(), "mode=ro")) as db:
            (size,) = db.execute("pragma page_size").fetchone()
            rows = db.execute("select type, name, tbl_name, rootpage, sql from sqlite_master").fetchall()
    except sqlite3.Error as error:
        raise translate_error(error, ErrorContext(target=target, path=path, read_only=True)) from error
    return ReferenceSchema(size, [Entry(*row) for row in rows], path)
