"""A database with values of many kinds, and functions that read it with the client of each engine."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing

import pytest

from tests import servers

SCHEMA = """
create table room (id integer primary key autoincrement, name text not null unique, floor smallint, tags json);
create table person (id varchar(40) primary key, mail varchar(100) not null, chief varchar(40) references person (id),
  room integer references room (id) on delete set null, is_admin boolean not null default false, height real,
  balance decimal(12,3), photo blob, born date, created_at timestamp not null default current_timestamp, note text);
create unique index person_mail on person (mail);
create index person_room on person (room);
create table member (person varchar(40) not null references person (id), room integer not null references room (id),
  since datetime, primary key (person, room));
create table event (happened_at timestamp, message text);
"""
TEXTS = [
    "plain",
    "tab\there",
    "line\nbreak\r\n",
    "back\\slash \\N \\t",
    "quote ' \" `",
    "é ü 漢字 🎉",
    "",
    " padded",
]


def create_source(path, people=40):
    """Create a database whose rows refer to later rows, to themselves, and in a circle."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
        db.executemany(
            "insert into room values (?, ?, ?, ?)",
            [
                (number * 7, f"room {number}", number - 3, '{"b": [1, 2.5], "a": "x"}')
                for number in range(1, 6)
            ],
        )
        db.executemany(
            "insert into person values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    f"p{number:04d}",
                    f"p{number}@example.org",
                    f"p{(number + 1) % people:04d}" if number % 3 else None,
                    (number % 5 + 1) * 7 if number % 4 else None,
                    number % 2,
                    None if number % 6 == 0 else number / 7 - 2,
                    number * 1.125 - 10,
                    None if number % 5 == 0 else bytes([0, 92, 9, 10, 255, number % 256]),
                    f"19{number % 100:02d}-02-0{number % 9 + 1}",
                    1_700_000_000_000 + number * 1_001
                    if number % 2
                    else f"2026-01-02 03:04:{number % 60:02d}",
                    TEXTS[number % len(TEXTS)],
                )
                for number in range(people)
            ],
        )
        db.executemany(
            "insert into member values (?, ?, ?)",
            [(f"p{number:04d}", 7 * (number % 5 + 1), None) for number in range(people)],
        )
        db.executemany(
            "insert into event values (?, ?)",
            [("2026-01-01 00:00:00.125", text) for text in [*TEXTS, *TEXTS]],
        )
        db.commit()
    return path


@pytest.fixture
def source(tmp_path):
    return create_source(tmp_path / "source.db")


@pytest.fixture
def databases():
    """Return a function that creates an empty database of an engine, as text of its address."""
    with ExitStack() as stack:

        def create(engine, folder):
            if engine == "postgresql":
                return servers.text(stack.enter_context(servers.postgresql_schema()))
            if engine == "mysql":
                return servers.text(stack.enter_context(servers.mysql_database()))
            return f"sqlite:///{folder / 'destination.db'}"

        yield create


def digests(result):
    """Return the digests of a result by table."""
    return {table["table"]: (table["rows"], table["digest"]) for table in result["data"]["tables"]}


def read_rows(path, table):
    """Return the rows of a SQLite file with their types, sorted."""
    with closing(sqlite3.connect(path)) as db:
        return sorted(map(repr, db.execute(f"select * from {table}")))
