"""Maintenance of an app with a LanceDB database."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import timedelta

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.databases import MaintenanceUnsafeError
from dbctl.errors.usage import DriverMissingError
from dbctl.services.maintenance import RunMaintenance
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
    from dbctl.services.app.session import open_app

    (tmp_path / "mini.toml").write_text(PROFILE)
    (tmp_path / "dbctl.toml").write_text(APP)
    with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
        connection.execute("create table t (id integer primary key)")
    table = lance.create_table(tmp_path / "lancedb")
    table.add([lance.create_row(99)])
    with open_app(Selection(config=str(tmp_path / "dbctl.toml")), timeout=1) as app:
        yield app


def create_operation(app, kind="vacuum", **options):
    return RunMaintenance(app, kind, **options)


def test_fragments_and_versions_are_reported_before_and_after(mini):
    tasks = {task.target: task for task in create_operation(mini, "optimize").apply().tasks}
    result = tasks["mini/vectors"]
    assert (result.before.fragments, result.after.fragments) == (2, 1)
    assert result.after.versions > result.before.versions
    assert tasks["mini/chat"].before is None


def test_age_option_applies_to_databases_with_versions(mini):
    (step,) = create_operation(mini, older_than=timedelta(hours=2)).plan().steps
    assert "older than 120 minutes" in step
    with pytest.raises(MaintenanceUnsafeError):
        create_operation(mini, older_than=timedelta(seconds=1)).plan()


def test_database_with_missing_driver_is_skipped_and_reported(mini, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    assert create_operation(mini).plan().steps[0] == "chat: VACUUM"
    result = create_operation(mini).apply()
    assert [task.target for task in result.tasks] == ["mini/chat"]
    assert "lancedb" in result.failed[0]
    assert result.exit_status == 12
    assert mini.reader("chat").count("t") == 0
    with pytest.raises(DriverMissingError):
        mini.reader("vectors")
