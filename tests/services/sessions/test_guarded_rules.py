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


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("people", "delete = true"),
        ("people", "set = { active = 0 }"),
        ("people", 'set = { kind = "user", token = "x" }'),
        # by their foreign key
        ("invitations", "delete = true"),
    ],
)
def test_plan_of_cleanup_refuses_what_the_cleanup_refuses(answer, tmp_path, engine, table, change):
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table invitations (id integer primary key, seen varchar(40), note varchar(9))",
            f"{SCHEMA[0][:-1]}, invitation integer, foreign key (invitation) references invitations (id) on delete cascade)",
            f"insert into invitations values (1, '{OLD}', 'x'), (2, '{OLD}', 'y')",
            f"insert into people values (1, 'ida', 'boss', 1, '{OLD}', 'a', 1), (2, 'bo', 'user', 1, '{OLD}', 'b', 2)",
        )
        rule = RULE.replace('"people"', f'"{table}"').format(change=change)
        options, before = write_profile(tmp_path, database, rule), database.content()
        for option in ("--dry-run", "--yes"):
            error = answer("sessions", "cleanup", option, *options, status=6)["error"]
            assert (error["code"], database.content()) == ("last-admin", before), error
        database.run("insert into people values (3, 'eve', 'boss', 1, null, 'c', null)")
        plan = answer("sessions", "cleanup", "--dry-run", *options)["data"]["plan"]
        assert plan["rows"]["people"] == 2
        assert answer("sessions", "cleanup", "--yes", *options)["data"]["rules"][0]["changed"] == 2


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_plan_of_cleanup_refuses_to_delete_the_last_row_with_the_admin_role(answer, tmp_path, engine):
    keys = (
        'members = { table = "ranks", user = "person", role = "name" }\nvalues = ["boss", "user"]\n'
        + RULE.replace('"people"', '"ranks"').format(change="delete = true")
    )
    text = PROFILE.replace('{{ column = "kind", values = ["boss", "user"], default = "user" }}', "{{}}")
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            SCHEMA[0],
            INSERT,
            "create table ranks (id integer primary key default 0, person integer, name varchar(9), seen varchar(40))",
            f"insert into ranks values (1, 1, 'boss', '{OLD}'), (2, 2, 'user', '{OLD}')",
        )
        path = tmp_path / "ranks.toml"
        path.write_text(text.format(keys="").replace("role = {}", "[users.role]") + keys)
        options = ("--profile", str(path), "--url", f"main={database.url}")
        before = database.content()
        for option in ("--dry-run", "--yes"):
            error = answer("sessions", "cleanup", option, *options, status=6)["error"]
            assert (error["code"], database.content()) == ("last-admin", before), error
        database.run("update ranks set seen = null where id = 1")
        assert answer("sessions", "cleanup", "--dry-run", *options)["data"]["plan"]["rows"] == {"ranks": 1}


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


INSTEAD = (
    "create trigger removal instead of delete on people begin delete from persons where id = old.id; end"
)


@pytest.mark.parametrize("trigger", [[], [INSTEAD]])
def test_plan_refuses_a_view_in_place_of_a_table(answer, tmp_path, trigger):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(SCHEMA[0].replace("people", "persons"), INSERT.replace("people", "persons"))
        database.run("create view people as select * from persons", *trigger)
        database.run("insert into persons values (3, 'eve', 'boss', 1, null, 'c')")
        options, before = (
            write_profile(tmp_path, database, RULE.format(change="delete = true")),
            database.content(),
        )
        for words in (["sessions", "cleanup"], ["users", "delete", "bo"], ["users", "deactivate", "bo"]):
            for option in ("--dry-run", "--yes"):
                error = answer(*words, option, *options, status=2)["error"]
                assert (error["code"], "people" in error["message"]) == ("not-supported", True)
        assert database.content() == before
        findings = answer("apps", "check", *options)["data"]["findings"]
        places = [finding["message"] for finding in findings if finding["code"] == "table-view"]
        assert [("users.table" in place, "cleanup[0].table" in place) for place in places] == [
            (True, False),
            (False, True),
        ]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_view_of_a_server_can_be_written(answer, tmp_path, engine):
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(SCHEMA[0].replace("people", "persons"), INSERT.replace("people", "persons"))
        database.run("create view people as select * from persons")
        options = write_profile(tmp_path, database, RULE.format(change="delete = true"))
        assert "table-view" not in [f["code"] for f in answer("apps", "check", *options)["data"]["findings"]]
        answer("users", "deactivate", "bo", "--yes", *options)
        assert database.rows("select active from persons where id = 2") == [(0,)]


def test_rule_without_any_of_its_columns_is_refused(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(*SCHEMA, INSERT)
        options = write_profile(tmp_path, database, RULE.format(change='set = { "ended?" = ":now" }'))
        for option in ("--dry-run", "--no-color"):
            error = answer("sessions", "cleanup", option, *options, status=2)["error"]
            assert error["code"] == "schema-mismatch"
            assert "people.ended," in error["message"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_rule_without_the_column_of_a_condition_is_not_applied(answer, tmp_path, engine):
    rule = RULE.replace('"people"', '"visits"').format(change='delete = true\nwhere = { "done?" = 1 }')
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(*SCHEMA, "alter table visits add column seen varchar(40)")
        database.run(f"insert into visits values (1, 1, 'a', '{OLD}'), (2, 1, 'b', '{OLD}')")
        options, before = write_profile(tmp_path, database, rule), database.content()
        assert answer("sessions", "cleanup", "--check", *options)["data"]["items"] == []
        assert answer("sessions", "cleanup", "--yes", *options)["data"]["rules"] == []
        error = answer("sessions", "cleanup", "--yes", "--rule", "unused", *options, status=2)["error"]
        assert (error["code"], "visits.done" in error["message"]) == ("schema-mismatch", True)
        assert database.content() == before
        findings = answer("apps", "check", *options)["data"]["findings"]
        assert [finding["code"] for finding in findings if "unused" in finding["message"]] == ["cleanup-idle"]
        database.run("alter table visits add column done integer", "update visits set done = id - 1")
        assert answer("sessions", "cleanup", "--yes", *options)["data"]["rules"][0]["changed"] == 1
        assert database.rows("select id from visits") == [(1,)]
        findings = answer("apps", "check", *options)["data"]["findings"]
        assert [finding["code"] for finding in findings if "unused" in finding["message"]] == []


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
