"""``sessions cleanup`` compared with the job of the app: the same plays, times and statistics."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl import model
from dbctl.services.sessions import batching, cleanup_rule
from dbctl.services.sessions.cleanup import CleanUp
from tests.services import flashpoint_app
from tests.services.flashpoint_app import open_app, query_rows, read_all_rows, run_statements
from tests.services.sessions.test_cleanup import agrees

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)

# What the app does at its start and every six hours: each play by itself, with its statistics. It compares whole
# seconds, since datetime() gives no others, and its own "now" is what it writes into the statistics.
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


def app_job(path, timestamp):
    with closing(sqlite3.connect(path)) as app, app:
        now = written(timestamp)
        for key, user, game, title in app.execute(ABANDONED, {"now": now}).fetchall():
            ((lasted,),) = app.execute(CLOSE, {"now": now, "id": key}).fetchall()
            parameters = {"now": now, "user": user, "game": game, "title": title, "lasted": lasted}
            app.execute(COUNT_GAME, parameters)
            app.execute(COUNT_USER, parameters)


def written(timestamp, form="%Y-%m-%dT%H:%M:%S.{:03d}Z"):
    return timestamp.strftime(form).format(timestamp.microsecond // 1000)


@contextmanager
def at(timestamp, *, batch=0):
    """Set the clock of dbctl, and with ``batch`` the maximum rows per transaction."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (model, cleanup_rule):
            patch.setattr(module, "now", lambda: timestamp)
        if batch:
            for name, value in (
                ("INITIAL_SIZE", batch),
                ("MIN_SIZE", 1),
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
def twins(shape, plays, *statements):
    """Give two equal databases: one for dbctl, one for the app."""
    with TemporaryDirectory() as folder:
        both = [flashpoint_app.create_app(Path(folder) / name, shape) for name in ("dbctl", "app")]
        for path in both:
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
        yield both


def everything(path):
    return {name: query_rows(path, sql) for name, sql in JOB_STATEMENTS.items()}


# Any plays ----------------------------------------------------------------------------------------------------------

#: As the app writes times, as SQLite and other programs do; all of them are read by both.
WRITTEN = (
    "%Y-%m-%dT%H:%M:%S.{:03d}Z",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S.{:03d}",
    "%Y-%m-%dT%H:%M:%S.{:03d}000+00:00",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
NEAR = st.integers(-3000, 3000).map(lambda number: timedelta(hours=24, milliseconds=number))
ANY_AGE = st.timedeltas(timedelta(days=-4000), timedelta(days=9000)).map(
    lambda age: age - timedelta(microseconds=age.microseconds % 1000)
)
AGES = st.one_of(NEAR, st.sampled_from([timedelta(), timedelta(hours=24)]), ANY_AGE)
TIMES = st.builds(lambda age, form: written(NOW - age, form), AGES, st.sampled_from(WRITTEN))
NO_TIMES = st.one_of(
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
        st.one_of(TIMES, TIMES, NO_TIMES),
        ENDED,
    ),
    max_size=25,
)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
@given(plays=PLAYS, batch=st.integers(1, 6))
@settings(max_examples=40)
def test_cleanup_leaves_the_same_rows_as_the_app(shape, at_once, plays, batch):
    with twins(shape, plays) as (ours, theirs), at(NOW, batch=batch):
        before = query_rows(ours, "select id from user_game_plays where ended_at is null")
        done = clean(ours, "abandoned-plays", at_once=at_once, trust_clock=True)["abandoned-plays"]
        app_job(theirs, NOW)
        assert everything(ours) == everything(theirs)
        left = query_rows(ours, "select id from user_game_plays where ended_at is null")
        assert done.matched == done.changed == len(before) - len(left)


# Statistics ---------------------------------------------------------------------------------------------------------

OLD_PLAYS = [
    (
        1 + number % 3,
        f"g{number % 5}",
        written(NOW - timedelta(hours=20 + number), WRITTEN[number % 4]),
        None,
        None,
    )
    for number in range(60)
]


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_correct_statistics_stay_correct(shape, batch):
    with twins(shape, OLD_PLAYS) as (ours, theirs), at(NOW, batch=batch):
        assert clean(ours, "abandoned-plays")["abandoned-plays"].batches == -(-55 // batch)
        app_job(theirs, NOW)
        assert agrees(ours)
        assert agrees(theirs)
        assert everything(ours) == everything(theirs)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_recounted_statistics_are_corrected_and_added_ones_stay(shape, batch):
    wrong = [
        """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at)
        values (1, 99, 5, 1000, '2020-01-01T00:00:00.000Z', null), (2, null, null, null, null, null)""",
        """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values (1, 'g0', 'Old title', 40, 4), (1, 'other', null, 1, 1)""",
    ]
    # Nothing is added to NULL in the app; for dbctl it is 0.
    filled = "update user_stats set total_playtime_seconds = 0 where total_playtime_seconds is null"
    with twins(shape, OLD_PLAYS, *wrong, filled) as (ours, theirs), at(NOW, batch=batch):
        clean(ours, "abandoned-plays")
        app_job(theirs, NOW)
        assert everything(ours) == everything(theirs)
        sessions = dict(query_rows(ours, "select user_id, total_sessions from user_stats"))
        assert sessions == dict(
            query_rows(ours, "select user_id, count(ended_at) from user_game_plays group by 1")
        )


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_a_second_run_changes_nothing_at_all(shape):
    with twins(shape, OLD_PLAYS) as (ours, _), at(NOW, batch=9):
        clean(ours)
        before = read_all_rows(ours)
        assert {result.changed for result in clean(ours).values()} == {0}
        assert read_all_rows(ours) == before


@pytest.mark.parametrize("counts_before", [0, 6, 1000])
def test_row_updated_by_the_app_is_not_corrected_twice(counts_before):
    """Six plays have ended; the app ends a seventh between the recount of dbctl and its transaction."""
    started_at, ended = written(NOW - timedelta(hours=3)), ("2026-02-01T00:00:00.000Z", 60)
    plays = [(1, "g1", started_at, *ended)] * 6 + [(1, "g1", started_at, None, None)] + OLD_PLAYS
    wrong = f"insert into user_stats (user_id, total_sessions, total_playtime_seconds) values (1, {counts_before}, 0)"

    def the_app_ends_one(path):
        parameters = {"now": written(NOW), "user": 1, "game": "g1", "title": "T", "lasted": 60}
        with closing(sqlite3.connect(path)) as app, app:
            app.execute(
                "update user_game_plays set ended_at = ?, duration_seconds = 60 where id = 7",
                [parameters["now"]],
            )
            app.execute(COUNT_GAME, parameters)
            app.execute(COUNT_USER, parameters)

    with (
        twins("deployed", plays, wrong) as (ours, _),
        at(NOW, batch=50),
        pytest.MonkeyPatch.context() as patch,
    ):
        find_corrections = cleanup_rule.RuleRun._find_corrections

        def end_play_after_recount(run, rows):
            corrections = find_corrections(run, rows)
            if not run.changed:
                the_app_ends_one(ours)
            return corrections

        patch.setattr(cleanup_rule.RuleRun, "_find_corrections", end_play_after_recount)
        clean(ours, "abandoned-plays")
        query = "select total_sessions, (select count(ended_at) from user_game_plays where user_id = 1) from user_stats where user_id = 1"
        ((sessions, counted),) = query_rows(ours, query)
        assert sessions == counted


# What only one of the two takes for a time ----------------------------------------------------------------------------


@pytest.mark.parametrize("began", ["2004", "10:00", "2460000.5", "-0500-01-01 00:00:00"])
def test_what_only_sqlite_takes_for_a_time_stays_open(began):
    """It reads a number as a Julian day and a time without a date as one of the year 2000: no app writes them."""
    with twins("deployed", [(1, "g1", began, None, None)]) as (ours, theirs), at(NOW):
        assert clean(ours, "abandoned-plays")["abandoned-plays"].matched == 0
        app_job(theirs, NOW)
        assert query_rows(theirs, "select count(ended_at) from user_game_plays") == [(1,)]


# A clock that is wrong -------------------------------------------------------------------------------------------------

OPEN = [
    (1, "g1", written(NOW - timedelta(days=days), form), None, None)
    for days in (-400, -1, 0, 2, 400)
    for form in WRITTEN
]


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_clock_set_back_makes_no_row_due(shape):
    with twins(shape, OPEN) as (ours, _), at(NOW - timedelta(days=3650)):
        run_statements(ours, "update refresh_tokens set revoked_at = null")
        before = read_all_rows(ours)
        assert {result.matched for result in clean(ours).values()} == {0}
        assert read_all_rows(ours) == before


@pytest.mark.parametrize("ahead", [timedelta(days=300), timedelta(days=3650)])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_clock_ahead_closes_the_same_plays_as_the_app(shape, ahead):
    with twins(shape, OPEN) as (ours, theirs), at(NOW + ahead):
        clean(ours, "abandoned-plays", trust_clock=True)
        app_job(theirs, NOW + ahead)
        assert everything(ours) == everything(theirs)
        lasted = "julianday(ended_at) - julianday(started_at)"
        closed = (
            f"select min(duration_seconds), min({lasted}) > 0 from user_game_plays where ended_at is not null"
        )
        assert query_rows(ours, closed) == [(14400, 1)]
        assert agrees(ours)
