"""Incremental backups of databases that did not change: their members refer to the file of an earlier backup."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.engines.sqlite import files
from dbctl.engines.sqlite.files import read_identity
from tests.crash.figures import choose_count, create_rng
from tests.databases import File
from tests.services.backup.test_increments import change, configure, create, pantry, small  # noqa: F401 - fixtures


def find_member(backup):
    """Return the member of the only database; the key of the backup is a member, too."""
    (member,) = [member for member in backup["members"] if member["database"]]
    return member


def find_stored(backup):
    return find_member(backup)["stored_in"]


def list_files(app, backup):
    return sorted(entry.name for entry in (app.folder / "backups/larder" / backup["id"]).iterdir())


def wait_until_old():
    """Wait until a later write has a later time."""
    time.sleep(files.MIN_AGE_NS / 1e9)


@pytest.fixture
def fine_times(monkeypatch):
    """Know files sooner after a write than a file system requires that stores even seconds only."""
    monkeypatch.setattr(files, "MIN_AGE_NS", 100_000_000)


def assert_unchanged(app, answer, backup, base):
    """Assert that a backup refers to another one, and costs only its manifest."""
    member, stored = find_member(backup), find_member(base)
    assert member == {**stored, "stored_in": base["id"], "taken_at": member["taken_at"]}
    assert member["taken_at"] > stored["taken_at"]
    assert list_files(app, backup) == ["manifest.json"]
    assert backup["bytes"] == 0
    assert backup["verified_at"] == base["verified_at"]


# Each engine ------------------------------------------------------------------------------------------------------


def test_unchanged_database_refers_to_its_newest_copy(answer, pantry):  # noqa: F811
    base = create(answer)
    contents = {base["id"]: pantry.content()}
    unchanged = create(answer)
    change(pantry)
    changed = create(answer)
    again = create(answer)
    contents |= {unchanged["id"]: contents[base["id"]]}
    contents |= dict.fromkeys([changed["id"], again["id"]], pantry.content())
    # A dump of PostgreSQL contains its time.
    if "postgresql" not in str(pantry.url):
        assert_unchanged(pantry, answer, unchanged, base)
        assert_unchanged(pantry, answer, again, changed)
        assert find_member(again)["delta"]["backup"] == base["id"]
    answer("backup", "verify", "--deep")
    for name, content in contents.items():
        answer("backup", "drill", name)
        answer("restore", "apply", name, "--yes")
        assert pantry.content() == content


# Identity of the files of SQLite ----------------------------------------------------------------------------------

WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"pragma journal_mode = {sys.argv[2]}").fetchall()
db.execute("pragma wal_autocheckpoint = 0")
db.execute("insert into much values (10000, 'first')")
print(flush=True)
for line in sys.stdin:
    db.execute(line).fetchall()
    print(flush=True)
"""


