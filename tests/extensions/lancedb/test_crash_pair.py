"""SQLite and LanceDB databases of one app, backed up and restored together: killed, with faults, and with writers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import lancedb
import pytest

from dbctl.services.checks.deployment import CODE
from dbctl.services.checks.run import check
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer
from tests.crash.test_every_call import KINDS, FaultRuns
from tests.extensions.lancedb import chat_app
from tests.services import flashpoint_app, promptvault_app

pytestmark = pytest.mark.slow
SINGLE_FAULTS = [kind for kind in KINDS if kind[0] != "fail on"]


@pytest.fixture
def path(tmp_path):
    return chat_app.create_app(tmp_path / "app")


def change_both(path):
    """Change both databases; return their content."""
    chat_app.add_messages(path, range(100, 120))
    chat_app.delete_message(path, 3)
    return chat_app.read_keys(path)


def is_interruption_reported(path):
    """Return whether a check reports an interrupted restore."""
    with promptvault_app.open_repository(path) as (app, _):
        return CODE in promptvault_app.list_codes(check(app).findings)


def list_leftovers(path):
    """Return the folders that dbctl has left next to the databases."""
    names = (child.name for child in path.parent.iterdir() if child.is_dir() and ".dbctl-" in child.name)
    return sorted(name for name in names if ".dbctl-new-" not in name)  # the next restore deletes those


def run_dbctl(path, *arguments):
    status, result = forge.run(path.parent, *arguments)
    assert status == 0, result
    return result["data"]


def kill_between_databases(path, apply, old):
    """Kill a restore after the commit of SQLite, and before the swap of the folders."""
    forge.require_faults()
    # The last call on the file syncs the checkpoint: the change was committed in the -wal before.
    counting_job = forge.start(path.parent, *apply, "-o", "json", fault=("count", 0, 0), below=path)
    assert forge.wait_for_result(counting_job)[0] == 0
    run_dbctl(path, "restore", "undo", "--yes")
    assert chat_app.read_keys(path) == old
    job = forge.start(path.parent, *apply, "-o", "json", fault=("kill", counting_job.calls, 0), below=path)
    forge.wait_for_result(job)


@pytest.mark.parametrize("next_command", ["undo", "again"][: choose_count(1, 2)])
def test_kill_between_databases_is_reported_and_repaired(path, next_command):
    new, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    old, apply = change_both(path), ("restore", "apply", backup.id, "--yes")
    kill_between_databases(path, apply, old)
    assert chat_app.read_keys(path) == (new[0], old[1])
    assert is_interruption_reported(path)
    run_dbctl(path, *(("restore", "undo", "--yes") if next_command == "undo" else apply))
    assert chat_app.read_keys(path) == (old if next_command == "undo" else new)
    assert not is_interruption_reported(path)
    if next_command == "again":
        run_dbctl(path, "restore", "undo", "--yes")
        assert chat_app.read_keys(path) == (new[0], old[1])  # the state before that restore


def test_undo_after_interrupted_restore_refers_to_earlier_restore(path):
    new, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    old = change_both(path)
    kill_between_databases(path, ("restore", "apply", backup.id, "--yes"), old)
    run_dbctl(path, "restore", "undo", "--yes")
    assert chat_app.read_keys(path) == old
    run_dbctl(path, "restore", "undo", "--yes")
    assert chat_app.read_keys(path) == new  # the state before the earlier restore, which was itself an undo


def test_nothing_to_undo_after_undone_first_restore(path):
    backup = promptvault_app.create_app_backup(path)
    old = change_both(path)
    kill_between_databases(path, ("restore", "apply", backup.id, "--yes"), old)
    for entry in promptvault_app.list_all_backups(path).page.items[
        1:
    ]:  # all backups before the interrupted restore
        if entry.id != backup.id:
            shutil.rmtree(promptvault_app.find_backup_folder(path, entry.id))
    run_dbctl(path, "restore", "undo", "--yes")
    status, result = forge.run(path.parent, "restore", "undo", "--yes")
    assert (status, result["error"]["code"]) == (5, "nothing-to-undo")
    assert chat_app.read_keys(path) == old


def test_failing_call_leaves_consistent_pair_or_is_reported(path):
    forge.require_faults()
    new, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    old = change_both(path)
    runs, outcomes = FaultRuns(path, ("restore", "apply", backup.id, "--yes")), Counter()
    for run in runs.sample_faults("pair", 1, SINGLE_FAULTS):
        now = chat_app.read_keys(path)
        is_mixed = now not in (old, new)
        outcomes["mixed" if is_mixed else "old" if now == old else "new"] += 1
        if run.is_killed:
            run.check(not is_mixed or is_interruption_reported(path), "mixed without a report")
        else:
            # SQLite can fail after its commit: the other database remains marked as not replaced
            is_unfinished = not run.succeeded and run.result["error"]["code"] == "restore-unfinished"
            state = new if run.succeeded else old
            run.check(now == state or (is_unfinished and is_mixed), "state does not match the result")
            run.check(is_interruption_reported(path) == is_unfinished, "the report does not match the result")
            expected_count = run.succeeded or is_unfinished
            run.check(len(list_leftovers(path)) == expected_count, f"left: {list_leftovers(path)}")
        if is_mixed:
            status, result = forge.run(path.parent, "restore", "undo", "--yes")
            run.check(status == 0 and chat_app.read_keys(path) == old, f"undone: {result}")
        status, result = forge.run(path.parent, *runs.words)
        run.check(status == 0 and chat_app.read_keys(path) == new, f"the next restore: {result}")
        run.check(
            not is_interruption_reported(path) and len(list_leftovers(path)) == 1,
            f"left: {list_leftovers(path)}",
        )
        codes = set(promptvault_app.list_codes(promptvault_app.verify_backups(path, deep=False)))
        # file-unknown: the call that deletes a partial file failed
        expected = {
            "backup-incomplete",
            "retained-database-missing",
            *(() if run.is_killed else ("file-unknown",)),
        }
        run.check(codes <= expected, f"verify: {codes}")
    print(dict(outcomes))
    runs.assert_no_problems()


def test_undo_survives_kill_at_any_call(path):
    """Killed before a call or half-way through it; the next undo must restore the folder."""
    forge.require_faults()
    backup = promptvault_app.create_app_backup(path)
    old = change_both(path)
    run_dbctl(path, "restore", "apply", backup.id, "--yes")
    (folder,) = list_leftovers(path)
    undo, saved_copy = ("restore", "undo", "--yes", "-o", "json"), path.parent.with_name("saved")
    shutil.copytree(path.parent, saved_copy)
    counting_job = forge.start(path.parent, *undo, fault=("count", 0, 0), below=path.with_name(folder))
    assert forge.wait_for_result(counting_job)[0] == 0
    assert counting_job.calls > 2, "no call for the folder is counted"
    faults = list(product(("kill", "kill half-way"), range(1, counting_job.calls + 1)))
    for kind, call in create_rng("undo pair").sample(faults, choose_count(3, len(faults))):
        shutil.rmtree(path.parent)
        shutil.copytree(saved_copy, path.parent)
        job = forge.start(path.parent, *undo, fault=(kind, call, 0), below=path.with_name(folder))
        forge.wait_for_result(job)
        status, result = forge.run(path.parent, "restore", "undo", "--yes")
        if status == 5:  # the killed command had finished
            assert result["error"]["code"] in ("nothing-to-undo", "backup-missing"), result
        else:
            assert status == 0, (kind, call, result)
        assert chat_app.read_keys(path) == old, (kind, call)


def test_killed_backup_of_pair_changes_nothing(path):
    before = chat_app.read_keys(path)
    promptvault_app.create_app_backup(path)
    start = time.monotonic()
    run_dbctl(path, "backup", "create")
    timer = KillTimer(create_rng("create pair"), time.monotonic() - start)
    for _ in range(choose_count(1, 200)):
        job = forge.start(path.parent, "backup", "create", "-o", "json")
        timer.send_signal(job)
        forge.wait_for_result(job)
        assert chat_app.read_keys(path) == before
        assert not list_leftovers(path)  # versions are pinned by open files, so no copies exist
        assert set(promptvault_app.list_codes(promptvault_app.verify_backups(path, deep=False))) <= {
            "backup-incomplete"
        }
        complete = {file.parent.name for file in path.parent.rglob("manifest.json")}
        pruned = run_dbctl(path, "backup", "prune", "--keep-last", "1", "--yes")
        assert complete
        assert not complete & {*pruned["leftovers"]}
    timer.assert_in_time()


def test_killed_restore_of_pair_is_consistent_or_reported(path):
    new, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    old = change_both(path)
    apply = ("restore", "apply", backup.id, "--yes")
    start = time.monotonic()
    run_dbctl(path, *apply)
    timer, outcomes = KillTimer(create_rng("restore pair"), time.monotonic() - start), Counter()
    run_dbctl(path, "restore", "undo", "--yes")
    for _ in range(choose_count(1, 200)):
        job = forge.start(path.parent, *apply, "-o", "json")
        timer.send_signal(job)
        forge.wait_for_result(job)
        now = chat_app.read_keys(path)
        is_mixed = now not in (old, new)
        assert not is_mixed or is_interruption_reported(path)
        outcomes["mixed" if is_mixed else "old" if now == old else "new"] += 1
        if now == old:
            run_dbctl(path, *apply)
            assert chat_app.read_keys(path) == new
        run_dbctl(path, "restore", "undo", "--yes")
        assert chat_app.read_keys(path) == old
        assert not is_interruption_reported(path)
        for entry in promptvault_app.list_all_backups(path).page.items:
            if entry.id != backup.id:
                shutil.rmtree(promptvault_app.find_backup_folder(path, entry.id))
    print(dict(outcomes))
    timer.assert_in_time()


# Concurrent writers -----------------------------------------------------------------------------------------------

#: Adds batches of ten, deletes some batches, compacts, and deletes all versions but the newest.
VECTOR_WRITER = """
import datetime, random, sys, time, warnings
import lancedb
warnings.simplefilter("ignore")
table = lancedb.connect(sys.argv[1]).open_table("batches")
print(flush=True)
number = 0
while True:
    number += 1
    table.add([{"batch": number, "vector": [random.random()] * 8} for _ in range(10)])
    if number % 3 == 0:
        table.delete(f"batch = {random.randint(1, number)}")
    if number % 5 == 0:
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
"""
#: Transfers money, so that the sum is constant.
BANK_WRITER = """
import random, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print(flush=True)
while True:
    c.execute("begin immediate")
    a, b = random.sample(range(100), 2)
    c.execute("update bank set cents = cents - 1 where id = ?", (a,))
    c.execute("update bank set cents = cents + 1 where id = ?", (b,))
    c.execute("commit")
