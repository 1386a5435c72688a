"""Progress of fleets: what an interrupted run left, a crash, a store that cannot be used, two runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from dbctl.errors.connection import BusyError
from dbctl.errors.operations import JournalCorruptError, RunMissingError
from dbctl.services.events import progress
from dbctl.services.events.progress import FleetProgress
from dbctl.services.events.store import FILE_NAME, EventStore, storable_text


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def locate(state, fleet="shop", command="backup create", arguments=()):
    return FleetProgress(state, fleet, command, arguments)


def write(state, *names, resume=False):
    record = locate(state)
    with record.open(resume=resume, timeout=0) as completed:
        for name in names:
            record.add(name)
    assert not record.failure
    return completed


def read(state):
    with locate(state).open(resume=True, timeout=0) as completed:
        return completed


def test_completed_instances_are_read_again(state):
    assert write(state, "shop/a", "shop/b") == frozenset()
    assert write(state, "shop/c", resume=True) == {"shop/a", "shop/b"}
    assert read(state) == {"shop/a", "shop/b", "shop/c"}


def test_name_that_is_not_utf_8_is_recorded(state):
    write(state, os.fsdecode(b"shop/\xff"))
    assert read(state) == {storable_text(os.fsdecode(b"shop/\xff"))}


def test_run_without_completed_instances_can_be_resumed(state):
    write(state)
    assert read(state) == frozenset()


def test_new_run_replaces_the_record(state):
    write(state, "shop/a")
    write(state, "shop/b")
    assert read(state) == {"shop/b"}


def test_other_arguments_have_another_record(state):
    write(state, "shop/a")
    for other in ({"arguments": ["x"]}, {"fleet": "shop/a*"}, {"command": "backup verify"}):
        with pytest.raises(RunMissingError), locate(state, **other).open(resume=True, timeout=0):
            pass


def test_instances_of_the_last_second_are_lost_by_a_kill(state, monkeypatch):
    write(state, "shop/a")
    if not (pid := os.fork()):
        record = locate(state)
        with record.open(resume=True, timeout=0):
            for name, seconds in (("shop/b", 0), ("shop/c", 3600)):
                monkeypatch.setattr(progress, "SYNC_SECONDS", seconds)
                record.add(name)
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert read(state) == {"shop/a", "shop/b"}


def test_second_run_waits_and_is_refused(state):
    with locate(state).open(resume=False, timeout=0):
        with pytest.raises(BusyError), locate(state).open(resume=False, timeout=0):
            pass
        with pytest.raises(BusyError), locate(state).open(resume=True, timeout=0):
            pass


def assert_not_recorded(state):
    record = locate(state)
    with record.open(resume=False, timeout=0) as completed:
        record.add("shop/a")
    assert completed == frozenset()
    assert record.failure


def test_folder_that_cannot_be_written_does_not_prevent_the_run(state):
    state.write_text("a file")
    assert_not_recorded(state)


def test_damaged_store_prevents_only_that_a_run_is_resumed(state):
    state.mkdir()
    (state / FILE_NAME).write_bytes(b"damaged" * 1000)
    assert_not_recorded(state)
    with pytest.raises(JournalCorruptError), locate(state).open(resume=True, timeout=0):
        pass


def test_store_that_is_locked_during_a_run_does_not_prevent_it(state, monkeypatch):
    monkeypatch.setattr(progress, "SYNC_SECONDS", 0)
    record = locate(state)
    with record.open(resume=False, timeout=0):
        with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as connection:
            connection.execute("begin immediate")
            record.add("shop/a")
        record.add("shop/b")
    assert record.failure
    assert read(state) == frozenset()


def test_old_runs_are_deleted(state):
    write(state, "shop/a")
    with EventStore(state).writing() as connection:
        connection.execute("update progress set at = '2020-01-01T00:00:00+00:00'")
    other = locate(state, command="backup verify")
    with other.open(resume=False, timeout=0):
        pass
    with pytest.raises(RunMissingError):
        read(state)


def test_only_the_user_may_read_records(state):
    write(state, "shop/a")
    assert {path.stat().st_mode & 0o077 for path in [state, *state.rglob("*")]} == {0}
