"""Long keys, and keys with line feeds and terminal escapes: text for people has their escaped beginning, JSON all of it."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from contextlib import closing

import pexpect
import pytest

from dbctl.cli.main import main

LONG = "long" * 750
HOSTILE = "line\nnext \x1b[31mred\x1b[0m \u202eleft"
MISSING = "none" * 750
#: Characters that a plan or a message may have for each part of a key, together with its own words.
MOST_CHARACTERS = 200


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Create a database with keys of one and two columns; the working directory configures it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DBCTL_CONFIG", str(tmp_path / "dbctl.toml"))
    (tmp_path / "dbctl.toml").write_text('[apps.notes]\nprofile = "plain"\ndatabases = "app.db"\n')
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("create table docs (name text primary key, body text)")
        connection.execute("create table pages (doc text, name text, body text, primary key (doc, name))")
        connection.executemany("insert into docs values (?, 'old')", [(LONG,), (HOSTILE,)])
        connection.execute("insert into pages values (?, ?, 'old')", (LONG, HOSTILE))
    return tmp_path / "app.db"


def assert_short(text):
    """Check that the text has no long key, and no character that affects a terminal."""
    assert [line for line in text.splitlines() if len(line) > MOST_CHARACTERS] == []
    assert not re.search("[\x1b\u202e]", text)
    assert not re.search("^next", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "key", [(LONG,), (HOSTILE,), (LONG, HOSTILE)], ids=["long", "hostile", "two columns"]
)
@pytest.mark.parametrize(
    ("command", "options", "status"),
    [
        (["delete"], ["--dry-run"], 0),
        (["delete"], [], 6),
        (["delete"], ["--yes"], 0),
        (["set"], ["body=new", "--dry-run"], 0),
        (["set"], ["body=new"], 0),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else str(words),
)
def test_text_of_change_has_beginning_of_key(database, capsys, command, options, status, key):
    table = "docs" if len(key) == 1 else "pages"
    assert main(["data", *command, table, *key, *options]) == status
    output = capsys.readouterr()
    assert_short(output.out + output.err)
    if status or "--dry-run" in options:
        assert f"{table} {key[0][:4]}" in output.out + output.err


@pytest.mark.parametrize(
    "command", [["delete", "--yes"], ["show"], ["set", "body=new"]], ids=lambda words: words[0]
)
@pytest.mark.parametrize("key", [(MISSING,), (f"{HOSTILE}!",), (MISSING, HOSTILE)])
def test_error_about_missing_row_has_beginning_of_key(database, capsys, command, key):
    name, *options = command
    assert main(["data", name, "docs" if len(key) == 1 else "pages", *key, *options]) == 5
    output = capsys.readouterr()
    assert_short(output.out + output.err)
    assert key[0][:4] in output.err


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["plan", "closing line"])
@pytest.mark.parametrize("key", [MISSING, f"{HOSTILE}!"], ids=["long", "hostile"])
def test_text_of_added_row_has_beginning_of_key(database, capsys, key, options):
    assert main(["data", "add", "docs", f"name={key}", *options]) == 0
    output = capsys.readouterr()
    assert_short(output.out + output.err)
    assert f"name {key[:4]}" in (output.out + output.err).replace("'", "")


def test_json_has_complete_key(database, answer):
    assert answer("data", "add", "docs", f"name={MISSING}")["data"]["key"] == {"name": MISSING}
    assert answer("data", "set", "docs", LONG, "body=new")["data"]["key"] == {"name": LONG}
    assert answer("data", "show", "docs", LONG)["data"] == {"name": LONG, "body": "new"}
    deleted = answer("data", "delete", "pages", LONG, HOSTILE, "--yes")["data"]
    assert deleted["key"] == {"doc": LONG, "name": HOSTILE}


@pytest.mark.parametrize(("typed", "rows"), [("no", 2), ("yes", 1)])
@pytest.mark.parametrize("key", [LONG, HOSTILE], ids=["long", "hostile"])
def test_question_on_terminal_has_beginning_of_key(database, key, typed, rows):
    child = pexpect.spawn(
        sys.executable,
        ["-m", "dbctl", "--no-color", "data", "delete", "docs", key],
        encoding="utf-8",
        timeout=60,
        dimensions=(30, 100),
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"},
    )
    child.expect_exact("Type yes or no: ")
    assert_short(child.before.replace("\r\n", "\n"))
    assert f"docs {key[:4]}" in child.before
    child.sendline(typed)
    child.expect(pexpect.EOF)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from docs").fetchone() == (rows,)