"""


@contextmanager
def run_concurrently(code, place):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(place)], stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        yield
        assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


def test_backup_of_pair_under_writers_is_consistent(path, tmp_path):
    with flashpoint_app.sqlite3.connect(path) as bank:
        bank.execute("create table bank (id integer primary key, cents integer)")
        bank.executemany("insert into bank values (?, 1000)", [(account,) for account in range(100)])
    bank.close()
    rows = [{"batch": 0, "vector": [0.0] * 8} for _ in range(10)]
    lancedb.connect(chat_app.vector_folder(path)).create_table("batches", rows)
    versions, deadline = set(), time.monotonic() + choose_count(1, 60)
    with run_concurrently(VECTOR_WRITER, chat_app.vector_folder(path)), run_concurrently(BANK_WRITER, path):
        while time.monotonic() < deadline or len(versions) < 2:
            backup = promptvault_app.create_app_backup(path)
            versions.add(backup.members[-1].facts["version of batches"])
            folder = promptvault_app.find_backup_folder(path, backup)
            extracted = Path(tmp_path, "there")
            extracted.mkdir()
            for archive in folder.glob("*.tar.gz"):
                subprocess.run(["tar", "-xzf", archive, "-C", extracted], check=True)
            table = lancedb.connect(extracted / "lancedb").open_table("batches").search().to_arrow()
            assert set(Counter(table.column("batch").to_pylist()).values()) == {10}
            decompressed = extracted / "chat.db"
            with (
                next(folder.glob("chat_*.db.gz")).open("rb") as compressed,
                decompressed.open("wb") as output,
            ):
                subprocess.run(["gunzip", "-c"], stdin=compressed, stdout=output, check=True)
            assert flashpoint_app.query_rows(decompressed, "select sum(cents), count(*) from bank") == [
                (100_000, 100)
            ]
            shutil.rmtree(extracted)
            shutil.rmtree(folder)
    print(len(versions), "versions")


# Insufficient space -----------------------------------------------------------------------------------------------


def test_insufficient_space_leaves_pair_unchanged(path):
    """A file size limit simulates the full disk, as for SQLite alone."""
    new, backup = chat_app.read_keys(path), promptvault_app.create_app_backup(path)
    old = change_both(path)
    largest = max(child.stat().st_size for child in path.parent.rglob("*") if child.is_file())
    sizes = [2500, 3500, 4096, 9000, 12_500, largest - 1]  # the output is a file, too, and fits
    for size in sorted(create_rng("pair limits").sample(sizes, choose_count(2, len(sizes)))):
        job = forge.start(path.parent, "backup", "create", "-o", "json", limit=size)
        status, result = forge.wait_for_result(job)
        assert status in (0, 1, 10), result
        assert chat_app.read_keys(path) == old
        job = forge.start(path.parent, "restore", "apply", backup.id, "--yes", "-o", "json", limit=size)
        status, result = forge.wait_for_result(job)
        assert status in (0, 1, 10, 12), result
        assert chat_app.read_keys(path) == (new if status == 0 else old), result
        assert not is_interruption_reported(path)
        assert len(list_leftovers(path)) == (status == 0)
        if status == 0:
            run_dbctl(path, "restore", "undo", "--yes")
            for name in list_leftovers(path):
                shutil.rmtree(path.with_name(name))
        assert set(promptvault_app.list_codes(promptvault_app.verify_backups(path, deep=False))) <= {
            "backup-incomplete"
        }
