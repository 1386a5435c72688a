"""Figures are what the databases hold, and looking at them leaves no trace."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from dbctl.cli.main import main
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
    "plays-per-user",
    "games-per-platform",
    "games-per-library",
    "games-per-tag",
    "games-per-category",
]


@pytest.fixture(params=["document", "deployed"])
def place(request, tmp_path, monkeypatch):
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
def ask(answer):
    def run(*words, status=0):
        told = answer(*words, status=status)
        return told["data"] if status == 0 else told["error"]

    return run


def rows(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(sql)


def trace(folder):
    return {one.name: (one.stat().st_mtime_ns, one.read_bytes()) for one in folder.iterdir()} | {
        ".": folder.stat().st_mtime_ns
    }


@contextmanager
def holding(path, *statements):
    """Another process that runs statements and then keeps the database open."""
    code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nfor s in sys.argv[2:]: c.execute(s).fetchall()\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def test_looking_at_figures_leaves_no_trace(place, ask):
    before = trace(place)
    for words in (["overview"], ["tables"], ["locks"], ["user", "eve"], ["activity"], ["reports"]):
        ask("stats", *words)
    for name in REPORTS:
        ask("stats", "run", name)
        ask("stats", "run", name, "--explain")
    assert trace(place) == before


def test_the_room_of_each_database_is_what_the_file_takes(place, ask):
    user, games = ask("stats", "overview")["items"]
    assert (user["target"], user["journal_mode"], user["wal_bytes"], user["wal_pages"]) == (
        "fp/user",
        "wal",
        0,
        0,
    )
    assert games["target"] == "fp/flashpoint"
    for told, name in ((user, "user.db"), (games, "flashpoint.sqlite")):
        assert told["bytes"] == told["page_size"] * told["page_count"] == (place / name).stat().st_size
    assert ask("stats", "overview", "--db", "flashpoint")["items"] == [games]


def test_what_waits_in_the_wal_is_told_and_stays_there(place, ask):
    grow = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500) insert into extra select hex(randomblob(200)) from n"
    with holding(
        place / "user.db", "pragma wal_autocheckpoint = 0", "create table extra (a)", grow, "drop table extra"
    ):
        wal = place / "user.db-wal"
        before = (place / "user.db").read_bytes(), wal.read_bytes()
        told = ask("stats", "overview", "--db", "user")["items"][0]
        assert told["wal_bytes"] == wal.stat().st_size > 100_000
        assert 24 < told["wal_pages"] <= told["wal_bytes"] // 4120
        assert told["freelist_pages"] > 10
        assert told["journal_mode"] == "wal"
        assert ((place / "user.db").read_bytes(), wal.read_bytes()) == before


def test_tables_tell_rows_room_and_indexes(place, ask):
    items = ask("stats", "tables")["items"]
    told = {(one["target"], one["table"]): one for one in items}
    for (target, table), one in told.items():
        path = place / ("user.db" if target == "fp/user" else "flashpoint.sqlite")
        assert one["rows"] == rows(path, f'select count(*) from "{table}"')[0][0]
        assert one["bytes"] is None or (one["bytes"] > 0 and one["bytes"] % 4096 == 0)
    assert any(one["indexes"] for one in items)
    sorted_ = ask("stats", "tables", "--sort", "-rows")["items"]
    assert [one["rows"] for one in sorted_] == sorted((one["rows"] for one in items), reverse=True)


def test_one_user_is_counted_in_every_table_that_points_to_users(place, ask):
    (number,) = rows(place / "user.db", "select id from users where username = 'eve'")[0]
    execute(
        place / "user.db",
        f"""insert into user_game_plays (user_id, game_id, game_title, session_id) values ({number}, 'x', 'X', 's');
        insert into user_stats (user_id, total_sessions) values ({number}, 7)""",
    )
    told = ask("stats", "user", "EVE")
    assert (told["login"], told["statistics"]["total_sessions"]) == ("eve", 7)
    assert (told["rows"]["user_game_plays"], told["rows"]["user_settings"]) == (1, 0)
    assert ask("stats", "user", "nobody", status=5)["code"] == "user-missing"


def test_the_record_is_read_by_user_action_resource_and_time(place, ask):
    execute(
        place / "user.db",
        """insert into activity_logs (username, action, resource, created_at) values
        ('eve', 'login', null, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 minute')),
        ('EVE', 'games.play', 'games', datetime('now', '-3 days')),
        ('bob', 'games.view', 'games', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-4 days')),
        ('bob', 'login', null, datetime('now', '-400 days'))""",
    )

    def told(*words):
        return [(one["username"], one["action"]) for one in ask("stats", "activity", *words)["items"]]

    assert told() == [("eve", "login"), ("EVE", "games.play"), ("bob", "games.view"), ("bob", "login")]
    assert told("--user", "eve") == [("eve", "login"), ("EVE", "games.play")]
    assert told("--user", "B*") == [("bob", "games.view"), ("bob", "login")]
    assert told("--action", "games.*") == [("EVE", "games.play"), ("bob", "games.view")]
    assert told("--action", "login", "--since", "1w") == [("eve", "login")]
    assert told("--resource", "games", "--limit", "1", "--offset", "1") == [("bob", "games.view")]
    assert ask("stats", "activity", "--limit", "1")["total"] == 4


def test_what_dbctl_did_is_found_and_a_table_leaves_out_what_nothing_is_kept_of(place, ask, capsys):
    execute(place / "user.db", "delete from activity_logs")
    execute(
        place / "user.db",
        "insert into refresh_tokens (user_id, token, expires_at) values (2, 'x', '2020-01-01')",
    )
    assert ask("sessions", "cleanup", "--rule", "expired-tokens")["rules"][0]["changed"] == 1
    (entry,) = ask("stats", "activity", "--user", "dbctl*")["items"]
    assert (entry["action"], entry["user"]) == ("sessions.cleanup", None)
    assert main(["stats", "activity", "--user", "dbctl*"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["at", "username", "action"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a file")
@pytest.mark.parametrize(
    ("statements", "mode"),
    [
        (["begin immediate", "create table held (a)"], "write"),
        (["begin", "select * from game"], "read"),
        (["pragma schema_version"], "open"),
    ],
)
def test_who_holds_a_file_is_told_even_where_it_cannot_be_opened(place, ask, statements, mode):
    execute(place / "flashpoint.sqlite", "pragma journal_mode = delete")
    assert ask("stats", "locks")["items"] == []
    with holding(place / "flashpoint.sqlite", *statements) as process:
        (told,) = ask("stats", "locks")["items"]
    assert (told["target"], told["pid"], told["mode"]) == ("fp/flashpoint", process.pid, mode)
    assert told["command"].startswith("python")
    assert told["owner"] == subprocess.check_output(["id", "-un"], text=True).strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a file")
def test_who_has_a_wal_file_open_is_told_and_the_locks_of_this_process_stay(place, ask):
    with holding(place / "user.db", "select * from users") as process:
        assert [(one["pid"], one["mode"]) for one in ask("stats", "locks")["items"]] == [
            (process.pid, "read")
        ]


@pytest.mark.parametrize("words", [["overview"], ["tables"], ["locks"]])
def test_a_database_that_is_missing_is_a_failure(place, ask, words):
    (place / "flashpoint.sqlite").unlink()
    assert ask("stats", *words, "--db", "flashpoint", status=10)["code"] == "database-missing"
    assert ask("stats", *words, "--db", "user") is not None


@pytest.mark.parametrize("words", [["overview"], ["tables"], ["locks"]])
def test_the_figures_of_the_others_are_told_where_one_database_fails(place, ask, words, capsys):
    (place / "flashpoint.sqlite").unlink()
    with holding(place / "user.db", "begin immediate"):
        assert main(["stats", *words, "-o", "json"]) == 12
    told = json.loads(capsys.readouterr().out)
    assert {one["target"] for one in told["data"]["items"]} == {"fp/user"}
    assert "fp/flashpoint: there is no file" in told["warnings"][0]
    assert main(["stats", *words]) == 12
    assert "fp/flashpoint: there is no file" in capsys.readouterr().err
    (place / "user.db").unlink()
    assert ask("stats", *words, status=10)["code"] == "database-missing"


def test_a_database_that_is_locked_or_damaged_is_a_failure_and_no_fault(place, ask):
    execute(place / "flashpoint.sqlite", "pragma journal_mode = delete")
    only = ("--db", "flashpoint")
    with holding(place / "flashpoint.sqlite", "begin exclusive", "create table held (a)"):
        assert ask("stats", "overview", *only, "--timeout", "0", status=11)["code"] == "busy"
    (place / "flashpoint.sqlite").write_bytes(b"no database" * 1000)
    assert ask("stats", "tables", *only, status=4)["code"] == "not-a-database"
    os.truncate(place / "flashpoint.sqlite", 0)
    assert ask("stats", "run", "games-per-tag", status=2)["code"] == "wrong-app"


# Reports -----------------------------------------------------------------------------------------------------------


def test_every_report_is_listed_and_runs_on_this_schema(place, ask):
    listed = ask("stats", "reports")["items"]
    assert [one["name"] for one in listed] == REPORTS
    for one in listed:
        found = ask("stats", "run", one["name"])
        assert all(list(row) == one["columns"] for row in found["items"])
    assert ask("stats", "run", "nosuch", status=5)["code"] == "report-missing"
    assert ask("stats", "run", "most-played", "--set", "x=1", status=2)["code"] == "usage"


def test_games_are_counted_as_the_tables_have_them(place, ask):
    games = rows(place / "flashpoint.sqlite", "select count(*) from game")[0][0]
    assert sum(one["games"] for one in ask("stats", "run", "games-per-library")["items"]) == games
    tagged = rows(place / "flashpoint.sqlite", "select count(*) from game_tags_tag")[0][0]
    assert sum(one["games"] for one in ask("stats", "run", "games-per-tag")["items"]) == tagged > 0
    for name in ("games-per-platform", "games-per-category"):
        counts = [one["games"] for one in ask("stats", "run", name)["items"]]
        assert counts == sorted(counts, reverse=True) != []


def test_plays_are_ranked_and_paged(place, ask):
    (number,) = rows(place / "user.db", "select id from users where username = 'eve'")[0]
    execute(
        place / "user.db",
        f"""insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values ({number}, 'a', 'A', 2, 20), ({number}, 'b', 'B', 5, 50), ({number}, 'c', 'C', 1, 10);
        insert into user_game_plays (user_id, game_id, game_title, session_id) values ({number}, 'a', 'A', 's')""",
    )
    found = ask("stats", "run", "most-played", "--limit", "1", "--offset", "1")
    assert found["items"] == [{"game_id": "a", "title": "A", "plays": 2, "seconds": 20, "players": 1}]
    assert (found["total"], found["has_more"]) == (3, True)
    (play,) = ask("stats", "run", "recent-plays")["items"]
    assert (play["username"], play["game_id"], play["ended_at"]) == ("eve", "a", None)


def test_plays_are_reported_per_user_and_game(place, ask):
    (eve,) = rows(place / "user.db", "select id from users where username = 'eve'")[0]
    ana = add_user(place / "user.db", "ana")
    execute(
        place / "user.db",
        f"""insert into user_game_stats
            (user_id, game_id, game_title, total_plays, total_playtime_seconds, last_played_at)
        values ({eve}, 'a', 'A', 2, 20, '2026-03-01T10:00:00.000Z'), ({eve}, 'b', 'B', 5, 50, '2026-03-02 11:00:00'),
            ({ana}, 'a', 'A', 1, 7, null)""",
    )

    def told(*words):
        page = ask("stats", "run", "plays-per-user", *words)
        return [(row["username"], row["game_id"], row["plays"], row["seconds"]) for row in page["items"]]

    assert told() == [("ana", "a", 1, 7), ("eve", "b", 5, 50), ("eve", "a", 2, 20)]
    assert told("--set", "user=eve") == [("eve", "b", 5, 50), ("eve", "a", 2, 20)]
    assert told("--set", "user=ana", "--set", "game=a") == [("ana", "a", 1, 7)]
    last = [row["last_played_at"] for row in ask("stats", "run", "plays-per-user")["items"]]
    assert last == [None, "2026-03-02T11:00:00.000Z", "2026-03-01T10:00:00.000Z"]


def test_an_explained_report_tells_sql_plan_and_what_is_read_whole(place, ask, capsys):
    told = ask("stats", "run", "recent-plays", "--explain")
    assert told["sql"].startswith("select")
    assert told["parameters"] == {"limit": 50, "offset": 0}
    assert told["full_scans"] == ["user_game_plays"]
    assert main(["stats", "run", "recent-plays", "--explain"]) == 0
    assert "user_game_plays is read whole" in capsys.readouterr().err
