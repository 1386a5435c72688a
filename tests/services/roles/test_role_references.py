"""Roles to which rows refer by a key or by the name, with and without foreign keys and unique indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import empty_database

KINDS = ("sqlite", "postgresql", "mysql")
PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
table = "people"
id = {{ column = "id" }}
login = ["username"]
admin = "lead"
fields = {{ username = "login" }}
role = {role}
[roles]
table = "duties"
{key}
fields = {{ name = "name" }}
permissions = {{ table = "rights", key = "id", name = "name", link = {{ table = "duty_rights", role = "duty", permission = "right_id" }} }}
"""
PAIRS = '{ members = { table = "posts", user = "person", role = "duty", roles = { table = "duties", key = "id", name = "name" } } }'
NAME = '{ column = "duty", table = "duties", key = "name", name = "name" }'
TABLES = (
    "create table duties (id integer primary key, name varchar(20) not null unique)",
    "insert into duties values (1, 'lead'), (2, 'member'), (3, 'cook')",
    "create table rights (id integer primary key, name varchar(20))",
    "insert into rights values (1, 'read'), (2, 'write')",
)


@pytest.fixture(params=KINDS)
def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", "off")
    with empty_database(request.param, tmp_path / "club.db") as opened:
        opened.run(*TABLES)
        yield opened


@pytest.fixture
def club(database, answer):
    """Return a function that runs a command for a form of the roles of users."""

    def run(role, *words, status=0, key='key = "id"'):
        Path("club.toml").write_text(PROFILE.format(role=role, key=key))
        return answer(*words, "--profile", "club.toml", "--url", f"main={database.url}", status=status)

    return run


def create_people(database, *actions):
    key = f", foreign key (duty) references duties (name) {actions[0]}" if actions else ""
    database.run(
        "create table duty_rights (duty integer, right_id integer)",
        f"create table people (id integer primary key, login varchar(20), duty varchar(20){key})",
        "insert into people values (1, 'ann', 'lead'), (2, 'bo', 'cook')",
    )


def test_role_to_which_users_refer_by_its_name_is_in_use(database, club):
    create_people(database)
    before = database.content()
    counts = {role["name"]: role["users"] for role in club(NAME, "roles", "list")["data"]["items"]}
    assert counts == {"lead": 1, "member": 0, "cook": 1}
    for words in (("delete", "cook", "--yes"), ("update", "cook", "--name", "chef")):
        assert club(NAME, "roles", *words, status=6)["error"]["code"] == "role-in-use"
    assert database.content() == before
    club(NAME, "roles", "update", "member", "--name", "guest")
    club(NAME, "roles", "delete", "guest", "--yes")
    assert database.rows("select name from duties order by id") == [("lead",), ("cook",)]


def test_rows_that_are_no_users_of_the_app_hold_a_role_too(database, club):
    create_people(database)
    database.run("insert into people values (3, null, 'member')")
    before = database.content()
    role = f'{NAME}\nexcluded = {{ login = ":null" }}'
    assert [user["username"] for user in club(role, "users", "list")["data"]["items"]] == ["ann", "bo"]
    for words in (("delete", "member", "--yes"), ("update", "member", "--name", "guest")):
        error = club(role, "roles", *words, status=6)["error"]
        assert error["code"] == "role-in-use"
        assert "1" in error["message"]
    assert database.content() == before


def test_users_whose_foreign_key_follows_get_the_new_name_of_their_role(database, club):
    create_people(database, "on update cascade")
    club(NAME, "roles", "update", "cook", "--name", "chef")
    assert database.rows("select duty from people where id = 2") == [("chef",)]


def test_name_that_is_the_key_of_roles_is_not_changed(database, club):
    create_people(database, "on update cascade")
    error = club(NAME, "roles", "update", "cook", "--name", "chef", status=2, key='key = "name"')["error"]
    assert error["message"] == "duties.name is the key of the roles and cannot be changed"


def create_pairs(database, action=None):
    key = f", foreign key (duty) references duties (id) {action}" if action is not None else ""
    database.run(
        "create table people (id integer primary key, login varchar(20))",
        "insert into people values (1, 'ann'), (2, 'bo')",
        "create table posts (person integer not null, duty integer not null)",
        "insert into posts values (1, 1), (2, 2), (2, 2)",
        f"create table duty_rights (duty integer, right_id integer{key})",
        "insert into duty_rights values (2, 2), (3, 1), (3, 1)",
    )


@pytest.mark.parametrize("action", [None, "", "on delete cascade"])
def test_deletion_of_a_role_deletes_its_permissions_with_any_foreign_key(database, club, action):
    create_pairs(database, action)
    plan = club(PAIRS, "roles", "delete", "cook", "--dry-run")["data"]["plan"]
    assert plan["steps"] == ["delete role cook", "delete 2 rows of duty_rights"]
    assert plan["rows"] == plan["deleted"] == {"duties": 1, "duty_rights": 2}
    club(PAIRS, "roles", "delete", "cook", "--yes")
    assert database.rows("select * from duty_rights") == [(2, 2)]


def test_equal_pairs_of_users_roles_and_permissions_are_deleted_together(database, club):
    create_pairs(database)
    plan = club(PAIRS, "users", "remove-role", "bo", "member", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"posts": 2}
    club(PAIRS, "users", "set-role", "bo", "cook")
    assert database.rows("select duty from posts where person = 2") == [(3,)]
    assert club(PAIRS, "roles", "revoke", "cook", "read", "--dry-run")["data"]["plan"]["rows"] == {
        "duty_rights": 2
    }
    club(PAIRS, "roles", "revoke", "cook", "read")
    assert database.rows("select * from duty_rights") == [(2, 2)]
