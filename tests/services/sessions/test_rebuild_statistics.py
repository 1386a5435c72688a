"""Rebuilt statistics equal a recount of ended sessions; other rows are unchanged."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.config.sections import Selection
from dbctl.errors.connection import BusyError, ConstraintError
from dbctl.errors.usage import FeatureMissingError, SchemaMismatchError, UserMissingError
from dbctl.model import Plan
from dbctl.services.checks.run import cross_check
from dbctl.services.sessions.rebuild_statistics import RebuildStatistics
from tests.services import flashpoint_app
from tests.services.flashpoint_app import catch_error, open_app, query_rows, read_all_rows, run_statements
from tests.services.sessions.test_cleanup import add_play

ENDED = "'2024-01-01T10:01:40.000Z'"


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    """Ann has played g1 twice and g2 once, and is playing g3; root has played g1. Statistics are correct."""
    path = flashpoint_app.create_app(tmp_path, request.param)
    run_statements(
        path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats"
    )
    for session, user, game, seconds in (
        ("a", 2, "g1", 60),
        ("b", 2, "g1", 30),
        ("c", 2, "g2", 5),
        ("d", 1, "g1", 7),
    ):
        add_play(
            path,
            session,
            f"2024-01-01 10:00:0{ord(session) - 97}",
            user=user,
            game=game,
            ended=ENDED,
            duration=seconds,
        )
    add_play(path, "open", "2024-02-01T10:00:00.000Z", game="g3")
    run_statements(
        path,
        """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
        select user_id, game_id, 'As the app wrote it', count(*), sum(duration_seconds), 'first', 'last'
        from user_game_plays where ended_at is not null group by user_id, game_id""",
        """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at, updated_at)
        select user_id, count(distinct game_id), sum(duration_seconds), count(*), 'first', 'last', 'then'
        from user_game_plays where ended_at is not null group by user_id""",
    )
    return path


def plan(path, **options) -> Plan:
    with open_app(path) as app:
        return RebuildStatistics(app, **options).plan()


def rebuild(path, *, timeout=5.0, **options):
    from dbctl.services.app.session import open_app as open_selected

    with open_selected(Selection(config=str(path.with_name("dbctl.toml"))), timeout=timeout) as app:
        return {
            table.table: (table.added, table.corrected, table.lowered)
            for table in RebuildStatistics(app, **options).apply().tables
        }


def find_differences(path):
    with open_app(path) as app:
        return [
            finding.message for finding in cross_check(app).findings.findings if finding.code == "recount"
        ]


def test_correct_statistics_are_not_changed_and_not_audited(path):
    before = read_all_rows(path)
    assert plan(path).steps == []
    assert rebuild(path) == {"user_game_stats": (0, 0, 0), "user_stats": (0, 0, 0)}
    assert read_all_rows(path) == before


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
def test_rebuild_corrects_differences_and_a_second_run_changes_nothing(path, change, expected):
    run_statements(path, change)
    assert find_differences(path)
    planned = plan(path)
    assert planned.rows == {table: sum(numbers) for table, numbers in expected.items()}
    assert planned.destructive == any(numbers[2] for numbers in expected.values())
    none = {"user_game_stats": (0, 0, 0), "user_stats": (0, 0, 0)}
    assert rebuild(path) == none | expected
    assert find_differences(path) == []
    after = read_all_rows(path)
    assert rebuild(path) == none
    assert read_all_rows(path) == after


def test_stored_times_and_titles_are_not_changed(path):
    run_statements(
        path,
        "update user_game_stats set total_plays = 7 where game_id = 'g1'",
        "delete from user_game_stats where game_id = 'g2'",
    )
    run_statements(
        path,
        "update user_stats set total_sessions = 7 where user_id = 2",
        "delete from user_stats where user_id = 1",
    )
    rebuild(path)
    query = "select user_id, game_id, game_title, first_played_at, last_played_at from user_game_stats order by 1, 2"
    assert query_rows(path, query) == [
        (1, "g1", "As the app wrote it", "first", "last"),
        (2, "g1", "As the app wrote it", "first", "last"),
        (2, "g2", "Title of g2", "2024-01-01 10:00:02", ENDED.strip("'")),
    ]
    added = query_rows(
        path, "select user_id, first_play_at, last_play_at, updated_at like '20%Z' from user_stats order by 1"
    )
    assert added == [(1, "2024-01-01 10:00:03", ENDED.strip("'"), 1), (2, "first", "last", 1)]


def test_only_corrected_rows_get_a_new_timestamp(path):
    run_statements(path, "update user_stats set total_sessions = 1 where user_id = 2")
    rebuild(path)
    assert query_rows(path, "select user_id, updated_at = 'then' from user_stats order by 1") == [
        (1, 1),
        (2, 0),
    ]


def test_row_without_sessions_gets_zero_counts(path):
    run_statements(path, "delete from user_game_plays where game_id = 'g2'")
    planned = plan(path)
    assert planned.destructive
    assert planned.steps[0].startswith("lower 1 row of user_game_stats")
    rebuild(path)
    row = "select total_plays, total_playtime_seconds, game_title, first_played_at from user_game_stats where game_id = 'g2'"
    assert query_rows(path, row) == [(0, 0, "As the app wrote it", "first")]
    # the app counts the rows at the end of a session in the same way
    assert query_rows(
        path, "select total_games_played, total_sessions from user_stats where user_id = 2"
    ) == [(2, 2)]
    assert find_differences(path) == []


def test_rebuild_is_limited_to_one_user(path):
    run_statements(
        path, "update user_game_stats set total_plays = 0", "update user_stats set total_sessions = 0"
    )
    assert "ann" in plan(path, login="ANN").title
    assert rebuild(path, login="ANN") == {"user_game_stats": (0, 2, 0), "user_stats": (0, 1, 0)}
    assert query_rows(path, "select user_id from user_game_stats where total_plays = 0") == [(1,)]
    assert query_rows(path, "select user_id from user_stats where total_sessions = 0") == [(1,)]
    catch_error(UserMissingError, lambda: rebuild(path, login="nobody"))


def test_rebuild_writes_one_audit_entry_if_something_changed(path):
    run_statements(path, "update user_stats set total_sessions = 0")
    rebuild(path)
    rebuild(path)
    query = "select action, resource, resource_id, details, username like 'dbctl (%' from activity_logs where action like 'sessions%'"
    ((action, resource, key, details, username),) = query_rows(path, query)
    assert (action, resource, key, username) == ("sessions.rebuild-stats", "statistics", "all", 1)
    assert json.loads(details) == {"rows": {"user_stats": 2}, "by": "dbctl"}


@pytest.mark.parametrize("body", ["raise(abort, 'not now')", "raise(ignore)"])
def test_failure_in_the_second_table_rolls_back_the_first(path, body):
    run_statements(
        path, "update user_stats set total_sessions = 0", "update user_game_stats set total_plays = 0"
    )
    run_statements(path, f"create trigger t before update on user_stats begin select {body}; end")
    before = read_all_rows(path)
    catch_error(ConstraintError, lambda: rebuild(path))
    assert read_all_rows(path) == before


def test_rows_of_deleted_users_do_not_prevent_the_rebuild(path):
    with closing(sqlite3.connect(path)) as db, db:  # without foreign keys, as in other tools
        db.execute("update user_game_plays set user_id = 77 where session_id = 'a'")
        db.execute("insert into user_stats (user_id, total_sessions) values (78, 3)")
    rebuild(path)
    assert query_rows(path, "select user_id, total_sessions from user_stats order by 1") == [
        (1, 1),
        (2, 2),
        (78, 0),
    ]
    assert find_differences(path) == []


def test_rebuild_without_differences_takes_no_lock(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin immediate")
        db.execute("update users set email = 'x@example.org' where id = 1")
        if query_rows(path, "pragma journal_mode") == [("wal",)]:
            assert rebuild(path)["user_stats"] == (0, 0, 0)
        db.execute("rollback")
        run_statements(path, "update user_stats set total_sessions = 0")
        db.execute("begin immediate")
        catch_error(BusyError, lambda: rebuild(path, timeout=0.1))
        db.execute("rollback")


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 9) | st.none(), st.booleans()),
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 9) | st.none()), max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9) | st.none()), max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rebuilt_statistics_equal_a_recount(path, plays, games, users):
    run_statements(
        path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats"
    )
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
    assert sum(sum(numbers) for numbers in rebuild(path).values()) == planned
    assert find_differences(path) == []
    expected = {(user, game): [0, 0] for user, game, _ in games}
    for user, game, seconds, ended in plays:
        if ended:
            row = expected.setdefault((user, game), [0, 0])
            row[0], row[1] = row[0] + 1, row[1] + (seconds or 0)
    stored = query_rows(
        path,
        "select user_id, game_id, coalesce(total_plays, 0), coalesce(total_playtime_seconds, 0) from user_game_stats",
    )
    assert {(user, game): [*counts] for user, game, *counts in stored} == expected


def test_missing_statistics_are_refused(tmp_path, path):
    from dbctl.services.app.session import open_app as open_selected

    with open_app(path) as app:
        assert "statistics" in app.profile.list_features()
    profile_text = flashpoint_app.LARDER
    profile = tmp_path / "bare.toml"
    profile.write_text(profile_text, encoding="utf-8")
    with (
        open_selected(Selection(profile=str(profile), urls=[f"main={path}"]), timeout=1) as app,
        pytest.raises(FeatureMissingError, match="no statistics"),
    ):
        RebuildStatistics(app)
    run_statements(path, "drop table user_stats", "drop table user_game_stats")
    assert "table user_game_stats" in str(catch_error(SchemaMismatchError, lambda: plan(path)))


def test_missing_column_is_refused_and_not_read_as_a_string_literal(path):
    run_statements(path, "alter table user_stats rename column total_sessions to sessions")
    assert "user_stats.total_sessions" in str(catch_error(SchemaMismatchError, lambda: rebuild(path)))
    with open_app(path) as app:
        report = cross_check(app)
    assert ("schema-mismatch", 2) in [(finding.code, report.status) for finding in report.findings.findings]
