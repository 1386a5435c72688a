"""A deletion in two databases, killed at each step: the same command completes it, and checks report the rest."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.shapes import chat_lancedb
from tests.shapes.chat_lancedb import ANON, read_vectors

pytestmark = pytest.mark.slow
#: For each line of the input, a folder and a number, runs a deletion in the folder that is killed before or after the statement of
#: this number, counted over both databases, and prints how it ended. The modules are loaded once; each deletion is a process.
KILLED_DELETION = """
import os, signal, sys
import pyarrow.dataset, lance_namespace, deprecation, tqdm  # not lancedb itself, which starts a thread
from dbctl.cli.main import main
from dbctl.extensions.lancedb.writer import LanceWriter
from dbctl.engines.sqlite.write_connection import WriteConnection
at = seen = 0
def counting(work):
    def counted(*words, **more):
        global seen
        for moment in range(2):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == 0:
                told = work(*words, **more)
        return told
    return counted
LanceWriter.delete = counting(LanceWriter.delete)
run = WriteConnection.run
def statement(self, sql, *rest):
    return (counting(run) if sql.lower().startswith("commit") else run)(self, sql, *rest)
WriteConnection.run = statement
for line in sys.stdin:
    folder, at = line.rsplit(None, 1)
    if not (pid := os.fork()):
        at = int(at)
        os.dup2(2, 1)
        os.chdir(folder)
        os._exit(main(["users", "delete", sys.argv[1], "--yes", "--quiet"]))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("chat")
    chat_lancedb.deployed(home / "data/chat.db")
    chat_lancedb.create_vectors(home / "data/lancedb")
    return home


def count_messages_and_vectors(home: Path) -> tuple[int, int]:
    """Return the number of messages and vectors of the user."""
    with closing(sqlite3.connect(home / "data/chat.db")) as connection:
        ((messages,),) = connection.execute("select count(*) from messages where user_id = ?", [ANON])
    return messages, sum(user == ANON for (user,) in read_vectors(home / "data/lancedb", "user_id"))


def test_killed_deletion_is_completed_by_same_command(
    master: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = set[tuple[int, int]]()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_DELETION, ANON],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(process.communicate)
    assert process.stdin
    assert process.stdout
    for step in range(1, 100):
        home = tmp_path / str(step)
        shutil.copytree(master, home)
        monkeypatch.chdir(home)
        assert main(["init", "chat-lancedb"]) == 0
        process.stdin.write(f"{home} {step}\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        if status == 0:
            assert count_messages_and_vectors(home) == (0, 0)
            break
        assert status == -signal.SIGKILL
        seen.add(count_messages_and_vectors(home))
        capsys.readouterr()
        main(["integrity", "cross-check", "-o", "json"])
        codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)["data"]["findings"]}
        messages, vectors = count_messages_and_vectors(home)
        assert ("missing-rows" in codes) == (messages > vectors)
        if messages:
            assert main(["users", "delete", ANON, "--yes"]) == 0
        assert count_messages_and_vectors(home) == (0, 0), "a vector remains without a message"
        assert main(["integrity", "check", "--quick", "--db", "chat"]) == 0
    assert seen == {(4, 5), (4, 0), (0, 0)}, "before, after the vectors were deleted, and after the commit"
