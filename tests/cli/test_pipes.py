"""Special files instead of regular files: a pipe without a writer must not block a command."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.services import flashpoint_app


@pytest.fixture
def place(tmp_path):
    flashpoint_app.create_app(tmp_path, "deployed")
    os.mkfifo(tmp_path / "pipe.toml")
    return tmp_path


def dbctl(place, *words, shell=""):
    command = [sys.executable, "-m", "dbctl", *words]
    if shell:
        command = ["bash", "-c", shell.replace("DBCTL", " ".join(command))]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    "words",
    [
        ("settings", "diff", "pipe.toml"),
        ("settings", "apply", "pipe.toml"),
        ("users", "import", "pipe.toml"),
        ("--config", "pipe.toml", "users", "list"),
        ("apps", "check", "pipe.toml"),
        ("users", "list", "--profile", "pipe.toml", "--url", "user=user.db"),
        ("settings", "diff", "/dev/zero"),
    ],
)
def test_pipe_instead_of_file_is_refused_immediately(place, words):
    process = dbctl(place, *words)
    assert process.returncode == 1
    assert "not a regular file" in process.stderr


@pytest.mark.parametrize(
    "shell",
    [
        "echo '{}' | DBCTL settings diff -",
        "echo '{}' | DBCTL settings diff /dev/stdin",
        "DBCTL settings diff <(echo '{}')",
        "DBCTL users import /dev/stdin --dry-run <<< '[]'",
    ],
)
def test_file_opened_by_shell_is_read(place, shell):
    assert dbctl(place, shell=shell).returncode == 0


def test_directory_instead_of_file_is_reported(place):
    for words in (["settings", "diff", "."], ["data", "query", "--file", "."], ["users", "import", "."]):
        first, hint = dbctl(place, *words).stderr.splitlines()
        assert ("Is a directory" in first, "Check the path" in hint) == (True, True)


# Streams that do not block ----------------------------------------------------------------------------------------


def open_pipe():
    """Return the ends of a pipe that do not wait, as a parent or another program on the terminal can leave them."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def wait_for(process, reader, *, empty):
    """Wait until a pipe of a process is empty, or no longer empty."""
    deadline = time.monotonic() + 30
    while (struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4)) == (0,)) != empty:
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("the process does not use the pipe")


def test_slow_reader_of_a_pipe_that_does_not_block_gets_the_whole_result(place):
    query = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000) select i, 'word' from n"
    words = ["data", "export", "--query", query, "-", "--db", "user"]
    expected = dbctl(place, *words).stdout
    reader, writer = open_pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    assert len(expected) > 10 * size
    with subprocess.Popen(
        [sys.executable, "-m", "dbctl", *words], cwd=place, stdout=writer, stdin=subprocess.DEVNULL
    ) as process:
        os.close(writer)
        wait_for(process, reader, empty=False)
        time.sleep(0.5)  # long enough for the whole result, if its writer does not wait
        os.set_blocking(reader, True)
        with os.fdopen(reader) as output:
            assert output.read() == expected
    assert process.returncode == 0


def test_pause_of_an_input_that_does_not_block_is_not_its_end(place):
    reader, writer = open_pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "dbctl", "settings", "diff", "-"], cwd=place, stdin=reader
    ) as process:
        os.write(writer, b"{")
        wait_for(process, reader, empty=True)
        os.write(writer, b"}")
        os.close(writer)
        os.close(reader)
    assert process.returncode == 0
