"""Restores of an app whose databases are kept by different engines: where one fails, all are as they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl import signals
from tests import servers
from tests.caching import postgresql_database
from tests.databases import File, MySQL, PostgreSQL
from tests.services import promptvault_app
from tests.services.restore.test_apply import at_move, stop  # noqa: F401 - a fixture

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


@pytest.fixture(params=["postgresql", "mysql"])
def pair(request, tmp_path, monkeypatch, answer):
    """The two databases of an app, in the order in which they are restored."""
    monkeypatch.chdir(tmp_path)
    Path("pair.toml").write_text(PROFILE)
    on_postgresql = request.param == "postgresql"
    given = postgresql_database() if on_postgresql else servers.mysql_database()
    with given as url:
        main = PostgreSQL(url) if on_postgresql else MySQL(url)
        side = File(tmp_path / "side.db")
        for one in (main, side):
            one.run("create table t (a integer)", "insert into t values (1)")
        answer("init", "./pair.toml", ".", "--app", "pair", "--url", f"main={main.url}")
        yield main, side


def test_an_undo_that_fails_leaves_what_it_was_to_bring_back(pair, answer):
    answer("backup", "create")
    for one in pair:
        one.run("insert into t values (2)")
    changed = [one.content() for one in pair]
    answer("restore", "apply", "latest", "--yes")
    restored = [one.content() for one in pair]
    assert restored != changed
    with closing(sqlite3.connect("side.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        for _ in range(2):
            failed = answer("restore", "undo", "--yes", "--timeout", "0", status=11)
            assert "pair/side is locked" in failed["error"]["message"]
            assert [one.content() for one in pair] == restored
    answer("restore", "undo", "--yes")
    assert [one.content() for one in pair] == changed
    answer("restore", "undo", "--yes")
    assert [one.content() for one in pair] == restored


def test_a_signal_that_comes_when_all_is_restored_does_not_make_it_look_interrupted(pair, answer, stop):  # noqa: F811 - a fixture
    answer("backup", "create")
    backed_up = [one.content() for one in pair]
    moves = list[int]()
    promptvault_app.apply(Path("side.db"), advance=moves.append)
    for one in pair:
        one.run("insert into t values (2)")
    restored = promptvault_app.apply(Path("side.db"), advance=at_move(len(moves), stop))
    assert signals._received
    assert (restored.exit_status, [one.way for one in restored.databases]) == (0, ["swapped", "in place"])
    assert [one.content() for one in pair] == backed_up
