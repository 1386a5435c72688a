"""``users import`` that is killed, interrupted or concurrent: all users of a file or none, and the next run succeeds."""

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
from tests.crash.figures import choose_count, create_rng
from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, read_all_rows, run_statements
from tests.shapes.flashpoint_web import PASSWORD_HASH, add_user

USERS = 1000
KILLS = choose_count(4, 500)


@pytest.fixture
def path(tmp_path):
    return flashpoint_app.create_app(tmp_path, "deployed")


def write_csv(path, name="new.csv", *, prefix="user", users=USERS, secret=f"password_hash,{PASSWORD_HASH}"):
    column, value = secret.split(",")
    lines = [f"{prefix}{number},{prefix}{number}@example.org,{value}" for number in range(users)]
    path.with_name(name).write_text("\n".join([f"username,email,{column}", *lines, ""]))


def start_users_command(path, *arguments, **environment):
    return forge.start(path.parent, "users", *arguments, **environment)


def wait_for_result(process):
    out, err = process.communicate()
    return process.returncode, out, err


def count_added_users(path):
    """Return the number of added users; assert that the database is valid and the activity log matches."""
    assert query_rows(path, "pragma integrity_check") == [("ok",)]
    assert query_rows(path, "pragma foreign_key_check") == []
    (count,) = query_rows(path, "select count(*) from users where id > 3")[0]
    (log_entries,) = query_rows(path, "select count(*) from activity_logs where action = 'users.import'")[0]
    assert log_entries == (count > 0)
    return count


def wait_for_journal(path, process):
    """Return when the process writes: a journal or write-ahead log with content exists."""
    sides = [path.with_name(path.name + suffix) for suffix in ("-journal", "-wal")]
    while process.poll() is None:
        for side in sides:
            try:
                if side.stat().st_size:
                    return
            except FileNotFoundError:
                pass


def wait_for_threads(process):
    """Return when the process hashes, which it does in threads; without /proc, after a delay."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.exists():
        time.sleep(3)
    while tasks.exists() and len(list(tasks.iterdir())) == 1:
        time.sleep(0.01)
    assert process.poll() is None


def wait_for_rows(path, process):
    """Return when the added rows are visible to others, or the process has ended."""
    while process.poll() is None:
        with suppress(sqlite3.OperationalError):  # locked during the write
            if query_rows(path, "select count(*) from users where id > 3") != [(0,)]:
                return


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_killed_import_is_atomic(path, journal):
    forge.require_faults()
    write_csv(path)
    rng = create_rng(f"import {journal}")
    run_statements(path, f"pragma journal_mode = {journal}")
    start, process = time.monotonic(), start_users_command(path, "import", "new.csv")
    status, _out, err = wait_for_result(process)
    timer, calls = forge.KillTimer(rng, time.monotonic() - start), process.calls
    assert (status, count_added_users(path)) == (0, USERS), err
    outcomes = Counter()
    for turn in range(KILLS):
        for side_file in path.parent.glob("user.db-*"):
            side_file.unlink()
        path.write_bytes(flashpoint_app.template("deployed").read_bytes())
        run_statements(path, f"pragma journal_mode = {journal}")
        if turn % 4 == 0:  # the first one long before the commit
            call = rng.randint(1, calls if turn else calls // 2)
            process = start_users_command(path, "import", "new.csv", fault=("kill", call, 0))
        else:
            process = start_users_command(path, "import", "new.csv")
        if turn % 4 == 1:
            wait_for_rows(path, process)
            process.kill()
        elif turn % 4 == 2:
            timer.send_signal(process)
        elif turn % 4 == 3:
            wait_for_journal(path, process)
            time.sleep(rng.random() * 0.01)
            process.kill()
        wait_for_result(process)
        # reading also recovers the database; the next run must do that itself
        added_before = count_added_users(path) if rng.random() < 0.5 else None
        status, out, err = wait_for_result(
            start_users_command(path, "import", "new.csv", "--existing", "skip", "-o", "json")
        )
        assert status == 0, err
        already_added = USERS - json.loads(out)["data"]["added"]
        assert already_added in {0, USERS}
        assert added_before in {None, already_added}
        outcomes[already_added] += 1
        assert count_added_users(path) == USERS
        assert not list(path.parent.glob("*.partial*"))
    print(outcomes)
    assert outcomes.keys() == {0, USERS}
    timer.assert_in_time()


@pytest.mark.parametrize(
    ("signal_number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_signal_while_hashing_ends_import(path, signal_number, expected):
    profile = path.with_name("quick.toml")
    profile.write_text(profile.read_text().replace("$2b$04$", "$2b$10$"))
    write_csv(path, users=2000, secret="password,a password")
    before = read_all_rows(path)
    process = start_users_command(path, "import", "new.csv", "-o", "json")
    wait_for_threads(process)
    start = time.monotonic()
    process.send_signal(signal_number)
    status, out, err = wait_for_result(process)
    assert time.monotonic() - start < 30  # hashing all passwords takes a minute or more
    assert (status, json.loads(out)["error"]["code"]) == (expected, "interrupted")
    assert err.count(b"\n") == 2
    assert read_all_rows(path) == before
    assert sorted(
        child.name for child in path.parent.glob("user.db*") if not child.name.endswith("lock")
    ) in (["user.db"], ["user.db", "user.db-shm", "user.db-wal"])


def test_trap_lock_wait_is_interrupted_by_signal(path):
    write_csv(path)
    before = read_all_rows(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('begin immediate')\nprint('held', flush=True)\ntime.sleep(60)", str(path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        holder.stdout.readline()
        process = start_users_command(path, "import", "new.csv", "--timeout", "60")
        lock = path.with_name(f".{path.name}.dbctl-lock")
        while not (lock.exists() and f'"pid": {process.pid},' in lock.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)  # between its own lock and the lock of the database
        start = time.monotonic()
        process.terminate()
        assert wait_for_result(process)[0] == 143
        assert time.monotonic() - start < 10  # the lock is held for 60 s
        assert wait_for_result(start_users_command(path, "import", "new.csv", "--timeout", "0"))[0] == 11
    finally:
        holder.kill()
        holder.communicate()
    assert read_all_rows(path) == before
    assert wait_for_result(start_users_command(path, "import", "new.csv"))[0] == 0


def test_concurrent_imports_run_one_after_another(path):
    write_csv(path, "one.csv", prefix="one")
    write_csv(path, "two.csv", prefix="two")
    processes = [
        start_users_command(path, "import", name, "--timeout", "60") for name in ("one.csv", "two.csv")
    ]
    assert [wait_for_result(process)[0] for process in processes] == [0, 0]
    assert query_rows(path, "select count(*) from users") == [(3 + 2 * USERS,)]


def test_concurrent_identical_imports_run_once(path):
    write_csv(path)
    processes = [start_users_command(path, "import", "new.csv", "--timeout", "60") for _ in range(2)]
    assert sorted(wait_for_result(process)[0] for process in processes) == [0, 2]
    assert count_added_users(path) == USERS


def test_concurrent_role_changes_are_applied_or_refused(path):
    add_user(path, "queen", 1)
    processes = [
        start_users_command(path, "set-role", name, "user", "--timeout", "60")
        for name in ("root", "queen") * 3
    ]
    statuses = Counter(wait_for_result(process)[0] for process in processes)
    assert set(statuses) == {0, 6}
    assert query_rows(path, "select count(*) from users where role_id = 1") == [(1,)]
