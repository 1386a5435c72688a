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
table = "people"
id = { column = "id", codec = "given" }
login = ["login"]
fields = { login = "login" }
cascade = ["owners.person"]
[[invariant]]
name = "teams without an owner"
guards_deletion = true
[[invariant.variant]]
needs = ["teams.id"]
sql = "select t.id from teams t where not exists (select 1 from owners o where o.team = t.id) order by t.id"
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_deletion_with_new_violations_is_refused(answer, tmp_path, engine):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique)",
            "create table teams (id integer primary key)",
            "create table owners (person integer not null, team integer not null)",
            "insert into people values (1, 'ida'), (2, 'bo')",
            "insert into teams values (1), (2), (3)",  # 3 has no owner, which is no reason to refuse
            "insert into owners values (1, 1), (1, 2), (2, 1)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        before = database.content()
        error = answer("users", "delete", "ida", "--yes", *options, status=6)["error"]
        assert (error["code"], "teams without an owner: 2" in error["message"]) == (
            "invariant-violated",
            True,
        )
        assert database.content() == before
        answer("users", "delete", "bo", "--yes", *options)
        assert database.rows("select login from people") == [("ida",)]
