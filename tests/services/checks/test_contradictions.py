"""Profiles that contradict the data: ``apps check`` reports each, and no command writes by them."""

from __future__ import annotations

import pytest

from tests.databases import empty_database

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
time = "{time}"
boolean = "{boolean}"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
migrations = {{ ledger = {{ table = "club_migrations", name = "{ledger}", create = "select 1" }} }}
[users]
admin = false
table = "people"
id = {{ column = "id", codec = "{codec}" }}
login = ["login"]
cascade = [{cascade}]
[users.fields]
login = "login"
active = "active"
created_at = "joined"
[audit]
table = "actions"
fields = {{ at = "at", action = "action"{audit} }}
"""
RIGHT = {
    "time": "iso-ms",
    "boolean": "bool-text",
    "codec": "uuid4",
    "ledger": "path",
    "cascade": '"notes.user_id"',
    "audit": ', resource = "kind"',
}
#: A wrong value of the profile, the code of the finding, and a command that is refused.
WRONG = {
    "time": ("epoch-s", "time-format", "users create bo"),
    "boolean": ("bool-01", "boolean-format", "users deactivate ida"),
    "codec": ("cuid", "key-format", "users create bo"),
    "ledger": ("name", "ledger-merged", "migrate up --migrations files --no-backup"),
    "audit": ("", "column-uncovered", "users deactivate ida"),
    "cascade": ("", "owned-rows", ""),
}
#: Further values of ``cascade`` with a name that the database lacks.
MISSPELLED = ['"note.user_id"', '"notes.userid"', '"notes[kind=a].user_id"', '"notes.id -> note(id).user_id"']
SCHEMA = [
    (
        "create table people (id varchar(36) primary key, login varchar(40) not null unique, active varchar(5) not null,"
        " joined varchar(30) not null)"
    ),
    "create table notes (id integer primary key, user_id varchar(36) not null)",
    "create table actions (at varchar(30), action varchar(40) not null, kind varchar(40) not null)",
    "create table club_migrations (path varchar(40) primary key, name varchar(40) not null, applied_at varchar(40))",
    "insert into people values ('5f0c7a4e-52c7-4d39-8e0f-3a8f2f6f1c11', 'ida', 'true', '2026-01-01T00:00:00.000Z')",
    "insert into notes values (1, '5f0c7a4e-52c7-4d39-8e0f-3a8f2f6f1c11')",
    "insert into club_migrations values ('a/1_initial', '1_initial', null), ('b/1_initial', '1_initial', null)",
]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def club(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "1_next.sql").write_text("create table more (id integer primary key);")
    with empty_database(request.param, tmp_path / "club.db") as database:
        database.run(*SCHEMA)
        yield database


def test_each_contradiction_is_reported_and_refused(club, answer, tmp_path):
    path = tmp_path / "club.toml"
    options = ("--profile", str(path), "--url", f"main={club.url}")
    path.write_text(PROFILE.format(**RIGHT))
    assert answer("apps", "check", *options)["data"]["findings"] == []
    before = club.content()
    for key, (value, code, command) in WRONG.items():
        path.write_text(PROFILE.format(**(RIGHT | {key: value})))
        if key == "time" and club.engine == "sqlite":
            continue  # new times have the form of the newest rows, so nothing wrong is written
        findings = answer("apps", "check", *options, status=0 if code == "owned-rows" else 4)["data"][
            "findings"
        ]
        codes = {(finding["code"], "club.toml, line" in finding["message"]) for finding in findings}
        assert codes == {(code, True)}
        if command:
            for dry_run in (["--dry-run"], []):
                error = answer(*command.split(), *dry_run, *options, status=6)["error"]
                assert error["code"] == "profile-contradiction", (key, error)
            assert club.content() == before
        if command in (
            "users create bo",
            "migrate up --migrations files --no-backup",
        ):  # no part of other commands
            answer("users", "delete", "ida", "--dry-run", *options)
            answer("data", "set", "notes", "1", "user_id=x", "--dry-run", *options)
    path.write_text(PROFILE.format(**RIGHT))
    answer("users", "create", "bo", *options)
    assert club.rows(
        "select count(*) from people where active = 'true' and joined > '2026-01-01T00:00:01'"
    ) == [(1,)]
    assert club.rows("select kind from actions") == [("users",)]


def test_misspelled_names_of_row_paths_are_reported(club, answer, tmp_path):
    path = tmp_path / "club.toml"
    options = ("--profile", str(path), "--url", f"main={club.url}")
    for cascade in MISSPELLED:
        path.write_text(PROFILE.format(**(RIGHT | {"cascade": f'"notes.user_id", {cascade}'})))
        findings = answer("apps", "check", *options, status=4)["data"]["findings"]
        assert {finding["code"] for finding in findings} == {"schema-mismatch"}, cascade
        assert "(club.toml, line 14, users.cascade[1])" in findings[0]["message"]
    path.write_text(PROFILE.format(**(RIGHT | {"cascade": '"notes.user_id", "note?.user_id"'})))
    assert answer("apps", "check", *options)["data"]["findings"] == []
    answer("users", "delete", "ida", "--yes", *options)
    assert club.rows("select count(*) from notes") == [(0,)]
    path.write_text(PROFILE.format(**(RIGHT | {"cascade": '"notes.user_id?"'})))
    assert answer("users", "list", *options, status=2)["error"]["code"] == "profile-invalid"
