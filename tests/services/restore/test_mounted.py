"""A database file that is mounted by itself, as containers do it, is restored in place: no rename can replace it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.services import flashpoint_app, promptvault_app

#: Runs the rest of the words where the first path is mounted over the second; nothing of it is seen outside.
MOUNTED = ["sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh"]
OWN_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def run_mounted(outside, path, *words):
    return subprocess.run(
        [*OWN_MOUNTS, *MOUNTED, str(outside), str(path), *words], capture_output=True, check=False
    )


@pytest.fixture
def mounted(tmp_path):
    """A deployment with a backup, whose database file is to be mounted from elsewhere; and that other file."""
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    promptvault_app.create(path)
    outside = tmp_path / "outside.db"
    shutil.copy(path, outside)
    if run_mounted(outside, path, "true").returncode != 0:
        pytest.skip("this machine lets nobody mount, not even in a namespace of its own")
    return path, outside


@pytest.mark.parametrize("size", [0, 100, 9000, 9_000_000])
def test_a_damaged_file_that_is_mounted_is_restored_in_place(mounted, size):
    path, outside = mounted
    before = promptvault_app.content(path)
    promptvault_app.lose(path)
    path.touch()
    outside.write_bytes(os.urandom(size))
    outside.chmod(0o640)
    inode = outside.stat().st_ino
    words = [sys.executable, "-m", "dbctl", "restore", "apply", "latest", "--yes", "-o", "json"]
    done = run_mounted(outside, path, *words, "--config", str(path.with_name("dbctl.toml")))
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["data"]["databases"][0]["database"] == "user"
    assert (outside.stat().st_ino, outside.stat().st_mode & 0o777) == (inode, 0o640)
    restored = flashpoint_app.content(outside)
    assert {
        name: rows for name, rows in restored.items() if name in before and name != promptvault_app.RECORD
    } == {
        name: rows for name, rows in before.items() if name not in (promptvault_app.RECORD, "sqlite_sequence")
    } | {name: rows for name, rows in restored.items() if name == "sqlite_sequence"}
