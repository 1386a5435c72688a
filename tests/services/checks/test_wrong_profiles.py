"""A wrong profile locks no user out and removes no admin: each write is refused in which the wrong fact takes part, no other."""

from __future__ import annotations

import json

import pytest

from tests.databases import empty_database

HASH = "$2b$04$O.7LoWoky0s/JQWXvBTrVuxd8vkGtJLc8lQxz443iAncE/jn6kd9."
DJANGO = f"pbkdf2_sha256$9$salt${'a' * 43}="
ADA, BO, GIL = (f"5f0c7a4e-52c7-4d39-8e0f-3a8f2f6f1c1{number}" for number in range(3))
PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
migrations = {{ ledger = {{ table = "club_migrations", name = "{ledger}", create = "select 1" }} }}
[users]
table = "people"
id = {{ column = "id", codec = "uuid4" }}
login = ["login"]
admin = "boss"
password = {{ column = "passwd", writes = "{writes}" }}
role = {{ column = "kind", {role} }}
[users.fields]
login = "login"
{active}
[users.new]
{new}
[[settings]]
table = "knobs"
scope = "system"
key = "name"
fields = {{ value = "value" }}
open = true
[audit]
table = "actions"
fields = {{ at = "at", action = "action" }}
"""
RIGHT = {
    "ledger": "path",
    "writes": "$2b$04$",
    "role": 'values = ["boss", "user"], default = "user"',
    "active": 'active = "active"',
    "new": "team = 1",
}
SCHEMA = [
    "create table teams (id integer primary key, title varchar(40))",
    (
        "create table people (id varchar(36) primary key, login varchar(40) not null unique, passwd varchar(200), kind varchar(20),"
        " active integer not null, state varchar(20), team integer not null,"
        " foreign key (team) references teams (id) on delete cascade)"
    ),
    "create table notes (id integer primary key, title varchar(40))",
    "create table knobs (name varchar(40) primary key, value varchar(40))",
    "create table actions (at varchar(30), action varchar(40) not null)",
    "create table club_migrations (path varchar(40) primary key, name varchar(40) not null, applied_at varchar(40))",
    "insert into teams values (1, 'all'), (2, 'none')",
    f"insert into people values ('{ADA}', 'ada', '{HASH}', 'boss', 1, 'fine', 1), ('{BO}', 'bo', '{HASH}', 'user', 1, 'fine', 1)",
    "insert into notes values (1, 'a'), (2, 'b')",
    "insert into knobs values ('colour', 'red')",
    "insert into club_migrations values ('a/1_initial', '1_initial', null), ('b/1_initial', '1_initial', null)",
]
#: By fact: the wrong values, and the commands that are refused, each with its code and exit code.
ROLE_WRITES = [
    ["users", "set-role", "ada", "user"],
    ["users", "deactivate", "ada"],
    ["users", "delete", "ada"],
    ["data", "set", "people", ADA, "kind=user"],
    ["data", "set", "people", ADA, "active=0"],
    ["data", "delete", "teams", "1"],
    ["restore", "apply", "latest", "--table", "people", "--merge", "replace"],
]
PASSWORD_WRITES = [
    ["users", "set-password", "ada", "--generate"],
    ["users", "create", "eve", "--generate"],
    ["users", "import", "users.json", "--generate"],
    ["data", "set", "people", ADA, f"passwd={DJANGO}"],
    ["data", "import", "people", "people.jsonl"],
    ["restore", "apply", "latest", "--table", "people", "--merge", "replace"],
]
WRONG = {
    "password": ({"writes": "pbkdf2_sha256$9$"}, PASSWORD_WRITES),
    "role": ({"role": 'labels = { root = "boss", guest = "user" }, default = "user"'}, ROLE_WRITES),
    "active": ({"active": 'active = "state"'}, ROLE_WRITES),
    "required": (
        {"new": ""},
        [["users", "create", "eve", "--generate"], ["users", "import", "users.json", "--generate"]],
    ),
    "ledger": ({"ledger": "name"}, [["migrate", "up", "--migrations", "files", "--no-backup"]]),
}
#: The codes of commands that reject the values themselves, exit code 2.
REJECTED = ("use-dedicated-command", "schema-mismatch", "import-invalid")
#: Writes in which none of these facts takes part, except that the setting and the note are recorded in the audit log.
UNRELATED = [
    ["data", "set", "notes", "1", "title=x"],
    ["data", "delete", "notes", "2"],
    ["settings", "set", "colour", "blue"],
    ["restore", "apply", "latest", "--table", "notes", "--merge", "replace"],
]


class Club:
    def __init__(self, database, folder, answer):
        self.database, self._folder, self._answer, self._count = database, folder, answer, 0
        database.run(*SCHEMA)
        (folder / "files").mkdir()
        (folder / "files" / "1_next.sql").write_text("create table more (id integer primary key);")
        (folder / "users.json").write_text(json.dumps([{"login": "fay"}]))
        row = {"id": GIL, "login": "gil", "passwd": DJANGO, "kind": "user", "active": 1, "team": 1}
        (folder / "people.jsonl").write_text(json.dumps(row))

    def declare(self, **wrong):
        """Use a profile with wrong values; each has its own file, because a process reads a file once."""
        self._count += 1
        path = self._folder / f"club{self._count}.toml"
        path.write_text(PROFILE.format(**(RIGHT | wrong)))
        repository = self._folder / "backups"
        (self._folder / "dbctl.toml").write_text(
            f'[apps.club]\nprofile = "{path}"\n[apps.club.databases]\nmain = "{self.database.url}"\n'
            f'[apps.club.backup]\nrepository = "{repository}"\n'
        )

    def run(self, *words, status=0):
        return self._answer("--yes", *words, status=status)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def club(request, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "club.db") as database:
        yield Club(database, tmp_path, answer)


@pytest.mark.slow
def test_wrong_fact_refuses_exactly_the_writes_in_which_it_takes_part(club):
    club.declare()
    assert club.run("apps", "check")["data"]["findings"] == []
    club.run("backup", "create")
    club.database.run("delete from people where login = 'bo'", "update notes set title = 'c' where id = 1")
    for fact, (wrong, refused) in WRONG.items():
        club.declare(**wrong)
        before = club.database.content()
        for words in refused:
            result = club.run(*words, status=None)
            assert not result["ok"], (fact, words, result["exit_code"])
            is_refused = result["exit_code"] == 6 or result["error"]["code"] in REJECTED
            assert is_refused, (fact, words, result["error"])
            assert club.database.content() == before, (fact, words)
        assert any(
            finding["severity"] == "error"
            for finding in club.run("apps", "check", status=4)["data"]["findings"]
        )
        for words in UNRELATED:
            club.run(*words)
        club.database.run(
            "delete from notes", "insert into notes values (1, 'c'), (2, 'b')", "delete from actions"
        )
    club.declare()
    club.run("restore", "apply", "latest", "--table", "people", "--merge", "missing")
    club.run("users", "set-role", "bo", "boss")
    club.run("users", "delete", "ada")


@pytest.mark.needs_extension("drafts")
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_unreadable_tables_are_reported_and_the_rest_is_checked(engine, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with empty_database(engine, tmp_path / "unused") as database:
        club = Club(database, tmp_path, answer)
        role = f"reader_{abs(hash(database.url)) % 10**8}"
        if engine == "postgresql":
            database.run(
                f"create role {role} login",
                f"grant usage on schema public to {role}",
                f"grant select, update, insert on notes, knobs to {role}",
                f"grant insert on actions to {role}",
                f"grant select (id, login) on people to {role}",
            )
        else:
            database.run(
                f"create user {role}@'%'",
                f"grant select, update, insert on notes to {role}@'%'",
                f"grant select, update, insert on knobs to {role}@'%'",
                f"grant insert on actions to {role}@'%'",
                f"grant insert on club_migrations to {role}@'%'",
                f"grant update, select (id, login) on people to {role}@'%'",
                f"grant references on teams to {role}@'%'",
            )
        try:
            database.url = database.url.replace(f"{database.own.user}@", f"{role}@", 1)
            club.declare()
            answer("profiles", "draft", database.url)
            findings = club.run("apps", "check", status=None)["data"]["findings"]
            unreadable = [finding for finding in findings if finding["code"] == "table-unreadable"]
            assert {finding["severity"] for finding in unreadable} == {"warning"}
            for table in ("people", "actions", "club_migrations"):
                assert any(table in finding["message"] for finding in unreadable), (table, findings)
            club.declare(new="")
            codes = {finding["code"] for finding in club.run("apps", "check", status=4)["data"]["findings"]}
            assert codes >= {"column-uncovered", "table-unreadable"}
            club.declare()
            club.run("data", "set", "notes", "1", "title=x")
            club.run("settings", "set", "colour", "blue")
            assert database_rows(database, "select count(*) from notes where title = 'x'") == 1
            for words in (["users", "deactivate", "bo"], ["data", "set", "people", BO, "active=0"]):
                assert club.run(*words, status=6)["error"]["code"] == "privilege-missing"
        finally:
            if engine == "postgresql":
                database.run(f"drop owned by {role}", f"drop role {role}")
            else:
                database.run(f"drop user {role}@'%'")


def database_rows(database, sql):
    """Return a count, read by the owner of the database."""
    return database.rows(sql)[0][0]
