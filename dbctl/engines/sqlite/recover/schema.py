"""What a damaged file still tells of its tables, indexes, views and triggers, and what a sound one tells in its place."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from dbctl.engines.sql import ident
from dbctl.engines.sqlite.errors import Place, translated
from dbctl.engines.sqlite.files import quoted
from dbctl.engines.sqlite.recover.btree import Gap, Trees
from dbctl.engines.sqlite.recover.records import RawText

KINDS = ("table", "index", "view", "trigger")
FIELDS = 5
_DECLARED = "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!'"
VIRTUAL = re.compile(r"create\s+virtual\s+table\b", re.IGNORECASE)
CREATE = re.compile(r"create\s+(?:table|(?:unique\s+)?index|view|trigger|virtual\s+table)\b", re.IGNORECASE)


class Entry(NamedTuple):
    """One row of ``sqlite_master``."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None  #: None for what SQLite makes by itself for a constraint

    @property
    def virtual(self) -> bool:
        """Whether a module keeps it in other tables."""
        return self.kind == "table" and self.sql is not None and bool(VIRTUAL.match(self.sql))

    @property
    def own(self) -> bool:
        """Whether it is a table that SQLite keeps for itself."""
        return self.name.lower().startswith("sqlite_")


class Like(NamedTuple):
    """What a sound database of the same shape tells."""

    page_size: int
    entries: Sequence[Entry]
    path: Path | None = None


def read(trees: Trees) -> tuple[list[Entry], list[Gap], int]:
    """Return what the file tells itself, the parts that cannot be read, and how many lines of it are lost."""
    found, gaps, lost = list[Entry](), list[Gap](), 0
    for batch in trees.table(1, lambda _key, fields: _is_entry(fields)):
        lost += len(batch.lost) + batch.unnamed + len(batch.aside)
        if batch.gap:
            gaps.append(batch.gap)
        for _, fields in batch.rows:
            kind, name, table, root, sql = fields
            found.append(
                Entry(
                    str(kind),
                    str(name),
                    str(table),
                    root if isinstance(root, int) else 0,
                    None if sql is None else str(sql),
                )
            )
    return found, gaps, lost


def _is_entry(fields: list[object]) -> bool:
    if len(fields) != FIELDS or fields[0] not in KINDS:
        return False
    if not all(isinstance(one, str) and "\0" not in one for one in fields[1:3]):
        return False
    if isinstance(fields[4], RawText) or (isinstance(fields[4], str) and "\0" in fields[4]):
        return False  # in part on a page of zeros
    return fields[4] is None or (isinstance(fields[4], str) and bool(CREATE.match(fields[4])))


def corrected(entry: Entry) -> Entry:
    """Return a table whose declaration has the name of its entry.

    Of the three names of a table (its own, that of ``tbl_name`` and that in the text) the one that occurs twice counts,
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


def like(path: Path, target: str) -> Like:
    """Return what a sound database tells.

    Raises:
        NotADatabaseError, CorruptError, UnreachableError: it is none, or cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"file://{quoted(path.absolute())}?mode=ro", uri=True)) as db:
            (size,) = db.execute("pragma page_size").fetchone()
            rows = db.execute("select type, name, tbl_name, rootpage, sql from sqlite_master").fetchall()
    except sqlite3.Error as error:
        raise translated(error, Place(target=target, path=path, timeout=0, reading=True)) from error
    return Like(size, [Entry(*row) for row in rows], path)
