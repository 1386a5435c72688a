"""``sessions cleanup`` and the job of the app write the same plays, times and statistics."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl import model
from dbctl.services.sessions import cleanup_rule
from dbctl.services.sessions import cleanup_rule as batching
from dbctl.services.sessions.cleanup import CleanUp
from tests.services import flashpoint_app
from tests.services.flashpoint_app import open_app, query_rows, read_all_rows, run_statements
from tests.services.sessions.test_cleanup import statistics_are_correct

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)

# The job that the app runs at its start and every six hours: it closes each play and updates the statistics. It compares
# whole seconds, because datetime() returns no fractions, and writes the time of the job into the statistics.
ABANDONED = """select id, user_id, game_id, game_title from user_game_plays
where ended_at is null and datetime(started_at) < datetime(:now, '-24 hours') order by id"""
CLOSE = """update user_game_plays
set duration_seconds = min(cast((julianday(:now) - julianday(started_at)) * 86400 as integer), 14400),
    ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', started_at, '+4 hours')
where id = :id returning duration_seconds"""
COUNT_GAME = """insert into user_game_stats
    (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
values (:user, :game, :title, 1, :lasted, :now, :now)
on conflict (user_id, game_id) do update set
    total_plays = total_plays + 1, total_playtime_seconds = total_playtime_seconds + :lasted, last_played_at = :now"""
COUNT_USER = """insert into user_stats
    (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at, updated_at)
values (:user, (select count(distinct game_id) from user_game_stats where user_id = :user), :lasted,
    (select count(*) from user_game_plays where user_id = :user and ended_at is not null), :now, :now, :now)
on conflict (user_id) do update set
    total_games_played = excluded.total_games_played, total_sessions = excluded.total_sessions,
    total_playtime_seconds = total_playtime_seconds + :lasted, last_play_at = :now, updated_at = :now"""

JOB_STATEMENTS = {
    "plays": "select * from user_game_plays order by id",
    "game": """select user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at
        from user_game_stats order by 1, 2""",
    "user": """select user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at,
        updated_at from user_stats order by 1""",
}


def run_app_job(path, timestamp):
    with closing(sqlite3.connect(path)) as app, app:
        now = format_time(timestamp)
        for key, user, game, title in app.execute(ABANDONED, {"now": now}).fetchall():
            ((lasted,),) = app.execute(CLOSE, {"now": now, "id": key}).fetchall()
            parameters = {"now": now, "user": user, "game": game, "title": title, "lasted": lasted}
            app.execute(COUNT_GAME, parameters)
            app.execute(COUNT_USER, parameters)


def format_time(timestamp, form="%Y-%m-%dT%H:%M:%S.{:03d}Z"):
    return timestamp.strftime(form).format(timestamp.microsecond // 1000)


@contextmanager
def set_clock(timestamp, *, batch=0):
    """Set the clock of dbctl and, if ``batch`` is not 0, the number of rows per transaction."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (model, cleanup_rule):
            patch.setattr(module, "now", lambda: timestamp)
        if batch:
            for name, value in (
                ("INITIAL_SIZE", batch),
                ("MIN_SIZE", batch),
                ("MAX_SIZE", batch),
                ("MIN_PAUSE_SECONDS", 0),
            ):
                patch.setattr(batching, name, value)
        yield


def clean(path, *names, trust_clock=False, **options):
    with open_app(path) as app:
        app.trust_clock = trust_clock
        return {result.rule: result for result in CleanUp(app, names, **options).apply().rules}


@contextmanager
def create_databases(shape, plays, *statements):
    """Create two equal databases, for dbctl and for the app."""
    with TemporaryDirectory() as folder:
        paths = [flashpoint_app.create_app(Path(folder) / name, shape) for name in ("dbctl", "app")]
        for path in paths:
            run_statements(
                path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats"
            )
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.executemany(
                    "insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)"
                    " values (?, ?, 'Title of ' || ?2, ?, ?, ?, ?)",
                    [(*play, f"session {number}") for number, play in enumerate(plays)],
                )
            run_statements(path, *statements)
        yield paths


def read_job_rows(path):
    return {name: query_rows(path, sql) for name, sql in JOB_STATEMENTS.items()}


# Any plays ----------------------------------------------------------------------------------------------------------

#: Time formats of the app, of SQLite and of other programs; the app and dbctl read all of them.
TIME_FORMATS = (
    "%Y-%m-%dT%H:%M:%S.{:03d}Z",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S.{:03d}",
    "%Y-%m-%dT%H:%M:%S.{:03d}000+00:00",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
NEAR_LIMIT = st.integers(-3000, 3000).map(lambda number: timedelta(hours=24, milliseconds=number))
ANY_AGE = st.timedeltas(timedelta(days=-4000), timedelta(days=9000)).map(
    lambda age: age - timedelta(microseconds=age.microseconds % 1000)
)
AGES = st.one_of(NEAR_LIMIT, st.sampled_from([timedelta(), timedelta(hours=24)]), ANY_AGE)
VALID_TIMES = st.builds(lambda age, form: format_time(NOW - age, form), AGES, st.sampled_from(TIME_FORMATS))
INVALID_TIMES = st.one_of(
    st.sampled_from(
        ["", " ", "null", "yesterday", "2026-02-30T", "2025-13-01 10:00:00", "2025-01-01T25:00:00Z"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["N"]), max_size=20),
).filter(lambda text: text.strip().lower() != "now")
ENDED = st.sampled_from(
    [(None, None), (None, None), ("2026-01-01T00:00:00.000Z", 77), ("2026-01-01 00:00:00", 0)]
)
PLAYS = st.lists(
    st.builds(
        lambda user, game, began, ended: (user, game, began, *ended),
        st.integers(1, 3),
        st.sampled_from(["g1", "g2", "g3"]),
        st.one_of(VALID_TIMES, VALID_TIMES, INVALID_TIMES),
        ENDED,
    ),
    max_size=25,
)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
@given(plays=PLAYS, batch=st.integers(1, 6))
def test_cleanup_leaves_the_same_rows_as_the_app(shape, at_once, plays, batch):
    with create_databases(shape, plays) as (dbctl_path, app_path), set_clock(NOW, batch=batch):
        before = query_rows(dbctl_path, "select id from user_game_plays where ended_at is null")
        result = clean(dbctl_path, "abandoned-plays", at_once=at_once, trust_clock=True)["abandoned-plays"]
        run_app_job(app_path, NOW)
        assert read_job_rows(dbctl_path) == read_job_rows(app_path)
        remaining = query_rows(dbctl_path, "select id from user_game_plays where ended_at is null")
        assert result.matched == result.changed == len(before) - len(remaining)


# Statistics ---------------------------------------------------------------------------------------------------------

OLD_PLAYS = [
    (
        1 + number % 3,
        f"g{number % 5}",
        format_time(NOW - timedelta(hours=20 + number), TIME_FORMATS[number % 4]),
        None,
        None,
    )
    for number in range(60)
]


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_correct_statistics_stay_correct(shape, batch):
    with create_databases(shape, OLD_PLAYS) as (dbctl_path, app_path), set_clock(NOW, batch=batch):
        assert clean(dbctl_path, "abandoned-plays")["abandoned-plays"].batches == -(-55 // batch)
        run_app_job(app_path, NOW)
        assert statistics_are_correct(dbctl_path)
        assert statistics_are_correct(app_path)
        assert read_job_rows(dbctl_path) == read_job_rows(app_path)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_counted_statistics_are_corrected_and_summed_statistics_are_not(shape, batch):
    invalid = [
        """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at)
        values (1, 99, 5, 1000, '2020-01-01T00:00:00.000Z', null), (2, null, null, null, null, null)""",
        """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values (1, 'g0', 'Old title', 40, 4), (1, 'other', null, 1, 1)""",
    ]
    # in the app NULL plus a number is NULL; dbctl treats NULL as 0
    set_zero = "update user_stats set total_playtime_seconds = 0 where total_playtime_seconds is null"
    with (
        create_databases(shape, OLD_PLAYS, *invalid, set_zero) as (dbctl_path, app_path),
        set_clock(NOW, batch=batch),
    ):
        clean(dbctl_path, "abandoned-plays")
        run_app_job(app_path, NOW)
        assert read_job_rows(dbctl_path) == read_job_rows(app_path)
        sessions = dict(query_rows(dbctl_path, "select user_id, total_sessions from user_stats"))
        assert sessions == dict(
            query_rows(dbctl_path, "select user_id, count(ended_at) from user_game_plays group by 1")
        )


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_second_run_changes_no_row(shape):
    with create_databases(shape, OLD_PLAYS) as (dbctl_path, _), set_clock(NOW, batch=9):
        clean(dbctl_path)
        before = read_all_rows(dbctl_path)
        assert {result.changed for result in clean(dbctl_path).values()} == {0}
        assert read_all_rows(dbctl_path) == before


@pytest.mark.parametrize("counts_before", [0, 6, 1000])
def test_row_updated_by_the_app_is_not_corrected_twice(counts_before):
    """Six plays have ended; the app ends the seventh between the count of dbctl and its transaction."""
    started_at, ended = format_time(NOW - timedelta(hours=3)), ("2026-02-01T00:00:00.000Z", 60)
    plays = [(1, "g1", started_at, *ended)] * 6 + [(1, "g1", started_at, None, None)] + OLD_PLAYS
    invalid = f"insert into user_stats (user_id, total_sessions, total_playtime_seconds) values (1, {counts_before}, 0)"

    def end_play_like_the_app(path):
        parameters = {"now": format_time(NOW), "user": 1, "game": "g1", "title": "T", "lasted": 60}
        with closing(sqlite3.connect(path)) as app, app:
            app.execute(
                "update user_game_plays set ended_at = ?, duration_seconds = 60 where id = 7",
                [parameters["now"]],
            )
            app.execute(COUNT_GAME, parameters)
            app.execute(COUNT_USER, parameters)

    with (
        create_databases("deployed", plays, invalid) as (dbctl_path, _),
        set_clock(NOW, batch=50),
        pytest.MonkeyPatch.context() as patch,
    ):
        find_corrections = cleanup_rule.RuleRun._find_corrections

        def end_play_after_recount(run, rows):
            corrections = find_corrections(run, rows)
            if not run.changed:
                end_play_like_the_app(dbctl_path)
            return corrections

        patch.setattr(cleanup_rule.RuleRun, "_find_corrections", end_play_after_recount)
        clean(dbctl_path, "abandoned-plays")
        query = "select total_sessions, (select count(ended_at) from user_game_plays where user_id = 1) from user_stats where user_id = 1"
        ((sessions, ended_plays),) = query_rows(dbctl_path, query)
        assert sessions == ended_plays


# Times that only SQLite accepts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("started_at", ["2004", "10:00", "2460000.5", "-0500-01-01 00:00:00"])
def test_play_with_a_time_that_only_sqlite_accepts_is_not_closed(started_at):
    """SQLite reads a number as a Julian day and a time without a date as a time of 2000-01-01; no app writes them."""
    with (
        create_databases("deployed", [(1, "g1", started_at, None, None)]) as (dbctl_path, app_path),
        set_clock(NOW),
    ):
        assert clean(dbctl_path, "abandoned-plays")["abandoned-plays"].matched == 0
        run_app_job(app_path, NOW)
        assert query_rows(app_path, "select count(ended_at) from user_game_plays") == [(1,)]


# Wrong clock --------------------------------------------------------------------------------------------------------

OPEN_PLAYS = [
    (1, "g1", format_time(NOW - timedelta(days=days), form), None, None)
    for days in (-400, -1, 0, 2, 400)
    for form in TIME_FORMATS
]


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_no_row_is_due_if_the_clock_is_set_back(shape):
    with create_databases(shape, OPEN_PLAYS) as (dbctl_path, _), set_clock(NOW - timedelta(days=3650)):
        run_statements(dbctl_path, "update refresh_tokens set revoked_at = null")
        before = read_all_rows(dbctl_path)
        assert {result.matched for result in clean(dbctl_path).values()} == {0}
        assert read_all_rows(dbctl_path) == before


@pytest.mark.parametrize("ahead", [timedelta(days=300), timedelta(days=3650)])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_cleanup_with_a_clock_ahead_closes_the_same_plays_as_the_app(shape, ahead):
    with create_databases(shape, OPEN_PLAYS) as (dbctl_path, app_path), set_clock(NOW + ahead):
        clean(dbctl_path, "abandoned-plays", trust_clock=True)
        run_app_job(app_path, NOW + ahead)
        assert read_job_rows(dbctl_path) == read_job_rows(app_path)
        lasted = "julianday(ended_at) - julianday(started_at)"
        closed = (
            f"select min(duration_seconds), min({lasted}) > 0 from user_game_plays where ended_at is not null"
        )
        assert query_rows(dbctl_path, closed) == [(14400, 1)]
        assert statistics_are_correct(dbctl_path)
