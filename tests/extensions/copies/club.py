"""Club, an app with personal data of every kind, on each engine, with a repository for its backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.databases import ComparedDatabase, empty_database
from tests.shapes.flashpoint_web import PASSWORD_HASH

PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["members"]
[users]
table = "members"
id = { column = "id", codec = "autoincrement" }
login = ["username"]
password = { column = "secret_hash", writes = "$2b$10$" }
[users.fields]
username = "login"
email = "email"
[anonymise.databases.main.tables]
sign_ins = "empty"
places = "keep"
[anonymise.databases.main.columns]
"members.full_name" = "name"
"members.phone" = "phone"
"members.home" = "url"
"members.street" = "address"
"members.ip" = "ip"
"members.token" = "token"
"members.about" = "text"
"members.born" = "date"
"members.fee" = "number"
"members.short" = "login"
"members.profile" = { kind = "json", paths = { "mail" = "email", "lang" = "keep" }, rest = "text" }
"meta.name" = "keep"
"posts.body" = "text"
"posts.mail" = "email"
"meta.value" = { by = "name", values = { nick = "name", theme = "keep", "*_key" = "omit" }, rest = "text" }
"""
#: Types that differ between engines.
TYPES = {
    "sqlite": {"id": "integer primary key", "blob": "blob", "text": "text"},
    "postgresql": {"id": "integer primary key", "blob": "bytea", "text": "text"},
    "mysql": {"id": "integer primary key", "blob": "blob", "text": "longtext"},
}
TABLES = (
    """create table members (id {id}, login varchar(40) not null unique, email varchar(80) unique, secret_hash varchar(200) not null,
    full_name varchar(60), phone varchar(30), home varchar(120), street varchar(80), ip varchar(45), token varchar(64), about {text},
    born date, fee integer, short varchar(12), profile {text})""",
    """create table posts (id {id}, author varchar(40) not null, body {text}, mail varchar(80), place integer,
    foreign key (author) references members (login))""",
    "create table meta (id {id}, member integer, name varchar(30), value {text})",
    "create table sign_ins (id {id}, secret varchar(64), data {blob})",
    "create table places (id {id}, name varchar(40))",
    "create index posts_of_author on posts (author)",
    "create index members_by_name on members (full_name)",
)


def quote(value: object) -> str:
    """Return a value as a literal; no value has a backslash."""
    if value is None or isinstance(value, int):
        return "null" if value is None else str(value)
    return "'" + str(value).replace("'", "''") + "'"


def build_member(number: int) -> tuple[object, ...]:
    """Return a row whose texts occur in no other file."""
    mail = f"ada{number}.Quillfeather@mill{number}.example"
    return (
        number, f"quill{number:05}", mail, PASSWORD_HASH, f"Ada Quillfeather {number:05}", f"0151-55{number:06}",
        f"https://mill{number}.example/ada", f"{number} Millwheel Lane", f"93.184.{number // 250}.{number % 250}",
        f"tok-{number:05}-zebrafish", f"I like\nO'Brien's \"mill\" no {number:05}", f"19{70 + number % 30}-03-02", 1000 + number,
        f"qf{number:05}", json.dumps({"mail": mail, "lang": "de", "motto": f"Mühle {number:05} turns"}, ensure_ascii=False),
    )  # fmt: skip


def fill(database: ComparedDatabase, members: int) -> None:
    """Create the tables, and rows of members with their posts."""
    database.run(*(sql.format(**TYPES[database.engine]) for sql in TABLES))
    rows = {
        "members": [
            *map(build_member, range(1, members + 1)),
            (0, "", None, "", None, "", None, "", None, "", "", None, None, "", ""),
        ],
        "posts": [
            (
                number,
                f"quill{number:05}",
                f"Dear Ada, wheel {number:05}",
                f"ADA{number}.quillfeather@mill{number}.example",
                1,
            )
            for number in range(1, members + 1)
        ],
        "meta": [
            (3 * number + place, number, name, value)
            for number in range(1, members + 1)
            for place, (name, value) in enumerate(
                [("nick", f"Quilly{number:05}"), ("theme", "dark"), ("bio", f"bio of {number:05}q")]
            )
        ],
        "sign_ins": [(number, f"session-{number:05}-owl", None) for number in range(1, members + 1)],
        "places": [(1, "Old Mill")],
    }
    for table, values in rows.items():
        for at in range(0, len(values), 500):
            literals = ", ".join(f"({', '.join(map(quote, row))})" for row in values[at : at + 500])
            database.run(f"insert into {table} values {literals}")


def configure(folder: Path, url: str) -> None:
    """Write the profile and the configuration of an app."""
    (folder / "club.toml").write_text(PROFILE)
    (folder / "dbctl.toml").write_text(
        f'[apps.club]\nprofile = "club.toml"\n[apps.club.databases]\nmain = "{url}"\n[apps.club.backup]\nrepository = "backups"\n'
    )


@contextmanager
def open_club(engine: str, folder: Path, members: int = 20) -> Iterator[ComparedDatabase]:
    """Yield the database of the app, which is dropped at the end; its configuration is in ``folder``."""
    folder.mkdir(exist_ok=True)
    with empty_database(engine, folder / "club.db") as database:
        fill(database, members)
        configure(folder, database.url)
        yield database
