"""Sessions are listed by what has become of them, and what keeps users signed in is ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbctl.errors import UsageError, UserMissingError
from dbctl.model import Window
from dbctl.services.app.user_table import UserSelector
from dbctl.services.sessions import sessions
from dbctl.services.sessions.sessions import State
from tests.services import flashpoint_app
from tests.services.flashpoint_app import caught, content, opened, rows, run
from tests.services.sessions.test_cleanup import FORMS, ago, clean, play


@pytest.fixture(params=flashpoint_app.SHAPES)
def path(request, tmp_path):
    path = flashpoint_app.settle(tmp_path, request.param)
    run(path, "delete from user_game_plays")
    for form in FORMS:
        play(path, f"old {form}", ago(form, hours=25))
        play(path, f"young {form}", ago(form, hours=23), user=3, game="g2")
    play(
        path,
        "ended",
        "2024-01-01 10:00:00",
        ended="'2024-01-01T10:01:40.000Z'",
        duration="100",
        user=1,
        game="g3",
    )
    return path


def listed(path, *, sort="", limit=None, offset=0, **asked):
    with opened(path) as app:
        return sessions.list_sessions(app, Window(sort=sort, limit=limit, offset=offset), **asked)


def ids(page):
    return [one.id for one in page.items]


def numbers(path):
    return {name: key for key, name in rows(path, "select id, session_id from user_game_plays")}


def test_a_state_finds_its_sessions_in_either_form_of_a_time(path):
    key = numbers(path)
    for state, names in (
        (State.ACTIVE, ["young iso", "young space"]),
        (State.ABANDONED, ["old iso", "old space"]),
        (State.COMPLETED, ["ended"]),
    ):
        page = listed(path, state=state)
        assert sorted(ids(page)) == sorted(key[name] for name in names)
        assert {one.state for one in page.items} == {state}
        assert page.total == len(names)
    assert listed(path).total == 5


def test_what_is_abandoned_is_what_the_cleanup_closes(path):
    due = set(ids(listed(path, state=State.ABANDONED)))
    clean(path, "abandoned-plays")
    assert listed(path, state=State.ABANDONED).total == 0
    assert set(ids(listed(path, state=State.COMPLETED))) == due | {numbers(path)["ended"]}


def test_a_session_is_told_with_its_user_and_the_further_fields(path):
    (one,) = listed(path, state=State.COMPLETED).items
    assert (one.user, one.duration) == ("root", timedelta(seconds=100))
    assert one.started_at == datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert one.ended_at == datetime(2024, 1, 1, 10, 1, 40, tzinfo=UTC)
    assert one.extra == {"game_id": "g3", "game_title": "Title of g3"}


def test_the_newest_come_first_unless_another_order_is_asked_for(path):
    newest = [session.started_at for session in listed(path).items]
    assert newest == sorted(newest, reverse=True)
    whole = ids(listed(path))
    assert whole != sorted(whole, reverse=True), "ids do not tell the time"
    assert ids(listed(path, limit=2, offset=1)) == whole[1:3]
    assert listed(path, sort="started_at", limit=1).items[0].state is State.COMPLETED
    assert [one.user for one in listed(path, sort="user").items] == ["ann", "ann", "bob", "bob", "root"]
    assert listed(path, sort="-game_id", limit=1).items[0].extra["game_id"] == "g3"
    caught(UsageError, lambda: listed(path, sort="nonsense"))


def test_sessions_of_one_user_are_found_by_any_spelling_of_the_login(path):
    assert {one.user for one in listed(path, login="ANN@example.org").items} == {"ann"}
    assert listed(path, login="ann", state=State.ACTIVE).total == 0
    caught(UserMissingError, lambda: listed(path, login="nobody"))


def test_revoking_ends_what_keeps_a_user_signed_in_and_a_second_time_changes_nothing(path):
    def revoked(*logins):
        with opened(path) as app:
            return sessions.revoke(app, UserSelector(logins=logins)).apply()

    valid = rows(path, "select count(*) from refresh_tokens where revoked_at is null")[0][0]
    done = revoked("ann", "bob")
    assert (done.changed, done.ended_sessions) == (1, 2)
    assert rows(path, "select count(*) from refresh_tokens where revoked_at is null") == [(valid - 2,)]
    assert rows(path, "select resource_id from activity_logs where action = 'sessions.revoke'") == [("2",)]
    before = content(path)
    assert revoked("ann").changed == 0
    assert content(path) == before
