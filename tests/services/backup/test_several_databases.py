"""Backups of an app with several databases, one of which cannot be backed up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pyrage import x25519

PROFILE = """
schema = "dbctl.profile/1"
name = "three"
title = "Three"
"""
NAMES = ("first", "second", "third")


@pytest.fixture
def database_files(tmp_path, monkeypatch, answer):
    """The three database files of an app."""
    monkeypatch.chdir(tmp_path)
    tables = "".join(
        f'[databases.{name}]\nengines = ["sqlite"]\nfind = ["{name}.db"]\nneeds = ["t"]\n' for name in NAMES
    )
    Path("three.toml").write_text(PROFILE + tables)
    for name in NAMES:
        with closing(sqlite3.connect(f"{name}.db")) as db, db:
            db.execute("create table t (a integer primary key, b text unique)")
            db.executemany("insert into t (b) values (?)", [(f"{index:0500}",) for index in range(60)])
    answer("init", "./three.toml", ".", "--app", "three")
    return [Path(f"{name}.db") for name in NAMES]


def damage(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4096)


def truncate(path):
    path.write_bytes(path.read_bytes()[:2048])


def replace_with_text(path):
    path.write_text("no database")


@pytest.mark.parametrize(
    ("break_database", "encrypted"),
    [(Path.unlink, False), (damage, False), (truncate, False), (replace_with_text, False), (damage, True)],
)
def test_unreadable_database_does_not_prevent_backup_of_others(
    database_files, answer, break_database, encrypted
):
    if encrypted:
        config = Path("dbctl.toml")
        identity = x25519.Identity.generate()
        Path("identity").write_text(str(identity))
        Path("identity").chmod(0o600)
        recipients = f'recipients = ["{identity.to_public()}"]\nidentity_file = "identity"\n'
        config.write_text(f"{config.read_text()}[apps.three.backup.encrypt]\n{recipients}")
    complete = answer("backup", "create")["data"]["id"]
    break_database(database_files[1])
    result = answer("backup", "create", status=12)
    incomplete = result["data"]
    assert (incomplete["databases"], incomplete["complete"]) == (["first", "third"], False)
    (omitted,) = incomplete["left_out"]
    assert (omitted["database"], omitted["failed"]) == ("second", True)
    assert any("three/second is not in the backup" in warning for warning in result["warnings"])
    files = {member["file"] for member in incomplete["members"]}
    assert {path.name for path in Path("backups/three", incomplete["id"]).iterdir()} == {
        *files,
        "manifest.json",
    }

    # The incomplete backup is valid, and the latest one of the databases that it contains.
    findings = answer("backup", "verify", "--deep")["data"]["findings"]
    assert [(finding["code"], finding["target"]) for finding in findings] == [
        ("backup-lacks-database", "three/second")
    ]
    status = answer("backup", "status")["data"]["databases"]
    newest = {database["database"]: database["newest"] for database in status}
    assert newest == {"first": incomplete["id"], "second": complete, "third": incomplete["id"]}
    assert "lacks it" in {database["database"]: database["due"] for database in status}["second"]["create"]
    assert answer("backup", "show", "latest")["data"]["id"] == complete
    assert answer("backup", "show", "latest", "--db", "first")["data"]["id"] == incomplete["id"]
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == []

    restored = answer("restore", "apply", incomplete["id"], "--yes")["data"]
    assert [database["database"] for database in restored["databases"]] == ["first", "third"]
    assert "three/second" in [finding["target"] for finding in restored["findings"]]
    answer("restore", "apply", "latest", "--db", "second", "--yes")
    complete_backup = answer("backup", "create")["data"]
    assert complete_backup["complete"]
    assert complete in answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"]


def test_backup_without_any_database_is_not_created(database_files, answer):
    for path, break_database in zip(database_files, (replace_with_text, damage, Path.unlink), strict=True):
        break_database(path)
    assert answer("backup", "create", status=None)["exit_code"] in (4, 10)
    assert not list(Path("backups").glob("*/*/manifest.json"))


def test_error_for_selected_database_does_not_mention_others(database_files, answer):
    damage(database_files[1])
    assert "No backup of" not in answer("backup", "create", "--db", "second", status=4)["error"]["message"]


def test_list_can_be_restricted_to_one_kind(database_files, answer):
    def list_ids(*args):
        return {backup["kind"]: backup["id"] for backup in answer("backup", "list", *args)["data"]["items"]}

    backup = answer("backup", "create")["data"]["id"]
    safety = answer("restore", "apply", backup, "--db", "first", "--yes")["data"]["safety_backup"]
    assert list_ids() == {"backup": backup, "safety": safety}
    assert list_ids("--kind", "safety") == {"safety": safety}
    assert list_ids("--kind", "backup", "--db", "third") == {"backup": backup}
    assert list_ids("--kind", "safety", "--db", "third") == {}
    assert list_ids("--kind", "partial") == {}
    answer("backup", "list", "--kind", "odd", status=2)
