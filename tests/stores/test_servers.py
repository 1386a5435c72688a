"""The store contract on servers of object storage that other projects wrote."""

from __future__ import annotations

import pytest

from dbctl.errors import Exit, StorageFailedError, StorageIncompatibleError
from tests import storage_servers
from tests.conformance.buckets import BucketContract, BucketLocation
from tests.conformance.stores import FIRST_FOLDER, create_backup
from tests.storage_servers import AZURITE, CEPH, GOOGLE, RCLONE, SEAWEEDFS

pytestmark = pytest.mark.slow


class ServerContract(BucketContract):
    server: storage_servers.StorageServer

    @pytest.fixture
    def place(self, monkeypatch, tmp_path):
        bucket = self.server.use_new_bucket(monkeypatch, tmp_path)
        return BucketLocation(bucket, self.server.scheme, timeout=20)

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("AWS_SECRET_ACCESS_KEY", "wrong"),
            ("AWS_ACCESS_KEY_ID", "NOBODY"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc="),
        ],
    )
    def test_wrong_key_is_reported(self, place, monkeypatch, variable, value):
        if variable not in self.server.variables():
            pytest.skip("this server has other keys, or accepts any")
        monkeypatch.setenv(variable, value)
        for action in (place.open().list_folders, lambda: create_backup(place.open(), a=b"1")):
            with pytest.raises(StorageFailedError, match="key") as caught:
                action()
            assert caught.value.exit_status == Exit.UNREACHABLE
            assert value not in f"{caught.value} {caught.value.hint}"


class TestSeaweedFS(ServerContract):
    server = SEAWEEDFS


class TestCeph(ServerContract):
    server = CEPH


class TestAzurite(ServerContract):
    server = AZURITE


class TestGoogle(ServerContract):
    server = GOOGLE


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
