"""Create a SQLite file with every kind of table, and damage it."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing

PAGE = 1024
FIRST_DATA_PAGE = 4  #: the first page after the catalog; other tests damage the catalog
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


def create_rng(seed):
    """Return a deterministic random generator."""
    return random.Random(seed)  # noqa: S311 - not for security


def build(path, *, seed=1):
    """Create a file with values of all types and with free pages."""
    rng = create_rng(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"pragma page_size = {PAGE}")
        db.execute("begin")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        for table in ("notes", "events"):
            db.executemany(
                f"insert into {table} values (?, ?, ?, ?)",
                (
                    (n, f"{table}{rng.randrange(99)}", table * rng.randrange(1, 30), n / 3)
                    for n in range(1, 800)
                ),
            )
        db.executemany(
            "insert or ignore into words values (?, ?, ?)",
            ((f"k{rng.randrange(500)}", rng.randrange(1000), "y" * 50) for _ in range(500)),
        )
        db.executemany(
            "insert or ignore into tags values (?, ?)",
            ((f"W{rng.randrange(5000)}", "y" * 50) for _ in range(500)),
        )
        db.executemany(
            "insert into files values (?, ?)",
            ((f"b{n}", rng.randbytes(rng.choice([10, 300, 5000, 40_000]))) for n in range(30)),
        )
        db.executemany(
            "insert into keys values (?, ?)",
            ((f"s{n}", rng.choice([1, 2.5, "t", b"x", None, 2**63 - 1])) for n in range(300)),
        )
        db.execute("delete from events where id between 100 and 250")
        db.execute("commit")
    return path


def read_rows(path, tables=TABLES):
    """Return the rows of each table with their counts; texts are bytes."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        return {
            name: Counter(db.execute(f"select {rowid_column(db, name)} * from {name}"))
            for name in tables
            if db.execute("select 1 from sqlite_master where name = ?", [name]).fetchone()
        }


def rowid_column(db, table):
    """Return the start of a column list that selects the rowid; empty for tables without rowids."""
    return "" if table in ("words", "tags") else "rowid,"


def damage(raw, kind, rng):
    """Return the bytes of a damaged file; ``kind`` is the kind of damage, and ``rng`` selects its place."""
    result, pages = bytearray(raw), len(raw) // PAGE

    def random_page():
        start = rng.randrange(FIRST_DATA_PAGE, pages) * PAGE
        return slice(start, start + PAGE)

    if kind == "zeroed":
        for _ in range(rng.choice([1, 3, 10])):
            result[random_page()] = bytes(PAGE)
    elif kind == "swapped":
        first, second = random_page(), random_page()
        result[first], result[second] = result[second], result[first]
    elif kind == "overwritten":
        result[random_page()] = raw[random_page()]
    elif kind == "noise":
        result[random_page()] = rng.randbytes(PAGE)
    elif kind == "cut":
        result = result[: rng.randrange(PAGE, len(raw))]
    elif kind == "flipped":
        for _ in range(200):
            result[rng.randrange(PAGE, len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)
