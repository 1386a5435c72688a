"""Looking after files: what it does, what it needs, and what it refuses to harm; indexes and wasted room of files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from dbctl.cli.main import main
from dbctl.files import mounts as volumes
from tests.shapes.flashpoint_web import document_flashpoint_db, document_user_db

CONFIGURATION = """\
[apps.fp]
profile = "flashpoint-web"
[apps.fp.databases]
user = "user.db"
flashpoint = "flashpoint.sqlite"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    document_user_db(tmp_path / "user.db")
    document_flashpoint_db(tmp_path / "flashpoint.sqlite")
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(answer):
    def run(line, status=0):
        told = answer(*line.split(), status=status)
        return told["error"] or told["data"]

    return run


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(sql)


def query(path, sql):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@contextmanager
def holding(path, *statements):
    """Another process that has run statements and keeps the database open."""
    code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s).fetchall()\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


GROW = "create table grown (id integer primary key, a text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000) insert into grown select i, hex(randomblob(200)) from n;"


def test_a_vacuum_gives_free_pages_back_and_keeps_every_row(place, ask):
    execute(place / "user.db", GROW + "delete from grown where id > 100")
    before, rows = (place / "user.db").stat().st_size, query(place / "user.db", "select * from grown")
    (free,) = [one for one in ask("stats bloat --db user")["items"] if one["table"] is None]
    assert free["source"] == "freelist"
    assert free["wasted_bytes"] > 500_000
    plan = ask("maintain vacuum --dry-run")["plan"]
    assert (plan["steps"], plan["target"], plan["destructive"]) == (["VACUUM"], "fp/user", False)
    assert (place / "user.db").stat().st_size == before
    (done,) = ask("maintain vacuum")["tasks"]
    assert (done["target"], done["table"], done["error"]) == ("fp/user", None, None)
    execute(place / "user.db", "pragma wal_checkpoint(truncate)")
    assert (place / "user.db").stat().st_size < before - 500_000
    assert query(place / "user.db", "select * from grown") == rows
    (free,) = [one for one in ask("stats bloat --db user")["items"] if one["table"] is None]
    assert free["wasted_bytes"] == 0


def test_nobody_but_its_owner_looks_after_a_read_only_database(place, ask):
    before = (place / "flashpoint.sqlite").stat()
    for kind in ("vacuum", "analyze", "optimize", "reindex", "checkpoint"):
        assert ask(f"maintain {kind} --db flashpoint", status=6)["code"] == "read-only"
        assert ask(f"maintain {kind} --db flashpoint --dry-run", status=6)["code"] == "read-only"
    after = (place / "flashpoint.sqlite").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_one_table_is_analysed_or_its_indexes_made_anew(place, ask):
    execute(place / "user.db", 'create table "odd "" name" (a text); create index odd on "odd "" name" (a)')
    (done,) = ask("maintain reindex --table users")["tasks"]
    assert done["statement"] == 'REINDEX "users"'
    main(["maintain", "analyze", "--table", 'odd " name'])
    assert ask("maintain vacuum --table users", status=2)["code"] == "not-supported"
    assert ask("maintain analyze --table gone", status=2)["code"] == "schema-lacks"


def test_statistics_stand_in_the_file_and_are_no_drift(place, ask):
    findings = ask("migrate drift", status=None)
    ask("maintain analyze")
    assert query(place / "user.db", "select count(*) from sqlite_stat1 where tbl = 'roles'") != [(0,)]
    assert ask("migrate drift", status=None) == findings
    ask("maintain optimize")


def test_a_checkpoint_brings_what_waits_into_the_file(place, ask):
    with holding(place / "user.db", "pragma wal_autocheckpoint = 0", "create table extra (a)"):
        assert (place / "user.db-wal").stat().st_size > 0
        ask("maintain checkpoint")
        assert (place / "user.db-wal").stat().st_size == 0


def test_a_checkpoint_that_a_reader_keeps_from_its_end_is_busy_and_names_it(place, ask):
    execute(place / "user.db", "create table extra (a)")
    reading = ("begin", "select count(*) from extra")
    with holding(place / "user.db", *reading) as process:
        execute(place / "user.db", "insert into extra values (1)")
        told = ask("maintain checkpoint --timeout 0.3", status=11)
        assert (told["code"], f"pid {process.pid}" in told["message"]) == ("busy", True)


def test_a_vacuum_waits_for_a_writer_and_no_longer_than_it_may(place, ask):
    before = (place / "user.db").read_bytes()
    with holding(place / "user.db", "begin immediate") as process:
        told = ask("maintain vacuum --timeout 0.3", status=11)
        assert f"pid {process.pid}" in told["message"]
    assert (place / "user.db").read_bytes() == before


@pytest.mark.parametrize("content", ["content='notes'", "content=notes, tokenize=porter", "content=''"])
def test_a_vacuum_is_refused_where_a_text_index_knows_rows_by_numbers_that_may_change(place, ask, content):
    execute(place / "user.db", "create table notes (id text primary key, body text)")
    execute(place / "user.db", f"create virtual table found using fts5 (body, {content})")
    told = ask("maintain vacuum", status=6)
    assert (told["code"], "notes" in told["message"] or "content=''" in content) == ("upkeep-unsafe", True)
    assert ask("maintain vacuum --dry-run", status=6)["code"] == "upkeep-unsafe"


