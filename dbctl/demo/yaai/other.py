"""Other rows of the sample: code sessions, image jobs, settings, unusable keys, artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from dbctl.demo.random import Progress, happens, rng_for, uuid4, zipf_rank
from dbctl.demo.yaai.sample import (
    MODELS,
    Sample,
    Work,
    create_chats,
    create_sessions,
    create_title,
    format_time,
)
from dbctl.engines.contract import Writable
from dbctl.model import Struct

#: The numbers of entries of a session, and of files that it changes.
TURNS, FILES = 8, 3
STYLES = ("Watercolour", "Woodcut", "Pencil", "Blueprint", "Poster")
KINDS = ("svg", "html", "markdown", "code")
PROVIDERS = ("anthropic", "google", "openai")


class Artifact(Struct, frozen=True, kw_only=True):
    """A file that a chat or a session created."""

    id: str
    name: str
    kind: str
    path: str  #: below the app's directory
    chat: Work | None
    session: Work | None

    @property
    def owner(self) -> Work:
        """The chat or session that created it."""
        owner = self.chat or self.session
        assert owner is not None  # noqa: S101 - one of the two is always set
        return owner


def fill_code(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of sessions; return the numbers of rows."""
    del progress  # it counts chats and messages
    chats, entries, snapshots, rows = (
        list(create_chats(sample)),
        list[tuple[object, ...]](),
        list[tuple[object, ...]](),
        list[tuple[object, ...]](),
    )
    for number, session in enumerate(create_sessions(sample)):
        rng = rng_for(sample.seed, "session rows", number)
        chat = rng.choice(chats).id if happens(rng, 0.5) else None
        project = f"/home/sample/{create_title(rng)[4:].replace(' ', '-')}"
        started_at, ended_at = format_time(session.started_at), format_time(session.ended_at)
        rows.append(
            (
                session.id,
                session.title,
                project,
                chat,
                rng.choice(MODELS),
                "completed",
                started_at,
                ended_at,
                ended_at,
            )
        )
        for index in range(TURNS):
            key = uuid4(rng)
            role = ("user", "assistant", "tool")[index % 3]
            at = format_time(session.started_at + timedelta(minutes=index))
            entries.append(
                (key, session.id, index + 1, role, f"{session.title}, step {index + 1}", 10 + index, at)
            )
            if role == "tool" and index // 3 < FILES:
                digest = f"{rng.getrandbits(256):064x}"
                file = f"src/{create_title(rng)[4:].replace(' ', '_')}.ts"
                snapshots.append((uuid4(rng), session.id, key, file, digest, rng.randrange(500, 9_000), at))
    return {
        "sessions": db.insert_many(
            "sessions",
            [
                "id",
                "title",
                "project_path",
                "chat_id",
                "model",
                "status",
                "created_at",
                "updated_at",
                "ended_at",
            ],
            rows,
        ),
        "transcript_entries": db.insert_many(
            "transcript_entries",
            ["id", "session_id", "position", "role", "content", "token_count", "timestamp"],
            entries,
        ),
        "snapshots": db.insert_many(
            "snapshots",
            ["id", "session_id", "entry_id", "file_path", "content_hash", "size", "created_at"],
            snapshots,
        ),
    }


