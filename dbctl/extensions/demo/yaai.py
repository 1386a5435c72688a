"""The sample of YAAI: half a year of one user's chats, code sessions and images, in the four files that the app documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dbctl.extensions.demo.random import choose_subject, happens, uuid4, zipf_rank
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Struct

#: Days of history.
DAYS = 180
#: The share of messages that begin a branch, that have an attachment, and that call a tool.
FORK_SHARE, ATTACHMENT_SHARE, TOOL_CALL_SHARE = 0.06, 0.05, 0.15
#: The numbers of entries of a session, and of files that it changes.
TURNS, FILES = 8, 3


class Work(Struct, frozen=True, kw_only=True):
    """A chat or a session."""

    id: str
    title: str
    started_at: datetime
    ended_at: datetime


class Artifact(Struct, frozen=True, kw_only=True):
    """A file that a chat or a session created."""

    id: str
    name: str
    type: str
    path: str  #: below the app's directory
    owner: Work
    column: str  #: the column with the id of the owner


def fill_chat(sample: Sample, rows: RowWriter) -> None:
    """Insert the chats with alternating messages, some on branches, with attachments and tool calls."""
    chats = list(_chats(sample))
    for chat in chats:
        rows.add("chats", id=chat.id, title=chat.title, created_at=chat.started_at, updated_at=chat.ended_at)
    branches = [
        branch for number, chat in enumerate(chats) for branch in _messages(sample, rows, number, chat)
    ]
    for branch in branches:
        rows.add("branches", **branch)


def fill_code(sample: Sample, rows: RowWriter) -> None:
    """Insert the code sessions."""
    chats = list(_chats(sample))
    for number, session in enumerate(_sessions(sample)):
        rng = sample.rng_for("session rows", number)
        chat = rng.choice(chats).id if happens(rng, 0.5) else None
        rows.add(
            "sessions",
            id=session.id,
            title=session.title,
            project_path=f"/home/sample/{_file_name(rng)}",
            chat_id=chat,
            model=rng.choice(sample.words["models"]),
            status="completed",
            created_at=session.started_at,
            updated_at=session.ended_at,
            ended_at=session.ended_at,
        )
        for index in range(TURNS):
            key, role = uuid4(rng), ("user", "assistant", "tool")[index % 3]
            at = session.started_at + timedelta(minutes=index)
            rows.add(
                "transcript_entries",
                id=key,
                session_id=session.id,
                position=index + 1,
                role=role,
                content=f"{session.title}, step {index + 1}",
                token_count=10 + index,
                timestamp=at,
            )
            if role == "tool" and index // 3 < FILES:
                digest = f"{rng.getrandbits(256):064x}"
                file = f"src/{_file_name(rng, '_')}.ts"
                rows.add(
                    "snapshots",
                    id=uuid4(rng),
                    session_id=session.id,
                    entry_id=key,
                    file_path=file,
                    content_hash=digest,
                    size=rng.randrange(500, 9_000),
                    created_at=at,
                )


def fill_images(sample: Sample, rows: RowWriter) -> None:
    """Insert prompts, and jobs with their images; the last two jobs are pending."""
    styles = sample.words["styles"]
    created_at, group = sample.ago(100), uuid4(sample.rng_for("references"))
    job_count = 2 + sample.counts["chats"] // 2
    numbers = range(job_count)
    rngs = [sample.rng_for("job", number) for number in numbers]
    jobs = [(uuid4(rng), uuid4(rng), zipf_rank(rng, len(styles))) for rng in rngs]
    rows.add("reference_groups", id=group, name="House style", created_at=created_at)
    prompts = [uuid4(sample.rng_for("prompt", name)) for name in styles]
    for number, name in enumerate(styles):
        rows.add(
            "prompts",
            id=prompts[number],
            name=name,
            content=f"In the manner of a {name.lower()}.",
            use_count=sum(style == number for _, _, style in jobs),
            last_used_at=created_at,
            created_at=created_at,
            updated_at=created_at,
        )
    for number, rng, (entry, job, style) in zip(numbers, rngs, jobs, strict=True):
        at = sample.at - timedelta(hours=3 * (job_count - number))
        is_waiting, has_failed = number >= job_count - 2, happens(rng, 0.1)
        state = "pending" if is_waiting else "failed" if has_failed else "completed"
        completed_at = None if is_waiting else at + timedelta(minutes=1)
        rows.add(
            "queue_entries",
            id=entry,
            prompt=f"{styles[style]} of {_title(rng)}",
            reference_group_id=group if happens(rng, 0.2) else None,
            status={"pending": "queued", "failed": "failed", "completed": "done"}[state],
            created_at=at,
        )
        rows.add(
            "jobs",
            id=job,
            queue_entry_id=entry,
            prompt_id=prompts[style],
            model="paint-2",
            status=state,
            error="out of memory" if state == "failed" else None,
            created_at=at,
            started_at=completed_at and at,
            completed_at=completed_at,
        )
        for image in range(1 + zipf_rank(rng, 3) if state == "completed" else 0):
            rows.add(
                "images",
                id=uuid4(rng),
                job_id=job,
                path=f"image-gen/outputs/{job}-{image}.png",
                width=1024,
                height=1024,
                seed=rng.getrandbits(31),
                size=90_000 + image,
                created_at=completed_at,
            )


def fill_app(sample: Sample, rows: RowWriter) -> None:
    """Insert settings, keys (encrypted random bytes) and artifacts."""
    at, words = sample.ago(170), sample.words
    for key, value in {"theme": "dark", "fontSize": "14", "defaultModel": words["models"][0]}.items():
        rows.add("settings", key=key, value=value, updated_at=at)
    for name in words["providers"]:
        rng = sample.rng_for("credential", name)
        encrypted = {part: rng.randbytes(size).hex() for part, size in _KEY_PARTS.items()}
        rows.add(
            "credentials",
            id=name,
            api_key_encrypted=json.dumps(encrypted),
            base_url=f"https://api.{name}.example/v1",
            created_at=at,
            updated_at=at,
        )
    for artifact in _artifacts(sample):
        owners = {"chat_id": None, "session_id": None} | {artifact.column: artifact.owner.id}
        rows.add(
            "artifacts",
            id=artifact.id,
            name=artifact.name,
            type=artifact.type,
            description=f"Made while to {artifact.owner.title.lower()}",
            path=artifact.path,
            size=len(artifact.name) + 1,
            **owners,
            created_at=artifact.owner.ended_at,
            updated_at=artifact.owner.ended_at,
        )


_KEY_PARTS = {"encrypted": 48, "iv": 16, "authTag": 16}
FILLS = {"chat": fill_chat, "code": fill_code, "imagegen": fill_images, "app": fill_app}


def create_files(sample: Sample) -> dict[str, bytes]:
    """Return the key, settings and artifacts of the app."""
    artifacts = {artifact.path: f"{artifact.name}\n".encode() for artifact in _artifacts(sample)}
    return {
        "secrets/encryption.key": sample.rng_for("key").randbytes(32),
        "settings.json": json.dumps({"theme": "dark", "fontSize": 14}, indent=2).encode() + b"\n",
        **artifacts,
    }


def _messages(sample: Sample, rows: RowWriter, number: int, chat: Work) -> Iterator[dict[str, object]]:
    """Insert the messages of a chat, questions and answers in turn; yield its branches."""
    words, chat_count, total = sample.words, sample.counts["chats"], sample.counts["messages"]
    count = total * (number + 1) // chat_count - total * number // chat_count
    parent: str | None = None
    branch: str | None = None
    for index in range(count):
        rng = sample.rng_for("message", number, index)
        at = chat.started_at + (chat.ended_at - chat.started_at) * (index / count)
        is_question = index % 2 == 0
        if parent and is_question and happens(rng, FORK_SHARE):
            branch = uuid4(rng)
            yield {"id": branch, "chat_id": chat.id, "fork_message_id": parent, "name": "another way", "created_at": at}  # fmt: skip
        if is_question:
            text = f"{rng.choice(words['questions'])} {_title(rng)}?"
        else:
            text = " ".join(rng.sample(words["sentences"], 2))
        blocks = [{"type": "text", "text": f"{text} {_title(rng).capitalize()} comes first."}]
        content, key = text if is_question else json.dumps(blocks), uuid4(rng)
        model = None if is_question else rng.choice(words["models"])
        tokens = None if is_question else 20 + rng.randrange(400)
        rows.add(
            "messages",
            id=key,
            chat_id=chat.id,
            role="user" if is_question else "assistant",
            content=content,
            model=model,
            token_count=tokens,
            generation_time=tokens and tokens * 20,
            timestamp=at,
            branch_id=branch,
            parent_id=parent,
            is_liked=not is_question and happens(rng, 0.1),
        )
        if not is_question and happens(rng, TOOL_CALL_SHARE):
            call = {"name": rng.choice(words["tools"]), "input": "{}", "output": "{}", "status": "success"}
            times = {"started_at": at, "completed_at": at}
            rows.add("tool_calls", id=f"tool-{key}", message_id=key, **call, **times)
        if is_question and happens(rng, ATTACHMENT_SHARE):
            file = {"name": f"{_file_name(rng)}.png", "mime_type": "image/png", "size": 2_000 + len(content)}
            rows.add("attachments", id=f"file-{key}", message_id=key, **file)
        parent = key


def _artifacts(sample: Sample) -> Iterator[Artifact]:
    """Yield the artifacts: of every third chat, and of every session."""
    owners = [("chat_id", chat) for chat in list(_chats(sample))[::3]]
    owners += [("session_id", session) for session in _sessions(sample)]
    kinds = sample.words["kinds"]
    for number, (column, owner) in enumerate(owners):
        rng = sample.rng_for("artifact", number)
        key, kind = uuid4(rng), kinds[zipf_rank(rng, len(kinds))]
        name, path = _title(rng)[4:].capitalize(), f"artifacts/{key}.{kind}"
        yield Artifact(id=key, name=name, type=kind, path=path, owner=owner, column=column)


def _chats(sample: Sample) -> Iterator[Work]:
    return _create_work(sample, "chat", sample.counts["chats"])


def _sessions(sample: Sample) -> Iterator[Work]:
    return _create_work(sample, "session", 1 + sample.counts["chats"] // 5)


def _create_work(sample: Sample, kind: str, count: int) -> Iterator[Work]:
    """Yield chats or sessions, oldest first."""
    for number in range(count):
        rng = sample.rng_for(kind, number)
        days = DAYS * (1 - number / count) + 1
        started_at = sample.at - timedelta(days=days, seconds=rng.randrange(40_000))
        yield Work(
            id=uuid4(rng),
            title=f"{rng.choice(sample.words['tasks'])} {_title(rng)}",
            started_at=started_at,
            ended_at=started_at + timedelta(minutes=rng.randrange(5, 300)),
        )


def _title(rng: Random) -> str:
    return f"the {choose_subject(rng).lower()}"


def _file_name(rng: Random, separator: str = "-") -> str:
    return choose_subject(rng).lower().replace(" ", separator)
