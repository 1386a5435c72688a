"""Ends of the audit log outside of the event store, on the command line, and state directories that cannot be written."""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.cli.main import main
from dbctl.services.backup import manifest as backup_manifest
from tests.small_disk import fill

CONFIGURATION = '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\nbackup.repository = "backups"\n'
SET = ("data", "set", "posts", "1")


@pytest.fixture
def blog(tmp_path, monkeypatch):
    """An app with one table, and a directory for state."""
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text); insert into posts values (1, 'a');"
        )
    configure(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


def configure(blog, text):
    (blog / "dbctl.toml").write_text(f"[audit]\n{text}\n{CONFIGURATION}")


def read_title(blog):
    with closing(sqlite3.connect(blog / "blog.db")) as connection:
        return connection.execute("select title from posts").fetchone()[0]


def read_end(blog):
    """Return the end that is stored outside: of the last record that waited for the disk."""
    return (blog / "state" / "audit.anchor").read_text().splitlines()[0]


def read_codes(answer, *words, status=4):
    return [item["code"] for item in answer("audit", "verify", *words, status=status)["data"]["findings"]]


def edit_log(state, *statements):
    with closing(sqlite3.connect(state / "events.sqlite")) as connection, connection:
        connection.executescript("drop trigger changes_update; drop trigger changes_delete;")
        for statement in statements:
            connection.execute(statement)


def delete_log(state):
    for path in [*state.glob("events.sqlite*"), state / "audit.anchor"]:
        path.unlink()


def cut_log(state):
    """Delete the newest operation everywhere in the directory for state."""
    edit_log(
        state,
        "delete from changes where seq > 3",
        "update runs set record = json_remove(cast(record as text), '$.audit')",
    )
    (state / "audit.anchor").unlink()


def test_each_change_replaces_the_anchor_file(answer, blog):
    ends = []
    for title in "yz":
        answer(*SET, f"title={title}")
        ends.append((blog / "state" / "audit.anchor").read_text())
        records = answer("audit", "export", "-o", "json")["data"]["items"]
        intent, outcome = records[-2:]  # of which the disk has the former
        run = answer("runs", "list", "--limit", "1")["data"]["items"][0]
        assert run["audit"] == f"{outcome['sequence']}:{outcome['hash']}:{records[0]['store']}"
        assert ends[-1] == f"{intent['sequence']}:{intent['hash']}:{records[0]['store']}\n{run['audit']}\n"
    assert len(set(ends)) == 2
    assert (blog / "state" / "audit.anchor").stat().st_mode & 0o777 == 0o600


def test_manifest_finds_a_tail_that_was_cut_together_with_the_anchor_file(answer, blog):
    answer(*SET, "title=y")
    answer(*SET, "title=z")
    answer("backup", "create")
    assert read_codes(answer, status=0) == []
    cut_log(blog / "state")
    assert read_codes(answer) == ["audit-truncated"]


def test_manifest_finds_a_store_that_was_deleted_and_replaced(answer, blog):
    answer(*SET, "title=y")
    answer("backup", "create")
    delete_log(blog / "state")
    assert read_codes(answer) == ["audit-missing"]
    answer(*SET, "title=z")
    assert read_codes(answer) == ["audit-replaced"]


def test_manifest_has_the_directory_of_a_log_that_is_not_utf8(answer, blog, monkeypatch):
    state = blog / os.fsdecode(b"\xff")
    monkeypatch.setenv("DBCTL_STATE", str(state))
    answer(*SET, "title=y")
    answer("backup", "create")
    delete_log(state)
    assert read_codes(answer) == ["audit-missing"]


@pytest.mark.parametrize("change", [{"host": "other"}, {"folder": "/var/lib/other"}])
def test_manifest_of_another_log_is_not_compared(answer, blog, change):
    answer(*SET, "title=y")
    answer("backup", "create")
    (path,) = blog.glob("backups/**/manifest.json")
    manifest = backup_manifest.parse(path.read_bytes())
    assert (manifest.host, manifest.audit.folder) == (os.uname().nodename, str(blog / "state"))
    end = structs.replace(manifest.audit, **change) if "folder" in change else manifest.audit
    host = change.get("host", manifest.host)
    path.chmod(0o600)
    path.write_text(backup_manifest.serialize(structs.replace(manifest, host=host, audit=end)))
    delete_log(blog / "state")
    assert read_codes(answer, status=0) == []


def test_backup_without_a_log_has_no_anchor(answer, blog):
    answer("backup", "create")
    (path,) = blog.glob("backups/**/manifest.json")
    assert backup_manifest.parse(path.read_bytes()).audit is None
    assert json.loads(path.read_text())["backup"].get("audit") is None


def test_repository_that_cannot_be_read_is_a_warning(answer, blog):
    answer(*SET, "title=y")
    (blog / "backups").mkdir()
    (blog / "backups" / "blog").write_text("no directory")
    assert read_codes(answer, status=0) == ["audit-unanchored"]


def test_configured_program_reads_the_end_after_each_change(answer, blog):
    (blog / "store.sh").write_text('#!/bin/sh\nread end; echo "$1 $end" >> "$0.log"\n')
    (blog / "store.sh").chmod(0o755)
    configure(blog, 'anchor_command = ["./store.sh", "dbctl"]')
    answer(*SET, "title=y")
    answer(*SET, "title=y")  # nothing changes
    answer("data", "rows", "posts")
    first = read_end(blog)
    answer(*SET, "title=z")
    assert (blog / "store.sh.log").read_text() == f"dbctl {first}\ndbctl {read_end(blog)}\n"


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent/program"])
def test_failed_program_is_a_warning(answer, blog, program, capsys):
    configure(blog, f'anchor_command = ["{program}"]\nrequired = true')
    capsys.readouterr()
    assert main([*SET, "title=y"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("the end of the audit log was not stored") == 1
    assert read_title(blog) == "y"


@pytest.mark.parametrize("value", ['[""]', '[" "]', "1"])
def test_program_without_a_name_is_refused(answer, blog, value):
    configure(blog, f"anchor_command = {value}")
    assert answer("status", status=2)["error"]["code"] == "config-invalid"


def test_system_log_gets_the_end(answer, blog):
    path = Path("/dev/log")
    if os.geteuid() or os.path.lexists(path):
        pytest.skip("the socket of the system log exists, or cannot be created")
    configure(blog, "syslog = true")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(path))
        try:
            receiver.settimeout(10)
            answer(*SET, "title=y")
            while "dbctl: audit" not in (line := receiver.recv(1000).decode()):
                pass  # of another program
        finally:
            path.unlink()
    assert line.rstrip("\0").endswith(f"dbctl: audit {read_end(blog)}")


def test_ends_of_the_system_log_are_compared(answer, blog, monkeypatch):
    text = ""
    for title in "yz":
        answer(*SET, f"title={title}")
        text += f"Nov 24 07:00:00 db1 dbctl[812]: audit {answer('audit', 'verify')['data']['anchor']}\nother: 12:abc\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_codes(answer, "--anchor", "-", status=0) == []
    cut_log(blog / "state")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_codes(answer, "--anchor", "-") == ["audit-truncated"]
    monkeypatch.setattr("sys.stdin", io.StringIO("nothing"))
    answer("audit", "verify", "--anchor", "-", status=2)


@pytest.mark.needs_extension("fleet")
def test_end_of_a_fleet_is_stored_once(answer, blog):
    (blog / "store.sh").write_text('#!/bin/sh\ncat >> "$0.log"\n')
    (blog / "store.sh").chmod(0o755)
    configure(blog, 'anchor_command = ["./store.sh"]')
    with (blog / "dbctl.toml").open("a") as file:
        file.write('[apps.shop]\nprofile = "plain"\ndatabases = "shops/*.db"\n')
    (blog / "shops").mkdir()
    for index in range(4):
        with closing(sqlite3.connect(blog / f"shops/s{index}.db")) as connection:
            connection.execute("create table posts (id integer primary key)")
    answer("maintain", "vacuum", "--app", "shop", "--jobs", "2")
    anchor = answer("audit", "verify")["data"]["anchor"]
    assert (blog / "store.sh.log").read_text() == f"{anchor}\n"
    assert read_end(blog) == anchor


@pytest.mark.needs_extension("fleet")
def test_instances_that_cannot_be_used_do_not_prevent_the_verification(answer, blog):
    answer(*SET, "title=b")
    (blog / "shop").mkdir()
    sqlite3.connect(blog / "shop/-x.db").close()
    messages = []
    for name in ("shop", "gone"):
        with (blog / "dbctl.toml").open("a") as file:
            file.write(f'[apps.{name}]\nprofile = "plain"\ndatabases = "{name}/*.db"\n')
            file.write(f'[apps.{name}.backup]\nrepository = "backups"\n')
        findings = answer("audit", "verify")["data"]["findings"]
        messages.append([finding["message"] for finding in findings])
    assert messages[0] == []
    assert "gone" in messages[1][0]


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("is_required", [False, True])
def test_change_with_a_state_directory_that_cannot_be_written(
    answer, blog, disk, monkeypatch, state, is_required
):
    monkeypatch.setenv("DBCTL_STATE", str(disk / "state"))
    configure(blog, f"required = {str(is_required).lower()}")
    answer(*SET, "title=b")
    if state == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    if is_required:
        assert answer(*SET, "title=c", status=10)["error"]["code"] == "audit-unavailable"
    else:
        answer(*SET, "title=c")
    assert read_title(blog) == ("b" if is_required else "c")
    if state == "full":
        (disk / "filler").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    answer(*SET, "title=d")
    has_gap = state == "full" and not is_required  # a read-only file system has no empty file either
    assert read_codes(answer, status=0) == (["audit-gap"] if has_gap else [])
    assert [item["result"] for item in answer("audit", "list")["data"]["items"]] == ["committed"] * 2
