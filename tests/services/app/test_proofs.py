"""Proofs of commands in a profile: plans and checks name them, and an app may require them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.services.app.proofs import compute_digest

PROFILE = """\
schema = "dbctl.profile/1"
name = "shop"
title = "Shop"

[databases.main]
engines = ["sqlite"]
needs = ["users"]
migrations = { ledger = "auto" }

[users]
table = "users"
id = { column = "id", codec = "autoincrement" }
login = ["login"]
role = { column = "role", values = ["admin", "guest"] }
admin = "admin"

[users.fields]
login = "login"
active = "active"
"""
SCHEMA = """
    create table users (id integer primary key, login text not null unique, role text not null, active integer not null);
    insert into users values (1, 'ada', 'admin', 1), (2, 'bo', 'guest', 1);
    create table schema_migrations (version varchar(128) primary key);
    insert into schema_migrations values ('20260101120000');
"""
VERSION = "20260101120000"


class Shop:
    """An app whose profile has a proof of ``users deactivate``."""

    def __init__(self, folder, answer) -> None:
        self.database, self.profile, self._answer = folder / "shop.db", folder / "shop.toml", answer
        self.config = folder / "dbctl.toml"
        with closing(sqlite3.connect(self.database)) as db:
            db.executescript(SCHEMA)
        self.write_proof()
        self.configure()

    def write_proof(self, *, text: str = PROFILE, ledger: str = VERSION) -> None:
        digest = compute_digest(PROFILE, "deactivate")
        proof = f'at = "2026-11-25", ledger = "{ledger}", recordings = 1, rows = 1, digest = "{digest}"'
        self.profile.write_text(f"{text}\n[proven]\ndeactivate = {{ {proof} }}\n")

    def configure(self, *lines: str) -> None:
        keys = ['profile = "shop.toml"', 'databases = "shop.db"', *lines]
        self.config.write_text("\n".join(["[apps.shop]", *keys]))

    def run(self, *words: str, status: int | None = 0) -> dict:
        return self._answer(*words, "--config", str(self.config), status=status)

    def list_codes(self, *words: str) -> dict[str, str]:
        findings = self.run(*words, status=None)["data"]["findings"]
        return {finding["code"]: finding["message"] for finding in findings}


@pytest.fixture
def shop(tmp_path, answer):
    return Shop(tmp_path, answer)


def test_plan_names_the_proof_of_its_command(shop):
    (note,) = shop.run("users", "deactivate", "bo", "--dry-run")["warnings"]
    assert (
        note == f"users deactivate is proven by a demonstration, replayed on 2026-11-25 with ledger {VERSION}"
    )
    (note,) = shop.run("users", "delete", "bo", "--dry-run")["warnings"]
    assert note == "users delete is inferred, by no demonstration"


def test_profile_without_proofs_adds_no_note_and_no_finding(shop):
    shop.profile.write_text(PROFILE)
    assert shop.run("users", "deactivate", "bo", "--dry-run")["warnings"] == []
    for words in (["doctor"], ["apps", "check"]):
        assert not {"commands-proven", "commands-inferred"} & shop.list_codes(*words).keys()


@pytest.mark.parametrize("words", [["doctor"], ["apps", "check"]])
def test_checks_list_proven_and_inferred_commands(shop, words):
    codes = shop.list_codes(*words)
    assert codes["commands-proven"] == "proven by replayed demonstrations: users deactivate"
    assert "users delete" in codes["commands-inferred"]
    assert not {"proof-outdated", "proof-superseded"} & codes.keys()


def test_change_of_the_users_in_the_profile_outdates_the_proof(shop):
    shop.write_proof(
        text=PROFILE.replace("# ", "").replace('table = "users"', 'table = "users"  # a comment')
    )
    assert "proof-outdated" not in shop.list_codes("doctor")
    shop.write_proof(text=PROFILE.replace('["admin", "guest"]', '["admin", "guest", "owner"]'))
    assert "users deactivate" in shop.list_codes("doctor")["proof-outdated"]
    (note,) = shop.run("users", "deactivate", "bo", "--dry-run")["warnings"]
    assert note == "users deactivate is inferred: the profile has changed since its proof of 2026-11-25"


def test_later_migration_of_the_app_is_a_finding(shop):
    with closing(sqlite3.connect(shop.database)) as db, db:
        db.execute("insert into schema_migrations values ('20260202120000')")
    message = shop.list_codes("doctor")["proof-superseded"]
    assert (
        message
        == f"the last migration of the app is 20260202120000, but users deactivate was proven with {VERSION}"
    )


def test_app_that_requires_proofs_refuses_other_commands_about_users(shop):
    shop.configure('require = "proven"')
    refused = [
        ["users", "delete", "bo", "--yes"],
        ["users", "delete", "bo", "--dry-run"],
        ["users", "create", "cy"],
        ["users", "update", "bo", "--set", "login=bob"],
        ["users", "set-role", "bo", "admin"],
    ]
    for words in refused:
        assert shop.run(*words, status=6)["error"]["code"] == "command-unproven", words
    shop.run("users", "list")
    shop.run("users", "deactivate", "bo", "--yes")
    with closing(sqlite3.connect(shop.database)) as db:
        assert db.execute("select login, active from users order by id").fetchall() == [("ada", 1), ("bo", 0)]


def test_app_that_requires_proofs_refuses_an_outdated_proof(shop):
    shop.configure('require = "proven"')
    shop.write_proof(text=PROFILE.replace('"guest"]', '"guest", "owner"]'))
    error = shop.run("users", "deactivate", "bo", status=6)["error"]
    assert error["code"] == "command-unproven"
    assert "the profile has changed since its proof" in error["message"]
