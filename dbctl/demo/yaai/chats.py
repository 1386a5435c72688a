"""The chats of the sample: messages in turns, some of them on branches, with attachments and what tools did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from dbctl.demo.random import Progress, batches, dice, likely, uuid4
from dbctl.demo.yaai.sample import MODELS, Sample, Thing, about, chats, written
from dbctl.engines.contract import Writable
from dbctl.model import Value

ASKS = ("How would you begin with", "What is wrong with", "Tell me more about", "Write a table of", "Sum up", "Find a name for")  # fmt: skip
SAYS = (
    "Begin with a plan of three steps.", "There are two ways; the second is cheaper.", "Nothing is wrong, as far as one can see.",
    "A table would help here.", "Let us test it first.", "It depends on how often it is read.", "That was decided last week.",
)  # fmt: skip
TOOLS = ("web_search", "read_file", "run_tests")
#: One in so many turns of a chat forks into a branch, one has an attachment, one calls a tool.
FORKS, ATTACHED, CALLED = 0.06, 0.05, 0.15


class Turn(Value, frozen=True, kw_only=True):
    """One message, with what hangs on it."""

    id: str
    chat: Thing
    role: str
    content: str
    at: datetime
    parent: str | None
    branch: str | None = None
    model: str | None = None
    tokens: int | None = None
    liked: bool = False
    tool: str | None = None
    attachment: str | None = None


class Branch(Value, frozen=True, kw_only=True):
    """Where a chat goes on in another way."""

    id: str
    chat: Thing
    fork: str
    at: datetime


def fill_chat(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of chats; return what was made."""
    every = list(chats(sample))
    rows = [(one.id, one.title, written(one.began), written(one.ended)) for one in every]
    made = {
        "chats": db.insert_many("chats", ["id", "title", "created_at", "updated_at"], rows),
        "messages": 0,
        "tool_calls": 0,
        "attachments": 0,
    }
    branches: list[Branch] = []
    for batch in batches(_turns(sample, every, branches), progress):
        for word, number in _insert(db, batch).items():
            made[word] += number
    columns = ["id", "chat_id", "fork_message_id", "name", "created_at"]
    told = [(one.id, one.chat.id, one.fork, "another way", written(one.at)) for one in branches]
    return made | {"branches": db.insert_many("branches", columns, told)}


def _turns(sample: Sample, every: Sequence[Thing], branches: list[Branch]) -> Iterator[Turn]:
    """Yield the messages, those of each chat together and in turns; ``branches`` gets the forks."""
    for number, chat in enumerate(every):
        count = sample.messages * (number + 1) // len(every) - sample.messages * number // len(every)
        parent: str | None = None
        branch: str | None = None
        for place in range(count):
            chance = dice(sample.seed, "message", number, place)
            at = chat.began + (chat.ended - chat.began) * (place / count)
            asks = place % 2 == 0
            if parent and asks and likely(chance, FORKS):
                branch = uuid4(chance)
                branches.append(Branch(id=branch, chat=chat, fork=parent, at=at))
            says = f"{chance.choice(ASKS)} {about(chance)}?" if asks else " ".join(chance.sample(SAYS, 2))
            blocks = [{"type": "text", "text": f"{says} {about(chance).capitalize()} comes first."}]
            turn = Turn(
                id=uuid4(chance),
                chat=chat,
                role="user" if asks else "assistant",
                content=says if asks else json.dumps(blocks),
                at=at,
                parent=parent,
                branch=branch,
                model=None if asks else chance.choice(MODELS),
                tokens=None if asks else 20 + chance.randrange(400),
                liked=not asks and likely(chance, 0.1),
                tool=chance.choice(TOOLS) if not asks and likely(chance, CALLED) else None,
                attachment=f"{about(chance)[4:].replace(' ', '-')}.png"
                if asks and likely(chance, ATTACHED)
                else None,
            )
            parent = turn.id
            yield turn


def _insert(db: Writable, batch: Sequence[Turn]) -> dict[str, int]:
    messages = db.insert_many(
        "messages",
        [
            "id", "chat_id", "role", "content", "model", "token_count", "generation_time", "timestamp", "branch_id",
            "parent_id", "is_liked",
        ],
        (
            (
                one.id, one.chat.id, one.role, one.content, one.model, one.tokens, one.tokens and one.tokens * 20,
                written(one.at), one.branch, one.parent, int(one.liked),
            )
            for one in batch
        ),
    )  # fmt: skip
    tools = db.insert_many(
        "tool_calls",
        ["id", "message_id", "name", "input", "output", "status", "started_at", "completed_at"],
        (
            (f"tool-{one.id}", one.id, one.tool, "{}", "{}", "success", written(one.at), written(one.at))
            for one in batch
            if one.tool
        ),
    )
    attachments = db.insert_many(
        "attachments",
        ["id", "message_id", "name", "mime_type", "size"],
        (
            (f"file-{one.id}", one.id, one.attachment, "image/png", 2_000 + len(one.content))
            for one in batch
            if one.attachment
        ),
    )
    return {"messages": messages, "tool_calls": tools, "attachments": attachments}
