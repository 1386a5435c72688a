"""Files that are whole or absent."""

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

from dbctl.errors import FileExistsAlreadyError, FileFailedError, FileUnsyncedError, UsageError
from dbctl.files import temp
from dbctl.files.atomic import WITHOUT_LOCKS, expand_home, written_whole

ROOT = Path(__file__).parents[2]


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_new_file_is_whole_and_private(tmp_path):
    with written_whole(tmp_path / "f") as file:
        file.write("naïve\r\n")
    assert (tmp_path / "f").read_bytes() == "naïve\r\n".encode()
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["f"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "f", replace=True) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsAlreadyError), written_whole(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "old"


def test_what_came_meanwhile_is_not_replaced_either(tmp_path):
    with pytest.raises(FileExistsAlreadyError), written_whole(tmp_path / "f") as file:
        (tmp_path / "f").write_text("theirs")
        file.write("mine")
    assert (tmp_path / "f").read_text() == "theirs"
    assert names(tmp_path) == ["f"]


def test_a_replaced_file_keeps_its_mode_and_a_link_to_it_stays_a_link(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    (tmp_path / "link").symlink_to("f")
    with written_whole(tmp_path / "link", replace=True) as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_missing_directory_is_an_expected_failure(tmp_path):
    with pytest.raises(FileFailedError, match="No such file"), written_whole(tmp_path / "no" / "f"):
        pass


@pytest.mark.parametrize("text", ["", "half"])
def test_a_killed_writer_leaves_the_old_file_whole_and_the_next_one_removes_its_partial_file(tmp_path, text):
    (tmp_path / "f").write_text("old")
    script = (
        "import os, pathlib, signal\nfrom dbctl.files import atomic as durable\n"
        "with durable.written_whole(pathlib.Path('f'), replace=True) as file:\n"
        f"    file.write({text!r}); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_text() == "old"
    assert len(names(tmp_path)) == 2
    with written_whole(tmp_path / "other"):
        pass
    assert len(names(tmp_path)) == 3
    with written_whole(tmp_path / "f", replace=True) as file:
        file.write("new")
    assert sorted(names(tmp_path)) == ["f", "other"]


def test_the_partial_file_of_a_writer_that_is_alive_is_not_removed(tmp_path):
    with written_whole(tmp_path / "f", replace=True) as first:
        first.write("first")
        with written_whole(tmp_path / "f", replace=True) as second:
            second.write("second")
    assert (tmp_path / "f").read_text() == "first"
    assert names(tmp_path) == ["f"]


def test_a_file_that_has_its_name_is_not_reported_as_failed(tmp_path, monkeypatch):
    def unlink(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(Path, "unlink", unlink)
        with written_whole(tmp_path / "f") as file:
            file.write("new")
    assert (tmp_path / "f").read_text() == "new"
    with written_whole(tmp_path / "f", replace=True) as file:
        file.write("newer")
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ENOLCK, errno.ENOTSUP])
def test_a_private_folder_is_locked_unless_the_file_system_has_no_locks(tmp_path, monkeypatch, error):
    def flock(descriptor, operation):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    if error in WITHOUT_LOCKS:
        with temp.folder(tmp_path, "x-") as first, temp.folder(tmp_path, "x-"):
            assert first.is_dir()
    else:
        with pytest.raises(FileFailedError), temp.folder(tmp_path, "x-"):
            pass
    assert names(tmp_path) == []


def test_the_home_of_an_unknown_user_is_refused():
    assert expand_home("~/x") == Path.home() / "x"
    with pytest.raises(UsageError):
        expand_home("~no-user-of-that-name/x")


@pytest.fixture
def without_links(monkeypatch):
    """A disk without hard links, as FAT and some of other machines are."""

    def link(*_words, **_more):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def test_a_disk_without_hard_links_gets_a_new_file_all_the_same(tmp_path, without_links):
    with written_whole(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["f"]


def test_without_hard_links_too_what_came_meanwhile_is_not_replaced(tmp_path, without_links):
    with pytest.raises(FileExistsAlreadyError), written_whole(tmp_path / "f") as file:
        (tmp_path / "f").write_text("theirs")
        file.write("mine")
    assert (tmp_path / "f").read_text() == "theirs"
    assert names(tmp_path) == ["f"]


def test_without_hard_links_too_a_file_that_fails_leaves_nothing(tmp_path, without_links, monkeypatch):
    def rename(*_words):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(FileFailedError), written_whole(tmp_path / "f") as file:
        file.write("new")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_replaces_stays_whose_it_was(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    os.chown(tmp_path / "f", 4711, 4712)
    with written_whole(tmp_path / "f", replace=True) as file:
        file.write("new")
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, 0o640)


def directories_fail_with(monkeypatch, number):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_where_only_the_name_is_not_confirmed_nobody_is_told_that_nothing_was_changed(tmp_path, monkeypatch):
    directories_fail_with(monkeypatch, errno.EIO)
    with pytest.raises(FileUnsyncedError) as caught, written_whole(tmp_path / "f") as file:
        file.write("new")
    assert "Nothing was changed" not in caught.value.hint
    assert (tmp_path / "f").read_text() == "new"


def test_a_disk_that_cannot_sync_directories_at_all_is_no_trouble(tmp_path, monkeypatch):
    directories_fail_with(monkeypatch, errno.EINVAL)
    with written_whole(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "new"
