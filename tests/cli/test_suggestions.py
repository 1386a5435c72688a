"""Misspelled names: the hint contains the correct one, for every kind of name."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.errors.base import MAX_COMPARED, Exit, find_similar
from dbctl.services.app import user_table
from tests.services.flashpoint_app import copy_configured_deployment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("deployment")
    copy_configured_deployment(place)
    return place


@pytest.fixture
def place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("usres list", "users"), ("users lst", "list"), ("users list --rloe admin", "--role"), ("users list --outptu json", "--output"),
        ("--app arcad status", "arcade"), ("stats tables --db usr", "user"), ("users show morgn", "morgan"), ("users set-role morgan admn", "admin"),
        ("users list --role moderater", "moderator"), ("roles show gest", "guest"), ("roles grant user gamesread", "games.read"),
        ("settings get app.sitename", "app.siteName"), ("settings list --category ap", "app"), ("data rows usrs", "users"),
        ("data rows users --sort emial", "email"), ("users list --sort emial", "email"), ("users list --columns emial", "email"),
        ("stats run most-plyed", "most-played"), ("search gmaes x", "games"), ("sessions cleanup --rule expired-tokns", "expired-tokens"),
        ("status --profile flashpoint-wb --url user=x", "flashpoint-web"), ("help usres", "users"),
        ("config explain backup.repositry", "backup.repository"), ("migrate up --to 001_userschema", "001_user-schema"),
    ],
)  # fmt: skip
def test_hint_has_similar_name(place, answer, line, name):
    error = answer(*line.split(), status=None)["error"]
    assert f"'{name}'" in error["hint"] + error["message"]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("vacuum", "maintain vacuum"), ("cleanup", "sessions cleanup"), ("users add", "users create"), ("users rm", "users delete"),
        ("restore latest", "restore apply latest"), ("restore 20260105_030000", "restore apply 20260105_030000"),
        ("backup latest", "backup show latest"), ("data remove", "data delete"),
    ],
)  # fmt: skip
def test_words_of_other_programs_have_a_command(place, answer, line, command):
    error = answer(*line.split(), status=Exit.USAGE)["error"]
    assert f"(did you mean '{command}'?)" in error["message"]


@pytest.mark.parametrize("option", ["--all", "--debug"])
def test_option_that_resembles_no_other_has_no_suggestion(place, answer, option):
    error = answer("backup", "create", option, status=Exit.USAGE)["error"]
    assert "Did you mean" not in error["hint"]
    assert "dbctl backup create --help" in error["hint"]


def test_a_name_is_never_suggested_for_itself(place, answer):
    with closing(sqlite3.connect(place / "backend/user.db")) as connection:
        rows = connection.execute("select * from system_settings where key = 'siteName'").fetchall()
        connection.execute("delete from system_settings where key = 'siteName'")
        connection.commit()
        hint = answer("settings", "get", "app.siteName", status=Exit.NOT_FOUND)["error"]["hint"]
        assert "Did you mean" not in hint
        answer("settings", "reset", "app.siteName")
        assert answer("settings", "get", "app.siteName")["data"]["key"] == "app.siteName"
        connection.execute("delete from system_settings where key = 'siteName'")
        connection.execute(f"insert into system_settings values ({', '.join('?' * len(rows[0]))})", rows[0])
        connection.commit()


@pytest.mark.parametrize(
    ("line", "database"),
    [("data rows game", "flashpoint"), ("data rows users --db flashpoint", "user"), ("schema diagram game --db user", "flashpoint")],
)  # fmt: skip
def test_missing_table_of_another_database_names_the_database(place, answer, line, database):
    error = answer(*line.split(), status=Exit.NOT_FOUND)["error"]
    assert (error["code"], f"--db {database}" in error["hint"]) == ("table-missing", True)


def test_path_in_place_of_an_id_names_the_option_for_files(place, answer):
    answer("backup", "create")
    for path in ("backups/x", "./backups", "dbctl.toml"):
        error = answer("restore", "apply", path, status=Exit.NOT_FOUND)["error"]
        assert f"--file {path}" in error["hint"]


def test_refused_query_does_not_speak_of_changes(place, answer):
    error = answer("search", "games", "--filter", "year-from=abc", status=Exit.USAGE)["error"]
    assert error["code"] == "value-invalid"
    assert "changed" not in (error["hint"] or "")
    error = answer("users", "update", "morgan", "--email", "a" * 5000, status=None)["error"]
    assert "Nothing was changed" in error["hint"]


@pytest.mark.parametrize("command", ["cron", "systemd", "kubernetes", "compose", "status"])
def test_jobs_refuse_a_database(place, answer, command):
    for database in ("nope", "user"):
        answer("schedule", command, "--db", database, status=Exit.USAGE)


@pytest.mark.parametrize("login", ["zzzzzzzz", "a" * 5000, "mor\x1b[31m", "%", "_", "'"])
def test_login_that_resembles_no_other_has_no_suggestion(place, answer, login):
    assert "Did you mean" not in answer("-q", "users", "show", login, status=5)["error"]["hint"]


def test_suggestion_for_many_users_reads_few(place, answer, monkeypatch):
    with closing(sqlite3.connect(place / "backend/user.db")) as connection:
        connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into users"
            " (username, email, password_hash, role_id) select printf('aaa%05d', i), i || '@e', 'x', 3 from n"
        )
        connection.commit()
    sizes = []
    monkeypatch.setattr(
        user_table, "read_text", lambda value, read=user_table.read_text: sizes.append(1) or read(value)
    )
    for misspelled, login in {"morgn": "morgan", "aa04321": "aaa04321", "aaa043211": "aaa04321"}.items():
        sizes.clear()
        assert f"'{login}'" in answer("users", "show", misspelled, status=5)["error"]["hint"]
    assert len(sizes) < 2 * MAX_COMPARED
    monkeypatch.undo()


def test_of_many_names_those_with_the_same_end_are_compared():
    names = [f"name{number}" for number in range(50_000)]
    assert find_similar("Name77", names)[0] == "name77"
    assert find_similar("dmin", [*names, "admin"]) == ["admin"]
