"""Time formats: new rows get the format of their column, and a check reports columns with several formats."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

from tests.shapes import flashpoint_web, promptvault

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
#: Defaults that write the current time in formats other than that of the app.
NOTES = """create table notes (
    id integer primary key, body text not null unique,
    a text default current_timestamp, b text not null default (datetime('now')),
    c integer default (strftime('%s', 'now')), d integer default (unixepoch() * 1000),
    e text default (strftime('%Y-%m-%d %H:%M:%S', 'now')), day text default (date('now')), name text default 'now')"""
TIME_COLUMNS = ("a", "b", "c", "d", "e")


@pytest.fixture(params=["document", "deployed"])
def web(request, tmp_path, monkeypatch):
    path = tmp_path / "user.db"
    getattr(flashpoint_web, f"{request.param}_user_db")(path)
    write_config(tmp_path, monkeypatch, "flashpoint-web", f'user = "{path}"')
    return path


def write_config(folder, monkeypatch, profile, databases):
    (folder / "dbctl.toml").write_text(
        f'[apps.app]\nprofile = "{profile}"\n[apps.app.databases]\n{databases}\n'
    )
    monkeypatch.chdir(folder)


def run_sql(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(sql).fetchall()


def list_mixed_columns(output):
    return [finding for finding in output["data"]["findings"] if finding["code"] == "times-mixed"]


def check_times(times):
    """Check the values of ``TIME_COLUMNS``: text in the format of the app, and the defaults of the columns of integers."""
    first, second, seconds, milliseconds, last = times
    assert all(ISO.fullmatch(value) for value in (first, second, last)), times
    assert 1_700_000_000 < seconds < 10_000_000_000 < milliseconds, times


@pytest.mark.parametrize("columns", [["body"], ["body", "a"]])
def test_import_fills_columns_with_time_default(web, tmp_path, answer, columns):
    run_sql(web, NOTES)
    row = {"body": "x", "a": "2026-01-02T03:04:05.006Z"}
    (tmp_path / "new.jsonl").write_text(json.dumps({name: row[name] for name in columns}) + "\n")
    answer("data", "import", "notes", "new.jsonl", "--yes")
    ((*times, day, name),) = run_sql(web, f"select {', '.join(TIME_COLUMNS)}, day, name from notes")
    check_times(times)
    assert (len(day), name) == (10, "now")
    if "a" in columns:
        assert times[0] == row["a"]


def test_new_row_gets_time_format_of_app(web, answer):
    run_sql(web, NOTES)
    answer("data", "add", "notes", "body=x", "b=2026-01-02 03:04:05", "--yes")
    ((*times,),) = run_sql(web, f"select {', '.join(TIME_COLUMNS)} from notes")
    check_times(times)
    assert times[1] == "2026-01-02T03:04:05.000Z"


@pytest.mark.parametrize(
    ("stored", "form"), [("2026-01-02 03:04:05", TEXT), ("2026-01-02T03:04:05.006Z", ISO), (None, ISO)]
)
def test_new_row_gets_time_format_of_newest_rows(web, answer, stored, form):
    run_sql(web, NOTES)
    with closing(sqlite3.connect(web)) as db, db:
        db.executemany("insert into notes (body, a) values (?, ?)", [(str(at), stored) for at in range(60)])
    answer("data", "add", "notes", "body=x", "--yes")
    ((value,),) = run_sql(web, "select a from notes where body = 'x'")
    assert form.fullmatch(value)


def test_mixed_column_gets_time_format_of_app(web, answer):
    run_sql(web, NOTES)
    run_sql(
        web,
        "insert into notes (body, a) values ('0', '2026-01-02 03:04:05'), ('1', '2026-01-02T03:04:05.006Z')",
    )
    answer("data", "add", "notes", "body=x", "--yes")
    assert ISO.fullmatch(run_sql(web, "select a from notes where body = 'x'")[0][0])


def test_commands_that_add_rows_do_not_mix_time_formats(web, tmp_path, answer):
    before = {
        finding["message"].split()[0]
        for finding in list_mixed_columns(answer("integrity", "check", status=None))
    }
    (tmp_path / "people.csv").write_text("username,email\nimported,imported@example.org\n")
    answer("users", "create", "newcomer", "--email", "new@example.org", "--generate", "--yes")
    answer("users", "import", "people.csv", "--generate", "--yes")
    answer("settings", "set", "theme_mode", "dark", "--user", "newcomer", "--yes")
    answer("roles", "create", "helper", "--yes")
    after = {
        finding["message"].split()[0]
        for finding in list_mixed_columns(answer("integrity", "check", status=None))
    }
    assert after == before


def test_check_reports_mixed_time_formats(web, answer):
    run_sql(web, NOTES)
    run_sql(
        web,
        "insert into notes (body, a, b, c, d, e) values"
        " ('0', '2026-01-02 03:04:05', '2026-01-02', 1767323045, 0, '2026-01-02T03:04:05'),"
        " ('1', '2026-01-02T03:04:05.006Z', '2026-01-02 03:04:05', 1767323045000, 1767323045000, '2026-01-02T03:04:05Z'),"
        " ('2', '2026-01-02T04:04:05Z', 'never', 1767323045001, null, '2026-01-02T03:04:05')",
    )
    findings = list_mixed_columns(answer("integrity", "check", "--table", "notes"))
    assert [finding["message"].split()[0] for finding in findings] == ["notes.a", "notes.c", "notes.e"]
    assert {finding["severity"] for finding in findings} == {"warning"}
    assert "2 rows as text with T and Z (2026-01-02T03:04:05.006Z of 2)" in findings[0]["message"]
    assert "1 row as text without T (2026-01-02 03:04:05 of 1)" in findings[0]["message"]
    assert "2 rows as milliseconds" in findings[1]["message"]
    assert "1 row as seconds" in findings[1]["message"]


def test_hint_command_repairs_mixed_times(web, answer):
    run_sql(web, NOTES)
    run_sql(
        web,
        "insert into notes (body, a) values ('0', '2026-01-02 03:04:05'), ('1', '2026-01-02T03:04:05.006Z')",
    )
    answer("data", "set", "notes", "1", "a=2026-01-02 03:04:05", "--yes")
    assert run_sql(web, "select a from notes where id = 1") == [("2026-01-02T03:04:05.000Z",)]
    assert list_mixed_columns(answer("integrity", "check", "--table", "notes")) == []


def test_tables_without_key_or_rowid_are_checked(web, answer):
    values = "('2026-01-02 03:04:05'), ('2026-01-02T03:04:05.006Z')"
    run_sql(web, "create table keyless (a text default current_timestamp)")
    run_sql(web, "create table ordered (a text primary key default current_timestamp) without rowid")
    for table in ("keyless", "ordered"):
        run_sql(web, f"insert into {table} values {values}")
        assert len(list_mixed_columns(answer("integrity", "check", "--table", table))) == 1


@pytest.fixture
def vault(tmp_path, monkeypatch):
    path = promptvault.document(tmp_path / "vault.db")
    write_config(tmp_path, monkeypatch, "promptvault", f'main = "{path}"')
    return path


def add_team(answer, path):
    (path.parent / "teams.csv").write_text("id,name\nnew,Other\n")
    answer("data", "import", "Team", "teams.csv", "--yes")
    ((created_at,),) = run_sql(path, "select createdAt from Team where id = 'new'")
    return created_at


def test_promptvault_with_milliseconds_gets_milliseconds(vault, answer):
    assert isinstance(add_team(answer, vault), int)


def test_promptvault_with_text_gets_text(vault, answer):
    run_sql(
        vault,
        """update "User" set "createdAt" = '2026-03-04 09:30:00', "updatedAt" = '2026-03-04 09:30:00'""",
    )
    run_sql(vault, "update Team set createdAt = '2026-03-04 09:30:00'")
    assert TEXT.fullmatch(add_team(answer, vault))
    answer("users", "create", "new@example.org", "--generate", "--yes")
    ((*times,),) = run_sql(
        vault, """select "createdAt", "updatedAt" from "User" where email = 'new@example.org'"""
    )
    assert all(TEXT.fullmatch(str(value)) for value in times), times


def test_text_with_milliseconds_is_reported(vault, answer):
    (finding,) = list_mixed_columns(answer("integrity", "check", status=None))
    assert finding["message"].startswith("User.createdAt ")
    assert promptvault.CLEO in finding["message"]
    assert "dbctl data set User KEY createdAt=TIME --" in finding["hint"]
    answer("data", "set", "User", promptvault.CLEO, "createdAt=2026-03-04 09:30:00", "--yes")
    assert list_mixed_columns(answer("integrity", "check", status=None)) == []


@pytest.mark.parametrize("server", ["on_postgresql", "on_mysql"])
def test_server_with_time_type_has_no_mixed_times(server, tmp_path, monkeypatch, answer):
    with getattr(promptvault, server)() as url:
        write_config(tmp_path, monkeypatch, "promptvault", f'main = "{url}"')
        assert list_mixed_columns(answer("integrity", "check", status=None)) == []


@pytest.mark.parametrize("merge", ["missing", "replace"])
def test_restored_rows_get_time_format_of_column(web, answer, merge):
    run_sql(web, "create table notes (id integer primary key, body text)")
    run_sql(web, "insert into notes values (1, 'x'), (2, 'y')")
    answer("backup", "create", "--repository", "backups")
    run_sql(web, "drop table notes")
    run_sql(web, NOTES.replace("not null unique", ""))
    time_values = ", ".join(["'2026-01-02T03:04:05.006Z'"] * len(TIME_COLUMNS))
    run_sql(web, f"insert into notes (id, body, {', '.join(TIME_COLUMNS)}) values (2, 'z', {time_values})")
    arguments = ["--table", "notes", "--merge", merge, "--repository", "backups", "--yes"]
    answer("restore", "apply", "latest", *arguments)
    ((*times,),) = run_sql(web, f"select {', '.join(TIME_COLUMNS)} from notes where id = 1")
    assert all(ISO.fullmatch(value) for value in times), times


MIXED_ROWS = (
    "insert into notes (body, a, b, c, d, e) values"
    " ('0', '2026-01-02 03:04:05', '2026-01-02', 1767323045, 0, '2026-01-02 03:04:05.5'),"
    " ('1', '2026-01-02T03:04:05.006Z', '2026-01-02T03:04:05Z', 1767323045006, null, '2026-01-02T03:04:05Z'),"
    " ('2', null, '2026-01-02 03:04:05', 'never', 1767323045000, '2026-01-02T03:04:05Z')"
)


def test_repair_writes_mixed_columns_in_format_of_app(web, answer):
    run_sql(web, NOTES)
    run_sql(web, MIXED_ROWS)
    before = run_sql(web, "select * from notes")
    plan = answer("integrity", "repair", "--times", "--table", "notes", "--dry-run")["data"]["plan"]
    assert (plan["rows"], len(plan["steps"])) == ({"notes": 5}, 4)
    assert run_sql(web, "select * from notes") == before
    output = answer("integrity", "repair", "--times", "--table", "notes", "--yes")
    assert output["data"]["rewritten"] == 5
    assert run_sql(web, "select a, b, c, d, e from notes") == [
        ("2026-01-02T03:04:05.000Z", "2026-01-02", "2026-01-02T03:04:05.000Z", 0, "2026-01-02T03:04:05.500Z"),
        ("2026-01-02T03:04:05.006Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.006Z", None, "2026-01-02T03:04:05Z"),
        (None, "2026-01-02T03:04:05.000Z", "never", 1767323045000, "2026-01-02T03:04:05Z"),
    ]  # fmt: skip
    assert list_mixed_columns(answer("integrity", "check", "--table", "notes")) == []
    assert answer("integrity", "repair", "--times", "--table", "notes", "--yes")["data"]["rewritten"] == 0


@pytest.mark.parametrize(
    ("value", "code"), [("2026-01-02T03:04:05", "times-ambiguous"), ("2026-99-99 03:04:05", "value-invalid")]
)
def test_repair_refuses_unreadable_times(web, answer, value, code):
    run_sql(web, NOTES)
    run_sql(web, MIXED_ROWS)
    run_sql(web, f"insert into notes (body, a) values ('3', '{value}')")
    before = run_sql(web, "select * from notes")
    output = answer("integrity", "repair", "--times", "--table", "notes", "--yes", status=None)
    assert output["error"]["code"] == code
    assert run_sql(web, "select * from notes") == before


def test_repair_is_rolled_back_with_conflicting_trigger(web, answer):
    run_sql(web, NOTES)
    run_sql(web, MIXED_ROWS)
    run_sql(
        web,
        "create trigger touched after update on notes begin"
        " update notes set b = datetime('now') where id = new.id; end",
    )
    before = run_sql(web, "select * from notes")
    output = answer("integrity", "repair", "--times", "--table", "notes", "--yes", status=None)
    assert not output["ok"]
    assert run_sql(web, "select * from notes") == before


def test_repair_deletes_no_row_of_a_table_with_conflict_replace(web, answer):
    run_sql(web, "create table ticks (at datetime not null unique on conflict replace, n integer)")
    run_sql(web, "insert into ticks values ('2026-01-02 03:04:05', 1), ('2026-01-02T03:04:05.000Z', 2)")
    before = run_sql(web, "select * from ticks")
    output = answer("integrity", "repair", "--times", "--table", "ticks", "--yes", status=None)
    assert output["error"]["code"] == "constraint"
    assert run_sql(web, "select * from ticks") == before
