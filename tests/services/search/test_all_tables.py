"""Search of all text columns of an app's databases, on every engine, and the report of skipped columns."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.connection import UnreachableError
from dbctl.errors.usage import DatabaseNotConfiguredError, UsageError, ValueInvalidError
from dbctl.services.search.all_tables import scan_tables
from tests import servers

PROFILE = """
schema = "dbctl.profile/1"
name = "larder"
title = "Larder"
[databases.one]
engines = ["sqlite"]
secret = ["members.token", "keys.secret?"]
[databases.two]
engines = ["postgresql"]
[databases.three]
engines = ["mysql"]
[databases.four]
engines = ["sqlite"]
optional = true
"""
TABLES = [
    "create table members (id integer primary key, name varchar(80), token varchar(80), age integer)",
    "insert into members values (1, 'Ida Needle', 'needle-1', 3), (2, 'Bo', 'x', 4), (10, 'NEEDLEs and pins', 'y', 5)",
    "create table notes (a integer, b varchar(9), body text, primary key (a, b))",
    "insert into notes values (7, 'k', 'a haystack')",
    "create view names as select name from members",
]
LONG = timedelta(seconds=30)


@pytest.fixture(scope="module")
def larder(tmp_path_factory):
    """Yield the selection of an app with three similar databases, and one that is not configured."""
    tmp_path = tmp_path_factory.mktemp("larder")
    (tmp_path / "larder.toml").write_text(PROFILE)
    file = tmp_path / "one.db"
    with ExitStack() as stack:
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            for sql in TABLES:
                db.execute(sql)
            db.execute("create table keys (secret text primary key, label text)")
            db.execute("insert into keys values ('s3cret', 'the needle key')")
            db.execute("insert into notes values (8, 'k', x'6e6565646c65')")
            db.execute("create virtual table words using fts5(body, content='notes')")
            db.execute("create virtual table own using fts5(body)")
            db.execute("insert into own values ('needlework')")
        postgresql = stack.enter_context(servers.postgresql_schema())
        with closing(servers.connection(postgresql)) as session:
            for sql in TABLES:
                session.execute(sql)
            session.execute("create table more (id uuid primary key, document jsonb, raw bytea, tags text[])")
            session.execute(
                "insert into more values ('00000000-0000-4000-8000-000000000001', '{\"a\": \"needle\"}', 'needle', '{needle}')"
            )
        mysql = stack.enter_context(servers.mysql_database())
        with closing(servers.mysql_connection(mysql)) as session, session.cursor() as cursor:
            for sql in TABLES:
                cursor.execute(sql)
        urls = [f"one={file}", f"two={servers.text(postgresql)}", f"three={servers.text(mysql)}"]
        yield Selection(profile=str(tmp_path / "larder.toml"), urls=urls)


def scan(selection, word, *, only="", limit=5, timeout=LONG, **options):
    from dbctl.services.app.session import open_app

    with open_app(selection, timeout=5, only=only) as app:
        return scan_tables(app, word, limit=limit, timeout=timeout, **options)


def list_matches(report):
    return [
        (match.target.partition("/")[2], match.table, match.column, list(match.key), match.snippet)
        for match in report.result.items
    ]


def test_word_is_found_in_every_database_with_row_key(larder):
    report = scan(larder, "needle", marks=("[", "]"))
    expected = [("members", "name", [1], "Ida [Needle]"), ("members", "name", [10], "[NEEDLE]s and pins")]
    matches = list_matches(report)
    for name in ("one", "two", "three"):
        assert [match[1:] for match in matches if match[0] == name and match[2] == "name"] == expected
    assert ("three", "members", "token", [1], "[needle]-1") in matches
    assert ("one", "keys", "label", ["***"], "the [needle] key") in matches
    assert ("one", "own", "body", [], "[needle]work") in matches
    texts = {match[2]: match[4] for match in matches if match[1] == "more"}
    assert texts == {"document": '{"a": "[needle]"}', "tags": "{[needle]}"}
    assert report.status == Exit.OK
    assert report.result.tables == 9


def test_secret_columns_are_scanned_only_on_request(larder):
    report = scan(larder, "needle-1", only="one")
    assert list_matches(report) == []
    secret = [
        (entry.table, list(entry.columns)) for entry in report.result.skipped if entry.reason == "secret"
    ]
    assert secret == [("members", ["token"]), ("keys", ["secret"])]
    with_secrets = scan(larder, "needle-1", only="one", secrets=True)
    assert list_matches(with_secrets) == [("one", "members", "token", [1], "needle-1")]
    assert list_matches(scan(larder, "s3cret", only="one", secrets=True))[0][3] == ["s3cret"]


def test_skipped_columns_are_reported(larder):
    report = scan(larder, "needle")
    skipped = {
        (entry.target.partition("/")[2], entry.table, entry.reason): list(entry.columns)
        for entry in report.result.skipped
    }
    assert skipped[("one", "members", "no-text")] == ["id", "age"]
    assert skipped[("two", "more", "no-text")] == ["raw"]
    assert ("three", "names", "view") in skipped
    assert ("four", None, "not-configured") in skipped
    assert "2 secret columns (--secrets)" in report.result.note
    assert "3 views" in report.result.note
    assert report.result.problems == []


def test_binary_values_are_not_scanned(larder):
    assert [match for match in list_matches(scan(larder, "needle", only="one")) if match[1] == "notes"] == []


def test_limit_per_table_is_applied_and_reported(larder):
    report = scan(larder, "needle", only="two", limit=1)
    assert len({tuple(entry.key) for entry in report.result.items if entry.table == "members"}) == 1
    assert [entry.partition("/")[2] for entry in report.result.truncated] == ["two, members"]


def test_unreachable_database_does_not_hide_other_results(larder):
    urls = [*larder.urls[:1], "two=postgresql://127.0.0.1:1/none"]
    selection = Selection(profile=larder.profile, urls=urls)
    report = scan(selection, "needle")
    assert report.status == Exit.PARTIAL
    assert {entry.target.partition("/")[2] for entry in report.result.items} == {"one"}
    assert any("two was not scanned" in entry for entry in report.result.problems)
    with pytest.raises(UnreachableError):
        scan(selection, "needle", only="two")
    with pytest.raises(DatabaseNotConfiguredError):
        scan(selection, "needle", only="three")


def test_slow_table_does_not_block_other_tables():
    from dbctl.services.app.session import open_app

    with servers.postgresql_schema() as url, closing(servers.connection(url)) as session:
        session.execute("create table a_slow (id integer primary key, body text)")
        session.execute("create table quick (id integer primary key, body text)")
        session.execute("insert into quick values (1, 'the needle')")
        selection = Selection(urls=[servers.text(url)])
        with session.transaction():
            session.execute("lock table a_slow")  # readers of the table wait
            with open_app(selection, timeout=60) as app:
                report = scan_tables(app, "needle", limit=5, timeout=timedelta(seconds=2))
        assert [(entry.table, list(entry.key)) for entry in report.result.items] == [("quick", [1])]
        assert [entry.table for entry in report.result.skipped if entry.reason == "time"] == ["a_slow"]
        assert "--within" in report.result.problems[0]
        assert report.status == Exit.PARTIAL
        full_report = scan(selection, "needle")
        assert (full_report.status, full_report.result.tables) == (Exit.OK, 2)


@pytest.mark.parametrize("word", ["", "  "])
def test_empty_word_is_refused(larder, word):
    with pytest.raises(UsageError):
        scan(larder, word)


@pytest.mark.parametrize("word", ["a\0b", "x" * 100_000, "\udcff"])
def test_invalid_word_is_refused(larder, word):
    with pytest.raises(ValueInvalidError):
        scan(larder, word)


@pytest.mark.parametrize("word", ["'", "%", "_", "!", "\\", "; drop table members", "ß", "猫"])
def test_words_are_literal(larder, word):
    assert list_matches(scan(larder, word)) == []


def test_snippet_contains_a_match_behind_a_nul(answer, tmp_path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("create table notes (id integer primary key, body text)")
        texts = ("before\0after the word", "é" * 500 + "word\0after", "\0" + "x" * 500 + " word " + "y" * 500)
        db.executemany("insert into notes (body) values (?)", [(text,) for text in texts])
    words = ("search", "all", "word", "--url", f"main={file}", "--mark", "<", ">")
    snippets = [item["snippet"] for item in answer(*words)["data"]["items"]]
    assert ["<word>" in snippet for snippet in snippets] == [True] * 3
    assert max(map(len, snippets)) < 200


def test_index_that_triggers_copy_is_not_scanned(answer, tmp_path):
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "create table notes (id integer primary key, text text); create virtual table notes_index using fts5(text);"
            "create trigger copy after insert on notes begin insert into notes_index(rowid, text) values (new.id, new.text); end;"
            "create virtual table loose using fts5(text);"
            "insert into notes values (1, 'red maple'); insert into loose values ('sugar maple');"
        )
    items = answer("--url", f"main={path}", "search", "all", "maple")["data"]["items"]
    assert sorted((item["table"], item["snippet"]) for item in items) == [
        ("loose", "sugar maple"),
        ("notes", "red maple"),
    ]
