"""The audit log after kill -9 of commands that change a database, and of processes that write the log."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from itertools import count

import pytest

from dbctl.services.events.changes.log import append_changes
from dbctl.services.events.changes.operations import OperationFilter, list_operations, show_operation
from dbctl.services.events.changes.verify import verify_log
from dbctl.services.events.store import EventStore
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng

KILLS, WRITERS = choose_count(100, 1000), 4
COMMAND_KILLS = choose_count(100, 1000)
ENVIRONMENT = {"DBCTL_STATE": "state"}
CHANGE = ("data", "set", "posts", "1")


def write_until_killed(folder):
    log = EventStore(folder)
    while True:
        first = append_changes(log, [{"kind": "intent", "operation": 0, "databases": ["main"]}])
        outcome = {"kind": "outcome", "operation": first.sequence, "databases": ["main"]}
        append_changes(log, [{**outcome, "result": "committed"}])


def start_writer(folder):
    pid = os.fork()
    if not pid:
        try:
            write_until_killed(folder)
        finally:
            os._exit(1)
    return pid


@pytest.mark.slow
def test_killed_writers_leave_an_intact_log(tmp_path):
    rng = create_rng("audit")
    for _ in range(0, KILLS, WRITERS):
        pids = [start_writer(tmp_path) for _ in range(WRITERS)]
        time.sleep(rng.uniform(0.001, 0.05))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids} == {-9}
    assert {finding.severity for finding in verify_log(tmp_path).findings} <= {"info", "warning"}
    append_changes(EventStore(tmp_path), [{"kind": "intent", "operation": 0}])
    assert {finding.severity for finding in verify_log(tmp_path).findings} <= {"info"}


@pytest.mark.slow
def test_killed_command_that_changed_rows_is_in_the_log(tmp_path):
    """Each change of a row that exists is in the log; without a result, the rows show whether it was committed."""
    create_blog(tmp_path)
    start = time.monotonic()
    forge.run(tmp_path, *CHANGE, "title=second", environment=ENVIRONMENT)
    timer = forge.KillTimer(create_rng("audit of commands"), time.monotonic() - start)
    results = set()
    for number in range(COMMAND_KILLS):
        results.add(check_killed(tmp_path, f"t{number}", timer.send_signal))
    print(sorted(results))
    timer.assert_in_time()
    check_end(tmp_path)


@pytest.mark.slow
def test_command_killed_at_each_system_call(tmp_path):
    forge.require_faults()
    create_blog(tmp_path)
    results, jobs = set(), []
    for number in count(1):
        kind = "kill half-way" if number % 2 else "kill"
        result = check_killed(tmp_path, f"c{number}", jobs.append, fault=(kind, number, 0))
        if not jobs[-1].fault_fired:
            break
        results.add(result)
    assert {("nothing", "old"), ("open", "old"), ("open", "new"), ("committed", "new")} <= results
    check_end(tmp_path)


def create_blog(folder):
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text); insert into posts values (1, '0');"
        )
    (folder / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')
    forge.run(folder, *CHANGE, "title=start", environment=ENVIRONMENT)


def check_killed(folder, title, kill, **options):
    """Run and kill a change; return its result in the log, and whether the row is the old or the new one."""
    before, known = read_title(folder), len(read_operations(folder))
    job = forge.start(folder, *CHANGE, f"title={title}", environment=ENVIRONMENT, **options)
    kill(job)
    job.wait()
    after, operations = read_title(folder), read_operations(folder)
    assert after in (before, title)
    assert len(operations) - known in (0, 1)
    if len(operations) == known:
        assert after == before
        return "nothing", "old"
    newest = show_operation(folder / "state", operations[0].operation)
    (image,) = newest.changes[0].images
    assert (image.before, image.after) == ({"title": before}, {"title": title})
    assert newest.result == "open" or (newest.result == "committed") == (after == title)
    return newest.result, "new" if after == title else "old"


def check_end(folder):
    """Check that the log is intact, and that the next changes are recorded and can be undone."""
    severities = {finding.severity for finding in verify_log(folder / "state").findings}
    assert severities <= {"info", "warning"}
    title = read_title(folder)
    assert forge.run(folder, *CHANGE, "title=last", environment=ENVIRONMENT)[0] == 0
    assert forge.run(folder, "audit", "verify", environment=ENVIRONMENT)[0] == 0
    number = read_operations(folder)[0].operation
    assert forge.run(folder, "undo", number, "--yes", environment=ENVIRONMENT)[0] == 0
    assert read_title(folder) == title


def read_operations(folder):
    return list_operations(folder / "state", OperationFilter(limit=10_000)).items


def read_title(folder):
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        return connection.execute("select title from posts").fetchone()[0]
