"""Databases of WaQtor in every variant: deployed, document, and the legacy SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import psycopg

FOLDER = Path(__file__).parent
MIGRATIONS = FOLDER.parents[1] / "migrations" / "waqtor"

Shape = Literal["deployed", "document"]

#: The password of every user except ``UNUSED``. The hashes are those of bcryptjs, with cost 4 because a higher cost would slow the tests.
PASSWORD = "correct horse"
BOSS, ANA, VIC, OFF, UNUSED = (f"aaaaaaaa-0000-4000-8000-{number:012d}" for number in range(1, 6))


def key(letter: str, number: int) -> str:
    """Return the id of a row; letters: a users, b sessions, c messages, d campaigns, e recipients, 9 groups."""
    return f"{letter * 8}-0000-4000-8000-{number:012d}"


def deployed(connection: psycopg.Connection, *, rows: bool = True) -> None:
    """Create the thirteen tables of the app's Sequelize models, with rows."""
    connection.execute(_text("waqtor-deployed.sql"))
    if rows:
        connection.execute(_text("waqtor-deployed-rows.sql"))


def document(connection: psycopg.Connection, *, rows: bool = True) -> None:
    """Create the seven tables of the document, with the content of the deployed variant."""
    connection.execute(_text("waqtor-document.sql"))
    if rows:
        connection.execute(_text("waqtor-document-rows.sql"))


def legacy(path: Path) -> Path:
    """Create ``waqtor.db`` with the schema that the app creates at every start, and rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_text("waqtor-legacy.sql"))
        connection.executescript("""
            insert into api_keys (key, name) values ('waqtor_default_key_change_me', 'Default API Key');
            insert into campaigns (name, message, recipients, status) values ('Old', 'Hi', '["491700001"]', 'partial');
            insert into message_logs (phone, message, message_id) values ('491700001@c.us', 'Hi', 'true_1');
            insert into session_state (id, status, qr_code) values (1, 'qr', 'QR-SECRET');
        """)
    return path


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
