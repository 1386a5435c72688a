"""Maintenance of SQLite files: effects, conditions and refusals."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.files import mounts as volumes
from tests.services.flashpoint_app import open_in_process, query_rows, run_script
from tests.shapes.flashpoint_web import document_flashpoint_db, document_user_db

CONFIGURATION = """\
[apps.fp]
profile = "flashpoint-web"
[apps.fp.databases]
user = "user.db"
flashpoint = "flashpoint.sqlite"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    document_user_db(tmp_path / "user.db")
    document_flashpoint_db(tmp_path / "flashpoint.sqlite")
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_json(answer):
    def run(command_line, status=0):
        response = answer(*command_line.split(), status=status)
        return response["error"] or response["data"]

    return run


GROW = "create table grown (id integer primary key, a text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000) insert into grown select i, hex(randomblob(200)) from n;"


def test_vacuum_shrinks_file_and_retains_rows(folder, run_json):
    run_script(folder / "user.db", GROW + "delete from grown where id > 100")
    before, rows = (folder / "user.db").stat().st_size, query_rows(folder / "user.db", "select * from grown")
    (free,) = [row for row in run_json("stats bloat --db user")["items"] if row["table"] is None]
    assert free["source"] == "freelist"
    assert free["wasted_bytes"] > 500_000
    plan = run_json("maintain vacuum --dry-run")["plan"]
    assert (plan["steps"], plan["target"], plan["destructive"]) == (["VACUUM"], "fp/user", False)
    assert (folder / "user.db").stat().st_size == before
    (result,) = run_json("maintain vacuum")["tasks"]
    assert (result["target"], result["table"], result["error"]) == ("fp/user", None, None)
    run_script(folder / "user.db", "pragma wal_checkpoint(truncate)")
    assert (folder / "user.db").stat().st_size < before - 500_000
    assert query_rows(folder / "user.db", "select * from grown") == rows
    (free,) = [row for row in run_json("stats bloat --db user")["items"] if row["table"] is None]
    assert free["wasted_bytes"] == 0


def test_read_only_database_is_not_maintained(folder, run_json):
    before = (folder / "flashpoint.sqlite").stat()
    for kind in ("vacuum", "analyze", "optimize", "reindex", "checkpoint"):
        assert run_json(f"maintain {kind} --db flashpoint", status=6)["code"] == "read-only"
        assert run_json(f"maintain {kind} --db flashpoint --dry-run", status=6)["code"] == "read-only"
    after = (folder / "flashpoint.sqlite").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_single_table_is_analyzed_or_reindexed(folder, run_json):
    run_script(
        folder / "user.db", 'create table "odd "" name" (a text); create index odd on "odd "" name" (a)'
    )
    (result,) = run_json("maintain reindex --table users")["tasks"]
    assert result["statement"] == 'REINDEX "users"'
    main(["maintain", "analyze", "--table", 'odd " name'])
    assert run_json("maintain vacuum --table users", status=2)["code"] == "not-supported"
    assert run_json("maintain analyze --table missing", status=5)["code"] == "table-missing"


def test_statistics_tables_are_not_reported_as_drift(folder, run_json):
    findings = run_json("migrate drift", status=None)
    run_json("maintain analyze")
    assert query_rows(folder / "user.db", "select count(*) from sqlite_stat1 where tbl = 'roles'") != [(0,)]
    assert run_json("migrate drift", status=None) == findings
    run_json("maintain optimize")


def test_checkpoint_empties_the_wal(folder, run_json):
    with open_in_process(folder / "user.db", "pragma wal_autocheckpoint = 0", "create table extra (a)"):
        assert (folder / "user.db-wal").stat().st_size > 0
        run_json("maintain checkpoint")
        assert (folder / "user.db-wal").stat().st_size == 0


def test_error_of_blocked_checkpoint_contains_the_reader(folder, run_json):
    run_script(folder / "user.db", "create table extra (a)")
    statements = ("begin", "select count(*) from extra")
    with open_in_process(folder / "user.db", *statements) as process:
        run_script(folder / "user.db", "insert into extra values (1)")
        error = run_json("maintain checkpoint --timeout 0.3", status=11)
        assert (error["code"], f"pid {process.pid}" in error["message"]) == ("busy", True)


def test_vacuum_waits_for_writer_until_timeout(folder, run_json):
    before = (folder / "user.db").read_bytes()
    with open_in_process(folder / "user.db", "begin immediate") as process:
        error = run_json("maintain vacuum --timeout 0.3", status=11)
        assert f"pid {process.pid}" in error["message"]
    assert (folder / "user.db").read_bytes() == before


@pytest.mark.parametrize("content", ["content='notes'", "content=notes, tokenize=porter", "content=''"])
def test_vacuum_is_refused_if_full_text_index_uses_unstable_rowids(folder, run_json, content):
    run_script(folder / "user.db", "create table notes (id text primary key, body text)")
    run_script(folder / "user.db", f"create virtual table search using fts5 (body, {content})")
    error = run_json("maintain vacuum", status=6)
    assert (error["code"], "notes" in error["message"] or "content=''" in content) == (
        "maintenance-unsafe",
        True,
    )
    assert run_json("maintain vacuum --dry-run", status=6)["code"] == "maintenance-unsafe"


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("id integer primary key desc", 6),  # it has an index, and is not the rowid
        ('id integer primary key, "desc" text', 0),
        ("id integer, primary key (id desc)", 0),
    ],
)
def test_vacuum_is_refused_only_if_the_key_is_not_the_rowid(folder, run_json, key, status):
    run_script(folder / "user.db", f"create table notes ({key})")
    run_script(folder / "user.db", "create virtual table search using fts5 (body, content='')")
    run_script(folder / "user.db", "insert into notes (id) values (7), (9)")
    run_json("maintain vacuum --dry-run", status=status)
    with closing(SQLiteReader(folder / "user.db", "app/user")) as reader:
        column = reader.tables()["notes"].rowid
    with closing(sqlite3.connect(folder / "user.db")) as connection:
        rows = connection.execute("select count(*) from notes where id = rowid").fetchall()
    assert (column == "id", rows == [(2,)]) == (not status, not status)


