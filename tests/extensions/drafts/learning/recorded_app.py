"""A small app whose actions are SQL statements: a profile of it, and recordings of its actions."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from dbctl.extensions.drafts.learning.learn import read_changes
from dbctl.extensions.drafts.learning.recordings import Recording, Subject, create_folder, write_content
from dbctl.extensions.drafts.learning.states import StateOptions, open_state, store_state
from dbctl.model import Secret, now
from dbctl.profiles import passwords

#: With few rounds: each hash would otherwise take a quarter of a second.
FORMAT = "pbkdf2_sha256$1000$"
PROFILE = f"""\
schema = "dbctl.profile/1"
name = "shop"
title = "Shop"
time = "sqlite-time"

[databases.main]
engines = ["sqlite"]
needs = ["users", "orders"]

[users]
table = "users"
id = {{ column = "id", codec = "autoincrement" }}
login = ["username", "email"]
role = {{ column = "role", values = ["admin", "customer"], default = "customer" }}
admin = "admin"
password = {{ column = "hash", writes = "{FORMAT}" }}
new = {{ token = ":hex-32", plan = "free" }}
cascade = ["orders.user_id", "sessions.user_id"]

[users.fields]
username = "username"
email = "email"
active = "active"
created_at = "created"

[[users.create]]
table = "carts"
user = "user_id"
values = {{ code = ":uuid4", owner = "user-{{id}}" }}

[[users.signed_in]]
table = "sessions"
user = "user_id"
"""
SCHEMA = """
    create table users (id integer primary key autoincrement, username text not null unique, email text, role text not null,
        hash text not null, token text, plan text, active integer not null, created text);
    create table orders (id integer primary key, user_id integer references users (id), item text);
    create table carts (code text primary key, user_id integer references users (id), owner text);
    create table sessions (id text primary key, user_id integer);
    create table log (id integer primary key, line text);
"""


def hash_password(text: str = "first") -> str:
    return passwords.hash_password(Secret(text), FORMAT)


class RecordedApp:
    """The files of the app: its database, its profile, and recordings next to it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.profile = folder / "shop.db", folder / "shop.toml"
        self.profile.write_text(PROFILE)
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(SCHEMA)
        self.execute(
            f"""insert into users values
                (1, 'ada', 'ada@example.org', 'admin', '{hash_password()}', 'a0', 'free', 1, '2026-01-02 03:04:05'),
                (2, 'bo', 'bo@example.org', 'customer', '{hash_password()}', 'b0', 'free', 1, '2026-01-02 03:04:05');
            insert into orders values (1, 1, 'tea'), (2, 2, 'rye');
            insert into carts values ('f5dca4f5-0c6f-4b8f-8a53-6d1d8a5b1c11', 2, 'user-2');
            insert into sessions values ('s1', 1), ('s2', 2);"""
        )

    def execute(self, statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(statements)

    def record(
        self, action: str, login: str, statements: str, *, unrelated: Sequence[str] = (), **entered: str
    ) -> Path:
        """Let the app do an action, and record it; return the folder of the recording."""
        earlier = self.path.with_name("before.db")
        shutil.copy(self.path, earlier)
        self.execute(statements)
        folder = create_folder(self.profile, action)
        options = StateOptions(profile=self.profile, timeout=5)
        with open_state([earlier], options) as before, open_state([self.path], options) as after:
            recording = Recording(
                action=action,
                subject=Subject(login=login, **entered),
                recorded_at=now(),
                changes=list(read_changes(before, after)),
                unrelated=dict.fromkeys(unrelated, "by the test"),
            )
            store_state(before, folder, profile="shop")
        write_content(folder, recording)
        return folder

    def replace(self, old: str, new: str) -> None:
        """Change the profile."""
        text = self.profile.read_text()
        assert old in text
        self.profile.write_text(text.replace(old, new))
