"""Backups of an app that has several databases, one of which cannot be saved."""

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
def three(tmp_path, monkeypatch, answer):
    """Three files of one app; what they are called."""
    monkeypatch.chdir(tmp_path)
    tables = "".join(
        f'[databases.{name}]\nengines = ["sqlite"]\nfind = ["{name}.db"]\nneeds = ["t"]\n' for name in NAMES
    )
    Path("three.toml").write_text(PROFILE + tables)
    for name in NAMES:
        with closing(sqlite3.connect(f"{name}.db")) as db, db:
            db.execute("create table t (a integer primary key, b text unique)")
            db.executemany("insert into t (b) values (?)", [(f"{number:0500}",) for number in range(60)])
    answer("init", "./three.toml", ".", "--app", "three")
    return [Path(f"{name}.db") for name in NAMES]


def damage(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4096)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:2048])


def make_other(path):
    path.write_text("no database")


@pytest.mark.parametrize(
    ("spoil", "encrypted"),
    [(Path.unlink, False), (damage, False), (cut_off, False), (make_other, False), (damage, True)],
)
def test_one_that_cannot_be_saved_keeps_the_others_from_nothing_and_is_named(three, answer, spoil, encrypted):
    if encrypted:
        config = Path("dbctl.toml")
        identity = x25519.Identity.generate()
        Path("identity").write_text(str(identity))
        Path("identity").chmod(0o600)
        recipients = f'recipients = ["{identity.to_public()}"]\nidentity_file = "identity"\n'
        config.write_text(f"{config.read_text()}[apps.three.backup.encrypt]\n{recipients}")
    complete = answer("backup", "create")["data"]["id"]
    spoil(three[1])
    made = answer("backup", "create", status=12)
    lacking = made["data"]
    assert (lacking["databases"], lacking["complete"]) == (["first", "third"], False)
    (left,) = lacking["left_out"]
    assert (left["database"], left["failed"]) == ("second", True)
    assert any("three/second is not in the backup" in warning for warning in made["warnings"])
    named = {one["file"] for one in lacking["members"]}
    assert {path.name for path in Path("backups/three", lacking["id"]).iterdir()} == {*named, "manifest.json"}

    # It is sound, and counts for what it holds alone.
    findings = answer("backup", "verify", "--deep")["data"]["findings"]
    assert [(one["code"], one["target"]) for one in findings] == [("backup-lacks-database", "three/second")]
    status = answer("backup", "status")["data"]["databases"]
    newest = {one["database"]: one["newest"] for one in status}
    assert newest == {"first": lacking["id"], "second": complete, "third": lacking["id"]}
    assert "lacks it" in {one["database"]: one["due"] for one in status}["second"]["create"]
    assert answer("backup", "show", "latest")["data"]["id"] == complete
    assert answer("backup", "show", "latest", "--db", "first")["data"]["id"] == lacking["id"]
    assert answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"] == []

    restored = answer("restore", "apply", lacking["id"], "--yes")["data"]
    assert [one["database"] for one in restored["databases"]] == ["first", "third"]
    assert "three/second" in [one["target"] for one in restored["findings"]]
    answer("restore", "apply", "latest", "--db", "second", "--yes")
    whole = answer("backup", "create")["data"]
    assert whole["complete"]
    assert complete in answer("backup", "prune", "--keep-last", "1", "--yes")["data"]["deleted"]


def test_a_backup_without_any_database_is_not_made(three, answer):
    for path, spoil in zip(three, (make_other, damage, Path.unlink), strict=True):
        spoil(path)
    assert answer("backup", "create", status=None)["exit_code"] in (4, 10)
    assert not list(Path("backups").glob("*/*/manifest.json"))


def test_one_that_is_meant_alone_says_nothing_of_the_others(three, answer):
    damage(three[1])
    assert "Nothing of" not in answer("backup", "create", "--db", "second", status=4)["error"]["message"]


def test_a_list_may_be_of_one_kind_alone(three, answer):
    def listed(*words):
        return {one["kind"]: one["id"] for one in answer("backup", "list", *words)["data"]["items"]}

    made = answer("backup", "create")["data"]["id"]
    safety = answer("restore", "apply", made, "--db", "first", "--yes")["data"]["safety_backup"]
    assert listed() == {"backup": made, "safety": safety}
    assert listed("--kind", "safety") == {"safety": safety}
    assert listed("--kind", "backup", "--db", "third") == {"backup": made}
    assert listed("--kind", "safety", "--db", "third") == {}
    assert listed("--kind", "partial") == {}
    answer("backup", "list", "--kind", "odd", status=2)