def test_vacuum_is_allowed_with_integer_primary_keys(folder, run_json):
    run_script(
        folder / "user.db",
        """create table notes (id integer primary key, body text);
        create virtual table search using fts5 (body, content='notes', content_rowid='id');
        create virtual table whole using fts5 (body)""",
    )
    assert run_json("maintain vacuum")["tasks"][0]["error"] is None


def test_vacuum_without_disk_space_is_refused(folder, run_json, monkeypatch):
    class FullDisk:
        f_bavail, f_frsize = 1, 4096

    real_statvfs = os.statvfs
    monkeypatch.setattr(
        os, "statvfs", lambda path: FullDisk if os.fspath(path) == str(folder) else real_statvfs(path)
    )
    error = run_json("maintain vacuum", status=1)
    assert error["code"] == "insufficient-space"
    assert run_json("maintain vacuum --dry-run", status=1)["code"] == "insufficient-space"
    assert run_json("maintain analyze")["tasks"]


def test_unneeded_indexes_of_file_are_listed(folder, run_json):
    run_script(
        folder / "user.db",
        """create table t (a text collate nocase, b integer, c text unique);
        create index ab on t (a, b desc);
        create index a on t (a);
        create index a_again on t (a);
        create index a_other on t (a collate binary);
        create index some on t (a) where b > 3;
        create index low on t (lower(a));
        create index c on t (c)""",
    )
    items = [row for row in run_json("stats indexes --db user")["items"] if row["table"] == "t"]
    problems = {row["index"]: (row["state"], row["covered_by"]) for row in items if row["state"]}
    assert problems == {
        "a": ("redundant", "ab"),
        "a_again": ("duplicate", "a"),
        "c": ("duplicate", "sqlite_autoindex_t_1"),
    }
    assert {row["scans"] for row in items} == {None}
    assert [row["columns"] for row in items if row["index"] == "ab"] == [["a collate nocase", "b desc"]]
    for row in items:
        if row["drop"]:
            run_script(folder / "user.db", row["drop"])
    assert run_json("stats indexes --db user --only duplicate")["items"] == []


def test_server_commands_are_refused_with_hint(folder, run_json):
    for line in ("stats connections", "stats locks --waiting", "maintain cancel 1 --yes"):
        error = run_json(line, status=2)
        assert (error["code"], "stats locks" in error["hint"]) == ("not-supported", True)
    assert "--explain" in run_json("stats slow", status=2)["hint"]


# Journal mode ----------------------------------------------------------------------------------------------------


def read_journal_mode(path):
    return query_rows(path, "pragma journal_mode")[0][0]


def test_journal_mode_is_switched_and_rows_remain(folder, run_json):
    run_script(folder / "user.db", "pragma journal_mode = delete")
    rows = query_rows(folder / "user.db", "select * from users")
    assert run_json("maintain wal --dry-run")["plan"]["steps"] == ["PRAGMA journal_mode = wal"]
    assert read_journal_mode(folder / "user.db") == "delete"
    (result,) = run_json("maintain wal")["tasks"]
    assert (result["error"], read_journal_mode(folder / "user.db")) == (None, "wal")
    assert run_json("maintain wal")["tasks"] == []
    assert query_rows(folder / "user.db", "select * from users") == rows
    assert run_json("maintain wal --off")["tasks"][0]["error"] is None
    assert read_journal_mode(folder / "user.db") == "delete"
    assert run_json("maintain wal --db flashpoint", status=6)["code"] == "read-only"
    assert read_journal_mode(folder / "flashpoint.sqlite") == "delete"


@pytest.mark.parametrize(
    ("before", "statement", "option"),
    [("delete", "begin immediate", ""), ("wal", "select * from roles", " --off")],
)
def test_journal_mode_of_file_in_use_does_not_change(folder, run_json, before, statement, option):
    run_script(folder / "user.db", f"pragma journal_mode = {before}")
    with open_in_process(folder / "user.db", statement):
        assert run_json(f"maintain wal{option} --timeout 0.2", status=11)["code"] == "busy"
    assert read_journal_mode(folder / "user.db") == before


def test_wal_mode_is_refused_on_network_disk(folder, run_json, monkeypatch, tmp_path):
    run_script(folder / "user.db", "pragma journal_mode = delete")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/share {folder} nfs4 rw 0 0\n")
    monkeypatch.setattr(volumes, "MOUNTS", mounts)
    assert run_json("maintain wal", status=6)["code"] == "maintenance-unsafe"
    assert read_journal_mode(folder / "user.db") == "delete"


def test_doctor_reports_file_without_wal_mode(folder, run_json):
    def list_findings():
        items = run_json("doctor --db user", status=None)["findings"]
        return [
            (finding["severity"], finding["hint"])
            for finding in items
            if finding["code"] == "journal-not-wal"
        ]

    run_script(folder / "user.db", "pragma journal_mode = delete")
    ((severity, hint),) = list_findings()
    assert severity == "warning", "the app creates the file in WAL mode"
    assert "maintain wal" in hint
    run_json("maintain wal")
    assert list_findings() == []
