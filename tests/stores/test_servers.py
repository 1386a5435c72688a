"""The store contract on servers of object storage that other projects wrote."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbctl.errors.backup import BackupRetainedError, StorageFailedError, StorageIncompatibleError
from dbctl.errors.base import Exit
from dbctl.model import now
from dbctl.services.backup.retention.delete import DeleteBackups
from dbctl.services.backup.status import read_status
from dbctl.stores.base import FolderState, Protection
from tests import storage_servers
from tests.conformance.buckets import BucketContract, BucketLocation
from tests.conformance.stores import FIRST_FOLDER, SECOND_FOLDER, create_backup
from tests.services import promptvault_app
from tests.storage_servers import AZURITE, CEPH, GOOGLE, RCLONE, SEAWEEDFS

pytestmark = pytest.mark.slow


class ServerContract(BucketContract):
    server: storage_servers.StorageServer

    @pytest.fixture
    def place(self, monkeypatch, tmp_path):
        bucket = self.server.use_new_bucket(monkeypatch, tmp_path)
        return BucketLocation(bucket, self.server.scheme, timeout=20)


class TestSeaweedFS(ServerContract):
    server = SEAWEEDFS


class TestVersionedSeaweedFS(ServerContract):
    server = SEAWEEDFS
    test_listing_has_several_pages = None  # the pages are those of a bucket without versions

    @pytest.fixture
    def place(self, monkeypatch, tmp_path):
        SEAWEEDFS.use_new_bucket(monkeypatch, tmp_path)
        return BucketLocation(SEAWEEDFS.create_bucket(versioned=True), timeout=20)


class TestCeph(ServerContract):
    server = CEPH


class TestAzurite(ServerContract):
    server = AZURITE


class TestGoogle(ServerContract):
    server = GOOGLE


@pytest.mark.parametrize(
    ("server", "variable", "value"),
    [
        (SEAWEEDFS, "AWS_SECRET_ACCESS_KEY", "wrong"),
        (SEAWEEDFS, "AWS_ACCESS_KEY_ID", "NOBODY"),
        (CEPH, "AWS_SECRET_ACCESS_KEY", "wrong"),
        (CEPH, "AWS_ACCESS_KEY_ID", "NOBODY"),
        (AZURITE, "AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc="),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_wrong_key_is_reported(server, variable, value, monkeypatch, tmp_path):
    bucket = server.use_new_bucket(monkeypatch, tmp_path)
    monkeypatch.setenv(variable, value)
    store = BucketLocation(bucket, server.scheme, timeout=20).open()
    for action in (store.list_folders, lambda: create_backup(store, a=b"1")):
        with pytest.raises(StorageFailedError, match="key") as caught:
            action()
        assert caught.value.exit_status == Exit.UNREACHABLE
        assert value not in f"{caught.value} {caught.value.hint}"
    assert bucket.keys() == []


def test_missing_permission_is_reported(monkeypatch, tmp_path):
    bucket = SEAWEEDFS.use_new_bucket(monkeypatch, tmp_path)
    place = BucketLocation(bucket, timeout=20)
    create_backup(place.open(), a=b"1")
    before = bucket.keys()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", storage_servers.READER_KEY)
    store = place.open()
    assert b"".join(store.read(FIRST_FOLDER, "a")) == b"1"
    for action in (
        lambda: create_backup(store, SECOND_FOLDER, a=b"1"),
        lambda: store.lock("backup create", timeout=0).__enter__(),
        lambda: store.remove_folder(FIRST_FOLDER),
    ):
        with pytest.raises(StorageFailedError, match="lacks a permission") as caught:
            action()
        assert (caught.value.exit_status, "PutObject" in caught.value.hint) == (Exit.UNREACHABLE, True)
    assert bucket.keys() == before
    assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


def test_server_that_ignores_conditions_is_refused(monkeypatch, tmp_path):
    bucket = RCLONE.use_new_bucket(monkeypatch, tmp_path)
    store = BucketLocation(bucket).open()
    with pytest.raises(StorageIncompatibleError) as caught, store.lock("backup create", timeout=0):
        create_backup(store, a=b"1")
    assert caught.value.exit_status == Exit.USAGE
    assert bucket.keys() == []


@pytest.mark.parametrize("server", [SEAWEEDFS, CEPH], ids=lambda server: server.name)
def test_failed_upload_leaves_no_parts(server, monkeypatch, tmp_path):
    bucket = server.use_new_bucket(monkeypatch, tmp_path)

    def content():
        yield b"x" * (12 << 20)
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        BucketLocation(bucket).open().create_folder(FIRST_FOLDER) as writer,
    ):
        writer.write("big", content(), 24 << 20)
    assert bucket.keys() == []
    assert server.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


@pytest.mark.parametrize("server", [SEAWEEDFS, CEPH], ids=lambda server: server.name)
def test_retention_is_reported(server, monkeypatch, tmp_path):
    bucket = server.use_new_bucket(monkeypatch, tmp_path)
    store = BucketLocation(bucket, timeout=20).open()
    create_backup(store, a=b"1")
    assert store.read_protection(FIRST_FOLDER) == Protection()
    locked = server.create_bucket(retention_days=1)
    store = BucketLocation(locked, timeout=20).open()
    locked.put(f"deep/er/app/{FIRST_FOLDER}/manifest.json", b"{}")
    protection = store.read_protection(FIRST_FOLDER)
    assert protection.keeps_versions
    assert timedelta(hours=23) < protection.retained_until - now() <= timedelta(days=1)
    assert "under retention until" in protection.refusal
    server.client.put_object_legal_hold(
        Bucket=locked.name, Key=f"deep/er/app/{FIRST_FOLDER}/manifest.json", LegalHold={"Status": "ON"}
    )
    assert store.read_protection(FIRST_FOLDER).refusal == "under a legal hold"
    assert store.read_protection(SECOND_FOLDER) == Protection()


def test_versioned_bucket_of_ceph_is_refused(monkeypatch, tmp_path):
    """Ceph 16 ignores conditions of writes in a bucket with versioning."""
    CEPH.use_new_bucket(monkeypatch, tmp_path)
    store = BucketLocation(CEPH.create_bucket(versioned=True), timeout=20).open()
    with pytest.raises(StorageIncompatibleError), store.lock("backup create", timeout=0):
        pass


def test_backups_under_retention_are_not_deleted(monkeypatch, tmp_path, answer):
    (tmp_path / "staging").mkdir(mode=0o700)
    SEAWEEDFS.use_new_bucket(monkeypatch, tmp_path / "staging")
    locked = SEAWEEDFS.create_bucket(retention_days=1)
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    file = path.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('repository = "backups"', f'repository = "s3://{locked.name}"'))
    first, second = (promptvault_app.create_app_backup(path).id for _ in range(2))
    with promptvault_app.open_prune(path, last=1) as operation:
        pruned = operation.apply()
    assert pruned.deleted == []
    (reasons,) = [backup.reasons for backup in pruned.retained if backup.id == first]
    assert "under retention until" in reasons[0]
    with promptvault_app.open_repository(path) as (app, repository):
        with pytest.raises(BackupRetainedError) as caught:
            DeleteBackups(repository, [first]).apply()
        assert caught.value.exit_status == Exit.REFUSED
        status = read_status(app).repository
        assert status.keeps_versions
        assert status.retained_until > now()
    assert {backup.id for backup in promptvault_app.list_all_backups(path).page.items} == {first, second}
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    findings = answer("doctor", "--config", str(file), status=None)["data"]["findings"]
    assert [finding["severity"] for finding in findings if finding["code"] == "storage-versioned"] == ["info"]
