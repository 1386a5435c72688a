"""Files of other programs: an old one is no evidence about the clock, and an encrypted one is decrypted."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing

import pyrage
import pytest

from dbctl.errors.base import Exit


@pytest.fixture
def shop(tmp_path, answer):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("create table items (id integer primary key, name text)")
        db.execute("insert into items values (1, 'first')")
    config = tmp_path / "dbctl.toml"
    config.write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "shop.db"\n'
        '[apps.shop.backup]\nrepository = "backups"\nkeep = { within = "1d" }\n'
    )

    def run(*words, status=0):
        return answer("--config", str(config), *map(str, words), status=status)

    return run


def read_items(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select name from items").fetchall()


def test_adopted_backup_is_no_evidence_about_the_clock(shop, tmp_path):
    (tmp_path / "old.db").write_bytes((tmp_path / "shop.db").read_bytes())
    shop("backup", "adopt", tmp_path / "old.db", "--at", "2024-01-01T00:00Z")
    shop("backup", "create")
    codes = [finding["code"] for finding in shop("doctor", status=None)["data"]["findings"]]
    assert "clock-implausible" not in codes
    deleted = shop("backup", "prune", "--yes")["data"]["deleted"]
    assert [name[:4] for name in deleted] == ["2024"]


@pytest.fixture
def encrypted(tmp_path):
    """A compressed and encrypted copy of the database, and its key."""
    key = pyrage.x25519.Identity.generate()
    file, identity = tmp_path / "shop_20260105.db.gz.age", tmp_path / "key.txt"
    content = gzip.compress((tmp_path / "shop.db").read_bytes())
    file.write_bytes(pyrage.encrypt(content, [key.to_public()]))
    identity.write_text(str(key))
    identity.chmod(0o600)
    return file, identity


def test_encrypted_file_is_decrypted_with_the_identity(shop, tmp_path, encrypted):
    file, identity = encrypted
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("update items set name = 'changed'")
    shop("restore", "preview", "--file", file, "--identity", identity)
    shop("backup", "verify", file, "--identity", identity)
    shop("restore", "apply", "--file", file, "--identity", identity, "--yes")
    assert read_items(tmp_path / "shop.db") == [("first",)]
    assert not list(tmp_path.rglob("*decrypted*"))


def test_encrypted_file_needs_the_right_identity(shop, tmp_path, encrypted):
    file, identity = encrypted
    error = shop("restore", "apply", "--file", file, "--yes", status=None)["error"]
    assert "--identity" in error["hint"]
    identity.write_text(str(pyrage.x25519.Identity.generate()))
    command = ["restore", "apply", "--file", file, "--identity", identity, "--yes"]
    result = shop(*command, status=None)
    assert (result["exit_code"] != Exit.OK, result["error"]["code"]) == (True, "key-wrong")
    assert read_items(tmp_path / "shop.db") == [("first",)]
