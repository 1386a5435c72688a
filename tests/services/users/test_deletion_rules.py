"""Deletions of users whose profile or foreign keys would delete other users, leave sign-ins, or contradict the database."""

from __future__ import annotations

import pytest

from dbctl.services.checks.profile import find_text_problems
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
fields = {{ login = "login" }}
role = {{ column = "kind", values = ["boss", "user"], default = "user" }}
{keys}
"""
PEOPLE = "create table people (id integer primary key, login varchar(9) not null unique, kind varchar(9), parent integer"
INSERT = "insert into people values (1, 'ida', 'boss', 2), (2, 'bo', 'user', null), (3, 'cy', 'user', null)"
ENGINES = pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])


def write_profile(folder, database, keys=""):
    path = folder / f"club{len(list(folder.iterdir()))}.toml"  # a process reads a file once
    path.write_text(PROFILE.format(keys=keys))
    return ("--profile", str(path), "--url", f"main={database.url}")


@ENGINES
def test_foreign_key_between_users_keeps_the_last_admin(answer, tmp_path, engine):
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            f"{PEOPLE}, foreign key (parent) references people (id) on delete cascade)",
            "insert into people values (2, 'bo', 'user', null), (1, 'ida', 'boss', 2), (3, 'cy', 'user', 2)",
        )
        options = write_profile(tmp_path, database)
        for option in ("--dry-run", "--yes"):
            error = answer("users", "delete", "bo", option, *options, status=6)["error"]
            assert error["code"] == "last-admin"
        assert database.rows("select count(*) from people") == [(3,)]
        database.run("update people set parent = null where id = 1")
        answer("users", "delete", "bo", "--yes", *options)
        assert database.rows("select login from people") == [("ida",)]


@ENGINES
def test_sign_ins_are_deleted_with_their_user(answer, tmp_path, engine):
    keys = '[[users.signed_in]]\ntable = "visits"\nuser = "person"\n[[users.signed_in]]\ntable = "codes?"\nuser = "person"'
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            f"{PEOPLE})",
            INSERT,
            "create table visits (token varchar(9) primary key, person integer)",
            "insert into visits values ('a', 1), ('b', 2), ('c', 2)",
        )
        options = write_profile(tmp_path, database, keys)
        plan = answer("users", "delete", "bo", "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"people": 1, "visits": 2}
        assert answer("users", "delete", "bo", "--yes", *options)["data"]["rows"] == plan["rows"]
        assert database.rows("select token from visits") == [("a",)]


@pytest.mark.parametrize("table", ["visits", "visits?"])
@pytest.mark.parametrize(("key", "left"), [("retained", ("b", 2)), ("clear", ("b", None))])
def test_sign_ins_that_the_profile_retains_or_clears_are_not_deleted(answer, tmp_path, key, left, table):
    paths = f'{{ "{table}.person" = "history" }}' if key == "retained" else f'["{table}.person"]'
    keys = f'{key} = {paths}\n[[users.signed_in]]\ntable = "visits?"\nuser = "person"'
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", INSERT, "create table visits (token text primary key, person integer)")
        database.run("insert into visits values ('b', 2)")
        answer("users", "delete", "bo", "--yes", *write_profile(tmp_path, database, keys))
        assert database.rows("select * from visits") == [left]


def test_sign_ins_with_an_optional_user_are_deleted(answer, tmp_path):
    keys = '[[users.signed_in]]\ntable = "visits"\nuser = "person?"'
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", INSERT, "create table visits (token text primary key, person integer)")
        database.run("insert into visits values ('b', 2)")
        answer("users", "delete", "bo", "--yes", *write_profile(tmp_path, database, keys))
        assert database.rows("select * from visits") == []


@ENGINES
def test_other_rows_of_the_table_of_users_are_deleted_as_planned(answer, tmp_path, engine):
    keys = 'cascade = ["people[kind=bot].parent"]'
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            f"{PEOPLE})", INSERT, "insert into people values (4, 'r2', 'bot', 2), (5, 'c3', 'bot', 1)"
        )
        options = write_profile(tmp_path, database, keys)
        plan = answer("users", "delete", "bo", "--dry-run", *options)["data"]["plan"]
        assert plan["rows"] == {"people": 2}
        assert answer("users", "delete", "bo", "--yes", *options)["data"]["rows"] == plan["rows"]
        assert database.rows("select id from people order by id") == [(1,), (3,), (5,)]


def test_cascade_of_the_profile_keeps_the_last_admin(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", INSERT)  # ida, the only admin, has the parent bo
        options = write_profile(tmp_path, database, 'cascade = ["people[kind=boss].parent"]')
        for option in ("--dry-run", "--yes"):
            error = answer("users", "delete", "bo", option, *options, status=6)["error"]
            assert error["code"] == "last-admin"
        assert database.rows("select count(*) from people") == [(3,)]


@pytest.mark.parametrize("end", ["only = { kind = 1 }", "on_end = { kind = 2 }"])
def test_check_reports_sign_ins_that_remain_without_their_user(answer, tmp_path, end):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", "create table visits (token text primary key, user_id integer, kind int)")
        section = f'[[users.signed_in]]\ntable = "visits"\nuser = "user_id"\n{end}'
        for keys, expected in ((section, ["owned-rows"]), (f'cascade = ["visits.user_id"]\n{section}', [])):
            options = write_profile(tmp_path, database, keys)
            findings = answer("apps", "check", *options)["data"]["findings"]
            assert [finding["code"] for finding in findings] == expected


@pytest.mark.parametrize("key", ["cascade", "clear"])
def test_deletion_with_a_missing_table_is_refused(answer, tmp_path, key):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", INSERT)
        options = write_profile(tmp_path, database, f'{key} = ["note.person"]')
        error = answer("users", "delete", "bo", "--yes", *options, status=2)["error"]
        assert error["code"] == "schema-mismatch"
        assert "note" in error["message"]
        answer(
            "users", "delete", "bo", "--yes", *write_profile(tmp_path, database, f'{key} = ["note?.person"]')
        )
        assert database.rows("select id from people order by id") == [(1,), (3,)]


@ENGINES
def test_column_that_cannot_be_null_is_not_cleared(answer, tmp_path, engine):
    with empty_database(engine, tmp_path / "club.db") as database:
        database.run(
            f"{PEOPLE})",
            INSERT,
            "create table notes (person integer not null)",
            "insert into notes values (2)",
        )
        options = write_profile(tmp_path, database, 'clear = ["notes.person"]')
        for option in ("--dry-run", "--yes"):
            error = answer("users", "delete", "bo", option, *options, status=6)["error"]
            assert error["code"] == "constraint"
        finding, *others = answer("apps", "check", *options, status=4)["data"]["findings"]
        assert (finding["code"], others) == ("owned-rows", [])
        assert "users.clear[0]" in finding["message"]
        answer("users", "delete", "cy", "--yes", *options)


def test_paths_that_contradict_each_other_are_errors():
    keys = 'cascade = ["people.parent", "notes.person", "files?.owner"]\nclear = ["files.owner", "notes[kind=1].person"]\n'
    text = PROFILE.format(keys=keys + '[users.retained]\n"notes.person" = "history"')
    problems = {problem.key: problem.line for problem in find_text_problems(text)}
    assert problems == {"users.cascade[0]": 13, "users.clear[0]": 14, "users.retained.notes.person": 16}


def test_unknown_values_of_columns_are_errors():
    rows = 'where = { left = ":null", kind = ["a", ":null"] }\nset = { ended = ":nwo", left = ":now" }'
    rule = f'[[cleanup]]\nname = "old"\ntable = "visits"\nkey = "id"\nage = {{ column = "at", older_than = "1d" }}\n{rows}'
    keys = f'[[users.signed_in]]\ntable = "visits"\nuser = "person"\non_end = {{ token = ":uuid", code = ":uuid4" }}\n{rule}'
    problems = [problem.key for problem in find_text_problems(PROFILE.format(keys=keys))]
    assert problems[:2] == ["users.signed_in[0].on_end.token", "users.signed_in[0].on_end.code"]
    assert problems[2:] == ["cleanup[0].where.kind", "cleanup[0].set.ended"]


def test_roles_that_no_user_has_are_errors():
    text = PROFILE.replace('values = ["boss", "user"]', "bits = {{ user = 0, boss = 1, guest = -2 }}").format(
        keys=""
    )
    problems = [problem.key for problem in find_text_problems(text)]
    assert problems == ["users.role.bits.boss", "users.role.bits.guest", "users.role.bits.guest"]


def test_state_that_is_active_and_inactive_is_an_error():
    for values, key in (
        ("[1]\ninactive = 1", "inactive"),
        ('[":nul"]', "values[0]"),
        ('[1]\ninactive = ":nwo"', "inactive"),
    ):
        text = PROFILE.format(keys=f"[users.active]\nvalues = {values}")
        assert [problem.key for problem in find_text_problems(text)] == [f"users.active.{key}"]


def test_row_that_would_be_no_user_is_not_changed(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})", INSERT)
        options = write_profile(tmp_path, database, 'excluded = { login = "guest" }')
        error = answer("users", "update", "bo", "--set", "login=guest", *options, status=6)["error"]
        assert error["code"] == "constraint"
        assert database.rows("select login from people where id = 2") == [("bo",)]


def test_check_reports_missing_columns_of_new_users(answer, tmp_path):
    with empty_database("sqlite", tmp_path / "club.db") as database:
        database.run(f"{PEOPLE})")
        options = write_profile(tmp_path, database, 'new = {{ team = 1, "group?" = 1 }}'.format())
        (finding,) = answer("apps", "check", *options, status=4)["data"]["findings"]
        assert finding["code"] == "schema-mismatch"
        assert "people.team" in finding["message"]