class Writer:
    """Another process that has the database open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._wait()

    def run(self, sql):
        self._process.stdin.write(f"{sql}\n")
        self._process.stdin.flush()
        self._wait()

    def _wait(self):
        assert self._process.stdout.readline() == "\n"


@pytest.fixture(params=["wal", "delete"])
def mode(request):
    return request.param


@pytest.fixture
def writer(small, mode, fine_times):  # noqa: F811
    command = [sys.executable, "-c", WRITER, str(small.path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Writer(process)
        process.stdin.close()


def is_known(answer):
    """Return whether the plan of a backup refers to an earlier one, for which nothing was copied."""
    step = answer("backup", "create", "--dry-run")["data"]["plan"]["steps"][0]
    assert step.startswith(("refer to the copy of pantry in ", "copy pantry "))
    return step.startswith("refer")


@pytest.fixture
def base(small, writer, answer):  # noqa: F811
    """Provide a backup of a database whose files are known."""
    wait_until_old()
    backup = create(answer)
    assert is_known(answer)
    return backup


def test_known_database_is_not_copied(small, base, answer):  # noqa: F811
    for _ in range(2):
        assert_unchanged(small, answer, create(answer), base)
        assert is_known(answer)
    (record,) = (small.folder / "state/identities").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(small.folder / "state")
    assert not is_known(answer)
    assert_unchanged(small, answer, create(answer), base)


def test_each_commit_is_copied(small, base, writer, mode, answer):  # noqa: F811
    known = base
    for number in range(3):
        writer.run(f"update much set text = 'committed' where id = {number}")
        assert not is_known(answer)
        backup = create(answer)
        assert not find_stored(backup)
        wait_until_old()
        assert_unchanged(small, answer, create(answer), backup)
        assert is_known(answer)
        known = backup
    content = small.content()
    answer("restore", "apply", create(answer)["id"], "--yes")
    assert small.content() == content
    assert (mode == "wal") == (known["members"][0]["facts"]["journal_mode"] == "wal")


@pytest.mark.parametrize("mode", ["wal"])
def test_checkpoint_without_change_is_no_change(small, base, writer, answer):  # noqa: F811
    writer.run("pragma wal_checkpoint(truncate)")
    assert not is_known(answer)
    assert_unchanged(small, answer, create(answer), base)
    # the log begins again, with the same size
    writer.run("update much set text = 'one' where id = 1")
    wait_until_old()
    first = create(answer)
    size = wal_size(small)
    writer.run("pragma wal_checkpoint(passive)")
    writer.run("update much set text = 'two' where id = 1")
    assert wal_size(small) == size
    assert not is_known(answer)
    assert find_member(create(answer))["content_sha256"] != find_member(first)["content_sha256"]


def wal_size(app):
    return app.path.with_name("larder.db-wal").stat().st_size


def test_restored_time_of_changed_file_is_no_identity(small, base, writer, mode, answer):  # noqa: F811
    changed = small.path.with_name("larder.db-wal") if mode == "wal" else small.path
    before = changed.stat()
    writer.run("update much set text = 'other' where id = 1")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_mtime_ns == before.st_mtime_ns
    wait_until_old()
    assert not is_known(answer)
    assert not find_stored(create(answer))


@pytest.mark.parametrize("mode", ["delete"])
def test_replaced_file_is_no_identity(small, base, answer):  # noqa: F811
    before, other = small.path.stat(), small.path.with_name("other.db")
    shutil.copyfile(small.path, other)
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("update much set text = 'other' where id = 1")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(small.path)
    assert small.path.stat().st_size == before.st_size
    wait_until_old()
    assert not is_known(answer)
    assert not find_stored(create(answer))


def test_file_has_no_identity_within_a_tick_of_a_write(tmp_path):
    """The times of two writes may be the same."""
    path = tmp_path / "busy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("create table t (a)")
        db.execute("insert into t values (0)")
        db.execute("pragma synchronous = off")
        for number in range(100):
            db.execute("update t set a = ?", (number,))
            assert read_identity(path) == ""
        wait_until_old()
        assert read_identity(path) == read_identity(path) != ""


def test_database_with_a_journal_has_no_identity(small, base, writer, mode, answer):  # noqa: F811
    journal = small.path.with_name("larder.db-journal")
    journal.touch()
    assert not is_known(answer)
    journal.unlink()
    assert is_known(answer)


def test_backups_between_random_actions_of_the_app_have_its_content(small, writer, mode, answer):  # noqa: F811
    """Whatever another process did since the last backup, the next one has the content of its time."""
    rng, contents, copy = create_rng(f"unchanged {mode}"), {}, small.folder / "copy.db"
    actions = {
        "nothing": lambda: None,
        "wait": wait_until_old,
        "commit": lambda: writer.run(
            f"update much set text = '{rng.random()}' where id = {rng.randrange(3)}"
        ),
        "roll back": lambda: [writer.run(sql) for sql in ("begin", "delete from much", "rollback")],
        "checkpoint": lambda: writer.run(
            f"pragma wal_checkpoint({rng.choice(['passive', 'restart', 'truncate'])})"
        ),
        "touch": lambda: os.utime(small.path, ns=(1, rng.choice([1, small.path.stat().st_mtime_ns]))),
    }
    for _ in range(choose_count(10, 300)):
        for name in rng.choices(list(actions), k=2):
            actions[name]()
        contents[create(answer)["id"]] = small.content()
    for name, content in contents.items():
        answer("restore", "apply", name, "--to", f"sqlite:{copy}", "--replace", "--yes")
        assert File(copy).content() == content
