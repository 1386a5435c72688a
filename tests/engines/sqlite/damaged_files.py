"""A SQLite file with every kind of table, and ways to damage it."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing

PAGE = 1024
FIRST = 4  #: pages that hold the list of tables, which has tests of its own
TABLES = ("notes", "events", "words", "tags", "files", "keys")

SCHEMA = """
create table notes (id integer primary key, who text, body text, score real);
create table events (id integer primary key autoincrement, who text, body text, score real);
create index notes_who on notes (who);
create table words (a text, b int, c text, primary key (a, b desc)) without rowid;
create table tags (name text collate nocase primary key, note) without rowid;
create table files (name text, data blob);
create table keys (id text primary key, value any) strict
"""


def chance(seed):
    """Return a source of chance that gives the same on every run."""
    return random.Random(seed)  # noqa: S311 - nobody has to be kept from guessing it


def build(path, *, seed=1):
    """Make the file: rows of every kind of value, and pages that deleted rows left behind."""
    at = chance(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"pragma page_size = {PAGE}")
        db.execute("begin")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        for table in ("notes", "events"):
            db.executemany(
                f"insert into {table} values (?, ?, ?, ?)",
                (
                    (n, f"{table}{at.randrange(99)}", table * at.randrange(1, 30), n / 3)
                    for n in range(1, 800)
                ),
            )
        db.executemany(
            "insert or ignore into words values (?, ?, ?)",
            ((f"k{at.randrange(500)}", at.randrange(1000), "y" * 50) for _ in range(500)),
        )
        db.executemany(
            "insert or ignore into tags values (?, ?)",
            ((f"W{at.randrange(5000)}", "y" * 50) for _ in range(500)),
        )
        db.executemany(
            "insert into files values (?, ?)",
            ((f"b{n}", at.randbytes(at.choice([10, 300, 5000, 40_000]))) for n in range(30)),
        )
        db.executemany(
            "insert into keys values (?, ?)",
            ((f"s{n}", at.choice([1, 2.5, "t", b"x", None, 2**63 - 1])) for n in range(300)),
        )
        db.execute("delete from events where id between 100 and 250")
        db.execute("commit")
    return path


def content(path, tables=TABLES):
    """Return every row of each table, as bytes where it is text, how often it is there."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        return {
            name: Counter(db.execute(f"select {key(db, name)} * from {name}"))
            for name in tables
            if db.execute("select 1 from sqlite_master where name = ?", [name]).fetchone()
        }


def key(db, table):
    """Return the rowid as the beginning of a list of columns, where there is one."""
    return "" if table in ("words", "tags") else "rowid,"


def damaged(raw, way, at):
    """Return the bytes of a file damaged in one ``way``; ``at`` is a source of chance."""
    spoiled, pages = bytearray(raw), len(raw) // PAGE

    def place():
        begin = at.randrange(FIRST, pages) * PAGE
        return slice(begin, begin + PAGE)

    if way == "zeroed":
        for _ in range(at.choice([1, 3, 10])):
            spoiled[place()] = bytes(PAGE)
    elif way == "swapped":
        one, other = place(), place()
        spoiled[one], spoiled[other] = spoiled[other], spoiled[one]
    elif way == "overwritten":
        spoiled[place()] = raw[place()]
    elif way == "noise":
        spoiled[place()] = at.randbytes(PAGE)
    elif way == "cut":
        spoiled = spoiled[: at.randrange(PAGE, len(raw))]
    elif way == "flipped":
        for _ in range(200):
            spoiled[at.randrange(PAGE, len(spoiled))] ^= 1 << at.randrange(8)
    return bytes(spoiled)
