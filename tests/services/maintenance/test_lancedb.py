"""Looking after an app of which one database is a folder of tables."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import timedelta

import pytest

from dbctl.config import Selection
from dbctl.errors import DriverMissingError, UpkeepUnsafeError
from dbctl.services.app import app as apps
from dbctl.services.maintenance.tasks import Maintenance
from tests.engines import lance

PROFILE = """schema = "dbctl.profile/1"
name = "mini"
title = "Mini"
time = "sqlite-time"
boolean = "bool-01"
[databases.chat]
engines = ["sqlite"]
[databases.vectors]
engines = ["lancedb"]
keys = { chat_embeddings = ["id", "message_id"] }
"""
APP = """[apps.mini]
profile = "mini.toml"
[apps.mini.databases]
chat = "chat.db"
vectors = "lancedb"
"""


@pytest.fixture
def mini(tmp_path):
    (tmp_path / "mini.toml").write_text(PROFILE)
    (tmp_path / "dbctl.toml").write_text(APP)
    with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
        connection.execute("create table t (id integer primary key)")
    table = lance.made(tmp_path / "lancedb")
    table.add([lance.row(99)])
    with apps.opened(Selection(config=str(tmp_path / "dbctl.toml")), timeout=1) as app:
        yield app


def work(app, kind="vacuum", **more):
    return Maintenance(app, kind, advance=lambda _: None, **more)


def test_parts_and_versions_are_told_before_and_after(mini):
    done = {one.target: one for one in work(mini, "optimize").apply().tasks}
    told = done["mini/vectors"]
    assert (told.before.fragments, told.after.fragments) == (2, 1)
    assert told.after.versions > told.before.versions
    assert done["mini/chat"].before is None


def test_an_age_of_versions_is_for_what_keeps_some(mini):
    (step,) = work(mini, older_than=timedelta(hours=2)).plan().steps
    assert "older than 120 minutes" in step
    with pytest.raises(UpkeepUnsafeError):
        work(mini, older_than=timedelta(seconds=1)).plan()


def test_a_driver_that_is_missing_leaves_its_database_out_and_says_so(mini, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    assert work(mini).plan().steps[0] == "chat: VACUUM"
    done = work(mini).apply()
    assert [one.target for one in done.tasks] == ["mini/chat"]
    assert "lancedb, which is not installed" in done.failed[0]
    assert done.exit_status == 12
    assert mini.reader("chat").count("t") == 0
    with pytest.raises(DriverMissingError):
        mini.reader("vectors")
