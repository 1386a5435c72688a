"""``sessions cleanup`` beside the job of the app itself, row by row: the same plays, the same times, the same statistics."""

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
from dbctl.services.sessions.cleanup import CleanupWork
from tests.services import flashpoint_app
from tests.services.flashpoint_app import content, opened, rows, run
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

TOLD = {
    "plays": "select * from user_game_plays order by id",
    "game": """select user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at
        from user_game_stats order by 1, 2""",
    "user": """select user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at,
        updated_at from user_stats order by 1""",
}


def app_job(path, moment):
    with closing(sqlite3.connect(path)) as app, app:
        now = written(moment)
        for key, user, game, title in app.execute(ABANDONED, {"now": now}).fetchall():
            ((lasted,),) = app.execute(CLOSE, {"now": now, "id": key}).fetchall()
            told = {"now": now, "user": user, "game": game, "title": title, "lasted": lasted}
            app.execute(COUNT_GAME, told)
            app.execute(COUNT_USER, told)


def written(moment, form="%Y-%m-%dT%H:%M:%S.{:03d}Z"):
    return moment.strftime(form).format(moment.microsecond // 1000)


@contextmanager
def at(moment, *, batch=0):
    """Set dbctl's clock, and with ``batch`` the most rows of one transaction."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (model, cleanup_rule):
            patch.setattr(module, "now", lambda: moment)
        if batch:
            for name, value in (("FIRST", batch), ("SMALLEST", 1), ("LARGEST", batch), ("SHORTEST", 0)):
                patch.setattr(batching, name, value)
        yield


def clean(path, *names, trust_clock=False, **asked):
    with opened(path) as app:
        app.trust_clock = trust_clock
        return {one.rule: one for one in CleanupWork(app, names, **asked).apply().rules}


@contextmanager
def twins(shape, plays, *statements):
    """Give two equal databases: one for dbctl, one for the app."""
    with TemporaryDirectory() as folder:
        both = [flashpoint_app.settle(Path(folder) / name, shape) for name in ("dbctl", "app")]
        for path in both:
            run(path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats")
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.executemany(
                    "insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)"
                    " values (?, ?, 'Title of ' || ?2, ?, ?, ?, ?)",
                    [(*play, f"session {number}") for number, play in enumerate(plays)],
                )
            run(path, *statements)
        yield both


def everything(path):
    return {name: rows(path, sql) for name, sql in TOLD.items()}


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
def test_whatever_the_plays_are_the_rows_are_those_that_the_apps_job_leaves(shape, at_once, plays, batch):
    with twins(shape, plays) as (mine, theirs), at(NOW, batch=batch):
        before = rows(mine, "select id from user_game_plays where ended_at is null")
        done = clean(mine, "abandoned-plays", at_once=at_once, trust_clock=True)["abandoned-plays"]
        app_job(theirs, NOW)
        assert everything(mine) == everything(theirs)
        left = rows(mine, "select id from user_game_plays where ended_at is null")
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
def test_from_statistics_that_agree_with_the_plays_both_come_to_a_recount(shape, batch):
    with twins(shape, OLD_PLAYS) as (mine, theirs), at(NOW, batch=batch):
        assert clean(mine, "abandoned-plays")["abandoned-plays"].batches == -(-55 // batch)
        app_job(theirs, NOW)
        assert agrees(mine)
        assert agrees(theirs)
        assert everything(mine) == everything(theirs)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_statistics_that_were_wrong_before_become_right_where_the_app_counts_anew_and_stay_so_where_it_adds(
    shape, batch
):
    wrong = [
        """insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at)
        values (1, 99, 5, 1000, '2020-01-01T00:00:00.000Z', null), (2, null, null, null, null, null)""",
        """insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds)
        values (1, 'g0', 'Old title', 40, 4), (1, 'other', null, 1, 1)""",
    ]
    # Nothing is added to NULL in the app; for dbctl it is 0.
    filled = "update user_stats set total_playtime_seconds = 0 where total_playtime_seconds is null"
    with twins(shape, OLD_PLAYS, *wrong, filled) as (mine, theirs), at(NOW, batch=batch):
        clean(mine, "abandoned-plays")
        app_job(theirs, NOW)
        assert everything(mine) == everything(theirs)
        sessions = dict(rows(mine, "select user_id, total_sessions from user_stats"))
        assert sessions == dict(rows(mine, "select user_id, count(ended_at) from user_game_plays group by 1"))


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_a_second_run_changes_nothing_at_all(shape):
    with twins(shape, OLD_PLAYS) as (mine, _), at(NOW, batch=9):
        clean(mine)
        before = content(mine)
        assert {one.changed for one in clean(mine).values()} == {0}
        assert content(mine) == before


@pytest.mark.parametrize("kept", [0, 6, 1000])
def test_what_the_app_counts_while_dbctl_is_about_to_write_is_not_put_right_a_second_time(kept):
    """Six plays have ended; the app ends a seventh between dbctl's look at the figures and its transaction."""
    begun, ended = written(NOW - timedelta(hours=3)), ("2026-02-01T00:00:00.000Z", 60)
    plays = [(1, "g1", begun, *ended)] * 6 + [(1, "g1", begun, None, None)] + OLD_PLAYS
    wrong = f"insert into user_stats (user_id, total_sessions, total_playtime_seconds) values (1, {kept}, 0)"

    def the_app_ends_one(path):
        told = {"now": written(NOW), "user": 1, "game": "g1", "title": "T", "lasted": 60}
        with closing(sqlite3.connect(path)) as app, app:
            app.execute(
                "update user_game_plays set ended_at = ?, duration_seconds = 60 where id = 7", [told["now"]]
            )
            app.execute(COUNT_GAME, told)
            app.execute(COUNT_USER, told)

    with (
        twins("deployed", plays, wrong) as (mine, _),
        at(NOW, batch=50),
        pytest.MonkeyPatch.context() as patch,
    ):
        look = cleanup_rule.Run._corrections

        def looked(run, rows):
            found = look(run, rows)
            if not run.changed:
                the_app_ends_one(mine)
            return found

        patch.setattr(cleanup_rule.Run, "_corrections", looked)
        clean(mine, "abandoned-plays")
        told = "select total_sessions, (select count(ended_at) from user_game_plays where user_id = 1) from user_stats where user_id = 1"
        ((sessions, counted),) = rows(mine, told)
        assert sessions == counted


