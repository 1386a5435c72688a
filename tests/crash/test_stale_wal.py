"""What may lie beside a database when it is replaced: each ``-wal`` there can be, each way in, both modes."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.services import flashpoint_app, promptvault_app

MANY = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 3000) insert into more select n, hex(randomblob(40)) from n"


def left_by_a_killed_app(path, statements):
    """Put the files of a database, as an app leaves them that is killed after its commits, back in their place."""
    aside = path.with_name("aside")
    aside.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        for statement in ("pragma journal_mode = wal", "pragma wal_autocheckpoint = 0", *statements):
            app.execute(statement)
        for one in path.parent.glob(f"{path.name}*"):
            shutil.copyfile(one, aside / one.name)
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()
    for one in aside.iterdir():
        shutil.move(one, path.parent / one.name)
    aside.rmdir()


def lay(path, kind):
    """Leave a ``-wal`` of that kind beside the database."""
    wal = path.with_name(f"{path.name}-wal")
    if kind != "none":
        left_by_a_killed_app(path, ["create table more (n integer primary key, text)", MANY])
        assert wal.stat().st_size > 100_000
    if kind == "torn":
        wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2 + 100])
    if kind == "foreign":
        other = promptvault_app.settle(path.parent / "other", "document")
        left_by_a_killed_app(
            other, ["create table theirs (n integer primary key, text)", MANY.replace("more", "theirs")]
        )
        shutil.copyfile(other.with_name(f"{other.name}-wal"), wal)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("way", ["in place", "new", "replaced"])
@pytest.mark.parametrize("kind", ["none", "fat", "foreign", "torn"])
def test_whatever_wal_lies_beside_it_what_is_restored_is_the_backup_row_by_row(tmp_path, kind, way, mode):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, f"pragma journal_mode = {mode}")
    before, made = promptvault_app.content(path), promptvault_app.create(path)
    promptvault_app.spoil(path)
    lay(path, kind)
    if way == "new":
        path.unlink()
    elif way == "replaced":
        path.write_bytes(b"no database any more" * 5000)
    done = promptvault_app.apply(path, made.id)
    assert (
        kind != "none" or done.databases[0].way == way
    )  # else what the -wal holds of it may still be readable
    assert promptvault_app.content(path) == before
    assert flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)]
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("update users set email = 'after@example.org' where username = 'ann'")
    assert flashpoint_app.rows(path, "select email from users where username = 'ann'") == [
        ("after@example.org",)
    ]
