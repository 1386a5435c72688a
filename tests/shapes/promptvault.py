"""Databases of PromptVault in every variant, with a few users and prompts."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymysql

from tests import servers
from tests.caching import mysql_database
from tests.shapes.flashpoint_web import PASSWORD_HASH

FOLDER = Path(__file__).parent

#: Names and checksums of the app's migrations.
LEDGER = (
    ("20250825092600_init", "22a045c7fd11a99a07ac970deb4b34660ce43cf7d0014c8dcb53996d3cea789d"),
    ("20250825092830_add_rating_unique", "3eefb4f28e9a8ff24023301ba9d000f77a663e76b36ef1e647d1cb4250ab1f3f"),
    ("20250825095253_roles_and_settings", "e1b40ac46b9bdbff0d70c10a5449fae4fd029d2327bfa2aef9e4762f804638d8"),
    ("20250825101224_teams_m2m", "289db64b81f9c735ea0d3718674d53df95cf396b5dec8070f80acf2f6b301ec6"),
    (
        "20250828120646_add_public_sharing_fields",
        "ea94259003e0f34634837009fdcd97ab1198cc58bcf462a42e64c326210e7b16",
    ),
)
LEDGER_TABLE = """create table "_prisma_migrations" (
    "id" TEXT PRIMARY KEY NOT NULL, "checksum" TEXT NOT NULL, "finished_at" DATETIME, "migration_name" TEXT NOT NULL,
    "logs" TEXT, "rolled_back_at" DATETIME, "started_at" DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count" INTEGER UNSIGNED NOT NULL DEFAULT 0
)"""

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ADA, BEN, CLEO = (f"cm8user{name:0<18}" for name in ("ada", "ben", "cleo"))
NOTES, PARSER, GARDEN = (f"cm8prompt{name:0<16}" for name in ("notes", "parser", "garden"))
TEAM = "cm8team000000000000000001"


def _day(number: int) -> datetime:
    return START + timedelta(days=number)


#: Rows by table, in an order that foreign keys allow.
ROWS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "Team": [{"id": TEAM, "name": "Research", "createdAt": _day(0)}],
    "User": [
        {"id": ADA, "email": "ada@example.org", "password": PASSWORD_HASH, "name": "Ada", "team": TEAM, "role": "ADMIN", "createdAt": _day(0), "updatedAt": _day(1)},
        {"id": BEN, "email": "ben@example.org", "password": PASSWORD_HASH, "name": "Ben", "team": "development", "role": "USER", "createdAt": _day(1), "updatedAt": _day(1)},
        {"id": CLEO, "email": "cleo@example.org", "password": PASSWORD_HASH, "name": None, "team": None, "role": "USER", "createdAt": _day(2), "updatedAt": _day(2)},
    ],
    "UserTeam": [{"userId": BEN, "teamId": TEAM}],
    "Tag": [{"id": f"cm8tag{name:0<19}", "name": name} for name in ("code", "garden", "work")],
    "Prompt": [
        {"id": NOTES, "title": "Summarize a meeting", "body": "List the decisions of a meeting, with owners.", "notes": "for mondays", "visibility": "TEAM", "userId": ADA, "createdAt": _day(3), "updatedAt": _day(9), "isPubliclyShared": True, "publicShareId": "share_k3j9x0q2a"},
        {"id": PARSER, "title": "Refactor the parser", "body": "Split this parser into functions; keep its tests green.", "visibility": "PRIVATE", "userId": BEN, "createdAt": _day(4), "updatedAt": _day(4), "isPubliclyShared": False},
        {"id": GARDEN, "title": "Plan a garden", "body": "Which vegetables fit a bed of four square metres?", "visibility": "TEAM", "userId": BEN, "createdAt": _day(5), "updatedAt": _day(5), "isPubliclyShared": False},
    ],
    "PromptVersion": [
        {"id": f"cm8version0000000000000{number:02}", "promptId": prompt, "title": title, "body": body, "createdAt": _day(day)}
        for number, (prompt, title, body, day) in enumerate([
            (NOTES, "Summarize", "List the decisions.", 3), (NOTES, "Summarize a meeting", "List the decisions of a meeting, with owners.", 9),
            (PARSER, "Refactor the parser", "Split this parser.", 4), (GARDEN, "Plan a garden", "Which vegetables?", 5),
        ])
    ],
    "PromptTag": [{"promptId": prompt, "tagId": f"cm8tag{tag:0<19}"} for prompt, tag in ((NOTES, "work"), (PARSER, "code"), (PARSER, "work"))],
    "Rating": [
        {"id": f"cm8rating00000000000000{number:02}", "value": value, "promptId": prompt, "userId": user, "createdAt": _day(6 + number)}
        for number, (prompt, user, value) in enumerate([(NOTES, ADA, 5), (NOTES, BEN, 4), (PARSER, BEN, 3)])
    ],
    "Settings": [{"id": 1, "allowRegistration": True, "updatedAt": _day(0)}],
}  # fmt: skip


def _script(name: str) -> str:
    return (FOLDER / f"promptvault-{name}.sql").read_text(encoding="utf-8")


# SQLite ------------------------------------------------------------------------------------------------------------


def _encode_like_prisma(value: object) -> object:
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def _fill(connection: sqlite3.Connection) -> None:
    for table, rows in ROWS.items():
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            values = [_encode_like_prisma(value) for value in row.values()]
            connection.execute(
                f'insert into "{table}" ({names}) values ({", ".join("?" * len(row))})', values
            )
    # a row that was inserted manually has the text of the column's default
    connection.execute("""update "User" set "createdAt" = '2026-03-04 09:30:00' where id = ?""", [CLEO])


@contextmanager
def _create_file(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("begin")
        yield connection
        connection.execute("commit")


def _run(connection: sqlite3.Connection, script: str) -> None:
    text = ""
    for piece in script.split(";"):
        text += piece + ";"
        if sqlite3.complete_statement(text):
            connection.execute(text)
            text = ""


def record_migrations(connection: sqlite3.Connection, applied: int = len(LEDGER)) -> None:
    """Record the first ``applied`` migrations, as Prisma does."""
    connection.execute(LEDGER_TABLE)
    for number, (name, checksum) in enumerate(LEDGER[:applied]):
        at = _encode_like_prisma(_day(0) + timedelta(seconds=number))
        connection.execute(
            "insert into _prisma_migrations (id, checksum, finished_at, migration_name, started_at, applied_steps_count)"
            " values (?, ?, ?, ?, ?, 1)",
            [str(uuid.UUID(int=number + 1, version=4)), checksum, at + 12, name, at],
        )


def deployed(path: Path) -> Path:
    """Create the file as the app's container does: migrations, then the full-text index."""
    with _create_file(path) as connection:
        _run(connection, _script("sqlite"))
        record_migrations(connection)
        _run(connection, _script("search"))
        _fill(connection)
    return path


