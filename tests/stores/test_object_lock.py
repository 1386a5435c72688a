"""Backups whose files are locked when they are stored: SeaweedFS and Ceph implement object lock, and check signatures."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import sleep

import pytest

from dbctl.config.storage import parse_address
from dbctl.errors.backup import ObjectLockMissingError, StorageFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import now
from dbctl.stores.base import ObjectLock
from dbctl.stores.objects.client import Client
from dbctl.stores.objects.protection import RetentionLocker
from dbctl.stores.registry import open_store
from tests import storage
from tests.conformance.stores import FIRST_FOLDER
from tests.fault_proxy import CUT, FaultProxy, Response, error_response
from tests.receivers import receive_http
from tests.services.backup.test_increments import change, create, small  # noqa: F401 - a fixture
from tests.services.backup.test_increments_commands import create_identity, replace_setting
from tests.services.backup.test_rekey import use_keys
from tests.storage_servers import CEPH, SEAWEEDFS, S3Server

MONTH = ObjectLock(text="30d", mode="compliance")
SERVERS = pytest.mark.parametrize("server", [SEAWEEDFS, CEPH], ids=lambda server: server.name)


@pytest.fixture(autouse=True)
def staging(monkeypatch, tmp_path):
    """Use no files of the user, and a private folder for uploads."""
    folder = tmp_path / "staging"
    folder.mkdir(mode=0o700)
    return folder


def create_locker(bucket: str, lock: ObjectLock = MONTH) -> RetentionLocker:
    address = parse_address(f"s3://{bucket}/deep")
    return RetentionLocker(Client(address.text, address, timeout=10), address, lock)


def open_locked(bucket: str, lock: ObjectLock = MONTH):
    return open_store(f"s3://{bucket}/deep/er", "app", folder=Path("/none"), timeout=20, object_lock=lock)


def read_locks(server: S3Server, bucket: str) -> dict[str, tuple[str, datetime] | None]:
    """Return the mode and the end of the lock of each object by file name, as the server reports them to another client."""
    locks = dict[str, tuple[str, datetime] | None]()
    for entry in server.client.list_objects_v2(Bucket=bucket).get("Contents", ()):
        head = server.client.head_object(Bucket=bucket, Key=entry["Key"])
        until = head.get("ObjectLockRetainUntilDate")
        locks[entry["Key"].rpartition("/")[2]] = until and (head["ObjectLockMode"], until)
    return locks


@SERVERS
def test_lock_is_set_and_extended_but_never_shortened(server, monkeypatch, staging):
    server.use_new_bucket(monkeypatch, staging)
    bucket = server.create_bucket(has_object_lock=True)
    bucket.put("deep/ä b+c", b"1")
    locker, end = create_locker(bucket.name), now() + timedelta(days=30)
    locker.require_supported()
    for until in (end, end + timedelta(days=1), end):
        locker.lock(["deep/ä b+c"], until.replace(microsecond=0))
    (lock,) = read_locks(server, bucket.name).values()
    assert lock == ("COMPLIANCE", (end + timedelta(days=1)).replace(microsecond=0))
    version = server.client.head_object(Bucket=bucket.name, Key="deep/ä b+c")["VersionId"]
    with pytest.raises(server.client.exceptions.ClientError, match="AccessDenied"):
        server.client.delete_object(
            Bucket=bucket.name, Key="deep/ä b+c", VersionId=version, BypassGovernanceRetention=True
        )


@SERVERS
def test_bucket_without_object_lock_is_refused_before_anything_is_written(server, monkeypatch, staging):
    bucket = server.use_new_bucket(monkeypatch, staging)
    with pytest.raises(ObjectLockMissingError), open_locked(bucket.name).lock("backup create", timeout=5):
        pass
    assert bucket.keys() == []


@SERVERS
def test_wrong_key_is_refused(server, monkeypatch, staging):
    server.use_new_bucket(monkeypatch, staging)
    bucket = server.create_bucket(has_object_lock=True)
    bucket.put("deep/a", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageFailedError) as caught:
        create_locker(bucket.name).require_supported()
    assert "wrong" not in str(caught.value)


def test_each_file_is_locked_before_the_manifest_which_is_locked_last(monkeypatch, staging):
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    store, before = open_locked(bucket.name), now()
    with store.lock("backup create", timeout=5), store.create_folder(FIRST_FOLDER) as writer:
        for name in ("a", "b"):
            writer.write(name, [b"1"], 1)
        assert set(read_locks(SEAWEEDFS, bucket.name).values()) == {None}
        create = store.client.create

        def check_locks(key, content):
            locks = read_locks(SEAWEEDFS, bucket.name)
            assert locks["a"]
            assert locks["b"]
            return create(key, content)

        monkeypatch.setattr(store.client, "create", check_locks)
        writer.write_manifest("{}")
    store.write_verification(FIRST_FOLDER, "{}")
    locks = read_locks(SEAWEEDFS, bucket.name)
    assert {name: lock is not None for name, lock in locks.items()} == {
        "a": True,
        "b": True,
        "manifest.json": True,
        "verified.json": False,
    }
    (lock,) = {lock for lock in locks.values() if lock}
    assert lock[0] == "COMPLIANCE"
    assert before + timedelta(days=30) <= lock[1] <= now() + timedelta(days=30, seconds=1)
    assert store.read_protection(FIRST_FOLDER).retained_until == lock[1]


def test_failed_backup_locks_nothing(monkeypatch, staging):
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    with pytest.raises(ZeroDivisionError), open_locked(bucket.name).create_folder(FIRST_FOLDER) as writer:
        writer.write("a", [b"1"], 1)
        raise ZeroDivisionError
    versions = SEAWEEDFS.client.list_object_versions(Bucket=bucket.name).get("Versions", ())
    for version in versions:
        SEAWEEDFS.client.delete_object(Bucket=bucket.name, Key=version["Key"], VersionId=version["VersionId"])
    assert SEAWEEDFS.client.list_object_versions(Bucket=bucket.name).get("Versions", []) == []


def test_lock_that_the_server_does_not_report_is_an_error(monkeypatch, staging):
    """Moto accepts the request for an object of a bucket without object lock."""
    bucket = storage.use_new_bucket(monkeypatch, staging)
    bucket.put("deep/a", b"1")
    with pytest.raises(StorageFailedError):
        create_locker(bucket.name).lock(["deep/a"], now() + timedelta(days=1))


def test_request_that_fails_is_repeated(monkeypatch, staging):
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    bucket.put("deep/a", b"1")
    failed = set[tuple[str, str]]()

    def fail_first(request):
        if (request.method, request.path) in failed:
            return None
        failed.add((request.method, request.path))
        return [CUT, error_response(503, "SlowDown")][len(failed) % 2]

    with FaultProxy(SEAWEEDFS.port).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.interfere = fail_first
        locker = create_locker(bucket.name)
        locker.require_supported()
        locker.lock(["deep/a"], locker.find_end())
    assert {method for method, _ in failed} == {"GET", "HEAD", "PUT"}
    assert all(read_locks(SEAWEEDFS, bucket.name).values())


def test_temporary_keys_of_a_container_sign_the_lock(monkeypatch, staging):
    """The keys are fetched as the library of object storage fetches them."""
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    bucket.put("deep/a", b"1")
    keys = {"AccessKeyId": storage.KEY, "SecretAccessKey": storage.SECRET, "Token": ""}
    keys["Expiration"] = f"{now() + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with receive_http() as receiver:
        receiver.interfere = lambda _request: Response(body=json.dumps(keys).encode())
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", receiver.url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(staging / "token"))
        (staging / "token").write_text("token")
        locker = create_locker(bucket.name)
        locker.require_supported()
        locker.lock(["deep/a"], now().replace(microsecond=0) + timedelta(days=1))
        ends = read_locks(SEAWEEDFS, bucket.name)
        receiver.interfere = lambda _request: Response(status=500)
        with pytest.raises(StorageFailedError, match="temporary keys"):
            locker.lock(["deep/a"], now().replace(microsecond=0) + timedelta(days=2))
    assert all(ends.values())
    assert read_locks(SEAWEEDFS, bucket.name) == ends


@pytest.mark.parametrize(
    "address", ["backups", "sftp://host/path", "rclone:remote:path", "gs://bucket", "az://bucket"]
)
def test_other_stores_are_refused(address, tmp_path):
    with pytest.raises(NotSupportedError):
        open_store(address, "app", folder=tmp_path, object_lock=MONTH)


def test_governance_can_be_ended_with_the_permission(monkeypatch, staging):
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    bucket.put("deep/a", b"1")
    locker = create_locker(bucket.name, ObjectLock(text="30d", mode="governance"))
    locker.lock(["deep/a"], locker.find_end())
    (lock,) = read_locks(SEAWEEDFS, bucket.name).values()
    assert lock[0] == "GOVERNANCE"
    version = SEAWEEDFS.client.head_object(Bucket=bucket.name, Key="deep/a")["VersionId"]
    delete = partial(SEAWEEDFS.client.delete_object, Bucket=bucket.name, Key="deep/a", VersionId=version)
    with pytest.raises(SEAWEEDFS.client.exceptions.ClientError, match="AccessDenied"):
        delete()
    delete(BypassGovernanceRetention=True)


# Commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(small, monkeypatch, staging):  # noqa: F811
    """Provide the bucket in which the backups of the app are locked for 30 days."""
    SEAWEEDFS.use_new_bucket(monkeypatch, staging)
    bucket = SEAWEEDFS.create_bucket(has_object_lock=True)
    replace_setting(small.folder, "repository", f'repository = "s3://{bucket.name}"\nobject_lock = "30d"')
    return bucket


def list_locks(bucket) -> dict[str, list[datetime]]:
    """Return the ends of the locks of the files of each backup, without verification records."""
    ends = dict[str, list[datetime]]()
    for entry in SEAWEEDFS.client.list_objects_v2(Bucket=bucket.name)["Contents"]:
        *folder, file = entry["Key"].split("/")
        if len(folder) == 2 and file != "verified.json":
            head = SEAWEEDFS.client.head_object(Bucket=bucket.name, Key=entry["Key"])
            ends.setdefault(folder[1], []).append(head["ObjectLockRetainUntilDate"])
    return ends


def test_commands_state_the_lock_that_the_server_reports(answer, small, locked):  # noqa: F811
    plan = answer("backup", "create", "--dry-run")["data"]["plan"]
    assert "lock every file for 30d (compliance)" in plan["steps"]
    backup = create(answer)["id"]
    (ends,) = list_locks(locked).values()
    assert len(ends) == 2
    (status,) = answer("backup", "status")["data"]["repositories"]
    assert datetime.fromisoformat(status["retained_until"]) == max(ends)
    newer = create(answer, "--full")["id"]
    pruned = answer("backup", "prune", "--keep-last", "1", "--yes")["data"]
    assert pruned["deleted"] == []
    (reasons,) = [item["reasons"] for item in pruned["retained"] if item["id"] == backup]
    assert reasons == [f"under retention until {max(ends):%Y-%m-%d %H:%M} UTC"]
    answer("backup", "delete", backup, "--yes", status=6)
    assert {item["id"] for item in answer("backup", "list")["data"]["items"]} == {backup, newer}
    answer("backup", "verify", "--deep")


def test_base_is_locked_as_long_as_what_refers_to_it(answer, small, locked):  # noqa: F811
    base = create(answer)["id"]
    first_end = max(list_locks(locked)[base])
    sleep(2)
    change(small)
    difference = create(answer)
    sleep(2)
    reference = create(answer)
    assert difference["bases"] == [base]
    assert reference["members"][0]["stored_in"] == difference["id"]
    ends = list_locks(locked)
    assert min(ends[base]) >= max(ends[reference["id"]]) > first_end
    assert min(ends[difference["id"]]) >= max(ends[reference["id"]])


def test_copies_in_the_configured_repository_are_locked_with_their_bases(answer, small, locked):  # noqa: F811
    """A copy that an earlier run has made is the base of a later one."""
    base = create(answer, "--repository", "local")["id"]
    answer("backup", "copy", "--from", "local", "--to", f"s3://{locked.name}")
    assert len(list_locks(locked)[base]) == 2
    sleep(2)
    change(small)
    difference = create(answer, "--repository", "local")
    assert difference["bases"] == [base]
    answer("backup", "copy", "--from", "local", "--to", f"s3://{locked.name}")
    ends = list_locks(locked)
    assert min(ends[base]) >= max(ends[difference["id"]])


def test_copies_elsewhere_are_locked_on_request(answer, small, locked):  # noqa: F811
    backup = create(answer, "--repository", "local")["id"]
    other = SEAWEEDFS.create_bucket(has_object_lock=True)
    copy = ("backup", "copy", "--from", "local", "--to", f"s3://{other.name}")
    assert (
        "lock every file for 2d (compliance)"
        in answer(*copy, "--object-lock", "2d", "--dry-run")["data"]["plan"]["steps"]
    )
    answer(*copy, "--object-lock", "2d")
    ends = list_locks(other)[backup]
    assert len(ends) == 2
    assert now() + timedelta(days=1) < min(ends) <= max(ends) < now() + timedelta(days=3)
    answer("backup", "copy", "--from", "local", "--to", "elsewhere", "--object-lock", "2d", status=2)
    answer("backup", "copy", "--from", "local", "--to", "elsewhere", "--object-lock", "soon", status=2)


def test_rekey_waits_for_the_end_of_the_lock_and_locks_the_new_files(answer, small, locked):  # noqa: F811
    replace_setting(small.folder, "object_lock", 'object_lock = "8s"')
    old, new = create_identity(small.folder, "old.txt"), create_identity(small.folder, "new.txt")
    use_keys(small.folder, old)
    backup, content = create(answer)["id"], small.content()
    end = max(list_locks(locked)[backup])
    use_keys(small.folder, new)
    refused = answer("backup", "rekey", "--identity", "old.txt", "--yes", status=6)["data"]
    assert [failure["id"] for failure in refused["failed"]] == [backup]
    assert "under retention until" in refused["failed"][0]["message"]
    sleep(max(0, (end - now()).total_seconds()) + 1)
    replace_setting(small.folder, "object_lock", 'object_lock = "30d"')
    result = answer("backup", "rekey", "--identity", "old.txt", "--yes")
    assert result["data"]["encrypted"] == [backup]
    assert any("old versions" in warning for warning in result["warnings"])
    ends = list_locks(locked)[backup]
    assert len(ends) == 2
    assert min(ends) > now() + timedelta(days=29)
    answer("restore", "apply", backup, "--identity", "new.txt", "--yes")
    assert small.content() == content


def test_lock_needs_such_a_repository(answer, small):  # noqa: F811
    replace_setting(small.folder, "repository", 'repository = "backups"\nobject_lock = "30d"')
    error = answer("backup", "create", status=2)["error"]
    assert "object_lock" in error["message"]
    assert not (small.folder / "backups").exists()
