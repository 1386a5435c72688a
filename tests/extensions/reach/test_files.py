"""Files of SQLite and folders of LanceDB behind routes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest


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
