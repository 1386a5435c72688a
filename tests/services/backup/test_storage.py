"""Backups in S3 storage on every engine, and copies between repositories."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbctl.config.model import Retention
from dbctl.config.sections import Selection
from dbctl.errors.backup import BackupMissingError, StorageFailedError
from dbctl.errors.base import Exit
from dbctl.errors.connection import BusyError
from dbctl.errors.usage import UsageError
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import verification_record
from dbctl.services.backup.copy import CopyBackups
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import BackupDetail, Repository
from dbctl.services.backup.retention.prune import PruneBackups
from dbctl.services.restore import preview
from dbctl.services.restore.drill_run import AppDrill
from tests import storage
from tests.fault_proxy import FaultProxy, error_response
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app, larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app,
    create_app_backup,
    list_all_backups,
    list_codes,
    open_prune,
    undo_restore,
    verify_backups,
)
from tests.small_disk import mount_disk

ROOT = Path(__file__).parents[3]


def set_repository(path, address):
    """Configure another repository for the app next to ``path``."""
    file = path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('repository = "backups"', f'repository = "{address}"'))


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    (tmp_path / "staging").mkdir(mode=0o700)
    return storage.use_new_bucket(monkeypatch, tmp_path / "staging")


@pytest.fixture
def proxy(bucket, monkeypatch):
    with FaultProxy(storage.port()).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def deployed(tmp_path, bucket):
    path = create_app(tmp_path / "app", "deployed")
    set_repository(path, f"s3://{bucket.name}/offsite")
    return path


def staging_leftovers(tmp_path):
    """Return the names of remaining staging folders."""
    return [entry.name for entry in (tmp_path / "staging").rglob(".dbctl-unpacked-*")]


# Backups in remote storage ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_remote_backups_support_all_operations(engine, tmp_path, bucket):
    with larder_app.open_pantry(engine, tmp_path / "app") as pantry:
        set_repository(pantry.path, f"s3://{bucket.name}/offsite")
        before = pantry.content()
        backup = create_app_backup(pantry.path)
        assert backup.path == f"s3://{bucket.name}/offsite/larder/{backup.id}"
        assert set(bucket.keys()) == {
            f"offsite/larder/{backup.id}/{backup.members[0].file}",
            f"offsite/larder/{backup.id}/manifest.json",
        }
        assert list_codes(verify_backups(pantry.path)) == []
        (item,) = list_all_backups(pantry.path).page.items
        assert item.verified_at > backup.verified_at
        with promptvault_app.open_repository(pantry.path) as (_app, repository):
            detail = repository.describe(repository.find("latest"), BackupDetail)
            assert [member.sha256 for member in detail.members] == [
                member.sha256 for member in backup.members
            ]
            assert preview.preview(promptvault_app.open_source(repository, "latest")).backup == backup.id
        pantry.change_data()
        changed_content = pantry.content()
        result = apply_restore(pantry.path)
        assert pantry.content() == before
        assert undo_restore(pantry.path).backup == result.safety_backup
        assert pantry.content() == changed_content
        pantry.destroy()
        apply_restore(pantry.path, backup.id)
        assert pantry.content() == before
        latest = create_app_backup(pantry.path)
        with open_prune(pantry.path, last=1) as operation:
            assert backup.id in operation.apply().deleted
        assert latest.id in [backup.id for backup in list_all_backups(pantry.path).page.items]
        assert list_codes(verify_backups(pantry.path)) == []
    assert staging_leftovers(tmp_path) == []


def test_damaged_remote_file_is_reported_and_not_restored(deployed, bucket):
    backup = create_app_backup(deployed)
    before = flashpoint_app.read_all_rows(deployed)
    key = f"offsite/fp/{backup.id}/{backup.members[0].file}"
    complete = bucket.get(key)
    for content in (complete[:-1], complete[:-1] + bytes([complete[-1] ^ 1])):
        bucket.put(key, content)
        for deep in (False, True):
            assert list_codes(verify_backups(deployed, deep=deep)) == ["file-changed"]
        assert catch_error(Exception, lambda: apply_restore(deployed)).code == "backup-corrupt"
    bucket.delete(key)
    assert list_codes(verify_backups(deployed)) == ["file-missing"]
    assert flashpoint_app.read_all_rows(deployed) == before


def test_remote_file_is_downloaded_once_per_restore(deployed, proxy):
    backup = create_app_backup(deployed, compress="none")
    flashpoint_app.run_statements(deployed, "delete from user_settings")
    proxy.requests.clear()
    apply_restore(deployed)
    downloads = [
        request
        for request in proxy.requests
        if request.method == "GET" and request.path.endswith(backup.members[0].file)
    ]
    assert len(downloads) == 1


def test_storage_failure_during_verification_is_not_reported_as_damage(deployed, proxy):
    backup = create_app_backup(deployed)
    proxy.interfere = lambda request: (
        error_response(403, "AccessDenied") if request.path.endswith(backup.members[0].file) else None
    )
    error = catch_error(StorageFailedError, lambda: verify_backups(deployed))
    assert error.exit_status == Exit.UNREACHABLE
    catch_error(StorageFailedError, lambda: apply_restore(deployed))


def test_prune_requires_a_complete_list(deployed, proxy):
    backup = [create_app_backup(deployed).id for _ in range(3)]
    proxy.interfere = lambda request: (
        error_response(403, "AccessDenied") if backup[0] in request.path else None
    )
    with open_prune(deployed, last=1) as operation:
        catch_error(StorageFailedError, operation.apply)
    proxy.interfere = lambda _request: None
    assert [backup.id for backup in list_all_backups(deployed).page.items] == backup[::-1]


def test_interrupted_remote_backup_is_pruned(deployed, bucket):
    backup = create_app_backup(deployed)
    bucket.put("offsite/fp/20200101_000000/.dbctl-incomplete", b"")
    bucket.put("offsite/fp/20200101_000000/user.db.gz", b"x" * 100)
    assert (
        [backup.id for backup in list_all_backups(deployed).page.items],
        list_all_backups(deployed).incomplete,
    ) == ([backup.id], ["20200101_000000"])
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().leftovers == ["20200101_000000"]
    assert not bucket.keys("offsite/fp/20200101_000000")


def test_insufficient_staging_space_is_reported_before_upload(deployed, monkeypatch, bucket):
    monkeypatch.setattr("dbctl.files.mounts.free_space", lambda _path: 100)
    error = catch_error(Exception, lambda: create_app_backup(deployed))
    assert (error.code, "staging" in str(error)) == ("insufficient-space", True)
    assert bucket.keys() == []


def test_staging_folder_is_configurable(deployed, tmp_path):
    with deployed.with_name("dbctl.toml").open("a") as file:
        file.write('staging = "custom"\n')
    create_app_backup(deployed)
    assert deployed.with_name("custom").is_dir()
    assert not (tmp_path / "staging").exists() or staging_leftovers(tmp_path) == []
    deployed.with_name("custom").chmod(0o777)
    assert catch_error(Exception, lambda: create_app_backup(deployed)).code == "repository-unsafe"


def start_cli(path, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", *words, "-o", "json"],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_interrupted_backup_leaves_earlier_backups(deployed, bucket, proxy, number, tmp_path):
    first = create_app_backup(deployed)
    keys_before = bucket.keys()
    processes = []

    def send_signal(request):
        if request.method == "PUT" and request.path.endswith(".db.gz") and processes:
            processes.pop().send_signal(number)
            time.sleep(0.5)  # the signal does not stop a request in progress

    proxy.interfere = send_signal
    process = start_cli(deployed, "backup", "create")
    processes.append(process)
    out, err = process.communicate(timeout=60)
    assert not processes
    if number == signal.SIGKILL:
        assert len(list_all_backups(deployed).incomplete) == 1
    else:
        assert (process.returncode, json.loads(out)["error"]["code"]) == (128 + number, "interrupted"), err
        assert bucket.keys() == keys_before
        assert staging_leftovers(tmp_path) == []
    second = create_app_backup(deployed)
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [second.id, first.id]
    with open_prune(deployed, last=5) as operation:
        operation.apply()
    assert not list_all_backups(deployed).incomplete
    assert staging_leftovers(tmp_path) == []


def test_concurrent_backups_both_succeed(deployed):
    processes = [start_cli(deployed, "backup", "create", "--timeout", "60") for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len({json.loads(out)["data"]["id"] for out, _ in outputs}) == 2
    assert list_codes(verify_backups(deployed)) == []


@pytest.mark.slow
def test_unreachable_storage_is_reported_by_every_command(deployed, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for args, status in {
        ("backup", "list"): 10,
        ("backup", "create"): 10,
        ("restore", "apply", "latest", "--yes"): 10,
        ("doctor",): 10,
        ("status", "--check"): 12,  # the database can be read
    }.items():
        process = start_cli(deployed, *args, "--timeout", "0")
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (args, out, err)
        assert b"its endpoint refuses connections" in out
        assert b"Traceback" not in err
        assert storage.SECRET.encode() not in out + err


# Copies ----------------------------------------------------------------------------------------------------------


@contextmanager
def prepare_copy(path, to, *names, source="", timeout=5, only=""):
    from dbctl.services.app.session import open_app

    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with open_app(selection, timeout=timeout, only=only) as app:
        source_repository, destination = Repository(app, source), Repository(app, to)
        yield CopyBackups(source_repository, destination, names)


def copy_backups(path, to, *names, **options):
    with prepare_copy(path, to, *names, **options) as operation:
        return operation.apply()


def call_with_repository(path, address, function):
    """Call ``function`` with an app and the repository at an address."""
    from dbctl.services.app.session import open_app

    with open_app(Selection(config=str(path.with_name("dbctl.toml"))), timeout=5) as app:
        return function(app, Repository(app, address))


def read_repository(path, address):
    """Return the content of all files in a repository, by backup and name."""

    def read(_app, repository):
        store = repository.store
        return {
            (folder, name): b"".join(store.read(folder, name))
            for folder in store.list_folders()
            for name in [*store.list_files(folder), "manifest.json"]
        }

    return call_with_repository(path, address, read)


def run_drill(path, address):
    """Drill the latest backup; return the recorded drill times."""
    call_with_repository(
        path, address, lambda app, repository: AppDrill(repository, promptvault_app.create_keys(app)).drill()
    )
    return read_drill_times(path, address)


def read_drill_times(path, address):
    """Return the recorded drill times, by backup and database."""

    def read(_app, repository):
        records = {
            backup.id: verification_record.read(repository.store, backup.id)
            for backup in repository.manifests()[0]
        }
        return {
            (name, database): backup.at
            for name, record in records.items()
            for database, backup in record.drills.items()
        }

    return call_with_repository(path, address, read)


#: Kinds of the source and of the destination.
DIRECTIONS = [
    ("directory", "storage"),
    ("storage", "directory"),
    ("storage", "storage"),
    ("directory", "directory"),
]
all_directions = pytest.mark.parametrize(("source_address", "destination_address"), DIRECTIONS, indirect=True)


def repository_address(request, tmp_path, bucket, default):
    kind = getattr(request, "param", default)
    return (
        f"s3://{bucket.name}/{request.fixturename}"
        if kind == "storage"
        else str(tmp_path / request.fixturename)
    )


@pytest.fixture
def source_address(request, tmp_path, bucket):
    return repository_address(request, tmp_path, bucket, "directory")


@pytest.fixture
def destination_address(request, tmp_path, bucket):
    return repository_address(request, tmp_path, bucket, "storage")


@pytest.fixture
def source_app(tmp_path, source_address):
    """An app with three backups at ``source_address``."""
    path = create_app(tmp_path / "app", "deployed")
    set_repository(path, source_address)
    for index in range(3):
        flashpoint_app.run_statements(path, f"update users set email = 'e{index}@example.org' where id = 1")
        create_app_backup(path)
    return path


def test_drill_records_are_copied(source_app, source_address, destination_address):
    times = run_drill(source_app, source_address)
    assert times
    copy_backups(source_app, destination_address)
    assert read_drill_times(source_app, destination_address) == times
    later = run_drill(source_app, source_address)
    assert later != times
    result = copy_backups(source_app, destination_address)
    assert (len(result.existing), result.failed) == (3, [])
    assert read_drill_times(source_app, destination_address) == later


def list_failed(_app, repository):
    """Return the backups of which damage is recorded."""
    records = {
        backup.id: verification_record.read(repository.store, backup.id)
        for backup in repository.manifests()[0]
    }
    return [name for name, record in records.items() if record.failed]


def test_record_of_copy_contains_only_failures_to_load(source_app, source_address, destination_address):
    deep, shallow, _ = (
        backup for backup, name in read_repository(source_app, source_address) if name == "manifest.json"
    )

    def record_failures(_app, repository):
        for name in (deep, shallow):
            verification_record.record(repository.store, name, ["broken"], all_files=True, deep=name == deep)

    call_with_repository(source_app, source_address, record_failures)
    copy_backups(source_app, destination_address)

    assert call_with_repository(source_app, destination_address, list_failed) == [deep]


@all_directions
def test_copies_are_identical_and_restorable(source_app, source_address, destination_address):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    result = copy_backups(source_app, destination_address)
    assert (result.copied, result.existing, result.failed, result.exit_status) == (ids, [], [], 0)
    assert read_repository(source_app, destination_address) == read_repository(source_app, source_address)
    assert result.copied_bytes == sum(backup.bytes for backup in list_all_backups(source_app).page.items)
    before = flashpoint_app.read_all_rows(source_app)
    flashpoint_app.run_statements(source_app, "delete from user_settings")
    set_repository(source_app, destination_address)
    file = source_app.with_name("dbctl.toml")
    file.write_text(
        file.read_text().replace(f'repository = "{source_address}"', f'repository = "{destination_address}"')
    )
    assert list_codes(verify_backups(source_app)) == []
    apply_restore(source_app)
    assert flashpoint_app.query_rows(source_app, "select count(*) from user_settings") == [
        (len(before["user_settings"]),)
    ]
    second = copy_backups(source_app, destination_address, source=source_address)
    assert (second.copied, second.existing, second.exit_status) == ([], ids, 0)


def test_plan_lists_missing_backups_and_writes_nothing(source_app, source_address, destination_address):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    copy_backups(source_app, destination_address, ids[1])
    before = read_repository(source_app, destination_address)
    with prepare_copy(source_app, destination_address) as operation:
        plan = operation.plan()
    assert [step.split(" (")[0] for step in plan.steps] == [f"copy {ids[0]}", f"copy {ids[2]}"]
    assert read_repository(source_app, destination_address) == before
    copy_backups(source_app, destination_address)
    with prepare_copy(source_app, destination_address) as operation:
        assert operation.plan().is_empty


def test_only_named_backups_are_copied(source_app, destination_address):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    assert copy_backups(source_app, destination_address, "latest", ids[2], ids[2]).copied == [ids[0], ids[2]]
    catch_error(BackupMissingError, lambda: copy_backups(source_app, destination_address, "20200101_000000"))


def modify_member(path, address, folder, change):
    """Change a file of a backup without dbctl."""

    def write_changed(_app, repository):
        store = repository.store
        (name,) = store.list_files(folder)
        content = change(b"".join(store.read(folder, name)))
        if address.startswith("s3://"):
            store.client.put(store.key(folder, name), content)
        else:
            Path(store.location, folder, name).write_bytes(content)

    call_with_repository(path, address, write_changed)


@pytest.mark.parametrize(
    "change", [lambda whole: whole[:-1], lambda whole: b"\0" + whole[1:]], ids=["truncated", "flipped"]
)
def test_damaged_backup_is_rejected_and_others_are_copied(
    source_app, source_address, destination_address, change
):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    modify_member(source_app, source_address, ids[1], change)
    result = copy_backups(source_app, destination_address)
    assert (result.copied, [failure.id for failure in result.failed]) == ([ids[0], ids[2]], [ids[1]])
    assert (result.failed[0].code, result.exit_status) == ("backup-corrupt", Exit.PARTIAL)
    assert ids[1] in result.remarks[0]
    failed = call_with_repository(source_app, source_address, list_failed)
    assert (failed, result.unrecorded) == ([ids[1]], [])
    assert {folder for folder, _ in read_repository(source_app, destination_address)} == {ids[0], ids[2]}
    assert copy_backups(source_app, destination_address, ids[1]).exit_status == Exit.CHECK_FAILED


def test_different_backup_with_same_id_is_a_conflict(
    source_app, source_address, destination_address, tmp_path
):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    copy_backups(source_app, destination_address, ids[0])
    modify_member(source_app, destination_address, ids[0], lambda content: content[:-1])
    before = read_repository(source_app, destination_address)
    result = copy_backups(source_app, destination_address, ids[0])
    assert (result.failed[0].code, result.exit_status) == ("backup-differs", Exit.REFUSED)
    with prepare_copy(source_app, destination_address) as operation:
        assert any(step.startswith(f"refuse {ids[0]}") for step in operation.plan().steps)
        assert operation.apply().exit_status == Exit.PARTIAL
    after = read_repository(source_app, destination_address)
    assert {name: content for name, content in after.items() if name in before} == before


def test_remote_backup_of_same_second_is_a_conflict(source_app, destination_address, monkeypatch):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    timestamp = datetime.strptime(ids[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    monkeypatch.setattr(backup_create, "now", lambda: timestamp)
    call_with_repository(
        source_app, destination_address, lambda _app, repository: CreateBackup(repository).apply()
    )
    result = copy_backups(source_app, destination_address)
    assert [(failure.id, failure.code) for failure in result.failed] == [(ids[1], "backup-differs")]
    assert "its manifest differs" in result.failed[0].message


def test_interrupted_copy_is_continued(source_app, source_address, destination_address):
    class InterruptionError(Exception):
        pass

    ids, blocks = [backup.id for backup in list_all_backups(source_app).page.items], []

    def interrupt(byte_count):
        blocks.append(byte_count)
        if len(blocks) == 2:
            raise InterruptionError

    with pytest.raises(InterruptionError), observe_progress(interrupt):
        copy_backups(source_app, destination_address)
    assert {folder for folder, _ in read_repository(source_app, destination_address)} == {ids[0]}
    # a process that was killed left an incomplete folder
    call_with_repository(
        source_app, destination_address, lambda _app, repository: leave_incomplete(repository.store, ids[1])
    )
    result = copy_backups(source_app, destination_address)
    assert (result.copied, result.existing) == (ids[1:], [ids[0]])
    assert read_repository(source_app, destination_address) == read_repository(source_app, source_address)


def leave_incomplete(store, folder):
    """Create the folder of a backup as if the process had been killed while writing it."""
    writer = store.create_folder(folder)
    opened_folder = writer.__enter__()
    opened_folder.write("partial", iter([b"x"]), 1)
    opened_folder.undo = lambda: None
    assert not writer.__exit__(ValueError, ValueError(), None)
    assert store.list_folders()[folder].value == "incomplete"


def test_unreadable_manifest_is_reported_and_others_are_copied(tmp_path, bucket):
    path = create_app(tmp_path / "app", "deployed")
    bad, good = create_app_backup(path), create_app_backup(path)
    manifest = promptvault_app.find_backup_folder(path, bad) / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    result = copy_backups(path, f"s3://{bucket.name}")
    assert (result.copied, [failure.id for failure in result.failed], result.exit_status) == (
        [good.id],
        [bad.id],
        Exit.PARTIAL,
    )


@pytest.mark.parametrize("is_named", [False, True])
def test_backup_deleted_during_copy_is_a_failure_if_it_was_named(tmp_path, bucket, is_named):
    path = create_app(tmp_path / "app", "deployed")
    deleted, remaining = create_app_backup(path), create_app_backup(path)
    names = [deleted.id, remaining.id] if is_named else []
    with prepare_copy(path, f"s3://{bucket.name}", *names) as operation:
        shutil.rmtree(promptvault_app.find_backup_folder(path, deleted))
        result = operation.apply()
    assert result.copied == [remaining.id]
    failures = [(deleted.id, "backup-missing")] if is_named else []
    assert [(failure.id, failure.code) for failure in result.failed] == failures
    assert result.exit_status == (Exit.PARTIAL if is_named else Exit.OK)


def test_storage_failure_reports_backups_not_attempted(tmp_path, proxy, bucket):
    path = create_app(tmp_path / "app", "deployed")
    ids = [create_app_backup(path).id for _ in range(3)][::-1]
    proxy.interfere = lambda request: (
        error_response(403, "AccessDenied") if request.method == "PUT" and ids[1] in request.path else None
    )
    result = copy_backups(path, f"s3://{bucket.name}")
    assert (result.copied, [failure.id for failure in result.failed], result.not_attempted) == (
        [ids[0]],
        [ids[1]],
        [ids[2]],
    )
    assert result.exit_status == Exit.PARTIAL
    assert ids[2] in result.remarks[-1]
    proxy.interfere = lambda request: error_response(403, "AccessDenied") if request.method == "PUT" else None
    catch_error(StorageFailedError, lambda: copy_backups(path, f"s3://{bucket.name}", ids[1]))


def test_older_backups_are_copied_if_the_newest_does_not_fit(tmp_path):
    with (
        mount_disk(tmp_path / "disk", "512k") as disk,
        larder_app.open_pantry("sqlite", tmp_path / "app") as pantry,
    ):
        older = create_app_backup(pantry.path)
        pantry.run("create table large (x blob)", "insert into large values (randomblob(1000000))")
        newest = create_app_backup(pantry.path)
        result = copy_backups(pantry.path, str(disk))
        assert (result.copied, [failure.id for failure in result.failed]) == ([older.id], [newest.id])
        assert (result.not_attempted, result.exit_status) == ([], Exit.PARTIAL)


def test_backups_of_concurrent_copy_are_reported_as_existing(source_app, destination_address):
    ids = [backup.id for backup in list_all_backups(source_app).page.items]
    with prepare_copy(source_app, destination_address) as operation:
        copy_backups(source_app, destination_address)
        result = operation.apply()
    assert (result.copied, sorted(result.existing), result.exit_status) == ([], sorted(ids), 0)


def test_copy_waits_for_lock_of_destination(source_app, destination_address):
    def copy_while_locked(_app, repository):
        with repository.store.lock("backup prune", timeout=0):
            catch_error(BusyError, lambda: copy_backups(source_app, destination_address, timeout=0))

    call_with_repository(source_app, destination_address, copy_while_locked)


def test_copy_to_the_source_repository_is_refused(source_app, source_address):
    catch_error(UsageError, lambda: copy_backups(source_app, source_address))


def test_copy_of_one_database_is_refused(source_app, destination_address):
    catch_error(UsageError, lambda: copy_backups(source_app, destination_address, only="user"))


def test_latest_of_merged_repository_is_the_newest(tmp_path, bucket, monkeypatch):
    """Numbers of different repositories are comparable because they are derived from the time."""
    path, address = create_app(tmp_path / "app", "deployed"), f"s3://{bucket.name}"
    for day in (1, 2, 3):
        monkeypatch.setattr(backup_create, "now", lambda day=day: datetime(2026, 5, day, tzinfo=UTC))
        call_with_repository(path, address, lambda _app, repository: CreateBackup(repository).apply())
    monkeypatch.setattr(backup_create, "now", lambda: datetime(2026, 5, 4, tzinfo=UTC))
    newest = create_app_backup(path).id
    copy_backups(path, address)

    def check(app, repository):
        assert repository.find("latest").id == newest
        operation = PruneBackups(repository, Retention(last=1))
        assert newest not in operation.apply().deleted

    call_with_repository(path, address, check)


def test_completed_backup_is_reported_despite_later_failure(tmp_path, bucket, proxy):
    path = create_app(tmp_path / "app", "deployed")
    set_repository(path, f"s3://{bucket.name}")
    manifest_requests = []

    def fail(request, answer):
        if manifest_requests:
            return error_response(503, "SlowDown")
        manifest_requests.extend(
            [request] if request.path.endswith("/manifest.json") and request.method == "PUT" else []
        )
        return answer

    proxy.change = fail
    backup = create_app_backup(path)
    proxy.change = lambda _request, answer: answer
    assert [backup.id for backup in list_all_backups(path).page.items] == [backup.id]
