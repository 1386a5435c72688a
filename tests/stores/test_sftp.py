"""The store contract on an SFTP server of OpenSSH, and its failures."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.errors.backup import (
    RepositoryFailedError,
    RepositoryMissingError,
    RepositoryUnsafeError,
    StorageFailedError,
    StorageSettingInvalidError,
)
from dbctl.errors.base import Exit
from dbctl.errors.connection import BusyError, DiskFullError
from dbctl.stores.base import FolderState, Store
from dbctl.stores.registry import open_store
from dbctl.stores.sftp import lock
from dbctl.stores.sftp.client import SftpClient
from dbctl.stores.sftp.protocol import Connection
from tests.conformance.stores import FIRST_FOLDER, SECOND_FOLDER, StoreContract, StoreLocation, create_backup
from tests.reach.ssh import SshHosts, start_ssh
from tests.small_disk import mount_disk

pytestmark = pytest.mark.slow
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")


@pytest.fixture(scope="module")
def servers_of_ssh() -> Iterator[SshHosts]:
    with start_ssh() as hosts:
        yield hosts


@pytest.fixture
def hosts(servers_of_ssh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", servers_of_ssh.path)
    use_staging(monkeypatch, tmp_path / "staging")
    yield servers_of_ssh
    servers_of_ssh.learn_host_keys()
    servers_of_ssh.bastion.accept_key()


def use_staging(monkeypatch, folder):
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(folder))


class SftpLocation(StoreLocation):
    def __init__(self, root: Path, host: str = "bastion") -> None:
        self.root, self.address = root, f"sftp://{host}{root}"
        root.mkdir(mode=0o700)

    def open(self, app: str = "app") -> Store:
        return open_store(self.address, app, folder=Path("/nonexistent"))

    def put(self, folder: str, name: str, content: bytes) -> None:
        path = self.root / "app" / folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)

    def delete(self, folder: str, name: str) -> None:
        (self.root / "app" / folder / name).unlink()

    def list_names(self, folder: str) -> set[str]:
        path = self.root / "app" / folder
        return {item.name for item in path.iterdir()} if path.exists() else set()


@pytest.fixture
def place(hosts, tmp_path):
    return SftpLocation(tmp_path / "backups")


class TestSftp(StoreContract):
    pass


def assert_unreachable(place, expected):
    with pytest.raises(StorageFailedError, match=expected) as caught:
        place.open().list_folders()
    assert caught.value.exit_status == Exit.UNREACHABLE
    assert "sftp" in caught.value.hint
    return caught.value


def test_unknown_host_key_is_refused_and_not_learned(hosts, place):
    hosts.forget_host_keys()
    assert_unreachable(place, "Host key verification failed")
    assert hosts.known_hosts.read_text() == ""


def test_changed_host_key_and_refused_key_are_reported(hosts, place):
    hosts.bastion.refuse_key()
    assert_unreachable(place, "Permission denied")
    hosts.bastion.accept_key()
    hosts.bastion.change_host_key()
    assert_unreachable(place, "Host key verification failed")


def test_stopped_server_is_reported(hosts, place):
    hosts.bastion.stop()
    assert_unreachable(place, "Connection refused")
    hosts.bastion.start()


def test_missing_program_is_reported(place, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageFailedError, match="ssh cannot be started"):
        place.open().list_folders()


def test_server_without_sftp_is_reported(hosts, place):
    hosts.bastion.accept_key('command="echo Welcome"')
    assert_unreachable(place, "its answers are not those of SFTP")


def test_server_behind_another_is_used(hosts, tmp_path):
    place = SftpLocation(tmp_path / "backups", "inner")
    create_backup(place.open(), a=b"1")
    assert place.list_names(FIRST_FOLDER) == {"a", "manifest.json"}


def test_files_are_private_and_no_temporary_one_remains(place):
    store = place.open()
    with store.lock("backup create", timeout=5):
        create_backup(store, a=b"1", big=os.urandom(9 << 20))
        store.write_verification(FIRST_FOLDER, "x")
    assert [path.name for path in (place.root / "app").iterdir()] == [FIRST_FOLDER]
    modes = {path.stat().st_mode & 0o777 for path in (place.root / "app").rglob("*") if path.is_file()}
    assert (modes, stat.S_IMODE((place.root / "app").stat().st_mode)) == ({0o600}, 0o700)


def test_unfinished_file_of_killed_process_is_deleted_after_a_day(place):
    create_backup(place.open(), a=b"1")
    old, new = (place.root / "app" / f".dbctl-new-{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    with place.open().lock("prune", timeout=5):
        pass
    assert (old.exists(), new.exists()) == (False, True)
    assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


def test_symbolic_links_are_not_followed(place, tmp_path):
    create_backup(place.open(), a=b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    (place.root / "app" / FIRST_FOLDER / "link").symlink_to(tmp_path / "secret")
    (place.root / "app" / SECOND_FOLDER).symlink_to(place.root / "app" / FIRST_FOLDER)
    store = place.open()
    assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
    assert store.list_files(FIRST_FOLDER) == {"a": 1}
    with pytest.raises(RepositoryFailedError, match="not a regular file"):
        b"".join(store.read(FIRST_FOLDER, "link"))


@pytest.mark.skipif(
    shutil.which("setpriv") is None or not SFTP_SERVER.exists(), reason="requires setpriv and sftp-server"
)
def test_file_that_cannot_be_read_is_an_error_of_this_file(place, monkeypatch, tmp_path):
    create_backup(place.open(), a=b"1")
    create_backup(place.open(), SECOND_FOLDER, a=b"1")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ssh"  # a server of root that cannot ignore modes
    program.write_text(
        f"#!/bin/sh\nexec setpriv --bounding-set=-dac_override,-dac_read_search {SFTP_SERVER}\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (place.root / "app" / FIRST_FOLDER / "manifest.json").chmod(0)
    manifests = dict(place.open().read_manifests([FIRST_FOLDER, SECOND_FOLDER]))
    assert isinstance(manifests[FIRST_FOLDER], RepositoryFailedError)
    assert isinstance(manifests[SECOND_FOLDER], bytes)


def test_missing_repository_is_reported_and_its_parent_not_created(place, tmp_path):
    place.root.rmdir()
    with pytest.raises(RepositoryMissingError):
        place.open().list_folders()
    create_backup(place.open(), a=b"1")
    assert place.list_names(FIRST_FOLDER) == {"a", "manifest.json"}
    deeper = open_store(f"sftp://bastion{tmp_path}/none/backups", "app", folder=Path())
    with pytest.raises(StorageFailedError, match="no such file or directory"):
        create_backup(deeper, a=b"1")
    assert not (tmp_path / "none").exists()


def test_repository_of_all_users_is_refused(place):
    place.root.chmod(0o777)
    with pytest.raises(RepositoryUnsafeError) as caught:
        create_backup(place.open(), a=b"1")
    assert caught.value.exit_status == Exit.REFUSED
    assert str(caught.value).startswith(f"other users can write to {place.open().location} (mode 777)")
    assert f"Run on the server: chmod go-w {place.root};" in caught.value.hint


def test_lost_connection_leaves_a_marked_folder_that_is_deleted(hosts, place):
    store = place.open()
    with (
        pytest.raises(StorageFailedError),
        store.lock("backup create", timeout=5),
        store.create_folder(FIRST_FOLDER) as writer,
    ):
        writer.write("a", iter([b"1"]), 1)
        hosts.bastion.stop()
        writer.write("b", iter([b"1"]), 1)
    hosts.bastion.start()
    assert place.list_names(FIRST_FOLDER) == {".dbctl-incomplete", "a"}
    store = place.open()  # of this machine, whose process has ended
    with store.lock("prune", timeout=5):
        store.remove_folder(FIRST_FOLDER)
    assert place.list_names(FIRST_FOLDER) == set()


def test_handle_of_a_lost_connection_is_not_used_on_another(hosts, place):
    """The server gives the files of each connection the same handles."""
    create_backup(place.open(), a=os.urandom(9 << 20), b=b"other")
    store = place.open()
    blocks = store.read(FIRST_FOLDER, "a")
    next(blocks)
    hosts.bastion.kill_connections()
    with pytest.raises(StorageFailedError):
        store.read_verification(FIRST_FOLDER)  # the loss is noticed here
    with store.open_locally(FIRST_FOLDER, "b") as path:
        assert path.read_bytes() == b"other"
    other = store.read(FIRST_FOLDER, "b")
    next(other)  # its handle is that of the first file
    with pytest.raises(StorageFailedError, match="the connection was lost"):
        next(blocks)


#: A server whose answer to each request is a status of a later version of the protocol.
FULL_SERVER = """import struct, sys
while head := sys.stdin.buffer.read(5):
    length, kind = struct.unpack('>IB', head)
    content = sys.stdin.buffer.read(length - 1)
    answer = struct.pack('>BI', 2, 3) if kind == 1 else b'\\x65' + content[:4] + struct.pack('>III', 14, 0, 0)
    sys.stdout.buffer.write(struct.pack('>I', len(answer)) + answer)
    sys.stdout.buffer.flush()
