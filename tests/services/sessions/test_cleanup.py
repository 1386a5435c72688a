"""Cleanup closes and deletes the same rows as the jobs of the app."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from dbctl.cli.main import main
from dbctl.config.sections import Selection
from dbctl.errors.connection import BusyError, ConstraintError
from dbctl.errors.usage import RuleMissingError, SchemaMismatchError, UsageError
from dbctl.services.app import session as app_service
from dbctl.services.events.changes.operations import OperationFilter, list_operations
from dbctl.services.sessions.cleanup import CleanUp
from dbctl.services.sessions.cleanup_rule import KEYS_PER_PAGE, MAX_SIZE, MIN_SIZE, TARGET_SECONDS, BatchSizer
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app
from tests.services.flashpoint_app import catch_error, open_app, query_rows, read_all_rows, run_statements

FORMS = {"iso": "%Y-%m-%dT%H:%M:%S.{ms:03d}Z", "space": "%Y-%m-%d %H:%M:%S"}
STATISTICS = {
    "game": "select user_id, game_id, total_plays, total_playtime_seconds from user_game_stats order by 1, 2",
    "user": "select user_id, total_games_played, total_playtime_seconds, total_sessions from user_stats order by 1",
}
RECOUNT = {
    "game": "select user_id, game_id, count(*), sum(duration_seconds) from user_game_plays where ended_at is not null group by 1, 2 order by 1, 2",
    "user": "select user_id, count(distinct game_id), sum(duration_seconds), count(*) from user_game_plays where ended_at is not null group by 1 order by 1",
}


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    path = flashpoint_app.create_app(tmp_path, request.param)
    run_statements(
        path, "delete from user_game_plays", "delete from user_game_stats", "delete from user_stats"
    )
    return path


def ago(form="iso", **age):
    timestamp = datetime.now(UTC) - timedelta(**age)
    return timestamp.strftime(FORMS[form].format(ms=timestamp.microsecond // 1000))


def add_play(path, session, started, *, user=2, game="g1", ended="null", duration="null"):
    run_statements(
        path,
        f"insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)"
        f" values ({user}, '{game}', 'Title of {game}', '{started}', {ended}, {duration}, '{session}')",
    )


def add_many_plays(path, count):
    """Add open plays of both users and several games, with both time formats."""
    run_statements(
        path,
        f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})"
        " insert into user_game_plays (user_id, game_id, game_title, started_at, session_id)"
        " select 1 + i % 2, 'g' || i % 7, 'T', strftime(case when i % 3 then '%Y-%m-%dT%H:%M:%fZ' else '%Y-%m-%d %H:%M:%S' end,"
        " 'now', '-' || (2 + i % 90) || ' days'), 'many' || i from n",
    )


def clean(path, *names, **options):
    with open_app(path) as app:
        return {result.rule: result for result in CleanUp(app, names, **options).apply().rules}


def statistics_are_correct(path):
    return all(query_rows(path, STATISTICS[kind]) == query_rows(path, RECOUNT[kind]) for kind in STATISTICS)


@pytest.mark.parametrize("at_once", [False, True])
def test_plays_older_than_a_day_are_closed_in_both_time_formats(path, at_once):
    for form in FORMS:
        add_play(path, f"old {form}", ago(form, hours=24, seconds=2))
        add_play(path, f"young {form}", ago(form, hours=23, minutes=59))
    add_play(path, "ended", ago(days=9), ended="'2020-01-01T00:00:00.000Z'", duration="60")
    result = clean(path, "abandoned-plays", at_once=at_once)["abandoned-plays"]
    assert (result.matched, result.changed, result.batches) == (2, 2, 1)
    assert result.longest_lock > timedelta()
    closed = query_rows(
        path, "select session_id, duration_seconds from user_game_plays where ended_at is not null order by 1"
    )
    assert closed == [("ended", 60), ("old iso", 14400), ("old space", 14400)]


@pytest.mark.parametrize(
    ("started", "ended"),
    [
        ("2024-02-28T22:30:15.123Z", "2024-02-29T02:30:15.123Z"),
        ("2024-12-31T23:59:59.999Z", "2025-01-01T03:59:59.999Z"),
        ("2024-06-01 10:00:00", "2024-06-01T14:00:00.000Z"),
        ("2024-06-01T10:00:00.001+02:00", "2024-06-01T12:00:00.001Z"),
    ],
)
def test_closed_play_ends_exactly_four_hours_after_its_start(path, started, ended):
    add_play(path, "one", started)
    clean(path)
    assert query_rows(path, "select ended_at from user_game_plays") == [(ended,)]


def test_cleanup_updates_statistics_like_the_app(path):
    add_play(path, "before", "2024-01-01T00:00:00.000Z", ended="'2024-01-01T00:10:00.000Z'", duration="600")
    run_statements(
        path,
        "insert into user_game_stats (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)"
        " values (2, 'g1', 'Old title', 1, 600, '2024-01-01T00:10:00.000Z', '2024-01-01T00:10:00.000Z')",
        "insert into user_stats (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at)"
        " values (2, 1, 600, 1, '2024-01-01T00:10:00.000Z', '2024-01-01T00:10:00.000Z')",
    )
    add_play(path, "again", ago(days=2))
    add_play(path, "other", ago(days=3), game="g2")
    started_at = ago()
    clean(path, "abandoned-plays")
    (first, second) = query_rows(path, "select * from user_game_stats order by game_id")
    assert first[1:7] == (2, "g1", "Old title", 2, 15_000, "2024-01-01T00:10:00.000Z")
    assert second[1:6] == (2, "g2", "Title of g2", 1, 14_400)
    assert started_at <= second[6] == second[7] == first[7] <= ago()  # the time of the job, as in the app
    (user_row,) = query_rows(path, "select * from user_stats")
    assert user_row[:5] == (2, 2, 29_400, 3, "2024-01-01T00:10:00.000Z")
    assert user_row[5] == user_row[6] == first[7]
    assert statistics_are_correct(path)


def test_batches_close_all_plays_and_a_second_run_changes_nothing(path):
    add_many_plays(path, 3000)
    add_play(path, "active", ago(hours=3))
    result = clean(path, "abandoned-plays")["abandoned-plays"]
    assert (result.matched, result.changed) == (3000, 3000)
    assert result.batches > 1
    assert statistics_are_correct(path)
    assert query_rows(path, "select session_id from user_game_plays where ended_at is null") == [("active",)]
    before = read_all_rows(path)
    second_run = clean(path)["abandoned-plays"]
    assert (second_run.matched, second_run.changed, second_run.batches) == (0, 0, 0)
    clean(path)
    after = read_all_rows(path)
    assert before["user_game_plays"] == after["user_game_plays"]
    assert before["user_game_stats"] == after["user_game_stats"]
    assert before["user_stats"] == after["user_stats"]


def test_batches_and_one_transaction_lead_to_the_same_rows(path, tmp_path):
    add_many_plays(path, 700)
    other = tmp_path / "other" / "user.db"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    other.with_name("dbctl.toml").write_text(path.with_name("dbctl.toml").read_text())
    assert clean(path, "abandoned-plays")["abandoned-plays"].batches > 1
    assert clean(other, "abandoned-plays", at_once=True)["abandoned-plays"].batches == 1
    for sql in ("select * from user_game_plays", *STATISTICS.values()):
        assert query_rows(path, sql) == query_rows(other, sql)


def test_play_that_the_app_ends_during_the_cleanup_is_not_changed(path):
    add_many_plays(path, 300)
    with open_app(path) as app:
        work = CleanUp(app, ["abandoned-plays"])
        ended_by_app = query_rows(path, "select id from user_game_plays order by id desc limit 1")[0][0]
        run_statements(path, f"create trigger app after update of ended_at on user_game_plays when new.id <> {ended_by_app} and old.ended_at is null"
            f" begin update user_game_plays set ended_at = '2024-01-01T00:00:00.000Z', duration_seconds = 7 where id = {ended_by_app} and ended_at is null; end")  # fmt: skip
        run_statements(
            path, f"update user_game_plays set user_id = 3 where id = {ended_by_app}"
        )  # in the last batch
        result = work.apply().rules[0]
    assert (result.matched, result.changed) == (300, 299)
    assert query_rows(path, f"select duration_seconds from user_game_plays where id = {ended_by_app}") == [
        (7,)
    ]


@pytest.mark.parametrize(
    ("rule", "table", "remaining"),
    [
        ("login-attempts", "login_attempts", timedelta(hours=24)),
        ("activity-logs", "activity_logs", timedelta(days=30)),
    ],
)
def test_attempts_and_logs_are_deleted_by_age_in_both_time_formats(path, rule, table, remaining):
    time_column = {"login_attempts": "attempted_at", "activity_logs": "created_at"}[table]
    text_column = {"login_attempts": "ip_address", "activity_logs": "action"}[table]
    run_statements(path, f"delete from {table}")
    for form in FORMS:
        for word, age in (
            ("old", remaining + timedelta(seconds=2)),
            ("young", remaining - timedelta(minutes=1)),
        ):
            run_statements(
                path,
                f"insert into {table} (username, {text_column}, {time_column}) values ('{word}', 'x', '{ago(form, seconds=age.total_seconds())}')",
            )
    assert clean(path, rule)[rule].changed == 2
    assert query_rows(path, f"select username from {table} where {text_column} = 'x'") == [
        ("young",),
        ("young",),
    ]


def test_expired_and_revoked_tokens_are_deleted_and_valid_tokens_remain(path):
    results = clean(path, "expired-tokens", "revoked-tokens")
    assert [result.changed for result in results.values()] == [1, 1]
    assert query_rows(
        path, "select count(*) from refresh_tokens where expires_at > '2090' and revoked_at is null"
    ) == [(2,)]
    assert query_rows(path, "select count(*) from refresh_tokens") == [(2,)]


def test_rule_without_table_is_skipped_unless_named(path):
    table_exists = bool(query_rows(path, "select 1 from sqlite_master where name = 'job_execution_logs'"))
    assert ("job-logs" in clean(path)) == table_exists
    if not table_exists:
        assert "job_execution_logs" in str(catch_error(SchemaMismatchError, lambda: clean(path, "job-logs")))


def test_other_age_requires_a_named_rule(path):
    add_play(path, "one", ago(hours=30))
    assert clean(path, "abandoned-plays", older_than=timedelta(hours=36))["abandoned-plays"].changed == 0
    catch_error(UsageError, lambda: clean(path, older_than=timedelta(hours=36)))
    catch_error(UsageError, lambda: clean(path, "abandoned-plays", older_than=timedelta(hours=3)))
    catch_error(RuleMissingError, lambda: clean(path, "nonsense"))
    assert query_rows(path, "select ended_at from user_game_plays") == [(None,)]
    assert clean(path, "abandoned-plays", older_than=timedelta(hours=29))["abandoned-plays"].changed == 1


def test_due_rows_are_counted_without_writing(path):
    add_many_plays(path, 20)
    before = read_all_rows(path)
    with open_app(path) as app:
        work = CleanUp(app)
        assert {rule.rule: rule.matched for rule in work.count_due().items}["abandoned-plays"] == 20
        assert work.plan().rows["user_game_plays"] == 20
        assert work.plan().digest == work.plan().digest
    assert read_all_rows(path) == before


def test_each_effective_rule_writes_one_audit_entry(path):
    add_many_plays(path, 500)
    clean(path)
    entries = query_rows(
        path, "select resource_id from activity_logs where action = 'sessions.cleanup' order by 1"
    )
    assert entries == [("abandoned-plays",), ("activity-logs",), ("expired-tokens",), ("revoked-tokens",)]


def test_rule_without_due_rows_is_no_operation_of_the_audit_log(path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(path.parent / "state"))
    add_many_plays(path, 5)
    words = ["sessions", "cleanup", "--rule", "abandoned-plays", "--rule", "login-attempts", "--quiet"]
    for _ in range(2):
        assert main(["--config", str(path.with_name("dbctl.toml")), *words]) == 0
    (operation,) = list_operations(path.parent / "state", OperationFilter(limit=5)).items
    assert operation.rows["user.user_game_plays"] == 5


def test_locked_database_ends_the_cleanup_after_the_timeout(path):
    add_many_plays(path, 10)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    try:
        with app_service.open_app(Selection(config=str(path.with_name("dbctl.toml"))), timeout=0) as app:
            catch_error(BusyError, CleanUp(app, ["abandoned-plays"]).apply)
    finally:
        holder.close()
    assert clean(path, "abandoned-plays")["abandoned-plays"].changed == 10


def test_cleanup_processes_more_rows_than_one_page_of_keys(path, monkeypatch):
    monkeypatch.setattr("dbctl.services.sessions.cleanup_rule.KEYS_PER_PAGE", 40)
    assert KEYS_PER_PAGE > 40
    add_many_plays(path, 130)
    assert clean(path, "abandoned-plays")["abandoned-plays"].changed == 130
    assert statistics_are_correct(path)


@pytest.mark.parametrize("at_once", [False, True])
def test_progress_includes_rows_that_the_app_ends_during_the_cleanup(path, at_once):
    add_many_plays(path, 250)
    progress = []

    def advance(number):
        progress.append(number)
        run_statements(
            path,
            "update user_game_plays set ended_at = started_at where id in (select max(id) from user_game_plays)",
        )

    with open_app(path) as app:
        work = CleanUp(app, ["abandoned-plays"], at_once=at_once)
        assert work.matched == 0
        with observe_progress(progress.append if at_once else advance):
            work.apply()
        assert sum(progress) == work.matched == 250


# Batch size -----------------------------------------------------------------------------------------------------


def adapt_size(batches, rows, seconds):
    batches._adapt(rows, seconds)
    return batches.size


def test_batch_size_adapts_to_the_target_duration():
    batches = BatchSizer(at_once=False)
    sizes = [adapt_size(batches, batches.size, batches.size / 50_000) for _ in range(20)]
    assert sizes[-1] == pytest.approx(50_000 * TARGET_SECONDS, rel=0.1)
    sizes = [adapt_size(batches, batches.size, batches.size / 30_000) for _ in range(20)]
    assert sizes[-1] == pytest.approx(30_000 * TARGET_SECONDS, rel=0.1)


def test_batch_size_stays_above_minimum_if_the_overhead_dominates():
    batches = BatchSizer(at_once=False)
    for _ in range(30):
        adapt_size(batches, batches.size, 0.05 + batches.size / 100_000)
    assert batches.size > MIN_SIZE


def test_batch_size_does_not_exceed_the_maximum():
    batches = BatchSizer(at_once=False)
    for seconds in [1e-6] * 30:
        adapt_size(batches, batches.size, seconds)
    assert batches.size == MAX_SIZE


def test_rule_that_fails_does_not_prevent_the_others(path):
    add_many_plays(path, 30)
    run_statements(
        path,
        "insert into refresh_tokens (user_id, token, expires_at) values (1, 'x', '2020-01-01 00:00:00')",
        "create trigger stay before delete on refresh_tokens begin select raise(abort, 'stay'); end",
    )
    with open_app(path) as app:
        result = CleanUp(app).apply()
    assert ("expired-tokens: " in result.failed[0], "stay" in result.failed[0]) == (True, True)
    changed = {rule.rule: rule.changed for rule in result.rules}
    assert (changed["abandoned-plays"], changed["expired-tokens"], changed["activity-logs"] > 0) == (
        30,
        0,
        True,
    )
    error = catch_error(ConstraintError, lambda: clean(path))
    assert "stay" in str(error)
    assert query_rows(path, "select count(*) from user_game_plays where ended_at is null") == [(0,)]


def test_rule_without_effect_is_refused_before_the_cleanup(path):
    with open_app(path) as app:
        rules = [structs.replace(rule, set={}, delete=False, variant=()) for rule in app.profile.cleanup]
        app.core = structs.replace(app.profile, cleanup=rules)
        catch_error(UsageError, lambda: CleanUp(app))
