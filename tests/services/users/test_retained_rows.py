"""Rows that still refer to a user after the deletion: the plan and the result list them."""

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
cascade = ["notes.person"]
[users.retained]
"posts.author" = "the app retains them"
"log.person" = "history"
"archive?.person" = "history"
"log[kind=note].editor -> people.boss" = "history of others"
[[users.transfer]]
table = "posts"
column = "author"
[[users.transfer]]
table = "files"
column = "owner"
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_plan_and_result_list_retained_rows(answer, tmp_path, engine):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            "create table notes (id integer primary key, person integer)",
            (
                "create table log (kind varchar(9), person integer, editor integer, note integer,"
                " foreign key (note) references notes (id) on delete cascade)"
            ),
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null), (2, 'bo', 1), (3, 'cy', null)",
            "insert into notes values (7, 1), (8, 2)",
            # the first row is deleted with the note of ida
            "insert into log values ('note', 1, 2, 7), ('note', 1, 2, 8), ('other', 1, 2, null), ('note', 2, 3, null)",
            "insert into posts values (1), (1), (2)",
            "insert into files values (1), (2)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")

        def list_retained(*words: str) -> list[tuple[str, str, int, str]]:
            data = answer("users", "delete", *words, *options)["data"]
            rows = data.get("plan", data)["retained"]
            return sorted((row["table"], row["column"], row["rows"], row["reason"]) for row in rows)

        expected = [("log", "editor", 1, "history of others"), ("log", "person", 2, "history")]
        assert list_retained("ida", "--transfer-to", "bo", "--dry-run") == expected
        retained = list_retained("ida", "--dry-run")
        assert retained[1:] == [*expected, ("posts", "author", 2, "the app retains them")]
        assert retained[0][:3] == ("files", "owner", 1)  # with the option that transfers them as reason
        plan = answer("users", "delete", "ida", "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"people": 1, "notes": 1, "log": 1}
        assert len([step for step in plan["steps"] if step.startswith("keep")]) == 4
        assert list_retained("ida", "--yes") == retained
        assert database.rows("select count(*) from log where person = 1") == [(2,)]
        assert database.rows("select count(*) from posts where author = 1") == [(2,)]
        assert list_retained("cy", "--dry-run") == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_successor_gets_the_rows_of_deleted_users(answer, tmp_path, engine):
    profile = PROFILE.replace(
        'fields = { login = "login" }', 'fields = { login = "login" }\nsuccessor = { boss = 9 }'
    )
    (tmp_path / "club.toml").write_text(profile)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            "create table notes (id integer primary key, person integer)",
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null), (2, 'bo', null), (3, 'nobody', 9), (4, 'cy', null)",
            "insert into posts values (1), (1), (2)",
            "insert into files values (1), (2)",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        assert answer("users", "delete", "nobody", "--yes", *options, status=2)["error"]["code"] == "usage"
        answer("users", "delete", "ida", "--yes", *options)
        assert database.rows("select author from posts order by 1") == [(2,), (3,), (3,)]
        assert database.rows("select owner from files order by 1") == [(2,), (3,)]
        answer("users", "delete", "bo", "--transfer-to", "cy", "--yes", *options)
        assert database.rows("select author from posts order by 1") == [(3,), (3,), (4,)]
        for change, problem in (
            ("insert into people values (5, 'other', 9)", "several rows of people"),
            ("update people set boss = null", "no row of people"),
        ):
            database.run(change)
            message = answer("users", "delete", "cy", "--yes", *options, status=2)["error"]["message"]
            assert problem in message
            assert "--transfer-to" in message
        assert database.rows("select count(*) from people") == [(3,)]


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        ("sqlite", "integer primary key"),
        ("postgresql", "serial primary key"),
        ("mysql", "integer primary key auto_increment"),
    ],
)
def test_new_user_gets_the_first_value_that_users_have(answer, tmp_path, engine, key):
    only = 'fields = { login = "login" }\nonly = { kind = ["person", "bot"] }'
    profile = PROFILE.replace('fields = { login = "login" }', only).replace(', codec = "given"', "")
    (tmp_path / "club.toml").write_text(profile)
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(f"create table people (id {key}, login varchar(9) not null unique, kind varchar(9))")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "create", "ida", *options)
        assert database.rows("select login, kind from people") == [("ida", "person")]


def test_column_that_a_deployment_lacks_leaves_the_others_of_a_new_user(answer, tmp_path):
    new = '[users.new]\n"nick?" = "none"\nkind = "person"\n'
    (tmp_path / "club.toml").write_text(PROFILE.replace(', codec = "given"', "") + new)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login varchar(9) unique, kind varchar(9))")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        answer("users", "create", "ida", *options)
        assert database.rows("select login, kind from people") == [("ida", "person")]


def test_app_without_passwords_checks_none(answer, tmp_path):
    (tmp_path / "club.toml").write_text(PROFILE)
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run("create table people (id integer primary key, login varchar(9) not null unique)")
        database.run("insert into people values (1, 'ida')")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        error = answer(
            "users", "check-password", "ida", "--password-file", "none.txt", *options, status=None
        )["error"]
        assert error["code"] == "feature-missing"


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("sqlite", "boolean"), ("postgresql", "boolean"), ("mysql", "boolean"), ("mysql", "varchar(9)")],
)
def test_rows_of_a_user_are_those_with_the_value_of_the_path(answer, tmp_path, engine, kind):
    """A list whose table the deployment lacks hides no other list."""
    lists = """
[users.related.visits]
rows = "visits.person"
columns = ["id"]
[users.related.notes]
rows = "notes[hidden=true].person"
columns = ["id"]
"""
    (tmp_path / "club.toml").write_text(
        PROFILE.replace('cascade = ["notes.person"]', 'cascade = ["notes[hidden=true].person"]') + lists
    )
    value = "'true'" if kind != "boolean" else "true"
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            "create table people (id integer primary key, login varchar(9) not null unique, boss integer)",
            f"create table notes (id integer primary key, person integer, hidden {kind})",
            "create table log (kind varchar(9), person integer, editor integer)",
            "create table posts (author integer)",
            "create table files (owner integer)",
            "insert into people values (1, 'ida', null)",
            f"insert into notes values (7, 1, {value}), (8, 1, null), (9, 2, {value})",
        )
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={database.url}")
        shown = answer("users", "show", "ida", *options)["data"]
        assert shown["notes"] == [7]
        answer("users", "delete", "ida", "--yes", *options)
        assert database.rows("select id from notes order by 1") == [(8,), (9,)]
