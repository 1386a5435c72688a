"""Cleanup rules and sign-outs that would remove the last admin, or whose columns a deployment lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
table = "people"
id = {{ column = "id", codec = "given" }}
login = ["login"]
admin = "boss"
fields = {{ login = "login", active = "active" }}
role = {{ column = "kind", values = ["boss", "user"], default = "user" }}
{keys}
"""
RULE = '[[cleanup]]\nname = "unused"\ntable = "people"\nkey = "id"\nage = {{ column = "seen", older_than = "1d" }}\n{change}'
SCHEMA = [
    "create table people (id integer primary key, login varchar(9), kind varchar(9), active integer, seen varchar(40), token varchar(9))",
    "create table visits (id integer primary key, person integer, token varchar(9))",
]
OLD = f"{datetime.now(UTC) - timedelta(days=9):%Y-%m-%dT%H:%M:%S.000Z}"
INSERT = f"insert into people values (1, 'ida', 'boss', 1, '{OLD}', 'a'), (2, 'bo', 'user', 1, '{OLD}', 'b')"


def write_profile(folder, database, keys):
    path = folder / f"club{len(list(folder.iterdir()))}.toml"  # a process reads a file once
    path.write_text(PROFILE.format(keys=keys))
    return ("--profile", str(path), "--url", f"main={database.url}")


@pytest.mark.parametrize("option", ["--fast", "--no-color"])
@pytest.mark.parametrize("change", ["delete = true", "set = { active = 0 }"])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_cleanup_of_users_keeps_the_last_admin(answer, tmp_path, engine, change, option):
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(*SCHEMA, INSERT)
        options = write_profile(tmp_path, database, RULE.format(change=change))
        before = database.content()
        error = answer("sessions", "cleanup", option, *options, status=6)["error"]
        assert error["code"] == "last-admin"
        assert database.content() == before
        database.run("update people set seen = null where id = 1")
        (result,) = answer("sessions", "cleanup", option, *options)["data"]["rules"]
        assert result["changed"] == 1


def test_cleanup_of_other_tables_does_not_need_the_columns_of_users(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(
            *SCHEMA, INSERT, "alter table visits add column seen", "insert into visits values (1, 1, 'a', 1)"
        )
        database.run(f"update visits set seen = '{OLD}'", "alter table people rename column login to name")
        rule = RULE.replace('"people"', '"visits"').format(change="delete = true")
        (result,) = answer("sessions", "cleanup", *write_profile(tmp_path, database, rule))["data"]["rules"]
        assert result["changed"] == 1
        assert database.rows("select count(*) from visits") == [(0,)]


def test_rule_without_any_of_its_columns_is_refused(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*SCHEMA, INSERT)
        options = write_profile(tmp_path, database, RULE.format(change='set = { "ended?" = ":now" }'))
        for option in ("--dry-run", "--no-color"):
            error = answer("sessions", "cleanup", option, *options, status=2)["error"]
            assert error["code"] == "schema-mismatch"
            assert "people.ended," in error["message"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_sign_out_without_its_columns_changes_no_user(answer, tmp_path, engine):
    keys = 'on_sign_out = { "version?" = ":next", "stamp?" = ":uuid4" }'
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(*SCHEMA, INSERT)
        options = write_profile(tmp_path, database, keys)
        assert answer("sessions", "revoke", "bo", *options, status=2)["error"]["code"] == "not-supported"
        answer("users", "deactivate", "bo", *options)
        assert database.rows("select active from people where id = 2") == [(0,)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_token_that_is_null_is_no_session(answer, tmp_path, engine):
    keys = '[[users.signed_in]]\ntable = "visits"\nuser = "person"\non_end = { token = ":null" }'
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(*SCHEMA, INSERT, "insert into visits values (1, 2, 'b'), (2, 2, null)")
        options = write_profile(tmp_path, database, keys)
        for ended in (1, 0):
            assert answer("sessions", "revoke", "bo", *options)["data"]["ended_sessions"] == ended
        assert answer("users", "show", "bo", *options)["data"]["tokens"]["revoked"] == 2
