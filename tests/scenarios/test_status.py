"""``dbctl status`` prints one line per database, reads few pages and changes no file."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pexpect
import pytest

from dbctl.cli.main import main
from dbctl.services.sessions.cleanup import CleanUp
from tests.databases import empty_database
from tests.profiles.test_larder import PROFILE
from tests.services import flashpoint_app
from tests.services.checks.test_doctor import KILLED_WRITER_CODE, run_python, small_disk  # noqa: F401 - a fixture
from tests.services.flashpoint_app import open_app, run_script, run_statements, snapshot
from tests.shapes.flashpoint_web import larder_db, launcher_extras_db


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path, monkeypatch):
    path = flashpoint_app.create_valid_app(tmp_path, request.param)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run_status(answer):
    def run(*words, status=0):
        result = answer("status", *words, status=status)
        return (result["data"]["items"] if result["data"] else result["error"]), result["warnings"]

    return run


def ago(**span):
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def add_login_attempt(path, at):
    run_statements(
        path, f"insert into login_attempts (username, ip_address, attempted_at) values ('x', 'y', '{at}')"
    )


def add_second_app(path, database):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'[apps.second]\nprofile = "quick.toml"\n[apps.second.databases]\nuser = "{database}"\n')


def test_valid_database_is_one_line_and_files_are_unchanged(path, run_status):
    before = snapshot(path.parent)
    items, warnings = run_status("--check")
    assert items == [
        {
            "app": "fp",
            "database": "user",
            "state": "ok",
            "health": "ok",
            "bytes": path.stat().st_size,
            "wal_bytes": 0,
            "migrations": "current",
            "pending": 0,
            "overdue": [],
            "backup_at": items[0]["backup_at"],
        }
    ]
    assert items[0]["backup_at"] > ago(minutes=5)
    assert warnings == []
    assert snapshot(path.parent) == before


def test_table_is_printed_to_stdout_and_problems_to_stderr(path, capsys):
    assert main(["status", "--check"]) == 0
    streams = capsys.readouterr()
    assert re.search(r"^fp +user +ok +[\d.]+ KiB +0 B +current +done +just now$", streams.out, re.MULTILINE)
    assert streams.err == "1 app, 1 database: 0 due, 0 errors\n"
    (path.parent / "migrations" / "002_notes.sql").write_text("create table notes (a text);\n")
    assert main(["status"]) == 0
    streams = capsys.readouterr()
    assert "1 pending" in streams.out
    assert streams.err == ("dbctl: fp/user: 1 migration pending\n1 app, 1 database: 1 due, 0 errors\n")


def test_databases_with_a_problem_come_first(path, run_status):
    add_second_app(path, path.with_name("missing.db"))
    items, _ = run_status(status=12)
    assert [(item["app"], item["health"]) for item in items] == [("second", "error"), ("fp", "ok")]
    add_login_attempt(path, ago(days=400))
    items, _ = run_status(status=12)
    assert [(item["app"], item["health"]) for item in items] == [("second", "error"), ("fp", "due")]


@pytest.mark.slow
def test_watch_updates_the_status_until_ctrl_c(path):
    words = ["-m", "dbctl", "status", "--watch", "--every", "0.2"]
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "NO_COLOR": "1"}
    child = pexpect.spawn(
        sys.executable, words, cwd=str(path.parent), env=environment, encoding="utf-8", dimensions=(20, 120)
    )
    child.expect("0 due, 0 errors")
    moved = path.rename(path.with_name("moved.db"))
    child.expect("database-missing|file not found")
    moved.rename(path)
    child.expect("0 due, 0 errors")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("words", [(), ("-o", "json"), ("--check",)])
def test_watch_requires_a_terminal_and_no_exit_code(path, words):
    assert main(["status", "--watch", *words]) == 2


def test_pending_migrations_require_an_action(path, run_status):
    (path.parent / "migrations" / "002_notes.sql").write_text("create table notes (a text);\n")
    items, _ = run_status("--check", status=3)
    assert (items[0]["migrations"], items[0]["pending"]) == ("pending", 1)


def test_migrations_that_differ_from_the_ledger_are_inconsistent(path, run_status):
    run_statements(
        path, "insert into migrations (name, applied_at) values ('009_lost', '2026-01-01T00:00:00.000Z')"
    )
    items, warnings = run_status("--check", status=4)
    assert items[0]["migrations"] == "inconsistent"
    assert "migrate verify" in warnings[0]


def test_cleanup_is_overdue_one_day_after_it_was_due(path, run_status):
    add_login_attempt(path, ago(hours=25))
    assert main(["sessions", "cleanup", "--check"]) == 3
    assert run_status("--check")[0][0]["overdue"] == []
    add_login_attempt(path, ago(hours=49))
    items, warnings = run_status("--check", status=3)
    assert items[0]["overdue"] == ["login-attempts"]
    assert warnings == ["fp/user: cleanup has been due for more than a day (login-attempts)"]
    assert run_status()[1] == warnings


@pytest.mark.slow
def test_overdue_cleanup_is_found_through_indexes(path):
    recent = ago(hours=0)  # of today, because rows from the day of the limit would be read
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns, row in (
            ("login_attempts", "username, ip_address, attempted_at", ("x", "y", recent)),
            ("activity_logs", "username, action, created_at", ("x", "y", recent)),
        ):
            connection.executemany(
                f"insert into {table} ({columns}) values (?, ?, ?)", (row for _ in range(50_000))
            )
        connection.executemany(
            "insert into user_game_plays (user_id, game_id, session_id, started_at, ended_at) values (2, 'g', ?, ?, ?)",
            ((f"n{number}", ago(days=9), recent) for number in range(50_000)),
        )
    with open_app(path) as app:
        late = CleanUp(app).find_overdue("user", within=timedelta(0))
        assert late.rules == []
        # only deployed databases have an index of open plays; in other databases all plays are read, within the time limit
        assert late.unknown == (
            [] if "deployed" in path.parent.name or is_deployed(path) else ["abandoned-plays"]
        )
        late = CleanUp(app).find_overdue("user", within=timedelta(minutes=1))
        assert (late.rules, late.unknown) == ([], [])


def is_deployed(path):
    return bool(
        flashpoint_app.query_rows(
            path, "select 1 from sqlite_master where name = 'idx_user_game_plays_active'"
        )
    )


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"no database at all" * 100, "not-a-database", 4),
        (b"", "wrong-app", 2),
        (None, "database-missing", 10),
    ],
)
def test_unreadable_database_is_a_state_and_partial_failure_if_others_are_readable(
    path, run_status, content, code, status
):
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    items, warnings = run_status(status=status)
    assert (items[0]["state"], items[0]["migrations"]) == (code, None)
    assert items[0]["bytes"] == (None if content is None else len(content))
    assert len(warnings) == 1
    run_status("--check", status=status)
    path.with_name("copy.db").write_bytes(whole)
    add_second_app(path, "copy.db")
    items, _ = run_status("--check", status=12)
    assert [(item["app"], item["state"]) for item in items] == [("fp", code), ("second", "ok")]
    assert [item["app"] for item in run_status("--app", "fp", "--check", status=status)[0]] == ["fp"]


def test_locked_database_is_busy(path, run_status):
    run_script(path, "pragma journal_mode = delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin exclusive")
        db.execute("create table locked (a)")
        items, _ = run_status("--check", "--timeout", "0", status=11)
    assert items[0]["state"] == "busy"


def test_connection_that_is_lost_later_is_a_failure(tmp_path, run_status):
    with empty_database("postgresql", tmp_path) as database:
        database.run(
            "create view schema_migrations as select '1'::text as version where pg_terminate_backend(pg_backend_pid())"
        )
        (item,), warnings = run_status("--profile", "plain", "--url", f"main={database.url}", status=10)
    assert item["state"] == "connection-lost"
    assert "was lost" in warnings[0]


def test_app_with_missing_profile_is_one_line_with_its_error(path, run_status):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write('[apps.broken]\nprofile = "nowhere.toml"\n[apps.broken.databases]\nuser = "x.db"\n')
    items, warnings = run_status("--check", status=12)
    assert [(item["app"], item["database"], item["state"]) for item in items] == [
        ("broken", None, "file-missing"),
        ("fp", "user", "ok"),
    ]
    assert warnings[0].startswith("broken: ")
    assert run_status("--app", "broken", status=5)[0]["code"] == "file-missing"
    assert run_status("--app", "nonsense", status=5)[0]["code"] == "app-missing"


def test_missing_database_is_reported_unless_optional(path, run_status):
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text().replace('user = "user.db"', 'flashpoint = "f.sqlite"'))
    launcher_extras_db(path.with_name("f.sqlite"))
    items, _ = run_status("--check", status=12)
    assert [(item["database"], item["state"]) for item in items] == [
        ("user", "database-not-configured"),
        ("flashpoint", "ok"),
    ]


def test_wal_of_a_killed_app_is_read_and_not_changed(path, run_status):
    run_script(path, "pragma journal_mode = wal")
    run_python(KILLED_WRITER_CODE, path)
    before = snapshot(path.parent)
    items, _ = run_status("--check")
    assert items[0]["state"] == "ok"
    assert items[0]["wal_bytes"] > 0
    assert snapshot(path.parent) == before


def test_read_only_disk_is_reported(small_disk, monkeypatch, run_status):  # noqa: F811 - a fixture
    flashpoint_app.create_valid_app(small_disk, "deployed")
    monkeypatch.chdir(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    items, warnings = run_status("--check", status=6)
    assert (items[0]["state"], items[0]["migrations"]) == ("read-only", "current")
    assert "read-only" in warnings[0]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    configure(small_disk / "user.db", '"backups"', '"user.db"')
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    items, _ = run_status(status=12)  # the database is readable, and the repository is not
    assert items[0]["state"] == "read-only"


def configure(path, old, new):
    config = path.with_name("dbctl.toml")
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_missing_or_old_backup_requires_an_action(path, run_status):
    configure(path, 'repository = "backups"', 'repository = "elsewhere"\nmax_age = "26h"')
    items, warnings = run_status("--check", status=3)
    assert items[0]["backup_at"] is None
    assert [warning.partition(" (backup directory not found: ")[0] for warning in warnings] == [
        "fp/user: no backup exists"
    ]
    assert main(["backup", "create"]) == 0
    items, warnings = run_status("--check")
    assert items[0]["backup_at"] > ago(minutes=5)
    configure(path, "26h", "0s")
    (warning,) = run_status("--check", status=3)[1]
    assert warning.startswith("fp/user: the newest backup is older than 0s (")
    assert "backup create" in warning


@pytest.mark.needs_extension("reports")
def test_failed_job_is_named_with_its_app_and_its_command_once(path, run_status, answer, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(path.parent / "state"))
    configure(path, 'repository = "backups"', 'repository = "user.db"')
    answer("backup", "create", status=10)
    (warning,) = (text for text in run_status(status=12)[1] if "backup create failed" in text)
    assert warning.startswith("fp: backup create failed ")
    assert warning.endswith("runs show 1 --app fp)")
    (finding,) = (item for item in answer("report")["data"]["findings"] if item["code"] == "run-failing")
    assert "runs show" not in finding["message"]
    assert finding["remedy"].endswith("runs show 1 --app fp")


def test_unreadable_backup_manifest_is_reported(path, run_status):
    (manifest,) = path.parent.glob("backups/*/*/manifest.json")
    manifest.write_text("{}")
    items, warnings = run_status("--check", status=4)
    assert (items[0]["state"], items[0]["backup_at"]) == ("ok", None)
    assert manifest.parent.name in warnings[0]


def test_unreadable_repository_is_a_failure_and_the_database_is_reported(path, run_status):
    configure(path, '"backups"', '"user.db"')
    for words in ([], ["--check"]):
        items, warnings = run_status(*words, status=12)
        assert (items[0]["state"], items[0]["health"], items[0]["backup_at"]) == ("ok", "error", None)
        assert len(warnings) == 1
    path.unlink()
    (item,), _ = run_status(status=10)
    assert item["state"] != "ok"


def test_app_with_own_profile_has_a_status(tmp_path, run_status):
    path = larder_db(tmp_path / "larder.db")
    words = ["--profile", str(PROFILE), "--url", f"pantry={path}"]
    items, _ = run_status(*words, "--check", status=3)
    assert (items[0]["database"], items[0]["overdue"], items[0]["migrations"]) == (
        "pantry",
        ["stale-logins"],
        None,
    )
    run_statements(path, "delete from member_logins where ends_ms < 2e12")
    run_status(*words, "--check")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status --check",
        "wait --all-apps",
        "doctor --all-apps",
        pytest.param("report", marks=pytest.mark.needs_extension("reports")),
        pytest.param("metrics", marks=pytest.mark.needs_extension("metrics")),
    ],
)
def test_configuration_without_apps_is_reported(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "dbctl.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "config-missing"
