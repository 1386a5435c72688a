"""A chat app in two places, SQLite and LanceDB, whose messages and vectors belong together, with a repository."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import lancedb

from tests.engines import lance
from tests.engines.lance import TABLE

PROFILE = """schema = "dbctl.profile/1"
name = "pair"
title = "Chat in two places"
time = "sqlite-time"

[databases.chat]
engines = ["sqlite"]
needs = ["messages"]

[databases.vectors]
engines = ["lancedb"]
optional = true

[backup]
names = { chat = "chat_{time}.db.gz", vectors = "lancedb_{time}.tar.gz" }
foreign = [
    { name = "chat_{time}.db.gz", database = "chat" },
    { name = "lancedb_{time}.tar.gz", database = "vectors", says = "It may not hold one moment." },
]
"""
CONFIG = """[apps.talk]
profile = "{folder}/pair.toml"
[apps.talk.databases]
chat = "chat.db"
vectors = "lancedb"
[apps.talk.backup]
repository = "backups"
{more}
"""


def settle(folder: Path, numbers: range = range(30), *, more: str = "") -> Path:
    """Make the app in a folder; return the path of its SQLite file. Each message has one vector."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pair.toml").write_text(PROFILE)
    (folder / "dbctl.toml").write_text(CONFIG.format(folder=folder, more=more))
    path = folder / "chat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table messages (id text primary key, content text not null)")
    lance.made(vectors(path), ())
    say(path, numbers)
    return path


def vectors(path: Path) -> Path:
    """Return the folder of the vectors of the app whose SQLite file is at ``path``."""
    return path.with_name("lancedb")


def table(path: Path) -> lancedb.table.Table:
    """Open the table of vectors as an app that has just started does."""
    return lancedb.connect(vectors(path)).open_table(TABLE)


def say(path: Path, numbers: range) -> None:
    """Write messages, and their vectors."""
    written = [lance.row(number) for number in numbers]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("insert into messages values (:message_id, :content)", written)
    if written:
        table(path).add(written)


def unsay(path: Path, number: int) -> None:
    """Take a message away, and its vector."""
    name = lance.row(number)["message_id"]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from messages where id = ?", (name,))
    table(path).delete(f"message_id = '{name}'")


def state(path: Path) -> tuple[list[str], list[str]]:
    """Return the keys of the messages and those of the vectors, every one of which can be read."""
    with closing(sqlite3.connect(path)) as connection:
        messages = [name for (name,) in connection.execute("select id from messages order by id")]
    told = table(path).search().to_arrow()
    assert all(len(one) == lance.SIZE for one in told.column("vector").to_pylist())
    return messages, sorted(told.column("message_id").to_pylist())


def both(numbers: range) -> tuple[list[str], list[str]]:
    """Return what ``state`` tells of an app that has these messages and nothing else."""
    names = sorted(str(lance.row(number)["message_id"]) for number in numbers)
    return names, names


def nearest(path: Path) -> list[list[str]]:
    """Return the ten nearest of ten vectors."""
    found = table(path)
    return [
        [one["message_id"] for one in found.search(lance.vector(1000 + number)).limit(10).to_list()]
        for number in range(10)
    ]
