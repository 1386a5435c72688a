"""What else the sample holds: sessions of work on code, jobs of drawing, settings, keys of nobody, artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from dbctl.demo.random import Progress, dice, likely, ranked, uuid4
from dbctl.demo.yaai.sample import MODELS, Sample, Thing, about, chats, sessions, written
from dbctl.engines.contract import Writable
from dbctl.model import Value

#: How many turns a session has, and files that it changes.
TURNS, FILES = 8, 3
STYLES = ("Watercolour", "Woodcut", "Pencil", "Blueprint", "Poster")
KINDS = ("svg", "html", "markdown", "code")
PROVIDERS = ("anthropic", "google", "openai")


class Artifact(Value, frozen=True, kw_only=True):
    """What a chat or a session has made, as a file."""

    id: str
    name: str
    kind: str
    path: str  #: below the app's directory
    chat: Thing | None
    session: Thing | None

    @property
    def of(self) -> Thing:
        """What it was made in."""
        made = self.chat or self.session
        assert made is not None  # noqa: S101 - one of the two is always there
        return made


def fill_code(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of sessions; return what was made."""
    del progress  # it counts chats and messages
    talks, entries, snapshots, rows = (
        list(chats(sample)),
        list[tuple[object, ...]](),
        list[tuple[object, ...]](),
        list[tuple[object, ...]](),
    )
    for number, one in enumerate(sessions(sample)):
        chance = dice(sample.seed, "session rows", number)
        chat = chance.choice(talks).id if likely(chance, 0.5) else None
        project = f"/home/sample/{about(chance)[4:].replace(' ', '-')}"
        began, ended = written(one.began), written(one.ended)
        rows.append(
            (one.id, one.title, project, chat, chance.choice(MODELS), "completed", began, ended, ended)
        )
        for place in range(TURNS):
            key = uuid4(chance)
            role = ("user", "assistant", "tool")[place % 3]
            at = written(one.began + timedelta(minutes=place))
            entries.append((key, one.id, place + 1, role, f"{one.title}, step {place + 1}", 10 + place, at))
            if role == "tool" and place // 3 < FILES:
                digest = f"{chance.getrandbits(256):064x}"
                file = f"src/{about(chance)[4:].replace(' ', '_')}.ts"
                snapshots.append((uuid4(chance), one.id, key, file, digest, chance.randrange(500, 9_000), at))
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
    """Fill an empty database of images; return what was made. The last two jobs wait."""
    del progress  # as above
    prompts = [(uuid4(dice(sample.seed, "prompt", name)), name) for name in STYLES]
    began = written(sample.at - timedelta(days=100))
    uses = dict.fromkeys((key for key, _ in prompts), 0)
    group = uuid4(dice(sample.seed, "references"))
    queue, jobs, images = list[tuple[object, ...]](), list[tuple[object, ...]](), list[tuple[object, ...]]()
    for number in range(sample.jobs):
        chance = dice(sample.seed, "job", number)
        entry, job, (prompt, style) = uuid4(chance), uuid4(chance), prompts[ranked(chance, len(prompts))]
        at = sample.at - timedelta(hours=3 * (sample.jobs - number))
        waits, failed = number >= sample.jobs - 2, likely(chance, 0.1)
        state = "pending" if waits else "failed" if failed else "completed"
        uses[prompt] += 1
        done = None if waits else written(at + timedelta(minutes=1))
        queue_state = {"pending": "queued", "failed": "failed", "completed": "done"}[state]
        queue.append(
            (
                entry,
                f"{style} of {about(chance)}",
                group if likely(chance, 0.2) else None,
                queue_state,
                written(at),
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
                written(at),
                done and written(at),
                done,
            )
        )
        if state == "completed":
            images += [
                (
                    uuid4(chance),
                    job,
                    f"image-gen/outputs/{job}-{one}.png",
                    1024,
                    1024,
                    chance.getrandbits(31),
                    90_000 + one,
                    done,
                )
                for one in range(1 + ranked(chance, 3))
            ]
    db.insert_many("reference_groups", ["id", "name", "created_at"], [(group, "House style", began)])
    kept = [
        (key, name, f"In the manner of a {name.lower()}.", uses[key], began, began, began)
        for key, name in prompts
    ]
    columns = ["id", "name", "content", "use_count", "last_used_at", "created_at", "updated_at"]
    return {
        "prompts": db.insert_many("prompts", columns, kept),
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
    """Fill an empty database of the application; return what was made. The keys are encrypted, and keys of nobody."""
    del progress  # as above
    at = written(sample.at - timedelta(days=170))
    settings = [("theme", "dark", at), ("fontSize", "14", at), ("defaultModel", MODELS[0], at)]
    keys = [(name, _sealed(sample, name), f"https://api.{name}.example/v1", at, at) for name in PROVIDERS]
    db.insert_many("settings", ["key", "value", "updated_at"], settings)
    columns = ["id", "api_key_encrypted", "base_url", "created_at", "updated_at"]
    made = {"credentials": db.insert_many("credentials", columns, keys)}
    rows = (
        (
            one.id, one.name, one.kind, f"Made while to {one.of.title.lower()}", one.path, len(one.name) + 1,
            one.chat and one.chat.id, one.session and one.session.id, written(one.of.ended), written(one.of.ended),
        )
        for one in artifacts_of(sample)
    )  # fmt: skip
    columns = [
        "id", "name", "type", "description", "path", "size", "chat_id", "session_id", "created_at", "updated_at",
    ]  # fmt: skip
    return made | {"artifacts": db.insert_many("artifacts", columns, rows)}


def artifacts_of(sample: Sample) -> Iterator[Artifact]:
    """Yield the artifacts: of every third chat, and of every session."""
    for number, (kind, one) in enumerate(
        [
            *(("chat", chat) for chat in list(chats(sample))[::3]),
            *(("session", one) for one in sessions(sample)),
        ]
    ):
        chance = dice(sample.seed, "artifact", number)
        key, of = uuid4(chance), KINDS[ranked(chance, len(KINDS))]
        yield Artifact(
            id=key,
            name=about(chance)[4:].capitalize(),
            kind=of,
            path=f"artifacts/{key}.{of}",
            chat=one if kind == "chat" else None,
            session=one if kind == "session" else None,
        )


def _sealed(sample: Sample, name: str) -> str:
    """Return what the app stores of a key that it has encrypted; nobody knows what it was."""
    chance = dice(sample.seed, "credential", name)
    told = {"encrypted": chance.randbytes(48), "iv": chance.randbytes(16), "authTag": chance.randbytes(16)}
    return json.dumps({word: value.hex() for word, value in told.items()})
