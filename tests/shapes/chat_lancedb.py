"""Databases of the chat app in the document variant and as deployments have them, with a few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.databases import create_database

FOLDER = Path(__file__).parent
#: Invented tokens; no output may contain them.
TOKEN = "ya29.not-a-real-token"

ANON, OLD = "USER-0A1B2C3D-4E5F6071-8293A4B5-C6D7E8F9", "USER-7QX2AB-1760"
GOOGLE = "104729183746501928374"
PYTHON, GARDEN, THEIRS = "chat-python", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "chat-theirs"
QUESTION, ANSWER, FOLLOW_UP, PLANTS, THEIR = "msg-1", "msg-2", "msg-3", "msg-4", "msg-5"

Rows = Mapping[str, Sequence[Mapping[str, object]]]

USERS_TABLE = """
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  email TEXT UNIQUE,
  name TEXT,
  image TEXT,
  google_id TEXT UNIQUE,
  account_type TEXT DEFAULT 'anonymous' CHECK (account_type IN ('anonymous', 'google')),
  migrated_from TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
  last_active DATETIME DEFAULT CURRENT_TIMESTAMP,
  preferences TEXT DEFAULT '{}'
);
"""
USERS = [
    {"id": ANON, "created_at": "2025-10-19 10:00:00", "last_active": "2025-10-20 09:00:00", "preferences": '{"theme":"dark","size":14}'},
    {"id": OLD, "created_at": "2025-10-18 10:00:00", "last_active": "2025-10-18 11:00:00"},
]  # fmt: skip
SIGNED_IN = {
    "id": GOOGLE, "email": "ada@example.org", "name": "Ada", "google_id": GOOGLE, "account_type": "google",
    "migrated_from": "USER-GONE", "created_at": "2025-10-26 10:00:00", "last_active": "2025-10-27 10:00:00",
}  # fmt: skip
ROWS: Rows = {
    "chats": [
        {"id": PYTHON, "user_id": ANON, "title": "Python Discussion", "created_at": "2025-10-19 10:00:00", "updated_at": "2025-10-19 10:00:05", "is_active": 1},
        {"id": GARDEN, "user_id": ANON, "title": "A garden", "created_at": "2025-10-20 10:00:00", "updated_at": "2025-10-20 10:00:00", "is_active": 0},
        {"id": THEIRS, "user_id": OLD, "title": "100%_sure", "created_at": "2025-10-18 10:00:00", "updated_at": "2025-10-18 10:00:00", "is_active": 1},
    ],
    # A question and its answer have the same time in seconds: only the order of the rows shows which is first.
    "messages": [
        {"id": ANSWER, "chat_id": PYTHON, "user_id": ANON, "role": "user", "content": "What is Python?", "timestamp": "2025-10-19 10:00:00"},
        {"id": QUESTION, "chat_id": PYTHON, "user_id": ANON, "role": "assistant", "content": "A language, 100% readable", "timestamp": "2025-10-19 10:00:00", "metadata": '{"model":"gemini-2.5-flash"}'},
        {"id": FOLLOW_UP, "chat_id": PYTHON, "user_id": ANON, "role": "user", "content": "And a snake?", "timestamp": "2025-10-19 10:00:05"},
        {"id": PLANTS, "chat_id": GARDEN, "user_id": ANON, "role": "user", "content": "Which plants like shade?", "timestamp": "2025-10-20 10:00:00", "attachments": '[{"id":"att-1","type":"image/jpeg"},{"id":"att-2","type":"image/png"}]'},
        {"id": THEIR, "chat_id": THEIRS, "user_id": OLD, "role": "user", "content": "Is Python fast?", "timestamp": "2025-10-18 10:00:00"},
    ],
    "attachments": [
        {"id": "att-1", "message_id": PLANTS, "name": "bed.jpg", "type": "image/jpeg", "size": 2048, "data": "iVBORw0KGgo="},
        {"id": "att-2", "message_id": PLANTS, "name": "a.png", "type": "image/png", "size": 100},
    ],
}  # fmt: skip
ACCOUNTS: Rows = {
    "accounts": [
        {"id": "acc-1", "user_id": GOOGLE, "type": "oauth", "provider": "google", "provider_account_id": GOOGLE, "access_token": TOKEN, "refresh_token": TOKEN, "id_token": TOKEN, "session_state": TOKEN}
    ]
}  # fmt: skip


def _script(name: str) -> str:
    return (FOLDER / f"chat-lancedb-{name}.sql").read_text(encoding="utf-8")


def document(path: Path) -> Path:
    """Create the database of the document; the first version of the app created the same."""
    return create_database(path, _script("document"), {"users": USERS}, ROWS)


def halfway(path: Path) -> Path:
    """Create the database of the document after a newer version of the app failed to upgrade it."""
    return create_database(path, _script("document") + _script("accounts"), {"users": USERS}, ROWS)


def deployed(path: Path) -> Path:
    """Create the database of a deployment since October 2025, with a Google account."""
    text = _script("document")
    tables = USERS_TABLE + text[text.index("CREATE TABLE chats") :]
    script = tables + _script("accounts") + _script("deployed")
    return create_database(path, script, {"users": [*USERS, SIGNED_IN]}, ROWS, ACCOUNTS)


#: Vectors without a message in the database: of a chat in the browser, of a user before registration, of an unknown
#: user, and of the app's first start. Message, chat, user, content.
FURTHER = [
    ("msg-browser", "chat-browser", ANON, "Kept in a browser"),
    ("msg-before", "chat-before", "USER-GONE", "Said before the account"),
    ("msg-nobody", "chat-nobody", "USER-NOBODY", "Somebody else's"),
    ("sample", "sample", "sample", "sample"),
]


def create_vectors(
    folder: Path, *, deployed: bool = True, further: Sequence[tuple[str, str, str, str]] = FURTHER
) -> Path:
    """Create the folder with a vector of each message of ``ROWS`` and of ``further``."""
    import lancedb
    import pyarrow as pa

    from tests.engines import lance

    messages = [
        (row["id"], row["chat_id"], row["user_id"], row["content"], row["role"]) for row in ROWS["messages"]
    ]
    messages += [(*row, "user") for row in further]
    rows = []
    for number, (message, chat, user, content, role) in enumerate(messages):
        row = lance.create_row(number, deployed=deployed)
        row |= {"message_id" if deployed else "id": message, "chat_id": chat, "user_id": user}
        rows.append(row | {"content": content, "role": role})
    lancedb.connect(str(folder)).create_table(
        lance.TABLE, pa.Table.from_pylist(rows, lance.create_schema(deployed=deployed))
    )
    return folder


def read_vectors(folder: Path, *columns: str) -> list[tuple[object, ...]]:
    """Return the columns of all vectors of the folder, sorted."""
    import lancedb

    rows = (
        lancedb.connect(str(folder))
        .open_table("chat_embeddings")
        .to_arrow()
        .select(list(columns))
        .to_pylist()
    )
    return sorted(tuple(row[name] for name in columns) for row in rows)
