"""``sessions list`` filters sessions by state; ``sessions revoke`` ends the tokens of users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors.usage import UsageError, UserMissingError
from dbctl.model import PageRequest
from dbctl.services.app.user_table import UserSelector
from dbctl.services.sessions import sessions
from dbctl.services.sessions.sessions import State
from tests.services import flashpoint_app
from tests.services.flashpoint_app import catch_error, open_app, query_rows, read_all_rows, run_statements
from tests.services.sessions.test_cleanup import FORMS, add_play, ago, clean


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    path = flashpoint_app.create_app(tmp_path, request.param)
    run_statements(path, "delete from user_game_plays")
    for form in FORMS:
        add_play(path, f"old {form}", ago(form, hours=25))
        add_play(path, f"young {form}", ago(form, hours=23), user=3, game="g2")
    add_play(
        path,
        "ended",
        "2024-01-01 10:00:00",
        ended="'2024-01-01T10:01:40.000Z'",
        duration="100",
        user=1,
        game="g3",
    )
    return path


def list_sessions(path, *, sort="", limit=None, offset=0, **options):
    with open_app(path) as app:
        return sessions.list_sessions(app, PageRequest(sort=sort, limit=limit, offset=offset), **options)


def list_ids(page):
    return [session.id for session in page.items]


def read_keys(path):
    return {name: key for key, name in query_rows(path, "select id, session_id from user_game_plays")}


def test_sessions_are_filtered_by_state_in_both_time_formats(path):
    key = read_keys(path)
    for state, names in (
        (State.ACTIVE, ["young iso", "young space"]),
        (State.ABANDONED, ["old iso", "old space"]),
        (State.COMPLETED, ["ended"]),
    ):
        page = list_sessions(path, state=state)
        assert sorted(list_ids(page)) == sorted(key[name] for name in names)
        assert {session.state for session in page.items} == {state}
        assert page.total == len(names)
    assert list_sessions(path).total == 5


def test_cleanup_closes_the_abandoned_sessions(path):
    due = set(list_ids(list_sessions(path, state=State.ABANDONED)))
    clean(path, "abandoned-plays")
    assert list_sessions(path, state=State.ABANDONED).total == 0
    assert set(list_ids(list_sessions(path, state=State.COMPLETED))) == due | {read_keys(path)["ended"]}


def test_session_contains_user_and_extra_fields(path):
    (session,) = list_sessions(path, state=State.COMPLETED).items
    assert (session.user, session.duration) == ("root", timedelta(seconds=100))
    assert session.started_at == datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert session.ended_at == datetime(2024, 1, 1, 10, 1, 40, tzinfo=UTC)
    assert session.extra == {"game_id": "g3", "game_title": "Title of g3"}


def test_sessions_are_sorted_newest_first_by_default(path):
    times = [session.started_at for session in list_sessions(path).items]
    assert times == sorted(times, reverse=True)
    all_ids = list_ids(list_sessions(path))
    assert all_ids != sorted(all_ids, reverse=True), "the order of ids must differ from the order of times"
    assert list_ids(list_sessions(path, limit=2, offset=1)) == all_ids[1:3]
    assert list_sessions(path, sort="started_at", limit=1).items[0].state is State.COMPLETED
    assert [session.user for session in list_sessions(path, sort="user").items] == [
        "ann",
        "ann",
        "bob",
        "bob",
        "root",
    ]
    assert list_sessions(path, sort="-game_id", limit=1).items[0].extra["game_id"] == "g3"
    catch_error(UsageError, lambda: list_sessions(path, sort="nonsense"))


def test_sessions_of_a_user_are_filtered_by_login_or_address_in_any_case(path):
    assert {session.user for session in list_sessions(path, login="ANN@example.org").items} == {"ann"}
    assert list_sessions(path, login="ann", state=State.ACTIVE).total == 0
    catch_error(UserMissingError, lambda: list_sessions(path, login="nobody"))


def test_revoking_ends_sessions_and_is_idempotent(path):
    def revoke(*logins):
        with open_app(path) as app:
            return sessions.revoke(app, UserSelector(logins=logins)).apply()

    valid = query_rows(path, "select count(*) from refresh_tokens where revoked_at is null")[0][0]
    result = revoke("ann", "bob")
    assert (result.changed, result.ended_sessions) == (1, 2)
    assert query_rows(path, "select count(*) from refresh_tokens where revoked_at is null") == [(valid - 2,)]
    assert query_rows(path, "select resource_id from activity_logs where action = 'sessions.revoke'") == [
        ("2",)
    ]
    before = read_all_rows(path)
    assert revoke("ann").changed == 0
    assert read_all_rows(path) == before
