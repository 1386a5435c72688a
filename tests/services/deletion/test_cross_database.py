"""Deletions that cascade into another database: planned and applied as one change."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.databases import from_url

Run = Callable[..., Any]
Pair = tuple[sqlite3.Connection, sqlite3.Connection]
TWO_DATABASES = """\
schema = "dbctl.profile/1"
name = "pair"
title = "Pair"
[databases.main]
engines = ["sqlite"]
[databases.notes]
engines = ["sqlite"]
[users]
database = "main"
table = "people"
id = { column = "id", codec = "given" }
login = ["nick"]
admin = false
[users.fields]
nick = "nick"
[[link]]
name = "notes"
database = "notes"
table = "notes"
column = "author"
to = "main"
targets = ["people.id"]
cascade = true
"""


PEOPLE = "create table people (id integer primary key, nick text); insert into people values (1, 'ada'), (2, 'bob');"


def configure(folder: Path, profile: str = TWO_DATABASES) -> None:
    """Configure the app with its two databases."""
    (folder / "pair.toml").write_text(profile)
    (folder / "dbctl.toml").write_text(
        '[apps.pair]\nprofile = "pair.toml"\n[apps.pair.databases]\nmain = "main.db"\nnotes = "notes.db"\n'
    )


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Configure the app, create its people, and yield a connection to each of its databases."""
    monkeypatch.chdir(tmp_path)
    configure(tmp_path)
    with closing(sqlite3.connect("main.db")) as main_db, closing(sqlite3.connect("notes.db")) as notes_db:
        main_db.executescript(PEOPLE)
        yield main_db, notes_db


