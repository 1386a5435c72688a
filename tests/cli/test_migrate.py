"""``dbctl migrate`` as a person and a script meet it: words, exit statuses, output, two at once, and signals."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.shapes.flashpoint_web import deployed_user_db

ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}

#: Long enough to be met in the middle; the engine looks for signals every millisecond.
LONG = "select count(*) from (with recursive c (n) as (select 1 union all select n + 1 from c limit 900000000) select n from c);"


@pytest.fixture
def folder(tmp_path):
    """An app with a folder of migrations of its own."""
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
    command = [sys.executable, "-m", "dbctl", "migrate", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dbctl(folder, *words):
    process = started(folder, *words)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def asked(folder, *words):
    """Return exit status and the JSON object of a command."""
    done = dbctl(folder, *words, "-o", "json")
    return done.returncode, json.loads(done.stdout)


def query(folder, sql):
    with closing(sqlite3.connect(folder / "user.db", isolation_level=None, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Words and forms ---------------------------------------------------------------------------------------------------


def test_the_life_of_a_folder(folder):
    assert dbctl(folder, "status").returncode == 10
    assert dbctl(folder, "up").returncode == 0
    assert dbctl(folder, "status", "--check").returncode == 0
    again = dbctl(folder, "up")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    made = dbctl(folder, "new", "more notes")
    path = folder / "migrations" / "003_more_notes.sql"
    assert str(path) in made.stdout
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


def test_status_in_json_has_the_keys_that_scripts_rely_on(folder):
    dbctl(folder, "up", "--to", "1")
    status, told = asked(folder, "status", "--check")
    assert (status, told["schema"], told["ok"], told["target"]) == (3, "dbctl.migrate.status/1", False, "fp")
    applied, pending = told["data"]["items"]
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


def test_up_in_json_tells_what_it_ran(folder):
    status, told = asked(folder, "up")
    assert (status, told["target"]) == (0, "fp/user")
    assert [(one["name"], one["statements"]) for one in told["data"]["items"]] == [
        ("001_users", 3),
        ("002_notes", 1),
    ]


def test_the_plan_is_sql_that_can_be_run(folder):
    text = dbctl(folder, "plan").stdout
    assert "-- fp/user: 002_notes (" in text
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(text)
        assert len(connection.execute("select 1 from sqlite_master").fetchall()) == 4
    status, told = asked(folder, "plan", "--to", "001_users")
    assert (status, [one["version"] for one in told["data"]["items"]]) == (0, ["001"])


def test_status_plan_verify_and_dry_runs_change_no_byte(folder):
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


def test_the_option_for_the_folder_beats_the_configured_one(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "001_only.sql").write_text("create table only_this (x);", encoding="utf-8")
    _, told = asked(folder, "plan", "--migrations", str(other))
    assert [one["name"] for one in told["data"]["items"]] == ["001_only"]
    assert dbctl(folder, "plan", "--migrations", str(tmp_path / "none")).returncode == 5


def test_drift_ends_with_4_on_an_error_only_and_changes_no_byte(folder):
    dbctl(folder, "up")
    before = files(folder)
    assert asked(folder, "drift") == (0, {
        "schema": "dbctl.migrate.drift/1", "ok": True, "exit_code": 0, "target": "fp", "warnings": [], "error": None,
        "data": {"checked": 16, "findings": []},
    })  # fmt: skip
    assert files(folder) == before
    query(folder, "create index by_body on notes (body)")
    assert asked(folder, "drift")[0] == 0
    query(folder, "alter table notes rename column body to text")
    status, told = asked(folder, "drift")
    assert (status, told["ok"], told["error"]) == (4, False, None)
    assert [one["code"] for one in told["data"]["findings"]] == [
        "column-missing",
        "column-extra",
        "index-extra",
    ]
    shown = dbctl(folder, "drift")
    assert (shown.returncode, shown.stderr) == (4, "")
    assert "notes.body is missing: no type; 002_notes makes it" in shown.stdout


def test_all_apps_are_told_in_one_table(folder):
    with (folder / "dbctl.toml").open("a", encoding="utf-8") as file:
        file.write('[apps.gone]\nprofile = "flashpoint-web"\n[apps.gone.databases]\nuser = "gone.db"\n')
    dbctl(folder, "up", "--app", "fp")
    status, told = asked(folder, "status", "--all-apps")
    assert status == 12
    assert {one["app"] for one in told["data"]["items"]} == {"fp"}
    assert "gone/user: there is no file" in told["warnings"][0]


def test_a_failure_in_json_names_statement_line_and_what_stands(folder):
    write(
        folder, {"003_bad": "create table ok (x);\n\ninsert into nosuch values (1);", "004_next": "select 1;"}
    )
    status, told = asked(folder, "up")
    assert (status, told["error"]["code"]) == (1, "migration-failed")
    assert (
        told["error"]["message"] == "fp/user: 003_bad failed in statement 2 (line 3): no such table: nosuch"
    )
    assert "001_users, 002_notes; not run: 004_next" in told["error"]["hint"]
    assert asked(folder, "up", "--to", "2")[1]["data"]["items"] == []


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["up", "--to", "nine"], 5, "migration-missing"),
        (["status", "--db", "flashpoint"], 2, "ability-missing"),
        (["status", "--db", "other"], 5, "database-unknown"),
        (["new", "+++"], 2, "value-invalid"),
        (["new"], 2, "usage"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, words, status, code):
    given, told = asked(folder, *words)
    assert (given, told["error"]["code"]) == (status, code)
    assert not (folder / "user.db").exists()


@pytest.mark.parametrize(
    ("made", "status", "code"),
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
def test_a_file_that_is_no_database_of_this_app_is_left_alone(folder, made, status, code):
    made(folder / "user.db")
    before = files(folder)
    for words in ("status", "up", "verify", "plan"):
        given, told = asked(folder, words)
        assert (given, told["error"]["code"]) == (status, code), words
    assert {path: raw for path, raw in files(folder).items() if not path.name.endswith("-lock")} == before


def test_the_deployed_app_is_refused_until_its_own_folder_is_configured(folder):
    deployed_user_db(folder / "user.db")
    status, told = asked(folder, "up")
    assert (status, told["error"]["code"]) == (6, "migrations-unsound")
    write(folder, {"001_complete_schema": "create table if not exists users (id);"})
    for name in ("001_users", "002_notes"):
        (folder / "migrations" / f"{name}.sql").unlink()
    assert asked(folder, "status", "--check")[0] == 0
    write(folder, {"002_own": "create table own (x);"})
    assert asked(folder, "up")[0] == 0


# Two at once, and signals --------------------------------------------------------------------------------------------


def test_a_second_runner_waits_and_then_finds_nothing_to_do(folder):
    names = {f"{number:03d}_t": f"create table t{number} (x);" for number in range(3, 40)}
    write(folder, names)
    runners = [started(folder, "up", "-o", "json", "--timeout", "30") for _ in range(4)]
    told = [json.loads(runner.communicate(timeout=60)[0]) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0, 0]
    ran = [one["name"] for answer in told for one in answer["data"]["items"]]
    assert sorted(ran) == sorted(["001_users", "002_notes", *names])
    assert query(folder, "select count(*) from migrations") == [(39,)]


def test_a_runner_that_waits_in_vain_names_the_holder(folder):
    write(folder, {"003_long": LONG})
    first = started(folder, "up")
    try:
        _until(
            lambda: (
                (folder / "user.db").exists()
                and query(folder, "select count(*) from sqlite_master")[0][0] > 5
            )
        )
        status, told = asked(folder, "up", "--timeout", "0.3")
        assert (status, told["error"]["code"]) == (11, "busy")
        assert f"by dbctl migrate up (pid {first.pid} on " in told["error"]["message"]
        assert asked(folder, "status", "--check")[0] == 3  # reading never waits
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_rolls_the_migration_at_hand_back(folder, number):
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
    assert time.monotonic() - began < 10  # by itself it would take minutes
    assert (process.returncode, "rolled back" in err) == (128 + number, True)
    assert query(folder, "select name from migrations order by name") == [("001_users",), ("002_notes",)]
    assert query(folder, "select 1 from sqlite_master where name = 'half'") == []


def _until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except sqlite3.Error:  # the file is being made
            pass
        time.sleep(0.02)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("command", ["drift", "verify", "up", "rehearse"])
def test_without_a_folder_no_folder_inside_dbctl_is_named(tmp_path, command):
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table t (id integer primary key)")
    status, told = asked(tmp_path, command, "--url", f"main={path}")
    assert (status, told["error"]["code"]) == (5, "migrations-missing")
    assert "/" not in told["error"]["message"].replace("app/main", "")
    assert "--migrations" in told["error"]["hint"]
