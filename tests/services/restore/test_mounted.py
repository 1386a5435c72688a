"""A database file that is a mount point, as in containers, cannot be renamed and is restored in place."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.services import flashpoint_app, promptvault_app

#: Mount the first path over the second, then run a command.
MOUNT_COMMAND = ["sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh"]
UNSHARE_COMMAND = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def run_mounted(outside, path, *arguments):
    return subprocess.run(
        [*UNSHARE_COMMAND, *MOUNT_COMMAND, str(outside), str(path), *arguments],
        capture_output=True,
        check=False,
    )


@pytest.fixture
def mounted_database(tmp_path):
    """The path of a database with a backup, and the path of the file to mount over it."""
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    promptvault_app.create_app_backup(path)
    outside = tmp_path / "outside.db"
    shutil.copy(path, outside)
    if run_mounted(outside, path, "true").returncode != 0:
        pytest.skip("mounts are not permitted, even in a separate namespace")
    return path, outside


@pytest.mark.parametrize("size", [0, 100, 9000, 9_000_000])
def test_damaged_mounted_file_is_restored_in_place(mounted_database, size):
    path, outside = mounted_database
    before = promptvault_app.read_content(path)
    promptvault_app.delete_database(path)
    path.touch()
    outside.write_bytes(os.urandom(size))
    outside.chmod(0o640)
    inode = outside.stat().st_ino
    arguments = [sys.executable, "-m", "dbctl", "restore", "apply", "latest", "--yes", "-o", "json"]
    result = run_mounted(outside, path, *arguments, "--config", str(path.with_name("dbctl.toml")))
    assert result.returncode == 0, result
    assert json.loads(result.stdout)["data"]["databases"][0]["database"] == "user"
    assert (outside.stat().st_ino, outside.stat().st_mode & 0o777) == (inode, 0o640)
    after = flashpoint_app.read_all_rows(outside)
    assert {
        name: rows for name, rows in after.items() if name in before and name != promptvault_app.AUDIT_TABLE
    } == {
        name: rows
        for name, rows in before.items()
        if name not in (promptvault_app.AUDIT_TABLE, "sqlite_sequence")
    } | {name: rows for name, rows in after.items() if name == "sqlite_sequence"}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_mounted_file_with_a_write_ahead_log_is_reported(mounted_database, mode):
    path, outside = mounted_database
    with closing(sqlite3.connect(outside)) as db:
        db.execute(f"pragma journal_mode = {mode}")
    arguments = [
        sys.executable,
        "-m",
        "dbctl",
        "doctor",
        "-o",
        "json",
        "--config",
        str(path.with_name("dbctl.toml")),
    ]
    result = run_mounted(outside, path, *arguments)
    codes = [finding["code"] for finding in json.loads(result.stdout)["data"]["findings"]]
    assert ("file-mounted" in codes) == (mode == "wal")
