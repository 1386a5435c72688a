"""Restores: proven before anything is replaced, in one transaction of the live database, and with a way back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from dbctl import signals
from dbctl.config import Keep
from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.errors import (
    BackupMissingError,
    BackupUnsoundError,
    BusyError,
    DbctlError,
    ReadOnlyError,
    RepositoryFailedError,
    RestoreHalfError,
    RoomMissingError,
    SameFileError,
    UndoMissingError,
    UndoNothingError,
    UsageError,
    WrongAppError,
)
from dbctl.services.backup import verify
from dbctl.services.backup.prune import Pruning
from dbctl.services.backup.repository import list_backups
from dbctl.services.restore import preview
from dbctl.services.restore.apply import latest_safety
from dbctl.url import Url
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import caught, rows, run
from tests.services.promptvault_app import apply, content, create, file_of, settle, spoil, undo

SHAPES = ("document", "deployed", "larder")


@pytest.fixture(params=SHAPES)
def path(request, tmp_path):
    return settle(tmp_path / "app", request.param)


@pytest.fixture(params=["wal", "delete"])
def deployed(request, tmp_path):
    """A database of the deployed shape, in each of the two modes in which SQLite keeps a journal."""
    path = settle(tmp_path / "app", "deployed")
    run(path, f"pragma journal_mode = {request.param}")
    return path


def mode_of(path):
    return rows(path, "pragma journal_mode")[0][0]


def connected(path):
    return closing(sqlite3.connect(path, isolation_level=None, timeout=10))


# Brought back ----------------------------------------------------------------------------------------------------


def test_a_restore_brings_every_row_back_and_undo_takes_it_back(path):
    before = content(path)
    made = create(path)
    spoil(path)
    spoiled = content(path)
    done = apply(path)
    assert (done.backup, done.databases[0].way) == (made.id, "in place")
    assert content(path) == before
    undone = undo(path)
    assert undone.backup == done.safety_backup
    assert content(path) == spoiled
    undo(path)
    assert content(path) == before


def test_what_is_latest_is_not_guessed_where_a_later_manifest_cannot_be_read(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    made = create(path)
    first, last = apply(path), apply(path)
    promptvault_app.folder_of(path, last.safety_backup).joinpath("manifest.json").write_text("{")
    now = content(path)
    for call in (partial(undo, path), partial(apply, path)):
        error = caught(BackupUnsoundError, call)
        assert last.safety_backup in str(error)
    assert content(path) == now
    assert apply(path, made.id).backup == made.id
    with promptvault_app.opened(path) as (_app, repository):
        before = repository.find(first.safety_backup).created_at
        assert repository.find("latest", before=before).id == made.id


def test_a_restore_is_recorded_in_the_app(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    made = create(path)
    apply(path)
    found = rows(
        path, "select resource, resource_id, username from activity_logs where action = 'restore.apply'"
    )
    assert [row[:2] for row in found] == [("backup", made.id)]
    assert found[0][2].startswith("dbctl (")


def test_what_was_replaced_is_a_whole_backup_and_latest_does_not_mean_it(deployed):
    made = create(deployed)
    spoil(deployed)
    spoiled = flashpoint_app.content(deployed)
    done = apply(deployed)
    with promptvault_app.opened(deployed) as (_app, repository):
        assert repository.find("latest").id == made.id
        safety = repository.find(done.safety_backup)
    assert (safety.kind, safety.restored) == ("safety", made.id)
    assert flashpoint_app.content(file_of(deployed, safety)) == spoiled


def test_what_the_file_alone_does_not_tell_is_kept_encoding_page_size_and_numbers(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    script = "\n".join(people_dump(path))
    path.unlink()
    with connected(path) as connection:
        connection.executescript(
            "pragma encoding = 'UTF-16le'; pragma page_size = 8192; pragma auto_vacuum = 1;"
            f"{script}; pragma application_id = 4242; pragma user_version = 77; pragma journal_mode = wal"
        )
    told = ("encoding", "page_size", "auto_vacuum", "application_id", "user_version", "journal_mode")
    before = [rows(path, f"pragma {name}") for name in told]
    create(path)
    spoil(path)
    apply(path)
    assert [rows(path, f"pragma {name}") for name in told] == before
    path.unlink()
    apply(path)
    assert [rows(path, f"pragma {name}") for name in told] == before


def people_dump(path):
    with connected(path) as connection:
        return list(connection.iterdump())


def test_a_missing_database_is_made_with_the_owner_of_its_folder_and_private(deployed):
    mode, before = mode_of(deployed), content(deployed)
    deployed.chmod(0o600)
    create(deployed)
    deployed.unlink()
    if os.geteuid() == 0:
        os.chown(deployed.parent, 1234, 1235)
    done = apply(deployed)
    assert (done.databases[0].way, done.safety_backup) == ("new", None)
    assert (content(deployed), mode_of(deployed)) == (before, mode)
    told, around = deployed.stat(), deployed.parent.stat()
    assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (around.st_uid, around.st_gid, 0o600)


def test_what_a_killed_restore_left_beside_the_database_is_removed_by_the_next(deployed):
    create(deployed)
    deployed.unlink()
    for suffix in ("", "-journal", "-wal"):
        deployed.with_name(f".user.db.dbctl-0badcafe.partial{suffix}").write_bytes(b"half")
    others = deployed.with_name(".other.db.dbctl-0badcafe.partial")
    others.write_bytes(b"half")
    apply(deployed)
    assert list(deployed.parent.glob(".*.partial*")) == [others]


def test_a_file_that_is_no_database_any_more_is_kept_and_replaced_with_its_owner_and_mode(deployed):
    before = content(deployed)
    create(deployed)
    garbage = b"not a database" * 1000
    deployed.write_bytes(garbage)
    deployed.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(deployed, 1234, 1235)
    owner = deployed.stat().st_uid, deployed.stat().st_gid
    done = apply(deployed)
    assert done.databases[0].way == "replaced"
    assert content(deployed) == before
    told = deployed.stat()
    assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (*owner, 0o640)
    with promptvault_app.opened(deployed) as (_app, repository):
        safety = repository.find(done.safety_backup)
    assert [one.form for one in safety.members] == ["raw"]
    assert file_of(deployed, safety).read_bytes() == garbage
    error = caught(DbctlError, lambda: undo(deployed))
    assert "as they were" in error.hint


def test_trap_no_lock_tells_of_who_merely_has_a_file_open_so_it_is_not_replaced_while_somebody_has(deployed):
    create(deployed)
    deployed.write_bytes(b"not a database" * 1000)
    with holder(deployed) as child:
        error = caught(BusyError, lambda: apply(deployed))
        child.kill()
    assert f"pid {child.pid}" in str(error)
    assert deployed.read_bytes() == b"not a database" * 1000


def holder(path):
    child = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(path)!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    return child


def test_a_corrupt_database_is_kept_file_by_file_and_written_over_in_place(deployed):
    before = content(deployed)
    create(deployed)
    raw = bytearray(deployed.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    deployed.write_bytes(raw)
    inode = deployed.stat().st_ino
    done = apply(deployed)
    assert done.databases[0].way == "in place"
    assert deployed.stat().st_ino == inode
    assert content(deployed) == before
    with promptvault_app.opened(deployed) as (_app, repository):
        safety = repository.find(done.safety_backup)
    assert file_of(deployed, safety).read_bytes() == raw


def test_an_emptied_database_can_be_restored_and_one_of_another_app_cannot(deployed, tmp_path):
    before = content(deployed)
    create(deployed)
    deployed.unlink()
    with connected(deployed) as connection:
        connection.execute("pragma user_version = 1")
    apply(deployed)
    assert content(deployed) == before
    other = settle(tmp_path / "larder", "larder")
    shutil.copyfile(other, deployed)
    held = deployed.read_bytes()
    caught(WrongAppError, lambda: apply(deployed))
    assert deployed.read_bytes() == held


# Refused ---------------------------------------------------------------------------------------------------------


def test_a_changed_backup_is_not_restored_and_nothing_is_touched(deployed):
    made = create(deployed)
    spoil(deployed)
    held = deployed.read_bytes()
    file = file_of(deployed, made)
    whole = file.read_bytes()
    for place in range(0, len(whole), len(whole) // 20):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        caught(BackupUnsoundError, lambda: apply(deployed))
    file.write_bytes(whole[:-1])
    caught(BackupUnsoundError, lambda: apply(deployed))
    assert deployed.read_bytes() == held
    assert len(promptvault_app.listed(deployed).page.items) == 1


def test_a_backup_that_was_pruned_while_somebody_was_asked_is_missing_and_not_damaged(deployed):
    made = create(deployed)
    with promptvault_app.opened(deployed) as (app, repository):
        work = promptvault_app.restoring(app, repository, "latest")
        shutil.rmtree(promptvault_app.folder_of(deployed, made))
        caught(BackupMissingError, work.apply)


def test_without_a_restore_there_is_nothing_to_undo(deployed):
    create(deployed)
    caught(UndoMissingError, lambda: undo(deployed))


def test_a_restore_that_found_nothing_is_not_undone_by_an_older_one(deployed):
    create(deployed)
    spoil(deployed)
    older = apply(deployed)
    deployed.unlink()
    assert apply(deployed).safety_backup is None
    held = content(deployed)
    error = caught(UndoNothingError, lambda: undo(deployed))
    assert older.backup in str(error)
    assert content(deployed) == held
    spoil(deployed)
    apply(deployed)
    assert undo(deployed).safety_backup


def test_trap_a_second_hard_link_has_another_wal_so_such_a_file_is_refused_before_anything_happens(deployed):
    create(deployed)
    os.link(deployed, deployed.with_name("other-name.db"))
    caught(ReadOnlyError, lambda: apply(deployed))
    assert len(promptvault_app.listed(deployed).page.items) == 1


def test_a_repository_that_cannot_take_the_safety_copy_stops_the_restore(deployed, monkeypatch):
    create(deployed)
    spoil(deployed)
    held = content(deployed)
    monkeypatch.setattr("dbctl.stores.local.room", lambda _place: 100)
    caught(RoomMissingError, lambda: apply(deployed))
    monkeypatch.undo()
    shutil.rmtree(deployed.with_name("backups"))
    deployed.with_name("backups").write_text("")
    caught((DbctlError, RepositoryFailedError), lambda: apply(deployed))
    assert content(deployed) == held


def test_a_preview_changes_nothing_and_tells_what_would_change(path):
    made = create(path)
    spoil(path)
    held = path.read_bytes()
    with promptvault_app.opened(path) as (app, repository):
        told = preview.preview(app, repository, repository.find(made.id), promptvault_app.keys_of(app))
    (one,) = told.databases
    assert (one.state, one.schema) == ("readable", "another")
    differing = {table.table: (table.now, table.then) for table in one.tables if table.now != table.then}
    assert differing["regrets"] == (1, None)
    assert len(differing) == 2
    assert path.read_bytes() == held


def test_a_schema_that_changed_since_is_told_so_that_somebody_restarts_the_app(deployed):
    create(deployed)
    spoil(deployed)
    assert "schema-changed" in [one.code for one in apply(deployed).findings]
    assert "schema-changed" not in [one.code for one in apply(deployed).findings]


# Ended, or disturbed, when it was already done ------------------------------------------------------------------


def at_move(number, act):
    """Return what may be told of progress, and acts when bytes have moved so many times.

    A restore of something small moves the bytes of each database three times: it proves them all, keeps what there
    is of all, and loads each. The last one is told when the engine has committed it.
    """
    moved = []

    def advance(_bytes):
        moved.append(1)
        if len(moved) == number:
            act()

    return advance


@pytest.fixture
def stop():
    """Ask this process to end, as a supervisor does."""
    handlers = {number: signal.getsignal(number) for number in signals.ENDING}
    signals.listen()
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signals._received.clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("move", [1, 2, 3, 4])
def test_a_signal_leaves_the_old_rows_or_the_new_ones_and_the_way_back(deployed, stop, move):
    new = content(deployed)
    create(deployed)
    spoil(deployed)
    old = content(deployed)
    with suppress(signals.Interrupted):
        apply(deployed, advance=at_move(move, stop))
    assert signals._received
    signals._received.clear()
    assert content(deployed) == (new if move == 4 else old)
    if move == 4:  # behind its last step
        undo(deployed)
        assert content(deployed) == old
    else:
        caught(UndoMissingError, lambda: undo(deployed))


def test_an_app_that_takes_the_file_right_after_a_restore_does_not_make_it_a_failure(deployed):
    new = content(deployed)
    create(deployed)
    spoil(deployed)
    with connected(deployed) as app:

        def take():
            app.execute("begin exclusive")
            app.execute("update users set is_active = is_active")

        restored = apply(deployed, timeout=0.2, advance=at_move(4, take))
        app.execute("rollback")
    wal = mode_of(deployed) == "wal"  # in which readers do not wait for a writer
    told = {one.code for one in restored.findings if one.severity == "warning"}
    assert told == ({"not-recorded"} if wal else {"not-recorded", "not-checked"}) | {"schema-changed"}
    assert (restored.exit_status, restored.safety_backup is None) == (0, False)
    assert content(deployed) == new


# Several databases ---------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path):
    """An app of two databases, which are backed up and restored together."""
    for name in ("one", "two"):
        run(tmp_path / f"{name}.db", "create table t (x)", f"insert into t values ('{name}')")
    (tmp_path / "pair.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "pair"\ntitle = "Pair"\n'
        '[databases.one]\nengines = ["sqlite"]\nneeds = ["t"]\n[databases.two]\nengines = ["sqlite"]\nneeds = ["t"]\n'
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.pair]\nprofile = "pair.toml"\n[apps.pair.databases]\none = "one.db"\ntwo = "two.db"\n'
        '[apps.pair.backup]\nrepository = "backups"\n'
    )
    return tmp_path / "one.db", tmp_path / "two.db"


def held_rows(pair):
    return [rows(path, "select x from t") for path in pair]


def test_databases_of_one_app_come_back_together_and_one_of_them_alone(pair):
    create(pair[0])
    for path in pair:
        run(path, "update t set x = 'changed'")
    apply(pair[0], only="two")
    assert held_rows(pair) == [[("changed",)], [("two",)]]
    apply(pair[0])
    assert held_rows(pair) == [[("one",)], [("two",)]]


def test_going_back_leaves_a_database_that_the_restore_has_made_anew_and_says_so(pair):
    made = create(pair[0])
    pair[1].unlink()
    run(pair[0], "update t set x = 'changed'")
    apply(pair[0])
    with promptvault_app.opened(pair[0]) as (app, repository):
        work = promptvault_app.restoring(app, repository, latest_safety(app, repository).id)
        assert (
            f"leave pair/two as it is, for it was made by the restore of {made.id}" in work.plan().steps[-1]
        )
        done = work.apply()
    assert held_rows(pair) == [[("changed",)], [("two",)]]
    (told,) = [one for one in done.findings if one.code == "not-undone"]
    assert (told.target, told.severity) == ("pair/two", "warning")
    assert any("pair/two" in one for one in done.remarks)


def test_one_database_can_be_listed_and_verified_alone_and_pruning_takes_whole_backups(pair):
    create(pair[0])
    create(pair[0], only="two")
    with promptvault_app.opened(pair[0]) as (_app, repository):
        assert len(list_backups(repository, promptvault_app.EVERY, database="one").page.items) == 1
        assert len(list_backups(repository, promptvault_app.EVERY, database="two").page.items) == 2
        latest = repository.find("latest")
    caught(BackupMissingError, lambda: apply(pair[0], latest.id, only="one"))
    (pair[0].with_name("backups") / "pair" / latest.id / latest.members[0].file).write_bytes(b"")
    with promptvault_app.opened(pair[0], only="one") as (app, repository):
        checked = verify.verify(app, repository, (), deep=False, keys=promptvault_app.keys_of(app))
        assert promptvault_app.codes(checked.findings) == []
        caught(UsageError, lambda: Pruning(app, repository, Keep(last=1), timeout=1))
    assert promptvault_app.codes(promptvault_app.verified(pair[0])) == ["file-changed"]


def test_a_restore_that_cannot_be_looked_at_afterwards_was_done_all_the_same(tmp_path, monkeypatch):
    path = settle(tmp_path / "app", "deployed")
    run(path, "pragma journal_mode = delete")
    create(path)
    before = content(path)
    spoil(path)
    real = registry.load

    def load(*words, **more):
        loaded = real(*words, **more)
        locked.enter_context(connected(path)).execute("begin exclusive")
        return loaded

    monkeypatch.setattr(registry, "load", load)
    with ExitStack() as locked:
        done = apply(path, timeout=0.1)
    assert "not-recorded" in [one.code for one in done.findings]
    assert content(path) == before


@contextmanager
def reading(path):
    """Let an app read for so long that nothing can take the place of what it reads."""
    with connected(path) as app:
        app.execute("begin")
        app.execute("select x from t").fetchall()
        yield app


def test_when_the_second_of_two_databases_fails_the_first_is_put_back(pair):
    create(pair[0])
    for path in pair:
        run(path, "update t set x = 'changed'")
    with reading(pair[1]) as app:
        caught(BusyError, lambda: apply(pair[0], timeout=0.2))
        app.execute("rollback")
    assert held_rows(pair) == [[("changed",)], [("changed",)]]
    assert len(promptvault_app.listed(pair[0]).page.items) == 1


def test_when_a_signal_stops_the_second_of_two_databases_the_first_is_put_back(pair, stop):
    create(pair[0])
    for path in pair:
        run(path, "update t set x = 'changed'")
    with reading(pair[1]):
        caught(signals.Interrupted, lambda: apply(pair[0], advance=at_move(6, stop)))
    assert held_rows(pair) == [[("changed",)], [("changed",)]]
    assert len(promptvault_app.listed(pair[0]).page.items) == 1


def test_when_even_the_way_back_fails_it_says_where_everything_is(pair):
    create(pair[0])
    run(pair[1], "update t set x = 'changed'")
    pair[0].unlink()  # so that there is nothing to put back
    with reading(pair[1]) as app:
        error = caught(RestoreHalfError, lambda: apply(pair[0], timeout=0.2))
        app.execute("rollback")
    assert error.exit_status == 12
    assert held_rows(pair) == [[("one",)], [("changed",)]]


# Traps: each was an experiment in which data was lost without a word ----------------------------------------------


def killed_with_a_fat_wal(path, statements):
    """Leave the files as an app leaves them that is killed after its commits, before a checkpoint."""
    aside = path.with_name("aside")
    with connected(path) as app:
        app.execute("pragma journal_mode = wal")
        app.execute("pragma wal_autocheckpoint = 0")
        for statement in statements:
            app.execute(statement)
        aside.mkdir()
        for one in path.parent.glob("user.db*"):
            shutil.copyfile(one, aside / one.name)
    for one in path.parent.glob("user.db*"):
        one.unlink()
    for one in aside.iterdir():
        shutil.move(one, path.parent / one.name)
    aside.rmdir()
    assert path.with_name("user.db-wal").stat().st_size


MANY = [
    "create table more (n integer primary key, text)",
    "with recursive n(n) as (select 1 union all select n + 1 from n where n < 3000) insert into more select n, hex(randomblob(40)) from n",
]


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("statements", [["update users set email = username || '@wal.example'"], MANY])
def test_trap_a_stale_wal_beside_a_restored_file_undoes_the_restore_or_mixes_two_databases(
    tmp_path, statements, gone
):
    path = settle(tmp_path / "app", "deployed")
    before = content(path)
    create(path)
    killed_with_a_fat_wal(path, statements)
    wal = path.with_name("user.db-wal").read_bytes()
    if gone:
        path.unlink()
    done = apply(path)
    assert content(path) == before
    assert rows(path, "pragma integrity_check") == [("ok",)]
    with promptvault_app.opened(path) as (_app, repository):
        safety = repository.find(done.safety_backup)
    if gone:  # what stood only in the -wal went into the safety backup, not away
        assert file_of(path, safety).read_bytes() == wal
    else:
        assert rows(file_of(path, safety), "select count(*) from users where email like '%@wal.example'") == (
            [(3,)] if len(statements) == 1 else [(0,)]
        )


@pytest.mark.parametrize("kind", ["torn", "foreign"])
def test_trap_a_torn_or_foreign_wal_is_not_mixed_into_what_is_restored(tmp_path, kind):
    path = settle(tmp_path / "app", "deployed")
    before = content(path)
    create(path)
    killed_with_a_fat_wal(path, MANY)
    wal = path.with_name("user.db-wal")
    if kind == "torn":
        wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2 + 100])
    else:
        other = settle(tmp_path / "other", "document")
        killed_with_a_fat_wal(other, MANY)
        shutil.copyfile(other.with_name("user.db-wal"), wal)
    path.with_name("user.db-shm").unlink(missing_ok=True)
    apply(path)
    assert content(path) == before
    assert rows(path, "pragma integrity_check") == [("ok",)]


def test_trap_a_swapped_file_leaves_the_app_in_the_old_one_so_the_inode_stays(deployed):
    create(deployed)
    before = content(deployed)
    spoil(deployed)
    inode = deployed.stat().st_ino
    with connected(deployed) as app:
        assert app.execute("select count(*) from regrets").fetchone() == (1,)
        apply(deployed)
        assert deployed.stat().st_ino == inode
        assert [
            table for (table,) in app.execute("select name from sqlite_master where name = 'regrets'")
        ] == []
        app.execute("update users set email = 'after@example.org' where username = 'ann'")
    assert rows(deployed, "select email from users where username = 'ann'") == [("after@example.org",)]
    assert content(deployed).keys() == before.keys()


def test_trap_a_file_written_over_under_an_app_leaves_it_answering_from_its_cache(deployed):
    create(deployed)
    spoil(deployed)
    with connected(deployed) as app:
        app.execute("pragma cache_size = -20000")
        number = app.execute("select count(*) from user_game_plays").fetchone()
        assert number == (0,)
        apply(deployed)
        assert app.execute("select count(*) from user_game_plays").fetchone() == (2,)
        app.execute("insert into login_attempts (username, ip_address) values ('later', '::1')")
    assert rows(deployed, "select count(*) from login_attempts where username = 'later'") == [(1,)]
    assert rows(deployed, "select count(*) from user_game_plays") == [(2,)]


def test_trap_a_commit_that_the_app_was_told_of_after_a_restore_is_not_lost(deployed):
    create(deployed)
    with connected(deployed) as app:
        app.execute("select count(*) from users").fetchone()
        apply(deployed)
        app.execute("delete from user_settings")
    assert rows(deployed, "select count(*) from user_settings") == [(0,)]


def test_trap_a_reader_in_the_middle_ends_with_the_old_rows_and_its_next_query_sees_the_new(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    create(path)
    run(path, "delete from users where username = 'bob'")
    with connected(path) as app:
        app.execute("begin")
        assert app.execute("select count(*) from users").fetchone() == (2,)
        apply(path)
        assert app.execute("select count(*) from users").fetchone() == (2,)
        app.execute("commit")
        assert app.execute("select count(*) from users").fetchone() == (3,)
    assert mode_of(path) == "wal"


def test_trap_a_lock_that_is_never_released_ends_the_restore_in_time_and_changes_nothing(deployed):
    create(deployed)
    spoil(deployed)
    held = content(deployed)
    with connected(deployed) as app:
        app.execute("begin immediate")
        begun = time.monotonic()
        error = caught(BusyError, lambda: apply(deployed, timeout=0.5))
        assert time.monotonic() - begun < 30  # Python's own call would try for ever
        app.execute("rollback")
    assert f"pid {os.getpid()}" not in str(error)
    assert content(deployed) == held
    assert len(promptvault_app.listed(deployed).page.items) == 1  # no safety backup of what was not replaced


def with_a_backup_of_another_page_size(folder):
    """Put an app in WAL mode into ``folder`` whose newest backup has larger pages; return the path of its database."""
    path = settle(folder, "deployed")
    with connected(path) as connection:
        for pragma in ("journal_mode = delete", "page_size = 8192"):
            connection.execute(f"pragma {pragma}")
        connection.execute("vacuum")
    create(path)
    with connected(path) as connection:
        connection.execute("pragma page_size = 4096")
        connection.execute("vacuum")
        connection.execute("pragma journal_mode = wal")
    return path


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_trap_another_page_size_under_wal_is_called_read_only_by_sqlite_and_told_as_it_is_by_us(
    tmp_path, open_elsewhere
):
    path = with_a_backup_of_another_page_size(tmp_path / "app")
    before = content(path)
    with connected(path) as app:
        if open_elsewhere:
            app.execute("select count(*) from users").fetchone()
            caught(BusyError, lambda: apply(path, timeout=0.2))
            assert rows(path, "pragma page_size") == [(4096,)]
        else:
            apply(path)
            assert rows(path, "pragma page_size") == [(8192,)]
    assert content(path) == before
    assert mode_of(path) == "wal"


def test_nobody_comes_in_while_wal_mode_is_left_for_another_page_size(tmp_path):
    path = with_a_backup_of_another_page_size(tmp_path / "app")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as app:

        def look():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                app.execute("select count(*) from users")

        apply(path, timeout=0.2, advance=at_move(3, look))
    assert (mode_of(path), rows(path, "pragma page_size")) == ("wal", [(8192,)])


def test_trap_an_idle_app_in_delete_mode_holds_no_lock_and_is_safe_all_the_same(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    run(path, "pragma journal_mode = delete")
    create(path)
    before = content(path)
    with connected(path) as app:
        app.execute("select count(*) from users").fetchone()  # open, and no lock is held now
        spoil(path)
        apply(path)
        app.execute("insert into login_attempts (username, ip_address) values ('x', 'y')")
    after = content(path)
    assert len(after.pop("login_attempts")) == len(before.pop("login_attempts")) + 1
    for one in (before, after):
        one.pop("sqlite_sequence")
    assert after == before


def test_trap_a_symbolic_link_stays_and_what_it_points_to_is_restored(deployed, tmp_path):
    real = tmp_path / "disk" / "real.db"
    real.parent.mkdir()
    mode = mode_of(deployed)
    deployed.rename(real)
    deployed.symlink_to(real)
    before = content(real)
    create(deployed)
    spoil(real)
    apply(deployed)
    assert deployed.is_symlink()
    assert content(real) == before
    real.write_bytes(b"garbage" * 100)
    apply(deployed)
    assert deployed.is_symlink()
    assert (content(real), mode_of(real)) == (before, mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_trap_root_restores_and_the_app_can_no_longer_write_so_owner_and_mode_stay(deployed):
    create(deployed)
    os.chown(deployed.parent, 1234, 1235)
    os.chown(deployed, 1234, 1235)
    deployed.chmod(0o660)
    spoil(deployed)
    apply(deployed)
    for one in deployed.parent.glob("user.db*"):
        assert (one.stat().st_uid, one.stat().st_gid) == (1234, 1235), one
    assert stat.S_IMODE(deployed.stat().st_mode) == 0o660


def test_trap_a_source_that_is_the_target_under_another_name_never_ends(deployed):
    link = deployed.with_name("link.db")
    link.symlink_to(deployed)
    caught(
        SameFileError,
        lambda: registry.load(
            Url(engine="sqlite", path=str(deployed)),
            link,
            "fp/user",
            Dump(facts={}, tables={}, schema=""),
            timeout=1,
        ),
    )


def test_trap_opening_the_file_of_a_database_drops_the_locks_of_this_process(deployed):
    """POSIX locks die with any close of the file; so no step of create or apply opens it beside a connection."""
    spy = f"""
