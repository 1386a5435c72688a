"""Files of SQLite and folders of LanceDB behind routes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing

import pytest

from tests.small_disk import disk

__all__ = ["disk"]  # a fixture


@pytest.fixture
def decoy(tmp_path):
    """Provide a database of this machine, which no command for the same path of another machine may use."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (id integer primary key, name text)")
        connection.execute("insert into t values (1, 'local')")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["data", "rows", "t"],
        ["data", "set", "t", "1", "name=x", "--yes"],
        ["backup", "create"],
        ["migrate", "status"],
        ["stats", "overview"],
        ["restore", "recover"],
        ["maintain", "vacuum"],
        ["integrity", "check"],
    ],
)
@pytest.mark.parametrize("engine", ["sqlite", "lancedb"])
def test_path_behind_a_route_is_not_one_of_this_machine(dbctl, decoy, tmp_path, words, engine):
    before = decoy.read_bytes(), sorted(tmp_path.iterdir())
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases.main = {{ url = "{engine}:{decoy}", via = "kubernetes:shop/web" }}\n'
        'backup.repository = "backups"\nmigrations.main = "migrations"\n'
    )
    (tmp_path / "migrations").mkdir()
    refused = dbctl(*words, status=None)
    assert refused.returncode in {2, 10}, refused.stderr
    assert (decoy.read_bytes(), sorted(tmp_path.glob("app.db*"))) == (before[0], [decoy])
    assert not (tmp_path / "backups").exists()


class Remote:
    """A host behind SSH with the database of an app, and its folder for temporary files."""

    def __init__(self, folder, host):
        self.data, self.temporary, self.programs = (folder / name for name in ("data", "tmp", "programs"))
        for path in (self.data, self.temporary, self.programs):
            path.mkdir(parents=True)
        self.path, self.host = self.data / "app.db", host
        self.replace_program("dbctl", "exit 127")  # as without it, also if this machine has one
        self.set_path(os.environ["PATH"])

    def set_path(self, text):
        self.host.set_environment({"PATH": f"{self.programs}:{text}", "TMPDIR": str(self.temporary)})

    def create(self, mode="wal"):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(f"pragma journal_mode = {mode}")
            connection.execute("create table t (id integer primary key, name text)")
            connection.execute("insert into t values (1, 'remote')")

    def replace_program(self, name, script):
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def hide_programs(self, *hidden):
        """Leave only programs of the base system, without some."""
        folder = self.data.parent / "base"
        folder.mkdir()
        names = "sh ls cat mktemp rm cp cksum od tr stat wc gzip sqlite3 readlink dirname".split()
        for name in set(names) - set(hidden):
            (folder / name).symlink_to(shutil.which(name))
        if "python3" not in hidden:
            (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            (folder / "python3").chmod(0o755)
        self.set_path(str(folder))


@pytest.fixture
def remote(ssh_hosts, tmp_path):
    remote = Remote(tmp_path / "remote", ssh_hosts.bastion)
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\nvia = "ssh:bastion"\ndatabases = "{remote.path}"\n'
        'backup.repository = "backups"\nbackup.keep = { last = 1 }\nmigrations.main = "migrations"\n'
    )
    (tmp_path / "migrations").mkdir()
    (tmp_path / "local").mkdir()
    return remote


def read(dbctl, tmp_path, *words, status=0):
    """Run a command whose temporary files are in a folder that it must leave empty."""
    result = dbctl(*words, status=status, environment={"TMPDIR": str(tmp_path / "local")})
    wait_until_empty(tmp_path / "local")
    return result


def wait_until_empty(folder):
    deadline = time.monotonic() + 10
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list(folder.iterdir())


