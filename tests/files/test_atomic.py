"""Atomic creation and replacement of files."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError, FileUnsyncedError
from dbctl.errors.usage import UsageError
from dbctl.files import temp
from dbctl.files.atomic import WITHOUT_LOCKS, expand_home, write_atomically

ROOT = Path(__file__).parents[2]


def list_names(folder):
    return [path.name for path in folder.iterdir()]


def test_new_file_is_complete_and_private(tmp_path):
    with write_atomically(tmp_path / "f") as file:
        file.write("naïve\r\n")
    assert (tmp_path / "f").read_bytes() == "naïve\r\n".encode()
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert list_names(tmp_path) == ["f"]


def test_interrupted_write_leaves_old_file(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt), write_atomically(tmp_path / "f", replace=True) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old"
    assert list_names(tmp_path) == ["f"]


def test_existing_file_is_not_replaced_by_default(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsAlreadyError), write_atomically(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "old"


def test_concurrently_created_file_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsAlreadyError), write_atomically(tmp_path / "f") as file:
        (tmp_path / "f").write_text("theirs")
        file.write("mine")
    assert (tmp_path / "f").read_text() == "theirs"
    assert list_names(tmp_path) == ["f"]


def test_replaced_file_keeps_mode_and_symlink(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    (tmp_path / "link").symlink_to("f")
    with write_atomically(tmp_path / "link", replace=True) as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_missing_directory_raises_file_failed(tmp_path):
    with pytest.raises(FileFailedError, match="No such file"), write_atomically(tmp_path / "no" / "f"):
        pass


@pytest.mark.parametrize("text", ["", "half"])
def test_partial_file_of_killed_writer_is_removed(tmp_path, text):
    (tmp_path / "f").write_text("old")
    script = (
        "import os, pathlib, signal\nfrom dbctl.files import atomic as durable\n"
        "with durable.write_atomically(pathlib.Path('f'), replace=True) as file:\n"
        f"    file.write({text!r}); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_text() == "old"
    assert len(list_names(tmp_path)) == 2
    with write_atomically(tmp_path / "other"):
        pass
    assert len(list_names(tmp_path)) == 3
    with write_atomically(tmp_path / "f", replace=True) as file:
        file.write("new")
    assert sorted(list_names(tmp_path)) == ["f", "other"]


def test_partial_file_of_running_writer_remains(tmp_path):
    with write_atomically(tmp_path / "f", replace=True) as first:
        first.write("first")
        with write_atomically(tmp_path / "f", replace=True) as second:
            second.write("second")
    assert (tmp_path / "f").read_text() == "first"
    assert list_names(tmp_path) == ["f"]


def test_failed_unlink_after_rename_is_ignored(tmp_path, monkeypatch):
    def unlink(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(Path, "unlink", unlink)
        with write_atomically(tmp_path / "f") as file:
            file.write("new")
    assert (tmp_path / "f").read_text() == "new"
    with write_atomically(tmp_path / "f", replace=True) as file:
        file.write("newer")
    assert list_names(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ENOLCK, errno.ENOTSUP])
def test_temp_folder_requires_lock_if_supported(tmp_path, monkeypatch, error):
    def flock(descriptor, operation):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    if error in WITHOUT_LOCKS:
        with temp.folder(tmp_path, "x-") as first, temp.folder(tmp_path, "x-"):
            assert first.is_dir()
    else:
        with pytest.raises(FileFailedError), temp.folder(tmp_path, "x-"):
            pass
    assert list_names(tmp_path) == []


def test_home_of_unknown_user_is_refused():
    assert expand_home("~/x") == Path.home() / "x"
    with pytest.raises(UsageError):
        expand_home("~no-user-of-that-name/x")


@pytest.fixture
def without_links(monkeypatch):
    """Simulate a file system without hard links, such as FAT."""

    def link(*_words, **_more):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def test_new_file_is_created_without_hard_links(tmp_path, without_links):
    with write_atomically(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert list_names(tmp_path) == ["f"]


def test_concurrent_file_is_not_replaced_without_hard_links(tmp_path, without_links):
    with pytest.raises(FileExistsAlreadyError), write_atomically(tmp_path / "f") as file:
        (tmp_path / "f").write_text("theirs")
        file.write("mine")
    assert (tmp_path / "f").read_text() == "theirs"
    assert list_names(tmp_path) == ["f"]


def test_failed_file_leaves_nothing_without_hard_links(tmp_path, without_links, monkeypatch):
    def rename(*_words):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(FileFailedError), write_atomically(tmp_path / "f") as file:
        file.write("new")
    assert list_names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_replaced_by_root_keeps_owner(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    os.chown(tmp_path / "f", 4711, 4712)
    with write_atomically(tmp_path / "f", replace=True) as file:
        file.write("new")
    status = (tmp_path / "f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (4711, 4712, 0o640)


def fail_directory_sync(monkeypatch, number):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_unsynced_directory_is_not_reported_as_unchanged(tmp_path, monkeypatch):
    fail_directory_sync(monkeypatch, errno.EIO)
    with pytest.raises(FileUnsyncedError) as caught, write_atomically(tmp_path / "f") as file:
        file.write("new")
    assert "Nothing was changed" not in caught.value.hint
    assert (tmp_path / "f").read_text() == "new"


def test_unsupported_directory_sync_is_ignored(tmp_path, monkeypatch):
    fail_directory_sync(monkeypatch, errno.EINVAL)
    with write_atomically(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "new"
