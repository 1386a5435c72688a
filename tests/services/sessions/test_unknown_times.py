"""A cleanup by times that dbctl cannot read deletes nothing: by Julian days or days since 1970, it would delete all rows."""

from __future__ import annotations

import time

import pytest

from tests.databases import empty_database, from_url

PROFILE = """schema = "dbctl.profile/1"
name = "logs"
title = "Logs"
time = "epoch-s"

[databases.main]
engines = ["sqlite", "postgresql", "mysql"]

[[cleanup]]
name = "old"
table = "logs"
key = "id"
age = { column = "at", older_than = "30d" }
delete = true
"""


@pytest.mark.parametrize(
    ("form", "is_known"),
    [
        ("julianday('now')", False),
        ("cast(julianday('now') - 2440587.5 as integer)", False),
        ("strftime('%d.%m.%Y %H:%M', 'now')", False),
        ("case id when 1 then 'never' else strftime('%s', 'now') - 31 * 86400 * (id - 2) end", True),
        ("null", True),
        ("-1", True),
        (
            "case id when 1 then 'never' else cast(strftime('%Y%m%d%H%M%S', 'now', (62 - 31 * id) || ' days') as blob) end",
            True,
        ),
    ],
)
def test_cleanup_by_unknown_times_is_refused(form, is_known, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs.toml").write_text(PROFILE)
    database = from_url("app.db")
    database.run(
        "create table logs (id integer primary key, at)",
        "insert into logs (id) values (1), (2), (3), (4)",
        f"update logs set at = {form}",
    )
    (tmp_path / "dbctl.toml").write_text('[apps.a]\nprofile = "./logs.toml"\ndatabases = "app.db"\n')
    findings = answer("apps", "check", status=None)["data"]["findings"]
    assert [finding["code"] for finding in findings] == ["time-format"] * (not is_known)
    due, planned, result = (
        answer("sessions", "cleanup", option, status=None) for option in ("--check", "--dry-run", "--yes")
    )
    code = (result["error"] or {}).get("code", "")
    assert code in ([""] if is_known else ["", "profile-contradiction"])
    assert [(each["error"] or {}).get("code", "") for each in (due, planned)] == [code, code]
    assert "%s" not in form or len(database.rows("select id from logs")) == 2
    assert is_known or len(database.rows("select id from logs")) == 4


def test_refused_rule_does_not_prevent_the_others(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rule = PROFILE[PROFILE.index("[[cleanup]]") :]
    last = rule.replace('"old"', '"visits"').replace('"logs"', '"visits"')
    (tmp_path / "logs.toml").write_text(PROFILE + last)
    database = from_url("app.db")
    for table, time_form in (("visits", "strftime('%s', 'now') - 31 * 86400"), ("logs", "julianday('now')")):
        database.run(
            f"create table {table} (id integer primary key, at)", f"insert into {table} select 1, {time_form}"
        )
    options = ("--profile", "./logs.toml", "--url", "main=app.db")
    plan = answer("sessions", "cleanup", "--dry-run", *options, status=12)["data"]["plan"]
    assert (plan["rows"], len(plan["failed"]), len(plan["steps"])) == ({"visits": 1}, 1, 2)
    result = answer("sessions", "cleanup", *options, status=12)
    (message,) = result["data"]["failed"]
    assert [part in message for part in ("old: ", "apps check", "Nothing was changed")] == [True, True, False]
    assert message in result["warnings"]
    assert [(rule["rule"], rule["changed"]) for rule in result["data"]["rules"]] == [("visits", 1)]
    assert (database.rows("select id from visits"), database.rows("select id from logs")) == ([], [(1,)])
    # now no rule can change rows
    for option in ("--dry-run", "--yes"):
        error = answer("sessions", "cleanup", option, *options, status=6)["error"]
        assert (error["code"], "apps check" in error["hint"]) == ("profile-contradiction", True)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_exact_numbers_of_seconds_are_known_times(engine, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs.toml").write_text(PROFILE)
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table logs (id integer primary key, at decimal(20, 6))",
            f"insert into logs values (1, {time.time() - 31 * 86400:.2f}), (2, {time.time():.2f})",
        )
        options = ("--profile", "./logs.toml", "--url", f"main={database.url}")
        assert answer("apps", "check", *options)["data"]["findings"] == []
        rows = answer("data", "rows", "logs", "--filter", "at>2026-01-31", *options)["data"]["items"]
        assert [row["id"] for row in rows] == [1, 2]
        answer("sessions", "cleanup", "--yes", *options)
        assert [row[0] for row in database.rows("select id from logs")] == [2]


def test_only_rows_that_a_rule_covers_need_known_times(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs.toml").write_text(PROFILE.replace("age =", 'where = { kind = "log" }\nage ='))
    database = from_url("app.db")
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 150)"
    database.run(
        "create table logs (id integer primary key, kind text, at)",
        f"insert into logs {numbers} select i, 'color', 'dark' from n",
        "update logs set kind = 'log', at = strftime('%s', 'now') - 40 * 86400 where id = 75",
    )
    options = ("--profile", "./logs.toml", "--url", "main=app.db")
    answer("sessions", "cleanup", "--yes", *options)
    assert database.rows("select count(*) from logs where kind = 'log'") == [(0,)]
    database.run(
        "update logs set at = strftime('%s', 'now')",
        "update logs set kind = 'log', at = julianday('now') where id = 150",
    )
    error = answer("sessions", "cleanup", "--yes", *options, status=None)["error"]
    assert error["code"] == "profile-contradiction"


def test_other_rules_are_not_refused(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = PROFILE[PROFILE.index("[[cleanup]]") :].replace('"old"', '"days"').replace('"at"', '"day"')
    (tmp_path / "logs.toml").write_text(PROFILE + second)
    database = from_url("app.db")
    database.run(
        "create table logs (id integer primary key, at, day)",
        "insert into logs values (1, strftime('%s', 'now') - 40 * 86400, 20000), (2, strftime('%s', 'now'), 20000)",
    )
    options = ("--profile", "./logs.toml", "--url", "main=app.db", "--yes")
    assert answer("sessions", "cleanup", "--rule", "days", *options, status=None)["error"]["code"] == (
        "profile-contradiction"
    )
    answer("sessions", "cleanup", "--rule", "old", *options)
    assert database.rows("select id from logs") == [(2,)]
