"""A definition that only a newer SQLite can read is not reported as damage."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

NEWER = 9_001_002
#: An aggregate with an order, in a form that no release has.
DEFINITION = "create view names as select string_agg(name order upon id) from t"


def create_database(path, written_by=None):
    """Create a database with a view that this SQLite cannot read; its header names the version that has written it."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "create table t (id integer primary key, name text); insert into t values (1, 'ida');"
            "create view names as select name from t; pragma writable_schema = on;"
        )
        db.execute("update sqlite_master set sql = ? where name = 'names'", [DEFINITION])
        db.commit()
    if written_by:
        with path.open("r+b") as file:
            file.seek(96)
            file.write(written_by.to_bytes(4))
    return path


@pytest.mark.parametrize(
    "command", ["data show t 1", "data set t 1 name=bo --yes", "backup create --repository backups"]
)
def test_definition_of_a_newer_sqlite_is_no_damage(answer, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    damaged, newer = create_database(tmp_path / "damaged.db"), create_database(tmp_path / "newer.db", NEWER)
    before = newer.read_bytes()

    options = ("--profile", "plain", "--url")
    error = answer(*command.split(), *options, f"main={damaged}", status=4)["error"]
    assert error["code"] == "corrupt"

    error = answer(*command.split(), *options, f"main={newer}", status=2)["error"]
    assert error["code"] == "not-supported"
    assert "SQLite 9.1.2 wrote" in error["message"]
    assert sqlite3.sqlite_version in error["message"]
    assert "names" in error["message"]
    assert newer.read_bytes() == before
