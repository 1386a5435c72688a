"""``restore apply``, ``undo`` and ``preview``: verification, atomicity, safety backups and silent data loss."""

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
from dbctl.config.model import Retention
from dbctl.engines.contract.dumps import Dump, LoadRequest
from dbctl.engines.sqlite.restore import SQLiteRestoreTarget
from dbctl.errors.backup import (
    BackupCorruptError,
    BackupMissingError,
    NothingToUndoError,
    RepositoryFailedError,
    RestorePartialError,
    UndoMissingError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, InsufficientSpaceError, ReadOnlyError
from dbctl.errors.databases import SameFileError
from dbctl.errors.usage import UsageError, WrongAppError
from dbctl.files import mounts
from dbctl.services.backup.listing import list_backups
from dbctl.services.backup.retention.prune import PruneBackups
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.restore import preview
from dbctl.services.restore.apply import find_undo_backup
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import catch_error, query_rows, run_statements
from tests.services.promptvault_app import (
    apply_restore,
    change_data,
    create_app,
    create_app_backup,
    find_backup_file,
    read_content,
    undo_restore,
)

VARIANTS = ("document", "deployed", "larder")


@pytest.fixture(params=VARIANTS)
def path(request, tmp_path):
    return create_app(tmp_path / "app", request.param)


@pytest.fixture(params=["wal", "delete"])
def deployed(request, tmp_path):
    """A database of the deployed variant, in WAL mode and in rollback-journal mode."""
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, f"pragma journal_mode = {request.param}")
    return path


def read_journal_mode(path):
    return query_rows(path, "pragma journal_mode")[0][0]


def connect(path):
    return closing(sqlite3.connect(path, isolation_level=None, timeout=10))


# Restore and undo --------------------------------------------------------------------------------------------------


def test_restore_and_undo_return_every_row(path):
    before = read_content(path)
    backup = create_app_backup(path)
    change_data(path)
    changed_content = read_content(path)
    result = apply_restore(path)
    assert (result.backup, result.databases[0].strategy) == (backup.id, "in place")
    assert read_content(path) == before
    undo_result = undo_restore(path)
    assert undo_result.backup == result.safety_backup
    assert read_content(path) == changed_content
    undo_restore(path)
    assert read_content(path) == before


