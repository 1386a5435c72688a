"""Samples of rows: read once per connection, with the newest rows last; the forms of times in them are those that SQLite finds."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteReader, SQLiteWriter
from dbctl.profiles.codecs import find_time_form
from tests.services.flashpoint_app import copy_configured_deployment

DAY = st.dates().map(str)
TEXTS = st.one_of(
    st.builds("{}{}{}".format, DAY, st.sampled_from("T t\n"), st.text("0123456789:.+Z ", max_size=12)),
    st.text("0123456789-", min_size=6, max_size=16),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=14),
)
VALUES = st.one_of(st.none(), TEXTS, st.integers(-(10**14), 10**14), st.floats(allow_nan=False))
COMMANDS = [
    "users create alice --email alice@example.org --generate",
    "users ensure alice --email alice@example.com",
    "users set-role alice guest",
    "users deactivate alice",
    "settings set auth.maxLoginAttempts 7",
    "data add login_attempts username=alice success=no",
    "users delete alice --force",
    "apps check",
]


@given(VALUES)
def test_form_of_time_is_that_of_sqlite(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("times") / "times.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("create table t (at)")
        db.execute("insert into t values (?)", [value])
    with closing(SQLiteReader(path, "app/main")) as reader:
        forms = [count.form for count in reader.times.count_time_forms("t", "at")]
    assert forms == ([form] if (form := find_time_form(value)) else [])


@pytest.mark.parametrize("options", ["", "without rowid"])
def test_sample_of_sqlite_is_in_order_of_insertion(tmp_path, options):
    path = tmp_path / "rows.db"
    names = ["c", "a", "d", "b"]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"create table t (name text primary key) {options}")
        db.executemany("insert into t values (?)", [[name] for name in names])
    with closing(SQLiteReader(path, "app/main")) as reader:
        rows = reader.sample("t", ["name"], rows=1, timeout=timedelta(seconds=1))
    assert [name for (name,) in rows] == (["a", "d"] if options else ["c", "b"])


def read_content(folder):
    """Return all rows; the digits of times, numbers and hashes differ between runs, not their forms."""
    content = []
    for path in sorted(folder.rglob("*.db")):
        with closing(sqlite3.connect(path)) as db:
            content += [re.sub(r"\$2b\$[^']*|\d", "0", line) for line in db.iterdump()]
    return content


def test_commands_have_same_results_without_memory(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    copy_configured_deployment(tmp_path / "first")
    shutil.copytree("first", "second")
    results = {}
    for folder in ("first", "second"):
        if folder == "second":
            monkeypatch.setattr(SQLiteDatabase, "memo", property(lambda _: None, lambda *_: None))
        monkeypatch.chdir(tmp_path / folder)
        errors = [answer("--yes", *command.split(), status=None).get("error") for command in COMMANDS]
        results[folder] = [error and error["code"] for error in errors], read_content(tmp_path / folder)
    assert results["first"][0] == results["second"][0]
    assert set(results["first"][1]) ^ set(results["second"][1]) == set()
    assert results["first"][0].count(None) >= 6


def test_time_form_is_read_again_after_transaction(tmp_path):
    path = tmp_path / "times.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("create table t (at)")
    with closing(SQLiteWriter(path, "app/main")) as writer:
        writer.memo["t"] = "rows"
        with writer.transaction():
            with writer.transaction():
                writer.insert("t", {"at": 1})
            assert writer.memo == {"t": "rows"}
        assert writer.memo == {}
        writer.memo["t"] = "rows"
        with pytest.raises(KeyError), writer.transaction():
            raise KeyError
        assert writer.memo == {}
