"""Proofs of commands in a profile: plans and checks name them, and an app may require them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
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
        self.profile.write_text(f"{text}\n[proven.sqlite]\ndeactivate = {{ {proof} }}\n")

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
    # without those that the app cannot have: it has no passwords, second factors and sessions
    inferred = "users create, users ensure, users import, users set-role, users activate, users delete"
    assert codes["commands-inferred"] == f"inferred, not proven: {inferred}"
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


def test_change_of_the_sessions_in_the_profile_outdates_the_proof(shop):
    shop.write_proof(text=f'{PROFILE}\n[[sessions]]\ntable = "sessions"\nkey = "id"\nuser = "user_id"\n')
    assert "users deactivate" in shop.list_codes("doctor")["proof-outdated"]


COUNT_READS = """
import sys
from dbctl.config.sections import Selection
from dbctl.services.app.proofs import list_proofs
from dbctl.services.app.session import open_app

opened = []
with open_app(Selection(config=sys.argv[1]), timeout=5) as app:
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    states = [*list_proofs(app)]
print(len(states) > 1, sum(path.endswith("shop.toml") for path in opened))
"""


def test_profile_is_read_once_for_all_commands(shop):
    command = [sys.executable, "-c", COUNT_READS, str(shop.config)]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "True 1\n"


def test_proof_of_another_engine_is_none(shop):
    shop.profile.write_text(shop.profile.read_text().replace("[proven.sqlite]", "[proven.postgresql]"))
    (note,) = shop.run("users", "deactivate", "bo", "--dry-run")["warnings"]
    reason = "inferred, by no demonstration on SQLite, only on PostgreSQL"
    assert note == f"users deactivate is {reason}"
    findings = shop.run("doctor", status=None)["data"]["findings"]
    messages = [finding["message"] for finding in findings if finding["code"] == "commands-inferred"]
    assert "inferred, not proven on SQLite, only on PostgreSQL: users deactivate" in messages
    assert not {"commands-proven", "proof-outdated", "proof-superseded"} & shop.list_codes("doctor").keys()
    shop.configure('require = "proven"')
    error = shop.run("users", "deactivate", "bo", status=6)["error"]
    assert (error["code"], reason in error["message"]) == ("command-unproven", True)


def test_later_migration_of_the_app_is_a_finding(shop):
    with closing(sqlite3.connect(shop.database)) as db, db:
        db.execute("insert into schema_migrations values ('20260202120000')")
    message = shop.list_codes("doctor")["proof-superseded"]
    assert (
        message
        == f"the last migration of the app is 20260202120000, not {VERSION}, with which these were proven: users deactivate"
    )


@pytest.mark.needs_extension("drafts")
def test_app_that_requires_proofs_refuses_other_commands_about_users(shop):
    shop.configure('require = "proven"')
    refused = [
        ["users", "delete", "bo", "--yes"],
        ["users", "delete", "bo", "--dry-run"],
        ["users", "create", "cy"],
        ["users", "update", "bo", "--set", "login=bob"],
        ["users", "set-role", "bo", "admin"],
    ]
    hints = {words[1]: shop.run(*words, status=6)["error"]["hint"] for words in refused}
    assert {name: "profiles learn" in hint for name, hint in hints.items()} == {
        **dict.fromkeys(["delete", "create", "set-role"], True),
        "update": False,
    }
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


# Settings -------------------------------------------------------------------------------------------------------------

SETTINGS = """
[[settings]]
scope = "system"
table = "settings"
key = "name"
fields = { value = "value" }
open = true

[settings.keys]
theme = { default = "plain" }
"mail.on" = { type = "boolean" }
limits = { type = "string", stored = "yaml" }

[[settings]]
scope = "user"
table = "users"
user = "id"
object = true
fields = { value = "preferences" }
"""
ROW = """
[[settings]]
scope = "system"
table = "site"
fields = {}
row = { key = "id", value = 1, types = { uploads = "integer", title = "string" } }
"""
WITHOUT_USERS = PROFILE.partition("[users]")[0]
TABLES = """
    create table settings (name text primary key, value text);
    insert into settings values ('theme', 'dark'), ('mail.on', 'true'), ('limits', '--- few'), ('motto', 'Hi');
    alter table users add preferences text;
    update users set preferences = '{"zone":"UTC"}';
    create table site (id integer primary key, uploads integer not null, title text not null);
    insert into site values (1, 100, 'Home');
