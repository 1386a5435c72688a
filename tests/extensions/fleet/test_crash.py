"""``migrate up`` on a fleet that is killed, interrupted, started twice, or has no free space; ``--resume`` completes it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from dbctl.services.events.store import EventStore
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng

pytestmark = pytest.mark.slow
KILLS, SIGNALS = choose_count(6, 500), choose_count(6, 120)
TENANTS, ROWS = 12, 20_000
FILL = f"insert into items with recursive c (n) as (select 1 union all select n + 1 from c limit {ROWS}) select n from c;"


@pytest.fixture
def fleet(tmp_path):
    """Empty databases, and a migration that takes some milliseconds."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/001_items.sql").write_text(
        f"-- migrate:up\ncreate table items (id integer primary key);\n{FILL}\n-- migrate:down\ndrop table items;\n"
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "tenants/*.db"\n[apps.shop.migrations]\nmain = "migrations"\n'
    )
    (tmp_path / "tenants").mkdir()
    empty_databases(tmp_path)
    return tmp_path


def empty_databases(folder):
    for path in folder.glob("tenants/.*"):
        path.unlink()
    for number in range(TENANTS):
        for path in folder.glob(f"tenants/t{number:02}.db*"):
            path.unlink()
        (folder / f"tenants/t{number:02}.db").touch()


def start(folder, *options, **settings):
    state = {"DBCTL_STATE": str(folder / "state")}
    words = ["migrate", "up", "--canary", "0", "--jobs", "3", *options, "-o", "json"]
    return forge.start(folder, *words, environment=state, **settings)


def list_migrated(folder):
    """Return the tenants with the migration; assert that table, rows and ledger of each belong together."""
    migrated = set()
    for path in sorted(folder.glob("tenants/t*.db")):
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            names = {
                name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
            }
            if "items" in names:
                assert connection.execute("select count(*) from items").fetchone() == (ROWS,)
                assert connection.execute("select count(*) from schema_migrations").fetchone() == (1,)
                migrated.add(f"shop/{path.stem}")
            elif "schema_migrations" in names:
                assert connection.execute("select count(*) from schema_migrations").fetchone() == (0,)
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    return migrated


def read_record(folder):
    with EventStore(folder / "state").reading() as db:
        return {row["instance"] for row in db["progress"].rows} - {""} if db else set()


def delete_record(folder):
    with EventStore(folder / "state").writing() as connection:
        connection.execute("delete from progress")


def finish(folder):
    """Resume the run, or start one if the first was killed before its record."""
    status, answer = forge.wait_for_result(start(folder, "--resume", "--timeout", "60"))
    if status == 5:
        assert answer["error"]["code"] == "run-missing"
        status, answer = forge.wait_for_result(start(folder, "--timeout", "60"))
    assert status == 0, answer
    assert answer["data"]["done"] + answer["data"]["skipped"] == TENANTS
    assert len(list_migrated(folder)) == TENANTS
    return answer


def test_killed_run_is_resumed(fleet):
    timer = forge.KillTimer(create_rng("fleet kills"), 0.5)
    for _ in range(KILLS):
        empty_databases(fleet)
        process = start(fleet)
        timer.send_signal(process)
        process.wait()
        recorded = read_record(fleet)
        answer = finish(fleet)  # waits for the workers of the killed process
        skipped = {item["app"] for item in answer["data"]["items"] if item["state"] == "skipped"}
        assert skipped == recorded
        delete_record(fleet)
    timer.assert_in_time()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_is_resumed(fleet, number):
    timer = forge.KillTimer(create_rng(f"fleet {number}"), 0.5)
    for _ in range(SIGNALS // 3):
        empty_databases(fleet)
        process = start(fleet)
        timer.send_signal(process, number)
        status, answer = forge.wait_for_result(process)
        assert status in (0, 128 + number, -number), answer
        assert read_record(fleet) <= list_migrated(fleet)
        finish(fleet)
        delete_record(fleet)


def test_two_runs_at_once_change_each_instance_once(fleet):
    processes = [start(fleet, "--timeout", "60") for _ in range(3)]
    for process in processes:
        status, answer = forge.wait_for_result(process)
        assert (status, answer["data"]["done"]) == (0, TENANTS)
    assert len(list_migrated(fleet)) == TENANTS


def test_full_disk_fails_instances_and_leaves_them_unchanged(fleet):
    status, answer = forge.wait_for_result(start(fleet, "--max-failures", "0", limit=40_000))
    assert status == 1
    assert answer["data"]["failed"] == TENANTS
    assert {item["error"]["code"] for item in answer["data"]["items"]} == {"file-failed"}
    assert list_migrated(fleet) == set()
    finish(fleet)