def fill_images(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of images; return the numbers of rows. The last two jobs are pending."""
    del progress  # it counts chats and messages
    prompts = [(uuid4(rng_for(sample.seed, "prompt", name)), name) for name in STYLES]
    created_at = format_time(sample.at - timedelta(days=100))
    use_counts = dict.fromkeys((key for key, _ in prompts), 0)
    group = uuid4(rng_for(sample.seed, "references"))
    queue, jobs, images = list[tuple[object, ...]](), list[tuple[object, ...]](), list[tuple[object, ...]]()
    for number in range(sample.jobs):
        rng = rng_for(sample.seed, "job", number)
        entry, job, (prompt, style) = uuid4(rng), uuid4(rng), prompts[zipf_rank(rng, len(prompts))]
        at = sample.at - timedelta(hours=3 * (sample.jobs - number))
        is_waiting, has_failed = number >= sample.jobs - 2, happens(rng, 0.1)
        state = "pending" if is_waiting else "failed" if has_failed else "completed"
        use_counts[prompt] += 1
        completed_at = None if is_waiting else format_time(at + timedelta(minutes=1))
        queue_state = {"pending": "queued", "failed": "failed", "completed": "done"}[state]
        queue.append(
            (
                entry,
                f"{style} of {create_title(rng)}",
                group if happens(rng, 0.2) else None,
                queue_state,
                format_time(at),
            )
        )
        jobs.append(
            (
                job,
                entry,
                prompt,
                "paint-2",
                state,
                "out of memory" if state == "failed" else None,
                format_time(at),
                completed_at and format_time(at),
                completed_at,
            )
        )
        if state == "completed":
            images += [
                (
                    uuid4(rng),
                    job,
                    f"image-gen/outputs/{job}-{image}.png",
                    1024,
                    1024,
                    rng.getrandbits(31),
                    90_000 + image,
                    completed_at,
                )
                for image in range(1 + zipf_rank(rng, 3))
            ]
    db.insert_many("reference_groups", ["id", "name", "created_at"], [(group, "House style", created_at)])
    rows = [
        (
            key,
            name,
            f"In the manner of a {name.lower()}.",
            use_counts[key],
            created_at,
            created_at,
            created_at,
        )
        for key, name in prompts
    ]
    columns = ["id", "name", "content", "use_count", "last_used_at", "created_at", "updated_at"]
    return {
        "prompts": db.insert_many("prompts", columns, rows),
        "queue_entries": db.insert_many(
            "queue_entries", ["id", "prompt", "reference_group_id", "status", "created_at"], queue
        ),
        "jobs": db.insert_many(
            "jobs",
            [
                "id",
                "queue_entry_id",
                "prompt_id",
                "model",
                "status",
                "error",
                "created_at",
                "started_at",
                "completed_at",
            ],
            jobs,
        ),
        "images": db.insert_many(
            "images", ["id", "job_id", "path", "width", "height", "seed", "size", "created_at"], images
        ),
    }


def fill_app(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of the application; return the numbers of rows. The keys are encrypted random bytes."""
    del progress  # it counts chats and messages
    at = format_time(sample.at - timedelta(days=170))
    settings = [("theme", "dark", at), ("fontSize", "14", at), ("defaultModel", MODELS[0], at)]
    keys = [
        (name, _create_encrypted_key(sample, name), f"https://api.{name}.example/v1", at, at)
        for name in PROVIDERS
    ]
    db.insert_many("settings", ["key", "value", "updated_at"], settings)
    columns = ["id", "api_key_encrypted", "base_url", "created_at", "updated_at"]
    row_counts = {"credentials": db.insert_many("credentials", columns, keys)}
    rows = (
        (
            artifact.id, artifact.name, artifact.kind, f"Made while to {artifact.owner.title.lower()}", artifact.path, len(artifact.name) + 1,
            artifact.chat and artifact.chat.id, artifact.session and artifact.session.id, format_time(artifact.owner.ended_at), format_time(artifact.owner.ended_at),
        )
        for artifact in create_artifacts(sample)
    )  # fmt: skip
    columns = [
        "id", "name", "type", "description", "path", "size", "chat_id", "session_id", "created_at", "updated_at",
    ]  # fmt: skip
    return row_counts | {"artifacts": db.insert_many("artifacts", columns, rows)}


def create_artifacts(sample: Sample) -> Iterator[Artifact]:
    """Yield the artifacts: of every third chat, and of every session."""
    for number, (kind, owner) in enumerate(
        [
            *(("chat", chat) for chat in list(create_chats(sample))[::3]),
            *(("session", owner) for owner in create_sessions(sample)),
        ]
    ):
        rng = rng_for(sample.seed, "artifact", number)
        key, file_type = uuid4(rng), KINDS[zipf_rank(rng, len(KINDS))]
        yield Artifact(
            id=key,
            name=create_title(rng)[4:].capitalize(),
            kind=file_type,
            path=f"artifacts/{key}.{file_type}",
            chat=owner if kind == "chat" else None,
            session=owner if kind == "session" else None,
        )


def _create_encrypted_key(sample: Sample, name: str) -> str:
    """Return a stored encrypted key: random bytes."""
    rng = rng_for(sample.seed, "credential", name)
    encrypted_key = {
        "encrypted": rng.randbytes(48),
        "iv": rng.randbytes(16),
        "authTag": rng.randbytes(16),
    }
    return json.dumps({name_: value.hex() for name_, value in encrypted_key.items()})
