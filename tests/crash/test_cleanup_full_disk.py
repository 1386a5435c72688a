"""``sessions cleanup`` on a disk that becomes full: complete batches are retained and reported, and the next run continues."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.crash.figures import retry_until
from tests.crash.test_cleanup import (
    PLAYS,
    assert_consistent,
    path,  # noqa: F401 - a fixture
    reset_database,
    start_cleanup,
    wait_for_batch,
    wait_for_result,
)
from tests.services.flashpoint_app import query_rows

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MB that a test may fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]
    if (
        sys.platform != "linux"
        or os.geteuid()
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk; the test with a file size limit covers the rest")
    yield disk
    subprocess.run(["umount", disk], check=True)


def assert_reported(status, result, code, open_plays):
    """A failure after the first batch is a result with the batches; before it, an error."""
    if open_plays == PLAYS:
        assert (status, result["error"]["code"]) == (1, code), result
        assert result["error"]["hint"].startswith("Nothing was changed"), result
    else:
        assert (status, result["data"]["rules"][0]["changed"]) == (12, PLAYS - open_plays), result
        (reason,) = result["data"]["failed"]
        assert reason.startswith("abandoned-plays: "), reason


def assert_next_run_completes(database, open_plays):
    status, result = wait_for_result(start_cleanup(database))
    assert (status, result["data"]["rules"][0]["changed"]) == (0, open_plays)
    assert assert_consistent(database) == 0


def test_full_disk_retains_complete_batches(path, small_disk):  # noqa: F811 - a fixture
    for file in path.parent.iterdir():
        if file.is_file():
            shutil.copy(file, small_disk)
    database, filler, statuses = small_disk / path.name, small_disk / "filler", set()
    for _ in retry_until(1, statuses):  # again if it was done before the disk was full
        reset_database(database, path.read_bytes())
        process = start_cleanup(database)
        wait_for_batch(database, process)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            file.writelines(itertools.repeat(bytes(MIB)))
            file.writelines(itertools.repeat(bytes(1)))
        status, result = wait_for_result(process)
        statuses |= {status} - {0}
        filler.unlink()
    open_plays = assert_consistent(database)
    assert 0 < open_plays < PLAYS
    assert_reported(status, result, "disk-full", open_plays)
    assert_next_run_completes(database, open_plays)


@pytest.mark.parametrize("limit", [MIB // 8, MIB // 2, MIB, 3 * MIB // 2])
def test_file_size_limit_retains_complete_batches(path, limit):  # noqa: F811 - a fixture
    """The kernel refuses writes beyond a file size limit, as with a quota; requires no privileges."""
    process = start_cleanup(path, limit=limit)
    status, result = wait_for_result(process)
    open_plays = assert_consistent(path)
    assert_reported(status, result, "file-failed", open_plays)
    if limit > MIB // 8 and query_rows(path, "pragma journal_mode") == [("wal",)]:
        assert open_plays < PLAYS  # some batches fitted; without WAL even the first one exceeds the limit
    assert_next_run_completes(path, open_plays)
