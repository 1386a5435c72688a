"""Roles that users have as members of groups: they are read, they protect the last admin, and dbctl does not remove them."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "crew"
title = "Crew"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
foreign_keys = false
[users]
table = "people"
id = { column = "id", codec = "given" }
login = ["username"]
admin = "captain"
[users.fields]
username = "nick"
active = "active"
[users.role.members]
table = "people_ranks"
user = "person_id"
role = "rank_id"
roles = { table = "ranks" }
[users.role.members.groups]
table = "people_teams?"
user = "person_id"
group = "team_id"
grants = { table = "team_ranks?", group = "team_id", role = "rank_id" }
"""
DDL = [
    "create table people (id integer primary key, nick varchar(20) not null unique, active boolean not null)",
    "create table ranks (id integer primary key, name varchar(20) not null)",
    "create table people_ranks (person_id integer not null, rank_id integer not null, primary key (person_id, rank_id))",
    "insert into people values (1, 'ada', true), (2, 'bob', true), (3, 'cy', false)",
    "insert into ranks values (1, 'captain'), (2, 'sailor')",
    "insert into people_ranks values (1, 1), (2, 2), (3, 2)",
]
GROUPS = [
    "create table people_teams (person_id integer not null, team_id integer not null, primary key (person_id, team_id))",
    "create table team_ranks (team_id integer not null, rank_id integer not null, primary key (team_id, rank_id))",
    "insert into team_ranks values (7, 1), (7, 2), (8, 1)",
    "insert into people_teams values (2, 7), (2, 8), (3, 7)",
]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "crew.db") as database:
        database.run(*DDL)
        (tmp_path / "crew.toml").write_text(PROFILE, encoding="utf-8")
        (tmp_path / "dbctl.toml").write_text(
            f"[apps.crew]\nprofile = 'crew.toml'\n[apps.crew.databases]\nmain = '{database.url}'\n",
            encoding="utf-8",
        )
        yield database


def list_roles(answer, *options):
    return {user["login"]: user["roles"] for user in answer("users", "list", *options)["data"]["items"]}


def test_roles_of_groups_are_read_and_not_removed(answer, database):
    database.run(*GROUPS)
    assert answer("apps", "check")["data"]["findings"] == []
    both = ["captain", "sailor"]
    assert list_roles(answer) == {"ada": ["captain"], "bob": both, "cy": both}
    assert list_roles(answer, "--role", "captain").keys() == {"ada", "bob", "cy"}
    assert {role["name"]: role["users"] for role in answer("roles", "list")["data"]["items"]} == {
        "captain": 3,
        "sailor": 2,
    }
    for words in (("remove-role", "bob", "captain"), ("set-role", "bob", "sailor")):
        assert answer("users", *words, status=6)["error"]["code"] == "role-inherited"
    assert answer("users", "add-role", "bob", "captain")["data"]["changed"] == 0
    answer("users", "add-role", "ada", "sailor")
    answer("users", "remove-role", "ada", "captain")  # bob is captain as a member of a team
    assert list_roles(answer)["ada"] == ["sailor"]


def test_admin_of_a_group_is_the_last(answer, database):
    database.run(*GROUPS, "delete from people_ranks where rank_id = 1")
    for words in (
        ("users", "deactivate", "bob"),
        ("users", "delete", "bob", "--yes"),
        ("data", "delete", "team_ranks", "--filter", "rank_id=1", "--yes"),
        ("data", "delete", "people_teams", "--filter", "person_id=2", "--yes"),
    ):
        assert answer(*words, status=6)["error"]["code"] == "last-admin", words
    answer("data", "delete", "people_teams", "2", "8", "--yes")  # the other team has the role, too
    answer("users", "delete", "cy", "--yes")
    assert database.rows("select person_id, team_id from people_teams") in ([(2, 7)], ((2, 7),))


def test_database_without_groups_has_only_direct_roles(answer, database):
    assert answer("apps", "check")["data"]["findings"] == []
    assert list_roles(answer) == {"ada": ["captain"], "bob": ["sailor"], "cy": ["sailor"]}
    answer("users", "delete", "cy", "--yes")
    assert answer("users", "remove-role", "ada", "captain", status=6)["error"]["code"] == "last-admin"
