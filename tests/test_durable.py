"""Files that are whole or absent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbctl import durable
from dbctl.errors import FileExistsAlreadyError, FileFailedError

ROOT = Path(__file__).parents[1]


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_new_file_is_whole_and_private(tmp_path):
    with durable.written_whole(tmp_path / "f") as file:
        file.write("naïve\r\n")
    assert (tmp_path / "f").read_bytes() == "naïve\r\n".encode()
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["f"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt), durable.written_whole(tmp_path / "f", replace=True) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsAlreadyError), durable.written_whole(tmp_path / "f") as file:
        file.write("new")
    assert (tmp_path / "f").read_text() == "old"


def test_what_came_meanwhile_is_not_replaced_either(tmp_path):
    with pytest.raises(FileExistsAlreadyError), durable.written_whole(tmp_path / "f") as file:
        (tmp_path / "f").write_text("theirs")
        file.write("mine")
    assert (tmp_path / "f").read_text() == "theirs"
    assert names(tmp_path) == ["f"]


def test_a_replaced_file_keeps_its_mode_and_a_link_to_it_stays_a_link(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    (tmp_path / "link").symlink_to("f")
    with durable.written_whole(tmp_path / "link", replace=True) as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_missing_directory_is_an_expected_failure(tmp_path):
    with pytest.raises(FileFailedError, match="No such file"), durable.written_whole(tmp_path / "no" / "f"):
        pass


@pytest.mark.parametrize("text", ["", "half"])
def test_a_killed_writer_leaves_the_old_file_whole(tmp_path, text):
    (tmp_path / "f").write_text("old")
    script = (
        "import os, pathlib, signal\nfrom dbctl import durable\n"
        "with durable.written_whole(pathlib.Path('f'), replace=True) as file:\n"
        f"    file.write({text!r}); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_text() == "old"
