"""What a new file needs beside its rows: views, triggers, indexes of words; and whether it is sound."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Concern
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.errors import name_of
from dbctl.engines.sqlite.recover.schema import Entry
from dbctl.engines.sqlite.writer import SQLiteWriter
from dbctl.errors import DbctlError
from dbctl.model import counted

#: A text index that keeps none of the text that it was made of, so that nothing can make it anew.
CONTENTLESS = re.compile(r"""content\s*=\s*(''|"")""", re.IGNORECASE)
#: Failures that are not about one statement.
FATAL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")


def finish(db: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[Concern]:
    """Make views and triggers, and take over what modules keep; yield what could not be made."""
    for kind in ("view", "trigger"):
        for one in entries:
            if one.kind == kind and one.sql:
                try:
                    db.execute(one.sql)
                except sqlite3.DatabaseError as error:
                    signals.check()
                    if name_of(error).startswith(FATAL):
                        raise
                    yield Concern(
                        severity="error",
                        code="not-made",
                        message=f"{kind} {one.name} could not be made anew: {error}",
                    )
    if any(one.name == "sqlite_stat1" for one in entries):
        db.execute("analyze")
    # The tables of a module were filled as they were, so the module must not make them: its line alone is written.
    db.execute("pragma writable_schema = on")
    for one in entries:
        if one.virtual:
            db.execute(
                "insert into sqlite_master (type, name, tbl_name, rootpage, sql) values ('table', ?, ?, 0, ?)",
                [one.name, one.name, one.sql],
            )


def looked_at(path: Path, target: str, entries: Sequence[Entry]) -> Iterator[Concern]:
    """Mend indexes of words where they do not agree with their rows; yield what is wrong with the new file."""
    with closing(SQLiteWriter(path, target)) as db:
        names = list(db.text_indexes())
    for name in names:
        yield from _text_index(path, target, next(one for one in entries if one.name == name))
    with closing(SQLiteWriter(path, target)) as db:
        for one in db.orphans():
            yield Concern(
                severity="warning",
                code="foreign-key-orphans",
                message=f"{counted(one.number, 'row')} of {one.table} with {', '.join(one.columns)} of no row in {one.to}",
            )
        for line in db.damage():
            yield Concern(severity="error", code="corrupt-anew", message=f"the new file: {line}")


def _text_index(path: Path, target: str, entry: Entry) -> Iterator[Concern]:
    reason = _damage(path, target, entry.name)
    if not reason:
        return
    what = f"{entry.name}, an index for searching text,"
    if CONTENTLESS.search(entry.sql or ""):
        message = f"{what} is damaged, and keeps nothing to make it anew: {reason}"
        yield Concern(severity="error", code="text-index", message=message)
        return
    try:
        _make_anew(path, entry)
        reason = _damage(path, target, entry.name)
    except sqlite3.Error as error:
        signals.check()
        if name_of(error).startswith(FATAL):
            raise
        reason = str(error)
    if reason:
        yield Concern(severity="error", code="text-index", message=f"{what} could not be made anew: {reason}")
    else:
        yield Concern(severity="info", code="text-index", message=f"{what} was made anew from its rows")


def _damage(path: Path, target: str, name: str) -> str:
    try:
        with closing(SQLiteWriter(path, target)) as db:
            return db.text_index_damage(name)
    except DbctlError as error:
        return str(error)


def _make_anew(path: Path, entry: Entry) -> None:
    """Give an index of words the tables of an empty one, but for the text itself, and let it read that anew."""
    with (
        closing(sqlite3.connect(":memory:")) as empty,
        closing(sqlite3.connect(path, isolation_level=None)) as db,
    ):
        empty.execute(entry.sql or "")
        made = empty.execute(
            "select name from sqlite_master where type = 'table' and rootpage > 0"
        ).fetchall()
        db.execute("begin")
        for (table,) in made:
            if table.lower() == f"{entry.name}_content".lower():
                continue
            db.execute(f"delete from {ident(table)}")  # noqa: S608 - the name is quoted
            for row in empty.execute(f"select * from {ident(table)}"):  # noqa: S608 - as above
                marks = ", ".join("?" for _ in row)
                db.execute(f"insert into {ident(table)} values ({marks})", row)  # noqa: S608 - as above
        db.execute(f"insert into {ident(entry.name)} ({ident(entry.name)}) values ('rebuild')")  # noqa: S608 - as above
        db.execute("commit")