def wait_until_started(folder):
    """Wait for the file by which a replaced program reports its start."""
    deadline = time.monotonic() + 30
    while not (folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_names(dbctl, tmp_path):
    answer = json.loads(read(dbctl, tmp_path, "data", "rows", "t", "-o", "json").stdout)
    assert any("copy of bastion" in warning for warning in answer["warnings"])
    return [row["name"] for row in answer["data"]["items"]]


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("hidden", [(), ("sqlite3",), ("gzip",)])
@pytest.mark.parametrize("is_open", [False, True])
def test_reading_uses_a_copy_that_leaves_nothing(dbctl, remote, tmp_path, mode, hidden, is_open):
    remote.create(mode)
    if hidden:
        remote.hide_programs(*hidden)
    with closing(sqlite3.connect(remote.path)) as connection:
        if is_open:  # in WAL mode, the row is only in the -wal
            with connection:
                connection.execute("update t set name = 'open'")
        files = {path.name: path.read_bytes() for path in remote.data.iterdir() if path.suffix != ".db-shm"}
        assert read_names(dbctl, tmp_path) == ["open" if is_open else "remote"]
        assert files == {
            path.name: path.read_bytes() for path in remote.data.iterdir() if path.suffix != ".db-shm"
        }
    wait_until_empty(remote.temporary)


@pytest.mark.slow
def test_commands_that_read_work(dbctl, remote, tmp_path):
    remote.create()
    (tmp_path / "migrations/001_more.sql").write_text("alter table t add column more text;\n")
    before = remote.path.read_bytes()
    for words in (
        ["backup", "create"], ["backup", "create"], ["backup", "prune", "--yes"], ["backup", "drill"], ["backup", "verify", "--deep"],
        ["backup", "status"], ["stats", "overview"], ["stats", "tables"], ["integrity", "check"], ["status"], ["doctor"],
        ["migrate", "status"], ["data", "set", "t", "1", "name=x", "--dry-run"], ["schema", "show"],
    ):  # fmt: skip
        read(dbctl, tmp_path, *words)
    assert remote.path.read_bytes() == before


@pytest.mark.slow
def test_migrations_are_rehearsed_on_a_copy(dbctl, remote, tmp_path):
    (tmp_path / "migrations/001_t.sql").write_text("create table t (id integer primary key, name text);\n")
    words = ["--profile", "plain", "--url", str(remote.path), "--migrations", "migrations", "--yes"]
    dbctl("migrate", "up", *words)
    (tmp_path / "migrations/002_more.sql").write_text("alter table t add column more text;\n")
    before = remote.path.read_bytes()
    assert "002_more" in read(dbctl, tmp_path, "migrate", "rehearse").stdout
    assert "on another machine" in read(dbctl, tmp_path, "migrate", "up", "--yes", status=6).stderr
    assert remote.path.read_bytes() == before


@pytest.mark.slow
def test_commands_that_write_are_refused(dbctl, remote, tmp_path):
    remote.create()
    read(dbctl, tmp_path, "backup", "create")
    before = remote.path.read_bytes()
    for words in (
        ["data", "set", "t", "1", "name=x"], ["data", "delete", "t", "1"], ["maintain", "vacuum"],
        ["restore", "apply", "latest"],
    ):  # fmt: skip
        refused = read(dbctl, tmp_path, *words, "--yes", status=6)
        assert "on another machine" in refused.stderr
    assert remote.path.read_bytes() == before
    assert [path.name for path in remote.data.iterdir()] == ["app.db"]


@pytest.mark.slow
def test_copy_is_consistent_while_a_writer_runs(dbctl, remote, tmp_path):
    with closing(sqlite3.connect(remote.path)) as connection, connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (id integer primary key, name text)")
        connection.execute("create table u (id integer primary key, name text)")
        rows = ((f"{number:0>2000}",) for number in range(5000))
        connection.executemany("insert into t (name) values (?)", rows)
    stop = threading.Event()

    def write():
        with closing(sqlite3.connect(remote.path, timeout=30)) as writer:
            while not stop.is_set():
                with writer:
                    writer.execute("insert into t (name) values ('x')")
                    writer.execute("insert into u (name) values ('x')")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        query = "select (select count(*) from t) - (select count(*) from u) as difference"
        answer = json.loads(read(dbctl, tmp_path, "data", "query", query, "-o", "json").stdout)
        read(dbctl, tmp_path, "integrity", "check")
    finally:
        stop.set()
        thread.join()
    assert answer["data"]["items"] == [{"difference": 5000}]


@pytest.mark.slow
def test_missing_and_unusable_files(dbctl, remote, tmp_path):
    read(dbctl, tmp_path, "data", "rows", "t", status=10)
    remote.path.mkdir()
    read(dbctl, tmp_path, "data", "rows", "t", status=10)
    remote.path.rmdir()
    remote.path.write_text("no database, but long enough to have a header" * 10)
    read(dbctl, tmp_path, "data", "rows", "t", status=4)
    remote.path.unlink()
    remote.create()
    remote.hide_programs("sqlite3", "python3", "cksum")
    refused = read(dbctl, tmp_path, "data", "rows", "t", status=10)
    assert "sqlite3" in refused.stderr
    assert "python3" in refused.stderr
    wait_until_empty(remote.temporary)


def test_locked_file(dbctl, remote, tmp_path):
    remote.create("delete")
    with closing(sqlite3.connect(remote.path, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        read(dbctl, tmp_path, "data", "rows", "t", "--timeout", "0", status=11)


def test_full_disk_of_the_other_machine(dbctl, remote, tmp_path):
    remote.create("delete")
    remote.replace_program("sqlite3", "echo 'Error: database or disk is full' >&2; exit 1")
    refused = read(dbctl, tmp_path, "data", "rows", "t", status=1)
    assert "bastion" in refused.stderr
    wait_until_empty(remote.temporary)


@pytest.mark.slow
def test_full_disk_of_this_machine(dbctl, remote, disk):
    with closing(sqlite3.connect(remote.path)) as connection, connection:
        connection.execute("create table t (id integer primary key, name blob)")
        connection.execute("insert into t (name) values (randomblob(4000000))")
    dbctl("data", "rows", "t", status=1, environment={"TMPDIR": str(disk)})
    wait_until_empty(disk)
    wait_until_empty(remote.temporary)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("program", ["sqlite3", "gzip"])
def test_killed_command_leaves_nothing_on_either_machine(start_dbctl, remote, tmp_path, number, program):
    remote.create("delete")
    remote.replace_program(program, f'touch {tmp_path}/started; [ -z "$copy" ] || :; exec sleep 100')
    process = start_dbctl("data", "rows", "t", environment={"TMPDIR": str(tmp_path / "local")})
    wait_until_started(tmp_path)
    assert list(remote.temporary.iterdir())
    process.send_signal(number)
    process.wait(20)
    wait_until_empty(remote.temporary)
    wait_until_empty(tmp_path / "local")


def test_lost_connection_is_an_error(start, remote, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "local"))
    remote.create("delete")
    # The header of gzip alone: dbctl waits for what follows.
    header = r"printf '\037\213\010\000\000\000\000\000\000\003'"
    remote.replace_program("gzip", f"{header}; touch {tmp_path}/started; exec sleep 100")
    wait = start("data", "rows", "t")
    wait_until_started(tmp_path)
    remote.host.kill_connections()
    status, error, _ = wait()
    assert (status, error["code"]) == (10, "route-lost"), error
    wait_until_empty(tmp_path / "local")