def test_latest_is_refused_if_a_newer_manifest_is_unreadable(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    backup = create_app_backup(path)
    first, last = apply_restore(path), apply_restore(path)
    promptvault_app.find_backup_folder(path, last.safety_backup).joinpath("manifest.json").write_text("{")
    content = read_content(path)
    for call in (partial(undo_restore, path), partial(apply_restore, path)):
        error = catch_error(BackupCorruptError, call)
        assert last.safety_backup in str(error)
    assert read_content(path) == content
    assert apply_restore(path, backup.id).backup == backup.id
    with promptvault_app.open_repository(path) as (_app, repository):
        before = repository.find(first.safety_backup).created_at
        assert repository.find("latest", before=before).id == backup.id


def test_file_that_took_the_place_of_the_open_one_is_compared_and_backed_up(deployed):
    create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (app, repository):
        app.reader(app.main_database).tables()  # as before a restore of a dump of another program
        other = shutil.copy(deployed, deployed.with_name("other.db"))
        change_data(other)
        with connect(other) as connection:
            connection.execute("create table further (a integer)")
        changed_content = read_content(other)
        other.replace(deployed)  # during the confirmation
        result = promptvault_app.create_restore(repository, "latest").apply()
    assert "schema-changed" in [finding.code for finding in result.findings]
    undo_restore(deployed)
    assert read_content(deployed) == changed_content


def test_restore_is_recorded_in_the_app(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    backup = create_app_backup(path)
    apply_restore(path)
    records = query_rows(
        path, "select resource, resource_id, username from activity_logs where action = 'restore.apply'"
    )
    assert [row[:2] for row in records] == [("backup", backup.id)]
    assert records[0][2].startswith("dbctl (")


def test_safety_backup_is_complete_and_not_latest(deployed):
    backup = create_app_backup(deployed)
    change_data(deployed)
    changed_content = flashpoint_app.read_all_rows(deployed)
    result = apply_restore(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        assert repository.find("latest").id == backup.id
        safety = repository.find(result.safety_backup)
    assert (safety.kind, safety.restored) == ("safety", backup.id)
    assert flashpoint_app.read_all_rows(find_backup_file(deployed, safety)) == changed_content


def test_restore_preserves_encoding_page_size_and_header_fields(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    script = "\n".join(dump_statements(path))
    path.unlink()
    with connect(path) as connection:
        connection.executescript(
            "pragma encoding = 'UTF-16le'; pragma page_size = 8192; pragma auto_vacuum = 1;"
            f"{script}; pragma application_id = 4242; pragma user_version = 77; pragma journal_mode = wal"
        )
    pragmas = ("encoding", "page_size", "auto_vacuum", "application_id", "user_version", "journal_mode")
    before = [query_rows(path, f"pragma {name}") for name in pragmas]
    create_app_backup(path)
    change_data(path)
    apply_restore(path)
    assert [query_rows(path, f"pragma {name}") for name in pragmas] == before
    path.unlink()
    apply_restore(path)
    assert [query_rows(path, f"pragma {name}") for name in pragmas] == before


def dump_statements(path):
    with connect(path) as connection:
        return list(connection.iterdump())


def test_missing_database_gets_owner_of_folder_and_private_mode(deployed):
    mode, before = read_journal_mode(deployed), read_content(deployed)
    deployed.chmod(0o600)
    create_app_backup(deployed)
    deployed.unlink()
    if os.geteuid() == 0:
        os.chown(deployed.parent, 1234, 1235)
    result = apply_restore(deployed)
    assert (result.databases[0].strategy, result.safety_backup) == ("new", None)
    assert (read_content(deployed), read_journal_mode(deployed)) == (before, mode)
    file_stat, folder_stat = deployed.stat(), deployed.parent.stat()
    assert (file_stat.st_uid, file_stat.st_gid, stat.S_IMODE(file_stat.st_mode)) == (
        folder_stat.st_uid,
        folder_stat.st_gid,
        0o600,
    )


def test_leftovers_of_a_killed_restore_are_removed_by_the_next(deployed):
    create_app_backup(deployed)
    deployed.unlink()
    for suffix in ("", "-journal", "-wal"):
        deployed.with_name(f".user.db.dbctl-0badcafe.partial{suffix}").write_bytes(b"partial")
    other_file = deployed.with_name(".other.db.dbctl-0badcafe.partial")
    other_file.write_bytes(b"partial")
    apply_restore(deployed)
    assert list(deployed.parent.glob(".*.partial*")) == [other_file]


def test_damaged_file_is_backed_up_and_replaced_with_owner_and_mode(deployed):
    before = read_content(deployed)
    create_app_backup(deployed)
    garbage = b"not a database" * 1000
    deployed.write_bytes(garbage)
    deployed.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(deployed, 1234, 1235)
    owner = deployed.stat().st_uid, deployed.stat().st_gid
    result = apply_restore(deployed)
    assert result.databases[0].strategy == "replaced"
    assert read_content(deployed) == before
    file_stat = deployed.stat()
    assert (file_stat.st_uid, file_stat.st_gid, stat.S_IMODE(file_stat.st_mode)) == (*owner, 0o640)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        safety = repository.find(result.safety_backup)
    assert [member.form for member in safety.members] == ["raw"]
    assert find_backup_file(deployed, safety).read_bytes() == garbage
    error = catch_error(DbctlError, lambda: undo_restore(deployed))
    assert "The files are in" in error.hint


def test_damaged_file_that_is_open_is_not_replaced(deployed):
    create_app_backup(deployed)
    deployed.write_bytes(b"not a database" * 1000)
    with (
        open_in_process(deployed) as process,
        promptvault_app.open_repository(deployed) as (_app, repository),
    ):
        restore = promptvault_app.create_restore(repository, "latest")
        for attempt in (restore.plan, restore.apply):
            assert f"pid {process.pid}" in str(catch_error(BusyError, attempt))
        (database,) = preview.preview(promptvault_app.open_source(repository)).databases
        assert len(database.held_by) == 1
        process.kill()
    assert deployed.read_bytes() == b"not a database" * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="needs the open files of processes")
def test_deleted_file_that_is_open_is_not_created_again(deployed):
    create_app_backup(deployed)
    with open_in_process(deployed) as process:
        deployed.unlink()
        holder = f"pid {process.pid}"
        with promptvault_app.open_repository(deployed) as (_app, repository):
            restore = promptvault_app.create_restore(repository, "latest")
            for attempt in (restore.plan, restore.apply):
                error = catch_error(BusyError, attempt)
                assert (holder in str(error), "deleted" in error.hint, deployed.exists()) == (
                    True,
                    True,
                    False,
                )
            (database,) = preview.preview(promptvault_app.open_source(repository)).databases
        assert (database.strategy, [name.partition(" (")[0] for name in database.held_by]) == ("", [holder])
        assert ("deleted file" in error.hint, "--timeout" in error.hint) == (True, False)
        process.kill()
    apply_restore(deployed)
    assert deployed.exists()


def open_in_process(path):
    process = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(path)!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    return process


def test_corrupt_database_is_backed_up_and_overwritten_in_place(deployed):
    before = read_content(deployed)
    create_app_backup(deployed)
    raw = bytearray(deployed.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    deployed.write_bytes(raw)
    inode = deployed.stat().st_ino
    result = apply_restore(deployed)
    assert result.databases[0].strategy == "in place"
    assert deployed.stat().st_ino == inode
    assert read_content(deployed) == before
    with promptvault_app.open_repository(deployed) as (_app, repository):
        safety = repository.find(result.safety_backup)
    assert find_backup_file(deployed, safety).read_bytes() == raw


def test_empty_database_is_restored_and_other_app_is_refused(deployed, tmp_path):
    before = read_content(deployed)
    create_app_backup(deployed)
    deployed.unlink()
    with connect(deployed) as connection:
        connection.execute("pragma user_version = 1")
    apply_restore(deployed)
    assert read_content(deployed) == before
    other = create_app(tmp_path / "larder", "larder")
    shutil.copyfile(other, deployed)
    raw = deployed.read_bytes()
    catch_error(WrongAppError, lambda: apply_restore(deployed))
    assert deployed.read_bytes() == raw


# Refusals --------------------------------------------------------------------------------------------------------


def test_changed_backup_is_not_restored(deployed):
    backup = create_app_backup(deployed)
    change_data(deployed)
    raw = deployed.read_bytes()
    file = find_backup_file(deployed, backup)
    complete = file.read_bytes()
    for offset in range(0, len(complete), len(complete) // 20):
        changed = bytearray(complete)
        changed[offset] ^= 1 << offset % 8
        file.write_bytes(changed)
        catch_error(BackupCorruptError, lambda: apply_restore(deployed))
    file.write_bytes(complete[:-1])
    catch_error(BackupCorruptError, lambda: apply_restore(deployed))
    assert deployed.read_bytes() == raw
    assert len(promptvault_app.list_all_backups(deployed).page.items) == 1
    with promptvault_app.open_repository(deployed) as (_app, repository):
        assert repository.read_verification(backup).failed


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="requires root and setpriv")
@pytest.mark.parametrize("deployed", ["wal"], indirect=True)
@pytest.mark.parametrize(
    "command", ["restore apply latest --yes", "backup verify", "backup verify --deep", "backup drill"]
)
def test_backup_whose_file_cannot_be_read_is_not_recorded_as_damaged(deployed, command):
    backup = create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        before = repository.read_verification(backup)
    file = find_backup_file(deployed, backup)
    os.chown(file, 65534, 65534)
    file.chmod(0o600)
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-m", "dbctl"]
    config = deployed.with_name("dbctl.toml")
    done = subprocess.run(
        [*words, *command.split(), "--config", str(config)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, "Permission denied" in done.stdout + done.stderr) == (4, True)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        after = repository.read_verification(backup)
    assert (after.failed, after.verified_at, after.drills) == (None, before.verified_at, {})


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="requires root and setpriv")
def test_restore_over_the_file_of_another_user_names_the_remedy(deployed):
    create_app_backup(deployed)
    config = deployed.with_name("dbctl.toml")
    for path in (deployed.parent, deployed):
        os.chown(path, 65534, 65534)
    words = [
        "setpriv",
        "--bounding-set=-dac_override",
        sys.executable,
        "-m",
        "dbctl",
        "restore",
        "apply",
        "latest",
    ]
    done = subprocess.run(
        [*words, "--yes", "--config", str(config)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, "Run dbctl as the owner of the app's files." in done.stderr) == (6, True), (
        done.stderr
    )


def test_backup_pruned_after_the_plan_is_missing(deployed):
    backup = create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        operation = promptvault_app.create_restore(repository, "latest")
        shutil.rmtree(promptvault_app.find_backup_folder(deployed, backup))
        catch_error(BackupMissingError, operation.apply)


def test_undo_without_a_restore_is_refused(deployed):
    create_app_backup(deployed)
    catch_error(UndoMissingError, lambda: undo_restore(deployed))


def test_restore_of_a_missing_database_cannot_be_undone(deployed):
    create_app_backup(deployed)
    change_data(deployed)
    first = apply_restore(deployed)
    deployed.unlink()
    assert apply_restore(deployed).safety_backup is None
    before = read_content(deployed)
    error = catch_error(NothingToUndoError, lambda: undo_restore(deployed))
    assert first.backup in str(error)
    assert read_content(deployed) == before
    change_data(deployed)
    apply_restore(deployed)
    assert undo_restore(deployed).safety_backup


def test_file_with_second_hard_link_is_refused(deployed):
    create_app_backup(deployed)
    os.link(deployed, deployed.with_name("other-name.db"))
    catch_error(ReadOnlyError, lambda: apply_restore(deployed))
    assert len(promptvault_app.list_all_backups(deployed).page.items) == 1


def test_failed_safety_backup_stops_the_restore(deployed, monkeypatch):
    create_app_backup(deployed)
    change_data(deployed)
    before = read_content(deployed)
    monkeypatch.setattr("dbctl.files.mounts.free_space", lambda _path: 100)
    catch_error(InsufficientSpaceError, lambda: apply_restore(deployed))
    monkeypatch.undo()
    shutil.rmtree(deployed.with_name("backups"))
    deployed.with_name("backups").write_text("")
    catch_error((DbctlError, RepositoryFailedError), lambda: apply_restore(deployed))
    assert read_content(deployed) == before


def test_disk_of_the_database_without_space_is_refused_before_the_safety_backup(deployed, monkeypatch):
    create_app_backup(deployed)
    real, folder = mounts.free_space, os.path.realpath(deployed.parent)
    monkeypatch.setattr(mounts, "free_space", lambda path: 1 if str(path) == folder else real(path))
    error = catch_error(InsufficientSpaceError, lambda: apply_restore(deployed))
    assert str(error.context["place"]) == folder
    assert len(promptvault_app.list_all_backups(deployed).page.items) == 1


def test_preview_shows_differences_and_changes_nothing(path):
    backup = create_app_backup(path)
    change_data(path)
    raw = path.read_bytes()
    with promptvault_app.open_repository(path) as (_app, repository):
        result = preview.preview(promptvault_app.open_source(repository, backup.id))
    (database,) = result.databases
    assert (database.state, database.schema) == ("readable", "different")
    differing = {
        table.table: (table.current_rows, table.backup_rows)
        for table in database.tables
        if table.current_rows != table.backup_rows
    }
    assert differing["new_table"] == (1, None)
    assert len(differing) == 2
    assert path.read_bytes() == raw


def test_changed_schema_is_reported(deployed):
    create_app_backup(deployed)
    change_data(deployed)
    assert "schema-changed" in [finding.code for finding in apply_restore(deployed).findings]
    assert "schema-changed" not in [finding.code for finding in apply_restore(deployed).findings]


# Signals and locks --------------------------------------------------------------------------------------------


def call_at_progress(number, function):
    """Return a progress callback whose nth call calls ``function``.

    A restore of a small database calls it after the verification, after the safety backup, after the load, and after
    the engine has committed.
    """
    calls = []

    def advance(_bytes):
        calls.append(1)
        if len(calls) == number:
            function()

    return advance


@pytest.fixture
def stop():
    """Return a function that sends SIGTERM to this process."""
    handlers = {number: signal.getsignal(number) for number in signals.TERMINATION_SIGNALS}
    signals.install_handlers()
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signals._received.clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_signal_leaves_old_rows_or_an_undoable_restore(deployed, stop, step):
    new = read_content(deployed)
    create_app_backup(deployed)
    change_data(deployed)
    old = read_content(deployed)
    with suppress(signals.Interrupted):
        apply_restore(deployed, advance=call_at_progress(step, stop))
    assert signals._received
    signals._received.clear()
    assert read_content(deployed) == (new if step == 4 else old)
    if step == 4:  # after the commit
        undo_restore(deployed)
        assert read_content(deployed) == old
    else:
        catch_error(UndoMissingError, lambda: undo_restore(deployed))


def test_lock_after_the_restore_is_not_a_failure(deployed):
    new = read_content(deployed)
    create_app_backup(deployed)
    change_data(deployed)
    with connect(deployed) as app:

        def lock_database():
            app.execute("begin exclusive")
            app.execute("update users set is_active = is_active")

        result = apply_restore(deployed, timeout=0.2, advance=call_at_progress(4, lock_database))
        app.execute("rollback")
    wal = read_journal_mode(deployed) == "wal"  # in which readers do not wait for writers
    codes = {finding.code for finding in result.findings if finding.severity == "warning"}
    assert codes == ({"not-recorded"} if wal else {"not-recorded", "not-checked"}) | {"schema-changed"}
    assert (result.exit_status, result.safety_backup is None) == (0, False)
    assert read_content(deployed) == new


# Several databases ---------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path):
    """An app with two databases."""
    for name in ("one", "two"):
        run_statements(tmp_path / f"{name}.db", "create table t (x)", f"insert into t values ('{name}')")
    (tmp_path / "pair.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "pair"\ntitle = "Pair"\n'
        '[databases.one]\nengines = ["sqlite"]\nneeds = ["t"]\n[databases.two]\nengines = ["sqlite"]\nneeds = ["t"]\n'
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.pair]\nprofile = "pair.toml"\n[apps.pair.databases]\none = "one.db"\ntwo = "two.db"\n'
        '[apps.pair.backup]\nrepository = "backups"\n'
    )
    return tmp_path / "one.db", tmp_path / "two.db"


def read_pair_rows(pair):
    return [query_rows(path, "select x from t") for path in pair]


def test_databases_are_restored_together_or_alone(pair):
    create_app_backup(pair[0])
    for path in pair:
        run_statements(path, "update t set x = 'changed'")
    apply_restore(pair[0], only="two")
    assert read_pair_rows(pair) == [[("changed",)], [("two",)]]
    apply_restore(pair[0])
    assert read_pair_rows(pair) == [[("one",)], [("two",)]]


def test_undo_reports_and_does_not_delete_a_database_that_was_missing(pair):
    backup = create_app_backup(pair[0])
    pair[1].unlink()
    run_statements(pair[0], "update t set x = 'changed'")
    apply_restore(pair[0])
    with promptvault_app.open_repository(pair[0]) as (_app, repository):
        operation = promptvault_app.create_restore(repository, find_undo_backup(repository).id)
        assert (
            f"leave pair/two unchanged: it did not exist before the restore of {backup.id}"
            in operation.plan().steps[-1]
        )
        result = operation.apply()
    assert read_pair_rows(pair) == [[("changed",)], [("two",)]]
    (finding,) = [item for item in result.findings if item.code == "not-undone"]
    assert (finding.target, finding.severity) == ("pair/two", "warning")
    assert any("pair/two" in remark for remark in result.remarks)


def test_one_database_is_listed_and_verified_but_not_pruned_alone(pair):
    create_app_backup(pair[0])
    create_app_backup(pair[0], only="two")
    with promptvault_app.open_repository(pair[0]) as (_app, repository):
        assert len(list_backups(repository, promptvault_app.ALL_ROWS, database="one").page.items) == 1
        assert len(list_backups(repository, promptvault_app.ALL_ROWS, database="two").page.items) == 2
        latest = repository.find("latest")
    catch_error(BackupMissingError, lambda: apply_restore(pair[0], latest.id, only="one"))
    (pair[0].with_name("backups") / "pair" / latest.id / latest.members[0].file).write_bytes(b"")
    with promptvault_app.open_repository(pair[0], only="one") as (app, repository):
        verification = VerifyBackups(repository, deep=False, keys=promptvault_app.create_keys(app)).run()
        assert promptvault_app.list_codes(verification.findings) == []
        catch_error(UsageError, lambda: PruneBackups(repository, Retention(last=1)))
    assert promptvault_app.list_codes(promptvault_app.verify_backups(pair[0])) == ["file-changed"]


def test_restore_that_cannot_be_checked_is_not_a_failure(tmp_path, monkeypatch):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "pragma journal_mode = delete")
    create_app_backup(path)
    before = read_content(path)
    change_data(path)
    real_load = SQLiteRestoreTarget.load

    def load(*arguments, **options):
        verification = real_load(*arguments, **options)
        locked.enter_context(connect(path)).execute("begin exclusive")
        return verification

    monkeypatch.setattr(SQLiteRestoreTarget, "load", load)
    with ExitStack() as locked:
        result = apply_restore(path, timeout=0.1)
    assert "not-recorded" in [finding.code for finding in result.findings]
    assert read_content(path) == before


@contextmanager
def open_read_transaction(path):
    """Keep a read transaction open, which blocks the replacement of the database."""
    with connect(path) as app:
        app.execute("begin")
        app.execute("select x from t").fetchall()
        yield app


def test_failure_of_the_second_database_reverts_the_first(pair):
    create_app_backup(pair[0])
    for path in pair:
        run_statements(path, "update t set x = 'changed'")
    with open_read_transaction(pair[1]) as app:
        catch_error(BusyError, lambda: apply_restore(pair[0], timeout=0.2))
        app.execute("rollback")
    assert read_pair_rows(pair) == [[("changed",)], [("changed",)]]
    assert len(promptvault_app.list_all_backups(pair[0]).page.items) == 1


@pytest.mark.parametrize("is_busy", [False, True])
def test_one_of_two_databases_is_damaged_before_the_restore(pair, is_busy):
    create_app_backup(pair[0])
    run_statements(pair[1], "update t set x = 'changed'")
    pair[0].write_bytes(b"not a database" * 1000)
    if is_busy:
        with open_read_transaction(pair[1]) as app:
            error = catch_error(RestorePartialError, lambda: apply_restore(pair[0], timeout=0.2))
            app.execute("rollback")
        assert "it was damaged before" in str(error)
    else:
        assert not {"search-indexes", "sessions-restored"} & {
            item.code for item in apply_restore(pair[0]).findings
        }
    assert read_pair_rows(pair) == [[("one",)], [("changed" if is_busy else "two",)]]
    safety, _ = promptvault_app.list_all_backups(pair[0]).page.items
    assert (safety.kind, [member.form for member in safety.members]) == ("safety", ["raw", "dump"])


def test_files_of_a_damaged_database_remain_if_another_one_fails_first(pair):
    create_app_backup(pair[0])
    pair[1].write_bytes(b"not a database" * 1000)
    with open_read_transaction(pair[0]) as app:
        catch_error(BusyError, lambda: apply_restore(pair[0], timeout=0.2))
        app.execute("rollback")
    assert pair[1].read_bytes() == b"not a database" * 1000
    safety, _ = promptvault_app.list_all_backups(pair[0]).page.items
    assert sorted(member.form for member in safety.members) == ["dump", "raw"]


def test_signal_in_the_second_database_reverts_the_first(pair, stop):
    create_app_backup(pair[0])
    for path in pair:
        run_statements(path, "update t set x = 'changed'")
    with open_read_transaction(pair[1]):
        catch_error(signals.Interrupted, lambda: apply_restore(pair[0], advance=call_at_progress(6, stop)))
    assert read_pair_rows(pair) == [[("changed",)], [("changed",)]]
    assert len(promptvault_app.list_all_backups(pair[0]).page.items) == 1


def test_failed_revert_is_reported_with_the_state(pair):
    create_app_backup(pair[0])
    run_statements(pair[1], "update t set x = 'changed'")
    pair[0].unlink()  # there is no previous state to restore
    with open_read_transaction(pair[1]) as app:
        error = catch_error(RestorePartialError, lambda: apply_restore(pair[0], timeout=0.2))
        app.execute("rollback")
    assert error.exit_status == 12
    assert read_pair_rows(pair) == [[("one",)], [("changed",)]]


# Silent data loss --------------------------------------------------------------------------------------------------


def leave_large_wal(path, statements):
    """Create the files of an app that was killed after its commits and before a checkpoint."""
    temp_dir = path.with_name("killed")
    with connect(path) as app:
        app.execute("pragma journal_mode = wal")
        app.execute("pragma wal_autocheckpoint = 0")
        for statement in statements:
            app.execute(statement)
        temp_dir.mkdir()
        for source in path.parent.glob("user.db*"):
            shutil.copyfile(source, temp_dir / source.name)
    for source in path.parent.glob("user.db*"):
        source.unlink()
    for source in temp_dir.iterdir():
        shutil.move(source, path.parent / source.name)
    temp_dir.rmdir()
    assert path.with_name("user.db-wal").stat().st_size


MANY_ROWS = [
    "create table more (n integer primary key, text)",
    "with recursive n(n) as (select 1 union all select n + 1 from n where n < 3000) insert into more select n, hex(randomblob(40)) from n",
]


@pytest.mark.parametrize("is_missing", [False, True])
@pytest.mark.parametrize("statements", [["update users set email = username || '@wal.example'"], MANY_ROWS])
def test_stale_wal_is_not_applied_to_a_restored_file(tmp_path, statements, is_missing):
    path = create_app(tmp_path / "app", "deployed")
    before = read_content(path)
    create_app_backup(path)
    leave_large_wal(path, statements)
    wal = path.with_name("user.db-wal").read_bytes()
    if is_missing:
        path.unlink()
    result = apply_restore(path)
    assert read_content(path) == before
    assert query_rows(path, "pragma integrity_check") == [("ok",)]
    with promptvault_app.open_repository(path) as (_app, repository):
        safety = repository.find(result.safety_backup)
    if is_missing:  # the safety backup contains the -wal file
        assert find_backup_file(path, safety).read_bytes() == wal
    else:
        assert query_rows(
            find_backup_file(path, safety), "select count(*) from users where email like '%@wal.example'"
        ) == ([(3,)] if len(statements) == 1 else [(0,)])


@pytest.mark.parametrize("kind", ["torn", "foreign"])
def test_torn_or_foreign_wal_is_not_applied_to_a_restored_file(tmp_path, kind):
    path = create_app(tmp_path / "app", "deployed")
    before = read_content(path)
    create_app_backup(path)
    leave_large_wal(path, MANY_ROWS)
    wal = path.with_name("user.db-wal")
    if kind == "torn":
        wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2 + 100])
    else:
        other = create_app(tmp_path / "other", "document")
        leave_large_wal(other, MANY_ROWS)
        shutil.copyfile(other.with_name("user.db-wal"), wal)
    path.with_name("user.db-shm").unlink(missing_ok=True)
    apply_restore(path)
    assert read_content(path) == before
    assert query_rows(path, "pragma integrity_check") == [("ok",)]


def test_restore_preserves_the_inode_for_open_connections(deployed):
    create_app_backup(deployed)
    before = read_content(deployed)
    change_data(deployed)
    inode = deployed.stat().st_ino
    with connect(deployed) as app:
        assert app.execute("select count(*) from new_table").fetchone() == (1,)
        apply_restore(deployed)
        assert deployed.stat().st_ino == inode
        assert [
            table for (table,) in app.execute("select name from sqlite_master where name = 'new_table'")
        ] == []
        app.execute("update users set email = 'after@example.org' where username = 'ann'")
    assert query_rows(deployed, "select email from users where username = 'ann'") == [("after@example.org",)]
    assert read_content(deployed).keys() == before.keys()


def test_restore_invalidates_the_cache_of_open_connections(deployed):
    create_app_backup(deployed)
    change_data(deployed)
    with connect(deployed) as app:
        app.execute("pragma cache_size = -20000")
        count = app.execute("select count(*) from user_game_plays").fetchone()
        assert count == (0,)
        apply_restore(deployed)
        assert app.execute("select count(*) from user_game_plays").fetchone() == (2,)
        app.execute("insert into login_attempts (username, ip_address) values ('later', '::1')")
    assert query_rows(deployed, "select count(*) from login_attempts where username = 'later'") == [(1,)]
    assert query_rows(deployed, "select count(*) from user_game_plays") == [(2,)]


def test_commit_after_a_restore_is_not_lost(deployed):
    create_app_backup(deployed)
    with connect(deployed) as app:
        app.execute("select count(*) from users").fetchone()
        apply_restore(deployed)
        app.execute("delete from user_settings")
    assert query_rows(deployed, "select count(*) from user_settings") == [(0,)]


def test_open_reader_reads_old_rows_until_it_ends(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    create_app_backup(path)
    run_statements(path, "delete from users where username = 'bob'")
    with connect(path) as app:
        app.execute("begin")
        assert app.execute("select count(*) from users").fetchone() == (2,)
        apply_restore(path)
        assert app.execute("select count(*) from users").fetchone() == (2,)
        app.execute("commit")
        assert app.execute("select count(*) from users").fetchone() == (3,)
    assert read_journal_mode(path) == "wal"


def test_lock_ends_the_restore_at_the_timeout(deployed):
    create_app_backup(deployed)
    change_data(deployed)
    before = read_content(deployed)
    with connect(deployed) as app:
        app.execute("begin immediate")
        start = time.monotonic()
        error = catch_error(BusyError, lambda: apply_restore(deployed, timeout=0.5))
        assert time.monotonic() - start < 30  # Connection.backup of Python would wait forever
        app.execute("rollback")
    assert f"pid {os.getpid()}" not in str(error)
    with (
        promptvault_app.open_repository(deployed) as (app, _),
        app.restore_target(app.main_database).lock("x", timeout=0),
    ):
        catch_error(BusyError, lambda: apply_restore(deployed, timeout=0))  # another dbctl writes
    assert read_content(deployed) == before
    # No safety backup is created if nothing is replaced.
    assert len(promptvault_app.list_all_backups(deployed).page.items) == 1


def create_backup_with_other_page_size(folder):
    """Create an app in WAL mode whose newest backup has larger pages; return the path of its database."""
    path = create_app(folder, "deployed")
    with connect(path) as connection:
        for pragma in ("journal_mode = delete", "page_size = 8192"):
            connection.execute(f"pragma {pragma}")
        connection.execute("vacuum")
    create_app_backup(path)
    with connect(path) as connection:
        connection.execute("pragma page_size = 4096")
        connection.execute("vacuum")
        connection.execute("pragma journal_mode = wal")
    return path


@pytest.mark.parametrize("is_open", [False, True])
def test_other_page_size_in_wal_mode_is_restored_or_reported_as_busy(tmp_path, is_open):
    path = create_backup_with_other_page_size(tmp_path / "app")
    before = read_content(path)
    with connect(path) as app:
        if is_open:
            app.execute("select count(*) from users").fetchone()
            catch_error(BusyError, lambda: apply_restore(path, timeout=0.2))
            assert query_rows(path, "pragma page_size") == [(4096,)]
        else:
            apply_restore(path)
            assert query_rows(path, "pragma page_size") == [(8192,)]
    assert read_content(path) == before
    assert read_journal_mode(path) == "wal"


def test_database_stays_locked_while_the_journal_mode_changes(tmp_path):
    path = create_backup_with_other_page_size(tmp_path / "app")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as app:

        def assert_locked():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                app.execute("select count(*) from users")

        apply_restore(path, timeout=0.2, advance=call_at_progress(3, assert_locked))
    assert (read_journal_mode(path), query_rows(path, "pragma page_size")) == ("wal", [(8192,)])


def test_idle_connection_in_delete_mode_stays_consistent(tmp_path):
    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "pragma journal_mode = delete")
    create_app_backup(path)
    before = read_content(path)
    with connect(path) as app:
        app.execute("select count(*) from users").fetchone()  # the connection stays open without a lock
        change_data(path)
        apply_restore(path)
        app.execute("insert into login_attempts (username, ip_address) values ('x', 'y')")
    after = read_content(path)
    assert len(after.pop("login_attempts")) == len(before.pop("login_attempts")) + 1
    for rows_by_table in (before, after):
        rows_by_table.pop("sqlite_sequence")
    assert after == before


def test_symbolic_link_is_preserved_and_its_target_is_restored(deployed, tmp_path):
    target = tmp_path / "disk" / "target.db"
    target.parent.mkdir()
    mode = read_journal_mode(deployed)
    deployed.rename(target)
    deployed.symlink_to(target)
    before = read_content(target)
    create_app_backup(deployed)
    change_data(target)
    apply_restore(deployed)
    assert deployed.is_symlink()
    assert read_content(target) == before
    target.write_bytes(b"garbage" * 100)
    apply_restore(deployed)
    assert deployed.is_symlink()
    assert (read_content(target), read_journal_mode(target)) == (before, mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change file owners")
def test_restore_as_root_preserves_owner_and_mode(deployed):
    create_app_backup(deployed)
    os.chown(deployed.parent, 1234, 1235)
    os.chown(deployed, 1234, 1235)
    deployed.chmod(0o660)
    change_data(deployed)
    apply_restore(deployed)
    for source in deployed.parent.glob("user.db*"):
        assert (source.stat().st_uid, source.stat().st_gid) == (1234, 1235), source
    assert stat.S_IMODE(deployed.stat().st_mode) == 0o660


def test_restore_from_the_target_file_is_refused(deployed):
    link = deployed.with_name("link.db")
    link.symlink_to(deployed)
    catch_error(
        SameFileError,
        lambda: SQLiteRestoreTarget(deployed, "fp/user").load(
            LoadRequest(path=link, dump=Dump(metadata={}, tables={}, schema=""), timeout=1)
        ),
    )


def test_database_file_is_not_opened_while_this_process_holds_locks(deployed):
    """Closing a file releases all POSIX locks of the process on it, so create and apply must not open it again."""
    script = f"""
import os, sqlite3, sys
path, locked_opens = {str(deployed)!r}, []
def list_locks():
    inode, pid = os.stat(path).st_ino, str(os.getpid())
    with open("/proc/locks") as locks:
        return [line for line in locks if line.split()[-3].endswith(f":{{inode}}") and line.split()[-4] == pid]
def hook(event, args):
    if event == "open" and str(args[0]) == path:
        locked_opens.extend(list_locks())
sys.addaudithook(hook)
sys.path.insert(0, {str(flashpoint_app.ROOT)!r})
from pathlib import Path
from tests.services import promptvault_app as app
app.create_app_backup(Path(path)); app.change_data(Path(path)); app.apply_restore(Path(path)); app.undo_restore(Path(path))
result = list(locked_opens)
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("begin immediate")
open(path).close()
assert locked_opens != result, "the hook does not detect an open"
print(result)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_new_file_is_synced_before_rename_and_folder_after(deployed, monkeypatch):
    create_app_backup(deployed)
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
        lambda *arguments, **options: (
            events.append(("rename", str(arguments[0]))),
            real_rename(*arguments, **options),
        )[1],
    )
    apply_restore(deployed)
    position = next(index for index, (kind, _) in enumerate(events) if kind == "rename")
    partial = events[position][1]
    assert ("sync", partial) in events[:position]
    assert ("sync", str(deployed.parent)) in events[position:]


def test_backup_and_restore_end_with_a_concurrent_writer(deployed):
    run_statements(deployed, *MANY_ROWS, "create table ticks (n integer primary key)")
    stop_event, ticks = threading.Event(), []

    def write():
        with closing(sqlite3.connect(deployed, isolation_level=None, timeout=30)) as app:
            while not stop_event.is_set():
                app.execute("insert into ticks default values")
                ticks.append(time.monotonic())
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(ticks) < 5:
            time.sleep(0.01)
        backup = create_app_backup(deployed, timeout=30)
        apply_restore(deployed, timeout=30)
    finally:
        stop_event.set()
        writer.join()
    with closing(sqlite3.connect(promptvault_app.decompress_backup(deployed, backup))) as copy:
        numbers = [n for (n,) in copy.execute("select n from ticks order by n")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert query_rows(deployed, "pragma integrity_check") == [("ok",)]


# Members that are not regular files --------------------------------------------------------------------------------


def link_to_zero(path):
    path.symlink_to("/dev/zero")


def leave_missing(_path):
    pass


@pytest.mark.parametrize("create_file", [os.mkfifo, os.mkdir, link_to_zero, leave_missing])
@pytest.mark.parametrize("compress", ["gzip", "none"])
def test_member_that_is_not_a_regular_file_is_refused(deployed, answer, create_file, compress):
    backup = create_app_backup(deployed, compress=compress)
    file = find_backup_file(deployed, backup)
    file.unlink()
    create_file(file)
    before = flashpoint_app.read_all_rows(deployed)
    config = ("--config", str(deployed.with_name("dbctl.toml")))
    for arguments in (
        ("restore", "apply", backup.id, "--yes"),
        ("restore", "apply", backup.id, "--table", "users", "--merge", "missing", "--yes"),
        ("backup", "verify"),
        ("backup", "verify", "--deep"),
        ("backup", "drill"),
    ):
        answer(*arguments, *config, status=4)
    for deep in ([], ["--deep"]):
        (database,) = answer("restore", "preview", backup.id, *deep, *config)["data"]["databases"]
        assert database["content"]["not_compared"]
    assert flashpoint_app.read_all_rows(deployed) == before


@pytest.mark.parametrize(
    ("mode", "restored"), [(0o640, 0o640), (0o600, 0o600), (0o644, 0o640), (0o777, 0o660), (0o440, 0o640)]
)
def test_restored_lost_file_has_no_permissions_for_others(deployed, mode, restored):
    deployed.chmod(mode)
    create_app_backup(deployed)
    promptvault_app.delete_database(deployed)
    apply_restore(deployed)
    assert stat.S_IMODE(deployed.stat().st_mode) == restored


def test_plan_states_the_address_of_a_backup_of_another_database(tmp_path, monkeypatch, answer):
    """Apps of two configurations may have the same name, and a repository in common."""
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        with closing(sqlite3.connect(folder / "app.db")) as file:
            file.executescript("create table t (id integer primary key); insert into t values (1)")
        (folder / "dbctl.toml").write_text(
            '[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "app.db"\n'
            '[apps.plain.backup]\nrepository = "../backups"\n'
        )
    monkeypatch.chdir(tmp_path / "first")
    config = ["--config", "dbctl.toml"]
    answer("backup", "create", *config)
    (step,) = read_contents(answer("restore", "apply", "latest", *config, "--dry-run"))
    assert step.endswith("(1 row of 1 table)")
    monkeypatch.chdir(tmp_path / "second")
    (step,) = read_contents(answer("restore", "apply", "latest", *config, "--dry-run"))
    machine = os.uname().nodename.partition(".")[0]
    assert step.endswith(f"(1 row of 1 table), a backup of {machine}:{tmp_path}/first/app.db")


def read_contents(planned):
    return [step for step in planned["data"]["plan"]["steps"] if step.startswith("replace the contents")]
