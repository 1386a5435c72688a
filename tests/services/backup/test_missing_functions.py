"""SQLite files whose tables and indexes call functions or have collations that only the app defines: their pages are checked, and not what these compute."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

PROFILE = (
    'schema = "dbctl.profile/1"\nname = "notes"\ntitle = "Notes"\n[databases.main]\nengines = ["sqlite"]\n'
)
OTHER = "create table other (a, b)", "create index by_a on other (a)", "create index by_b on other (b)", "insert into other values (1, 2)"  # fmt: skip
FOLDED = "create table notes (id integer primary key, name text, folded text not null generated always as (fold(name)) {})"
TABLES = {
    "virtual": [FOLDED.format("virtual")],
    "virtual with index": [FOLDED.format("virtual"), "create index by_folded on notes (folded)"],
    "stored": [FOLDED.format("stored")],
    "check": ["create table notes (id integer primary key, name text check (fold(name) <> ''))"],
    "index": ["create table notes (id integer primary key, name text)", "create unique index by_fold on notes (fold(name))"],
    "collation of an index": ["create table notes (id integer primary key, name text)", "create index by_fold on notes (name collate fold)"],
    "collation of a column": ["create table notes (id integer primary key, name text collate fold unique check (name < 'A'))"],
    "collation of a key": ["create table notes (id integer, name text collate fold primary key) without rowid"],
}  # fmt: skip


def compare_reversed(text, other):
    return (text.lower() < other.lower()) - (text.lower() > other.lower())


@pytest.fixture(params=list(TABLES))
def notes(request, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.toml").write_text(PROFILE)
    with closing(sqlite3.connect("notes.db")) as connection, connection:
        connection.create_function("fold", 1, lambda text: text and text.lower(), deterministic=True)
        connection.create_collation("fold", compare_reversed)
        for sql in (
            *TABLES[request.param],
            "insert into notes (id, name) values (1, 'Ada'), (2, 'Bo')",
            *OTHER,
        ):
            connection.execute(sql)
    answer("init", "./notes.toml", ".", "--app", "notes", "--url", "main=notes.db")
    return request.param


def test_backup_is_created_drilled_and_restored(notes, answer):
    answer("backup", "create")
    for words in (("backup", "drill"), ("integrity", "check")):
        findings = answer(*words)["data"]["findings"]
        stated = [(finding["severity"], finding["code"], finding["target"]) for finding in findings]
        # a drill compares no index and evaluates no constraint, and SQLite checks no stored values of files that it only reads
        is_called = notes.startswith(("virtual", "collation")) or (
            notes in ("index", "check") and words[1] == "check"
        )
        assert stated == [("info", "not-checked", "notes/main")] * is_called
        assert all(finding["message"].endswith(": fold") for finding in findings)
    answer("restore", "apply", "latest", "--to", "copy.db")
    with closing(sqlite3.connect("copy.db")) as connection:
        connection.create_collation("fold", compare_reversed)
        assert connection.execute("select id, name from notes order by id").fetchall() == [
            (1, "Ada"),
            (2, "Bo"),
        ]


def test_damage_of_other_indexes_is_reported(notes, answer):
    with closing(sqlite3.connect("notes.db", isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        pages = dict(connection.execute("select name, rootpage from sqlite_master where name like 'by__'"))
        for name, other in (("by_a", "by_b"), ("by_b", "by_a")):
            connection.execute("update sqlite_master set rootpage = ? where name = ?", (pages[other], name))
    findings = answer("integrity", "check", status=4)["data"]["findings"]
    assert any("by_a" in finding["message"] for finding in findings)
    assert not any("notes" in finding["message"] and "fold" in finding["message"] for finding in findings)


def test_name_of_a_collation_may_have_any_characters(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("notes.db")) as connection, connection:
        connection.create_collation("icu-de (x)", compare_reversed)
        connection.execute(
            'create table notes (id integer primary key, name text collate "icu-de (x)" unique)'
        )
        connection.execute("insert into notes (name) values ('Ada'), ('Bo')")
    command = ("--profile", "plain", "--url", "main=notes.db", "integrity", "check")
    (finding,) = answer(*command)["data"]["findings"]
    assert (finding["code"], finding["message"].endswith(": icu-de (x)")) == ("not-checked", True)


def test_constraint_by_a_collation_of_the_app_is_not_evaluated_with_a_short_one(
    tmp_path, monkeypatch, answer
):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("notes.db")) as connection, connection:
        connection.create_collation("fold", compare_reversed)
        connection.execute(
            "create table notes (id integer primary key, name text collate fold check (name < 'A'), o integer check (o))"
        )
        connection.execute("insert into notes (name, o) values ('Bo', 1)")
    command = ("--profile", "plain", "--url", "main=notes.db", "integrity", "check")
    assert [finding["code"] for finding in answer(*command)["data"]["findings"]] == ["not-checked"]


def test_foreign_keys_by_a_collation_of_the_app_are_not_checked(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("notes.db")) as connection, connection:
        connection.create_collation("fold", compare_reversed)
        connection.executescript(
            """create table tags (name text collate fold primary key);
            create table notes (id integer primary key, tag text references Tags (name), author integer references authors);
            create table authors (id integer primary key);
            insert into tags values ('Ada');
            insert into notes (tag) values ('ada');"""
        )
    command = ("--profile", "plain", "--url", "main=notes.db", "integrity", "check")
    assert [finding["code"] for finding in answer(*command)["data"]["findings"]] == ["not-checked"]
    with closing(sqlite3.connect("notes.db")) as connection, connection:
        connection.execute("update notes set author = 7")
    codes = [finding["code"] for finding in answer(*command, status=None)["data"]["findings"]]
    assert sorted(codes) == ["foreign-key-orphans", "not-checked"]