import os, sys
path, seen, looks = {str(deployed)!r}, [], []
def held():
    inode, pid = os.stat(path).st_ino, str(os.getpid())
    with open("/proc/locks") as locks:
        return [line for line in locks if line.split()[-3].endswith(f":{{inode}}") and line.split()[-4] == pid]
def hook(event, args):
    if event == "open" and str(args[0]) == path:
        looks.append(args)
        seen.extend(held())
sys.addaudithook(hook)
sys.path.insert(0, {str(flashpoint_app.ROOT)!r})
from pathlib import Path
from tests.services import promptvault_app as vault
vault.create(Path(path)); vault.spoil(Path(path)); vault.apply(Path(path)); vault.undo(Path(path))
found = list(seen)
connection = vault.sqlite3.connect(path, isolation_level=None)
connection.execute("begin immediate")
open(path).close()
assert seen != found, "the spy sees nothing"
print(found)
"""
    done = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_trap_a_new_file_is_synced_before_it_gets_its_name_and_its_folder_after(deployed, monkeypatch):
    create(deployed)
    deployed.unlink()
    events = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor):
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(
        os,
        "rename",
        lambda *words, **more: (events.append(("rename", str(words[0]))), real_rename(*words, **more))[1],
    )
    apply(deployed)
    renamed = next(number for number, (what, _) in enumerate(events) if what == "rename")
    partial = events[renamed][1]
    assert ("sync", partial) in events[:renamed]
    assert ("sync", str(deployed.parent)) in events[renamed:]


def test_trap_the_backup_interface_begins_anew_at_each_commit_and_never_ends_beside_a_writer(deployed):
    run(deployed, *MANY, "create table ticks (n integer primary key)")
    ended, ticks = threading.Event(), []

    def write():
        with closing(sqlite3.connect(deployed, isolation_level=None, timeout=30)) as app:
            while not ended.is_set():
                app.execute("insert into ticks default values")
                ticks.append(time.monotonic())
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(ticks) < 5:
            time.sleep(0.01)
        made = create(deployed, timeout=30)
        apply(deployed, timeout=30)
    finally:
        ended.set()
        writer.join()
    with closing(sqlite3.connect(promptvault_app.plain_of(deployed, made))) as copy:
        numbers = [n for (n,) in copy.execute("select n from ticks order by n")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert rows(deployed, "pragma integrity_check") == [("ok",)]


# Members of a backup that are no files ------------------------------------------------------------------------------


def link_to_zero(path):
    path.symlink_to("/dev/zero")


def leave_out(_path):
    pass


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, link_to_zero, leave_out])
@pytest.mark.parametrize("compress", ["gzip", "none"])
def test_a_member_of_a_backup_that_is_no_regular_file_is_refused_by_all_that_read_it(
    deployed, answer, make, compress
):
    made = create(deployed, compress=compress)
    file = file_of(deployed, made)
    file.unlink()
    make(file)
    before = flashpoint_app.content(deployed)
    config = ("--config", str(deployed.with_name("dbctl.toml")))
    for words in (
        ("restore", "apply", made.id, "--yes"),
        ("restore", "apply", made.id, "--table", "users", "--merge", "missing", "--yes"),
        ("backup", "verify"),
        ("backup", "verify", "--deep"),
        ("backup", "drill"),
    ):
        answer(*words, *config, status=4)
    for deep in ([], ["--deep"]):
        (database,) = answer("restore", "preview", made.id, *deep, *config)["data"]["databases"]
        assert database["content"]["unread"]
    assert flashpoint_app.content(deployed) == before


@pytest.mark.parametrize(
    ("mode", "restored"), [(0o640, 0o640), (0o600, 0o600), (0o644, 0o640), (0o777, 0o660), (0o440, 0o640)]
)
def test_a_file_that_was_lost_comes_back_with_its_mode_but_without_rights_for_others(
    deployed, mode, restored
):
    deployed.chmod(mode)
    create(deployed)
    promptvault_app.lose(deployed)
    apply(deployed)
    assert stat.S_IMODE(deployed.stat().st_mode) == restored