"""


class ConfiguredShop(Shop):
    """An app that requires proofs, with proofs of its settings."""

    def __init__(self, folder, answer) -> None:
        super().__init__(folder, answer)
        with closing(sqlite3.connect(self.database)) as db:
            db.executescript(TABLES)
        self.configure('require = "proven"')

    def prove(self, *shown: str, text: str = PROFILE + SETTINGS) -> None:
        digest = compute_digest(text, "change-setting")
        proof = f'at = "2026-11-25", recordings = 1, rows = 1, digest = "{digest}", shown = {list(shown)}'
        self.profile.write_text(f"{text}\n[proven.sqlite]\nchange-setting = {{ {proof} }}\n")

    def read(self, sql: str) -> list:
        with closing(sqlite3.connect(self.database)) as db:
            return db.execute(sql).fetchall()

    def refuse(self, *words: str) -> str:
        """Run a command that is refused, also as a dry run, and changes nothing; return its message."""
        before = self.read("select * from settings, users, site")
        for options in (["--dry-run"], ["--yes"]):
            error = self.run(*words, *options, status=6)["error"]
            assert error["code"] == "command-unproven"
        assert self.read("select * from settings, users, site") == before
        return error["message"]


@pytest.fixture
def configured_shop(tmp_path, answer):
    return ConfiguredShop(tmp_path, answer)


def test_app_that_requires_proofs_refuses_commands_about_settings(configured_shop, tmp_path):
    configured_shop.profile.write_text(PROFILE + SETTINGS)
    file = tmp_path / "new.json"
    file.write_text('{"theme": "light"}')
    refused = [
        ("settings", "set", "theme", "light"),
        ("settings", "reset", "theme"),
        ("settings", "apply", str(file)),
        ("settings", "update", "theme", "--description", "x"),
    ]
    for words in refused:
        configured_shop.refuse(*words)
    configured_shop.run("settings", "list")


def test_proof_allows_values_of_the_same_form(configured_shop, tmp_path):
    configured_shop.prove("system values as string")
    file = tmp_path / "new.json"
    file.write_text('{"theme": "light", "motto": "Hello"}')
    (note,) = configured_shop.run("settings", "set", "motto", "x", "--dry-run")["warnings"]
    assert note == "settings set is proven by a demonstration, replayed on 2026-11-25"
    configured_shop.run("settings", "set", "motto", "Hi all", "--yes")
    configured_shop.run("settings", "reset", "theme", "--yes")
    values = configured_shop.read("select name, value from settings where name in ('motto', 'theme')")
    assert dict(values) == {"motto": "Hi all", "theme": "plain"}
    configured_shop.run("settings", "apply", str(file), "--yes")
    values = configured_shop.read("select name, value from settings where name in ('motto', 'theme')")
    assert dict(values) == {"motto": "Hello", "theme": "light"}


def test_proof_allows_no_other_form_row_or_scope(configured_shop, tmp_path):
    configured_shop.prove("system values as string")
    file = tmp_path / "new.json"
    file.write_text('{"theme": "light", "mail.on": false}')
    unshown = {
        ("set", "mail.on", "false"): "system values as boolean",
        ("set", "limits", "many"): "system values as yaml",
        ("set", "footer", "text"): "new system rows",
        ("set", "zone", "CET", "--user", "bo"): "user values as json",
        ("reset", "motto"): "removed system values",
        ("apply", str(file)): "system values as boolean",
    }
    for words, write in unshown.items():
        message = configured_shop.refuse("settings", *words)
        assert message.endswith(f"its proof of 2026-11-25 does not show {write}"), words


def test_proof_of_new_row_and_of_other_scope(configured_shop):
    configured_shop.prove("system values as string", "new system rows", "user values as json")
    configured_shop.run("settings", "set", "footer", "text", "--yes")
    configured_shop.run("settings", "set", "zone", "CET", "--user", "bo", "--yes")
    assert configured_shop.read("select value from settings where name = 'footer'") == [("text",)]
    assert configured_shop.read("select preferences from users") == [('{"zone":"UTC"}',), ('{"zone":"CET"}',)]


def test_proof_of_one_column_allows_no_other(configured_shop):
    configured_shop.prove("system column uploads", text=PROFILE + ROW)
    assert "system column title" in configured_shop.refuse("settings", "set", "title", "Start")
    configured_shop.run("settings", "set", "uploads", "200", "--yes")
    assert configured_shop.read("select uploads, title from site") == [(200, "Home")]
    with closing(sqlite3.connect(configured_shop.database)) as db, db:
        db.execute("delete from site")
    assert "new system rows" in configured_shop.refuse("settings", "set", "uploads", "300")


def test_plan_names_writes_without_a_proof(configured_shop):
    configured_shop.prove("system values as string")
    configured_shop.configure()
    (note,) = configured_shop.run("settings", "set", "mail.on", "false", "--dry-run")["warnings"]
    assert note.endswith("does not show system values as boolean")
    configured_shop.run("settings", "set", "mail.on", "false", "--yes")
    assert configured_shop.read("select value from settings where name = 'mail.on'") == [("false",)]


@pytest.mark.parametrize("users", [PROFILE, WITHOUT_USERS])
def test_checks_list_proven_commands_about_settings(configured_shop, users):
    text = users + SETTINGS.rpartition("[[settings]]")[0]
    configured_shop.prove("system values as string", text=text)
    for words in (["doctor"], ["apps", "check"]):
        codes = configured_shop.list_codes(*words)
        assert codes["commands-proven"] == (
            "proven by replayed demonstrations: settings set, settings reset, settings apply; of settings: system values as string"
        )
        assert ("commands-inferred" in codes) == (users == PROFILE)
    configured_shop.profile.write_text(configured_shop.profile.read_text().replace("open = true", ""))
    assert "settings set" in configured_shop.list_codes("doctor")["proof-outdated"]
