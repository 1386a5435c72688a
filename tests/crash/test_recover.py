"""``restore recover`` that is killed, or runs out of room: a whole new file or none, and the damaged one as it was."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing

import pytest

from dbctl.engines.contract.recovery import Recovery
from dbctl.engines.sqlite import recover
from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.crash.forge import Moments
from tests.crash.test_no_room import limited
from tests.engines.sqlite import damaged_files


@pytest.fixture
def path(tmp_path):
    path = damaged_files.build(tmp_path / "app.db")
    path.write_bytes(damaged_files.damaged(path.read_bytes(), "zeroed", damaged_files.chance(3)))
    return path


def begin(path, name):
    return forge.begin(path.parent, "restore", "recover", "--url", f"main={path}", "--to", name)


def visible(path):
    return {one.name for one in path.parent.iterdir() if not one.name.startswith(".")}


def beside(path):
    return [one.name for one in path.parent.iterdir() if "dbctl-recover" in one.name]


@pytest.mark.parametrize(
    ("number", "kills"), [(signal.SIGKILL, figure(20, 1000)), (signal.SIGTERM, figure(4, 100))]
)
def test_killed_at_any_moment_the_new_file_is_whole_or_absent(path, number, kills):
    held = path.read_bytes()
    started = time.monotonic()
    assert begin(path, "whole.db").wait(60) == 4
    at = Moments(chance(f"recover {number}"), time.monotonic() - started)
    want = damaged_files.content(path.with_name("whole.db"))
    for kill in range(kills):
        process = begin(path, f"new{kill}.db")
        at.strike(process, number)
        process.wait(60)
        new = path.with_name(f"new{kill}.db")
        if new.exists():
            assert damaged_files.content(new) == want
            with closing(sqlite3.connect(new)) as db:
                assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        if number == signal.SIGTERM:
            assert not beside(path)
        assert path.read_bytes() == held
    at.over()
    assert begin(path, "last.db").wait(60) == 4
    assert not beside(path)


def test_whichever_write_finds_no_room_nothing_stays_but_what_was_there(path):
    whole, held, ended = path.stat().st_size, path.read_bytes(), list[bool]()
    for size in (0, 100, 1024, 20_000, whole // 2, whole - 1, whole, 3 * whole):
        before = visible(path)
        what = Recovery(source=path, to=path.with_name(f"new{size}.db"))
        well, told = limited(size, lambda what=what: recover.recover(what, "app/db", lambda _share: None))
        ended.append(well)
        assert well or "DiskFullError" in told or "FileFailedError" in told
        assert visible(path) == (before | {what.to.name} if well else before)
        assert not beside(path)
        assert path.read_bytes() == held
    assert (ended[0], ended[-1]) == (False, True)
