"""The rules of an anonymised copy: what a profile states, what follows from it, and what has no rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbctl.config.sections import Selection
from dbctl.extensions.copies.rules import ColumnRule, DatabaseRules, ValueRule, resolve_rules
from dbctl.services.app.session import open_app
from tests.databases import ComparedDatabase, File, empty_database

#: A small app: users with a profile in another table, sign-ins, settings, and notes of users.
SCHEMA = """
create table people (id varchar(36) primary key, login varchar(40) not null unique, mail varchar(80), pass varchar(80) not null,
    otp varchar(40), kind varchar(10) not null check (kind in ('person', 'robot')), post varchar(10) not null, seen_at varchar(30), level int);
create table addresses (person varchar(36) not null references people (id), full_name varchar(80), city varchar(40));
create table tickets (id varchar(40) primary key, person varchar(36) not null references people (id));
create table steps (ticket varchar(40) not null references tickets (id), note varchar(40));
create table notes (id int primary key, login varchar(40) references people (login), ticket varchar(40) references tickets (id), body varchar(99));
create table options (name varchar(40) primary key, value varchar(99) not null);
create table schema_migrations (version varchar(20) primary key)
"""
PROFILE = """
schema = "dbctl.profile/1"
name = "notes"
title = "Notes"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
secret = ["people.otp"]
[databases.main.migrations]
ledger = "dbmate"
[users]
table = "people"
id = { column = "id", codec = "uuid4" }
login = ["username"]
fields = { username = "login", email = "mail", last_login_at = "seen_at" }
password = { column = "pass" }
role = { column = "post", values = ["admin"] }
[users.joined.name]
table = "addresses"
column = "full_name"
user = "person"
[[users.signed_in]]
table = "tickets"
user = "person"
[[settings]]
scope = "system"
table = "options"
key = "name"
fields = { value = "value" }
secret = ["*_key", "*_token"]
"""


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, tmp_path: Path):
    with empty_database(request.param, tmp_path / "notes.db") as database:
        database.run(*filter(str.strip, SCHEMA.split(";\n")))
        yield database


def resolve(database: ComparedDatabase, section: str = "", *, keep: Sequence[str] = (), profile: str = PROFILE) -> DatabaseRules:  # fmt: skip
    file = Path("notes.toml").absolute()
    file.write_text(profile + section)
    with open_app(Selection(profile=str(file), urls=[f"main={database.url}"]), timeout=5) as app:
        return resolve_rules(app, "main", app.reader("main"), keep=keep)


def list_kinds(rules: DatabaseRules) -> Mapping[str, Any]:
    """Return the kind of each changed column, and ``empty`` for a table, by ``table.column``."""
    kinds = dict[str, Any]()
    for table, rule in rules.tables.items():
        if rule == "empty":
            kinds[table] = "empty"
        else:
            kinds |= {f"{table}.{name}": column.kind for name, column in rule.items()}
    return kinds


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_a_profile_states_is_the_rule_of_columns_without_an_entry(database: ComparedDatabase) -> None:
    rules = resolve(database)
    assert list_kinds(rules) == {
        "people.login": "login",
        "people.mail": "email",
        "people.pass": "password",
        "people.otp": "null",  # a secret that may be missing
        "addresses.full_name": "name",
        "tickets": "empty",  # sign-ins
        "steps": "empty",  # its rows require rows of an emptied table
        "notes.login": "login",  # as the column to which it refers
        "notes.ticket": "null",
    }
    # Generated keys, lists of values, roles, times, ledgers and keys of settings are copied.
    assert sorted(rules.missing) == ["addresses.city", "notes.body", "options.value"]


def test_entry_precedes_what_follows_from_the_profile(database: ComparedDatabase) -> None:
    rules = resolve(
        database,
        """
        [anonymise.databases.main.tables]
        tickets = "keep"
        addresses = "keep"
        [anonymise.databases.main.columns]
        "people.login" = "name"
        "addresses.full_name" = "text"
        "people.otp" = "keep"
        "*.body" = "text"
        "*.*" = "url"
        "options.value" = "keep"
        """,
    )
    kinds = list_kinds(rules)
    assert kinds["people.login"] == "name"
    assert kinds["notes.login"] == "name"  # the foreign key precedes a pattern
    assert kinds["people.mail"] == "email"  # what the profile states does, too
    assert kinds["notes.body"] == "text"  # the first pattern that matches
    assert kinds["addresses.full_name"] == "text"
    assert not {"people.otp", "tickets", "steps"} & kinds.keys()
    assert kinds["addresses.city"] == "url"  # a pattern precedes the table
    assert rules.missing == []


def test_copied_table_has_no_column_without_a_rule_and_its_own_rules(database: ComparedDatabase) -> None:
    rules = resolve(
        database, '[anonymise.databases.main.tables]\n"p*" = "keep"\n"t*" = "keep"\n"not*" = "empty"'
    )
    assert {"people.login", "people.mail", "people.otp"} <= list_kinds(rules).keys()
    assert {"notes", "tickets"} <= {name for name, kind in list_kinds(rules).items() if kind == "empty"}
    assert sorted(rules.missing) == ["addresses.city", "options.value"]


def test_columns_of_one_run_are_copied(database: ComparedDatabase) -> None:
    rules = resolve(database, keep=["notes.body", "people.mail"])
    assert "notes.body" not in rules.missing
    assert "people.mail" not in list_kinds(rules)


def test_secrets_among_settings_are_removed_unless_the_entry_names_them(database: ComparedDatabase) -> None:
    entry = '[anonymise.databases.main.tables]\noptions = "keep"'
    rule = resolve(database, entry).tables["options"]["value"]  # type: ignore[index] # no emptied table
    removed = ValueRule(kind="omit")
    assert rule == ColumnRule(kind="keep", by=("name",), values={"*_key": removed, "*_token": removed})
    entry = '[anonymise.databases.main.columns]\n"options.value" = { by = "name", values = { site_key = "keep", mail = "email", "*_key" = "url" }, rest = "text" }'
    rule = resolve(database, entry).tables["options"]["value"]  # type: ignore[index] # no emptied table
    assert (rule.kind, rule.by) == ("text", ("name",))
    assert {key: value.kind for key, value in rule.values.items()} == {"site_key": "keep", "mail": "email", "*_key": "url", "*_token": "omit"}  # fmt: skip


def test_removed_value_is_a_token_where_null_is_not_allowed(database: ComparedDatabase) -> None:
    entry = '[anonymise.databases.main.columns]\n"people.mail" = "null"\n"notes.body" = "null"\n"options.value" = "null"'
    kinds = list_kinds(resolve(database, entry))
    assert (kinds["people.mail"], kinds["notes.body"], kinds["options.value"]) == ("null", "null", "token")


def test_entry_describes_a_part_of_the_value_and_places_in_a_document(database: ComparedDatabase) -> None:
    rules = resolve(
        database,
        """
        [anonymise.databases.main.columns]
        "people.mail" = { kind = "login", after = "@", before = ":", rest = "keep" }
        "notes.body" = { kind = "json", paths = { "user.mail" = "email", "*.by" = { kind = "login", after = "@" } }, rest = "keep" }
        """,
    )
    people, notes = rules.tables["people"], rules.tables["notes"]
    assert people["mail"] == ColumnRule(kind="login", after="@", before=":", rest="keep")  # type: ignore[index] # no emptied table
    assert notes["body"].paths == {"user.mail": ValueRule(kind="email"), "*.by": ValueRule(kind="login", after="@")}  # type: ignore[index] # fmt: skip


TYPES = {
    "sqlite": ["a integer, b real, c numeric(8, 2), d datetime, e boolean, f varchar(9) as (x0) virtual", "text", "blob", "json", ""],
    "postgresql": [
        "a int[], b timestamptz, c uuid, d mood, e interval, f int4range, g numeric(4)",
        "text[]", "inet", "jsonb", "bytea", "tsvector", "point",
    ],
    "mysql": ["a bigint unsigned, b year, c enum ('x'), d set ('x'), e bit(1), f datetime(3), g decimal(4)", "longtext", "json", "blob"],
}  # fmt: skip


def test_only_types_of_personal_data_need_a_rule(database: ComparedDatabase) -> None:
    impersonal, *personal = TYPES[database.engine]
    if database.engine == "postgresql":
        database.run("create type mood as enum ('good', 'bad')")
    columns = [impersonal, *(f"x{index} {kind}" for index, kind in enumerate(personal))]
    database.run(f"create table types ({', '.join(columns)})")
    missing = [path for path in resolve(database).missing if path.startswith("types.")]
    assert missing == [f"types.x{index}" for index in range(len(personal))]


def test_full_text_index_is_emptied_or_built_again(tmp_path: Path) -> None:
    file = File(tmp_path / "notes.db")
    file.run(
        "create table notes (id integer primary key, body text)",
        "create virtual table words using fts4(body)",
        "create virtual table texts using fts5(body, content=notes, content_rowid=id)",
    )
    rules = resolve(
        file,
        '[anonymise.databases.main.columns]\n"notes.body" = "text"',
        profile=PROFILE.partition("[users]")[0],
    )
    assert list_kinds(rules) == {"words": "empty", "notes.body": "text"}
    assert rules.missing == []
