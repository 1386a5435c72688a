"""Every command with closed, full or broken standard streams, and every two concurrent write commands."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import larders
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.services import promptvault_app
from tools import reference

#: Status of a command whose reader has closed the pipe.
BROKEN_PIPE_STATUS = 141
#: Examples whose runs are recorded, because they write or check; init creates a second app, and the others would name none.
RECORDED_EXAMPLES = [
    line
    for line in larders.EXAMPLES
    if (spec := reference.find_spec(line)).recorded
    and spec.name != "init"
    and "--dry-run" not in line
    and not larders.expected_status(line)
]
#: Statuses of concurrent commands: success, declined, not found, rejected by a rule, busy.
ALLOWED_STATUSES = {0, 2, 3, 5, 6, 11}


@pytest.fixture(scope="module")
def deployments(tmp_path_factory):
    return larders.create_deployments("sqlite", tmp_path_factory.mktemp("larder"))


@pytest.fixture
def create_larder(deployments, tmp_path):
    """Return a function that creates a deployment in a new folder and returns the folder."""
    numbers = itertools.count()

    def create():
        folder = tmp_path / str(next(numbers))
        with deployments.deploy(folder, ""):
            return folder

    return create


def assert_consistent(folder):
    with closing(sqlite3.connect(folder / "larder.db")) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("pragma foreign_key_check").fetchall() == []
    codes = set(promptvault_app.list_codes(promptvault_app.verify_backups(folder / "larder.db", deep=False)))
    assert not codes, codes


def words_of(command_line):
    return larders.split_line(command_line, "--url pantry=larder.db")


STREAMS = ("no input", "no output", "no errors", "none", "full", "broken pipe")


def run_with_streams(folder, command_line, streams):
    """Run a command with such streams; return its status and error output."""
    arguments = [*words_of(command_line), "-o", "json"]
    closed = {"no input": (0,), "no output": (1,), "no errors": (2,), "none": (0, 1, 2)}.get(streams, ())
    out = {"full": Path("/dev/full"), "broken pipe": forge.BROKEN_PIPE}.get(streams)
    environment = {"HOME": str(folder), "DBCTL_STATE": str(folder / "state"), "EDITOR": "true"}
    for needed in larders.list_needs(command_line):
        assert forge.run(folder, *words_of(needed), environment=environment)[0] == 0
    job = forge.start(folder, *arguments, closed=closed, out=out, environment=environment)
    errors = job.communicate()[1]
    return job.returncode, errors


def test_trap_closed_stdout_is_not_reused_as_file_descriptor(create_larder):
    combinations = list(itertools.product(larders.EXAMPLES, STREAMS))
    for command_line, streams in create_rng("streams").sample(
        combinations, choose_count(10, len(combinations))
    ):
        print(command_line, "|", streams)
        folder = create_larder()
        status, errors = run_with_streams(folder, command_line, streams)
        assert b"Traceback" not in errors, errors
        assert status is not None
        allowed = {larders.expected_status(command_line)}
        if streams in ("full", "broken pipe"):
            allowed |= {1, BROKEN_PIPE_STATUS}
            assert status or streams == "broken pipe", "a full disk was not reported"
        assert status in allowed, (status, errors)
        if not command_line.startswith("init"):  # which creates a second app
            assert_consistent(folder)
        for database in folder.glob("*.db"):  # the output was not written into a file that was opened later
            assert database.read_bytes()[:16] == b"SQLite format 3\0"


def test_concurrent_commands_succeed_or_report_conflict(create_larder):
    pairs = list(itertools.combinations_with_replacement(RECORDED_EXAMPLES, 2))
    for pair in create_rng("pairs").sample(pairs, choose_count(4, len(pairs))):
        print(" | ".join(pair))
        folder = create_larder()
        jobs = [
            forge.start(folder, *words_of(command_line), "-o", "json", "--timeout", "30")
            for command_line in pair
        ]
        for command_line, job in zip(pair, jobs, strict=True):
            out, err = job.communicate()
            result = json.loads(out)
            assert result["exit_code"] == job.returncode
            assert job.returncode in ALLOWED_STATUSES, (command_line, result)
            assert not result["error"] or result["error"]["code"] != "internal", result
            assert b"Traceback" not in err
        assert_consistent(folder)
        status_job = forge.start(folder, "status", "-o", "json")  # no lock remains
        assert forge.wait_for_result(status_job)[0] == 0
