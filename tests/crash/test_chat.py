"""What changes both databases of the chat, killed at any moment: a person deleted, vectors compacted."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing

import lancedb
import pytest

from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.crash.forge import Moments

SAMPLE = ("--users", "4", "--chats", "6", "--messages", "60")


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A sample of the app, made once."""
    folder = tmp_path_factory.mktemp("chat")
    done(folder, "demo", "chat-lancedb", ".", *SAMPLE)
    return folder


@pytest.fixture
def folder(master, tmp_path):
    return anew(master, tmp_path / "app")


def anew(master, folder):
    """Put the sample into a folder, in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(master, folder)
    return folder


def done(folder, *words):
    status, told = forge.done(folder, *words)
    assert status == 0, told
    return told["data"]


def messages(folder):
    """Return the message of each row of SQLite, and of each vector, with whose they are."""
    with closing(sqlite3.connect(folder / "data/chat.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        own = connection.execute("select id, user_id from messages order by id").fetchall()
    told = lancedb.connect(folder / "data/lancedb").open_table("chat_embeddings").search().to_arrow()
    assert all(len(one) == 768 for one in told.column("vector").to_pylist())
    return own, sorted(
        zip(told.column("message_id").to_pylist(), told.column("user_id").to_pylist(), strict=True)
    )


def moments(folder, what, *words):
    """Run a command to its end, for how long that takes."""
    begun = time.monotonic()
    done(folder, *words)
    return Moments(chance(what), time.monotonic() - begun)


def test_a_kill_while_a_person_is_deleted_leaves_both_or_what_a_cross_check_names_and_the_next_run_finishes(
    master, folder
):
    before = messages(folder)
    owner = Counter(user for _, user in before[0]).most_common(1)[0][0]
    words = ("users", "delete", owner, "--yes")
    at, seen = moments(folder, "deletion of a person", *words), Counter()
    after = messages(folder)
    assert after == tuple([row for row in rows if row[1] != owner] for rows in before)
    for _ in range(figure(2, 200)):
        anew(master, folder)
        job = forge.begin(folder, *words, "-o", "json")
        at.strike(job)
        forge.end(job)
        now = messages(folder)
        _, told = forge.done(folder, "integrity", "cross-check")
        half = now not in (before, after)
        assert bool(told["data"]["findings"]) == half
        seen["half" if half else "before" if now == before else "after"] += 1
        if now[0] == before[0]:
            done(folder, *words)
        assert messages(folder) == after
        assert done(folder, "integrity", "cross-check")["findings"] == []
    print(dict(seen))
    at.over()


def test_a_kill_while_vectors_are_compacted_loses_none(master, folder):
    table = lancedb.connect(folder / "data/lancedb").open_table("chat_embeddings")
    rows = table.search().to_arrow()
    for row in rows.to_pylist()[:8]:  # a version and a file each
        table.delete(f"message_id = '{row['message_id']}'")
        table.add([row], mode="append")
    before = messages(folder)
    littered = shutil.copytree(folder, folder.with_name("littered"))
    words = ("maintain", "optimize", "--db", "vectors")
    at = moments(folder, "compaction", *words)
    assert messages(folder) == before
    for _ in range(figure(2, 200)):
        anew(littered, folder)
        job = forge.begin(folder, *words, "-o", "json")
        at.strike(job)
        forge.end(job)
        assert messages(folder) == before
        assert done(folder, "integrity", "check")["findings"] == []
        done(folder, *words)
        assert messages(folder) == before
    at.over()
