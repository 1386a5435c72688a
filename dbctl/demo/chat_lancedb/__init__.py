"""A sample of the chat with LanceDB: chats in SQLite, and the vector of each message in LanceDB."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dbctl.demo import DemoBuilt
from dbctl.demo.chat_lancedb.chats import (
    DIMENSION,
    MODEL,
    Chat,
    Message,
    User,
    create_chats,
    create_messages,
    create_users,
    create_vector,
)
from dbctl.demo.places import create_directories
from dbctl.demo.random import Progress, batches, happens, rng_for, uuid4
from dbctl.engines.contract import Writable
from dbctl.engines.lancedb import create_table
from dbctl.engines.registry import load_engine
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import Struct, now
from dbctl.profiles import TIMES, load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, create_shipped_target
from dbctl.url import Url

#: Default numbers of rows.
COUNTS = {"users": 12, "chats": 60, "messages": 800}
#: The databases that must be on a server, and those that accept ``--url``.
SERVER_DATABASES: tuple[str, ...] = ()
URL_DATABASES: tuple[str, ...] = ()
#: The schema of deployments, and the schema that the document of the app describes.
VARIANTS = ("deployed", "document")
TARGET = "demo"
TABLE = "chat_embeddings"
NAMES = ("chat.db", "lancedb")
#: An image of one pixel.
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Sample(Struct, frozen=True, kw_only=True):
    """The options of the sample."""

    users: int
    chats: int
    messages: int
    seed: int
    at: datetime
    document: bool  #: whether to use the schema of the document


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
    variant: str = VARIANTS[0],
) -> DemoBuilt:
    """Create ``data/chat.db`` and ``data/lancedb``; see ``dbctl.demo.build``."""
    del urls  # the sample accepts no address
    start = time.monotonic()
    sample = Sample(
        users=max(counts["users"], 1),
        chats=max(counts["chats"], 1),
        messages=counts["messages"],
        seed=seed,
        at=at or now(),
        document=variant == VARIANTS[1],
    )
    profile, data = load("chat-lancedb"), directory / "data"
    # Created in a temporary folder, so that no app opens an incomplete database.
    try:
        with (
            create_directories([directory]),
            TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as folder,
        ):
            temporary = Path(folder) / "data"
            (temporary / "lancedb").mkdir(parents=True, mode=0o700)
            temporary.chmod(0o700)
            rows = _fill_databases(profile, temporary, sample, progress)
            _write_files(Path(folder), sample)
            _move(Path(folder), directory)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases={"chat": data / NAMES[0], "vectors": data / NAMES[1]},
        rows=rows,
        bytes=sum(path.stat().st_size for path in data.rglob("*") if path.is_file()),
        seconds=round(time.monotonic() - start, 3),
        accounts=(),
        password_of_others="",
    )


def _fill_databases(
    profile: Profile, data: Path, sample: Sample, progress: Progress | None
) -> dict[str, int]:
    """Fill both databases, and return the numbers of rows."""
    users = create_users(sample.seed, sample.at, sample.users)
    chats = create_chats(sample.seed, sample.at, users, sample.chats, sample.messages)
    vectors_url = Url(engine="lancedb", path=str(data / "lancedb"))
    columns = _vector_columns(document=sample.document)
    create_table(vectors_url, f"{TARGET}/vectors", TABLE, columns, timeout=5)
    chat = load_engine("sqlite").open_for_writing(
        Url(engine="sqlite", path=str(data / "chat.db")),
        f"{TARGET}/chat",
        timeout=5,
        pragmas={"synchronous": "off"},  # an interrupted sample is created again
        create=profile.databases["chat"].create,
    )
    vectors = load_engine(vectors_url.engine).open_for_writing(
        vectors_url, f"{TARGET}/vectors", timeout=5, pragmas={}
    )
    with closing(chat), closing(vectors), chat.lock("demo"):
        variant = "document" if sample.document else "deployed"
        apply_all(create_shipped_target(profile, "chat", TARGET, "sqlite", variant=variant), chat)
        with chat.transaction(), vectors.transaction():
            _fill_users(chat, sample, users)
            _fill_chats(chat, chats)
            if progress:
                progress(len(users) + len(chats))
            attachment_count = 0
            for batch in batches(create_messages(sample.seed, sample.at, chats), progress):
                attachment_count += _fill_messages(chat, batch)
                vectors.insert_many(
                    TABLE, list(columns), (_embed_message(sample, message) for message in batch)
                )
    (data / "chat.db").chmod(0o600)
    return {
        "users": len(users),
        "chats": len(chats),
        "messages": sample.messages,
        "attachments": attachment_count,
    }


def _vector_columns(*, document: bool) -> dict[str, str]:
    """Return the columns of the vector table, of the document or of a deployment."""
    texts = ["chat_id", "user_id", "content", "role"]
    columns = dict.fromkeys(["id" if document else "message_id", *texts], "text")
    columns |= {"timestamp": "number", "metadata": "object(model, language)" if document else "text"}
    columns |= {} if document else {"chat_title": "text"}
    return columns | {"embedding" if document else "vector": f"vector({DIMENSION})"}


def _embed_message(sample: Sample, message: Message) -> Sequence[object]:
    """Return the vector table's row of a message, in the format of the app."""
    values = [message.id, message.chat.id, message.chat.owner.id, message.content, message.role]
    timestamp = float(message.at.timestamp() * 1000 // 1000 * 1000)
    metadata = json.dumps({"model": MODEL, "language": "en"}) if sample.document else "{}"
    title = [] if sample.document else [message.chat.title]
    return [*values, timestamp, metadata, *title, create_vector(sample.seed, message)]


def _fill_users(db: Writable, sample: Sample, users: Sequence[User]) -> None:
    format_time = TIMES["sqlite-time"]
    columns = ["id", "created_at", "last_active", "preferences"]
    deployed_columns = ["email", "name", "google_id", "account_type", "migrated_from"]
    rows = []
    for user in users:
        rng = rng_for(sample.seed, "preferences", user.id)
        preferences = {
            "theme": rng.choice(["dark", "light"]),
            "language": rng.choice(["en", "de", "fr"]),
        }
        text = json.dumps(preferences, separators=(",", ":")) if happens(rng, 0.8) else "{}"
        row: list[object] = [user.id, format_time(user.created), format_time(user.seen), text]
        if not sample.document:
            kind = ("google", user.id) if user.email else ("anonymous", None)
            row += [user.email, user.name, kind[1], kind[0], user.anonymous_id]
        rows.append(row)
    db.insert_many("users", columns if sample.document else columns + deployed_columns, rows)


def _fill_chats(db: Writable, chats: Sequence[Chat]) -> None:
    format_time = TIMES["sqlite-time"]
    latest = {chat.owner.id: chat.id for chat in sorted(chats, key=lambda chat: chat.started_at)}
    db.insert_many(
        "chats",
        ["id", "user_id", "title", "created_at", "updated_at", "is_active"],
        (
            (chat.id, chat.owner.id, chat.title, format_time(chat.started_at), format_time(chat.started_at), int(latest[chat.owner.id] == chat.id))
            for chat in chats
        ),
    )  # fmt: skip


def _fill_messages(db: Writable, batch: Sequence[Message]) -> int:
    """Insert messages with their attachments, and return the number of attachments."""
    format_time = TIMES["sqlite-time"]
    attachments = {
        message.id: {
            "id": f"att-{message.id[:8]}",
            "name": message.attachment,
            "type": "image/png",
            "size": 8,
        }
        for message in batch
        if message.attachment
    }
    db.insert_many(
        "messages",
        ["id", "chat_id", "user_id", "content", "role", "timestamp", "attachments", "metadata"],
        (
            (
                message.id, message.chat.id, message.chat.owner.id, message.content, message.role, format_time(message.at),
                json.dumps([attachments[message.id]] if message.id in attachments else []),
                json.dumps({"model": MODEL}) if message.role == "assistant" else "{}",
            )
            for message in batch
        ),
    )  # fmt: skip
    db.insert_many(
        "attachments",
        ["id", "message_id", "name", "type", "size", "data", "created_at"],
        (
            (
                attachment["id"],
                message.id,
                attachment["name"],
                attachment["type"],
                attachment["size"],
                PIXEL,
                format_time(message.at),
            )
            for message in batch
            if (attachment := attachments.get(message.id))
        ),
    )
    return len(attachments)


def _write_files(home: Path, sample: Sample) -> None:
    """Write the files of the app: its settings and a shared chat."""
    rng = rng_for(sample.seed, "files")
    share_id = uuid4(rng)
    secret = base64.b64encode(rng.randbytes(33)).decode()
    timestamp = str(TIMES["iso-ms"](sample.at))
    shared_chat = {"shareId": share_id, "originalChatId": uuid4(rng), "title": "A shared chat", "messages": [], "createdAt": timestamp, "sharedAt": timestamp}  # fmt: skip
    files = {
        ".env": f"NEXTAUTH_URL=http://localhost:3000\nNEXTAUTH_SECRET={secret}\n",
        f"shared-chats/{share_id}.json": json.dumps(shared_chat, indent=2) + "\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / name).write_text(text, encoding="utf-8")
        (home / name).chmod(0o600)


def _move(temporary: Path, directory: Path) -> None:
    """Move the files into the directory, the databases last.

    Raises:
        FileExistsAlreadyError: a file of the app already exists; nothing was moved.
    """
    for path in (temporary / "data").iterdir():
        if path.name not in NAMES:  # the lock of this process is not moved
            path.unlink()
    names = sorted(path.name for path in temporary.iterdir() if path.name != "data")
    for name in [*names, "data"]:
        if os.path.lexists(directory / name):
            raise FileExistsAlreadyError(
                path=directory / name, hint="Choose an empty directory for the sample."
            )
    for name in [*names, "data"]:
        (temporary / name).rename(directory / name)
