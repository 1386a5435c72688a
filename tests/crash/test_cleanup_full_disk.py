"""``sessions cleanup`` for which the disk has no room left in the middle: whole batches stay and are told, the next run does the rest."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.crash.figures import tries
from tests.crash.test_cleanup import (
    PLAYS,
    begin,
    end,
    path,  # noqa: F401 - a fixture
    put_back,
    sound,
    wait_for_a_batch,
)
from tests.services.flashpoint_app import rows

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 16 MB, that a test may fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]
    if (
        sys.platform != "linux"
        or os.geteuid()
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk; what a limit on files does is proven all the same")
    yield disk
    subprocess.run(["umount", disk], check=True)


def kept(told):
    """Return what the failure says of rows that stay changed."""
    hint = told["error"]["hint"]
    if hint.startswith("Nothing was changed"):
        return 0
    said = hint.removeprefix("Done before, and staying so: abandoned-plays (").partition(" row")
    assert said[1], hint
    return int(said[0])


def the_rest_is_done(database, left):
    status, told = end(begin(database))
    assert (status, told["data"]["rules"][0]["changed"]) == (0, left)
    assert sound(database) == 0


def test_a_disk_that_fills_up_meanwhile(path, small_disk):  # noqa: F811 - a fixture
    for file in path.parent.iterdir():
        if file.is_file():
            shutil.copy(file, small_disk)
    full, filler, ended = small_disk / path.name, small_disk / "filler", set()
    for _ in tries(1, ended):  # again where it was done before the disk was full
        put_back(full, path.read_bytes())
        process = begin(full)
        wait_for_a_batch(full, process)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            file.writelines(itertools.repeat(bytes(MIB)))
            file.writelines(itertools.repeat(bytes(1)))
        status, told = end(process)
        ended |= {status} - {0}
        filler.unlink()
    assert (status, told["error"]["code"]) == (1, "disk-full"), told
    left = sound(full)
    assert 0 < left < PLAYS
    assert kept(told) == PLAYS - left
    the_rest_is_done(full, left)


@pytest.mark.parametrize("room", [MIB // 8, MIB // 2, MIB, 3 * MIB // 2])
def test_a_file_that_may_not_grow_any_further(path, room):  # noqa: F811 - a fixture
    """Without any right: the kernel refuses every write behind a limit, as a quota does."""
    process = begin(path, limit=room)
    status, told = end(process)
    assert (status, told["error"]["code"]) == (1, "file-failed"), told
    left = sound(path)
    assert kept(told) == PLAYS - left
    if room > MIB // 8 and rows(path, "pragma journal_mode") == [("wal",)]:
        assert (
            left < PLAYS
        )  # there was room for some batches; without a -wal even the first one reaches too far
    the_rest_is_done(path, left)