@pytest.mark.parametrize("words", [["users", "delete", "ada"], ["data", "delete", "people", "1"]])
def test_plan_announces_rows_that_foreign_keys_of_the_other_database_delete(
    answer: Run, pair: Pair, words: list[str]
) -> None:
    _, notes_db = pair
    notes_db.executescript(
        "create table notes (id integer primary key, author integer);"
        "create table comments (id integer primary key, note integer references notes (id) on delete cascade);"
        "create table links (id integer primary key, comment integer references comments (id) on delete set null);"
        "insert into notes values (1, 1), (2, 1), (3, 2); insert into comments values (1, 1), (2, 1), (3, 3);"
        "insert into links values (1, 1), (2, 3);"
    )
    plan = answer(*words, "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"people": 1, "notes/notes": 2, "notes/comments": 2, "notes/links": 1}
    assert plan["destructive"]
    assert sum("in pair/notes" in step for step in plan["steps"]) == 3
    answer("data", "delete", "links", "2", "--db", "notes", "--yes")  # no guard of users reads this database
    links = notes_db.execute("select id from links").fetchall()
    notes_db.execute("insert into links values (2, 3)")
    notes_db.commit()
    assert links == [(1,)]
    answer(*words, "--yes")
    counts = [notes_db.execute(f"select count(*) from {table}").fetchone() for table in ("notes", "comments")]
    assert counts == [(1,), (1,)]
    assert notes_db.execute("select comment from links order by id").fetchall() == [(None,), (3,)]


def test_rows_below_owned_rows_are_deleted_in_the_other_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    owned = 'admin = false\ncascade = ["drafts?.author", "posts.author"]'
    profile = TWO_DATABASES.replace("admin = false", owned).replace("people.id", "posts.id")
    configure(tmp_path, profile)
    with closing(sqlite3.connect("main.db")) as main_db, closing(sqlite3.connect("notes.db")) as notes_db:
        main_db.executescript(
            f"{PEOPLE} create table posts (id integer primary key, author integer); insert into posts values (7, 1), (8, 2);"
        )
        notes_db.executescript(
            "create table notes (id integer primary key, author integer); insert into notes values (1, 7), (2, 8);"
        )
        rows = answer("users", "delete", "ada", "--yes")["data"]["rows"]
        assert rows == {"people": 1, "posts": 1, "notes/notes": 1}
        assert main_db.execute("select id from posts").fetchall() == [(8,)]
        assert notes_db.execute("select id from notes").fetchall() == [(2,)]


def test_rows_of_the_other_database_that_a_trigger_keeps_refuse_the_deletion(answer: Run, pair: Pair) -> None:
    main_db, notes_db = pair
    notes_db.executescript(
        "create table notes (id integer primary key, author integer);"
        "insert into notes values (1, 1), (2, 1), (3, 2);"
        "create trigger keep before delete on notes when old.id = 1 begin select raise(ignore); end;"
    )
    assert answer("users", "delete", "ada", "--yes", status=6)["error"]["code"] == "constraint"
    assert main_db.execute("select count(*) from people").fetchone() == (2,)
    assert notes_db.execute("select count(*) from notes").fetchone() == (3,)


@pytest.mark.parametrize("words", [["users", "delete", "ada"], ["data", "delete", "people", "1"]])
def test_reader_of_the_other_database_prevents_the_whole_deletion(
    answer: Run, pair: Pair, words: list[str]
) -> None:
    """In a file without WAL, a reader prevents a commit, which would be that after the commit of the main database."""
    main_db, notes_db = pair
    notes_db.executescript(
        "create table notes (id integer primary key, author integer); insert into notes values (1, 1);"
    )
    notes_db.execute("begin")
    notes_db.execute("select * from notes").fetchall()
    error = answer(*words, "--yes", "--timeout", "0.1", status=11)["error"]
    notes_db.rollback()
    assert "Nothing was changed." in error["hint"]
    assert main_db.execute("select id from people").fetchall() == [(1,), (2,)]
    answer(*words, "--yes")
    assert main_db.execute("select id from people").fetchall() == [(2,)]
    assert notes_db.execute("select id from notes").fetchall() == []


def test_failed_commit_after_that_of_the_main_database_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    configure(tmp_path, TWO_DATABASES.replace('["sqlite"]', '["sqlite", "postgresql"]'))
    with closing(sqlite3.connect("main.db")) as main_db, servers.postgresql_schema() as address:
        main_db.executescript(PEOPLE)
        notes = from_url(servers.text(address))
        notes.run(
            "create table notes (id integer primary key, author integer)",
            "insert into notes values (1, 1)",
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'late'; end $$",
            "create constraint trigger late after delete on notes deferrable initially deferred for each row execute function refuse()",
        )
        config = (tmp_path / "dbctl.toml").read_text()
        (tmp_path / "dbctl.toml").write_text(config.replace("notes.db", notes.url))
        error = answer("users", "delete", "ada", "--yes", status=6)["error"]
        assert "late" in error["message"]
        assert error["hint"].startswith(
            "The change is committed in pair/main, and perhaps in other databases."
        )
        assert main_db.execute("select id from people").fetchall() == [(2,)]
        assert notes.rows("select id from notes") == [(1,)]
        (operation,) = answer("audit", "list")["data"]["items"]
        assert (operation["result"], operation["rows"]) == ("partial", {"main.people": 1})
        answer("undo", str(operation["operation"]), "--yes")
        assert main_db.execute("select id, nick from people order by id").fetchall() == [
            (1, "ada"),
            (2, "bob"),
        ]
        undoing, undone = answer("audit", "list")["data"]["items"]
        assert (undoing["result"], undone["undone_by"]) == ("committed", undoing["operation"])


def test_lost_connection_during_the_first_commit_leaves_the_result_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    configure(tmp_path, TWO_DATABASES.replace('["sqlite"]', '["postgresql"]', 1))
    with closing(sqlite3.connect("notes.db")) as notes_db, servers.postgresql_schema() as address:
        notes_db.executescript(
            "create table notes (id integer primary key, author integer); insert into notes values (1, 1);"
        )
        main_db = from_url(servers.text(address))
        main_db.run(
            PEOPLE,
            """create function stop() returns trigger language plpgsql as
            $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$""",
            "create constraint trigger late after delete on people deferrable initially deferred for each row execute function stop()",
        )
        config = (tmp_path / "dbctl.toml").read_text()
        (tmp_path / "dbctl.toml").write_text(config.replace("main.db", main_db.url))
        error = answer("users", "delete", "ada", "--yes", status=1)["error"]
        assert error["code"] == "commit-in-doubt"
        (operation,) = answer("audit", "list")["data"]["items"]
        assert operation["result"] == "open"


@pytest.mark.slow
def test_signal_during_the_first_commit_does_not_prevent_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main database sleeps in its commit."""
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, TWO_DATABASES.replace('["sqlite"]', '["postgresql"]', 1))
    with closing(sqlite3.connect("notes.db")) as notes_db, servers.postgresql_schema() as address:
        notes_db.executescript(
            "create table notes (id integer primary key, author integer); insert into notes values (1, 1);"
        )
        main_db = from_url(servers.text(address))
        main_db.run(
            PEOPLE,
            "create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$",
            "create constraint trigger late after delete on people deferrable initially deferred for each row execute function wait()",
        )
        config = (tmp_path / "dbctl.toml").read_text()
        (tmp_path / "dbctl.toml").write_text(config.replace("main.db", main_db.url))
        command = [sys.executable, "-m", "dbctl", "users", "delete", "ada", "--yes"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            sleeping = (
                "select 1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
            )
            while not main_db.rows(sleeping):
                assert process.poll() is None
            process.terminate()
            _, message = process.communicate()
        assert (process.returncode, "interrupted" in message) == (0, False), message
        assert main_db.rows("select id from people") == [(2,)]
        assert notes_db.execute("select id from notes").fetchall() == []
