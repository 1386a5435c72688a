"""Backups of an app that has several databases, one of which cannot be saved."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

PROFILE = """
schema = "dbctl.profile/1"
name = "three"
title = "Three"
"""
NAMES = ("first", "second", "third")
NOTHING = "Nothing of three was saved"


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


def test_one_that_is_missing_or_damaged_says_that_nothing_was_saved_and_how_to_save_the_others(three, answer):
    second = three[1].read_bytes()
    for spoil, status in ((three[1].unlink, 10), (lambda: damage(three[1]), 4)):
        spoil()
        failed = answer("backup", "create", status=status)["error"]
        assert NOTHING in failed["message"]
        assert "first, third can be read" in failed["message"]
        commands = failed["hint"].partition("meanwhile: ")[2].split("; ")
        assert commands == [f"dbctl backup create --db {name}" for name in ("first", "third")]
        assert not list(Path("backups").glob("*/*/manifest.json"))
        three[1].write_bytes(second)
    damage(three[1])
    for command in commands:
        answer(*command.split()[1:])
    saved = [one["databases"] for one in answer("backup", "list")["data"]["items"]]
    assert saved == [["third"], ["first"]]


def test_others_that_cannot_be_read_either_are_told_and_not_said_to_be_well(three, answer):
    three[0].unlink()
    three[2].write_text("no database")
    failed = answer("backup", "create", "--dry-run", status=10)["error"]
    assert "three/third" in failed["message"]
    assert "second can be read" in failed["message"]
    assert failed["hint"].endswith("meanwhile: dbctl backup create --db second")
    three[1].unlink()
    assert "meanwhile" not in answer("backup", "create", status=10)["error"]["hint"]


def test_one_that_is_meant_alone_says_nothing_of_the_others(three, answer):
    damage(three[1])
    assert NOTHING not in answer("backup", "create", "--db", "second", status=4)["error"]["message"]


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
