"""Restores of an app with databases of different engines: a failure in one database reverts all."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl import signals
from tests import servers
from tests.databases import File, MySQL, PostgreSQL
from tests.services import promptvault_app
from tests.services.restore.test_apply import call_at_progress, stop  # noqa: F401

PROFILE = """
schema = "dbctl.profile/1"
name = "pair"
title = "Pair"
[databases.main]
engines = ["postgresql", "mysql"]
[databases.side]
engines = ["sqlite"]
find = ["side.db"]
"""


LINKED = """
schema = "dbctl.profile/1"
name = "linked"
title = "Linked"
[databases.main]
engines = ["sqlite"]
find = ["main.db"]
[databases.side]
engines = ["sqlite"]
find = ["side.db"]
[[link]]
name = "owners of notes"
database = "side"
table = "notes"
column = "owner"
to = "main"
targets = ["owners.id"]
hint = "The owner was deleted."
"""


def test_command_after_the_restore_of_one_database_compares_it_with_the_others(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    Path("linked.toml").write_text(LINKED)
    main, side = File(tmp_path / "main.db"), File(tmp_path / "side.db")
    main.run("create table owners (id integer primary key)", "insert into owners values (1)")
    side.run("create table notes (id integer primary key, owner integer)")
    answer("init", "./linked.toml", ".", "--app", "linked")
    answer("backup", "create")
    main.run("insert into owners values (2)")
    side.run("insert into notes values (1, 2)")
    findings = answer("restore", "apply", "latest", "--db", "main", "--yes")["data"]["findings"]
    (hint,) = (item["hint"] for item in findings if item["code"] == "other-databases-unchanged")
    words = shlex.split(hint)
    compared = answer(*words[words.index("integrity") :], status=None)["data"]["findings"]
    assert [finding["code"] for finding in compared] == ["missing-reference"]


@pytest.fixture(params=["postgresql", "mysql"])
def pair(request, tmp_path, monkeypatch, answer):
    """The two databases of an app, in the order in which they are restored."""
    monkeypatch.chdir(tmp_path)
    Path("pair.toml").write_text(PROFILE)
    on_postgresql = request.param == "postgresql"
    provider = servers.postgresql_database(encoding="UTF8") if on_postgresql else servers.mysql_database()
    with provider as url:
        main = PostgreSQL(url) if on_postgresql else MySQL(url)
        side = File(tmp_path / "side.db")
        for database in (main, side):
            database.run("create table t (a integer)", "insert into t values (1)")
        answer("init", "./pair.toml", ".", "--app", "pair", "--url", f"main={main.url}")
        yield main, side


@pytest.mark.slow
def test_failed_undo_can_be_repeated(pair, answer):
    answer("backup", "create")
    for database in pair:
        database.run("insert into t values (2)")
    changed_content = [database.content() for database in pair]
    answer("restore", "apply", "latest", "--yes")
    restored_content = [database.content() for database in pair]
    assert restored_content != changed_content
    with closing(sqlite3.connect("side.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        for _ in range(2):
            result = answer("restore", "undo", "--yes", "--timeout", "0", status=11)
            assert "pair/side is locked" in result["error"]["message"]
            assert [database.content() for database in pair] == restored_content
    answer("restore", "undo", "--yes")
    assert [database.content() for database in pair] == changed_content
    answer("restore", "undo", "--yes")
    assert [database.content() for database in pair] == restored_content


def test_signal_after_the_last_database_is_ignored(pair, answer, stop):  # noqa: F811
    answer("backup", "create")
    before = [database.content() for database in pair]
    steps = list[int]()
    promptvault_app.apply_restore(Path("side.db"), advance=steps.append)
    for database in pair:
        database.run("insert into t values (2)")
    result = promptvault_app.apply_restore(Path("side.db"), advance=call_at_progress(len(steps), stop))
    assert signals._received
    assert (result.exit_status, [database.strategy for database in result.databases]) == (
        0,
        ["swapped", "in place"],
    )
    assert [database.content() for database in pair] == before
