"""A chat app with messages in SQLite and their vectors in LanceDB, and a repository."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import lancedb

from tests.engines import lance
from tests.engines.lance import TABLE

PROFILE = """schema = "dbctl.profile/1"
name = "pair"
title = "Chat in two databases"
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
    { name = "lancedb_{time}.tar.gz", database = "vectors", note = "It may be inconsistent." },
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


def create_app(folder: Path, numbers: range = range(30), *, extra: str = "") -> Path:
    """Create the app in a folder; return the path of its SQLite file. Each message has one vector."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pair.toml").write_text(PROFILE)
    (folder / "dbctl.toml").write_text(CONFIG.format(folder=folder, more=extra))
    path = folder / "chat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table messages (id text primary key, content text not null)")
    lance.create_table(vector_folder(path), ())
    add_messages(path, numbers)
    return path


def vector_folder(path: Path) -> Path:
    """Return the folder of the vectors of the app whose SQLite file is at ``path``."""
    return path.with_name("lancedb")


def open_table(path: Path) -> lancedb.table.Table:
    """Open the table of vectors with a new connection."""
    return lancedb.connect(vector_folder(path)).open_table(TABLE)


def add_messages(path: Path, numbers: range) -> None:
    """Add messages and their vectors."""
    rows = [lance.create_row(number) for number in numbers]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("insert into messages values (:message_id, :content)", rows)
    if rows:
        open_table(path).add(rows)


def delete_message(path: Path, number: int) -> None:
    """Delete a message and its vector."""
    name = lance.create_row(number)["message_id"]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from messages where id = ?", (name,))
    open_table(path).delete(f"message_id = '{name}'")


def read_keys(path: Path) -> tuple[list[str], list[str]]:
    """Read every vector; return the keys of the messages and of the vectors."""
    with closing(sqlite3.connect(path)) as connection:
        messages = [name for (name,) in connection.execute("select id from messages order by id")]
    vectors_table = open_table(path).search().to_arrow()
    assert all(len(vector) == lance.SIZE for vector in vectors_table.column("vector").to_pylist())
    return messages, sorted(vectors_table.column("message_id").to_pylist())


def expected_keys(numbers: range) -> tuple[list[str], list[str]]:
    """Return the keys of an app with exactly these messages."""
    names = sorted(str(lance.create_row(number)["message_id"]) for number in numbers)
    return names, names


def find_nearest(path: Path) -> list[list[str]]:
    """Return the ten nearest messages of each of ten vectors."""
    vectors_table = open_table(path)
    return [
        [
            row["message_id"]
            for row in vectors_table.search(lance.create_vector(1000 + number)).limit(10).to_list()
        ]
        for number in range(10)
    ]
