"""Scheduled cleanups whose rows have dependent rows run unattended only if the configuration allows it."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
from contextlib import closing

import pytest

from dbctl.cli.main import main

PROFILE = """schema = "dbctl.profile/1"
name = "visits"
title = "Visits"
time = "iso-ms"
[databases.main]
engines = ["sqlite"]
[[cleanup]]
name = "expired"
table = "visits"
key = "id"
delete = true
age = { column = "seen_at", older_than = "1d" }
"""
SCHEMA = """create table visits (id integer primary key, seen_at text);
create table notes (id integer primary key, visit integer references visits (id) on delete cascade);
insert into visits values (1, '2020-01-01T00:00:00.000Z'); insert into notes values (1, 1)"""
COMMANDS = [
    ("cron",),
    ("systemd",),
    ("systemd", "--install", "--directory", "units"),
    ("kubernetes",),
    ("compose",),
]


@pytest.fixture
def configure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "visits.toml").write_text(PROFILE)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executescript(SCHEMA)

    def write(text):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.blog]\nprofile = "visits.toml"\n{text.partition("|")[0]}\ndatabases = "app.db"\n'
            f"[apps.blog.schedule]\n{text.partition('|')[2]}\n"
        )

    return write


def count_rows():
    with closing(sqlite3.connect("app.db")) as connection:
        return [
            connection.execute(f"select count(*) from {table}").fetchone()[0] for table in ("visits", "notes")
        ]


@pytest.mark.parametrize("words", COMMANDS)
def test_cleanup_with_dependent_rows_is_refused(configure, answer, words, tmp_path):
    configure("")
    error = answer("schedule", *words, status=6)["error"]
    assert (error["code"], "notes" in error["message"]) == ("cleanup-unconfirmed", True)
    assert "cleanup_dependents = true" in error["hint"]
    assert not (tmp_path / "units").exists()
    answer("sessions", "cleanup", status=6)
    assert count_rows() == [1, 1]
    configure('|cleanup = "off"')
    answer("schedule", *words[:1])


@pytest.mark.parametrize("protected", ["", "protected = true"])
def test_allowed_cleanup_runs_as_cron_runs_it(configure, answer, protected):
    configure(f"{protected}|cleanup_dependents = true")
    lines = answer("schedule", "cron")["data"]["items"]
    (command,) = (line["command"] for line in lines if line["name"] == "cleanup")
    assert ("--confirm blog" if protected else "--yes") in command
    subprocess.run(
        ["/bin/sh", "-c", command],
        check=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "DBCTL_STATE": "off"},
    )
    assert count_rows() == [0, 0]
    for words in COMMANDS:
        answer("schedule", *words)


def test_cleanup_without_dependent_rows_needs_no_permission(configure, answer):
    configure("")
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("drop table notes")
    lines = answer("schedule", "cron")["data"]["items"]
    (command,) = (line["command"] for line in lines if line["name"] == "cleanup")
    assert "--yes" not in shlex.split(command)
    assert main(shlex.split(command)[1:]) == 0


def test_database_that_cannot_be_read_is_not_checked(configure, answer, tmp_path):
    configure("")
    (tmp_path / "app.db").unlink()
    answer("schedule", "cron")
