"""Statistics match the databases, and reading them changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from dbctl.cli.main import main
from tests.databases import empty_database
from tests.services.flashpoint_app import open_in_process, run_script, snapshot
from tests.shapes.flashpoint_web import (
    add_user,
    deployed_user_db,
    document_flashpoint_db,
    document_user_db,
    launcher_extras_db,
)

CONFIGURATION = """\
[apps.fp]
profile = "flashpoint-web"
[apps.fp.databases]
user = "user.db"
flashpoint = "flashpoint.sqlite"
"""
REPORTS = [
    "most-played",
    "recent-plays",
    "recent-activity",
    "plays-per-user",
    "addresses",
    "refresh-tokens",
    "games-per-platform",
    "games-per-library",
    "games-per-tag",
    "games-per-category",
]


@pytest.fixture(params=["document", "deployed"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "document":
        document_user_db(tmp_path / "user.db")
        document_flashpoint_db(tmp_path / "flashpoint.sqlite")
    else:
        deployed_user_db(tmp_path / "user.db")
        launcher_extras_db(tmp_path / "flashpoint.sqlite")
    add_user(tmp_path / "user.db", "eve", 2)
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_stats(answer):
    def run(*words, status=0):
        response = answer(*words, status=status)
        return response["data"] if status == 0 else response["error"]

    return run


def query(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def test_statistics_change_no_file(folder, run_stats):
    before = snapshot(folder)
    for arguments in (["overview"], ["tables"], ["locks"], ["user", "eve"], ["activity"], ["reports"]):
        run_stats("stats", *arguments)
    for name in REPORTS:
        run_stats("stats", "run", name)
        run_stats("stats", "run", name, "--explain")
    assert snapshot(folder) == before


def test_database_size_is_file_size(folder, run_stats):
    user, games = run_stats("stats", "overview")["items"]
    assert (user["target"], user["journal_mode"], user["wal_bytes"], user["wal_pages"]) == (
        "fp/user",
        "wal",
        0,
        0,
    )
    assert games["target"] == "fp/flashpoint"
    for result, name in ((user, "user.db"), (games, "flashpoint.sqlite")):
        assert result["bytes"] == result["page_size"] * result["page_count"] == (folder / name).stat().st_size
    assert run_stats("stats", "overview", "--db", "flashpoint")["items"] == [games]


def test_wal_size_is_reported_without_checkpoint(folder, run_stats):
    grow = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500) insert into extra select hex(randomblob(200)) from n"
    with open_in_process(
        folder / "user.db",
        "pragma wal_autocheckpoint = 0",
        "create table extra (a)",
        grow,
        "drop table extra",
    ):
        wal = folder / "user.db-wal"
        before = (folder / "user.db").read_bytes(), wal.read_bytes()
        result = run_stats("stats", "overview", "--db", "user")["items"][0]
        assert result["wal_bytes"] == wal.stat().st_size > 100_000
        assert 24 < result["wal_pages"] <= result["wal_bytes"] // 4120
        assert result["freelist_pages"] > 10
        assert result["journal_mode"] == "wal"
        assert ((folder / "user.db").read_bytes(), wal.read_bytes()) == before


def test_tables_have_rows_sizes_and_indexes(folder, run_stats):
    items = run_stats("stats", "tables")["items"]
    tables = {(row_["target"], row_["table"]): row_ for row_ in items}
    for (target, table), row_ in tables.items():
        path = folder / ("user.db" if target == "fp/user" else "flashpoint.sqlite")
        assert row_["rows"] == query(path, f'select count(*) from "{table}"')[0][0]
        assert row_["bytes"] is None or (row_["bytes"] > 0 and row_["bytes"] % 4096 == 0)
    assert any(row_["indexes"] for row_ in items)
    sorted_ = run_stats("stats", "tables", "--sort", "-rows")["items"]
    assert [row_["rows"] for row_ in sorted_] == sorted((row_["rows"] for row_ in items), reverse=True)


def test_rows_of_user_are_counted_in_referencing_tables(folder, run_stats):
    (user_id,) = query(folder / "user.db", "select id from users where username = 'eve'")[0]
    run_script(
        folder / "user.db",
        f"""insert into user_game_plays (user_id, game_id, game_title, session_id) values ({user_id}, 'x', 'X', 's');
        insert into user_stats (user_id, total_sessions) values ({user_id}, 7);
        create unique index name_and_address on users (username, email);
        create table profiles (name text references users (username));
        create table invitations (name text, email text, foreign key (name, email) references users (username, email));
        insert into profiles values ('eve'), ('eve'), ('{user_id}');
        insert into invitations select username, email from users where username = 'eve';
        insert into invitations values ('eve', 'other@example.org')""",
    )
    result = run_stats("stats", "user", "EVE")
    assert (result["login"], result["statistics"]["total_sessions"]) == ("eve", 7)
    assert (result["rows"]["user_game_plays"], result["rows"]["user_settings"]) == (1, 0)
    assert (result["rows"]["profiles"], result["rows"]["invitations"]) == (2, 1)
    assert run_stats("stats", "user", "nobody", status=5)["code"] == "user-missing"


def test_activity_is_filtered_by_user_action_resource_and_time(folder, run_stats):
    run_script(
        folder / "user.db",
        """insert into activity_logs (username, action, resource, created_at) values
        ('eve', 'login', null, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 minute')),
        ('EVE', 'games.play', 'games', datetime('now', '-3 days')),
        ('bob', 'games.view', 'games', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-4 days')),
        ('bob', 'login', null, datetime('now', '-400 days'))""",
    )

    def list_entries(*arguments):
        return [
            (entry["username"], entry["action"])
            for entry in run_stats("stats", "activity", *arguments)["items"]
        ]

    assert list_entries() == [
        ("eve", "login"),
        ("EVE", "games.play"),
        ("bob", "games.view"),
        ("bob", "login"),
    ]
    assert list_entries("--user", "eve") == [("eve", "login"), ("EVE", "games.play")]
    assert list_entries("--user", "B*") == [("bob", "games.view"), ("bob", "login")]
    assert list_entries("--action", "games.*") == [("EVE", "games.play"), ("bob", "games.view")]
    assert list_entries("--action", "login", "--since", "1w") == [("eve", "login")]
    assert list_entries("--resource", "games", "--limit", "1", "--offset", "1") == [("bob", "games.view")]
    assert run_stats("stats", "activity", "--limit", "1")["total"] == 4


def test_actions_of_dbctl_are_listed_without_empty_columns(folder, run_stats, capsys):
    run_script(folder / "user.db", "delete from activity_logs")
    run_script(
        folder / "user.db",
        "insert into refresh_tokens (user_id, token, expires_at) values (2, 'x', '2020-01-01')",
    )
    assert run_stats("sessions", "cleanup", "--rule", "expired-tokens")["rules"][0]["changed"] == 1
    (entry,) = run_stats("stats", "activity", "--user", "dbctl*")["items"]
    assert (entry["action"], entry["user"]) == ("sessions.cleanup", None)
    assert main(["stats", "activity", "--user", "dbctl*"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["at", "username", "action"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes that have a file open")
@pytest.mark.parametrize(
    ("statements", "mode"),
    [
        (["begin immediate", "create table held (a)"], "write"),
        (["begin", "select * from game"], "read"),
        (["pragma schema_version"], "open"),
    ],
)
def test_lock_holder_of_unopenable_file_is_listed(folder, run_stats, statements, mode):
    run_script(folder / "flashpoint.sqlite", "pragma journal_mode = delete")
    assert run_stats("stats", "locks")["items"] == []
    with open_in_process(folder / "flashpoint.sqlite", *statements) as process:
        (holder,) = run_stats("stats", "locks")["items"]
    assert (holder["target"], holder["pid"], holder["mode"]) == ("fp/flashpoint", process.pid, mode)
    assert holder["command"].startswith("python")
    assert holder["owner"] == subprocess.check_output(["id", "-un"], text=True).strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes that have a file open")
def test_lock_holder_of_wal_database_is_listed(folder, run_stats):
    with open_in_process(folder / "user.db", "select * from users") as process:
        assert [(row["pid"], row["mode"]) for row in run_stats("stats", "locks")["items"]] == [
            (process.pid, "read")
        ]


@pytest.mark.parametrize("arguments", [["overview"], ["tables"], ["locks"]])
def test_missing_database_is_an_error(folder, run_stats, arguments):
    (folder / "flashpoint.sqlite").unlink()
    assert run_stats("stats", *arguments, "--db", "flashpoint", status=10)["code"] == "database-missing"
    assert run_stats("stats", *arguments, "--db", "user") is not None


def test_missing_database_is_an_error_of_locks_on_other_systems(folder, run_stats, monkeypatch):
    """They do not list the processes that have a file open."""
    monkeypatch.setattr(sys, "platform", "darwin")
    words = ("stats", "locks", "--db", "flashpoint")
    assert run_stats(*words, status=2)["code"] == "not-supported"
    (folder / "flashpoint.sqlite").unlink()
    assert run_stats(*words, status=10)["code"] == "database-missing"


@pytest.mark.parametrize("arguments", [["overview"], ["tables"], ["locks"]])
def test_missing_database_does_not_hide_others(folder, run_stats, arguments, capsys):
    (folder / "flashpoint.sqlite").unlink()
    with open_in_process(folder / "user.db", "begin immediate"):
        assert main(["stats", *arguments, "-o", "json"]) == 12
    response = json.loads(capsys.readouterr().out)
    assert {row["target"] for row in response["data"]["items"]} == {"fp/user"}
    assert "fp/flashpoint: file not found" in response["warnings"][0]
    assert main(["stats", *arguments]) == 12
    assert "fp/flashpoint: file not found" in capsys.readouterr().err
    (folder / "user.db").unlink()
    assert run_stats("stats", *arguments, status=10)["code"] == "database-missing"


def test_locked_or_damaged_database_is_an_error(folder, run_stats):
    run_script(folder / "flashpoint.sqlite", "pragma journal_mode = delete")
    only = ("--db", "flashpoint")
    with open_in_process(folder / "flashpoint.sqlite", "begin exclusive", "create table held (a)"):
        assert run_stats("stats", "overview", *only, "--timeout", "0", status=11)["code"] == "busy"
    (folder / "flashpoint.sqlite").write_bytes(b"no database" * 1000)
    assert run_stats("stats", "tables", *only, status=4)["code"] == "not-a-database"
    os.truncate(folder / "flashpoint.sqlite", 0)
    assert run_stats("stats", "run", "games-per-tag", status=2)["code"] == "wrong-app"


# Reports -----------------------------------------------------------------------------------------------------------


def test_all_reports_are_listed_and_run(folder, run_stats):
    reports = run_stats("stats", "reports")["items"]
    assert [report["name"] for report in reports] == REPORTS
    for report in reports:
        page = run_stats("stats", "run", report["name"])
        assert all(list(row) == report["columns"] for row in page["items"])
    assert run_stats("stats", "run", "nosuch", status=5)["code"] == "report-missing"
    assert run_stats("stats", "run", "most-played", "--set", "x=1", status=2)["code"] == "usage"


def test_report_that_returns_other_columns_is_refused_and_does_not_end_the_status(
    answer, tmp_path, monkeypatch
):
    """Only ``apps check`` compares them before the query runs."""
    monkeypatch.chdir(tmp_path)
    with empty_database("sqlite", tmp_path / "shop.db") as shop:
        shop.run("create table t (id integer primary key)", "insert into t values (1)")
    (tmp_path / "shop.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\nengines = ["sqlite"]\nneeds = ["t"]\n'
        '[[report]]\nname = "narrow"\ntitle = "Narrow"\ncolumns = ["a", "b"]\nsampled = true\n'
        '[[report.variant]]\nneeds = ["t"]\nsql = "select id from t limit :limit offset :offset"\n'
    )
    (tmp_path / "dbctl.toml").write_text('[apps.shop]\nprofile = "shop.toml"\ndatabases = "shop.db"\n')
    error = answer("stats", "run", "narrow", status=2)["error"]
    assert (error["code"], "returns 1 column," in error["message"]) == ("usage", True)
    assert answer("status", "--record")["ok"]


def test_game_counts_match_the_tables(folder, run_stats):
    games = query(folder / "flashpoint.sqlite", "select count(*) from game")[0][0]
    assert sum(row["games"] for row in run_stats("stats", "run", "games-per-library")["items"]) == games
    tagged = query(folder / "flashpoint.sqlite", "select count(*) from game_tags_tag")[0][0]
    assert sum(row["games"] for row in run_stats("stats", "run", "games-per-tag")["items"]) == tagged > 0
    for name in ("games-per-platform", "games-per-category"):
        counts = [row["games"] for row in run_stats("stats", "run", name)["items"]]
        assert counts == sorted(counts, reverse=True) != []


def test_plays_are_ranked_and_paged(folder, run_stats):
    (user_id,) = query(folder / "user.db", "select id from users where username = 'eve'")[0]
    run_script(
        folder / "user.db",
        f"""insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values ({user_id}, 'a', 'A', 2, 20), ({user_id}, 'b', 'B', 5, 50), ({user_id}, 'c', 'C', 1, 10);
        insert into user_game_plays (user_id, game_id, game_title, session_id) values ({user_id}, 'a', 'A', 's')""",
    )
    page = run_stats("stats", "run", "most-played", "--limit", "1", "--offset", "1")
    assert page["items"] == [{"game_id": "a", "title": "A", "plays": 2, "seconds": 20, "players": 1}]
    assert (page["total"], page["has_more"]) == (3, True)
    (play,) = run_stats("stats", "run", "recent-plays")["items"]
    assert (play["username"], play["game_id"], play["ended_at"]) == ("eve", "a", None)


def test_report_is_sorted_by_any_column_over_all_pages(folder, run_stats):
    (eve,) = query(folder / "user.db", "select id from users where username = 'eve'")[0]
    run_script(
        folder / "user.db",
        f"""insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values ({eve}, 'a', 'A', 2, 90), ({eve}, 'b', 'B', 5, 7), ({eve}, 'c', NULL, 1, 90), ({eve}, 'd', 'd', 9, 8)""",
    )

    def list_games(*arguments):
        page = run_stats("stats", "run", "most-played", *arguments)
        return [row["game_id"] for row in page["items"]], page["total"]

    assert list_games("--sort", "-seconds") == (["a", "c", "d", "b"], 4)
    assert list_games("--sort", "seconds", "--limit", "2", "--offset", "1") == (["d", "a"], 4)
    assert list_games("--sort", "title:desc") == (["d", "b", "a", "c"], 4)  # a row without a value is last
    error = run_stats("stats", "run", "most-played", "--sort", "second", status=2)
    assert "known: game_id, title, plays, seconds, players" in error["message"]
    assert "seconds" in error["hint"]


def test_addresses_and_refresh_tokens_are_reports(folder, run_stats):
    (eve,) = query(folder / "user.db", "select id from users where username = 'eve'")[0]
    run_script(
        folder / "user.db",
        f"""insert into activity_logs (user_id, username, action, ip_address, user_agent, created_at)
            values ({eve}, 'eve', 'login', '192.0.2.7', 'Firefox', '2026-03-01T10:00:00.000Z');
        insert into refresh_tokens (user_id, token, expires_at, revoked_at)
            values ({eve}, '{"ab" * 64}', '2099-01-01 00:00:00', '2026-03-01T10:00:00.000Z')""",
    )
    rows = run_stats("stats", "run", "addresses", "--set", "user=eve")["items"]
    assert ("login", "192.0.2.7", "Firefox") in [
        (row["action"], row["ip_address"], row["user_agent"]) for row in rows
    ]
    row = run_stats("stats", "run", "refresh-tokens", "--set", "user=eve")["items"][0]
    assert (row["username"], row["expires_at"]) == ("eve", "2099-01-01T00:00:00.000Z")
    assert row["revoked_at"] == "2026-03-01T10:00:00.000Z"
    assert "abab" not in str(row)


def test_plays_are_reported_per_user_and_game(folder, run_stats):
    (eve,) = query(folder / "user.db", "select id from users where username = 'eve'")[0]
    ana = add_user(folder / "user.db", "ana")
    run_script(
        folder / "user.db",
        f"""insert into user_game_stats
            (user_id, game_id, game_title, total_plays, total_playtime_seconds, last_played_at)
        values ({eve}, 'a', 'A', 2, 20, '2026-03-01T10:00:00.000Z'), ({eve}, 'b', 'B', 5, 50, '2026-03-02 11:00:00'),
            ({ana}, 'a', 'A', 1, 7, null)""",
    )

    def list_plays(*arguments):
        page = run_stats("stats", "run", "plays-per-user", *arguments)
        return [(row["username"], row["game_id"], row["plays"], row["seconds"]) for row in page["items"]]

    assert list_plays() == [("ana", "a", 1, 7), ("eve", "b", 5, 50), ("eve", "a", 2, 20)]
    assert list_plays("--set", "user=eve") == [("eve", "b", 5, 50), ("eve", "a", 2, 20)]
    assert list_plays("--set", "user=ana", "--set", "game=a") == [("ana", "a", 1, 7)]
    last = [row["last_played_at"] for row in run_stats("stats", "run", "plays-per-user")["items"]]
    assert last == [None, "2026-03-02T11:00:00.000Z", "2026-03-01T10:00:00.000Z"]


def test_explained_report_has_sql_plan_and_full_scans(folder, run_stats, capsys):
    result = run_stats("stats", "run", "recent-plays", "--explain")
    assert result["sql"].startswith("select")
    assert result["parameters"] == {"limit": 50, "offset": 0}
    assert result["full_scans"] == ["user_game_plays"]
    assert main(["stats", "run", "recent-plays", "--explain"]) == 0
    assert "user_game_plays" in capsys.readouterr().err


def test_tables_without_statistics_have_no_note_about_estimates(tmp_path, answer):
    with empty_database("postgresql", tmp_path / "app.db") as database:
        database.run("create table t (id integer primary key)")
        result = answer("stats", "bloat", "--url", f"main={database.url}")
        assert [row["wasted_bytes"] for row in result["data"]["items"]] == [None]
        assert result["warnings"] == []
