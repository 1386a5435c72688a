"""Recovery without the extension: a recovered backup is listed and restored, and the section is ignored."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.services.backup import manifest as manifests
from tests.extensions.absence import Remainder

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "shop.db"
[apps.shop.backup]
repository = "backups"
[apps.shop.recovery.databases.main]
base = "bases"
log = "log"
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command in a folder with an app and a backup of the kind recovered."""
    remainder = Remainder(tmp_path / "path", "recover")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table orders (id integer primary key)")
        connection.commit()
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)

    def run_command(*words):
        return remainder.run(*words, cwd=tmp_path)

    assert run_command("backup", "create").returncode == 0
    (file,) = tmp_path.glob("backups/shop/*/manifest.json")
    recovered = structs.replace(manifests.parse(file.read_bytes()), kind="recovered")
    file.write_text(manifests.serialize(recovered))
    return run_command


@pytest.mark.slow
def test_recovered_backup_is_listed_and_restored(run):
    (backup,) = json.loads(run("backup", "list", "--kind", "recovered", "-o", "json").stdout)["data"]["items"]
    assert run("restore", "apply", backup["id"], "--yes").returncode == 0
    assert run("restore", "preview", "latest").returncode == 5  # it is not the latest
    assert Path(backup["path"]).is_dir()


def test_command_is_unknown(run):
    assert run("backup", "recover", "--at", "1h").returncode == 2
