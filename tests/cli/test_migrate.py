"""``dbctl migrate`` on the command line: options, exit codes, output, concurrent runs, and signals."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.in_process import CLEAN_ENVIRONMENT, run_command
from tests.shapes.flashpoint_web import DEPLOYED, deployed_user_db

#: A statement that runs for minutes, so that a signal interrupts it.
LONG = "select count(*) from (with recursive c (n) as (select 1 union all select n + 1 from c limit 900000000) select n from c);"


@pytest.fixture
def folder(tmp_path):
    """Create an app with a separate folder of migrations."""
    (tmp_path / "dbctl.toml").write_text(
        '[apps.fp]\nprofile = "flashpoint-web"\n[apps.fp.databases]\nuser = "user.db"\n'
        '[apps.fp.migrations]\nuser = "migrations"\n',
        encoding="utf-8",
    )
    (tmp_path / "migrations").mkdir()
    write(
        tmp_path,
        {
            "001_users": "create table users (id);\ncreate table roles (id);\ncreate table role_permissions (id);"
        },
    )
    write(tmp_path, {"002_notes": "create table notes (body);"})
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        (folder / "migrations" / f"{name}.sql").write_text(text, encoding="utf-8")


def started(folder, *words):
    arguments = [sys.executable, "-m", "dbctl", "migrate", *words]
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=CLEAN_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dbctl(folder, *words):
    process = run_command(["migrate", *words], environment=CLEAN_ENVIRONMENT, cwd=folder)
    return subprocess.CompletedProcess(
        words, process.returncode, process.stdout.decode(), process.stderr.decode()
    )


def run_json(folder, *words):
    """Return exit code and the JSON object of a command."""
    process = dbctl(folder, *words, "-o", "json")
    return process.returncode, json.loads(process.stdout)


def query(folder, sql):
    with closing(sqlite3.connect(folder / "user.db", isolation_level=None, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Options and formats -------------------------------------------------------------------------------------------------


def test_empty_folder_of_migrations_is_not_the_current_one(folder):
    (folder / "001_other.sql").write_text("create table other (id);")
    status, answer = run_json(folder, "up", "--migrations", "", "--yes")
    assert (status, "it is empty" in answer["error"]["message"]) == (2, True)
    assert query(folder, "select name from sqlite_master") == []


def test_migrations_folder_lifecycle(folder):
    assert dbctl(folder, "status").returncode == 10
    assert dbctl(folder, "up").returncode == 0
    assert dbctl(folder, "status", "--check").returncode == 0
    process = dbctl(folder, "up")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "Nothing to do\n")
    created = dbctl(folder, "new", "more notes")
    path = folder / "migrations" / "003_more_notes.sql"
    assert str(path) in created.stderr
    with path.open("a", encoding="utf-8") as file:
        file.write("create table more_notes (body);\n")
    assert dbctl(folder, "status").returncode == 0
    assert dbctl(folder, "status", "--check").returncode == 3
    assert dbctl(folder, "up", "--dry-run").returncode == 0
    assert dbctl(folder, "status", "--check").returncode == 3
    assert dbctl(folder, "up").returncode == 0
    assert dbctl(folder, "verify").returncode == 0
    (folder / "migrations" / "001_users.sql").write_text("other", encoding="utf-8")
    assert dbctl(folder, "status").returncode == 0
    assert dbctl(folder, "status", "--check").returncode == 4
    assert dbctl(folder, "verify").returncode == 4
    assert dbctl(folder, "up").returncode == 4


def test_status_json_has_documented_keys(folder):
    dbctl(folder, "up", "--to", "1")
    status, response = run_json(folder, "status", "--check")
    assert (status, response["schema"], response["ok"], response["target"]) == (
        3,
        "dbctl.migrate.status/1",
        False,
        "fp",
    )
    applied, pending = response["data"]["items"]
    assert list(applied) == [
        "app",
        "database",
        "version",
        "name",
        "state",
        "applied_at",
        "checksum",
        "duration",
        "detail",
    ]
    assert applied["applied_at"].endswith("Z")
    assert pending == {
        "app": "fp",
        "database": "user",
        "version": "002",
        "name": "002_notes",
        "state": "pending",
        "applied_at": None,
        "checksum": hashlib.sha256(b"create table notes (body);").hexdigest(),
        "duration": None,
        "detail": "",
    }


def test_up_json_lists_applied_migrations(folder):
    status, response = run_json(folder, "up")
    assert (status, response["target"]) == (0, "fp/user")
    assert [(item["name"], item["statements"]) for item in response["data"]["items"]] == [
        ("001_users", 3),
        ("002_notes", 1),
    ]


def test_plan_is_executable_sql(folder):
    text = dbctl(folder, "plan").stdout
    assert "-- fp/user: 002_notes (" in text
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(text)
        assert len(connection.execute("select 1 from sqlite_master").fetchall()) == 4
    status, response = run_json(folder, "plan", "--to", "001_users")
    assert (status, [item["version"] for item in response["data"]["items"]]) == (0, ["001"])


def test_read_only_migrate_commands_change_no_file(folder):
    dbctl(folder, "up", "--to", "1")
    before = files(folder)
    for words in (
        ["status"],
        ["plan"],
        ["verify"],
        ["up", "--dry-run"],
        ["new", "x", "--dry-run"],
        ["status", "--check"],
    ):
        dbctl(folder, *words)
        assert files(folder) == before, words


def test_migrations_option_overrides_configuration(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "001_only.sql").write_text("create table only_this (x);", encoding="utf-8")
    _, response = run_json(folder, "plan", "--migrations", str(other))
    assert [item["name"] for item in response["data"]["items"]] == ["001_only"]
    assert dbctl(folder, "plan", "--migrations", str(tmp_path / "none")).returncode == 5


def test_command_of_a_hint_has_the_folder_that_was_passed(folder):
    other = folder / "other release"
    other.mkdir()
    first = (folder / "migrations" / "001_users.sql").read_text(encoding="utf-8")
    (other / "001_users.sql").write_text(first, encoding="utf-8")
    assert dbctl(folder, "up", "--migrations", other.name).returncode == 0
    (other / "001_users.sql").write_text(f"{first}\nselect 1;", encoding="utf-8")
    (other / "002_more.sql").write_text("create table more (id);", encoding="utf-8")
    status, answer = run_json(folder, "up", "--migrations", other.name)
    assert (status, answer["error"]["code"]) == (4, "migration-changed")
    command = shlex.split(answer["error"]["hint"])
    words = command[command.index("repair") :]
    assert words[:6] == ["repair", "--checksums", "--db", "user", "--migrations", other.name]
    assert dbctl(folder, *words).returncode == 0
    assert dbctl(folder, "up", "--migrations", other.name).returncode == 0
    assert query(folder, "select count(*) from more") == [(0,)]


def test_drift_exits_4_only_on_error_and_changes_no_file(folder):
    dbctl(folder, "up")
    before = files(folder)
    assert run_json(folder, "drift") == (0, {
        "schema": "dbctl.migrate.drift/1", "ok": True, "exit_code": 0, "target": "fp", "warnings": [], "error": None,
        "data": {"checked": 16, "unit": "schema part", "findings": []},
    })  # fmt: skip
    assert files(folder) == before
    query(folder, "create index by_body on notes (body)")
    assert run_json(folder, "drift")[0] == 0
    query(folder, "alter table notes rename column body to text")
    status, response = run_json(folder, "drift")
    assert (status, response["ok"], response["error"]) == (4, False, None)
    assert [item["code"] for item in response["data"]["findings"]] == [
        "column-missing",
        "column-extra",
        "index-extra",
    ]
    process = dbctl(folder, "drift")
    assert (process.returncode, len(process.stderr.splitlines())) == (4, 1)
    assert "notes.body" in process.stdout


def test_all_apps_are_listed_in_one_table(folder):
    with (folder / "dbctl.toml").open("a", encoding="utf-8") as file:
        file.write('[apps.gone]\nprofile = "flashpoint-web"\n[apps.gone.databases]\nuser = "gone.db"\n')
    dbctl(folder, "up", "--app", "fp")
    status, response = run_json(folder, "status", "--all-apps")
    assert status == 12
    assert {item["app"] for item in response["data"]["items"]} == {"fp"}
    assert "gone/user: file not found" in response["warnings"][0]


def test_json_failure_reports_statement_line_and_applied_migrations(folder):
    write(
        folder, {"003_bad": "create table ok (x);\n\ninsert into nosuch values (1);", "004_next": "select 1;"}
    )
    status, response = run_json(folder, "up")
    assert (status, response["error"]["code"]) == (1, "migration-failed")
    assert (
        response["error"]["message"]
        == "fp/user: 003_bad failed in statement 2 (line 3): no such table: nosuch"
    )
    assert "001_users, 002_notes; not run: 004_next" in response["error"]["hint"]
    assert run_json(folder, "up", "--to", "2")[1]["data"]["items"] == []


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["up", "--to", "nine"], 5, "migration-missing"),
        (["status", "--db", "flashpoint"], 2, "feature-missing"),
        (["status", "--db", "other"], 5, "database-unknown"),
        (["new", "+++"], 2, "value-invalid"),
        (["new"], 2, "usage"),
    ],
)
def test_invalid_migration_arguments_are_refused(folder, words, status, code):
    exit_status, response = run_json(folder, *words)
    assert (exit_status, response["error"]["code"]) == (status, code)
    assert not (folder / "user.db").exists()


@pytest.mark.parametrize(
    ("create_file", "status", "code"),
    [
        (lambda path: path.write_text("no database " * 400, encoding="utf-8"), 4, "not-a-database"),
        (lambda path: path.mkdir(), 10, "unreachable"),
        (
            lambda path: sqlite3.connect(path).execute("create table posts (id)").connection.close(),
            2,
            "wrong-app",
        ),
    ],
)
def test_foreign_file_is_not_changed(folder, create_file, status, code):
    create_file(folder / "user.db")
    before = files(folder)
    for words in ("status", "up", "verify", "plan"):
        exit_status, response = run_json(folder, words)
        assert (exit_status, response["error"]["code"]) == (status, code), words
    assert {path: raw for path, raw in files(folder).items() if not path.name.endswith("-lock")} == before


def test_deployed_database_requires_its_own_migrations_folder(folder):
    deployed_user_db(folder / "user.db")
    status, response = run_json(folder, "up")
    assert (status, response["error"]["code"]) == (6, "migration-files-missing")
    write(folder, {"001_complete_schema": DEPLOYED.read_text()})
    for name in ("001_users", "002_notes"):
        (folder / "migrations" / f"{name}.sql").unlink()
    assert run_json(folder, "status", "--check")[0] == 0
    write(folder, {"002_own": "create table own (x);"})
    assert run_json(folder, "up")[0] == 0


# Concurrent runs and signals-----------------------------------------------------------------------------------------


def test_second_runner_waits_and_then_runs_nothing(folder):
    names = {f"{number:03d}_t": f"create table t{number} (x);" for number in range(3, 40)}
    write(folder, names)
    runners = [started(folder, "up", "-o", "json", "--timeout", "30") for _ in range(4)]
    result = [json.loads(runner.communicate(timeout=60)[0]) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0, 0]
    applied = [item["name"] for answer in result for item in answer["data"]["items"]]
    assert sorted(applied) == sorted(["001_users", "002_notes", *names])
    assert query(folder, "select count(*) from migrations") == [(39,)]


def test_lock_timeout_names_holder(folder):
    write(folder, {"003_long": LONG})
    runner = started(folder, "up")
    try:
        _until(
            lambda: (
                (folder / "user.db").exists()
                and query(folder, "select count(*) from sqlite_master")[0][0] > 5
            )
        )
        status, response = run_json(folder, "up", "--timeout", "0.3")
        assert (status, response["error"]["code"]) == (11, "busy")
        assert f"by dbctl migrate up (pid {runner.pid} on " in response["error"]["message"]
        assert run_json(folder, "status", "--check")[0] == 3  # reading does not wait for the lock
    finally:
        runner.kill()
        runner.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_rolls_back_running_migration(folder, number):
    write(folder, {"003_long": f"create table half (x);\n{LONG}"})
    process = started(folder, "up")
    _until(
        lambda: (
            (folder / "user.db").exists() and query(folder, "select count(*) from sqlite_master")[0][0] > 5
        )
    )
    time.sleep(0.2)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10  # uninterrupted, it runs for minutes
    assert (process.returncode, "rolled back" in err) == (128 + number, True)
    assert query(folder, "select name from migrations order by name") == [("001_users",), ("002_notes",)]
    assert query(folder, "select 1 from sqlite_master where name = 'half'") == []


def _until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except sqlite3.Error:  # the file is being created
            pass
        time.sleep(0.02)
    raise AssertionError("the condition was not fulfilled in time")


@pytest.mark.parametrize("command", ["drift", "verify", "up", "rehearse"])
def test_missing_migrations_error_names_no_internal_folder(tmp_path, command):
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table t (id integer primary key)")
    status, response = run_json(tmp_path, command, "--url", f"main={path}")
    assert (status, response["error"]["code"]) == (5, "migrations-missing")
    assert "/" not in response["error"]["message"].replace("app/main", "")
    assert "--migrations" in response["error"]["hint"]
