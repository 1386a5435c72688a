"""A directory for state on a file system without locks or shared memory, as some network file systems are."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("no_locks.c")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("library") / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, SOURCE, "-ldl"], check=True)
    return path


@pytest.fixture
def run(tmp_path, library):
    """Run dbctl while the calls of a name fail in its directory for state; return its result and its error output."""
    (tmp_path / "shops").mkdir()
    for path in ("blog.db", "shops/a.db", "shops/b.db"):
        with closing(sqlite3.connect(tmp_path / path)) as connection, connection:
            connection.execute("create table posts (id integer primary key, title text)")
            connection.execute("insert into posts values (1, 'a')")
    (tmp_path / "dbctl.toml").write_text(
        '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
        '[apps.shop]\nprofile = "plain"\ndatabases = "shops/*.db"\n[apps.shop.backup]\nrepository = "backups"\n'
    )
    state = tmp_path / "state"

    def run_command(calls, *words):
        environment = os.environ | {
            "DBCTL_STATE": str(state),
            "DBCTL_TEST_FOLDER": str(state),
            "DBCTL_TEST_CALLS": calls,
            "LD_PRELOAD": str(library),
        }
        done = subprocess.run(
            [sys.executable, "-m", "dbctl", *words, "-o", "json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    return run_command


COMMANDS = (
    ["data", "set", "posts", "1", "title=b", "--app", "blog"],
    ["backup", "create", "--app", "blog"],
    ["backup", "create", "--app", "shop"],
    ["status", "--record", "--app", "blog"],
    ["report"],
)


@pytest.mark.parametrize(
    ("calls", "commands"),
    [
        ("fcntl", COMMANDS[:1]),
        pytest.param("flock fcntl mmap", COMMANDS, marks=pytest.mark.needs_extension("fleet", "reports")),
    ],
)
def test_no_command_fails(run, calls, commands):
    """Each write waits for locks that it never gets, so with one call fewer, only one command runs."""
    for words in commands:
        _, errors = run(calls, *words)
        assert errors.count("this run is not recorded") <= 1


@pytest.mark.needs_extension("fleet", "reports")
@pytest.mark.parametrize("calls", ["flock", "mmap"])
def test_runs_are_recorded_when_they_end(run, calls):
    for words in COMMANDS:
        _, errors = run(calls, *words)
        assert "this run is not recorded" not in errors
    runs = run(calls, "runs", "list")[0]["data"]["items"]
    assert [(item["command"], item["result"]) for item in runs] == [
        ("backup create", "ok"),
        ("backup create", "ok"),
        ("data set", "ok"),
    ]
