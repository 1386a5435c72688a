"""A sample of the chat with LanceDB: what people have asked a machine, in SQLite, and each message's vector beside it."""

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
    Person,
    Said,
    Talk,
    messages,
    people,
    talks,
    vector,
)
from dbctl.demo.places import made
from dbctl.demo.random import Progress, batches, dice, likely, uuid4
from dbctl.engines.contract import Writable
from dbctl.engines.registry import make_vector_table, open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError
from dbctl.model import Value, now
from dbctl.profiles import TIMES, load
from dbctl.profiles.model import Profile
from dbctl.services.migrations import apply_all, shipped_track
from dbctl.url import Url

#: How many of each are made unless told otherwise.
COUNTS = {"users": 12, "chats": 60, "messages": 800}
#: The databases that must be on a server, and those of which ``--url`` may say where they are: they belong together.
SERVED: tuple[str, ...] = ()
PLACED: tuple[str, ...] = ()
#: What deployments have, and what the app's document says.
SHAPES = ("deployed", "document")
TARGET = "demo"
TABLE = "chat_embeddings"
NAMES = ("chat.db", "lancedb")
#: A file of one pixel.
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    users: int
    chats: int
    messages: int
    seed: int
    at: datetime
    document: bool  #: its shape, in place of that of deployments


def build(
    directory: Path,
    *,
    counts: Mapping[str, int],
    urls: Mapping[str, Url],
    seed: int,
    at: datetime | None,
    progress: Progress | None,
    shape: str = SHAPES[0],
) -> DemoBuilt:
    """Make ``data/chat.db`` and ``data/lancedb``; see ``dbctl.demo.build``."""
    del urls  # none can be placed elsewhere
    began = time.monotonic()
    sample = Sample(
        users=max(counts["users"], 1),
        chats=max(counts["chats"], 1),
        messages=counts["messages"],
        seed=seed,
        at=at or now(),
        document=shape == SHAPES[1],
    )
    profile, data = load("chat-lancedb"), directory / "data"
    # Made aside, so that a half-made database never stands where an app would open it.
    try:
        with made([directory]), TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as folder:
            aside = Path(folder) / "data"
            (aside / "lancedb").mkdir(parents=True, mode=0o700)
            aside.chmod(0o700)
            rows = _filled(profile, aside, sample, progress)
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
        seconds=round(time.monotonic() - began, 3),
        accounts=(),
        password_of_others="",
    )


