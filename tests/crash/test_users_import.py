"""``users import`` that is killed, stopped, or not alone: all of a file or nothing, and the next run just works."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.services import flashpoint_app
from tests.services.flashpoint_app import content, rows, run
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

USERS = 1000
KILLS = figure(4, 500)


@pytest.fixture
def path(tmp_path):
    return flashpoint_app.settle(tmp_path, "deployed")


def write(path, name="new.csv", *, prefix="user", users=USERS, secret=f"password_hash,{PASSWORD_HASH}"):
    column, value = secret.split(",")
    lines = [f"{prefix}{number},{prefix}{number}@example.org,{value}" for number in range(users)]
    path.with_name(name).write_text("\n".join([f"username,email,{column}", *lines, ""]))


def begin(path, *words, **more):
    return forge.begin(path.parent, "users", *words, **more)


def end(process):
    out, err = process.communicate()
    return process.returncode, out, err


def added(path):
    """Return how many users were added, after proving that the file is sound and the record of actions agrees."""
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert rows(path, "pragma foreign_key_check") == []
    (count,) = rows(path, "select count(*) from users where id > 3")[0]
    (told,) = rows(path, "select count(*) from activity_logs where action = 'users.import'")[0]
    assert told == (count > 0)
    return count


def wait_for_a_trace(path, process):
    """Return once the process writes: a journal or a write-ahead log with something in it is beside the file."""
    sides = [path.with_name(path.name + suffix) for suffix in ("-journal", "-wal")]
    while process.poll() is None:
        for side in sides:
            try:
                if side.stat().st_size:
                    return
            except FileNotFoundError:
                pass


def wait_for_threads(process):
    """Return once the process hashes, which it does in threads; where no /proc tells, after a while."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.exists():
        time.sleep(3)
    while tasks.exists() and len(list(tasks.iterdir())) == 1:
        time.sleep(0.01)
    assert process.poll() is None


def wait_for_the_rows(path, process):
    """Return once what the process adds is there for others, or it has ended."""
    while process.poll() is None:
        with suppress(sqlite3.OperationalError):  # it is locked while it is written
            if rows(path, "select count(*) from users where id > 3") != [(0,)]:
                return


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_kill_at_any_moment_leaves_all_or_nothing_and_the_next_run_just_works(path, journal):
    forge.want_faults()
    write(path)
    at = chance(f"import {journal}")
    run(path, f"pragma journal_mode = {journal}")
    begun, process = time.monotonic(), begin(path, "import", "new.csv")
    status, _out, err = end(process)
    moments, calls = forge.Moments(at, time.monotonic() - begun), process.calls
    assert (status, added(path)) == (0, USERS), err
    outcomes = Counter()
    for number in range(KILLS):
        for side in path.parent.glob("user.db-*"):
            side.unlink()
        path.write_bytes(flashpoint_app.template("deployed").read_bytes())
        run(path, f"pragma journal_mode = {journal}")
        if number % 4 == 0:  # the first one long before it commits
            call = at.randint(1, calls if number else calls // 2)
            process = begin(path, "import", "new.csv", fault=("kill", call, 0))
        else:
            process = begin(path, "import", "new.csv")
        if number % 4 == 1:
            wait_for_the_rows(path, process)
            process.kill()
        elif number % 4 == 2:
            moments.strike(process)
        elif number % 4 == 3:
            wait_for_a_trace(path, process)
            time.sleep(at.random() * 0.01)
            process.kill()
        end(process)
        # looking also recovers; the next run must do that itself
        found = added(path) if at.random() < 0.5 else None
        status, out, err = end(begin(path, "import", "new.csv", "--existing", "skip", "-o", "json"))
        assert status == 0, err
        was_there = USERS - json.loads(out)["data"]["added"]
        assert was_there in {0, USERS}
        assert found in {None, was_there}
        outcomes[was_there] += 1
        assert added(path) == USERS
        assert not list(path.parent.glob("*.partial*"))
    print(outcomes)
    assert outcomes.keys() == {0, USERS}
    moments.over()


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_while_hashing_ends_it_soon_with_nothing_imported(path, number, expected):
    quick = path.with_name("quick.toml")
    quick.write_text(quick.read_text().replace("cost = 4", "cost = 10"))
    write(path, users=2000, secret="password,a password")
    before = content(path)
    process = begin(path, "import", "new.csv", "-o", "json")
    wait_for_threads(process)
    begun = time.monotonic()
    process.send_signal(number)
    status, out, err = end(process)
    assert time.monotonic() - begun < 30  # all of the hashes take a minute or more
    assert (status, json.loads(out)["error"]["code"]) == (expected, "interrupted")
    assert err.count(b"\n") == 2
    assert content(path) == before
    assert sorted(side.name for side in path.parent.glob("user.db*") if not side.name.endswith("lock")) in (
        ["user.db"],
        ["user.db", "user.db-shm", "user.db-wal"],
    )


def test_trap_no_signal_is_heard_while_sqlite_waits_for_a_lock_so_it_waits_briefly_and_often(path):
    write(path)
    before = content(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('begin immediate')\nprint('held', flush=True)\ntime.sleep(60)", str(path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        holder.stdout.readline()
        process = begin(path, "import", "new.csv", "--timeout", "60")
        lock = path.with_name(f".{path.name}.dbctl-lock")
        while not (lock.exists() and f'"pid": {process.pid},' in lock.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)  # from its own lock to the wait for that of the database
        begun = time.monotonic()
        process.terminate()
        assert end(process)[0] == 143
        assert time.monotonic() - begun < 10  # the lock is held for 60 s
        assert end(begin(path, "import", "new.csv", "--timeout", "0"))[0] == 11
    finally:
        holder.kill()
        holder.communicate()
    assert content(path) == before
    assert end(begin(path, "import", "new.csv"))[0] == 0


def test_two_imports_at_once_take_turns(path):
    write(path, "one.csv", prefix="one")
    write(path, "two.csv", prefix="two")
    both = [begin(path, "import", name, "--timeout", "60") for name in ("one.csv", "two.csv")]
    assert [end(process)[0] for process in both] == [0, 0]
    assert rows(path, "select count(*) from users") == [(3 + 2 * USERS,)]


def test_the_same_import_twice_at_once_is_done_once(path):
    write(path)
    both = [begin(path, "import", "new.csv", "--timeout", "60") for _ in range(2)]
    assert sorted(end(process)[0] for process in both) == [0, 2]
    assert added(path) == USERS


def test_changes_by_many_at_once_are_all_kept_or_refused(path):
    add_user(path, "queen", 1)
    all_at_once = [begin(path, "set-role", name, "user", "--timeout", "60") for name in ("root", "queen") * 3]
    statuses = Counter(end(process)[0] for process in all_at_once)
    assert set(statuses) == {0, 6}
    assert rows(path, "select count(*) from users where role_id = 1") == [(1,)]