# What only one of the two takes for a time ----------------------------------------------------------------------------


@pytest.mark.parametrize("began", ["2004", "10:00", "2460000.5", "-0500-01-01 00:00:00"])
def test_what_only_sqlite_takes_for_a_time_stays_open(began):
    """It reads a number as a Julian day and a time without a date as one of the year 2000: no app writes them."""
    with twins("deployed", [(1, "g1", began, None, None)]) as (mine, theirs), at(NOW):
        assert clean(mine, "abandoned-plays")["abandoned-plays"].matched == 0
        app_job(theirs, NOW)
        assert rows(theirs, "select count(ended_at) from user_game_plays") == [(1,)]


# A clock that is wrong -------------------------------------------------------------------------------------------------

OPEN = [
    (1, "g1", written(NOW - timedelta(days=days), form), None, None)
    for days in (-400, -1, 0, 2, 400)
    for form in WRITTEN
]


@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_a_clock_that_was_set_back_makes_rows_of_the_future_and_none_of_them_is_due(shape):
    with twins(shape, OPEN) as (mine, _), at(NOW - timedelta(days=3650)):
        run(mine, "update refresh_tokens set revoked_at = null")
        before = content(mine)
        assert {one.matched for one in clean(mine).values()} == {0}
        assert content(mine) == before


@pytest.mark.parametrize("ahead", [timedelta(days=300), timedelta(days=3650)])
@pytest.mark.parametrize("shape", flashpoint_app.SHAPES)
def test_a_clock_that_runs_ahead_closes_what_the_app_would_close_and_no_play_ends_before_it_began(
    shape, ahead
):
    with twins(shape, OPEN) as (mine, theirs), at(NOW + ahead):
        clean(mine, "abandoned-plays", trust_clock=True)
        app_job(theirs, NOW + ahead)
        assert everything(mine) == everything(theirs)
        lasted = "julianday(ended_at) - julianday(started_at)"
        closed = (
            f"select min(duration_seconds), min({lasted}) > 0 from user_game_plays where ended_at is not null"
        )
        assert rows(mine, closed) == [(14400, 1)]
        assert agrees(mine)
