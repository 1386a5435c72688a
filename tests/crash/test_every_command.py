"""Every command with standard streams that are closed, full or torn off, and every two that write at the same time."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import larders
from tests.cli.test_everywhere import LINES
from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.services import promptvault_app

#: What a command line may end with when it could not say what it found: an error, a reader that went away, or well.
BROKEN_PIPE = 141
#: Commands that write the database or the repository, of which any two may meet.
WRITING = [
    "users create zoe --email zoe@example.org --generate",
    "users update pip --email pip@example.net",
    "users set-role ana guest",
    "users delete ana --yes",
    "users import people.csv",
    "settings set kitchen.title Shelf",
    "settings apply wanted.json",
    "backup create",
    "backup verify --deep",
    "backup prune --keep-last 1 --yes",
    "restore apply latest --yes",
    "restore undo --yes",
    "maintain vacuum",
    "maintain reindex --table order",
    "sessions revoke pip",
    "sessions rebuild-stats --yes",
    "sessions cleanup",
    "data set members a1b7c0de-0000-4000-8000-000000000002 kind=guest",
    "data delete members a1b7c0de-0000-4000-8000-000000000002 --yes",
    "data add recipe_labels recipe_uuid=b2c8d1ef-0000-4000-8000-000000000003 label=rice",
    "data import recipe_labels labels.csv",
    "search index build",
]
#: How one of two may end that the other was in the way of: taken, declined, not found, refused by a rule, busy.
MET = {0, 2, 3, 5, 6, 11}


@pytest.fixture(scope="module")
def deployments(tmp_path_factory):
    return larders.on("sqlite", tmp_path_factory.mktemp("larder"))


@pytest.fixture
def larder(deployments, tmp_path):
    """Makes a deployment in a folder of its own, and returns the folder."""
    made = itertools.count()

    def make():
        folder = tmp_path / str(next(made))
        with deployments.deployed(folder, ""):
            return folder

    return make


def sound(folder):
    with closing(sqlite3.connect(folder / "larder.db")) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("pragma foreign_key_check").fetchall() == []
    listed = set(promptvault_app.codes(promptvault_app.verified(folder / "larder.db", deep=False)))
    assert not listed, listed


def words_of(line):
    return line.format(where="--url pantry=larder.db").split()


STREAMS = ("no input", "no output", "no errors", "none", "full", "torn off")


def run(folder, line, streams):
    """Run a command with such streams; return its status, and what it wrote to standard error."""
    words = [*words_of(line), "-o", "json"]
    closed = {"no input": (0,), "no output": (1,), "no errors": (2,), "none": (0, 1, 2)}.get(streams, ())
    out = {"full": Path("/dev/full"), "torn off": forge.TORN_OFF}.get(streams)
    job = forge.begin(folder, *words, closed=closed, out=out, more={"HOME": str(folder)})
    told = job.communicate()[1]
    return job.returncode, told


def test_trap_a_closed_output_becomes_the_next_file_that_is_opened_so_a_command_does_what_it_does_whatever_its_streams_are(
    larder,
):
    tries = list(itertools.product(LINES, STREAMS))
    for line, streams in chance("streams").sample(tries, figure(10, len(tries))):
        print(line, "|", streams)
        folder = larder()
        status, told = run(folder, line, streams)
        assert b"Traceback" not in told, told
        assert status is not None
        allowed = {LINES[line]}
        if streams in ("full", "torn off"):
            allowed |= {1, BROKEN_PIPE}
            assert status or streams == "torn off", "a full disk took its answer, and it ended well"
        assert status in allowed, (status, told)
        if not line.startswith("init"):  # then there are two apps
            sound(folder)
        for one in folder.glob("*.db"):  # what was said did not go into what was opened next
            assert one.read_bytes()[:16] == b"SQLite format 3\0"


def test_whichever_two_commands_meet_each_is_done_or_says_why_not(larder):
    pairs = list(itertools.combinations_with_replacement(WRITING, 2))
    for pair in chance("pairs").sample(pairs, figure(4, len(pairs))):
        print(" | ".join(pair))
        folder = larder()
        jobs = [forge.begin(folder, *words_of(line), "-o", "json", "--timeout", "30") for line in pair]
        for line, job in zip(pair, jobs, strict=True):
            out, err = job.communicate()
            told = json.loads(out)
            assert told["exit_code"] == job.returncode
            assert job.returncode in MET, (line, told)
            assert not told["error"] or told["error"]["code"] != "internal", told
            assert b"Traceback" not in err
        sound(folder)
        again = forge.begin(folder, "status", "-o", "json")  # nothing stays locked
        assert forge.end(again)[0] == 0
