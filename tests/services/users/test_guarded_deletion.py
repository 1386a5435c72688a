"""Deletions of users that would violate an invariant of the profile."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
[users]
admin = false
table = "people"
id = { column = "id", codec = "given" }
login = ["login"]
fields = { login = "login" }
cascade = ["owners.person"]
clear = ["posts.author"]
[[users.transfer]]
table = "owners"
column = "person"
once = ["team"]
[[invariant]]
name = "teams without an owner"
guards_deletion = true
[[invariant.variant]]
needs = ["teams.id"]
sql = "select t.id from teams t where not exists (select 1 from owners o where o.team = t.id) order by t.id"
[[invariant]]
name = "texts of no person"
guards_deletion = true
[[invariant.variant]]
needs = ["notes.person", "posts.author"]
sql = '''with texts as (select n.id, n.person from notes n union all select p.id, p.author from posts p)
select t.id from texts t where t.person is null'''
"""
SCHEMA = [
    "create table people (id integer primary key, login varchar(9) not null unique)",
    "create table teams (id integer primary key)",
    "create table owners (person integer not null, team integer not null)",
    "create table notes (id integer, person integer, foreign key (person) references people (id) on delete set null)",
    "create table posts (id integer, author integer)",
]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_deletion_with_new_violations_is_refused(answer, tmp_path, engine):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            *SCHEMA,
            "insert into people values (1, 'ida'), (2, 'bo'), (3, 'cy'), (4, 'dan')",
            "insert into teams values (1), (2), (3)",  # 3 has no owner, which is no reason to refuse
            "insert into owners values (1, 1), (1, 2), (2, 1)",
            "insert into notes values (7, 3), (8, null)",
            "insert into posts values (9, 4)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        before = database.content()
        for login, name, row in (
            ("ida", "teams without an owner", 2),
            ("cy", "texts of no person", 7),  # a foreign key clears the column
            ("dan", "texts of no person", 9),
        ):
            for option in ("--dry-run", "--yes"):
                error = answer("users", "delete", login, option, *options, status=6)["error"]
                assert error["code"] == "invariant-violated"
                assert error["message"].endswith(f"{name}: {row}")
        assert database.content() == before
        answer("users", "delete", "ida", "--transfer-to", "cy", "--dry-run", *options)
        answer("users", "delete", "bo", "--yes", *options)
        answer("users", "delete", "ida", "--transfer-to", "cy", "--yes", *options)
        assert database.rows("select login from people order by login") == [("cy",), ("dan",)]
        assert database.rows("select person, team from owners order by team") == [(3, 1), (3, 2)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_recursive_invariant_is_checked_when_the_deletion_is_applied(answer, tmp_path, engine):
    recursive = PROFILE.replace("with texts as", "with recursive texts as")
    assert recursive != PROFILE
    (tmp_path / "club.toml").write_text(recursive)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(*SCHEMA, "insert into people values (4, 'dan')", "insert into posts values (9, 4)")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        # MariaDB cannot hide tables from a recursive query
        answer("users", "delete", "dan", "--dry-run", *options, status=0 if engine == "mysql" else 6)
        error = answer("users", "delete", "dan", "--yes", *options, status=6)["error"]
        assert error["code"] == "invariant-violated"
        assert database.rows("select login from people") == [("dan",)]
