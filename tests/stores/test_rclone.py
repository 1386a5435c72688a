"""The store contract on remotes of rclone: a server of WebDAV, and an encrypted folder."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dbctl.errors.backup import StorageFailedError
from dbctl.stores.base import Store
from dbctl.stores.registry import open_store
from tests import servers
from tests.conformance.stores import StoreContract, StoreLocation

pytestmark = pytest.mark.slow


class RcloneLocation(StoreLocation):
    """A folder of a remote, which other commands of rclone change."""

    def __init__(self, remote: str) -> None:
        self.address = f"rclone:{remote}"
        self._remote = remote

    def open(self, app: str = "app") -> Store:
        return open_store(self.address, app, folder=Path("/nonexistent"))

    def put(self, folder: str, name: str, content: bytes) -> None:
        self._run("rcat", f"app/{folder}/{name}", content)

    def delete(self, folder: str, name: str) -> None:
        self._run("deletefile", f"app/{folder}/{name}")

    def list_names(self, folder: str) -> set[str]:
        process = subprocess.run(
            ["rclone", "lsf", "--files-only", f"{self._remote}/app/{folder}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return set(process.stdout.splitlines())

    def _run(self, command: str, path: str, content: bytes = b"") -> None:
        words = ["rclone", command, f"{self._remote}/{path}"]
        subprocess.run(words, input=content, check=True, capture_output=True)


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Return a function that writes the configuration of rclone."""
    if shutil.which("rclone") is None:
        servers.skip_or_fail("no rclone (Debian package rclone)")
    (tmp_path / "staging").mkdir(mode=0o700)
    (tmp_path / "data").mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "staging"))
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    return (tmp_path / "rclone.conf").write_text


class TestWebDav(StoreContract):
    @pytest.fixture
    def place(self, configure, tmp_path):
        port = servers.free_port()
        url = f"http://127.0.0.1:{port}"
        configure(f"[cloud]\ntype = webdav\nurl = {url}\nvendor = other\n")
        command = ["rclone", "serve", "webdav", f"--addr=127.0.0.1:{port}", tmp_path / "data"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(url)
            yield RcloneLocation("cloud:backups")
        finally:
            process.kill()
            process.wait(30)


class TestEncrypted:
    """What depends on the remote: the sizes and names of encrypted files. The rest of the contract is the same."""

    store = StoreContract.store
    test_files_are_stored_unchanged = StoreContract.test_files_are_stored_unchanged
    test_large_file_is_stored_and_read_in_blocks = StoreContract.test_large_file_is_stored_and_read_in_blocks
    test_file_name_may_contain_special_characters = (
        StoreContract.test_file_name_may_contain_special_characters
    )
    test_existing_folder_is_not_created_again = StoreContract.test_existing_folder_is_not_created_again
    test_remove_folder_deletes_only_that_folder = StoreContract.test_remove_folder_deletes_only_that_folder
    test_second_process_waits_for_lock = StoreContract.test_second_process_waits_for_lock

    @pytest.fixture
    def place(self, configure, tmp_path):
        words = ["rclone", "obscure", "correct horse"]
        password = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
        configure(
            f"[secret]\ntype = crypt\nremote = {tmp_path}/data\nfilename_encryption = off\npassword = {password}\n"
        )
        return RcloneLocation("secret:backups")


def wait_for(url):
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - of the test
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_unknown_remote_is_reported(configure):
    configure("")
    with pytest.raises(StorageFailedError, match="didn't find section") as caught:
        RcloneLocation("missing:backups").open().list_folders()
    assert "rclone lsd missing:" in caught.value.hint
