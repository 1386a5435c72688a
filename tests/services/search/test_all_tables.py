"""A word in every text of an app's databases, on every engine, and what is told of what was not looked at."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest

from dbctl.config import Selection
from dbctl.errors import DatabaseUnsetError, Exit, UnreachableError, UsageError, ValueInvalidError
from dbctl.services.app import app as apps
from dbctl.services.search.all_tables import look
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
    "create view seen as select name from members",
]
LONG = timedelta(seconds=30)


@pytest.fixture(scope="module")
def larder(tmp_path_factory):
    """Give the words that choose the app, with three databases alike and one that is not configured."""
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
            session.execute("create table more (id uuid primary key, told jsonb, raw bytea, tags text[])")
            session.execute(
                "insert into more values ('00000000-0000-4000-8000-000000000001', '{\"a\": \"needle\"}', 'needle', '{needle}')"
            )
        mysql = stack.enter_context(servers.mysql_database())
        with closing(servers.mysql_connection(mysql)) as session, session.cursor() as cursor:
            for sql in TABLES:
                cursor.execute(sql)
        urls = [f"one={file}", f"two={servers.text(postgresql)}", f"three={servers.text(mysql)}"]
        yield Selection(profile=str(tmp_path / "larder.toml"), urls=urls)


def found(said, word, *, only="", limit=5, within=LONG, **more):
    with apps.opened(said, timeout=5, only=only) as app:
        return look(app, word, limit=limit, within=within, **more)


def places(looked):
    return [
        (one.target.partition("/")[2], one.table, one.column, list(one.key), one.snippet)
        for one in looked.found.items
    ]


def test_a_word_is_found_in_every_database_with_the_key_of_its_row(larder):
    looked = found(larder, "needle", marks=("[", "]"))
    alike = [("members", "name", [1], "Ida [Needle]"), ("members", "name", [10], "[NEEDLE]s and pins")]
    told = places(looked)
    for name in ("one", "two", "three"):
        assert [one[1:] for one in told if one[0] == name and one[2] == "name"] == alike
    assert ("three", "members", "token", [1], "[needle]-1") in told
    assert ("one", "keys", "label", ["***"], "the [needle] key") in told
    assert ("one", "own", "body", [], "[needle]work") in told
    more = {one[2]: one[4] for one in told if one[1] == "more"}
    assert more == {"told": '{"a": "[needle]"}', "tags": "{[needle]}"}
    assert looked.status == Exit.OK
    assert looked.found.tables == 9


def test_secrets_are_looked_at_only_when_that_is_said(larder):
    told = found(larder, "needle-1", only="one")
    assert places(told) == []
    secret = [(one.table, list(one.columns)) for one in told.found.skipped if one.why == "secret"]
    assert secret == [("members", ["token"]), ("keys", ["secret"])]
    shown = found(larder, "needle-1", only="one", secrets=True)
    assert places(shown) == [("one", "members", "token", [1], "needle-1")]
    assert places(found(larder, "s3cret", only="one", secrets=True))[0][3] == ["s3cret"]


def test_what_was_not_looked_at_is_told(larder):
    looked = found(larder, "needle")
    skipped = {
        (one.target.partition("/")[2], one.table, one.why): list(one.columns) for one in looked.found.skipped
    }
    assert skipped[("one", "members", "no-text")] == ["id", "age"]
    assert skipped[("two", "more", "no-text")] == ["raw"]
    assert ("three", "seen", "view") in skipped
    assert ("four", None, "not-configured") in skipped
    assert "2 secret columns (--secrets)" in looked.found.remark
    assert "3 views" in looked.found.remark
    assert looked.found.troubles == []


def test_bytes_are_no_text(larder):
    assert [one for one in places(found(larder, "needle", only="one")) if one[1] == "notes"] == []


def test_no_more_rows_of_a_table_come_than_asked_for_and_that_is_told(larder):
    looked = found(larder, "needle", only="two", limit=1)
    assert len({tuple(one.key) for one in looked.found.items if one.table == "members"}) == 1
    assert [one.partition("/")[2] for one in looked.found.more] == ["two, members"]


def test_a_database_that_cannot_be_reached_does_not_hide_the_others(larder):
    urls = [*larder.urls[:1], "two=postgresql://127.0.0.1:1/none"]
    said = Selection(profile=larder.profile, urls=urls)
    looked = found(said, "needle")
    assert looked.status == Exit.PARTIAL
    assert {one.target.partition("/")[2] for one in looked.found.items} == {"one"}
    assert any("two was not looked through" in one for one in looked.found.troubles)
    with pytest.raises(UnreachableError):
        found(said, "needle", only="two")
    with pytest.raises(DatabaseUnsetError):
        found(said, "needle", only="three")


def test_a_table_that_takes_long_does_not_keep_the_others_from_their_turn():
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as session:
        session.execute("create table a_slow (id integer primary key, body text)")
        session.execute("create table quick (id integer primary key, body text)")
        session.execute("insert into quick values (1, 'the needle')")
        said = Selection(urls=[servers.text(url)])
        with session.transaction():
            session.execute("lock table a_slow")  # whoever reads it waits
            with apps.opened(said, timeout=60) as app:
                looked = look(app, "needle", limit=5, within=timedelta(seconds=2))
        assert [(one.table, list(one.key)) for one in looked.found.items] == [("quick", [1])]
        assert [one.table for one in looked.found.skipped if one.why == "time"] == ["a_slow"]
        assert "--within" in looked.found.troubles[0]
        assert looked.status == Exit.PARTIAL
        whole = found(said, "needle")
        assert (whole.status, whole.found.tables) == (Exit.OK, 2)


@pytest.mark.parametrize("word", ["", "  "])
def test_no_word_is_refused(larder, word):
    with pytest.raises(UsageError):
        found(larder, word)


@pytest.mark.parametrize("word", ["a\0b", "x" * 100_000, "\udcff"])
def test_what_no_text_holds_is_refused(larder, word):
    with pytest.raises(ValueInvalidError):
        found(larder, word)


@pytest.mark.parametrize("word", ["'", "%", "_", "!", "\\", "; drop table members", "ß", "猫"])
def test_any_word_is_taken_literally(larder, word):
    assert places(found(larder, word)) == []
