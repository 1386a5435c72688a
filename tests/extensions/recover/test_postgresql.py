"""Recover a PostgreSQL database as of a moment: exactly the transactions before it, from each form of a base and of a log."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests import servers
from tests.extensions.recover.primary import Primary, find_leftovers, read_sales, write_time

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def primary():
    """Return a server that was killed: a base, 20 rows, 10 of which were deleted at the end."""
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.sell(3)
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(10)
        primary.archive()
        primary.sell(7)
        primary.delete("id % 2 = 0")
        primary.sell(1)
        primary.kill()
        yield primary


@pytest.fixture
def shop(primary, tmp_path, monkeypatch):
    """Return the killed server, in the folder of an app."""
    primary.configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    return primary


def recover(answer, at, *words):
    """Return the ids of the rows in a backup of a moment, and the member of its manifest."""
    backup = answer("backup", "recover", "--at", write_time(at), *words)["data"]
    (member,) = backup["members"]
    return read_sales(Path(backup["path"], member["file"])), member, backup


@pytest.mark.slow
def test_exactly_the_transactions_before_the_moment_are_recovered(shop, answer):
    for sale in (shop.sales[4], shop.sales[14]):
        for at in (sale.inserted, sale.inserted + MICROSECOND):
            ids, member, backup = recover(answer, at)
            assert ids == shop.list_sales(at)
            assert member["rows"] == {"sales": len(ids)}
            assert backup["kind"] == "recovered"


@pytest.mark.slow
def test_deletion_is_recovered_with_its_time(shop, answer):
    deleted = next(sale.deleted for sale in shop.sales if sale.deleted)
    assert len(recover(answer, deleted)[0]) == 20
    assert len(recover(answer, deleted + MICROSECOND)[0]) == 10


def test_last_transaction_is_recovered(shop, answer):
    ids, _, _ = recover(answer, shop.sales[-1].inserted + MICROSECOND)
    assert find_leftovers() == []
    assert ids == shop.list_sales(shop.sales[-1].inserted + MICROSECOND)
    assert ids[-1] == shop.sales[-1].id


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_ten_random_moments_of_a_busy_server(tmp_path, monkeypatch, answer):
    with servers.archiving_postgresql("archive_timeout=2s") as server:
        primary = Primary(server)
        primary.sell(1)
        primary.back_up("first", "-X", "none")
        primary.sell(40, pause=0.1)
        primary.back_up("second", "-Ft", "-z", "-X", "stream")
        primary.sell(20, pause=0.1)
        primary.delete("id between 10 and 30")
        primary.sell(20, pause=0.1)
        primary.kill()
        primary.configure(tmp_path)
        monkeypatch.chdir(tmp_path)
        first, last = primary.sales[11].inserted, primary.sales[-1].inserted
        moments = random.Random(37)  # noqa: S311 - repeatable
        for _ in range(10):
            at = first + (last - first) * moments.random()
            assert recover(answer, at)[0] == primary.list_sales(at)
        assert find_leftovers() == []


@pytest.mark.slow
@pytest.mark.usefixtures("each_version")
def test_latest_timeline_is_followed(tmp_path, monkeypatch, answer):
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(3)
        primary.archive()
        primary.sell(3)
        primary.begin_timeline()
        primary.sell(3)
        primary.kill()
        assert (primary.log / "00000002.history").exists()
        primary.configure(tmp_path)
        monkeypatch.chdir(tmp_path)
        for sale in primary.sales[1::3]:
            ids, member, backup = recover(answer, sale.inserted)
            assert ids == primary.list_sales(sale.inserted)
            assert member["facts"]["recovered_timeline"] == "2"
            assert "timelines 1, 2" in backup["remarks"][0]
        (primary.log / "00000002.history").unlink()  # then only the first timeline is known
        ids, _, _ = recover(answer, primary.sales[4].inserted)
        assert ids == primary.list_sales(primary.sales[4].inserted)


@pytest.mark.slow
def test_dropped_database_is_recovered_though_no_transaction_followed(tmp_path, monkeypatch, answer):
    """The log has the deletion of its files before the end of the transaction that drops it."""
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.execute("create database web")
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        with psycopg.connect(server.url.replace("/postgres?", "/web?"), autocommit=True) as web:
            web.execute("create table sales as select 1 as id")
        ((at,),) = primary.execute("select clock_timestamp()")
        primary.execute("drop database web")
        primary.kill()
        primary.configure(tmp_path, database="web")
        monkeypatch.chdir(tmp_path)
        assert recover(answer, at)[0] == [1]


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not archived"
        time.sleep(0.05)


@pytest.mark.slow
def test_transaction_between_two_timelines_is_recovered(tmp_path, monkeypatch, answer):
    """Its record begins in the last segment of one timeline, and ends in the first one of the next."""
    change = "do $$begin for i in 1..200 loop execute format('{} table t%s {}', i); end loop; end$$"
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.execute(change.format("create", "()"))
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(1)
        with psycopg.connect(server.url) as other:
            other.execute(change.format("drop", ""))
            other.execute("insert into sales (note) values ('last')")
            position = "select (pg_current_wal_insert_lsn() - '0/0')::int8, pg_walfile_name(pg_current_wal_insert_lsn())"
            while (rest := -primary.execute(position)[0][0] % (1 << 24)) > 400:
                text = f"repeat('x', {min(rest // 2, 1 << 20)})"
                primary.execute(f"select pg_logical_emit_message(false, '', {text})")
            ((_, name),) = primary.execute(position)
        primary.sell(0)
        wait_for(primary.log / name)
        primary.begin_timeline()
        primary.sell(1)
        primary.kill()
        primary.configure(tmp_path)
        monkeypatch.chdir(tmp_path)
        at = primary.sales[1].inserted + MICROSECOND
        ids, member, _ = recover(answer, at)
        assert ids == primary.list_sales(at) == [1, 2]
        assert "t1" not in member["rows"]
