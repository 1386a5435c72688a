"""Leftover ``-wal`` files next to a replaced database: each kind, each restore method, both journal modes."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.services import flashpoint_app, promptvault_app

MANY = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 3000) insert into more select n, hex(randomblob(40)) from n"


def leave_wal_of_killed_app(path, statements):
    """Replace the files of a database by those of an app that was killed after its commits."""
    copy = path.with_name("aside")
    copy.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        for statement in ("pragma journal_mode = wal", "pragma wal_autocheckpoint = 0", *statements):
            app.execute(statement)
        for database_file in path.parent.glob(f"{path.name}*"):
            shutil.copyfile(database_file, copy / database_file.name)
    for database_file in path.parent.glob(f"{path.name}*"):
        database_file.unlink()
    for database_file in copy.iterdir():
        shutil.move(database_file, path.parent / database_file.name)
    copy.rmdir()


def leave_wal(path, kind):
    """Leave a ``-wal`` of the given kind next to the database."""
    wal = path.with_name(f"{path.name}-wal")
    if kind != "none":
        leave_wal_of_killed_app(path, ["create table more (n integer primary key, text)", MANY])
        assert wal.stat().st_size > 100_000
    if kind == "torn":
        wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2 + 100])
    if kind == "foreign":
        other = promptvault_app.create_app(path.parent / "other", "document")
        leave_wal_of_killed_app(
            other, ["create table theirs (n integer primary key, text)", MANY.replace("more", "theirs")]
        )
        shutil.copyfile(other.with_name(f"{other.name}-wal"), wal)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("method", ["in place", "new", "replaced"])
@pytest.mark.parametrize("kind", ["none", "fat", "foreign", "torn"])
def test_stale_wal_does_not_change_restored_rows(tmp_path, kind, method, mode):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, f"pragma journal_mode = {mode}")
    before, backup = promptvault_app.read_content(path), promptvault_app.create_app_backup(path)
    promptvault_app.change_data(path)
    leave_wal(path, kind)
    if method == "new":
        path.unlink()
    elif method == "replaced":
        path.write_bytes(b"no database any more" * 5000)
    result = promptvault_app.apply_restore(path, backup.id)
    assert (
        kind != "none" or result.databases[0].strategy == method
    )  # otherwise the -wal may keep the database readable
    assert promptvault_app.read_content(path) == before
    assert flashpoint_app.query_rows(path, "pragma integrity_check") == [("ok",)]
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("update users set email = 'after@example.org' where username = 'ann'")
    assert flashpoint_app.query_rows(path, "select email from users where username = 'ann'") == [
        ("after@example.org",)
    ]
