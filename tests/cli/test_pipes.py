"""Special files instead of regular files: a pipe without a writer must not block a command."""

from __future__ import annotations

import os
import subprocess
import sys

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
    assert "Is a directory" in dbctl(place, "settings", "diff", ".").stderr
