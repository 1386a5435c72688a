"""Variants of a profile: one app in two versions, selected by the live schema."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import msgspec
import pytest

from dbctl.config.sections import Selection
from dbctl.errors.connection import BusyError, ConcurrentChangeError
from dbctl.files import toml
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.session import open_app
from tests.databases import empty_database
from tools import profiles as generate

#: Since version 4, the role is a foreign key, the sign-ins are rows, and the login is called ``handle``.
PROFILE = """\
schema = "dbctl.profile/1"
name = "guild"
title = "Guild"
prefix = "g_"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
needs = ["g_people", "g_ranks"]
[users]
table = "g_people"
id = { column = "id" }
login = ["username"]
admin = "chief"
role = { column = "rank_id", table = "g_ranks" }
[users.fields]
username = "handle"
active = "active"
[[users.signed_in]]
table = "g_tokens"
user = "person_id"
[[sessions]]
table = "g_tokens"
key = "token"
user = "person_id"
lifetime = "30d"
started_at = "since"
[[variants]]
name = "3.x"
needs = ["g_people.is_chief", "g_people.is_helper"]
remove = ["users.signed_in[0]", "sessions"]
[variants.changes]
"databases.main.needs" = ["g_people", "g_people_log"]
"users.fields.username" = "nick"
[variants.changes."users.role"]
ranks = [
    { name = "chief", columns = { is_chief = true, is_helper = true }, match = ["is_chief"] },
    { name = "helper", columns = { is_chief = false, is_helper = true } },
    { name = "member", columns = { is_chief = false, is_helper = false } },
]
"""
SERIAL = {
    "sqlite": "integer primary key autoincrement",
    "postgresql": "serial primary key",
    "mysql": "int auto_increment primary key",
}
SCHEMAS = {
    "3.x": [
        (
            "create table {p}people (id {serial}, nick varchar(50) not null unique, active boolean not null,"
            " is_chief boolean not null, is_helper boolean not null)"
        ),
        "create table {p}people_log (id {serial}, entry varchar(50))",
        (
            "insert into {p}people (nick, active, is_chief, is_helper) values"
            " ('ada', true, true, true), ('bob', true, false, true), ('cy', false, true, true)"
        ),
    ],
    None: [
        "create table {p}ranks (id {serial}, name varchar(50) not null)",
        (
            "create table {p}people (id {serial}, handle varchar(50) not null unique, active boolean not null,"
            " rank_id integer not null)"
        ),
        "create table {p}tokens (token varchar(50) primary key, person_id integer not null, since varchar(30))",
        "insert into {p}ranks (name) values ('chief'), ('helper'), ('member')",
        "insert into {p}people (handle, active, rank_id) values ('ada', true, 1), ('bob', true, 2), ('cy', false, 1)",
    ],
}
#: Locks the file and begins to write it, so that no other process can read it.
HOLD_LOCK = """\
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma journal_mode = delete")
connection.execute("begin exclusive")
connection.execute("create table unfinished (id)")
print("locked", flush=True)
time.sleep(60)
"""
ROLE = {
    "3.x": "select is_chief, is_helper from {p}people where nick = 'bob'",
    None: "select rank_id from {p}people where handle = 'bob'",
}


def create_schema(database, variant, prefix="g_"):
    serial = SERIAL[database.engine]
    database.run(*(statement.format(p=prefix, serial=serial) for statement in SCHEMAS[variant]))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request, tmp_path):
    with empty_database(request.param, tmp_path / "guild.db") as database:
        yield database


@pytest.fixture
def write_app(tmp_path, monkeypatch):
    """Return a function that writes the profile and the configuration of a database."""
    monkeypatch.chdir(tmp_path)

    def write(url, profile=PROFILE):
        (tmp_path / "guild.toml").write_text(profile, encoding="utf-8")
        (tmp_path / "dbctl.toml").write_text(
            f"[apps.guild]\nprofile = 'guild.toml'\n[apps.guild.databases]\nmain = '{url}'\n"
            "[apps.guild.backup]\nrepository = 'backups'\n",
            encoding="utf-8",
        )

    return write


@pytest.mark.parametrize(("variant", "prefix"), [("3.x", "old_"), (None, "g_")])
def test_each_version_is_read_and_written_in_its_own_form(answer, write_app, database, variant, prefix):
    create_schema(database, variant, prefix)
    write_app(database.url)
    listed = answer("users", "list")["data"]["items"]
    assert [(user["login"], user["role"], user["active"]) for user in listed] == [
        ("ada", "chief", True),
        ("bob", "helper", True),
        ("cy", "chief", False),
    ]
    for words in (("set-role", "ada", "member"), ("deactivate", "ada"), ("delete", "ada", "--yes")):
        assert answer("users", *words, status=6)["error"]["code"] == "last-admin"
    answer("users", "set-role", "bob", "chief")
    ((*stored,),) = database.rows(ROLE[variant].format(p=prefix))
    assert list(map(int, stored)) == ([1, 1] if variant else [1])
    answer("users", "set-role", "ada", "member")  # bob is a chief now
    (app,) = answer("apps", "list")["data"]["items"]
    assert app["variant"] == variant
    shown = answer("apps", "show")["data"]
    assert (shown["variant"], shown["variants"]) == (variant, ["3.x"])
    assert ("sessions" in shown["features"]) is (variant is None)
    checked = answer("apps", "check")["data"]["findings"]
    assert [(finding["severity"], finding["code"]) for finding in checked] == (
        [("info", "variant")] if variant else []
    )
    answer("sessions", "list", status=2 if variant else 0)


def test_missing_column_is_reported_at_the_change_of_the_variant(answer, write_app, tmp_path):
    with empty_database("sqlite", tmp_path / "guild.db") as database:
        create_schema(database, "3.x")
        wrong = PROFILE.replace('"nick"', '"nickname"')
        write_app(database.url, wrong)
        findings = answer("apps", "check", status=4)["data"]["findings"]
    line = wrong.splitlines().index('"users.fields.username" = "nickname"') + 1
    (missing,) = [finding for finding in findings if finding["code"] == "schema-mismatch"]
    assert f"line {line}, variants[0].changes.users.fields.username" in missing["message"]


def test_init_recognizes_both_versions(answer, tmp_path, monkeypatch):
    folder = tmp_path / "config" / "dbctl" / "profiles"
    folder.mkdir(parents=True)
    (folder / "guild.toml").write_text(PROFILE, encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for variant, prefix in (("3.x", "old_"), (None, "new_")):
        place = tmp_path / prefix
        place.mkdir()
        with empty_database("sqlite", place / "guild.db") as database:
            create_schema(database, variant, prefix)
        monkeypatch.chdir(place)
        answer("init", str(place))
        text = (place / "dbctl.toml").read_text(encoding="utf-8")
        assert 'profile = "guild"' in text
        assert f'prefix = "{prefix}"' in text
        assert answer("users", "list")["data"]["total"] == 3


def test_migrated_and_restored_databases_select_their_own_version(answer, write_app, tmp_path):
    with empty_database("sqlite", tmp_path / "guild.db") as database:
        create_schema(database, "3.x")
        write_app(database.url)
        backup = answer("backup", "create")["data"]["id"]
        database.destroy()
        create_schema(database, None)
        assert answer("users", "show", "bob")["data"]["role"] == "helper"
        answer("backup", "drill", backup)
        answer("restore", "apply", backup, "--yes")
        assert answer("apps", "list")["data"]["items"][0]["variant"] == "3.x"
        answer("users", "set-role", "bob", "member")
        assert database.rows(ROLE["3.x"].format(p="g_")) == [(0, 0)]


@pytest.mark.needs_extension("adopt")
def test_database_restored_from_a_dump_of_its_app_selects_its_own_version(answer, write_app, tmp_path):
    with empty_database("sqlite", tmp_path / "guild.db") as database:
        create_schema(database, "3.x")
        write_app(database.url)
        dump = tmp_path / "earlier.sql"
        with closing(sqlite3.connect(database.path)) as connection:
            dump.write_text("\n".join(connection.iterdump()), encoding="utf-8")
        database.destroy()
        create_schema(database, None)
        answer("restore", "apply", "--file", str(dump), "--replace", "--yes")
        assert answer("apps", "show")["data"]["variant"] == "3.x"


def test_writer_refuses_a_schema_of_another_version_than_at_the_start(write_app, tmp_path):
    with empty_database("sqlite", tmp_path / "guild.db") as database:
        create_schema(database, "3.x")
        write_app(database.url)
        with open_app(Selection(), timeout=1) as app:
            database.destroy()
            create_schema(database, None)
            with pytest.raises(ConcurrentChangeError), app.writer("main"):
                pass


def test_locked_database_is_reported_without_a_second_wait(write_app, tmp_path):
    """The selection of the variant has waited for the lock; the command reports this, although the lock is released."""
    with empty_database("sqlite", tmp_path / "guild.db") as database:
        create_schema(database, "3.x")
        write_app(database.url)
        command = [sys.executable, "-c", HOLD_LOCK, database.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout
            holder.stdout.readline()
            with open_app(Selection(), timeout=0.1) as app:
                holder.kill()
                holder.wait()
                with pytest.raises(BusyError):
                    app.reader("main")
                with pytest.raises(BusyError), app.writer("main"):
                    pass


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (
            '"users.fields.username" = "nick"',
            '"users.fields.username" = 1',
            "variants[0].changes.users.fields.username",
        ),
        ('"users.fields.username" = "nick"', '"users.tabel" = "nick"', "variants[0].changes.users.tabel"),
        (
            '"users.fields.username" = "nick"',
            '"users.lockout.table" = "nick"',
            "variants[0].changes.users.lockout.table",
        ),
        ('"users.fields.username" = "nick"', '"users..fields" = "nick"', "variants[0].changes.users..fields"),
        (
            '"users.fields.username" = "nick"',
            '"users.role.column" = "nick"',
            "variants[0].changes.users.role",
        ),
        ('"users.fields.username" = "nick"', '"prefix" = "h_"', "variants[0].changes.prefix"),
        ('"users.fields.username" = "nick"', '"databases.main.mode" = "read-only"', "variants[0]"),
        ('"users.signed_in[0]"', '"users.signed_in[1]"', "variants[0].remove[0]"),
        ('"users.signed_in[0]"', '"users.table"', "variants[0].remove[0]"),
        ('"users.signed_in[0]"', '"users.lookup"', "variants[0].remove[0]"),
        (
            '{ name = "helper", columns',
            '{ nam = "helper", columns',
            "variants[0].changes.users.role.ranks[1].nam",
        ),
        ('name = "helper", columns', 'name = "chief", columns', "variants[0].changes.users.role.ranks"),
        ('needs = ["g_people.is_chief", "g_people.is_helper"]', "needs = []", "variants[0].needs"),
    ],
)
def test_error_in_a_variant_is_reported_with_line_and_key(answer, write_app, old, new, key):
    assert PROFILE.count(old) == 1
    text = PROFILE.replace(old, new)
    write_app("missing.db", text)
    findings = answer("apps", "check", "guild.toml", status=2)["data"]["findings"]
    messages = [finding["message"] for finding in findings]
    assert any(f", {key}: " in message for message in messages), messages
    lines = [int(message.split(",")[0].removeprefix("line ")) for message in messages]
    assert min(lines) > text.splitlines().index("[[variants]]")


def test_variants_are_equal_from_cache(tmp_path):
    path = tmp_path / "guild.toml"
    path.write_text(PROFILE, encoding="utf-8")
    cache = msgspec.json.decode(generate.encode_cache(path), type=loader.Cache)
    assert msgspec.json.decode(cache.profile, type=Profile) == loader.read(path)
    assert json.loads(generate.encode_cache(path))["profile"] == toml.loads(PROFILE)
