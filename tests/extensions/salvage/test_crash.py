"""``restore recover`` that is killed, or has no free space: a complete new file or none, and an unchanged damaged one."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing

import pytest

from dbctl.extensions.salvage.contract import SalvageRequest
from dbctl.extensions.salvage.sqlite.recover import recover
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer
from tests.crash.test_no_room import run_with_file_size_limit
from tests.engines.sqlite import damaged_files

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path):
    path = damaged_files.build(tmp_path / "app.db")
    path.write_bytes(damaged_files.damage(path.read_bytes(), "zeroed", damaged_files.create_rng(3)))
    return path


def start_recover(path, name):
    return forge.start(path.parent, "restore", "recover", "--url", f"main={path}", "--to", name)


def list_visible_files(path):
    return {child.name for child in path.parent.iterdir() if not child.name.startswith(".")}


def list_partial_files(path):
    return [child.name for child in path.parent.iterdir() if "dbctl-recover" in child.name]


@pytest.mark.parametrize(
    ("signal_number", "kills"),
    [(signal.SIGKILL, choose_count(20, 1000)), (signal.SIGTERM, choose_count(4, 100))],
)
def test_killed_salvage_leaves_complete_file_or_none(path, signal_number, kills):
    before = path.read_bytes()
    start = time.monotonic()
    assert start_recover(path, "whole.db").wait(60) == 4
    timer = KillTimer(create_rng(f"recover {signal_number}"), time.monotonic() - start)
    expected = damaged_files.read_rows(path.with_name("whole.db"))
    for kill in range(kills):
        process = start_recover(path, f"new{kill}.db")
        timer.send_signal(process, signal_number)
        process.wait(60)
        new = path.with_name(f"new{kill}.db")
        if new.exists():
            assert damaged_files.read_rows(new) == expected
            with closing(sqlite3.connect(new)) as db:
                assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        if signal_number == signal.SIGTERM:
            assert not list_partial_files(path)
        assert path.read_bytes() == before
    timer.assert_in_time()
    assert start_recover(path, "last.db").wait(60) == 4
    assert not list_partial_files(path)


def test_salvage_on_full_disk_leaves_no_file(path):
    full_size, content, results = path.stat().st_size, path.read_bytes(), list[bool]()
    for size in (0, 100, 1024, 20_000, full_size // 2, full_size - 1, full_size, 3 * full_size):
        before = list_visible_files(path)
        request = SalvageRequest(source=path, destination=path.with_name(f"new{size}.db"))
        succeeded, error = run_with_file_size_limit(
            size, lambda request=request: recover(request, "app/db", lambda _share: None)
        )
        results.append(succeeded)
        assert succeeded or "DiskFullError" in error or "FileFailedError" in error
        assert list_visible_files(path) == (before | {request.destination.name} if succeeded else before)
        assert not list_partial_files(path)
        assert path.read_bytes() == content
    assert (results[0], results[-1]) == (False, True)
