"""Running migrations beside others: two runners, readers of the app that hold a table, and what fails among many."""

import json
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from dbctl.errors import BusyError, MigrationFailedError
from tests import servers
from tests.services.migrations import deployments

MANY = {
    f"{number:03d}_t": f"create table t{number} (x integer);\ninsert into t{number} values ({number});"
    for number in range(1, 16)
}


@pytest.fixture(params=deployments.PLACES)
def desk(request, tmp_path):
    with deployments.settled(request.param, tmp_path / "desk") as made:
        yield made


@pytest.fixture
def busy(tmp_path):
    """An app on PostgreSQL, one of whose tables a reader of it holds; ``release`` ends that."""
    with deployments.settled("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);\ninsert into t values (1);"})
        desk.up()
        with closing(servers.connection(desk.base.own)) as reader:
            reader.execute("begin")
            reader.execute("select * from t")
            yield desk, lambda: reader.execute("rollback")


def started(desk, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "up", "-o", "json", *words],
        cwd=desk.folder,
        env=deployments.CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_runners_the_second_waits_and_runs_nothing_twice(desk):
    desk.write(MANY)
    runners = [started(desk, "--timeout", "60") for _ in range(2)]
    told = [json.loads(one.communicate(timeout=120)[0]) for one in runners]
    assert [one.returncode for one in runners] == [0, 0], told
    assert sorted(one["name"] for answer in told for one in answer["data"]["items"]) == sorted(MANY)
    assert set(desk.states()) == {"applied"}
    assert all(desk.count(f"t{number}") == 1 for number in range(1, 16))


def test_who_waits_in_vain_is_told_by_whom(desk):
    desk.write(MANY)
    desk.up()
    desk.write({"016_more": "create table more (x integer);"})
    with (
        desk.opened() as app,
        app.writer("main", "migrate up"),
        pytest.raises(BusyError, match="dbctl migrate up"),
    ):
        desk.up(timeout=0.3)
    desk.up()


def test_a_mistake_in_the_third_statement_of_one_of_many_keeps_those_before_and_those_alone(desk):
    desk.write(MANY)
    desk.write({"008_t": "create table t8 (x integer);\ninsert into t8 values (8);\nupdat t8 set x = 9;"})
    with pytest.raises(MigrationFailedError) as failed:
        desk.up()
    assert "008_t failed in statement 3 (line 3)" in str(failed.value)
    assert "not run: 009_t, 010_t, 011_t, 012_t, 013_t and 2 more" in failed.value.hint
    assert desk.states()[:7] == ["applied"] * 7
    assert desk.states()[8:] == ["pending"] * 7
    assert ("t8" in desk.tables()) == (desk.engine == "mysql")
    desk.write({"008_t": "create table t8 (x integer);\ninsert into t8 values (8);\nupdate t8 set x = 9;"})
    desk.up()
    assert desk.base.rows("select x from t8")[0][0] == 9


def test_only_so_many_are_run(tmp_path):
    with deployments.settled("sqlite", tmp_path / "desk") as desk:
        desk.write(MANY)
        assert [one.name for one in desk.up(steps=2)] == ["001_t", "002_t"]
        assert [one.name for one in desk.up(steps=1)] == ["003_t"]
        assert [one.name for one in desk.up(to="5")] == ["004_t", "005_t"]
        assert len(desk.up(steps=100)) == 10


def test_a_migration_that_waits_for_a_table_keeps_no_reader_waiting_and_runs_once_it_is_free(busy):
    desk, release = busy
    desk.write({"002_t": "create table before_it (x integer);\nalter table t add column y integer;"})
    ended, answered = threading.Event(), []

    def read():
        waits = "select from pg_locks where relation = 't'::regclass and not granted"
        with closing(servers.connection(desk.base.own)) as app:
            while not (app.execute(waits).fetchall() or ended.is_set()):
                time.sleep(0.01)
            answered.extend(app.execute("select count(x) from t"))  # behind it, until it gives way
        release()

    reading = threading.Thread(target=read)
    reading.start()
    try:
        assert [one.name for one in desk.up(timeout=60)] == ["002_t"]
    finally:
        ended.set()
        reading.join()
    assert answered


def test_a_table_that_is_never_free_is_told_with_who_holds_it_and_nothing_stays(busy):
    desk, _ = busy
    desk.write({"002_t": "create table before_it (x integer);\nalter table t add column y integer;"})
    with pytest.raises(BusyError) as refused:
        desk.up(timeout=0.2)
    assert "pid" in str(refused.value)
    assert "before_it" not in desk.tables()
    assert desk.states() == ["applied", "pending"]
