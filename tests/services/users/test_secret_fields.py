"""Fields of users whose columns hold secrets: no output has their values without --secrets, and they can be set."""

from __future__ import annotations

import pytest

from tests.databases import empty_database
from tests.services.users.test_companion_rows import SCHEMA

PROFILE = """
schema = "dbctl.profile/1"
name = "desk"
title = "Desk"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["agents"]
secret = ["agents.badge"]
guess_secrets = true
[users]
admin = false
table = "agents"
id = { column = "id" }
login = ["username"]
password = { column = "pass word", writes = "$2b$04$" }
fields = { username = "login", email = "mail", city = "city", badge = "badge", api_token = "api_token", old = "old", hash = "pass word" }
joined = { pin = { table = "pins", column = "auth_key", user = "agent" } }
"""
SECRETS = (
    "badge-1",
    "token-1",
    "$2b$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
    "scrypt:32768:8:1$salt$0123456789abcdef",
    "key-1",
)
NAMES = ("badge", "api_token", "hash", "old", "pin")


@pytest.fixture(params=SCHEMA)
def desk(request, tmp_path, monkeypatch):
    with empty_database(request.param, tmp_path / "desk.db") as database:
        quote = "`" if request.param == "mysql" else '"'
        key, text = SCHEMA[request.param]["key"], SCHEMA[request.param]["text"]
        database.run(
            f"create table agents (id {key}, login {text} not null unique, mail {text}, city {text},"
            f" badge {text}, api_token {text}, {quote}pass word{quote} {text}, old {text})",
            f"create table pins (agent integer primary key, auth_key {text})",
            "insert into agents values (1, 'ann', 'ann@example.org', 'Bern', 'badge-1', 'token-1',"
            " '$2b$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234', 'scrypt:32768:8:1$salt$0123456789abcdef')",
            "insert into pins values (1, 'key-1')",
        )
        (tmp_path / "desk.toml").write_text(PROFILE)
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.desk]\nprofile = "desk.toml"\n[apps.desk.databases]\nmain = "{database.url}"\n'
        )
        monkeypatch.chdir(tmp_path)
        yield database


@pytest.mark.parametrize(
    "command",
    [
        "users list",
        "users show ann",
        "users export",
        "users ensure ann --email ann@example.org",
        "users ensure ann --email other@example.org",
        "users update ann --set city=Basel",
        "users set-password ann --generate",
        "users delete ann --yes",
    ],
)
def test_secret_fields_are_masked(desk, answer, command):
    data = answer(*command.split())["data"]
    assert [secret for secret in SECRETS if secret in str(data)] == []
    assert "ann" in str(data)


@pytest.mark.parametrize("name", NAMES)
def test_secret_fields_neither_select_nor_sort_users(desk, answer, name):
    """A filter and an order revealed what the output masks."""
    for option in (f"--filter={name}=x", f"--sort={name}", f"--sort={name}:desc"):
        assert answer("users", "list", option, status=2)["error"]["code"] == "usage"
    for option in ("--filter=city=bern", "--sort=city", "--sort=email"):
        assert len(answer("users", "list", option)["data"]["items"]) == 1


def test_secret_fields_are_exported_on_demand_and_can_be_set(desk, answer):
    (user,) = answer("users", "export", "--secrets")["data"]["items"]
    assert [user[name] for name in NAMES] == list(SECRETS)
    assert user["city"] == "Bern"
    (user,) = answer("users", "export")["data"]["items"]
    assert "city" in user
    assert set(NAMES).isdisjoint(user)
    answer("users", "update", "ann", "--set", "badge=badge-2")
    assert desk.rows("select badge from agents") == [("badge-2",)]
    assert not answer("users", "update", "ann", "--set", "badge=badge-2")["data"]["changed"]


def test_row_to_which_a_secret_field_refers_is_named(desk, answer, tmp_path):
    """Also if the key of the row cannot be compared with the mask."""
    desk.run(
        "create table teams (number integer primary key, title varchar(9))",
        "insert into teams values (7, 'North')",
    )
    desk.run("alter table agents add column team integer", "update agents set team = 7")
    profile = PROFILE.replace('"agents.badge"', '"agents.badge", "agents.team"')
    profile = profile.replace('city = "city"', 'city = "city", team = "team"')
    lookup = '[users.lookup]\nteam = { table = "teams", key = "number", name = "title" }\n'
    (tmp_path / "desk.toml").write_text(profile + lookup)
    user = answer("users", "show", "ann")["data"]
    assert (user["team"], user["team_name"]) == ("***", "North")