def _filled(profile: Profile, data: Path, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill both databases; return what was made."""
    everybody = people(sample.seed, sample.at, sample.users)
    among = talks(sample.seed, sample.at, everybody, sample.chats, sample.messages)
    place = Url(engine="lancedb", path=str(data / "lancedb"))
    columns = _columns(document=sample.document)
    make_vector_table(place, f"{TARGET}/vectors", TABLE, columns, timeout=5)
    chat = open_for_writing(
        Url(engine="sqlite", path=str(data / "chat.db")),
        f"{TARGET}/chat",
        timeout=5,
        pragmas={"synchronous": "off"},  # what a power cut takes is made again
        create=profile.databases["chat"].create,
    )
    vectors = open_for_writing(place, f"{TARGET}/vectors", timeout=5, pragmas={})
    with closing(chat), closing(vectors), chat.lock("demo"):
        shape = "document" if sample.document else "deployed"
        apply_all(shipped_track(profile, "chat", TARGET, "sqlite", shape=shape), chat)
        with chat.transaction(), vectors.transaction():
            _fill_users(chat, sample, everybody)
            _fill_chats(chat, among)
            if progress:
                progress(len(everybody) + len(among))
            attached = 0
            for batch in batches(messages(sample.seed, sample.at, among), progress):
                attached += _fill_messages(chat, batch)
                vectors.insert_many(TABLE, list(columns), (_embedded(sample, one) for one in batch))
    (data / "chat.db").chmod(0o600)
    return {
        "users": len(everybody),
        "chats": len(among),
        "messages": sample.messages,
        "attachments": attached,
    }


def _columns(*, document: bool) -> dict[str, str]:
    """Return the columns of the table with vectors, as the app's document, or a deployment, has them."""
    texts = ["chat_id", "user_id", "content", "role"]
    told = dict.fromkeys(["id" if document else "message_id", *texts], "text")
    told |= {"timestamp": "number", "metadata": "object(model, language)" if document else "text"}
    told |= {} if document else {"chat_title": "text"}
    return told | {"embedding" if document else "vector": f"vector({DIMENSION})"}


def _embedded(sample: Sample, said: Said) -> Sequence[object]:
    """Return a row as the app writes it."""
    told = [said.id, said.talk.id, said.talk.owner.id, said.content, said.role]
    moment = float(said.at.timestamp() * 1000 // 1000 * 1000)
    metadata = json.dumps({"model": MODEL, "language": "en"}) if sample.document else "{}"
    title = [] if sample.document else [said.talk.title]
    return [*told, moment, metadata, *title, vector(sample.seed, said)]


def _fill_users(db: Writable, sample: Sample, everybody: Sequence[Person]) -> None:
    written = TIMES["sqlite-time"]
    columns = ["id", "created_at", "last_active", "preferences"]
    further = ["email", "name", "google_id", "account_type", "migrated_from"]
    rows = []
    for one in everybody:
        chance = dice(sample.seed, "preferences", one.id)
        preferences = {
            "theme": chance.choice(["dark", "light"]),
            "language": chance.choice(["en", "de", "fr"]),
        }
        text = json.dumps(preferences, separators=(",", ":")) if likely(chance, 0.8) else "{}"
        row: list[object] = [one.id, written(one.created), written(one.seen), text]
        if not sample.document:
            kind = ("google", one.id) if one.email else ("anonymous", None)
            row += [one.email, one.name, kind[1], kind[0], one.came_from]
        rows.append(row)
    db.insert_many("users", columns if sample.document else columns + further, rows)


def _fill_chats(db: Writable, among: Sequence[Talk]) -> None:
    written = TIMES["sqlite-time"]
    latest = {one.owner.id: one.id for one in sorted(among, key=lambda one: one.began)}
    db.insert_many(
        "chats",
        ["id", "user_id", "title", "created_at", "updated_at", "is_active"],
        (
            (one.id, one.owner.id, one.title, written(one.began), written(one.began), int(latest[one.owner.id] == one.id))
            for one in among
        ),
    )  # fmt: skip


def _fill_messages(db: Writable, batch: Sequence[Said]) -> int:
    """Store messages with their attachments; return how many these are."""
    written = TIMES["sqlite-time"]
    attached = {
        one.id: {"id": f"att-{one.id[:8]}", "name": one.attachment, "type": "image/png", "size": 8}
        for one in batch
        if one.attachment
    }
    db.insert_many(
        "messages",
        ["id", "chat_id", "user_id", "content", "role", "timestamp", "attachments", "metadata"],
        (
            (
                one.id, one.talk.id, one.talk.owner.id, one.content, one.role, written(one.at),
                json.dumps([attached[one.id]] if one.id in attached else []),
                json.dumps({"model": MODEL}) if one.role == "assistant" else "{}",
            )
            for one in batch
        ),
    )  # fmt: skip
    db.insert_many(
        "attachments",
        ["id", "message_id", "name", "type", "size", "data", "created_at"],
        (
            (told["id"], one.id, told["name"], told["type"], told["size"], PIXEL, written(one.at))
            for one in batch
            if (told := attached.get(one.id))
        ),
    )
    return len(attached)


def _write_files(home: Path, sample: Sample) -> None:
    """Write what the app keeps beside its databases: its settings, and a chat that somebody has shared."""
    chance = dice(sample.seed, "files")
    shared = uuid4(chance)
    secret = base64.b64encode(chance.randbytes(33)).decode()
    moment = str(TIMES["iso-ms"](sample.at))
    told = {"shareId": shared, "originalChatId": uuid4(chance), "title": "A shared chat", "messages": [], "createdAt": moment, "sharedAt": moment}  # fmt: skip
    files = {
        ".env": f"NEXTAUTH_URL=http://localhost:3000\nNEXTAUTH_SECRET={secret}\n",
        f"shared-chats/{shared}.json": json.dumps(told, indent=2) + "\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / name).write_text(text, encoding="utf-8")
        (home / name).chmod(0o600)


def _move(aside: Path, directory: Path) -> None:
    """Move what was made to its place, the databases last.

    Raises:
        FileExistsAlreadyError: something of the app stands there; nothing was moved.
    """
    for one in (aside / "data").iterdir():
        if one.name not in NAMES:  # who made it here keeps no lock there
            one.unlink()
    names = sorted(one.name for one in aside.iterdir() if one.name != "data")
    for name in [*names, "data"]:
        if os.path.lexists(directory / name):
            raise FileExistsAlreadyError(
                path=directory / name, instead="Choose an empty directory for the sample."
            )
    for name in [*names, "data"]:
        (aside / name).rename(directory / name)
