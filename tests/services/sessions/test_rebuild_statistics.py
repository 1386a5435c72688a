"""Statistics counted anew are what the sessions that have ended say, and nothing else is touched."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.config import Selection
from dbctl.errors import (
    AbilityMissingError,
    BusyError,
    ConstraintError,
    SchemaLacksError,
    UserMissingError,
)
from dbctl.model import Plan
from dbctl.services.app import app as apps
from dbctl.services.integrity import cross_database
from dbctl.services.sessions.rebuild_statistics import Rebuilding
from tests.services import flashpoint_app
from tests.services.flashpoint_app import caught, content, opened, rows, run
from tests.services.sessions.test_cleanup import RECOUNT, STATISTICS, play

ENDED = "'2024-01-01T10:01:40.000Z'"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    """Ann has played g1 twice and g2 once, and is at g3; root has played g1; statistics agree, with times of the app."""
    path = flashpoint_app.settle(tmp_path, request.param)
    run(path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats")
    for session, user, game, seconds in (
        ("a", 2, "g1", 60),
        ("b", 2, "g1", 30),
        ("c", 2, "g2", 5),
        ("d", 1, "g1", 7),
    ):
        play(
            path,
            session,
            f"2024-01-01 10:00:0{ord(session) - 97}",
            user=user,
            game=game,
            ended=ENDED,
            duration=seconds,
        )
    play(path, "open", "2024-02-01T10:00:00.000Z", game="g3")
    run(
        path,
        """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
        select user_id, game_id, 'As the app wrote it', count(*), sum(duration_seconds), 'first', 'last'
        from user_game_plays where ended_at is not null group by user_id, game_id""",
        """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at, updated_at)
        select user_id, count(distinct game_id), sum(duration_seconds), count(*), 'first', 'last', 'then'
        from user_game_plays where ended_at is not null group by user_id""",
    )
    return path


def plan(path, **asked) -> Plan:
    with opened(path) as app:
        return Rebuilding(app, **asked).plan()


def rebuilt(path, *, timeout=5.0, **asked):
    with apps.opened(Selection(config=str(path.with_name("dbctl.toml"))), timeout=timeout) as app:
        return {
            one.table: (one.added, one.corrected, one.lowered)
            for one in Rebuilding(app, **asked).apply().tables
        }


def disagreeing(path):
    with opened(path) as app:
        return [one.message for one in cross_database.cross(app).findings.findings if one.code == "recount"]


def recounts(path):
    return [sorted(rows(path, STATISTICS[word])) == sorted(rows(path, RECOUNT[word])) for word in STATISTICS]


def test_what_agrees_is_not_touched_and_not_recorded(path):
    before = content(path)
    assert plan(path).steps == []
    assert rebuilt(path) == {"user_game_stats": (0, 0, 0), "user_stats": (0, 0, 0)}
    assert content(path) == before


DRIFT = [
    ("update user_game_stats set total_plays = 1 where game_id = 'g1' and user_id = 2", {"user_game_stats": (0, 1, 0)}),
    ("update user_game_stats set total_playtime_seconds = null", {"user_game_stats": (0, 3, 0)}),
    ("update user_game_stats set total_plays = 99, total_playtime_seconds = 0", {"user_game_stats": (0, 0, 3)}),
    ("delete from user_game_stats where user_id = 2", {"user_game_stats": (2, 0, 0)}),
    ("update user_stats set total_sessions = 0", {"user_stats": (0, 2, 0)}),
    ("update user_stats set total_games_played = 9 where user_id = 1", {"user_stats": (0, 0, 1)}),
    ("delete from user_stats", {"user_stats": (2, 0, 0)}),
    ("delete from user_game_plays where user_id = 1", {"user_game_stats": (0, 0, 1), "user_stats": (0, 0, 1)}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), DRIFT)
def test_drift_is_planned_corrected_and_gone_and_a_second_run_changes_nothing(path, change, expected):
    run(path, change)
    assert disagreeing(path)
    told = plan(path)
    assert told.rows == {table: sum(numbers) for table, numbers in expected.items()}
    assert told.destructive == any(numbers[2] for numbers in expected.values())
    none = {"user_game_stats": (0, 0, 0), "user_stats": (0, 0, 0)}
    assert rebuilt(path) == none | expected
    assert disagreeing(path) == []
    after = content(path)
    assert rebuilt(path) == none
    assert content(path) == after


def test_times_and_titles_that_the_app_wrote_stay_and_a_missing_row_gets_them_from_its_sessions(path):
    run(
        path,
        "update user_game_stats set total_plays = 7 where game_id = 'g1'",
        "delete from user_game_stats where game_id = 'g2'",
    )
    run(
        path,
        "update user_stats set total_sessions = 7 where user_id = 2",
        "delete from user_stats where user_id = 1",
    )
    rebuilt(path)
    kept = "select user_id, game_id, game_title, first_played_at, last_played_at from user_game_stats order by 1, 2"
    assert rows(path, kept) == [
        (1, "g1", "As the app wrote it", "first", "last"),
        (2, "g1", "As the app wrote it", "first", "last"),
        (2, "g2", "Title of g2", "2024-01-01 10:00:02", ENDED.strip("'")),
    ]
    found = rows(
        path, "select user_id, first_play_at, last_play_at, updated_at like '20%Z' from user_stats order by 1"
    )
    assert found == [(1, "2024-01-01 10:00:03", ENDED.strip("'"), 1), (2, "first", "last", 1)]


def test_only_rows_that_were_corrected_get_the_moment_of_the_correction(path):
    run(path, "update user_stats set total_sessions = 1 where user_id = 2")
    rebuilt(path)
    assert rows(path, "select user_id, updated_at = 'then' from user_stats order by 1") == [(1, 1), (2, 0)]


def test_a_row_without_any_session_left_is_kept_with_nothing_in_its_figures(path):
    run(path, "delete from user_game_plays where game_id = 'g2'")
    told = plan(path)
    assert (told.destructive, told.steps[0]) == (
        True,
        "lower 1 row of user_game_stats, where less is there to count than is kept",
    )
    rebuilt(path)
    row = "select total_plays, total_playtime_seconds, game_title, first_played_at from user_game_stats where game_id = 'g2'"
    assert rows(path, row) == [(0, 0, "As the app wrote it", "first")]
    # as the app itself counts it when a session ends: the rows there are
    assert rows(path, "select total_games_played, total_sessions from user_stats where user_id = 2") == [
        (2, 2)
    ]
    assert disagreeing(path) == []


def test_one_user_alone(path):
    run(path, "update user_game_stats set total_plays = 0", "update user_stats set total_sessions = 0")
    assert plan(path, login="ANN").title == "Count the statistics of ann anew"
    assert rebuilt(path, login="ANN") == {"user_game_stats": (0, 2, 0), "user_stats": (0, 1, 0)}
    assert rows(path, "select user_id from user_game_stats where total_plays = 0") == [(1,)]
    assert rows(path, "select user_id from user_stats where total_sessions = 0") == [(1,)]
    caught(UserMissingError, lambda: rebuilt(path, login="nobody"))


def test_it_stands_in_the_apps_own_record_once_and_only_where_something_changed(path):
    run(path, "update user_stats set total_sessions = 0")
    rebuilt(path)
    rebuilt(path)
    query = "select action, resource, resource_id, details, username like 'dbctl (%' from activity_logs where action like 'sessions%'"
    ((action, resource, key, details, who),) = rows(path, query)
    assert (action, resource, key, who) == ("sessions.rebuild-stats", "statistics", "all", 1)
    assert json.loads(details) == {"rows": {"user_stats": 2}, "by": "dbctl"}


@pytest.mark.parametrize("body", ["raise(abort, 'not now')", "raise(ignore)"])
def test_what_the_database_refuses_or_swallows_in_the_second_table_leaves_the_first_as_it_was(path, body):
    run(path, "update user_stats set total_sessions = 0", "update user_game_stats set total_plays = 0")
    run(path, f"create trigger t before update on user_stats begin select {body}; end")
    before = content(path)
    caught(ConstraintError, lambda: rebuilt(path))
    assert content(path) == before


def test_sessions_and_figures_of_users_that_are_gone_do_not_stop_it(path):
    with closing(sqlite3.connect(path)) as db, db:  # without foreign keys, as tools at hand are
        db.execute("update user_game_plays set user_id = 77 where session_id = 'a'")
        db.execute("insert into user_stats (user_id, total_sessions) values (78, 3)")
    rebuilt(path)
    assert rows(path, "select user_id, total_sessions from user_stats order by 1") == [
        (1, 1),
        (2, 2),
        (78, 0),
    ]
    assert disagreeing(path) == []


def test_where_nothing_is_to_be_done_nobody_who_writes_is_waited_for(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin immediate")
        db.execute("update users set email = 'x@example.org' where id = 1")
        if rows(path, "pragma journal_mode") == [("wal",)]:
            assert rebuilt(path)["user_stats"] == (0, 0, 0)
        db.execute("rollback")
        run(path, "update user_stats set total_sessions = 0")
        db.execute("begin immediate")
        caught(BusyError, lambda: rebuilt(path, timeout=0.1))
        db.execute("rollback")


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 9) | st.none(), st.booleans()),
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 9) | st.none()), max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9) | st.none()), max_size=3),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_kept_afterwards_every_figure_is_what_a_recount_gives(path, plays, games, users):
    run(path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats")
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            "insert into user_game_plays (user_id, game_id, duration_seconds, ended_at, session_id) values (?, ?, ?, case when ? then 'x' end, hex(randomblob(8)))",
            plays,
        )
        db.executemany(
            "insert or replace into user_game_stats (user_id, game_id, total_plays) values (?, ?, ?)", games
        )
        db.executemany("insert or replace into user_stats (user_id, total_sessions) values (?, ?)", users)
    planned = sum(plan(path).rows.values())
    assert sum(sum(numbers) for numbers in rebuilt(path).values()) == planned
    assert disagreeing(path) == []
    wanted = {(user, game): [0, 0] for user, game, _ in games}
    for user, game, seconds, ended in plays:
        if ended:
            row = wanted.setdefault((user, game), [0, 0])
            row[0], row[1] = row[0] + 1, row[1] + (seconds or 0)
    found = rows(
        path,
        "select user_id, game_id, coalesce(total_plays, 0), coalesce(total_playtime_seconds, 0) from user_game_stats",
    )
    assert {(user, game): [*told] for user, game, *told in found} == wanted


def test_a_profile_without_statistics_and_a_database_without_their_tables_are_refused(tmp_path, path):
    with opened(path) as app:
        assert "statistics" in app.profile.abilities()
    bare = flashpoint_app.LARDER
    profile = tmp_path / "bare.toml"
    profile.write_text(bare, encoding="utf-8")
    with (
        apps.opened(Selection(profile=str(profile), urls=[f"main={path}"]), timeout=1) as app,
        pytest.raises(AbilityMissingError, match="no statistics"),
    ):
        Rebuilding(app)
    run(path, "drop table user_stats", "drop table user_game_stats")
    assert "table user_game_stats" in str(caught(SchemaLacksError, lambda: plan(path)))


def test_a_column_that_is_not_there_is_refused_and_never_read_as_a_text(path):
    run(path, "alter table user_stats rename column total_sessions to sessions")
    assert "user_stats.total_sessions" in str(caught(SchemaLacksError, lambda: rebuilt(path)))
    with opened(path) as app:
        found = cross_database.cross(app)
    assert ("schema-lacks", 2) in [(one.code, found.status) for one in found.findings.findings]
