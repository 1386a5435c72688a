"""Commands that change both databases of the chat app, killed at random: deletion of a user, compaction of vectors."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing

import lancedb
import pytest

from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer

pytestmark = pytest.mark.slow
SAMPLE = ("--users", "4", "--chats", "6", "--messages", "60")


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A sample of the app, created once."""
    folder = tmp_path_factory.mktemp("chat")
    run_dbctl(folder, "demo", "chat-lancedb", ".", *SAMPLE)
    return folder


@pytest.fixture
def folder(master, tmp_path):
    return reset_folder(master, tmp_path / "app")


def reset_folder(master, folder):
    """Replace a folder by the sample."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(master, folder)
    return folder


def run_dbctl(folder, *arguments):
    status, result = forge.run(folder, *arguments)
    assert status == 0, result
    return result["data"]


def read_messages_and_vectors(folder):
    """Return the ids and owners of the messages in SQLite and of their vectors."""
    with closing(sqlite3.connect(folder / "data/chat.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        rows = connection.execute("select id, user_id from messages order by id").fetchall()
    vectors = lancedb.connect(folder / "data/lancedb").open_table("chat_embeddings").search().to_arrow()
    assert all(len(vector) == 768 for vector in vectors.column("vector").to_pylist())
    return rows, sorted(
        zip(vectors.column("message_id").to_pylist(), vectors.column("user_id").to_pylist(), strict=True)
    )


def create_kill_timer(folder, name, *arguments):
    """Run a command once to measure its duration."""
    start = time.monotonic()
    run_dbctl(folder, *arguments)
    return KillTimer(create_rng(name), time.monotonic() - start)


def test_killed_user_deletion_is_reported_and_completed_by_next_run(master, folder):
    before = read_messages_and_vectors(folder)
    owner = Counter(user for _, user in before[0]).most_common(1)[0][0]
    arguments = ("users", "delete", owner, "--yes")
    timer, outcomes = create_kill_timer(folder, "deletion of a user", *arguments), Counter()
    after = read_messages_and_vectors(folder)
    assert after == tuple([row for row in rows if row[1] != owner] for rows in before)
    for _ in range(choose_count(2, 200)):
        reset_folder(master, folder)
        job = forge.start(folder, *arguments, "-o", "json")
        timer.send_signal(job)
        forge.wait_for_result(job)
        now = read_messages_and_vectors(folder)
        _, result = forge.run(folder, "integrity", "cross-check")
        is_partial = now not in (before, after)
        assert bool(result["data"]["findings"]) == is_partial
        outcomes["half" if is_partial else "before" if now == before else "after"] += 1
        if now[0] == before[0]:
            run_dbctl(folder, *arguments)
        assert read_messages_and_vectors(folder) == after
        assert run_dbctl(folder, "integrity", "cross-check")["findings"] == []
    print(dict(outcomes))
    timer.assert_in_time()


def test_killed_compaction_loses_no_vectors(master, folder):
    table = lancedb.connect(folder / "data/lancedb").open_table("chat_embeddings")
    rows = table.search().to_arrow()
    for row in rows.to_pylist()[:8]:  # creates a version and a file for each row
        table.delete(f"message_id = '{row['message_id']}'")
        table.add([row], mode="append")
    before = read_messages_and_vectors(folder)
    master_with_versions = shutil.copytree(folder, folder.with_name("littered"))
    arguments = ("maintain", "optimize", "--db", "vectors")
    timer = create_kill_timer(folder, "compaction", *arguments)
    assert read_messages_and_vectors(folder) == before
    for _ in range(choose_count(2, 200)):
        reset_folder(master_with_versions, folder)
        job = forge.start(folder, *arguments, "-o", "json")
        timer.send_signal(job)
        forge.wait_for_result(job)
        assert read_messages_and_vectors(folder) == before
        assert run_dbctl(folder, "integrity", "check")["findings"] == []
        run_dbctl(folder, *arguments)
        assert read_messages_and_vectors(folder) == before
    timer.assert_in_time()