"""


def test_status_of_a_later_version_of_the_protocol_is_reported():
    client = SftpClient(Connection([sys.executable, "-c", FULL_SERVER], "place", "hint"), "/root", "place")
    with pytest.raises(StorageFailedError, match="status 14"):
        client.delete(["app/file"])


def open_from_other_machine(place, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    (tmp_path / "other").mkdir(mode=0o700, exist_ok=True)
    return place.open()


def test_lock_of_other_machine_is_respected_until_it_expires(place, monkeypatch, tmp_path):
    holder = place.open()
    with holder.lock("backup create", timeout=5):
        other = open_from_other_machine(place, monkeypatch, tmp_path)
        with pytest.raises(BusyError, match="backup create"):
            other.lock("prune", timeout=0).__enter__()
        (claim,) = (place.root / "app").glob(".dbctl-lock-*")
        expired = claim.stat().st_mtime - lock.EXPIRY_SECONDS - 60
        os.utime(claim, (expired, expired))
        assert not other.is_locked()
        with (
            other.lock("prune", timeout=0),
            pytest.raises(BusyError),
            holder.create_folder(FIRST_FOLDER) as writer,
        ):
            writer.write_manifest("{}")
        assert place.open().list_folders() == {}
        create_backup(place.open(), a=b"1")
        with pytest.raises(BusyError):
            holder.remove_folder(FIRST_FOLDER)
    assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}
    assert not place.open().is_locked()


def test_owner_does_not_renew_an_expired_lock(place):
    store = place.open()
    with store.lock("backup create", timeout=5):
        (claim,) = (place.root / "app").glob(".dbctl-lock-*")
        old = claim.stat().st_mtime - lock.LOSS_SECONDS - 60
        os.utime(claim, (old, old))
        with pytest.raises(BusyError), store.create_folder(FIRST_FOLDER) as writer:
            writer.write_manifest("{}")


def test_full_disk_of_the_server_is_reported(place):
    with pytest.raises(Exception, match="free"):
        place.open().require_space(1 << 60, staged=False)
    assert place.open().free_space() > 1
    assert abs(place.open().free_space() - shutil.disk_usage(place.root).free) < 1 << 30


def test_failure_is_not_a_full_disk_because_the_estimate_is_larger(place):
    store = place.open()
    with (
        pytest.raises(StorageFailedError, match="without a reason"),
        store.create_folder(FIRST_FOLDER) as writer,
    ):
        place.put(FIRST_FOLDER, "a", b"of another program")
        writer.write("a", iter([b"1"]), 1 << 60)


def test_disk_that_becomes_full_is_reported_and_the_folder_deleted(hosts, tmp_path):
    del hosts  # which set up ssh
    with mount_disk(tmp_path / "disk", "6m") as disk:
        place = SftpLocation(disk / "backups")
        create_backup(place.open(), a=b"1")
        store = place.open()
        with pytest.raises(DiskFullError), store.create_folder(SECOND_FOLDER) as writer:
            writer.write("b", iter([os.urandom(1 << 20)] * 9), 5 << 20)  # more than estimated
        assert place.open().list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


@pytest.mark.parametrize(
    "address",
    ["sftp://", "sftp://host", "sftp://host/", "sftp://user:made-up@host/x", "sftp://-oProxyCommand=x/x", "sftp://host/a/../b", "sftp://host:port/x",
     "sftp://host/\x1b[31m", "rclone:", "rclone:remote", "rclone:-x:y", "rclone::sftp,pass=made-up:x", "rclone:a:b/../c"],
)  # fmt: skip
def test_invalid_address_is_refused(address):
    with pytest.raises(StorageSettingInvalidError) as caught:
        open_store(address, "app", folder=Path())
    assert caught.value.exit_status == Exit.USAGE
    assert "made-up" not in f"{caught.value}"
