"""Files and folders in volumes of containers, which are paths of this machine with the same locks."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path):
    """Provide the folder that the container has as ``/data``, with a database in WAL mode."""
    folder = tmp_path / "host"
    folder.mkdir()
    create_database(folder / "app.db")
    return folder


@pytest.fixture
def container(podman, data):
    return podman.app(data)


def create_database(path, name="one"):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (id integer primary key, name text)")
        connection.execute("insert into t values (1, ?)", [name])


def configure(tmp_path, via, path="/data/app.db", engine="sqlite"):
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\ndatabases.main = {{ url = "{engine}:{path}", via = "{via}" }}\n'
        'backup.repository = "backups"\n'
    )


def read_names(dbctl):
    rows = json.loads(dbctl("data", "rows", "t", "-o", "json").stdout)
    return [row["name"] for row in rows["data"]["items"]]


@pytest.mark.parametrize("kind", ["docker", "podman", "compose"])
def test_file_in_a_volume_is_that_of_the_container(dbctl, container, tmp_path, kind):
    project = container.name.removesuffix("-app-1")
    configure(tmp_path, f"compose:{project}/app" if kind == "compose" else f"{kind}:{container.name}")
    assert read_names(dbctl) == ["one"]
    dbctl("data", "set", "t", "1", "name=two", "--yes")
    assert container.execute("sqlite3", "/data/app.db", "select name from t").strip() == "two"
    container.execute("sqlite3", "/data/app.db", "update t set name = 'three'")
    assert read_names(dbctl) == ["three"]


def test_backup_restore_and_drill(dbctl, container, tmp_path):
    configure(tmp_path, f"docker:{container.name}")
    dbctl("backup", "create")
    container.execute("sqlite3", "/data/app.db", "update t set name = 'changed'")
    dbctl("restore", "apply", "latest", "--yes")
    assert container.execute("sqlite3", "/data/app.db", "select name from t").strip() == "one"
    dbctl("backup", "drill")


def test_writers_on_both_sides_respect_locks(dbctl, container, data, tmp_path):
    configure(tmp_path, f"docker:{container.name}")
    with closing(sqlite3.connect(data / "app.db", isolation_level=None)) as writer:
        writer.execute("begin immediate")
        text = "pragma busy_timeout = 0; begin immediate;"
        busy = container.podman.run(
            "exec", "-i", container.name, "sqlite3", "-bail", "/data/app.db", text=text, status=None
        )
        assert "locked" in busy.stderr
    script = "begin immediate; update t set name = 'container';\n.shell touch /data/locked; sleep 4\ncommit;"
    container.podman.run(
        "exec",
        "--detach",
        container.name,
        "sh",
        "-c",
        'printf "%s" "$1" | sqlite3 /data/app.db',
        "sh",
        script,
    )
    while not (data / "locked").exists():
        pass
    refused = dbctl("data", "set", "t", "1", "name=dbctl", "--yes", "--timeout", "0", status=11)
    assert "locked" in refused.stderr
    dbctl("data", "set", "t", "1", "name=dbctl", "--yes", "--timeout", "30")
    assert read_names(dbctl) == ["dbctl"]


def test_stopped_container(dbctl, container, tmp_path):
    configure(tmp_path, f"docker:{container.name}")
    container.stop()
    dbctl("data", "set", "t", "1", "name=two", "--yes")
    assert read_names(dbctl) == ["two"]
    project = container.name.removesuffix("-app-1")
    configure(tmp_path, f"compose:{project}/app")
    assert read_names(dbctl) == ["two"]


def test_file_outside_of_a_volume_is_refused(dbctl, container, tmp_path):
    container.execute("sqlite3", "/srv.db", "create table t (id integer primary key, name text)")
    configure(tmp_path, f"docker:{container.name}", "/srv.db")
    assert "no volume" in dbctl("data", "rows", "t", status=10).stderr


def test_links_are_those_of_the_container(dbctl, container, data, tmp_path):
    (data / "link.db").symlink_to("/data/app.db")
    (data / "folder").symlink_to("/data")
    for path in ("/data/link.db", "/data/folder/app.db", "/data/../data/app.db"):
        configure(tmp_path, f"docker:{container.name}", path)
        assert read_names(dbctl) == ["one"]
    create_database(tmp_path / "decoy.db", "decoy")
    (data / "outside.db").symlink_to(tmp_path / "decoy.db")
    configure(tmp_path, f"docker:{container.name}", "/data/outside.db")
    dbctl("data", "rows", "t", status=10)
    container.stop()
    dbctl("data", "rows", "t", status=10)
    configure(tmp_path, f"docker:{container.name}", "/data/app.db")
    assert read_names(dbctl) == ["one"]


def test_mounted_single_file_is_refused(dbctl, container, data, tmp_path, podman):
    podman.run(
        "run",
        "--detach",
        "--name",
        f"{container.name}-x",
        "--network=none",
        "--volume",
        f"{data / 'app.db'}:/data/app.db",
        container.image,
    )
    try:
        configure(tmp_path, f"docker:{container.name}-x")
        assert "mount of its own" in dbctl("data", "rows", "t", status=10).stderr
    finally:
        podman.run("rm", "--force", "--time", "0", f"{container.name}-x")


def test_missing_file_and_missing_container(dbctl, container, tmp_path):
    configure(tmp_path, f"docker:{container.name}", "/data/missing.db")
    assert "file not found" in dbctl("data", "rows", "t", status=10).stderr
    assert not (tmp_path / "host/missing.db").exists()
    configure(tmp_path, "docker:nowhere")
    dbctl("data", "rows", "t", status=10)


def test_folder_of_lancedb_in_a_volume(dbctl, container, data, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    lancedb.connect(str(data / "vectors")).create_table("t", [{"id": 1, "name": "one"}])
    configure(tmp_path, f"docker:{container.name}", "/data/vectors", engine="lancedb")
    assert read_names(dbctl) == ["one"]
    dbctl("backup", "create")


def test_commands_that_open_nothing_run_no_program(dbctl, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (programs / "docker").chmod(0o755)
    configure(tmp_path, "docker:shop")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    for words in (["apps", "list"], ["apps", "show"], ["config", "validate"], ["schedule", "cron"]):
        dbctl(*words, environment=environment)
        assert not (tmp_path / "called").exists(), words
    dbctl("data", "rows", "t", status=10, environment=environment)
    assert (tmp_path / "called").exists()


def test_messages_show_the_configured_address(dbctl, container, tmp_path):
    configure(tmp_path, f"docker:{container.name}")
    assert f"sqlite:/data/app.db?via=docker:{container.name}" in dbctl("apps", "show").stdout


def test_container_of_another_machine_is_read_from_a_copy(
    dbctl, container, podman, ssh_hosts, tmp_path, monkeypatch
):
    ssh_hosts.bastion.set_environment({"PATH": os.environ["PATH"], **podman.environment})
    for name in podman.environment:  # this machine has no containers
        monkeypatch.delenv(name)
    configure(tmp_path, f"ssh:bastion docker:{container.name}")
    assert read_names(dbctl) == ["one"]
    assert "on another machine" in dbctl("data", "set", "t", "1", "name=x", "--yes", status=6).stderr
    configure(tmp_path, f"ssh:bastion docker:{container.name}", "/srv.db")
    assert "no volume" in dbctl("data", "rows", "t", status=10).stderr