def pushed(path: Path) -> Path:
    """Create the file as ``prisma db push`` does: no ledger, no full-text index."""
    with _create_file(path) as connection:
        _run(connection, _script("sqlite"))
        _fill(connection)
    return path


def document(path: Path) -> Path:
    """Create the file of the app's document, with its full-text index."""
    with _create_file(path) as connection:
        _run(connection, _script("document"))
        _fill(connection)
        _run(connection, _script("document-search"))
    return path


def decoy(path: Path) -> Path:
    """Create the empty file that the app creates in its working directory; Prisma stores the data in another file."""
    with _create_file(path) as connection:
        connection.execute("create table _meta (key text primary key, value text)")
        connection.execute("create virtual table PromptSearch using fts5(pid, title, body, tags, content='')")
    return path


# Servers -----------------------------------------------------------------------------------------------------------


@contextmanager
def on_postgresql() -> Iterator[str]:
    """Create the database in a PostgreSQL schema, as Prisma does, and yield its URL."""
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        connection.execute(_script("postgresql"))
        for table, rows in ROWS.items():
            for row in rows:
                names = ", ".join(f'"{name}"' for name in row)
                values = [
                    value.replace(tzinfo=None) if isinstance(value, datetime) else value
                    for value in row.values()
                ]
                connection.execute(
                    f'insert into "{table}" ({names}) values ({", ".join(["%s"] * len(row))})', values
                )
        yield servers.text(url)


def fill_mysql(cursor: pymysql.cursors.Cursor) -> None:
    """Create the tables and rows in MySQL, as Prisma does."""
    for statement in _script("mysql").split(";\n"):
        if any(line and not line.startswith("--") for line in statement.splitlines()):
            cursor.execute(statement)
    for table, rows in ROWS.items():
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            values = [
                value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row.values()
            ]
            cursor.execute(f'insert into "{table}" ({names}) values ({", ".join(["%s"] * len(row))})', values)


@contextmanager
def on_mysql() -> Iterator[str]:
    """Create the database on the MySQL server, and yield its URL."""
    with mysql_database(fill_mysql) as url:
        yield servers.text(url)
