"""Backups of other programs without the extension: adopted ones are restored, and files are refused with a hint."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.extensions.absence import Remainder
from tests.extensions.adopt.test_files import adopt
from tests.extensions.adopt.test_server_dumps import mysqldump, pg_dump
from tests.services import larder_app

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "shop.db"
[apps.shop.backup]
repository = "backups"
"""


@pytest.fixture(scope="module")
def remainder(tmp_path_factory):
    return Remainder(tmp_path_factory.mktemp("remainder") / "path", "adopt")


@pytest.fixture
def run(tmp_path, remainder):
    """Return a function that runs a command in a folder with an app, a backup of it and a dump of another program."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table orders (id integer primary key)")
        (tmp_path / "shop.sql").write_text("\n".join(connection.iterdump()))
    (tmp_path / "shop.sql").chmod(0o600)
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)

    def run_command(*words):
        return remainder.run(*words, cwd=tmp_path)

    assert run_command("backup", "create").returncode == 0
    return run_command


@pytest.mark.parametrize(
    ("words", "feature"),
    [
        ("restore apply --file shop.sql --dry-run", "reading shop.sql as a backup"),
        ("restore preview --file shop.sql", "reading shop.sql as a backup"),
        ("backup verify shop.sql", "reading shop.sql as a backup"),
        ("backup list --kind foreign", "listing files that dbctl did not create"),
    ],
)
def test_file_is_refused_with_a_hint(run, words, feature):
    refused = run(*words.split())
    assert refused.returncode == 2
    assert f"{feature} is not supported by this installation of dbctl" in refused.stderr
    assert "Its extension is not installed." in refused.stderr


@pytest.mark.slow
def test_backup_folders_of_dbctl_are_listed_verified_and_restored(run):
    (backup,) = json.loads(run("backup", "list", "-o", "json").stdout)["data"]["items"]
    assert run("backup", "verify", backup["path"]).returncode == 0
    assert run("restore", "apply", "--file", backup["path"], "--yes").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "dump"), [("postgresql", pg_dump), ("mysql", mysqldump)])
def test_adopted_dump_of_a_server_is_restored(tmp_path, remainder, engine, dump):
    with larder_app.open_pantry(engine, tmp_path / "app") as pantry:
        before = pantry.content()
        (adopted,) = adopt(pantry.path, dump(pantry, tmp_path / "backup_20260105_030000.sql")).adopted
        pantry.change_data()
        restored = remainder.run("restore", "apply", adopted.id, "--replace", "--yes", cwd=pantry.path.parent)
        assert (restored.returncode, pantry.content()) == (0, before), restored.stderr
