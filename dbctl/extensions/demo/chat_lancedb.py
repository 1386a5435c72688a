"""The sample of the chat with LanceDB: chats in SQLite, and the vector of each message in LanceDB.

Messages of a topic have similar vectors. Each row has the columns of both variants of the schema.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from math import sqrt
from random import Random

from dbctl.extensions.demo.random import choose_name, choose_subject, happens, rng_for, uuid4, zipf_rank
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Struct
from dbctl.profiles.codecs import TIMES

#: Dimensions of the app's model.
DIMENSION = 768
#: Standard deviation of uniformly distributed bytes.
BYTE_STD_DEV = 73.9
MODEL = "gemini-2.5-flash"
#: Weight of the message in its vector (the topic has weight 1), so that messages of the same topic are nearest.
MESSAGE_WEIGHT = 0.55
#: Days of history.
DAYS = 120
#: An image of one pixel.
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class User(Struct, frozen=True, kw_only=True):
    """A generated user; registered users have an e-mail address."""

    id: str
    created: datetime
    seen: datetime
    email: str | None
    name: str | None
    anonymous_id: str | None  #: the id before registration


class Chat(Struct, frozen=True, kw_only=True):
    id: str
    owner: User
    topic: str
    subject: str
    title: str
    started_at: datetime
    messages: int


class Message(Struct, frozen=True, kw_only=True):
    id: str
    chat: Chat
    role: str
    content: str
    at: datetime
    attachment: str | None  #: the name of a file


def fill_chat(sample: Sample, rows: RowWriter) -> None:
    """Insert the users with their chats, messages and attachments."""
    users = _create_users(sample)
    chats = _create_chats(sample, users)
    for user in users:
        rng = sample.rng_for("preferences", user.id)
        preferences = {"theme": rng.choice(["dark", "light"]), "language": rng.choice(["en", "de", "fr"])}
        rows.add(
            "users",
            id=user.id,
            created_at=user.created,
            last_active=user.seen,
            preferences=json.dumps(preferences, separators=(",", ":")) if happens(rng, 0.8) else "{}",
            email=user.email,
            name=user.name,
            google_id=user.id if user.email else None,
            account_type="google" if user.email else "anonymous",
            migrated_from=user.anonymous_id,
        )
    latest = {chat.owner.id: chat.id for chat in sorted(chats, key=lambda chat: chat.started_at)}
    for chat in chats:
        rows.add(
            "chats",
            id=chat.id,
            user_id=chat.owner.id,
            title=chat.title,
            created_at=chat.started_at,
            updated_at=chat.started_at,
            is_active=latest[chat.owner.id] == chat.id,
        )
    for message in _create_messages(sample, chats):
        file = {"name": message.attachment, "type": "image/png", "size": 8}
        attachments = [{"id": f"att-{message.id[:8]}", **file}] if message.attachment else []
        rows.add(
            "messages",
            id=message.id,
            chat_id=message.chat.id,
            user_id=message.chat.owner.id,
            content=message.content,
            role=message.role,
            timestamp=message.at,
            attachments=json.dumps(attachments),
            metadata=json.dumps({"model": MODEL}) if message.role == "assistant" else "{}",
        )
        for attachment in attachments:
            rows.add("attachments", message_id=message.id, data=PIXEL, created_at=message.at, **attachment)


def fill_vectors(sample: Sample, rows: RowWriter) -> None:
    """Insert the vector of each message."""
    metadata = {"model": MODEL, "language": "en"} if sample.variant == "document" else {}
    for message in _create_messages(sample, _create_chats(sample, _create_users(sample))):
        vector = _create_vector(sample.seed, message)
        rows.add(
            "chat_embeddings",
            message_id=message.id,
            id=message.id,
            chat_id=message.chat.id,
            user_id=message.chat.owner.id,
            content=message.content,
            role=message.role,
            timestamp=float(message.at.timestamp() * 1000 // 1000 * 1000),
            metadata=json.dumps(metadata),
            chat_title=message.chat.title,
            vector=vector,
            embedding=vector,
        )


FILLS = {"chat": fill_chat, "vectors": fill_vectors}


def create_files(sample: Sample) -> dict[str, bytes]:
    """Return the settings of the app, and a shared chat."""
    rng = sample.rng_for("files")
    share_id = uuid4(rng)
    secret = base64.b64encode(rng.randbytes(33)).decode()
    timestamp = str(TIMES["iso-ms"](sample.at))
    shared_chat = {
        "shareId": share_id,
        "originalChatId": uuid4(rng),
        "title": "A shared chat",
        "messages": [],
        "createdAt": timestamp,
        "sharedAt": timestamp,
    }
    return {
        ".env": f"NEXTAUTH_URL=http://localhost:3000\nNEXTAUTH_SECRET={secret}\n".encode(),
        f"shared-chats/{share_id}.json": json.dumps(shared_chat, indent=2).encode() + b"\n",
    }


def _create_anonymous_id(rng: Random) -> str:
    """Return the id of a browser without an account."""
    return "USER-" + "-".join(f"{rng.getrandbits(32):08X}" for _ in range(4))


def _create_users(sample: Sample) -> list[User]:
    """Return the users, oldest first."""
    users, count = [], sample.counts["users"]
    for index in range(count):
        rng = sample.rng_for("person", index)
        days = DAYS - 100 * index / count
        created = sample.at - timedelta(days=days, seconds=rng.randrange(80_000))
        first, last = choose_name(rng)
        signed_in = happens(rng, 0.35)
        users.append(
            User(
                id=str(10**20 + rng.randrange(9 * 10**20)) if signed_in else _create_anonymous_id(rng),
                created=created,
                seen=created + (sample.at - created) * rng.random(),
                email=f"{first}.{last}{index}@chat.example" if signed_in else None,
                name=f"{first.title()} {last.title()}" if signed_in else None,
                anonymous_id=_create_anonymous_id(rng) if signed_in and happens(rng, 0.5) else None,
            )
        )
    return users


def _create_chats(sample: Sample, users: Sequence[User]) -> list[Chat]:
    """Return the chats with their numbers of messages."""
    chats, topics = [], sample.words["topics"]
    shares = [1.0 / (1 + index % 7) for index in range(sample.counts["chats"])]
    total_share, share_so_far, message_count = sum(shares), 0.0, 0
    for index, share in enumerate(shares):
        rng = sample.rng_for("chat", index)
        owner = users[zipf_rank(rng, len(users))]
        topic = list(topics)[rng.randrange(len(topics))]
        subject = choose_subject(rng)
        share_so_far += share
        end_count = round(sample.counts["messages"] * share_so_far / total_share)
        chats.append(
            Chat(
                id=uuid4(rng),
                owner=owner,
                topic=topic,
                subject=subject,
                title=topics[topic]["title"].format(subject),
                started_at=owner.created + (sample.at - owner.created) * 0.95 * rng.random(),
                messages=end_count - message_count,
            )
        )
        message_count = end_count
    return chats


def _create_messages(sample: Sample, chats: Sequence[Chat]) -> Iterator[Message]:
    """Yield the messages by chat: questions, each followed by an answer within seconds."""
    for chat in chats:
        rng, topic = sample.rng_for("messages", chat.id), sample.words["topics"][chat.topic]
        timestamp = chat.started_at
        question_index = 0
        for index in range(chat.messages):
            is_question = index % 2 == 0
            if is_question:
                question_index = rng.randrange(len(topic["questions"]))
            pause = timedelta(seconds=rng.randrange(600 if is_question else 3))
            timestamp = min(sample.at, timestamp + pause)
            yield Message(
                id=uuid4(rng),
                chat=chat,
                role="user" if is_question else "assistant",
                content=topic["questions" if is_question else "answers"][question_index].format(chat.subject),
                at=timestamp,
                attachment=f"{chat.subject.lower().replace(' ', '-')}.png"
                if is_question and happens(rng, 0.06)
                else None,
            )


def _create_vector(seed: int, message: Message) -> list[float]:
    """Return a vector of length 1, similar to the other vectors of the topic; equal texts have equal vectors."""
    noise = rng_for(seed, "vector", message.content).randbytes(DIMENSION)
    components = [
        base + MESSAGE_WEIGHT * (byte - 127.5) / BYTE_STD_DEV
        for base, byte in zip(_topic_vector(message.chat.topic), noise, strict=True)
    ]
    length = sqrt(sum(map(float.__mul__, components, components)))
    return [component / length for component in components]


@cache
def _topic_vector(name: str) -> list[float]:
    """Return the vector of a topic, equal in all samples."""
    return [(byte - 127.5) / BYTE_STD_DEV for byte in rng_for(0, "topic", name).randbytes(DIMENSION)]
