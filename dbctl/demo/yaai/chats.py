"""The chats of the sample: alternating messages, some on branches, with attachments and tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from dbctl.demo.random import Progress, batches, happens, rng_for, uuid4
from dbctl.demo.yaai.sample import MODELS, Sample, Work, create_chats, create_title, format_time
from dbctl.engines.contract import Writable
from dbctl.model import Struct

QUESTIONS = ("How would you begin with", "What is wrong with", "Explain more about", "Write a table of", "Sum up", "Find a name for")  # fmt: skip
SENTENCES = (
    "Begin with a plan of three steps.", "There are two ways; the second is cheaper.", "Nothing is wrong, as far as one can see.",
    "A table would help here.", "Let us test it first.", "It depends on how often it is read.", "That was decided last week.",
)  # fmt: skip
TOOLS = ("web_search", "read_file", "run_tests")
#: The share of messages that begin a branch, that have an attachment, and that call a tool.
FORK_SHARE, ATTACHMENT_SHARE, TOOL_CALL_SHARE = 0.06, 0.05, 0.15


class Turn(Struct, frozen=True, kw_only=True):
    """One message with its branch, tool call and attachment."""

    id: str
    chat: Work
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


class Branch(Struct, frozen=True, kw_only=True):
    """A branch of a chat, which begins after one message."""

    id: str
    chat: Work
    fork_message_id: str
    at: datetime


def fill_chat(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database of chats; return the numbers of rows."""
    chats = list(create_chats(sample))
    rows = [
        (branch.id, branch.title, format_time(branch.started_at), format_time(branch.ended_at))
        for branch in chats
    ]
    row_counts = {
        "chats": db.insert_many("chats", ["id", "title", "created_at", "updated_at"], rows),
        "messages": 0,
        "tool_calls": 0,
        "attachments": 0,
    }
    branches: list[Branch] = []
    for batch in batches(_turns(sample, chats, branches), progress):
        for table, count in _insert(db, batch).items():
            row_counts[table] += count
    columns = ["id", "chat_id", "fork_message_id", "name", "created_at"]
    branch_rows = [
        (branch.id, branch.chat.id, branch.fork_message_id, "another way", format_time(branch.at))
        for branch in branches
    ]
    return row_counts | {"branches": db.insert_many("branches", columns, branch_rows)}


def _turns(sample: Sample, chats: Sequence[Work], branches: list[Branch]) -> Iterator[Turn]:
    """Yield the messages chat by chat, questions and answers in turn; append the branches to ``branches``."""
    for number, chat in enumerate(chats):
        count = sample.messages * (number + 1) // len(chats) - sample.messages * number // len(chats)
        parent: str | None = None
        branch: str | None = None
        for index in range(count):
            rng = rng_for(sample.seed, "message", number, index)
            at = chat.started_at + (chat.ended_at - chat.started_at) * (index / count)
            is_question = index % 2 == 0
            if parent and is_question and happens(rng, FORK_SHARE):
                branch = uuid4(rng)
                branches.append(Branch(id=branch, chat=chat, fork_message_id=parent, at=at))
            text = (
                f"{rng.choice(QUESTIONS)} {create_title(rng)}?"
                if is_question
                else " ".join(rng.sample(SENTENCES, 2))
            )
            blocks = [{"type": "text", "text": f"{text} {create_title(rng).capitalize()} comes first."}]
            turn = Turn(
                id=uuid4(rng),
                chat=chat,
                role="user" if is_question else "assistant",
                content=text if is_question else json.dumps(blocks),
                at=at,
                parent=parent,
                branch=branch,
                model=None if is_question else rng.choice(MODELS),
                tokens=None if is_question else 20 + rng.randrange(400),
                liked=not is_question and happens(rng, 0.1),
                tool=rng.choice(TOOLS) if not is_question and happens(rng, TOOL_CALL_SHARE) else None,
                attachment=f"{create_title(rng)[4:].replace(' ', '-')}.png"
                if is_question and happens(rng, ATTACHMENT_SHARE)
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
                turn.id, turn.chat.id, turn.role, turn.content, turn.model, turn.tokens, turn.tokens and turn.tokens * 20,
                format_time(turn.at), turn.branch, turn.parent, int(turn.liked),
            )
            for turn in batch
        ),
    )  # fmt: skip
    tools = db.insert_many(
        "tool_calls",
        ["id", "message_id", "name", "input", "output", "status", "started_at", "completed_at"],
        (
            (
                f"tool-{turn.id}",
                turn.id,
                turn.tool,
                "{}",
                "{}",
                "success",
                format_time(turn.at),
                format_time(turn.at),
            )
            for turn in batch
            if turn.tool
        ),
    )
    attachments = db.insert_many(
        "attachments",
        ["id", "message_id", "name", "mime_type", "size"],
        (
            (f"file-{turn.id}", turn.id, turn.attachment, "image/png", 2_000 + len(turn.content))
            for turn in batch
            if turn.attachment
        ),
    )
    return {"messages": messages, "tool_calls": tools, "attachments": attachments}