def test_a_vacuum_goes_ahead_where_the_numbers_are_the_tables_own_key(place, ask):
    execute(
        place / "user.db",
        """create table notes (id integer primary key, body text);
        create virtual table found using fts5 (body, content='notes', content_rowid='id');
        create virtual table whole using fts5 (body)""",
    )
    assert ask("maintain vacuum")["tasks"][0]["error"] is None


def test_a_vacuum_without_room_is_refused_before_it_begins(place, ask, monkeypatch):
    class Full:
        f_bavail, f_frsize = 1, 4096

    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: Full if os.fspath(path) == str(place) else real(path))
    told = ask("maintain vacuum", status=1)
    assert told["code"] == "room-missing"
    assert ask("maintain vacuum --dry-run", status=1)["code"] == "room-missing"
    assert ask("maintain analyze")["tasks"]


def test_indexes_of_a_file_that_nobody_needs_are_told(place, ask):
    execute(
        place / "user.db",
        """create table t (a text collate nocase, b integer, c text unique);
        create index ab on t (a, b desc);
        create index a on t (a);
        create index a_again on t (a);
        create index a_other on t (a collate binary);
        create index some on t (a) where b > 3;
        create index low on t (lower(a));
        create index c on t (c)""",
    )
    items = [one for one in ask("stats indexes --db user")["items"] if one["table"] == "t"]
    told = {one["index"]: (one["state"], one["instead"]) for one in items if one["state"]}
    assert told == {
        "a": ("redundant", "ab"),
        "a_again": ("duplicate", "a"),
        "c": ("duplicate", "sqlite_autoindex_t_1"),
    }
    assert {one["scans"] for one in items} == {None}
    assert [one["columns"] for one in items if one["index"] == "ab"] == [["a collate nocase", "b desc"]]
    for one in items:
        if one["drop"]:
            execute(place / "user.db", one["drop"])
    assert ask("stats indexes --db user --only duplicate")["items"] == []


def test_what_only_a_server_knows_is_refused_with_what_to_use_instead(place, ask):
    for line in ("stats connections", "stats locks --waiting", "maintain cancel 1 --yes"):
        told = ask(line, status=2)
        assert (told["code"], "stats locks" in told["hint"]) == ("not-supported", True)
    assert "--explain" in ask("stats slow", status=2)["hint"]


# The journal mode ------------------------------------------------------------------------------------------------


def mode(path):
    return query(path, "pragma journal_mode")[0][0]


def test_a_file_is_switched_to_a_write_ahead_log_and_back_and_keeps_its_rows(place, ask):
    execute(place / "user.db", "pragma journal_mode = delete")
    rows = query(place / "user.db", "select * from users")
    assert ask("maintain wal --dry-run")["plan"]["steps"] == ["PRAGMA journal_mode = wal"]
    assert mode(place / "user.db") == "delete"
    (done,) = ask("maintain wal")["tasks"]
    assert (done["error"], mode(place / "user.db")) == (None, "wal")
    assert ask("maintain wal")["tasks"] == []
    assert query(place / "user.db", "select * from users") == rows
    assert ask("maintain wal --off")["tasks"][0]["error"] is None
    assert mode(place / "user.db") == "delete"
    assert ask("maintain wal --db flashpoint", status=6)["code"] == "read-only"
    assert mode(place / "flashpoint.sqlite") == "delete"


@pytest.mark.parametrize(
    ("before", "held", "words"), [("delete", "begin immediate", ""), ("wal", "select * from roles", " --off")]
)
def test_a_file_that_others_use_keeps_its_mode(place, ask, before, held, words):
    execute(place / "user.db", f"pragma journal_mode = {before}")
    with holding(place / "user.db", held):
        assert ask(f"maintain wal{words} --timeout 0.2", status=11)["code"] == "busy"
    assert mode(place / "user.db") == before


def test_a_write_ahead_log_is_refused_on_a_disk_that_other_machines_use(place, ask, monkeypatch, tmp_path):
    execute(place / "user.db", "pragma journal_mode = delete")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/share {place} nfs4 rw 0 0\n")
    monkeypatch.setattr(volumes, "MOUNTS", mounts)
    assert ask("maintain wal", status=6)["code"] == "upkeep-unsafe"
    assert mode(place / "user.db") == "delete"


def test_the_doctor_reports_a_file_without_a_write_ahead_log(place, ask):
    def found():
        items = ask("doctor --db user", status=None)["findings"]
        return [(one["severity"], one["hint"]) for one in items if one["code"] == "journal-not-wal"]

    execute(place / "user.db", "pragma journal_mode = delete")
    ((severity, hint),) = found()
    assert severity == "warning", "the app creates its file with one"
    assert "maintain wal" in hint
    ask("maintain wal")
    assert found() == []
