"""Users that consist of several rows: created, imported and deleted together, on each engine."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from tests.databases import empty_database
from tests.services.mysql_samples import WORDPRESS_TABLES

SCHEMA = {
    "sqlite": {"key": "integer primary key autoincrement", "text": "text", "flag": "boolean", "time": "datetime"},
    "postgresql": {"key": "serial primary key", "text": "text", "flag": "boolean", "time": "timestamptz"},
    "mysql": {
        "key": "integer primary key auto_increment", "text": "varchar(99)", "flag": "tinyint(1)", "time": "datetime(3)",
    },
}  # fmt: skip
#: A person is added first, because the user refers to it; the project has no column with the user.
TABLES = [
    "create table persons (id {key}, label {text} not null)",
    (
        "create table people (id {key}, person integer not null references persons (id), login {text} not null unique,"
        " login_lower {text} not null unique, slug {text} not null, shown {text}, mail {text}, passwd {text})"
    ),
    (
        "create table folders (id {key}, owner integer not null references people (id) on delete cascade,"
        " title {text} not null, made {time} not null)"
    ),
    "create table meta (id {key}, owner_key {text} not null, name {text} not null, value {text}, on_by_default {flag})",
    "create table projects (id {text} primary key, kind {text} not null, title {text})",
    (
        "create table members (project {text} not null references projects (id), person integer not null references"
        " people (id), rank_ {text} not null)"
    ),
]
PROFILE = """
schema = "dbctl.profile/1"
name = "forge"
title = "Forge"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["people"]
[users]
admin = false
table = "people"
id = {{ column = "id" }}
login = ["username"]
password = {{ column = "passwd", writes = "$2b$04$" }}
fields = {{ username = "login", name = "shown", email = "mail" }}
{more}
[users.rules]
email = {{ lowercase = true }}
[users.new]
person = "{{persons.id}}"
login_lower = "{{username:lower}}"
slug = "{{name,username:slug}}"
{create}
"""
CREATE = """
[[users.create]]
table = "persons"
values = { label = "{name,username}" }
[[users.create]]
table = "folders?"
user = "owner"
values = { title = "All", made = ":now" }
[[users.create]]
table = "meta"
user = "owner_key"
values = { on_by_default = true }
rows = [{ name = "nickname", value = "{username}" }, { name = "caps", value = 'a:1:{s:5:"admin";b:1;}' }]
[[users.create]]
table = "missing_table?"
user = "owner"
[[users.create]]
table = "projects"
values = { id = ":alphanumeric-16", kind = "personal", title = "{name} <{email}>" }
same = ["kind"]
[[users.create]]
table = "members"
user = "person"
values = { project = "{projects.id}", rank_ = "owner" }
same = ["rank_"]
"""
TABLE_NAMES = ("persons", "people", "folders", "meta", "projects", "members")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow), "mysql"])
def forge(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "forge.db") as db:
        for statement in TABLES:
            db.run(statement.format(**SCHEMA[request.param]))
        declare(tmp_path, db.url)
        (tmp_path / "password").write_text("a long passphrase\n")
        (tmp_path / "password").chmod(0o600)
        yield db


def declare(folder, url: str, *, create: str = CREATE, more: str = "") -> str:
    """Write the profile and the configuration; each profile has its own file, because a process reads a file once."""
    path = folder / f"{uuid.uuid4()}.toml"
    path.write_text(PROFILE.format(create=create, more=more))
    (folder / "dbctl.toml").write_text(
        f'[apps.forge]\nprofile = "{path}"\n[apps.forge.databases]\nmain = "{url}"\n'
    )
    return str(path)


def counts(db) -> dict[str, int]:
    return {name: len(db.rows(f"select * from {name}")) for name in TABLE_NAMES}


def test_companion_rows_live_as_long_as_their_user(answer, forge, tmp_path):
    assert answer("apps", "check")["data"]["findings"] == []
    create = ["users", "create", "Ann", "--name", "Änn O'Neil", "--email", "A@x.example", "--generate"]
    plan = answer(*create, "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"people": 1, "persons": 1, "folders": 1, "meta": 2, "projects": 1, "members": 1}
    assert counts(forge) == dict.fromkeys(TABLE_NAMES, 0)
    answer(*create)
    (tmp_path / "users.jsonl").write_text(
        "".join(
            json.dumps({"username": name, "password": "a long passphrase"}) + "\n" for name in ("bo", ":now")
        )
    )
    plan = answer("users", "import", "users.jsonl", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"people": 2, "persons": 2, "folders": 2, "meta": 4, "projects": 2, "members": 2}
    answer("users", "import", "users.jsonl")
    people = forge.rows("select id, person, login, login_lower, slug, shown, mail from people order by id")
    assert [row[2:] for row in people] == [
        ("Ann", "ann", "ann-o-neil", "Änn O'Neil", "a@x.example"),
        ("bo", "bo", "bo", None, None),
        (":now", ":now", "now", None, None),
    ]
    assert forge.rows("select label from persons order by id") == [("Änn O'Neil",), ("bo",), (":now",)]
    ann, bo, now = (row[0] for row in people)
    assert forge.rows("select name, value from meta order by id")[:2] == [
        ("nickname", "Ann"),
        ("caps", 'a:1:{s:5:"admin";b:1;}'),
    ]
    assert {key for (key,) in forge.rows("select owner_key from meta")} == {str(ann), str(bo), str(now)}
    titles = forge.rows(
        "select title, person from projects join members on project = projects.id order by person"
    )
    assert titles == [("Änn O'Neil <a@x.example>", ann), ("<>", bo), ("<>", now)]
    assert len({key for (key,) in forge.rows("select id from projects")}) == 3

    answer("users", "update", "bo", "--set", "username=Bob")
    assert forge.rows("select login_lower, slug from people where login = 'Bob'") == [("bob", "bo")]
    answer("users", "update", "Bob", "--set", "username=bo")

    # a team project of the user remains, and prevents the deletion until the user leaves it
    forge.run(
        "insert into projects values ('team', 'team', 'Team')",
        f"insert into members values ('team', {bo}, 'editor')",
    )
    assert answer("users", "delete", "bo", "--yes", status=6)["error"]["code"] == "constraint"
    forge.run("delete from members where rank_ = 'editor'")
    forge.run(f"insert into members values ('team', {ann}, 'owner')")
    plan = answer("users", "delete", "Ann", "--dry-run")["data"]["plan"]
    expected = {"people": 1, "persons": 1, "folders": 1, "meta": 2, "projects": 1, "members": 2}
    assert plan["rows"] == expected
    before = counts(forge)
    answer("users", "delete", "Ann", "--yes")
    assert counts(forge) == {name: before[name] - expected[name] for name in TABLE_NAMES}
    answer("users", "delete", "bo", ":now", "--yes")
    assert counts(forge) == dict.fromkeys(TABLE_NAMES, 0) | {"projects": 1}


def test_rows_without_required_values_are_refused(answer, forge, tmp_path):
    without_title = CREATE.replace('title = "All", ', "")
    path = declare(tmp_path, forge.url, create=without_title)
    findings = answer("apps", "check", status=4)["data"]["findings"]
    assert [(finding["code"], "folders.title" in finding["message"]) for finding in findings] == [
        ("column-uncovered", True)
    ]
    assert answer("users", "create", "ann", "--generate", status=2)["error"]["code"] == "schema-mismatch"
    declare(tmp_path, forge.url, create=CREATE.replace('title = "All"', 'title = "{email}"'))
    result = answer("users", "create", "ann", "--generate", status=2)
    assert "--email" in result["error"]["message"]
    (tmp_path / "users.csv").write_text("username,password\nbo,a long passphrase\n")
    assert answer("users", "import", "users.csv", status=2)["error"]["code"] == "import-invalid"
    declare(tmp_path, forge.url, create=CREATE)
    forge.run(
        "alter table people add badge integer not null" + (" default 0" if forge.engine == "sqlite" else "")
    )
    if forge.engine != "sqlite":  # which adds such a column only with a default
        error = answer("users", "create", "ann", "--generate", status=2)["error"]
        assert error["code"] == "schema-mismatch"
        assert "badge" in error["message"]
    declare(tmp_path, forge.url, create=CREATE.replace("missing_table?", "missing_table"))
    error = answer("users", "create", "ann", "--generate", status=2)["error"]
    assert (error["code"], "missing_table" in error["message"]) == ("schema-mismatch", True)
    declare(tmp_path, forge.url, create=CREATE.replace("made", "created"))
    assert {finding["code"] for finding in answer("apps", "check", status=4)["data"]["findings"]} == {
        "schema-mismatch", "column-uncovered",
    }  # fmt: skip
    assert counts(forge) == dict.fromkeys(TABLE_NAMES, 0)
    assert path


def test_users_that_only_the_app_creates(answer, forge, tmp_path):
    forge.run("insert into persons (label) values ('Ann')")
    forge.run(
        "insert into people (person, login, login_lower, slug) select id, 'ann', 'ann', 'ann' from persons"
    )
    more = 'only_app_creates = "clients compute the keys of the vault"'
    declare(tmp_path, forge.url, more=more)
    (tmp_path / "users.csv").write_text("username,password\nbo,a long passphrase\n")
    for words in (["create", "bo", "--generate"], ["ensure", "bo", "--generate"], ["import", "users.csv"]):
        error = answer("users", *words, status=2)["error"]
        assert (error["code"], "keys of the vault" in error["hint"]) == ("not-supported", True)
    assert answer("users", "ensure", "ann", "--name", "Ann")["data"]["changed"]
    answer("users", "set-password", "ann", "--generate")


WRONG = [
    ('user = "owner"', 'user = "owner"\nrows = [{ title = ":uuid9" }]'),
    ("{username}", "{usrname}"),
    ("{username}", "{username:upper}"),
    ("{projects.id}", "{members.id}"),
    ('same = ["kind"]', 'same = ["title"]'),
    ('values = { label = "{name,username}" }', 'values = { label = "{id}" }'),
    ('values = { label = "{name,username}" }', 'user = "label"'),
    ('table = "projects"', 'table = "projects"\nrows = [{}]'),
    ('project = "{projects.id}", ', ""),
    ('rank_ = "owner"', 'rank_ = "{projects.nr}{projects.key}"'),
]


@pytest.mark.parametrize(("old", "new"), WRONG)
def test_wrong_values_are_reported(answer, tmp_path, old, new):
    path = declare(tmp_path, "sqlite:///unused.db", create=CREATE.replace(old, new, 1))
    findings = answer("apps", "check", path, status=2)["data"]["findings"]
    assert {finding["code"] for finding in findings} == {"invalid-entry"}
    assert "users.create" in findings[0]["message"]


JOINED = """
[users.joined.email]
table = "meta"
user = "owner_key"
column = "value"
only = { name = "email" }
[users.joined.label]
table = "persons"
user = "id"
through = "person"
column = "label"
[users.joined.absent]
table = "missing_table?"
user = "owner"
column = "value"
"""


def test_fields_in_other_tables_are_shown_and_changed(answer, forge, tmp_path):
    profile, create = PROFILE.replace(', email = "mail"', ""), CREATE.replace("{name,username}", "{label}")
    path = tmp_path / "joined.toml"
    path.write_text(profile.format(create=create, more=JOINED))
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.forge]\nprofile = "{path}"\n[apps.forge.databases]\nmain = "{forge.url}"\n'
    )
    assert answer("apps", "check")["data"]["findings"] == []
    user = answer("users", "create", "ann", "--email", "A@x.example", "--set", "label=Ann", "--generate")[
        "data"
    ]["user"]
    assert (user["email"], user["label"]) == ("a@x.example", "Ann")
    assert forge.rows("select value from meta where name = 'email'") == [("a@x.example",)]
    (tmp_path / "users.jsonl").write_text(
        json.dumps(
            {"username": "bo", "email": "bo@x.example", "label": "Bo", "password": "a long passphrase"}
        )
    )
    answer("users", "import", "users.jsonl")
    plan = answer("users", "update", "bo", "--email", "b@y.example", "--set", "label=Bob", "--dry-run")[
        "data"
    ]["plan"]
    assert (plan["rows"]["meta"], plan["rows"]["persons"]) == (1, 1)
    answer("users", "update", "bo", "--email", "b@y.example", "--set", "label=Bob")
    assert not answer("users", "update", "bo", "--email", "b@y.example")["data"]["changed"]
    items = answer("users", "list")["data"]["items"]
    assert [(item["login"], item["email"], item["label"]) for item in items] == [
        ("ann", "a@x.example", "Ann"), ("bo", "b@y.example", "Bob"),
    ]  # fmt: skip
    assert len(forge.rows("select * from meta where name = 'email'")) == 2
    assert answer("users", "list", "--filter", "email=x", status=2)["error"]["code"] == "usage"


def test_given_and_generated_values_of_a_row_are_repeated_in_later_rows(answer, forge, tmp_path):
    rows = 'rows = [{ name = "nickname", value = "{username}" }'
    create = CREATE.replace(rows, rows.replace("{username}", "{persons.id}"))
    path = Path(declare(tmp_path, forge.url, create=create))
    slug = 'slug = "{name,username:slug}"\n'
    text = path.read_text().replace(slug, "")
    path.write_text(text.replace("[users.new]\n", '[users.new]\nslug = "{persons.label}"\n'))
    answer("users", "create", "ann", "--name", "Ann", "--generate")
    (person,) = forge.rows("select id from persons where label = 'Ann'")[0]
    assert forge.rows("select person, slug from people") == [(person, "Ann")]
    assert forge.rows("select name, value from meta order by id")[0] == ("nickname", str(person))


only_sqlite = pytest.mark.parametrize("forge", ["sqlite"], indirect=True)
#: Rows that are added after their user only.
LATER = CREATE[CREATE.index("[[users.create]]", 1 + CREATE.index("[[users.create]]")) :]


def declare_new(folder, url: str, old: str, new: str, create: str = CREATE) -> None:
    """Declare the profile with another part of its section ``users.new``."""
    path = Path(declare(folder, url, create=create))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@only_sqlite
def test_imported_users_have_the_rows_that_follow_them(answer, forge, tmp_path):
    forge.run("insert into persons values (7, 'all')")
    declare_new(tmp_path, forge.url, 'person = "{persons.id}"', "person = 7", LATER)
    (tmp_path / "users.jsonl").write_text(json.dumps({"username": "bo", "password": "a long passphrase"}))
    answer("users", "import", "users.jsonl")
    assert counts(forge) == {"persons": 1, "people": 1, "folders": 1, "meta": 2, "projects": 1, "members": 1}


@only_sqlite
def test_given_value_replaces_the_default_of_new_users(answer, forge, tmp_path):
    default = '[users.new]\nmail = "none@x.example"\n'
    declare_new(tmp_path, forge.url, "[users.new]\n", default)
    answer("users", "create", "ann", "--email", "ann@x.example", "--generate")
    answer("users", "create", "bo", "--generate")
    assert forge.rows("select mail from people order by id") == [("ann@x.example",), ("none@x.example",)]


@only_sqlite
def test_rows_that_a_trigger_skips_refuse_the_user(answer, forge):
    forge.run("create trigger skipped before insert on folders begin select raise(ignore); end")
    error = answer("users", "create", "ann", "--generate", status=6)["error"]
    assert (error["code"], "0 of 1 row" in error["message"]) == ("constraint", True)
    assert counts(forge) == dict.fromkeys(TABLE_NAMES, 0)


@only_sqlite
def test_rows_that_a_foreign_key_deletes_are_planned_whatever_they_contain(answer, forge, tmp_path):
    title = 'values = { title = "All", made = ":now" }'
    declare(tmp_path, forge.url, create=CREATE.replace(title, f'{title}\nsame = ["title"]'))
    answer("users", "create", "ann", "--generate")
    forge.run("insert into folders (owner, title, made) select id, 'Other', '2026-01-01' from people")
    plan = answer("users", "delete", "ann", "--dry-run")["data"]["plan"]
    assert plan["rows"]["folders"] == plan["deleted"]["folders"] == 2
    answer("users", "delete", "ann", "--yes")
    assert counts(forge) == dict.fromkeys(TABLE_NAMES, 0)


@only_sqlite
def test_required_value_of_a_missing_field_is_refused_before_the_insert(answer, forge, tmp_path):
    declare_new(tmp_path, forge.url, "{name,username:slug}", "{email:slug}")
    error = answer("users", "create", "ann", "--generate", status=2)["error"]
    assert (error["code"], "slug" in error["message"]) == ("schema-mismatch", True)
    answer("users", "create", "ann", "--email", "Ann@x.example", "--generate")
    assert forge.rows("select slug from people") == [("ann-x-example",)]


def test_plan_counts_all_rows_of_a_table_of_metadata(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database("mysql", tmp_path / "none") as database:
        database.run(
            *WORDPRESS_TABLES.strip(";\n").split(";\n"),
            "alter table wp_users alter user_activation_key set default '', alter user_url set default ''",
            "insert into wp_users values (1, 'ann', '$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0', 'ann', 'a@example.org', '', now(), '', 0, 'Ann')",
            "insert into wp_usermeta values (1, 1, 'wp_capabilities', 'a:1:{s:6:\"author\";b:1;}'), (2, 1, 'wp_user_level', '2'),"
            " (3, 1, 'session_tokens', 'a:0:{}')",
        )
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.a]\nprofile = "wordpress"\n[apps.a.databases]\nmain = "{database.url}"\n'
        )
        for words in (
            ["set-role", "ann", "editor"],
            ["create", "bob", "--email", "b@example.org", "--name", "Bob", "--generate"],
        ):
            planned = answer("users", *words, "--dry-run")["data"]["plan"]["rows"]
            before = {row[0]: row for row in database.rows("select * from wp_usermeta")}
            answer("users", *words, "--yes")
            after = {row[0]: row for row in database.rows("select * from wp_usermeta")}
            changed = [key for key in {*before, *after} if before.get(key) != after.get(key)]
            assert planned["wp_usermeta"] == len(changed), words
